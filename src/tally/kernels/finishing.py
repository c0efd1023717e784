"""A convolution and what comes right after it as one operation, where nothing is differentiated.

Bias, normalisation, rectifier and pooling each read and write an array as large as the convolution's output. In C they
are done to sums that are in a register or near it (`struct finish`), and what pooling drops is never written.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from tally.kernels import convolution, pooling
from tally.kernels.convolution import Geometry
from tally.kernels.linear import Arrays, LinearMap
from tally.kernels.native import convolution as native
from tally.kernels.native import library

_POOL = (1, 2, 2, 1)
_WITHIN = frozenset(("scan", "while", "cond", "jit"))
"""Equations whose own programs are read, too."""


@dataclass(frozen=True)
class Finish:
    """What becomes of a convolution's output: sums, products, two bounds, and perhaps the largest of two by two.

    Args:
        affine: `"mul"` and `"add"`, in their order.
        low: The lower bound.
        high: The upper bound.
        pools: Whether only the largest of each two by two places is kept.
    """

    affine: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    pools: bool = False

    def apply(self, y: jax.Array, others: Sequence[jax.Array]) -> jax.Array:
        """The finished output in plain operations.

        Args:
            y: `(batch, *sides, filters)`.
            others: What is added and multiplied with: each one number, or one for each filter.
        """
        for name, other in zip(self.affine, others, strict=True):
            y = y * other if name == "mul" else y + other
        y = jnp.clip(y, self.low, self.high)
        return lax.reduce_window(y, -jnp.inf, lax.max, _POOL, _POOL, "VALID") if self.pools else y

    def scale_and_shift(self, others: Sequence[jax.Array], filters: int) -> tuple[jax.Array, jax.Array]:
        """All sums and products as one of each, for each filter."""
        scale, shift = jnp.ones(filters, jnp.float32), jnp.zeros(filters, jnp.float32)
        for name, other in zip(self.affine, others, strict=True):
            along = other.reshape(-1)
            scale, shift = (scale * along, shift * along) if name == "mul" else (scale, shift + along)
        return scale, shift


@dataclass(frozen=True)
class Finished(LinearMap):
    """Input, kernel and what is added and multiplied with, to the finished output; there is nothing it is linear in."""

    geometry: Geometry
    finish: Finish

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:  # noqa: D102 - as for any map
        x, kernel, *others = residuals
        return (self.finish.apply(self.geometry.slide(x, kernel), others),)

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:  # noqa: D102
        x, kernel, *others = residuals
        if not native.computes(self.geometry, x.dtype):
            return (self.finish.apply(convolution.output(self.geometry, x, kernel), others),)
        along = self.finish.scale_and_shift(others, kernel.shape[-1])
        return (native.finished(self.geometry, x, kernel, *along, self.finish),)


def with_finished_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with each convolution that can be in C made one with what alone reads its output.

    Args:
        function: Of arrays in any structure; nothing of it will be differentiated. It is followed once per call, so it
            is to be called while something is compiled.
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu" or not library.is_there():
            return function(*arguments)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = jaxpr_as_fun(_rewritten(closed))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return run


def _rewritten(closed: ClosedJaxpr) -> ClosedJaxpr:
    return ClosedJaxpr(_rewrite(closed.jaxpr), closed.consts)


def _rewrite(jaxpr: Jaxpr) -> Jaxpr:
    """The program with finished convolutions, those of programs within it included."""
    readers: dict[Any, list[Any]] = {}
    for equation in (*jaxpr.eqns, None):
        for var in jaxpr.outvars if equation is None else equation.invars:
            if not isinstance(var, Literal):
                readers.setdefault(var, []).append(equation)
    dropped, put = set[int](), dict[int, Any]()
    for equation in jaxpr.eqns:
        geometry = _geometry_of(equation)
        if geometry is None:
            continue
        finish, others, chain = _follow(equation, readers)
        if chain:
            dropped.update(map(id, (equation, *chain)))
            kernel, x = equation.invars
            finished = Finished(geometry, finish)
            put[id(chain[-1])] = finished.in_place_of(chain[-1], [x, kernel, *others])
    equations = [
        put.get(id(eqn)) or _within(eqn) for eqn in jaxpr.eqns if id(eqn) in put or id(eqn) not in dropped
    ]
    return jaxpr.replace(eqns=equations)


def _within(equation: Any) -> Any:
    """An equation that stays: with its own programs rewritten, and max-pooling by itself as one operation."""
    window = pooling.window_of(_alone(equation, None)[0])
    if window is not None and equation.primitive.name == "custom_jvp_call":  # ours, not a user's
        return pooling.Largest(window).in_place_of(equation, equation.invars)
    if equation.primitive.name not in _WITHIN:
        return equation
    params = dict(equation.params)
    for name, value in params.items():
        if isinstance(value, ClosedJaxpr):
            params[name] = _rewritten(value)
        elif name == "branches":
            params[name] = tuple(map(_rewritten, value))
    return equation.replace(params=params)


def _geometry_of(equation: Any) -> Geometry | None:
    """Where the kernel of an equation goes, if it is a convolution that can be finished in C."""
    geometry = convolution.geometry_of(equation.params.get("map"))
    if geometry is None or geometry.is_left_to_xla or geometry.channels_first:
        return None
    if geometry.is_depthwise() and geometry.multiplier > 1:
        return None
    (made,) = equation.outvars
    is_single: bool = made.aval.dtype == jnp.float32
    return geometry if is_single and len(geometry.strides) == 2 and max(geometry.dilation) == 1 else None


def _follow(equation: Any, readers: dict[Any, list[Any]]) -> tuple[Finish, list[Any], list[Any]]:
    """What is done with a convolution's output as long as each result has one reader: how, with what, and where."""
    finish, others, chain = Finish(), [], []
    (made,) = equation.outvars
    # A bound may as well come after the largest was found.
    for taken in (_moved, _bounded, _pooled, _bounded):
        while (reader := _only(readers.get(made, []))) and (step := taken(finish, reader, made)):
            finish, other = step
            others += other
            chain.append(reader)
            (made,) = reader.outvars
    return finish, others, chain


