"""Pooling: the largest value or the average in sliding windows, over whole sides, or in so many windows."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from tally.core.registry import publish
from tally.kernels.pooling import pool
from tally.layers.options import read_sides, read_word, refuse, settle
from tally.layers.spatial import _Spatial


class _Pooling(_Spatial):
    """What sliding windows of every rank share; a subclass says its rank and what it makes of a window."""

    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, name=name, **kwargs)
        pool_size = read_sides(self, "pool_size", pool_size, self.rank)
        settle(
            self,
            pool_size=pool_size,
            strides=pool_size if strides is None else read_sides(self, "strides", strides, self.rank),
            padding=read_word(self, "padding", padding, ("valid", "same")),
        )

    def _slide(self, x: jax.Array, mode: str) -> jax.Array:
        if self.padding == "valid":
            self._check_fit(x, "window", self.pool_size, self.strides, (1,) * self.rank)
        return pool(x, mode, self._around(self.pool_size, 1), self._around(self.strides, 1), self.padding)


class _MaxPooling(_Pooling):
    def call(self, inputs: jax.Array) -> jax.Array:
        """The largest value in each window."""
        return self._slide(inputs, "max")


class _AveragePooling(_Pooling):
    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def call(self, inputs: jax.Array) -> jax.Array:
        """The average in each window, of what lies inside the input."""
        sums = self._slide(inputs, "sum")
        if self.padding == "valid":
            return sums / math.prod(self.pool_size)
        sides = inputs.shape[self.first_side : self.first_side + self.rank]
        return sums / self._slide(jnp.ones(self._around(sides, 1), inputs.dtype), "sum")


class MaxPooling1D(_MaxPooling):
    """Keeps the largest value of every window along a sequence.

    Args:
        pool_size: Time steps in a window.
        strides: Steps between windows; the window's size unless given.
        padding: `"valid"` (only whole windows) or `"same"` (windows may reach over the ends).
        data_format: `"channels_last"` or `"channels_first"`.
        name: Name of the layer.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, length, channels)
        output: (batch, new length, channels)

    Source: Equal to `keras.layers.MaxPooling1D`.
    """

    rank = 1


class MaxPooling2D(_MaxPooling):
    """Keeps the largest value of every window of an image.

    Args:
        pool_size: Height and width of a window; one number means both.
        strides: Pixels between windows; the window's size unless given.
        padding: `"valid"` (only whole windows) or `"same"` (windows may reach over the border).
        data_format: `"channels_last"` or `"channels_first"`.
        name: Name of the layer.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, height, width, channels)
        output: (batch, new height, new width, channels)

    Example:
        >>> tally.layers.MaxPooling2D()(tally.Input((28, 28, 3))).shape
        (None, 14, 14, 3)

    Source: Equal to `keras.layers.MaxPooling2D`.
    """

    rank = 2


class MaxPooling3D(_MaxPooling):
    """Keeps the largest value of every window of a volume; the arguments are those of `MaxPooling2D`.

    Shapes:
        input: (batch, depth, height, width, channels)
        output: (batch, new depth, new height, new width, channels)

    Source: Equal to `keras.layers.MaxPooling3D`.
    """

    rank = 3


class AveragePooling1D(_AveragePooling):
    """Averages every window along a sequence.

    The arguments are those of `MaxPooling1D`, but `pool_size` must be given.
    With `padding="same"`, a window that reaches over an end averages only what lies inside.

    Source: Equal to `keras.layers.AveragePooling1D`.
    """

    rank = 1


class AveragePooling2D(_AveragePooling):
    """Averages every window of an image.

    The arguments are those of `MaxPooling2D`, but `pool_size` must be given.
    With `padding="same"`, a window that reaches over the border averages only what lies inside.

    Example:
        >>> tally.layers.AveragePooling2D(2)(tally.Input((28, 28, 3))).shape
        (None, 14, 14, 3)

    Source: Equal to `keras.layers.AveragePooling2D`.
    """

    rank = 2


class AveragePooling3D(_AveragePooling):
    """Averages every window of a volume.

    The arguments are those of `MaxPooling3D`, but `pool_size` must be given.

    Source: Equal to `keras.layers.AveragePooling3D`.
    """

    rank = 3


class _GlobalPooling(_Spatial):
    """What pooling over whole sides shares; a subclass says its rank."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.keepdims = keepdims

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(self.first_side, self.first_side + self.rank))


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs: jax.Array) -> jax.Array:
        """The largest value of each channel."""
        return jnp.max(inputs, axis=self._axes, keepdims=self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs: jax.Array) -> jax.Array:
        """The average of each channel."""
        return jnp.mean(inputs, axis=self._axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """Keeps the largest value of each channel of a sequence.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the pooled side stays, with size 1.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, length, channels)
        output: (batch, channels)

    Source: Equal to `keras.layers.GlobalMaxPooling1D`.
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """Keeps the largest value of each channel of an image; the arguments are those of `GlobalMaxPooling1D`.

    Shapes:
        input: (batch, height, width, channels)
        output: (batch, channels)

    Source: Equal to `keras.layers.GlobalMaxPooling2D`.
    """

    rank = 2


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """Keeps the largest value of each channel of a volume; the arguments are those of `GlobalMaxPooling1D`.

    Shapes:
        input: (batch, depth, height, width, channels)
        output: (batch, channels)

    Source: Equal to `keras.layers.GlobalMaxPooling3D`.
    """

    rank = 3


class GlobalAveragePooling1D(_GlobalAveragePooling):
    """Averages each channel of a sequence; masked time steps don't count.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the pooled side stays, with size 1.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, length, channels)
        mask: (batch, length), True where a time step counts
        output: (batch, channels)

    Source: Equal to `keras.layers.GlobalAveragePooling1D`.
    """

    rank = 1
    supports_masking = True

    def call(self, inputs: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """The average of each channel over the time steps that count."""
        if mask is None:
            return super().call(inputs)
        counted = jnp.expand_dims(mask.astype(bool), self.channel_axis)
        total = jnp.sum(jnp.where(counted, inputs, 0), axis=self._axes, keepdims=self.keepdims)
        return total / jnp.sum(counted, axis=self._axes, keepdims=self.keepdims, dtype=inputs.dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """No mask: the time steps are gone."""
        del inputs, previous_mask


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """Averages each channel of an image; works for images of any size.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the pooled sides stay, with size 1.
        **kwargs: What every layer takes.

    Shapes:
        input: (batch, height, width, channels)
        output: (batch, channels)

    Example:
        >>> tally.layers.GlobalAveragePooling2D()(tally.Input((None, None, 64))).shape
        (None, 64)

    Source: Lin, Chen and Yan, "Network in Network", 2013; equal to `keras.layers.GlobalAveragePooling2D`.
    """

    rank = 2


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """Averages each channel of a volume; the arguments are those of `GlobalAveragePooling2D`.

    Shapes:
        input: (batch, depth, height, width, channels)
        output: (batch, channels)

    Source: Equal to `keras.layers.GlobalAveragePooling3D`.
    """

    rank = 3


_MOST_WINDOWS = 4096
"""Windows along a side, each of which is a step of the program."""


class _AdaptivePooling(_Spatial):
    """What pooling to a set number of windows shares: windows of nearly one size cover each side."""

    reduce: ClassVar[Callable[..., jax.Array]]
    output_size: tuple[int, ...]

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        settle(self, output_size=read_sides(self, "output_size", output_size, self.rank))
        if max(self.output_size) > _MOST_WINDOWS:
            raise refuse(self, f"can't have output_size={output_size!r}.", f"give at most {_MOST_WINDOWS:,}")

    def call(self, inputs: jax.Array) -> jax.Array:
        """Reduce one side after the other."""
        for axis, windows in enumerate(self.output_size, self.first_side):
            size = inputs.shape[axis]
            bounds = [(i * size // windows, -(-(i + 1) * size // windows)) for i in range(windows)]
            parts = [lax.slice_in_dim(inputs, start, end, axis=axis) for start, end in bounds]
            reduced = [type(self).reduce(part, axis=axis, keepdims=True) for part in parts]
            inputs = jnp.concatenate(reduced, axis=axis)
        return inputs


class _AdaptiveMaxPooling(_AdaptivePooling):
    reduce = staticmethod(jnp.max)


class _AdaptiveAveragePooling(_AdaptivePooling):
    reduce = staticmethod(jnp.mean)


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """Keeps the largest value of each of `output_size` windows along a sequence.

    Args:
        output_size: Number of windows.
        data_format: `"channels_last"` or `"channels_first"`.
        **kwargs: What every layer takes.

    Source: Equal to `keras.layers.AdaptiveMaxPooling1D`.
    """

    rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """Keeps the largest value of each of `output_size` windows down and across an image.

    Source: Equal to `keras.layers.AdaptiveMaxPooling2D`.
    """

    rank = 2


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """Keeps the largest value of each of `output_size` windows of a volume.

    Source: Equal to `keras.layers.AdaptiveMaxPooling3D`.
    """

    rank = 3


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """Averages each of `output_size` windows along a sequence.

    The arguments are those of `AdaptiveMaxPooling1D`.

    Source: Equal to `keras.layers.AdaptiveAveragePooling1D`.
    """

    rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """Averages each of `output_size` windows down and across an image.

    Example:
        >>> tally.layers.AdaptiveAveragePooling2D(2)(tally.Input((7, 5, 3))).shape
        (None, 2, 2, 3)

    Source: Equal to `keras.layers.AdaptiveAveragePooling2D`.
    """

    rank = 2


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """Averages each of `output_size` windows of a volume.

    Source: Equal to `keras.layers.AdaptiveAveragePooling3D`.
    """

    rank = 3


MaxPool1D = publish(MaxPooling1D, "MaxPool1D")
MaxPool2D = publish(MaxPooling2D, "MaxPool2D")
MaxPool3D = publish(MaxPooling3D, "MaxPool3D")
AvgPool1D = publish(AveragePooling1D, "AvgPool1D")
AvgPool2D = publish(AveragePooling2D, "AvgPool2D")
AvgPool3D = publish(AveragePooling3D, "AvgPool3D")
GlobalMaxPool1D = publish(GlobalMaxPooling1D, "GlobalMaxPool1D")
GlobalMaxPool2D = publish(GlobalMaxPooling2D, "GlobalMaxPool2D")
GlobalMaxPool3D = publish(GlobalMaxPooling3D, "GlobalMaxPool3D")
GlobalAvgPool1D = publish(GlobalAveragePooling1D, "GlobalAvgPool1D")
GlobalAvgPool2D = publish(GlobalAveragePooling2D, "GlobalAvgPool2D")
GlobalAvgPool3D = publish(GlobalAveragePooling3D, "GlobalAvgPool3D")
