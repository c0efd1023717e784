"""Ops on tensors as such: their shape and dtype, parts of them, and control flow."""

import builtins
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tally.core.dtype import is_floating, standardize_dtype
from tally.core.symbol import KerasTensor, map_tree
from tally.core.variable import Variable
from tally.ops.definition import Array, Value, as_tensor, op


# -- what a tensor is --------------------------------------------------------------------------------------------------
def shape(x: Any) -> tuple[Any, ...]:
    """The sizes; None where a symbolic tensor's is unknown."""
    return tuple(x.shape if hasattr(x, "shape") else np.shape(x))


def dtype(x: Any) -> str:
    """The dtype's name."""
    return standardize_dtype(x.dtype if isinstance(x, (KerasTensor, Variable)) else as_tensor(x).dtype.name)


def is_tensor(x: Any) -> bool:
    """Whether it is a JAX array or a symbolic tensor (a NumPy array or a variable is not)."""
    return isinstance(x, (jax.Array, KerasTensor))


def convert_to_numpy(x: Any) -> np.ndarray:
    """A NumPy array from a tensor, a variable, numbers or nested lists."""
    return np.asarray(x.raw if isinstance(x, Variable) else x)


@op
def convert_to_tensor(
    x: Array, dtype: str | None = None, sparse: bool | None = None, ragged: bool | None = None
) -> Array:
    """A JAX array from an array of any framework, a variable, numbers or nested lists; every tensor is dense."""
    return x if dtype is None else x.astype(dtype)


cast = op(lambda x, dtype: x.astype(dtype), "x; dtype", "cast")
stop_gradient = op(lax.stop_gradient, "variable")


@op
def saturate_cast(x: Array, dtype: str) -> Array:
    """Cast, with values beyond the new dtype's range set to its ends."""
    limits = jnp.finfo(dtype) if is_floating(dtype) else jnp.iinfo(dtype) if dtype != "bool" else None
    if limits is None:
        return x.astype(dtype)
    here = jnp.finfo(x.dtype) if is_floating(x.dtype) else jnp.iinfo(x.dtype if x.dtype != bool else "uint8")
    low, high = builtins.max(limits.min, here.min), builtins.min(limits.max, here.max)
    return jnp.clip(x.astype("uint8") if x.dtype == bool else x, low, high).astype(dtype)


# -- parts -------------------------------------------------------------------------------------------------------------
@op
def unstack(x: Array, num: int | None = None, axis: int = 0) -> list[Array]:
    """The slices along an axis."""
    return [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(num or x.shape[axis])]


@op
def slice(inputs: Array, start_indices: Value, shape: Any) -> Array:
    """A block of a tensor: where it starts and how large it is (-1: to the end of the axis)."""
    sizes = [
        inputs.shape[axis] - start_indices[axis] if isinstance(size, int) and size == -1 else size
        for axis, size in enumerate(shape)
    ]
    return lax.dynamic_slice(inputs, _indices(start_indices), sizes)


@op
def slice_update(inputs: Array, start_indices: Value, updates: Array) -> Array:
    """The tensor with a block replaced."""
    return lax.dynamic_update_slice(inputs, updates.astype(inputs.dtype), _indices(start_indices))


def _indices(starts: Any) -> list[Any]:
    return [jnp.asarray(start, "int32") for start in starts]


@op
def scatter(indices: Array, values: Array, shape: Any) -> Array:
    """A tensor of zeros to which values are added at the places that the rows of `indices` name."""
    return jnp.zeros(shape, values.dtype).at[_places(indices)].add(values)


@op
def scatter_update(inputs: Array, indices: Array, updates: Array, reduction: str | None = None) -> Array:
    """The tensor with values put at the places that the rows of `indices` name.

    Args:
        inputs: The tensor.
        indices: (number of places, leading axes indexed).
        updates: One value, or block, per place.
        reduction: None replaces; `"add"`, `"mul"`, `"max"`, `"min"` combine with what is there.
    """
    method = str({None: "set", "mul": "multiply"}.get(reduction, reduction))
    return getattr(inputs.at[_places(indices)], method)(updates.astype(inputs.dtype))


def _places(indices: Array) -> tuple[Array, ...]:
    return tuple(jnp.moveaxis(indices, -1, 0))


# -- control flow ------------------------------------------------------------------------------------------------------
@op
def cond(pred: Array, true_fn: Value, false_fn: Value) -> Any:
    """The result of one function or the other, decided by a boolean scalar."""
    return lax.cond(pred, true_fn, false_fn)


@op
def switch(index: Array, branches: Value, *operands: Value) -> Any:
    """The result of the branch of that number, called with the operands."""
    return lax.switch(index, branches, *operands)


@op
def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Value,
    maximum_iterations: int | None = None,
) -> Any:
    """Repeat `loop_vars = body(*loop_vars)` while `cond(*loop_vars)` holds."""
    several = isinstance(loop_vars, (tuple, list))
    start = (0, map_tree(as_tensor, tuple(loop_vars) if several else (loop_vars,)))

    def advance(state: Any) -> Any:
        made = body(*state[1])
        return state[0] + 1, tuple(made) if isinstance(made, (tuple, list)) else (made,)

    def goes_on(state: Any) -> Any:
        held = cond(*state[1])
        return held if maximum_iterations is None else jnp.logical_and(held, state[0] < maximum_iterations)

    _, end = lax.while_loop(goes_on, advance, start)
    return end if several else end[0]


@op
def fori_loop(lower: Any, upper: Any, body_fun: Callable[..., Any], init_val: Value) -> Any:
    """Repeat `value = body_fun(i, value)` for i from `lower` up to, not including, `upper`."""
    return lax.fori_loop(lower, upper, body_fun, map_tree(as_tensor, init_val))


@op
def scan(
    f: Value, init: Value, xs: Value = None, length: int | None = None, reverse: bool = False, unroll: Any = 1
) -> Any:
    """Carry a state along the first axis: `carry, y = f(carry, x)`; returns the last carry and all y."""
    carry, xs = map_tree(as_tensor, (init, xs))
    return lax.scan(f, carry, xs, length, reverse, unroll)


@op
def associative_scan(f: Value, elems: Value, reverse: bool = False, axis: int = 0) -> Any:
    """All partial results of an associative function of two arguments, in parallel."""
    return lax.associative_scan(f, map_tree(as_tensor, elems), reverse, axis)


@op
def map(f: Value, xs: Value) -> Any:
    """Apply a function to each slice along the first axis, one after the other."""
    return lax.map(f, map_tree(as_tensor, xs))


@op
def vectorized_map(function: Callable[..., Any], elements: Value) -> Any:
    """Apply a function to each slice along the first axis, all at once."""
    return jax.vmap(function)(map_tree(as_tensor, elements))


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that returns `(result, gradient function)`, so that the second is used to differentiate.

    Args:
        f: Of some arrays. The gradient function takes the gradient from above and returns one gradient per array.
    """
    return jax.custom_gradient(f)
