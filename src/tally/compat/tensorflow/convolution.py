"""Convolution and pooling of `tf.nn`."""

from typing import Any

import jax

from tally import ops
from tally.compat.names import named
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import known, listed, sizes
from tally.core.errors import ArgumentError
from tally.ops.definition import Array, op


def _is_first(data_format: str | None) -> bool:
    return data_format is not None and data_format.startswith("NC")


def _layout(data_format: str | None) -> str:
    return "channels_first" if _is_first(data_format) else "channels_last"


def _per_side(value: Any, rank: int, data_format: str | None) -> tuple[int, ...]:
    """One number for each spatial axis, from one for all, one each, or one for every axis of the data."""
    if value is None:
        return (1,) * rank
    numbers = sizes(value)
    if len(numbers) == 1:
        return numbers * rank
    if len(numbers) == rank:
        return numbers
    if len(numbers) == rank + 2:
        around = (numbers[0], numbers[1 if _is_first(data_format) else -1])
        if around != (1, 1):
            raise ArgumentError(
                f"{list(numbers)} moves over examples or channels.", do="put 1 in their places"
            )
        return numbers[2:] if _is_first(data_format) else numbers[1:-1]
    raise ArgumentError(f"{list(numbers)} doesn't fit {rank} spatial axes.")


def _padded(x: Any, padding: Any, data_format: str | None) -> tuple[Any, str]:
    """The data and the padding left to do, once explicit padding has been done."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ArgumentError(f"'{padding}' is no padding.", do="use 'SAME', 'VALID' or pairs of numbers")
        return x, padding.lower()
    widths = tuple((known(before), known(after)) for before, after in listed(padding))
    if len(widths) == x.ndim - 2:
        widths = ((0, 0), (0, 0), *widths) if _is_first(data_format) else ((0, 0), *widths, (0, 0))
    return ops.pad(x, widths), "valid"


def _convolve(
    x: Any, filters: Any, strides: Any, padding: Any, data_format: str | None, dilations: Any
) -> Any:
    x, kernel = tensor(x), tensor(filters)
    rank = kernel.ndim - 2
    x, rest = _padded(x, padding, data_format)
    return ops.conv(
        x,
        kernel,
        _per_side(strides, rank, data_format),
        rest,
        _layout(data_format),
        _per_side(dilations, rank, data_format),
    )


@named("nn.conv1d")
def conv1d(
    input: Any, filters: Any, stride: Any, padding: Any, data_format: str = "NWC", dilations: Any = None
) -> Any:
    """Convolution over one axis."""
    return _convolve(input, filters, stride, padding, data_format, dilations)


@named("nn.conv2d")
def conv2d(
    input: Any, filters: Any, strides: Any, padding: Any, data_format: str = "NHWC", dilations: Any = None
) -> Any:
    """Convolution over height and width."""
    return _convolve(input, filters, strides, padding, data_format, dilations)


@named("nn.conv3d")
def conv3d(
    input: Any, filters: Any, strides: Any, padding: Any, data_format: str = "NDHWC", dilations: Any = None
) -> Any:
    """Convolution over depth, height and width."""
    return _convolve(input, filters, strides, padding, data_format, dilations)


@named("nn.convolution")
def convolution(
    input: Any,
    filters: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """Convolution over as many axes as the filters have."""
    return _convolve(input, filters, strides, padding, data_format, dilations)


@named("nn.depthwise_conv2d")
def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """Convolution of each channel by itself."""
    x, rest = _padded(tensor(input), padding, data_format)
    return ops.depthwise_conv(
        x,
        filter,
        _per_side(strides, 2, data_format),
        rest,
        _layout(data_format),
        _per_side(dilations, 2, data_format),
    )


@named("nn.separable_conv2d")
def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """A depthwise convolution, then one of size 1 that mixes the channels."""
    mixed = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    return _convolve(mixed, pointwise_filter, 1, "VALID", data_format, None)


@op
def _transposed(
    x: Array, kernel: Array, shape: Any, strides: Any, padding: str, layout: str, dilations: Any
) -> Array:
    """What a convolution's gradient does to the output: TensorFlow defines the transpose so, for any output shape."""
    forward = lambda data: ops.conv(data, kernel, strides, padding, layout, dilations)
    try:
        (made,) = jax.linear_transpose(forward, jax.ShapeDtypeStruct(shape, x.dtype))(x)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"A convolution doesn't lead from {tuple(shape)} to {tuple(x.shape)}, so its transpose not back.",
            do="check output_shape, strides and padding",
        ) from error
    return made


def _transpose(
    x: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str,
    data_format: str,
    dilations: Any,
) -> Any:
    kernel = tensor(filters)
    rank = kernel.ndim - 2
    return _transposed(
        tensor(x),
        kernel,
        sizes(output_shape),
        _per_side(strides, rank, data_format),
        padding.lower(),
        _layout(data_format),
        _per_side(dilations, rank, data_format),
    )


@named("nn.conv2d_transpose")
def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
) -> Any:
    """The transpose of a convolution over height and width; the filters are (height, width, out, in)."""
    return _transpose(input, filters, output_shape, strides, padding, data_format, dilations)


@named("nn.conv1d_transpose")
def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
) -> Any:
    """The transpose of a convolution over one axis."""
    return _transpose(input, filters, output_shape, strides, padding, data_format, dilations)


# -- pooling -----------------------------------------------------------------------------------------------------------
def _pool(reduce: Any, x: Any, size: Any, strides: Any, padding: str, data_format: str | None) -> Any:
    x = tensor(x)
    rank = x.ndim - 2
    return reduce(
        x,
        _per_side(size, rank, data_format),
        _per_side(strides, rank, data_format),
        padding.lower(),
        _layout(data_format),
    )


def _define_pools() -> None:
    def make(word: str, reduce: Any, data_format: str | None, path: str) -> None:
        def pool(
            input: Any, ksize: Any, strides: Any, padding: str, data_format: str | None = data_format
        ) -> Any:
            return _pool(reduce, input, ksize, strides, padding, data_format)

        pool.__name__ = path.rpartition(".")[2]
        named(path)(pool)

    for word, reduce in (("max", ops.max_pool), ("avg", ops.average_pool)):
        make(word, reduce, None, f"nn.{word}_pool")
        for rank, data_format in ((1, "NWC"), (2, "NHWC"), (3, "NDHWC")):
            make(word, reduce, data_format, f"nn.{word}_pool{rank}d")


_define_pools()


@named("nn.dropout")
def dropout(x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None) -> Any:
    """Set a part of the numbers to 0 and scale the rest up."""
    from tally import random
    from tally.compat.tensorflow.drawing import key_of

    shape = None if noise_shape is None else sizes(noise_shape)
    return random.dropout(tensor(x), float(rate), shape, key_of(seed) if seed is not None else None)
