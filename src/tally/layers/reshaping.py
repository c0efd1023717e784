"""Layers that move, cut, pad or repeat values and compute nothing."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from tally.core.dtype import image_data_format
from tally.core.layer import InputSpec, Layer
from tally.layers.options import read_count, read_sides, read_word, refuse, refuse_shape, settle
from tally.layers.spatial import SIDES, _Spatial


class Flatten(Layer):
    """Puts all values of an example in a row.

    Args:
        data_format: `"channels_last"`, or `"channels_first"` to move the channels to the end first, so that
            both layouts give the same row.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, ...)
        output: (batch, product of the sizes)

    Example:
        >>> tally.layers.Flatten()(tally.Input((28, 28, 1))).shape
        (None, 784)

    Source: Equal to `keras.layers.Flatten`.
    """

    data_format: str

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        formats = ("channels_last", "channels_first")
        settle(self, data_format=read_word(self, "data_format", data_format or image_data_format(), formats))
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: jax.Array) -> jax.Array:
        """Reshape to two axes."""
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = jnp.moveaxis(inputs, 1, -1)
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


class Reshape(Layer):
    """Gives every example another shape with as many values.

    Args:
        target_shape: The new shape without the batch; one size may be -1, which stands for whatever is left.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, ...)
        output: (batch, *target_shape)

    Raises:
        ArgumentError: `target_shape` holds more than one -1.
        ShapeError: The input doesn't have as many values.

    Example:
        >>> tally.layers.Reshape((-1, 4))(tally.Input((12,))).shape
        (None, 3, 4)

    Source: Equal to `keras.layers.Reshape`.
    """

    target_shape: tuple[int, ...]

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        settle(self, target_shape=tuple(read_count(self, "target_shape", size, -1) for size in sizes))
        if self.target_shape.count(-1) > 1:
            raise refuse(
                self, f"can't have target_shape={self.target_shape}.", "leave at most one size open with -1"
            )

    def call(self, inputs: jax.Array) -> jax.Array:
        """Reshape all axes but the batch."""
        sizes = inputs.shape[1:]
        if all(isinstance(size, int) for size in sizes):
            count, known = math.prod(sizes), math.prod(size for size in self.target_shape if size != -1)
            fits = known and count % known == 0 if -1 in self.target_shape else count == known
            if not fits:
                raise refuse_shape(
                    self,
                    f"can't put the {count:,} values of {tuple(sizes)} into {self.target_shape}.",
                    inputs,
                    "make the sizes' products equal, or leave one size open with -1",
                )
        return inputs.reshape(inputs.shape[0], *self.target_shape)


class Permute(Layer):
    """Exchanges the axes of every example.

    Args:
        dims: For each output axis, the input axis it comes from; the first axis after the batch is 1.
        **kwargs: What every layer takes.

    Raises:
        ArgumentError: `dims` doesn't hold each of 1, 2, ... once.

    Example:
        >>> tally.layers.Permute((2, 1))(tally.Input((10, 64))).shape
        (None, 64, 10)

    Source: Equal to `keras.layers.Permute`.
    """

    dims: tuple[int, ...]

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        settle(self, dims=tuple(dims))
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            wanted = ", ".join(map(str, range(1, len(self.dims) + 1)))
            advice = f"name each of {wanted} once; the batch is not counted"
            raise refuse(self, f"can't have dims={self.dims}.", advice)
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: jax.Array) -> jax.Array:
        """Transpose all axes but the batch."""
        return jnp.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """Repeats a vector as the time steps of a sequence.

    Args:
        n: Number of time steps.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, features)
        output: (batch, n, features)

    Example:
        >>> tally.layers.RepeatVector(3)(tally.Input((32,))).shape
        (None, 3, 32)

    Source: Equal to `keras.layers.RepeatVector`.
    """

    n: int

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        settle(self, n=read_count(self, "n", n))
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: jax.Array) -> jax.Array:
        """Copy along a new second axis."""
        return jnp.broadcast_to(inputs[:, None], (inputs.shape[0], self.n, inputs.shape[1]))


def _read_pairs(layer: _Spatial, name: str, value: Any) -> tuple[tuple[int, ...], ...]:
    """A pair (before, after) for each side, from one number for all, one for each side, or the pairs."""
    if layer.rank == 1 and isinstance(value, (list, tuple)) and len(value) == 2:
        value = (value,)
    sides = tuple(value) if isinstance(value, (list, tuple)) else (value,) * layer.rank
    if len(sides) != layer.rank:
        advice = f"give one number, or {layer.rank} numbers or pairs: one for each side"
        raise refuse(layer, f"can't have {name}={value!r}.", advice)
    return tuple(read_sides(layer, name, side, 2, least=0) for side in sides)


class _Bordering(_Spatial):
    """What padding and cropping share: so many values more, or fewer, at both ends of each side."""

    option: ClassVar[str]
    sign: ClassVar[int]

    def _settle_borders(self, value: Any) -> None:
        self._borders = _read_pairs(self, self.option, value)
        settle(self, **{self.option: self._borders[0] if self.rank == 1 else self._borders})

    def call(self, inputs: jax.Array) -> jax.Array:
        """Add zeros, or cut, around the sides."""
        sizes = inputs.shape[self.first_side : self.first_side + self.rank]
        for side, size, (before, after) in zip(SIDES[self.rank], sizes, self._borders, strict=True):
            if isinstance(size, int) and size + self.sign * (before + after) <= 0:
                raise refuse_shape(
                    self,
                    f"cuts {before} + {after} off a {side} of {size}, and nothing is left.",
                    inputs,
                    f"make cropping smaller than the {side}",
                )
        widths = [(self.sign * before, self.sign * after, 0) for before, after in self._borders]
        return lax.pad(inputs, jnp.zeros((), inputs.dtype), self._around(tuple(widths), (0, 0, 0)))


class _ZeroPadding(_Bordering):
    option, sign = "padding", 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._settle_borders(padding)


class ZeroPadding1D(_ZeroPadding):
    """Adds zeros before and after a sequence.

    Args:
        padding: Time steps to add at both ends, or a pair (before, after).
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: What every layer takes.

    Example:
        >>> tally.layers.ZeroPadding1D((2, 0))(tally.Input((10, 4))).shape
        (None, 12, 4)

    Source: Equal to `keras.layers.ZeroPadding1D`.
    """

    rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Adds zeros around an image.

    Args:
        padding: One number for all four sides, (height, width), or ((top, bottom), (left, right)).
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: What every layer takes.

    Source: Equal to `keras.layers.ZeroPadding2D`.
    """

    rank = 2


