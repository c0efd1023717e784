"""Activations, convolutions, pooling, normalisation, losses and attention as functions."""

import builtins
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tally.core.dtype import epsilon as default_epsilon
from tally.core.dtype import floatx, standardize_data_format
from tally.core.errors import ArgumentError
from tally.kernels.activation import rectify
from tally.kernels.convolution import convolve, convolve_transposed
from tally.kernels.pooling import pool
from tally.ops.definition import Array, Value, float_op, op

# -- activations -------------------------------------------------------------------------------------------------------
celu = float_op(jax.nn.celu, "x; alpha=1.0")
elu = float_op(jax.nn.elu, "x; alpha=1.0")
gelu = float_op(jax.nn.gelu, "x; approximate=True")
glu = float_op(jax.nn.glu, "x; axis=-1")
hard_sigmoid = float_op(jax.nn.hard_sigmoid, "x")
hard_silu = hard_swish = float_op(jax.nn.hard_silu, "x", "hard_silu")
hard_tanh = op(jax.nn.hard_tanh, "x")
leaky_relu = float_op(jax.nn.leaky_relu, "x; negative_slope=0.2")
log_sigmoid = float_op(jax.nn.log_sigmoid, "x")
relu = op(rectify, "x", name="relu")
relu6 = op(jax.nn.relu6, "x")
selu = float_op(jax.nn.selu, "x")
sigmoid = float_op(jax.nn.sigmoid, "x")
silu = swish = float_op(jax.nn.silu, "x", "silu")
softplus = float_op(jax.nn.softplus, "x")
softsign = float_op(jax.nn.soft_sign, "x", "softsign")
sparse_plus = float_op(jax.nn.sparse_plus, "x")
sparse_sigmoid = float_op(jax.nn.sparse_sigmoid, "x")
squareplus = float_op(jax.nn.squareplus, "x; b=4")
tanh_shrink = float_op(lambda x: x - jnp.tanh(x), "x", "tanh_shrink")


@float_op
def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    """`x` where its size exceeds the threshold, else 0."""
    return jnp.where(jnp.abs(x) > threshold, x, 0)


@float_op
def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    """`x` moved towards 0 by the threshold, at most to 0."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)


@float_op
def threshold(x: Array, threshold: float, default_value: float) -> Array:
    """`x` where it exceeds the threshold, else the default value."""
    return jnp.where(x > threshold, x, default_value)


def _over_axes(function: Any, x: Array, axis: Any) -> Array:
    """Apply a function of one axis to several as if they were one; None means all."""
    if isinstance(axis, int):
        return function(x, axis)
    axes = tuple(range(x.ndim)) if axis is None else axis
    last = tuple(range(-len(axes), 0))
    moved = jnp.moveaxis(x, axes, last)
    return jnp.moveaxis(
        function(moved.reshape(*moved.shape[: -len(axes)], -1), -1).reshape(moved.shape), last, axes
    )


@float_op
def softmax(x: Array, axis: Any = -1) -> Array:
    """Positive numbers that sum to 1 along the axis (or the axes together)."""
    return _over_axes(jax.nn.softmax, x, axis)


@float_op
def log_softmax(x: Array, axis: Any = -1) -> Array:
    """The logarithm of the softmax."""
    return _over_axes(jax.nn.log_softmax, x, axis)


@float_op
def sparsemax(x: Array, axis: int = -1) -> Array:
    """The point of the simplex nearest to `x`; many of its coordinates are 0.

    Source: Martins and Astudillo 2016, "From Softmax to Sparsemax".
    """
    z = jnp.moveaxis(x, axis, -1)
    ordered = jnp.flip(jnp.sort(z, axis=-1), axis=-1)
    rank = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    partial = jnp.cumsum(ordered, axis=-1)
    supported = 1 + rank * ordered > partial
    size = jnp.sum(supported, axis=-1, keepdims=True)
    surplus = (jnp.take_along_axis(partial, size - 1, axis=-1) - 1) / size
    return jnp.moveaxis(jnp.maximum(z - surplus, 0).astype(x.dtype), -1, axis)


# -- convolution -------------------------------------------------------------------------------------------------------
def _each(value: Any, rank: int) -> tuple[int, ...]:
    """One number for every spatial axis."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _convolve(
    x: Array, kernel: Array, strides: Any, padding: str, data_format: Any, dilation: Any, groups: int
) -> Array:
    rank = x.ndim - 2
    return convolve(
        x,
        kernel.astype(jnp.promote_types(x.dtype, kernel.dtype)),
        strides=_each(strides, rank),
        padding=padding,
        dilation=_each(dilation, rank),
        groups=groups,
        channels_first=standardize_data_format(data_format) == "channels_first",
    )


