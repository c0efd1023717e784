"""Many small batches tested or predicted in one compiled call, as if each had had a call of its own.

A call takes tens of microseconds beside its work: arrays go in, a program starts, arrays come out. Where the work is
not far more than that, as many batches share a call as stay within bounds of memory and time. The model still sees one
batch at a time, of the size that was asked for, and in their order.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr

from tally.kernels.native import library

MOST = 128
"""Batches in a call, at most."""
BYTES = 2**21
"""Bytes of inputs and outputs in a call, at most."""
WORK = 10**9
"""Arithmetic in a call, at most: on two cores a fiftieth of a second. Ctrl-C waits for a call to end."""
_EACH = 10
"""What a number costs that no product of matrices makes, in operations: it may be an exponential."""


@dataclass(frozen=True)
class Group:
    """A compiled step for several batches of one shape.

    Attributes:
        function: Takes what a step takes, and as its last argument batches stacked along a new first axis with how many
            of them there are; None for all.
        size: How many batches are stacked.
        takes_fewer: Whether it is told how many of them there are; otherwise it takes no fewer.
    """

    function: Callable[..., Any]
    size: int
    takes_fewer: bool


class Joining:
    """Makes a step that reads a model into one for several batches of a shape.

    Args:
        step: Of `evaluate` or `predict`.
        kind: `"test"` or `"predict"`.
        arguments: What it is called with, an example of a batch last.
    """

    def __init__(self, step: Callable[..., Any], kind: str, arguments: tuple[Any, ...]) -> None:
        self.is_prediction = kind == "predict"
        # Compiled inside of other compiled functions, it is followed once for all of them.
        self._step = jax.jit(step, inline=True)
        self._jaxpr, (after, changed, told) = jax.make_jaxpr(self._step, return_shape=True)(*arguments)
        carried, values, *_, batch = arguments
        pairs = [*zip(carried, after, strict=True), *((values[i], new) for i, new in changed.items())]
        outputs = jax.tree.leaves(told)
        self.is_possible = (
            not self._jaxpr.effects
            and all((old.shape, old.dtype) == (new.shape, new.dtype) for old, new in pairs)
            and all(leaf.ndim > 0 for leaf in outputs if self.is_prediction)
            and not any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in outputs)
        )
        leaves = *jax.tree.leaves(batch), *outputs
        self._bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    @property
    def best_size(self) -> int:
        """How many batches a call best handles, a power of two."""
        work = max(1, work_of(self._jaxpr.jaxpr))
        most = int(min(MOST, BYTES // max(1, self._bytes), WORK // work))
        return 1 << (max(1, most).bit_length() - 1)

    def joined(self, size: int) -> Callable[..., Any]:
        """The step for up to so many batches. Logs are the last one's, outputs those of all, one after the other."""
        step, leading = self._step, (size,) if self.is_prediction else ()

        def steps(carried: Any, values: Any, number: Any, seed: Any, argument: Any) -> Any:
            batches, count = argument

            def make(index: Any, carried: Any, changed: dict[int, Any]) -> Any:
                now = [changed.get(i, value) for i, value in enumerate(values)]
                batch = jax.tree.map(
                    lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), batches
                )
                return step(carried, now, number + index, seed, batch)

            def body(index: Any, carry: Any) -> Any:
                carried, changed, told = carry
                carried, changed, one = make(index, carried, changed)
                if self.is_prediction:
                    put = lax.dynamic_update_index_in_dim
                    one = jax.tree.map(lambda all, new: put(all, new, index, 0), told, one)
                return carried, changed, one

            _, changed, told = jax.eval_shape(lambda: make(0, carried, {}))
            told = jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), told)
            start = carried, {index: values[index] for index in changed}, told
            carried, changed, told = lax.fori_loop(0, size if count is None else count, body, start)
            if self.is_prediction:
                told = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), told)
            return carried, changed, told

        return steps


def filled_up(batches: Any, size: int) -> Any:
    """Stacked arrays with room for so many; what is in the room is never looked at."""

    def fill(array: np.ndarray) -> np.ndarray:
        if len(array) == size:
            return array
        whole = np.zeros((size, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        return whole

    return jax.tree.map(fill, batches)


def work_of(jaxpr: Jaxpr, *, is_ours: bool = False) -> float:
    """Roughly how many operations a function makes; infinitely many where that can't be told beforehand.

    Args:
        jaxpr: The function.
        is_ours: Whether its convolutions are computed in C. In a loop XLA's own would take far longer than outside.
    """
    return sum(_work_of_equation(equation, is_ours) for equation in jaxpr.eqns)


def _work_of_equation(equation: Any, is_ours: bool) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "while" or "callback" in name or (name == "conv_general_dilated" and not is_ours):
        return math.inf
    is_ours = is_ours or (name == "linear_map" and library.is_there())
    inner = [work_of(jaxpr, is_ours=is_ours) for jaxpr in _jaxprs(params)]
    if inner:
        return (
            params["length"] * sum(inner) if name == "scan" else max(inner) if name == "cond" else sum(inner)
        )
    made = sum(math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * made * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        return 2 * made * math.prod(kernel) / kernel[params["dimension_numbers"].rhs_spec[0]]
    return _EACH * made


def _jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one
