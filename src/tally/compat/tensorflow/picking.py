"""Parts of tensors picked by place, and values put at places."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally import ops
from tally.compat.names import named
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import known, sizes
from tally.core.errors import ArgumentError
from tally.core.symbol import KerasTensor
from tally.ops.definition import Array, op


def check_places(indices: Any, limits: Any, what: str) -> None:
    """Refuse places outside a tensor, which JAX would quietly move or fill; while a function is traced, nobody knows.

    Args:
        indices: (..., number of axes), or anything if there is one limit.
        limits: The sizes of the axes.
        what: What is being done, for the error.

    Raises:
        ArgumentError: A place is negative, or not below its limit.
    """
    if isinstance(indices, Tracer | KerasTensor):
        return
    places, ends = np.asarray(indices), np.asarray(limits)
    outside = (places < 0) | (places >= ends)
    if outside.any():
        at = tuple(int(place) for place in np.argwhere(outside)[0])
        raise ArgumentError(
            f"{what} was given the index {places[at]}, which is not in [0, {np.broadcast_to(ends, places.shape)[at]}).",
            do="count places from 0; tf.gather and its relatives don't count from the end",
        )


@op
def _take(params: Array, indices: Array, axis: int, batch_dims: int) -> Array:
    if batch_dims == 0:
        return jnp.take(params, indices, axis=axis, mode="clip")
    inner = lambda p, i: _take.__wrapped__(p, i, axis=axis - 1, batch_dims=batch_dims - 1)
    return jax.vmap(inner)(params, indices)


@named("gather")
def gather(
    params: Any, indices: Any, validate_indices: Any = None, axis: int | None = None, batch_dims: int = 0
) -> Any:
    """The slices along an axis that the indices name, for each place in the first `batch_dims` axes.

    Raises:
        ArgumentError: An index is outside.
    """
    del validate_indices
    x, places = tensor(params), tensor(indices)
    where = known(batch_dims if axis is None else axis)
    where = where + x.ndim if where < 0 else where
    batch = batch_dims + places.ndim if batch_dims < 0 else batch_dims
    size = x.shape[where]
    if isinstance(size, int):
        check_places(places, size, "tf.gather")
    return _take(x, places, where, batch)


@op
def _at(params: Array, indices: Array, batch_dims: int) -> Array:
    if batch_dims == 0:
        return params[tuple(jnp.moveaxis(indices, -1, 0))]
    return jax.vmap(lambda p, i: _at.__wrapped__(p, i, batch_dims=batch_dims - 1))(params, indices)


@named("gather_nd")
def gather_nd(params: Any, indices: Any, batch_dims: int = 0) -> Any:
    """The slices that the rows of `indices` name by their place in the first axes.

    Raises:
        ArgumentError: A place is outside.
    """
    x, places = tensor(params), tensor(indices)
    check_places(places, x.shape[batch_dims : batch_dims + places.shape[-1]], "tf.gather_nd")
    return _at(x, places, batch_dims)


@named("nn.embedding_lookup")
def embedding_lookup(params: Any, ids: Any, max_norm: float | None = None) -> Any:
    """The rows of a table that the ids name, shortened to `max_norm` if one is given."""
    rows = gather(params, ids, axis=0)
    if max_norm is None:
        return rows
    norm = ops.sqrt(ops.sum(ops.square(rows), axis=-1, keepdims=True))
    return ops.divide(ops.multiply(rows, max_norm), ops.maximum(norm, max_norm))


@named("where")
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """`x` where the condition holds and `y` elsewhere; the places where it holds if neither is given."""
    if (x is None) != (y is None):
        raise ArgumentError("tf.where was given only one of x and y.", do="give both, or neither")
    if x is None:
        return jnp.argwhere(tensor(condition))
    return ops.where(condition, x, y)


@named("boolean_mask")
def boolean_mask(tensor: Any, mask: Any, axis: int | None = None) -> Any:
    """The slices where the mask holds."""
    kept = np.asarray(mask).astype(bool)
    start = axis or 0
    return ops.get_item(tensor, (*(slice(None),) * start, kept))


@named("slice")
def slice_(input_: Any, begin: Any, size: Any) -> Any:
    """A block: where it starts, and how large it is (-1: to the end of the axis)."""
    starts = [start if isinstance(start, Tracer) else known(start) for start in begin]
    return ops.slice(tensor(input_), starts, sizes(size))


# -- putting -----------------------------------------------------------------------------------------------------------
@named("scatter_nd")
def scatter_nd(indices: Any, updates: Any, shape: Any) -> Any:
    """Zeros to which updates are added at the places that the rows of `indices` name."""
    places, wanted = tensor(indices), sizes(shape)
    check_places(places, wanted[: places.shape[-1]], "tf.scatter_nd")
    return ops.scatter(places, tensor(updates), wanted)


def _put(word: str, reduction: str | None) -> None:
    def put_at(tensor_: Any, indices: Any, updates: Any) -> Any:
        x, places = tensor(tensor_), tensor(indices)
        check_places(places, x.shape[: places.shape[-1]], f"tf.tensor_scatter_nd_{word}")
        given = ops.negative(updates) if word == "sub" else tensor(updates)
        return ops.scatter_update(x, places, given, reduction)

    def call(tensor: Any, indices: Any, updates: Any) -> Any:
        return put_at(tensor, indices, updates)

    call.__name__ = f"tensor_scatter_nd_{word}"
    named(f"tensor_scatter_nd_{word}")(call)


for _word, _reduction in (("update", None), ("add", "add"), ("sub", "add"), ("max", "max"), ("min", "min")):
    _put(_word, _reduction)
