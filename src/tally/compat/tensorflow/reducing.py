"""Functions over axes: sums, means, largest values, order."""

from collections import namedtuple
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally import ops
from tally.compat.names import like, named
from tally.compat.tensorflow.making import cast, tensor
from tally.compat.tensors import settle
from tally.core.errors import ArgumentError
from tally.ops.definition import op

_REDUCED = "input_tensor, axis=None, keepdims=False"

for _paths, _op in (
    ("reduce_sum math.reduce_sum", ops.sum),
    ("reduce_max math.reduce_max", ops.max),
    ("reduce_min math.reduce_min", ops.min),
    ("reduce_prod math.reduce_prod", ops.prod),
    ("reduce_all math.reduce_all", ops.all),
    ("reduce_any math.reduce_any", ops.any),
    ("reduce_logsumexp math.reduce_logsumexp", ops.logsumexp),
    ("math.reduce_std", ops.std),
    ("math.reduce_variance", ops.var),
):
    like(_paths, _op, _REDUCED)


@named("reduce_mean math.reduce_mean")
def reduce_mean(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean; of whole numbers a whole number, cut towards zero."""
    x = tensor(input_tensor)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return ops.mean(x, axis, keepdims)
    total = ops.sum(x, axis, keepdims)
    count = ops.sum(ops.ones_like(x), axis, keepdims)
    return ops.cast(ops.trunc(ops.divide(total, count)), x.dtype)


@named("math.reduce_euclidean_norm")
def reduce_euclidean_norm(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The root of the sum of squares."""
    return ops.sqrt(ops.sum(ops.square(input_tensor), axis, keepdims))


@named("math.count_nonzero")
def count_nonzero(input: Any, axis: Any = None, keepdims: bool | None = None, dtype: Any = "int64") -> Any:
    """How many numbers are not 0."""
    hits = cast(ops.not_equal(input, 0), dtype)
    return ops.sum(hits, axis, bool(keepdims))


@named("math.zero_fraction nn.zero_fraction")
def zero_fraction(value: Any) -> Any:
    """The share of zeros."""
    return ops.mean(ops.cast(ops.equal(value, 0), "float32"))


@named("argmax math.argmax")
def argmax(input: Any, axis: int | None = None, output_type: Any = "int64") -> Any:
    """The place of the largest number along an axis, the first one unless told."""
    return ops.cast(ops.argmax(input, 0 if axis is None else axis), settle(output_type))


@named("argmin math.argmin")
def argmin(input: Any, axis: int | None = None, output_type: Any = "int64") -> Any:
    """The place of the smallest number along an axis, the first one unless told."""
    return ops.cast(ops.argmin(input, 0 if axis is None else axis), settle(output_type))


@op
def _running(x: jax.Array, axis: int, exclusive: bool, reverse: bool, product: bool) -> jax.Array:
    x = jnp.flip(x, axis) if reverse else x
    if exclusive:
        shifted = jnp.roll(x, 1, axis)
        first = jnp.expand_dims(
            jnp.arange(x.shape[axis]) == 0, [i for i in range(x.ndim) if i != axis % x.ndim]
        )
        x = jnp.where(first, jnp.asarray(1 if product else 0, x.dtype), shifted)
    made = jnp.cumprod(x, axis) if product else jnp.cumsum(x, axis)
    return jnp.flip(made, axis) if reverse else made


@named("cumsum math.cumsum")
def cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """The sum of what came before along an axis, each number itself included unless `exclusive`."""
    return _running(x, axis, exclusive, reverse, False)


@named("math.cumprod")
def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """The product of what came before along an axis, each number itself included unless `exclusive`."""
    return _running(x, axis, exclusive, reverse, True)


# -- order -------------------------------------------------------------------------------------------------------------
TopK = namedtuple("TopK", ("values", "indices"))


@named("math.top_k nn.top_k")
def top_k(input: Any, k: int = 1, sorted: bool = True) -> TopK:
    """The largest numbers along the last axis, and their places."""
    return TopK(*ops.top_k(tensor(input), int(k), sorted))


@named("math.in_top_k nn.in_top_k")
def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    """Whether each target's prediction is among the `k` highest of its row."""
    return ops.in_top_k(targets, predictions, k)


def _descends(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ArgumentError(f"'{direction}' is no direction.", do="use 'ASCENDING' or 'DESCENDING'")
    return direction == "DESCENDING"


@named("sort")
def sort(values: Any, axis: int = -1, direction: str = "ASCENDING") -> Any:
    """The numbers in order along an axis."""
    made = ops.sort(values, axis)
    return ops.flip(made, axis) if _descends(direction) else made


@named("argsort")
def argsort(values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False) -> Any:
    """The places of the numbers in order along an axis."""
    del stable  # it always is
    x = tensor(values)
    return ops.cast(ops.argsort(ops.negative(x) if _descends(direction) else x, axis), "int32")


@named("searchsorted")
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = "int32") -> Any:
    """Where each value would have to be put into a sorted vector."""
    return ops.cast(ops.searchsorted(sorted_sequence, values, side), settle(out_type))


Unique = namedtuple("Unique", ("y", "idx"))


@named("unique")
def unique(x: Any, out_idx: Any = "int32") -> Unique:
    """The distinct values in the order they come, and for each value which of them it is."""
    del out_idx
    values, first, inverse = np.unique(np.asarray(x), return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Unique(tensor(values[order]), tensor(place[inverse].astype("int32")))


# -- segments ----------------------------------------------------------------------------------------------------------
def _segments(reduce: Any, data: Any, segment_ids: Any, count: int, empty: Any) -> Any:
    """Reduce the rows that have the same number, and put a value where no row has it."""
    x, ids = tensor(data), tensor(segment_ids)
    rows = ops.segment_sum(jnp.ones(ids.shape, "int32"), ids, count)
    made = reduce(x, ids, count)
    filled = jnp.asarray(empty(made.dtype), made.dtype)
    return ops.where(ops.reshape(ops.equal(rows, 0), (-1,) + (1,) * (made.ndim - 1)), filled, made)


def _limits(dtype: Any) -> Any:
    return jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype)


for _word, _op, _empty in (
    ("max", ops.segment_max, lambda dtype: _limits(dtype).min),
    ("min", ops.segment_min, lambda dtype: _limits(dtype).max),
    ("prod", ops.segment_prod, lambda dtype: 1),
    ("sum", ops.segment_sum, lambda dtype: 0),
):
    like(
        f"math.unsorted_segment_{_word}",
        lambda data, ids, count, op=_op, empty=_empty: _segments(op, data, ids, int(count), empty),
        "data, segment_ids, num_segments",
    )
    like(
        f"math.segment_{_word}",
        lambda data, ids, op=_op, empty=int(_word == "prod"): _segments(
            op, data, ids, int(np.max(ids)) + 1, lambda dtype: empty
        ),
        "data, segment_ids",
    )