def _channels(x: Array, data_format: str | None) -> int:
    return x.shape[1 if standardize_data_format(data_format) == "channels_first" else -1]


@op
def conv(
    inputs: Array,
    kernel: Array,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """Convolution over 1, 2 or 3 spatial axes, in groups if the kernel takes fewer channels than there are.

    Args:
        inputs: (batch, *space, channels), or channels first.
        kernel: (*space, channels of one group, filters).
        strides: One number, or one per spatial axis.
        dilation_rate: Likewise.
        padding: `"valid"` or `"same"`.
        data_format: Where the channels are.
    """
    channels = _channels(inputs, data_format)
    if channels % kernel.shape[-2]:
        raise ArgumentError(
            f"conv was given {channels} channels and a kernel for {kernel.shape[-2]}; it can't be grouped.",
            do="make the channels a multiple of the kernel's last axis but one",
        )
    return _convolve(
        inputs, kernel, strides, padding, data_format, dilation_rate, channels // kernel.shape[-2]
    )


@op
def depthwise_conv(
    inputs: Array,
    kernel: Array,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """Convolution of each channel by itself.

    Args:
        inputs: (batch, *space, channels), or channels first.
        kernel: (*space, channels, multiplier).
        strides: One number, or one per spatial axis.
        dilation_rate: Likewise.
        padding: `"valid"` or `"same"`.
        data_format: Where the channels are.
    """
    *space, channels, multiplier = kernel.shape
    kernel = kernel.reshape(*space, 1, channels * multiplier)
    return _convolve(inputs, kernel, strides, padding, data_format, dilation_rate, channels)


@op
def separable_conv(
    inputs: Array,
    depthwise_kernel: Array,
    pointwise_kernel: Array,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """A depthwise convolution, then one of size 1 that mixes the channels."""
    mixed = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(mixed, pointwise_kernel, 1, "valid", data_format)


@op
def conv_transpose(
    inputs: Array,
    kernel: Array,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """The transpose of a convolution, which enlarges by the strides.

    Args:
        inputs: (batch, *space, channels), or channels first.
        kernel: (*space, filters, channels).
        strides: One number, or one per spatial axis.
        dilation_rate: Likewise.
        padding: `"valid"` or `"same"`.
        output_padding: Cells added at the end of each spatial axis; None for a size of `strides` times the input's.
        data_format: Where the channels are.
    """
    rank = inputs.ndim - 2
    strides, dilation = _each(strides, rank), _each(dilation_rate, rank)
    extra = (None,) * rank if output_padding is None else _each(output_padding, rank)
    pads = [
        _transposed_padding(padding.lower(), *sizes)
        for sizes in zip(kernel.shape, strides, dilation, extra, strict=False)
    ]
    return convolve_transposed(
        inputs,
        kernel.astype(jnp.promote_types(inputs.dtype, kernel.dtype)),
        strides=strides,
        padding=tuple(pads),
        dilation=dilation,
        channels_first=standardize_data_format(data_format) == "channels_first",
    )


def _transposed_padding(
    padding: str, size: int, stride: int, dilation: int, extra: int | None
) -> tuple[int, int]:
    """What to pad the spread-out input by, before and after."""
    reach = (size - 1) * dilation
    if padding == "valid":
        return reach, reach + (builtins.max(stride - size, 0) if extra is None else extra)
    if extra is None:
        total = reach + stride - 1
        before = reach if stride > reach else -(-total // 2)
        return before, total - before
    cut = size // 2
    return reach - cut + -(-extra // 2), reach - cut + extra // 2


# -- pooling -----------------------------------------------------------------------------------------------------------
def _pool(x: Array, mode: str, size: Any, strides: Any, padding: str, data_format: str | None) -> Array:
    rank = x.ndim - 2
    around = (
        (lambda n: (1, 1, *n))
        if standardize_data_format(data_format) == "channels_first"
        else (lambda n: (1, *n, 1))
    )
    window = around(_each(size, rank))
    return pool(x, mode, window, around(_each(strides if strides is not None else size, rank)), padding)


@op
def max_pool(
    inputs: Array, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Array:
    """The largest value in each window over the spatial axes; `strides` None means the pool size."""
    return _pool(inputs, "max", pool_size, strides, padding, data_format)


@float_op
def average_pool(
    inputs: Array, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Array:
    """The mean of each window over the spatial axes; padding doesn't count."""
    total = _pool(inputs, "sum", pool_size, strides, padding, data_format)
    if padding.lower() == "valid":
        return total / np.prod(_each(pool_size, inputs.ndim - 2))
    return total / _pool(jnp.ones_like(inputs), "sum", pool_size, strides, padding, data_format)


def _adaptive(reduce: Any, x: Array, output_size: Any, data_format: str | None) -> Array:
    """Reduce each spatial axis to a given size by windows of nearly equal length, one axis after the other."""
    first = 2 if standardize_data_format(data_format) == "channels_first" else 1
    for axis, size in enumerate(_each(output_size, x.ndim - 2), first):
        length = x.shape[axis]
        bounds = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        x = jnp.stack(
            [reduce(lax.slice_in_dim(x, low, high, axis=axis), axis=axis) for low, high in bounds], axis
        )
    return x


@float_op
def adaptive_average_pool(inputs: Array, output_size: Any, data_format: str | None = None) -> Array:
    """Mean pooling to a given size."""
    return _adaptive(jnp.mean, inputs, output_size, data_format)


@op
def adaptive_max_pool(inputs: Array, output_size: Any, data_format: str | None = None) -> Array:
    """Maximum pooling to a given size."""
    return _adaptive(jnp.max, inputs, output_size, data_format)


# -- encoding ----------------------------------------------------------------------------------------------------------
@op
def one_hot(
    x: Array, num_classes: int, axis: int = -1, dtype: str | None = None, sparse: bool = False
) -> Array:
    """1 at the place of each class number and 0 elsewhere, on a new axis; numbers out of range give zeros only."""
    return jax.nn.one_hot(x, num_classes, axis=axis, dtype=dtype or floatx())


@op
def multi_hot(
    inputs: Array,
    num_classes: Any = None,
    axis: int = -1,
    dtype: str | None = None,
    sparse: bool = False,
) -> Array:
    """1 at the places of all class numbers along the last axis (of one example, or of each of a batch), 0 elsewhere."""
    hot = jax.nn.one_hot(inputs, num_classes, axis=axis, dtype=dtype or floatx())
    return jnp.max(hot, axis=1 if inputs.ndim > 1 else 0)


# -- losses ------------------------------------------------------------------------------------------------------------
def _clipped(probabilities: Array) -> Array:
    return jnp.clip(probabilities, default_epsilon(), 1 - default_epsilon())


def _log_probabilities(output: Array, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return jax.nn.log_softmax(output, axis=axis)
    return jnp.log(_clipped(output / jnp.sum(output, axis=axis, keepdims=True)))


@float_op
def categorical_crossentropy(
    target: Array, output: Array, from_logits: bool = False, axis: int = -1
) -> Array:
    """Cross-entropy of predicted classes with target probabilities; the class axis goes.

    Raises:
        ArgumentError: The shapes differ.
    """
    if target.shape != output.shape:
        raise ArgumentError(
            f"categorical_crossentropy was given targets {target.shape} and predictions {output.shape}.",
            do="make the targets one-hot, or use sparse_categorical_crossentropy for class numbers",
        )
    return -jnp.sum(target * _log_probabilities(output, from_logits, axis), axis=axis)


@op
def sparse_categorical_crossentropy(
    target: Array, output: Array, from_logits: bool = False, axis: int = -1
) -> Array:
    """Cross-entropy of predicted classes with target class numbers; the class axis goes."""
    target = target.astype("int32")
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = jnp.squeeze(target, axis=-1)
    hot = jax.nn.one_hot(target, output.shape[axis], axis=axis, dtype=output.dtype)
    return -jnp.sum(hot * _log_probabilities(output, from_logits, axis), axis=axis)


@float_op
def binary_crossentropy(target: Array, output: Array, from_logits: bool = False) -> Array:
    """Cross-entropy of predicted probabilities with target probabilities, element by element."""
    if from_logits:
        return -(target * jax.nn.log_sigmoid(output) + (1 - target) * jax.nn.log_sigmoid(-output))
    output = _clipped(output)
    return -(target * jnp.log(output) + (1 - target) * jnp.log(1 - output))


@op
def ctc_loss(
    target: Array, output: Array, target_length: Array, output_length: Array, mask_index: int = 0
) -> Array:
    """Connectionist temporal classification loss of label sequences whose alignment is unknown.

    Args:
        target: (batch, longest target) class numbers.
        output: (batch, time, classes) logits.
        target_length: (batch,) how many labels are meant.
        output_length: (batch,) how many time steps are meant.
        mask_index: The blank's class number.

    Source: Graves et al. 2006, by `optax.ctc_loss`.
    """
    import optax

    def padding(lengths: Array, size: Any) -> Array:
        return (jnp.arange(size) >= lengths[:, None]).astype(output.dtype)

    return optax.ctc_loss(
        output,
        padding(output_length, output.shape[1]),
        target,
        padding(target_length, target.shape[1]),
        blank_id=mask_index,
    )


@op
def ctc_decode(
    inputs: Array,
    sequence_lengths: Array,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Array, Array]:
    """Label sequences from what a network says at each time step, by taking the best class of each step.

    Args:
        inputs: (batch, time, classes) logits.
        sequence_lengths: (batch,) how many steps are meant.
        strategy: Only `"greedy"`.
        beam_width: For beam search, which is not offered.
        top_paths: Likewise.
        merge_repeated: Whether equal classes in a row are one label.
        mask_index: The blank's class number.

    Returns:
        Labels (1, batch, time), filled up with -1, and the negative sum of the chosen logits (batch, 1).

    Raises:
        ArgumentError: Another strategy is asked for.
    """
    if strategy != "greedy":
        raise ArgumentError(f"ctc_decode can't decode by '{strategy}'.", do="use strategy='greedy'")
    steps = jnp.arange(inputs.shape[1])
    meant = steps < sequence_lengths[:, None]
    best = jnp.argmax(inputs, axis=-1).astype("int32")
    score = -jnp.sum(jnp.where(meant, jnp.max(inputs, axis=-1), 0), axis=1, keepdims=True)
    kept = meant & (best != mask_index)
    if merge_repeated:
        kept &= jnp.pad(best[:, 1:] != best[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    order = jnp.argsort(~kept, axis=1, stable=True)
    labels = jnp.take_along_axis(jnp.where(kept, best, -1), order, axis=1)
    return labels[None], score


# -- normalisation -----------------------------------------------------------------------------------------------------
def _in_float32(x: Array) -> Array:
    """Squares of 16-bit numbers overflow, so statistics are taken in 32 bits."""
    return x.astype("float32") if x.dtype == jnp.float16 else x


@float_op
def moments(x: Array, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[Array, Array]:
    """Mean and variance over the axes."""
    wide = _in_float32(x)
    mean = jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(wide), axes, keepdims=True) - jnp.square(mean)
    variance = jnp.maximum(variance, 0)
    if not keepdims:
        mean, variance = jnp.squeeze(mean, axes), jnp.squeeze(variance, axes)
    return mean.astype(x.dtype), variance.astype(x.dtype)


def _along(vector: Any, axis: Any, x: Array) -> Any:
    """A vector shaped so that it lies along these axes of `x`."""
    if vector is None:
        return None
    axes = {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    return vector.reshape([size if a in axes else 1 for a, size in enumerate(x.shape)])


@op
def batch_normalization(
    x: Array,
    mean: Array,
    variance: Array,
    axis: int,
    offset: Array | None = None,
    scale: Array | None = None,
    epsilon: float = 1e-3,
) -> Array:
    """Normalise with given statistics, which lie along `axis`, as `scale` and `offset` do."""
    factor = lax.rsqrt(_along(variance, axis, x) + epsilon)
    if scale is not None:
        factor = factor * _along(scale, axis, x)
    shift = -_along(mean, axis, x) * factor
    if offset is not None:
        shift = shift + _along(offset, axis, x)
    return (x * factor + shift).astype(x.dtype)


@float_op
def layer_normalization(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    axis: Any = -1,
    epsilon: float | None = None,
    rms_scaling: bool = False,
) -> Array:
    """Normalise each example over the axes, then scale and shift along them.

    Source: Ba et al. 2016, "Layer Normalization".
    """
    wide = _in_float32(x)
    variance = jnp.var(wide, axis, keepdims=True)
    factor = lax.rsqrt(variance + (default_epsilon() if epsilon is None else epsilon))
    if gamma is not None:
        factor = factor * _along(gamma, axis, x)
    made = wide * factor if rms_scaling else (wide - jnp.mean(wide, axis, keepdims=True)) * factor
    if beta is not None and not rms_scaling:
        made = made + _along(beta, axis, x)
    return made.astype(x.dtype)


@float_op
def rms_normalization(
    x: Array, scale: Array | None = None, axis: Any = -1, epsilon: float | None = None
) -> Array:
    """Divide by the root of the mean square over the axes.

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
    """
    wide = _in_float32(x)
    square = jnp.mean(jnp.square(wide), axis, keepdims=True)
    made = wide * lax.rsqrt(square + (default_epsilon() if epsilon is None else epsilon))
    return (made if scale is None else made * _along(scale, axis, x)).astype(x.dtype)


@float_op
def normalize(x: Array, axis: Any = -1, order: Any = 2, epsilon: float | None = None) -> Array:
    """Divide by the norm along the axis, which is taken to be at least `epsilon`."""
    least = default_epsilon() if epsilon is None else epsilon
    if order == 2:
        return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=axis, keepdims=True), least**2))
    return x / jnp.maximum(jnp.linalg.norm(x, order, axis, keepdims=True), least)


# -- attention ---------------------------------------------------------------------------------------------------------
@op
def dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    scale: Value = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Array:
    """Means of the values, weighted by how well the keys fit the queries.

    Args:
        query: (batch, target length, heads, features).
        key: (batch, source length, heads, features); fewer heads are shared by groups of query heads.
        value: Of the shape of `key`.
        bias: Added to the products, broadcast to (batch, heads, target length, source length).
        mask: True where attention may go; broadcast like `bias`.
        scale: Factor of the products; 1 / sqrt(features) if None.
        is_causal: Whether each position sees only itself and what came before.
        flash_attention: Accepted as Keras has it; XLA chooses the formulation.
        attn_logits_soft_cap: Bound that the products approach by a hyperbolic tangent.

    Source: Vaswani et al. 2017, "Attention Is All You Need".
    """
    groups = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(x, groups, axis=2) if groups > 1 else x for x in (key, value))
    products = jnp.einsum(
        "bthd,bshd->bhts", query, key, preferred_element_type=jnp.promote_types(query.dtype, "float32")
    )
    products = products * (scale if scale is not None else query.shape[-1] ** -0.5)
    if bias is not None:
        products = products + bias
    if attn_logits_soft_cap is not None:
        products = attn_logits_soft_cap * jnp.tanh(products / attn_logits_soft_cap)
    allowed = [] if mask is None else [mask.astype(bool)]
    if is_causal:
        allowed.append(jnp.tril(jnp.ones(products.shape[-2:], bool)))
    for seen in allowed:
        products = jnp.where(seen, products, 0.7 * jnp.finfo(products.dtype).min)
    weights = jax.nn.softmax(products, axis=-1).astype(value.dtype)
    return jnp.einsum("bhts,bshd->bthd", weights, value).astype(query.dtype)


# -- images and parts --------------------------------------------------------------------------------------------------
@float_op
def psnr(x1: Array, x2: Array, max_val: float) -> Array:
    """Peak signal-to-noise ratio in decibels."""
    return 20 * jnp.log10(max_val) - 10 * jnp.log10(jnp.mean(jnp.square(x1 - x2)))


@op
def polar(abs_: Array, angle: Array) -> Array:
    """A complex number from its size and angle."""
    return lax.complex(abs_ * jnp.cos(angle), abs_ * jnp.sin(angle))


def _channels_last(function: Any, x: Array, data_format: str) -> Array:
    if data_format == "channels_last":
        return function(x)
    return jnp.moveaxis(function(jnp.moveaxis(x, 1, -1)), -1, 1)


@op
def depth_to_space(x: Array, block_size: int, data_format: str = "channels_last") -> Array:
    """Channels spread over blocks of pixels."""

    def spread(x: Array) -> Array:
        batch, height, width, channels = x.shape
        depth = channels // block_size**2
        blocks = x.reshape(batch, height, width, block_size, block_size, depth).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, height * block_size, width * block_size, depth)

    return _channels_last(spread, x, data_format)


@op
def space_to_depth(x: Array, block_size: int, data_format: str = "channels_last") -> Array:
    """Blocks of pixels gathered into channels."""

    def gather(x: Array) -> Array:
        batch, height, width, channels = x.shape
        blocks = x.reshape(batch, height // block_size, block_size, width // block_size, block_size, channels)
        blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, height // block_size, width // block_size, channels * block_size**2)

    return _channels_last(gather, x, data_format)


def _unfolded(x: Array, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Array:
    size, dilation, padding, stride = (_each(n, 2) for n in (kernel_size, dilation, padding, stride))
    patches = lax.conv_general_dilated_patches(
        x, size, stride, [(p, p) for p in padding], rhs_dilation=dilation
    )
    return patches.reshape(*patches.shape[:2], -1)


@op
def unfold(x: Array, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """Windows of images as columns: (batch, channels, height, width) -> (batch, channels x window, windows)."""
    return _unfolded(x, kernel_size, dilation, padding, stride)


@float_op
def fold(
    x: Array, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """The transpose of `unfold`: columns added up where windows overlap."""
    height, width = _each(kernel_size, 2)
    image = jax.ShapeDtypeStruct(
        (x.shape[0], x.shape[1] // (height * width), *_each(output_size, 2)), x.dtype
    )
    (images,) = jax.linear_transpose(lambda y: _unfolded(y, kernel_size, dilation, padding, stride), image)(x)
    return images
