"""Layers around the graph itself: its inputs, a function as a layer, the identity, and time steps that say nothing."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import standardize_dtype
from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.core.symbol import KerasTensor, record

Shape = tuple[int | None, ...]


class InputLayer(Layer):
    """The place where data enter a model: it computes nothing and says the shape and dtype.

    Args:
        shape: Sizes of one example, without the batch; None where any will do.
        batch_size: Size of the batch, if it is fixed.
        dtype: Dtype of the data; `floatx()` unless given.
        sparse: Whether sparse arrays are expected.
        ragged: Whether ragged data are expected; JAX has none, so only False runs.
        batch_shape: The sizes with the batch, instead of `shape` and `batch_size`.
        input_tensor: A symbolic tensor to enter at, instead of a new one.
        optional: Whether None may be fed.
        name: Name; `input_layer`, `input_layer_1`, ... unless given.

    Raises:
        ArgumentError: The shape is missing, or is given twice.

    Example:
        >>> InputLayer(shape=(28, 28, 1)).output.shape
        (None, 28, 28, 1)

    Source: `keras.layers.InputLayer`.
    """

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **older: Any,
    ) -> None:
        shape = older.pop("input_shape", shape)
        batch_shape = older.pop("batch_input_shape", batch_shape)
        if input_tensor is not None:
            batch_shape, dtype = input_tensor.shape, dtype or input_tensor.dtype
        else:
            batch_shape = _batch_shape(shape, batch_size, batch_shape)
        super().__init__(name=name, dtype=standardize_dtype(dtype), **older)
        self.batch_shape: Shape = batch_shape
        self.sparse, self.ragged, self.optional = bool(sparse), bool(ragged), optional
        tensor = input_tensor or KerasTensor(batch_shape, self.dtype)
        tensor.sparse, tensor.ragged = self.sparse, self.ragged
        record(self, (), {}, tensor)
        tensor.name = self.name
        self.built = True

    def call(self, *inputs: Any) -> Any:
        """Hand on what was fed."""
        return inputs[0] if inputs else None

    def get_config(self) -> dict[str, Any]:
        """Shape, dtype and name."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def _batch_shape(shape: Any, batch_size: int | None, batch_shape: Any) -> Shape:
    if batch_shape is not None:
        if shape is not None or batch_size is not None:
            raise ArgumentError(
                "An input was given its batch twice: in batch_shape and in shape or batch_size.",
                do="give batch_shape alone, or shape and batch_size",
            )
        sizes = tuple(batch_shape)
    elif shape is None:
        raise ArgumentError(
            "An input has no shape.", do="say it without the batch, for instance Input(shape=(28, 28, 1))"
        )
    elif isinstance(shape, (int, str)):
        raise ArgumentError(f"shape={shape!r} is no tuple of sizes.", do=f"write Input(shape=({shape},))")
    else:
        sizes = (batch_size, *shape)
    for size in sizes:
        if not (size is None or (hasattr(size, "__index__") and size >= 0)):
            raise ArgumentError(
                f"An input can't have shape {sizes}: {size!r} is no size.", do="use whole numbers or None"
            )
    return tuple(None if size is None else int(size) for size in sizes)


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> KerasTensor:
    """Start a graph of layers: a symbolic tensor to call layers on.

    Args:
        shape: Sizes of one example, without the batch; None where any will do.
        batch_size: Size of the batch, if it is fixed.
        dtype: Dtype of the data; `floatx()` unless given.
        sparse: Whether sparse arrays are expected.
        ragged: Whether ragged data are expected; JAX has none, so only False runs.
        batch_shape: The sizes with the batch, instead of `shape` and `batch_size`.
        name: Name of the input.
        tensor: A symbolic tensor to enter at, instead of a new one.
        optional: Whether None may be fed.

    Example:
        >>> x = tally.Input(shape=(32,))
        >>> tally.layers.Dense(16)(x).shape
        (None, 16)

    Source: `keras.Input`.
    """
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name).output


class Identity(Layer):
    """Hands on its input unchanged.

    Source: `keras.layers.Identity`.
    """

    supports_masking = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        """The input itself."""
        return inputs


@functools.lru_cache(maxsize=256)
def _accepts(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions tell nothing
        return frozenset()


class Lambda(Layer):
    """Makes a layer of a function of arrays. It holds no weights: for those, write a `Layer`.

    Args:
        function: Takes the input first; `mask` and `training` too, if it names them. Write it with `jax.numpy` or
            `tally.ops`.
        output_shape: Accepted for Keras's sake; the shape comes from running the function on shapes.
        mask: The output's mask, or a function `(inputs, mask) -> mask` that makes it.
        arguments: More keyword arguments for the function.

    Example:
        >>> Lambda(lambda x: x**2)(tally.Input((3,))).shape
        (None, 3)

    Source: `keras.layers.Lambda`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.function, self.output_shape, self.mask = function, output_shape, mask
        self.arguments = arguments or {}
        self.supports_masking = mask is not None

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """The function's result."""
        known = {"mask": mask, "training": training}
        wanted = {name: value for name, value in known.items() if name in _accepts(self.function)}
        return self.function(inputs, **{**wanted, **self.arguments})

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """What `mask` says."""
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask


class Masking(Layer):
    """Marks the time steps whose features all equal one value, so that layers after it skip them.

    Args:
        mask_value: The value that means nothing was measured.

    Shapes:
        input: (batch, time, features)
        output: the same, with marked steps set to 0

    Source: `keras.layers.Masking`.
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def call(self, inputs: jax.Array) -> jax.Array:
        """The input with marked steps set to 0."""
        return jnp.where(self._steps(inputs)[..., None], inputs, 0)

    def compute_mask(self, inputs: jax.Array, previous_mask: Any = None) -> jax.Array:
        """True where a step says something."""
        del previous_mask
        return self._steps(inputs)

    def _steps(self, inputs: jax.Array) -> jax.Array:
        return jnp.any(inputs != self.mask_value, axis=-1)
