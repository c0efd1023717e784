"""Depthwise and separable convolutions: kernels that see one channel, and then a mix of the channels."""

from typing import Any

import jax

from tally.core.registry import publish
from tally.core.variable import Variable
from tally.kernels.convolution import convolve
from tally.layers.convolution import _Sliding
from tally.layers.options import plan_weight, read_count, resolve_options, settle


class _DepthwiseConv(_Sliding):
    """What depthwise convolutions share: every channel has kernels of its own and is mixed with no other."""

    depth_multiplier: int

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        settle(self, depth_multiplier=read_count(self, "depth_multiplier", depth_multiplier))
        resolve_options(
            self,
            depthwise_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            depthwise_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan the kernel and the bias for the input's channels."""
        channels = self._read_channels(input_shape)
        self.kernel: Variable = plan_weight(
            self,
            "kernel",
            (*self.kernel_size, channels, self.depth_multiplier),
            (*self._sides(), "input channels", "depth multiplier"),
            "depthwise",
        )
        self._plan_bias(channels * self.depth_multiplier, "output channels")

    def call(self, inputs: jax.Array) -> jax.Array:
        """Convolve every channel, add the bias, apply the activation."""
        return self._finish(_slide_depthwise(self, inputs, self.kernel.value))


def _slide_depthwise(layer: _Sliding, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve channel c with `kernel[..., c, :]`: a grouped convolution of as many groups as channels."""
    *sides, channels, multiplier = kernel.shape
    return layer._slide(x, kernel.reshape(*sides, 1, channels * multiplier), groups=channels)


class DepthwiseConv1D(_DepthwiseConv):
    """Slides `depth_multiplier` kernels along each channel of a sequence on its own.

    Args:
        kernel_size: Time steps a kernel sees at once.
        strides: Steps it moves by.
        padding: `"valid"` (only where the kernel fits) or `"same"` (zeros around).
        depth_multiplier: Number of kernels, and so of output channels, for each input channel.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Distance between the time steps a kernel sees.
        activation: Function applied to the result.
        use_bias: Whether to add one number per output channel.
        depthwise_initializer, bias_initializer: What the weights start from.
        depthwise_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        depthwise_constraint, bias_constraint: Functions applied to the weights after each update.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, length, input channels)
        output: (batch, new length, input channels × depth multiplier)

    Source: Equal to `keras.layers.DepthwiseConv1D`.
    """

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Slides `depth_multiplier` kernels over each channel of an image on its own.

    The arguments are those of `DepthwiseConv1D`; where a side is meant, one number or two (height, width).

    Shapes:
        input: (batch, height, width, input channels)
        output: (batch, new height, new width, input channels × depth multiplier)

    Example:
        >>> tally.layers.DepthwiseConv2D(3)(tally.Input((8, 8, 16))).shape
        (None, 6, 6, 16)

    Source: Equal to `keras.layers.DepthwiseConv2D`.
    """

    rank = 2


class _SeparableConv(_Sliding):
    """What separable convolutions share: a depthwise convolution, then one that mixes the channels."""

    filters: int
    depth_multiplier: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        settle(
            self,
            filters=read_count(self, "filters", filters),
            depth_multiplier=read_count(self, "depth_multiplier", depth_multiplier),
        )
        resolve_options(
            self,
            depthwise_initializer=depthwise_initializer,
            pointwise_initializer=pointwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            pointwise_regularizer=pointwise_regularizer,
            bias_regularizer=bias_regularizer,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan both kernels and the bias for the input's channels."""
        channels, multiplier = self._read_channels(input_shape), self.depth_multiplier
        self.depthwise_kernel: Variable = plan_weight(
            self,
            "depthwise_kernel",
            (*self.kernel_size, channels, multiplier),
            (*self._sides(), "input channels", "depth multiplier"),
            "depthwise",
        )
        self.pointwise_kernel: Variable = plan_weight(
            self,
            "pointwise_kernel",
            (*(1,) * self.rank, channels * multiplier, self.filters),
            (*self._sides(), "depthwise channels", "filters"),
            "pointwise",
        )
        self._plan_bias(self.filters, "filters")

    def call(self, inputs: jax.Array) -> jax.Array:
        """Convolve every channel, mix the channels, add the bias, apply the activation."""
        ones = (1,) * self.rank
        channels = _slide_depthwise(self, inputs, self.depthwise_kernel.value)
        mixed = convolve(
            channels,
            self.pointwise_kernel.value,
            strides=ones,
            padding="valid",
            dilation=ones,
            channels_first=self.channels_first,
        )
        return self._finish(mixed)


class SeparableConv1D(_SeparableConv):
    """Slides a kernel along each channel of a sequence, then mixes the channels into `filters`.

    Args:
        filters: Number of output channels.
        kernel_size: Time steps a kernel sees at once.
        strides: Steps it moves by.
        padding: `"valid"` (only where the kernel fits) or `"same"` (zeros around).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Distance between the time steps a kernel sees.
        depth_multiplier: Number of kernels for each input channel.
        activation: Function applied to the result.
        use_bias: Whether to add one number per filter.
        depthwise_initializer, pointwise_initializer, bias_initializer: What the weights start from.
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: Functions of the weights that are
            added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        depthwise_constraint, pointwise_constraint, bias_constraint: Functions applied to the weights after
            each update.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, length, input channels)
        output: (batch, new length, filters)

    Source: Equal to `keras.layers.SeparableConv1D`.
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """Slides a kernel over each channel of an image, then mixes the channels into `filters`.

    The arguments are those of `SeparableConv1D`; where a side is meant, one number or two (height, width).

    Shapes:
        input: (batch, height, width, input channels)
        output: (batch, new height, new width, filters)

    Example:
        >>> tally.layers.SeparableConv2D(32, 3)(tally.Input((8, 8, 16))).shape
        (None, 6, 6, 32)

    Source: Chollet, "Xception", 2017; equal to `keras.layers.SeparableConv2D`.
    """

    rank = 2


SeparableConvolution1D = publish(SeparableConv1D, "SeparableConvolution1D")
SeparableConvolution2D = publish(SeparableConv2D, "SeparableConvolution2D")
