"""Convolutions over lengths, images and volumes: plain, grouped and transposed."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax

from tally.core.layer import InputSpec
from tally.core.registry import publish
from tally.core.variable import Variable
from tally.kernels.convolution import convolve, convolve_transposed
from tally.layers.lora import _Adaptable
from tally.layers.options import (
    plan_weight,
    read_count,
    read_sides,
    read_word,
    refuse,
    refuse_shape,
    resolve_options,
    settle,
)
from tally.layers.spatial import SIDES, _Spatial


class _Sliding(_Spatial):
    """What every layer with a sliding kernel shares: the window's options, the bias, the activation."""

    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation_rate: tuple[int, ...]
    padding: str
    activation: Callable[[jax.Array], jax.Array]
    bias: Variable | None

    def __init__(
        self,
        *,
        kernel_size: Any,
        strides: Any,
        padding: str,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        settle(
            self,
            kernel_size=read_sides(self, "kernel_size", kernel_size, self.rank),
            strides=read_sides(self, "strides", strides, self.rank),
            padding=read_word(self, "padding", padding, self.paddings),
            dilation_rate=read_sides(self, "dilation_rate", dilation_rate, self.rank),
        )
        self.use_bias = use_bias
        resolve_options(self, activation="linear" if activation is None else activation)

    def _refuse_strided_holes(self) -> None:
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise refuse(
                self,
                f"can't have both strides={self.strides} and dilation_rate={self.dilation_rate}.",
                "leave one of them at 1",
            )

    def _read_channels(self, input_shape: tuple[int | None, ...]) -> int:
        """The number of input channels, which from now on every input must have."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise refuse_shape(
                self,
                f"can't be built for {tuple(input_shape)}: the number of input channels is unknown.",
                do="give Input that size, for instance Input((None, None, 3))",
                code="T603",
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})
        return channels

    def _sides(self) -> tuple[str, ...]:
        return tuple(f"kernel {side}" for side in SIDES[self.rank])

    def _plan_bias(self, count: int, axis: str) -> None:
        self.bias = plan_weight(self, "bias", (count,), (axis,)) if self.use_bias else None

    def _slide(self, x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
        """Convolve with the layer's strides, padding and dilation."""
        padding: Any = self.padding
        if padding == "valid":
            self._check_fit(x, "kernel", self.kernel_size, self.strides, self.dilation_rate)
        elif padding == "causal":
            windows = zip(self.kernel_size, self.dilation_rate, strict=True)
            padding = [(holes * (size - 1), 0) for size, holes in windows]
        return convolve(
            x,
            kernel,
            strides=self.strides,
            padding=padding,
            dilation=self.dilation_rate,
            groups=groups,
            channels_first=self.channels_first,
        )

    def _finish(self, x: jax.Array) -> jax.Array:
        if self.bias is not None:
            x = x + self.bias.value.reshape((-1, *(1,) * self.rank) if self.channels_first else (-1,))
        return self.activation(x)


class _Conv(_Adaptable, _Sliding):
    """What convolutions of every rank share; a subclass says its rank and documents its shapes."""

    filters: int
    groups: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
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
        settle(self, filters=read_count(self, "filters", filters), groups=read_count(self, "groups", groups))
        resolve_options(
            self,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self._refuse_strided_holes()
        if self.filters % self.groups:
            raise refuse(
                self,
                f"can't share {self.filters} filters between {self.groups} groups equally.",
                f"make filters a multiple of {self.groups}",
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan the kernel and the bias for the input's channels."""
        channels = self._read_channels(input_shape)
        if channels % self.groups:
            raise refuse_shape(
                self,
                f"can't split {channels} input channels into {self.groups} groups equally.",
                do=f"feed a multiple of {self.groups} channels, or change groups",
            )
        self.kernel: Variable = plan_weight(
            self,
            "kernel",
            (*self.kernel_size, channels // self.groups, self.filters),
            (*self._sides(), "input channels" if self.groups == 1 else "input channels per group", "filters"),
        )
        self._plan_bias(self.filters, "filters")
        self._adapt()

    def call(self, inputs: jax.Array) -> jax.Array:
        """Convolve, add the bias, apply the activation."""
        return self._finish(self._slide(inputs, self._adapted_value(), self.groups))


class Conv1D(_Conv):
    """Slides `filters` kernels along a sequence.

    Args:
        filters: Number of kernels, and so of output channels.
        kernel_size: Time steps a kernel sees at once.
        strides: Steps it moves by.
        padding: `"valid"` (only where the kernel fits), `"same"` (zeros around, so that stride 1 keeps the
            length) or `"causal"` (zeros in front, so that no output sees a later input).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Distance between the time steps a kernel sees.
        groups: Number of parts the channels are split into, each with filters of its own.
        activation: Function applied to the result.
        use_bias: Whether to add one number per filter.
        kernel_initializer, bias_initializer: What the weights start from.
        kernel_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        kernel_constraint, bias_constraint: Functions applied to the weights after each update.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, length, input channels)
        output: (batch, new length, filters)

    Raises:
        ArgumentError: An option has an impossible value.
        ShapeError: The input is shorter than the kernel, or has other channels than at the first call.

    Example:
        >>> tally.layers.Conv1D(8, 3)(tally.Input((10, 4))).shape
        (None, 8, 8)

    Source: What Keras and PyTorch call convolution (no kernel is flipped); equal to `keras.layers.Conv1D`.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv2D(_Conv):
    """Slides `filters` kernels over the height and width of an image.

    Args:
        filters: Number of kernels, and so of output channels.
        kernel_size: Height and width in pixels; one number means both.
        strides: Pixels the kernel moves by, down and across.
        padding: `"valid"` (only where the kernel fits) or `"same"` (zeros around: stride 1 keeps the size).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Distance between the pixels a kernel sees.
        groups: Number of parts the channels are split into, each with filters of its own.
        activation: Function applied to the result.
        use_bias: Whether to add one number per filter.
        kernel_initializer, bias_initializer: What the weights start from.
        kernel_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        kernel_constraint, bias_constraint: Functions applied to the weights after each update.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, height, width, input channels)
        output: (batch, new height, new width, filters)

    Raises:
        ArgumentError: An option has an impossible value.
        ShapeError: The image is smaller than the kernel, or has other channels than at the first call.

    Example:
        >>> tally.layers.Conv2D(32, 3, activation="relu")(tally.Input((28, 28, 1))).shape
        (None, 26, 26, 32)

    Source: What Keras and PyTorch call convolution (no kernel is flipped); equal to `keras.layers.Conv2D`.
    """

    rank = 2


class Conv3D(_Conv):
    """Slides `filters` kernels through a volume or a film; the arguments are those of `Conv2D`.

    Shapes:
        input: (batch, depth, height, width, input channels)
        output: (batch, new depth, new height, new width, filters)

    Raises:
        ArgumentError: An option has an impossible value.
        ShapeError: The volume is smaller than the kernel, or has other channels than at the first call.

    Example:
        >>> tally.layers.Conv3D(4, 3)(tally.Input((8, 8, 8, 1))).shape
        (None, 6, 6, 6, 4)

    Source: Equal to `keras.layers.Conv3D`.
    """

    rank = 3


class _ConvTranspose(_Sliding):
    """What transposed convolutions of every rank share: the gradient of a convolution, used forwards."""

    filters: int
    output_padding: tuple[int, ...] | None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
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
        settle(self, filters=read_count(self, "filters", filters), output_padding=output_padding)
        resolve_options(
            self,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self._refuse_strided_holes()
        if output_padding is not None:
            output_padding = read_sides(self, "output_padding", output_padding, self.rank, least=0)
            settle(self, output_padding=output_padding)
            if any(extra >= stride for extra, stride in zip(output_padding, self.strides, strict=True)):
                raise refuse(
                    self,
                    f"can't have output_padding={self.output_padding} with strides={self.strides}.",
                    "make output_padding smaller than the stride on every side, or leave it out",
                )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan the kernel and the bias for the input's channels."""
        channels = self._read_channels(input_shape)
        self.kernel: Variable = plan_weight(
            self,
            "kernel",
            (*self.kernel_size, self.filters, channels),
            (*self._sides(), "filters", "input channels"),
        )
        self._plan_bias(self.filters, "filters")

    def call(self, inputs: jax.Array) -> jax.Array:
        """Spread the input out by the kernel, add the bias, activate."""
        outputs = convolve_transposed(
            inputs,
            self.kernel.value,
            strides=self.strides,
            padding=tuple(self._borders(side) for side in range(self.rank)),
            dilation=self.dilation_rate,
            channels_first=self.channels_first,
        )
        return self._finish(outputs)

    def _borders(self, side: int) -> tuple[int, int]:
        """Zeros before and after a side, so that the output has the size Keras gives it.

        A side of size n becomes n·stride with padding "same", and n·stride + max(span − stride, 0) with
        "valid", where span is the width of the dilated kernel. With output_padding it becomes
        (n − 1)·stride + span + output_padding for "valid", and for "same"
        (n − 1)·stride + span modulo 2 + output_padding.
        """
        stride = self.strides[side]
        span = self.dilation_rate[side] * (self.kernel_size[side] - 1) + 1
        extra = None if self.output_padding is None else self.output_padding[side]
        if self.padding == "valid":
            return span - 1, span - 1 + (max(stride - span, 0) if extra is None else extra)
        total = span - 2 + (stride if extra is None else span % 2 + extra)
        before = min(-(-total // 2), span - 1)
        return before, total - before


class Conv1DTranspose(_ConvTranspose):
    """Makes a sequence longer: what a strided `Conv1D` does to its gradient, done to its input.

    Args:
        filters: Number of output channels.
        kernel_size: Time steps each input step is spread over.
        strides: Output steps between neighbouring input steps.
        padding: `"valid"` (everything the kernel reaches) or `"same"` (stride times the input's length).
        output_padding: Steps added at the end; chosen from the stride unless given.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Distance between the steps a kernel reaches.
        activation: Function applied to the result.
        use_bias: Whether to add one number per filter.
        kernel_initializer, bias_initializer: What the weights start from.
        kernel_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        kernel_constraint, bias_constraint: Functions applied to the weights after each update.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, length, input channels)
        output: (batch, new length, filters)

    Source: Equal to `keras.layers.Conv1DTranspose`.
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Enlarges an image: what a strided `Conv2D` does to its gradient, done to its input.

    The arguments are those of `Conv1DTranspose`; where a side is meant, one number or two (height, width).

    Shapes:
        input: (batch, height, width, input channels)
        output: (batch, new height, new width, filters)

    Example:
        >>> tally.layers.Conv2DTranspose(8, 3, strides=2, padding="same")(tally.Input((7, 7, 16))).shape
        (None, 14, 14, 8)

    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016; equal to
    `keras.layers.Conv2DTranspose`.
    """

    rank = 2


class Conv3DTranspose(_ConvTranspose):
    """Enlarges a volume.

    The arguments are those of `Conv2DTranspose`, with `data_format` before `output_padding`.

    Shapes:
        input: (batch, depth, height, width, input channels)
        output: (batch, new depth, new height, new width, filters)

    Source: Equal to `keras.layers.Conv3DTranspose`.
    """

    rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Any = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )


Convolution1D = publish(Conv1D, "Convolution1D")
Convolution2D = publish(Conv2D, "Convolution2D")
Convolution3D = publish(Conv3D, "Convolution3D")
Convolution1DTranspose = publish(Conv1DTranspose, "Convolution1DTranspose")
Convolution2DTranspose = publish(Conv2DTranspose, "Convolution2DTranspose")
Convolution3DTranspose = publish(Conv3DTranspose, "Convolution3DTranspose")
