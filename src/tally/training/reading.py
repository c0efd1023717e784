"""The loops of evaluate and predict: batches through compiled steps that read a model, and what callbacks are told."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.callbacks import CallbackList
from tally.callbacks.base import as_numbers
from tally.core.random import next_key
from tally.core.variable import Loan, stored
from tally.training.data import DataSource
from tally.training.feed import Feed, grouped
from tally.training.grouping import Group, filled_up
from tally.training.keeping import device_of
from tally.training.pace import Pace
from tally.training.step import Plan

_IN_FLIGHT = 8
"""Outputs of `predict` that stay on a device at a time, unless the device is the host: there a step under way and the
next are enough, see `tally.training.pace`."""
_FILLED = 16
"""A call for several batches is worth its while where there are batches for a part of it: one in so many."""


def test(trainer: Any, source: DataSource, callbacks: CallbackList, *, seed: Any) -> dict[str, Any]:
    """Measure loss and metrics over a source; nothing of training changes."""
    callbacks.on_test_begin()
    plan = trainer.plan("test")
    for metric in plan.metrics:
        metric.reset_state()
    tell_begin, tell_end = callbacks.teller("on_test_batch_begin"), callbacks.teller("on_test_batch_end")
    loan, pace = Loan(plan.state.measures), Pace(trainer.is_jitted and jax.default_backend() == "cpu")
    run, done, logs = _Reading(trainer, source, plan, seed, is_free=not callbacks.wants_each("test")), 0, {}
    try:
        source.on_epoch_begin()
        for pieces, calls in run.executions(loan.values):
            if tell_begin is not None:
                tell_begin(done)
            for call in calls:
                measures, logs = run.make(call, loan.values)
                loan.exchange(measures)
                pace.follow(logs["loss"])
            done += len(pieces)
            if tell_end is not None:
                tell_end(done - 1, logs)
            if trainer.model.stop_evaluating:
                break
        source.on_epoch_end()
    finally:
        loan.settle()
    found = as_numbers(jax.device_get(logs))
    callbacks.on_test_end(found)
    return found


def predict(trainer: Any, source: DataSource, callbacks: CallbackList) -> Any:
    """The outputs for all batches of a source, joined; None when there was no batch."""
    callbacks.on_predict_begin()
    plan = trainer.plan("predict")
    tell_begin = callbacks.teller("on_predict_batch_begin")
    tell_end = callbacks.teller("on_predict_batch_end")
    is_free, seed = not callbacks.wants_each("predict"), np.uint32(next_key().integer())
    run, done = _Reading(trainer, source, plan, seed, is_free=is_free), 0
    made = Outputs(getattr(source, "examples", None))
    waiting: deque[tuple[Call, Any]] = deque()
    for pieces, calls in run.executions([]):
        if tell_begin is not None:
            tell_begin(done)
        outputs = [(call, run.make(call, [])[1]) for call in calls]
        for _, one in outputs if run.is_far else ():
            _send(one)
        waiting.extend(outputs)
        while len(waiting) > (_IN_FLIGHT if run.is_far else 1):
            made.add(_fetch(*waiting.popleft()))
        done += len(pieces)
        if tell_end is not None:
            told = {} if run.is_gathering else {"outputs": _joined([one for _, one in outputs])}
            tell_end(done - 1, told)
        if trainer.model.stop_predicting:
            break
    for one in waiting:
        made.add(_fetch(*one))
    callbacks.on_predict_end()
    return made.joined()


class Outputs:
    """Outputs of one batch after another, joined along their first axis.

    Where it is known how many examples there are, outputs go to their place at once, and are never there twice.

    Args:
        examples: For how many examples outputs come, at most; None if that is unknown.

    Example:
        >>> outputs = Outputs(3)
        >>> outputs.add(np.array([1, 2]))
        >>> outputs.add(np.array([3]))
        >>> outputs.joined()
        array([1, 2, 3])
    """

    def __init__(self, examples: int | None = None) -> None:
        self._room = examples
        self._whole: list[np.ndarray] = []
        self._structure: Any = None
        self._rows = 0
        self._parts: list[Any] = []

    def add(self, part: Any) -> None:
        """Take a structure of arrays."""
        leaves, structure = jax.tree.flatten(part)
        if self._room is not None and not self._whole and all(leaf.ndim for leaf in leaves):
            self._whole = [np.empty((self._room, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
            self._structure = structure
        if self._room is None or not self._fits(leaves, structure):
            self._give_up()
            self._parts.append(part)
            return
        rows = self._rows + len(leaves[0])
        for whole, leaf in zip(self._whole, leaves, strict=True):
            whole[self._rows : rows] = leaf
        self._rows = rows

    def _fits(self, leaves: list[np.ndarray], structure: Any) -> bool:
        """Whether outputs are what those before them were, as many of each, and there is still room."""
        return (
            bool(self._whole)
            and structure == self._structure
            and all(leaf.ndim for leaf in leaves)
            and len({len(leaf) for leaf in leaves}) == 1
            and self._rows + len(leaves[0]) <= len(self._whole[0])
            and all(
                (leaf.shape[1:], leaf.dtype) == (whole.shape[1:], whole.dtype)
                for leaf, whole in zip(leaves, self._whole, strict=True)
            )
        )

    def _give_up(self) -> None:
        """Go on with parts: an output has no row for each example."""
        if self._rows:
            self._parts = [self._structure.unflatten([whole[: self._rows] for whole in self._whole])]
        self._room, self._whole, self._rows = None, [], 0

    def joined(self) -> Any:
        """All of them; None when there were none."""
        if self._rows:
            taken = [
                whole if len(whole) == self._rows else whole[: self._rows].copy() for whole in self._whole
            ]
            return self._structure.unflatten(taken)
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self._parts) if self._parts else None


@dataclass(slots=True)
class Call:
    """A compiled function and what it is called with.

    Attributes:
        function: The step, or one for several batches.
        argument: The batch, or the batches.
        count: How many batches they are.
        room: For how many the function gives outputs.
    """

    function: Any
    argument: Any
    count: int = 1
    room: int = 1


class _Reading:
    """The steps of one `evaluate` or `predict`, which read the model's values and take none of them away.

    Args:
        trainer: Whose model is read.
        source: Where batches come from.
        plan: The step.
        seed: What random numbers are drawn from, together with the number of the step.
        is_free: Whether nobody wants to hear of each batch by itself.
    """

    def __init__(self, trainer: Any, source: DataSource, plan: Plan, seed: Any, *, is_free: bool) -> None:
        self.source, self.steps, self.size = source, plan.steps, trainer.steps_per_execution
        self.variables, self.number = plan.state.model, 0
        self.values, self.seed = stored(self.variables), seed
        is_one = (source.steps or 0) <= 1
        device = device_of(self.values) if trainer.is_jitted and not is_one else None
        self.feed = Feed(source, plan.steps, self.size, device)
        self.is_gathering = False
        self.is_far = jax.default_backend() != "cpu"
        # Where the device is the host, batches are cut there without a copy, and a program may count its own turns.
        self._may_gather = is_free and source.is_cut and device is not None and device.platform == "cpu"

    def executions(self, carried: list[Any]) -> Iterator[tuple[list[Any], list[Call]]]:
        """Each execution: what stands for its batches, and the calls that handle them."""
        pieces, group = self.feed.pieces(), None
        if self._may_gather or (self.size > 1 and self.steps.joins):
            first = next(pieces, None)
            if first is None:
                return
            group = self._group(carried, self.feed.batch_of(first))
            pieces = chain([first], pieces)
        self.is_gathering = group is not None and group.takes_fewer
        for several in grouped(pieces, group.size if group is not None else self.size):
            yield several, self._calls(several, group)

    def make(self, call: Call, carried: list[Any]) -> tuple[list[Any], Any]:
        """Make a call; gives what it carries on and what it tells."""
        number = np.int32(self.number)
        carried, changed, told = call.function(carried, self.values, number, self.seed, call.argument)
        self.number += call.count
        if changed:
            for index, value in changed.items():
                self.variables[index].assign(value)
            self.values = stored(self.variables)
        return carried, told

    def _group(self, carried: list[Any], batch: Any) -> Group | None:
        """What handles several batches at a time, as many as are best or as were asked for; None for one at a time."""
        arguments = (carried, self.values, np.int32(0), self.seed, batch)
        if self._may_gather:
            group = self.steps.gathering(arguments)
            if group is not None and group.size <= _FILLED * (self.source.steps or 0):
                return group
        return self.steps.gathering(arguments, self.size) if self.size > 1 else None

    def _calls(self, pieces: list[Any], group: Group | None) -> list[Call]:
        if group is not None and group.takes_fewer:
            whole = [piece for piece in pieces if piece.size == self.source.batch_size]
            if whole:
                batches = filled_up(self.source.together(whole), group.size)
                argument = batches, np.int32(len(whole))
                return [
                    Call(group.function, argument, len(whole), group.size),
                    *self._alone(pieces[len(whole) :]),
                ]
        elif group is not None and len(pieces) == group.size and self.feed.are_alike(pieces):
            return [Call(group.function, (self.feed.together(pieces), None), group.size, group.size)]
        return self._alone(pieces)

    def _alone(self, pieces: list[Any]) -> list[Call]:
        return [Call(self.steps.given(), self.feed.batch_of(piece)) for piece in pieces]


def _send(outputs: Any) -> None:
    """Begin to fetch outputs while the next batch is computed."""
    for leaf in jax.tree.leaves(outputs):
        getattr(leaf, "copy_to_host_async", lambda: None)()


def _fetch(call: Call, outputs: Any) -> Any:
    """Outputs as NumPy arrays, without those for which there was only room."""
    if call.count == call.room:
        return jax.tree.map(np.asarray, outputs)
    return jax.tree.map(lambda array: np.asarray(array)[: len(array) // call.room * call.count], outputs)


def _joined(outputs: list[Any]) -> Any:
    return outputs[0] if len(outputs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)