def _only(readers: list[Any]) -> Any:
    """Who alone reads a value; None if several do, or it leaves the program."""
    return readers[0] if len(readers) == 1 else None


Step = tuple[Finish, list[Any]] | None


def _moved(finish: Finish, equation: Any, y: Any) -> Step:
    """A sum or product with one number for all places, or one for each filter."""
    name, others = equation.primitive.name, [var for var in equation.invars if var is not y]
    if name not in ("mul", "add") or len(others) != 1 or others[0].aval.dtype != y.aval.dtype:
        return None
    shape, filters = others[0].aval.shape, y.aval.shape[-1]
    is_along = math.prod(shape) == 1 or (shape[-1:] == (filters,) and math.prod(shape) == filters)
    return (replace(finish, affine=(*finish.affine, name)), others) if is_along else None


def _bounded(finish: Finish, equation: Any, y: Any) -> Step:
    """The larger or the smaller of the output and a number that is known; a lower bound first."""
    inner, y = _alone(equation, y)
    numbers = [float(var.val) for var in inner.invars if isinstance(var, Literal) and np.ndim(var.val) == 0]
    if len(numbers) != 1 or y not in inner.invars:
        return None
    if inner.primitive.name == "max" and (finish.low, finish.high) == (-math.inf, math.inf):
        return replace(finish, low=numbers[0]), []
    if inner.primitive.name == "min" and finish.low <= numbers[0] < finish.high:
        return replace(finish, high=numbers[0]), []
    return None


def _pooled(finish: Finish, equation: Any, y: Any) -> Step:
    """The largest of two by two places, side by side; the outputs of an odd side that have no partner are dropped."""
    window = pooling.window_of(_alone(equation, y)[0])
    if window is None or finish.pools or 0 in window.out_shape:
        return None
    return (replace(finish, pools=True), []) if window.sizes == _POOL and window.is_tiling() else None


def _alone(equation: Any, y: Any) -> tuple[Any, Any]:
    """The only equation of a function of one array that has a rule for its derivative, or the equation itself."""
    if equation.primitive.name != "custom_jvp_call":
        return equation, y
    inner = equation.params["call_jaxpr"].jaxpr
    is_one = len(inner.eqns) == 1 and len(inner.invars) == 1 and inner.outvars == inner.eqns[0].outvars
    return (inner.eqns[0], inner.invars[0]) if is_one else (equation, y)