class ZeroPadding3D(_ZeroPadding):
    """Adds zeros around a volume; `padding` is one number, one for each side, or a pair for each.

    Source: Equal to `keras.layers.ZeroPadding3D`.
    """

    rank = 3


class _Cropping(_Bordering):
    option, sign = "cropping", -1

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self._settle_borders(cropping)


class Cropping1D(_Cropping):
    """Cuts time steps off both ends of a sequence.

    Args:
        cropping: Time steps to cut off at both ends, or a pair (before, after).
        **kwargs: What every layer takes.

    Source: Equal to `keras.layers.Cropping1D`.
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, "channels_last", **kwargs)


class Cropping2D(_Cropping):
    """Cuts pixels off the borders of an image.

    Args:
        cropping: One number for all four sides, (height, width), or ((top, bottom), (left, right)).
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: What every layer takes.

    Raises:
        ShapeError: Nothing would be left.

    Source: Equal to `keras.layers.Cropping2D`.
    """

    rank = 2

    def __init__(self, cropping: Any = 0, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Cuts a volume at its borders; `cropping` is one number, one for each side, or a pair for each.

    Source: Equal to `keras.layers.Cropping3D`.
    """

    rank = 3


class _UpSampling(_Spatial):
    """What repeating every value along its sides shares."""

    size: Any

    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        settle(self, size=read_sides(self, "size", size, self.rank))

    def call(self, inputs: jax.Array) -> jax.Array:
        """Repeat along one side after the other."""
        for axis, times in enumerate(self.size, self.first_side):
            inputs = jnp.repeat(inputs, times, axis=axis)
        return inputs


class UpSampling1D(_UpSampling):
    """Repeats every time step of a sequence.

    Args:
        size: How often.
        **kwargs: What every layer takes.

    Source: Equal to `keras.layers.UpSampling1D`.
    """

    rank = 1

    def __init__(self, size: Any = 2, **kwargs: Any) -> None:
        super().__init__(size, "channels_last", **kwargs)
        settle(self, size=self.size[0])

    def call(self, inputs: jax.Array) -> jax.Array:
        """Repeat along the length."""
        return jnp.repeat(inputs, self.size, axis=1)


class UpSampling2D(_UpSampling):
    """Enlarges an image by whole factors.

    Args:
        size: Factors of height and width; one number means both.
        data_format: `"channels_last"` or `"channels_first"`.
        interpolation: `"nearest"` (repeats pixels), `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, height, width, channels)
        output: (batch, factor × height, factor × width, channels)

    Example:
        >>> tally.layers.UpSampling2D(2)(tally.Input((7, 7, 3))).shape
        (None, 14, 14, 3)

    Source: Equal to `keras.layers.UpSampling2D`.
    """

    rank = 2
    interpolation: str

    def __init__(
        self, size: Any = 2, data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        words = ("nearest", *_METHODS)
        settle(self, interpolation=read_word(self, "interpolation", interpolation, words))

    def call(self, inputs: jax.Array) -> jax.Array:
        """Repeat, or interpolate."""
        if self.interpolation == "nearest":
            return super().call(inputs)
        factors = self._around(self.size, 1)
        shape = [factor * size for factor, size in zip(factors, inputs.shape, strict=True)]
        return jax.image.resize(inputs, shape, _METHODS[self.interpolation], antialias=False)


_METHODS = {"bilinear": "linear", "bicubic": "cubic", "lanczos3": "lanczos3", "lanczos5": "lanczos5"}
"""Keras's word for an interpolation -> JAX's."""


class UpSampling3D(_UpSampling):
    """Repeats every value of a volume.

    Args:
        size: Factors of depth, height and width; one number means all.
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: What every layer takes.

    Source: Equal to `keras.layers.UpSampling3D`.
    """

    rank = 3
