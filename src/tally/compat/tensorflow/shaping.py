"""Tensors in other shapes: joined, split, padded, turned."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from tally import ops
from tally.compat.names import like, named
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import Sizes, known, listed, sizes, sizes_of
from tally.core.errors import ArgumentError
from tally.core.symbol import leaves

like("expand_dims", lambda x, axis: ops.expand_dims(x, known(axis)), "input, axis")
like("roll", ops.roll, "input, shift, axis")
like("repeat", ops.repeat, "input, repeats, axis=None")


@named("reshape")
def reshape(tensor: Any, shape: Any) -> Any:
    """The numbers in another shape; -1 is the size that is left."""
    return ops.reshape(tensor, sizes(shape))


@named("transpose")
def transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    """The axes in another order, the reverse one unless told."""
    made = ops.transpose(a, None if perm is None else sizes(perm))
    return ops.conj(made) if conjugate else made


@named("squeeze")
def squeeze(input: Any, axis: Any = None) -> Any:
    """Without the axes of size 1, or without those named."""
    axes = None if axis is None or (isinstance(axis, list | tuple) and not axis) else sizes(axis)
    return ops.squeeze(input, axes)


@named("broadcast_to")
def broadcast_to(input: Any, shape: Any) -> Any:
    """The tensor repeated to a shape."""
    return ops.broadcast_to(tensor(input), sizes(shape))


@named("tile")
def tile(input: Any, multiples: Any) -> Any:
    """The tensor repeated along each axis."""
    return ops.tile(input, sizes(multiples))


def _are_sizes(values: Any) -> bool:
    """Whether what is to be joined is a shape being put together, which stays known while a function is traced."""
    found = leaves(values)
    return any(isinstance(one, Sizes) for one in found) and all(
        one is None or isinstance(one, int | np.integer | np.ndarray) for one in found
    )


@named("concat")
def concat(values: Any, axis: Any) -> Any:
    """Tensors one behind the other on an axis."""
    if _are_sizes(values):
        return sizes_of(size for one in values for size in listed(one))
    parts = values if isinstance(values, list | tuple) else [values]
    return ops.concatenate([tensor(part) for part in parts], known(axis))


@named("stack")
def stack(values: Any, axis: int = 0) -> Any:
    """Tensors of one shape on a new axis."""
    if _are_sizes(values) and all(np.ndim(one) == 0 for one in values):
        return sizes_of(known(one) for one in values)
    return ops.stack([tensor(part) for part in values], axis)


@named("unstack")
def unstack(value: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    """The slices along an axis."""
    if isinstance(value, Sizes):
        return [value[i] for i in range(len(value))]
    return list(ops.unstack(value, num, axis))


@named("split")
def split(value: Any, num_or_size_splits: Any, axis: int = 0, num: int | None = None) -> list[Any]:
    """Equal parts along an axis, or parts of the sizes given; -1 is the size that is left."""
    del num
    x = tensor(value)
    if np.ndim(num_or_size_splits) == 0:
        count, size = int(num_or_size_splits), x.shape[axis]
        if isinstance(size, int) and size % count:
            raise ArgumentError(f"An axis of size {size} has no {count} equal parts.", do="give the sizes")
        return list(ops.split(x, count, axis))
    parts = list(sizes(num_or_size_splits))
    if -1 in parts:
        parts[parts.index(-1)] = x.shape[axis] - sum(part for part in parts if part != -1)
    if sum(parts) != x.shape[axis]:
        raise ArgumentError(f"Parts of {parts} don't add up to the axis of size {x.shape[axis]}.")
    return list(ops.split(x, tuple(int(end) for end in np.cumsum(parts)[:-1]), axis))


@named("reverse")
def reverse(tensor: Any, axis: Any) -> Any:
    """The order along the axes turned round."""
    return ops.flip(tensor, sizes(axis))


@named("pad")
def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    """Numbers added before and after each axis: constant ones, or those inside reflected.

    Raises:
        ArgumentError: The mode is none of `"CONSTANT"`, `"REFLECT"` and `"SYMMETRIC"`.
    """
    modes = {"CONSTANT": "constant", "REFLECT": "reflect", "SYMMETRIC": "symmetric"}
    if mode.upper() not in modes:
        raise ArgumentError(f"tf.pad has no mode '{mode}'.", do=f"use one of {', '.join(modes)}")
    widths = tuple((known(before), known(after)) for before, after in listed(paddings))
    fill = constant_values if mode.upper() == "CONSTANT" else None
    return ops.pad(tensor, widths, modes[mode.upper()], fill)


@named("ensure_shape")
def ensure_shape(x: Any, shape: Any) -> Any:
    """The tensor itself, if it has that shape.

    Raises:
        ShapeError: It has another.
    """
    from tally.compat.tensors import TensorShape

    TensorShape(x.shape).assert_is_compatible_with(shape)
    return x


@named("linalg.matrix_transpose")
def matrix_transpose(a: Any, conjugate: bool = False) -> Any:
    """The last two axes exchanged."""
    made = ops.swapaxes(a, -1, -2)
    return ops.conj(made) if conjugate else made


@named("nn.space_to_depth")
def space_to_depth(input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    """Blocks of pixels gathered into channels."""
    return ops.space_to_depth(input, block_size, _format(data_format))


@named("nn.depth_to_space")
def depth_to_space(input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    """Channels spread over blocks of pixels."""
    return ops.depth_to_space(input, block_size, _format(data_format))


def _format(data_format: str) -> str:
    if data_format != "NHWC":
        raise ArgumentError(f"data_format '{data_format}' is not offered here.", do="use 'NHWC'")
    return "channels_last"


@named("linalg.diag")
def diag(diagonal: Any) -> Any:
    """Matrices with these numbers on the diagonal."""
    x = tensor(diagonal)
    return ops.multiply(ops.expand_dims(x, -1), jnp.eye(x.shape[-1], dtype=x.dtype))
