"""Tensors from values, shapes and other tensors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally import ops
from tally.compat.names import like, named, put
from tally.compat.tensors import Sizes, settle, sizes, sizes_of
from tally.core.errors import ArgumentError
from tally.core.symbol import KerasTensor, leaves
from tally.core.variable import Variable, as_array

put("newaxis", None)
put("Tensor", jax.Array)


@named("is_tensor")
def is_tensor(x: Any) -> bool:
    """Whether it is a tensor, a symbolic one or a variable."""
    return isinstance(x, jax.Array | KerasTensor | Variable)


def tensor(value: Any, dtype: Any = None) -> Any:
    """A tensor of a value: Python numbers have 32 bits, arrays keep their dtype in 32 bits at most unless asked.

    Raises:
        ArgumentError: The value is text, or a list that is no array.
    """
    if isinstance(value, KerasTensor | Variable | jax.Array):
        value = value if isinstance(value, KerasTensor) else as_array(value)
        return value if dtype is None else cast(value, dtype)
    parts = leaves(value) if isinstance(value, list | tuple) else []
    if any(isinstance(part, KerasTensor) for part in parts):
        return tensor(ops.stack([tensor(part) for part in value]), dtype)
    if any(isinstance(part, jax.Array | Variable) for part in parts):
        return tensor(jnp.asarray(jax.tree.map(tensor, value)), dtype)
    return _from_numbers(value, dtype)


def _from_numbers(value: Any, dtype: Any) -> jax.Array:
    plain = not hasattr(value, "__array__")
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind in "SU":
        settle("string")
    if array.dtype == object and not isinstance(value, Sizes):
        raise ArgumentError(
            f"A {type(value).__name__} of this form can't become a tensor.",
            do="pass numbers in a rectangular array",
        )
    if dtype is None:
        dtype = {"f": "float32"}.get(array.dtype.kind) if plain else None
        dtype = dtype or {"float64": "float32", "complex128": "complex64"}.get(array.dtype.name)
        dtype = dtype or array.dtype.name
    wanted = settle(dtype, array if np.dtype(array.dtype).kind in "iu" else None)
    return jnp.asarray(array, wanted)


@named("constant")
def constant(value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """A tensor of a value, filling a shape if one is given."""
    made = tensor(value, dtype)
    if shape is None:
        return made
    return jnp.broadcast_to(made, sizes(shape)) if made.size == 1 else made.reshape(sizes(shape))


@named("convert_to_tensor")
def convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None) -> Any:
    """A tensor of a value."""
    del dtype_hint
    return tensor(value, dtype)


@named("cast dtypes.cast")
def cast(x: Any, dtype: Any) -> Any:
    """The numbers in another dtype; towards zero where they become whole."""
    if not isinstance(x, KerasTensor | Variable | jax.Array):
        x = _from_numbers(x, None) if not isinstance(x, list | tuple) else tensor(x)
    return ops.cast(x, settle(dtype, x))


@named("saturate_cast dtypes.saturate_cast")
def saturate_cast(value: Any, dtype: Any) -> Any:
    """The numbers in another dtype, those beyond its range at its ends."""
    return ops.saturate_cast(value, settle(dtype))


@named("zeros")
def zeros(shape: Any, dtype: Any = "float32") -> jax.Array:
    """Zeros."""
    return ops.zeros(sizes(shape), settle(dtype))


@named("ones")
def ones(shape: Any, dtype: Any = "float32") -> jax.Array:
    """Ones."""
    return ops.ones(sizes(shape), settle(dtype))


@named("fill")
def fill(dims: Any, value: Any) -> jax.Array:
    """One value in a shape."""
    return jnp.broadcast_to(tensor(value), sizes(dims))


@named("zeros_like")
def zeros_like(input: Any, dtype: Any = None) -> Any:
    """Zeros of a tensor's shape."""
    return ops.zeros_like(input, None if dtype is None else settle(dtype))


@named("ones_like")
def ones_like(input: Any, dtype: Any = None) -> Any:
    """Ones of a tensor's shape."""
    return ops.ones_like(input, None if dtype is None else settle(dtype))


@named("eye linalg.eye")
def eye(num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = "float32") -> jax.Array:
    """Ones on the diagonal; one such matrix for each place in the batch shape."""
    made = ops.eye(int(num_rows), None if num_columns is None else int(num_columns), 0, settle(dtype))
    return made if batch_shape is None else jnp.broadcast_to(made, (*sizes(batch_shape), *made.shape))


@named("range")
def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None) -> jax.Array:
    """Numbers at equal distances; the limit itself is not among them."""
    if limit is None:
        start, limit = 0, start
    if dtype is None:
        kinds = [tensor(number).dtype for number in (start, limit, delta)]
        dtype = next((kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)), "int32")
    first, last, step = (
        number.item() if hasattr(number, "item") else number for number in (start, limit, delta)
    )
    return ops.arange(first, last, step, settle(dtype))


@named("linspace")
def linspace(start: Any, stop: Any, num: Any, axis: int = 0) -> jax.Array:
    """Numbers at equal distances, both ends included."""
    return ops.linspace(start, stop, int(num), axis=axis)


@named("one_hot")
def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
) -> Any:
    """The on-value (1) at the place of each index and the off-value (0) elsewhere, on a new axis."""
    given = next((value for value in (on_value, off_value) if value is not None), None)
    wanted = settle(dtype if dtype is not None else "float32" if given is None else tensor(given).dtype)
    hot = ops.one_hot(indices, int(depth), -1 if axis is None else axis, wanted)
    if given is None:
        return hot
    on, off = (default if value is None else value for value, default in ((on_value, 1), (off_value, 0)))
    return ops.cast(ops.where(ops.equal(hot, 1), on, off), wanted)


@named("sequence_mask")
def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = "bool") -> Any:
    """For each length, so many times true, then false up to `maxlen` (the greatest length unless given)."""
    lengths = tensor(lengths)
    width = int(jnp.max(lengths)) if maxlen is None else int(maxlen)
    return ops.cast(ops.less(jnp.arange(width), ops.expand_dims(lengths, -1)), settle(dtype))


@named("meshgrid")
def meshgrid(*args: Any, indexing: str = "xy") -> list[Any]:
    """Coordinates of a grid from the coordinates on its axes."""
    return list(ops.meshgrid(*args, indexing=indexing))


@named("shape")
def shape(input: Any, out_type: Any = "int32") -> Sizes:
    """The sizes, as numbers to compute with."""
    del out_type  # sizes fit 32 bits
    return sizes_of(input.shape if hasattr(input, "shape") else np.shape(input))


@named("size")
def size(input: Any, out_type: Any = "int32") -> Any:
    """The number of scalars."""
    return np.prod(shape(input, out_type)).astype("int32").view(Sizes)


@named("rank")
def rank(input: Any) -> Sizes:
    """The number of axes."""
    return np.asarray(len(shape(input)), "int32").view(Sizes)


like("identity", lambda x: tensor(x), "input")
like("stop_gradient", ops.stop_gradient, "input")
