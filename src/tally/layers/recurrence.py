"""How the loop of a built-in cell is differentiated: its weights' gradients are formed once, for all steps together."""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import jax
from jax import lax

from tally.core.calling import label_of
from tally.layers.recurrent_cells import GRUCell, LSTMCell, SimpleRNNCell, StepCell

Forward = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""The loop itself: from weights, steps, states and mask to outputs and last states."""


def is_known(cell: Any) -> bool:
    """Whether a cell's step is two products, of the inputs and of the state, and a function without weights.

    A function of the user's may reach for weights of its own, which a rule for tangents doesn't see.
    """
    if type(cell) not in (SimpleRNNCell, LSTMCell, GRUCell) or getattr(cell, "reset_after", True) is False:
        return False
    functions = (cell.activation, getattr(cell, "recurrent_activation", cell.activation))
    return all(isinstance(one, FunctionType) and one.__module__.startswith("tally.") for one in functions)


def with_late_gradients(
    forward: Forward, cell: StepCell, *, projected: bool, reverse: bool, keeps_outputs: bool
) -> Forward:
    """Make a loop over steps that JAX differentiates at once what it would add up step by step.

    JAX goes back through a loop with a sum for each weight, to which every step adds a product: as many reads and
    writes of a whole kernel as there are steps. Here the loop back hands out what reaches the gates, and one product
    over all steps makes the gradient of each kernel from it. Gates are computed again rather than kept. It is a rule
    for tangents, so derivatives of any order and mode are taken of it.

    Args:
        forward: The loop.
        cell: What runs in it; `is_known` holds.
        projected: Whether the steps are multiplied by the kernel already.
        reverse: Whether the loop begins with the last step.
        keeps_outputs: Whether it gives the outputs of all steps; else there are none.
    """
    label = label_of(cell)

    @jax.custom_jvp
    def run(weights: Any, steps: Any, states: Any, seen: Any) -> tuple[Any, Any]:
        return forward(weights, steps, states, seen)

    def follow(primals: Any, tangents: Any) -> tuple[Any, Any]:
        (weights, steps, states, seen), (d_weights, d_steps, d_states, _) = primals, tangents
        kernel, recurrent_kernel, bias = weights
        d_kernel, d_recurrent_kernel, d_bias = d_weights

        def add(product: Any, bias: Any) -> Any:
            return product if bias is None else product + bias

        def step(states: Any, now: Any) -> Any:
            x, seen = now
            z = x if projected else add(x @ kernel, cell.split_bias(bias)[0])
            joined = cell.join(z, add(states[0] @ recurrent_kernel, cell.split_bias(bias)[1]))
            new = _where(seen, cell.advance(joined, states), states)
            return new, (joined, states, new[0] if keeps_outputs else None)

        last, (joined, before, outputs) = lax.scan(step, states, (steps, seen), reverse=reverse)
        d_z = d_steps
        if not projected:
            d_z = add(d_steps @ kernel + steps @ d_kernel, cell.split_bias(d_bias)[0])
        d_joined = cell.join(d_z, add(before[0] @ d_recurrent_kernel, cell.split_bias(d_bias)[1]))

        @partial(jax.checkpoint, prevent_cse=False)
        def advance(joined: Any, states: Any, d_joined: Any, d_states: Any) -> Any:
            return jax.jvp(cell.advance, (joined, states), (d_joined, d_states))[1]

        def d_step(d_states: Any, now: Any) -> Any:
            joined, states, d_joined, seen = now
            product = d_states[0] @ recurrent_kernel
            d_joined = jax.tree.map(lax.add, d_joined, cell.join(jax.numpy.zeros_like(product), product))
            d_new = _where(seen, advance(joined, states, d_joined, d_states), d_states)
            return d_new, d_new[0] if keeps_outputs else None

        d_last, d_outputs = lax.scan(d_step, d_states, (joined, before, d_joined, seen), reverse=reverse)
        return (outputs, last), (d_outputs, d_last)

    @run.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        with jax.named_scope(label):
            return follow(primals, tangents)

    return run


def _where(seen: Any, new: Any, old: Any) -> Any:
    """The new states where a step is seen, and the old ones where it is hidden."""
    if seen is None:
        return new
    return [jax.numpy.where(seen[:, None], ours, theirs) for ours, theirs in zip(new, old, strict=True)]
