"""Activation functions as layers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally import activations
from tally.core.errors import ArgumentError, ShapeError
from tally.core.layer import InputSpec, Layer
from tally.core.registry import resolve

Shape = tuple[int | None, ...]
_PLACES = {1: ("features",), 2: ("length", "channels"), 3: ("height", "width", "channels")}


def _check_not_negative(layer: Layer, **values: float | None) -> None:
    for name, value in values.items():
        if value is None or value < 0:
            raise ArgumentError(
                f"{type(layer).__name__} '{layer.name}' has {name}={value}.",
                where=f"made at {layer.made_at}",
                do="use 0 or a number above it",
            )


class Activation(Layer):
    """Applies a function to each entry.

    Args:
        activation: Name, such as `"relu"`, or a function.

    Source: `keras.layers.Activation`.
    """

    supports_masking = True

    def __init__(self, activation: str | Callable[[Any], Any] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = resolve("activations", activation, none=activations.linear)

    def call(self, inputs: jax.Array) -> jax.Array:
        """The function's result."""
        return self.activation(inputs)


class ReLU(Layer):
    """The rectifier `max(x, 0)`, with a slope below its threshold and a ceiling if wanted.

    Args:
        max_value: Ceiling; none unless given.
        negative_slope: Slope below the threshold.
        threshold: Where the rectifier starts.

    Source: `keras.layers.ReLU`.
    """

    supports_masking = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_not_negative(
            self, max_value=max_value or 0, negative_slope=negative_slope, threshold=threshold
        )
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: jax.Array) -> jax.Array:
        """The rectified input."""
        return activations.relu(
            inputs, negative_slope=self.negative_slope, max_value=self.max_value, threshold=self.threshold
        )


class LeakyReLU(Layer):
    """The rectifier with a small slope below 0.

    Args:
        negative_slope: That slope; older code calls it `alpha`.

    Source: Maas et al. (2013); `keras.layers.LeakyReLU`.
    """

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        _check_not_negative(self, negative_slope=negative_slope)
        self.negative_slope = negative_slope

    def call(self, inputs: jax.Array) -> jax.Array:
        """The rectified input."""
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)


class PReLU(Layer):
    """The rectifier with a learned slope `alpha` below 0, one per feature.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: As in every layer.
        shared_axes: Axes along which one slope is shared, for instance `[1, 2]` for images.

    Source: He et al. (2015), arXiv 1502.01852; `keras.layers.PReLU`.
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = resolve("initializers", alpha_initializer)
        self.alpha_regularizer = resolve("regularizers", alpha_regularizer)
        self.alpha_constraint = resolve("constraints", alpha_constraint)
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes or ()) or None

    def build(self, input_shape: Shape) -> None:
        """Make `alpha`."""
        rank = len(input_shape)
        shared = {axis % rank for axis in self.shared_axes or ()}
        self.alpha = self.add_weight(
            name="alpha",
            shape=tuple(1 if axis in shared else size for axis, size in enumerate(input_shape) if axis),
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            axes=_PLACES.get(rank - 1, tuple(f"axis {i}" for i in range(1, rank))),
        )
        sized = {i: size for i, size in enumerate(input_shape) if i and i not in shared} if shared else {}
        self.input_spec = InputSpec(ndim=rank, axes=sized)

    def call(self, inputs: jax.Array) -> jax.Array:
        """The rectified input."""
        return jnp.maximum(inputs, 0) + self.alpha.value * jnp.minimum(inputs, 0)


class ELU(Layer):
    """The exponential linear unit: `x` above 0, `alpha * (exp(x) - 1)` below.

    Args:
        alpha: Minus the limit on the negative side.

    Source: Clevert et al. (2016), arXiv 1511.07289; `keras.layers.ELU`.
    """

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: jax.Array) -> jax.Array:
        """The function's result."""
        return activations.elu(inputs, alpha=self.alpha)


class Softmax(Layer):
    """Turns scores into shares that add up to 1.

    Args:
        axis: The axis, or axes, along which they do.

    Shapes:
        input: any
        mask: broadcast to the input; hidden entries get a share of 0.
        output: the same

    Source: `keras.layers.Softmax`.
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: jax.Array, mask: Any = None) -> jax.Array:
        """The shares."""
        axes = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        if mask is None:
            return jax.nn.softmax(inputs, axes)
        _check_broadcasts(self, mask, inputs)
        seen = mask if mask.dtype == bool else mask > 0.5
        # A row without any visible entry gives zeros, not a division by zero.
        least = jnp.finfo(inputs.dtype).min / 2
        return jnp.where(seen, jax.nn.softmax(jnp.where(seen, inputs, least), axes), 0)


def _check_broadcasts(layer: Layer, mask: Any, inputs: Any) -> None:
    pairs = zip(reversed(mask.shape), reversed(inputs.shape), strict=False)
    wrong = any(isinstance(m, int) and isinstance(x, int) and m not in (1, x) for m, x in pairs)
    if wrong or mask.ndim > inputs.ndim:
        raise ShapeError(
            f"{type(layer).__name__} '{layer.name}' can't spread a mask of shape {mask.shape} over an input of shape "
            f"{inputs.shape}.",
            where=f"made at {layer.made_at}",
            do="give the mask the input's last sizes, or 1 in their place",
        )
