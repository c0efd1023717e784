"""The loops of fit, evaluate and predict: batches in, compiled steps, and what is told to callbacks."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tally.callbacks import CallbackList, TerminateOnNaN
from tally.callbacks.base import as_numbers
from tally.core.errors import ArgumentError
from tally.core.random import next_key
from tally.core.variable import Loan, stored
from tally.training.data import DataSource, prefetch
from tally.training.health import Interrupts, Watch, explain_bad_step
from tally.training.step import Plan, stack

_IN_FLIGHT = 8
"""Outputs of `predict` that stay on the device at a time."""


class Training:
    """The steps of one `fit` or `train_on_batch`: the compiled function, and the values it has borrowed.

    Args:
        trainer: Whose model is trained.
        interrupts: What holds Ctrl-C back where values would be lost.
        forgives: Whether a loss that is not finite ends training quietly.
    """

    def __init__(self, trainer: Any, interrupts: Interrupts, *, forgives: bool = False) -> None:
        self.trainer, self.interrupts, self.forgives = trainer, interrupts, forgives
        self.seed = np.uint32(next_key().integer())
        self.health: Any = np.array([0, -1], "int32")
        self.watch = Watch()
        self.loan: Loan | None = None
        self._plan: Any = None

    def begin(self, batch: Any = None) -> Plan:
        """Borrow the variables, in the roles they have now, for the step compiled for them.

        Args:
            batch: What to build from if something is not built yet.
        """
        plan = self.trainer.plan("train", batch)
        if plan is not self._plan:
            self.close()
            with self.interrupts.held():
                self._plan, self.loan = plan, Loan(plan.state.everything)
        return plan

    def step(self, batches: list[Any]) -> dict[str, Any]:
        """Run the compiled step on each batch, or once on all that one execution takes."""
        one, many = self._plan.one, self._plan.many
        if many is not None and len(batches) == self.trainer.steps_per_execution and _are_alike(batches):
            return self._run(many, stack(batches))
        for batch in batches[:-1]:
            self._run(one, batch)
        return self._run(one, batches[-1])

    def _run(self, function: Any, batch: Any) -> dict[str, Any]:
        loan, interrupts = self.loan, self.interrupts
        assert loan is not None
        interrupts.is_holding = self.trainer.is_jitted  # an eager step gives nothing away before it is done
        try:
            values, self.health, logs = function(loan.values, self.health, self.seed, batch)
            loan.exchange(values)
        finally:
            interrupts.release()
        return logs

    def epoch(self, source: DataSource, callbacks: CallbackList, epoch: int) -> dict[str, float] | None:
        """All steps of an epoch; gives its logs, or None when there was no batch."""
        self.begin()
        model, done, logs = self.trainer.model, 0, {}
        source.on_epoch_begin()
        for batches in _grouped(source, self.trainer.steps_per_execution):
            callbacks.on_train_batch_begin(done)
            logs = self.step(batches)
            done += len(batches)
            self._react(self.watch.note(batches, self.health), epoch)
            callbacks.on_train_batch_end(done - 1, logs)
            if model.stop_training:
                break
        self._react(self.watch.look(self.health), epoch)
        if not done:
            return None
        source.on_epoch_end()
        return as_numbers(jax.device_get(logs))

    def check(self) -> None:
        """Look at what has been done so far.

        Raises:
            NonFiniteError: A loss or a gradient was not finite.
        """
        self._react(self.watch.look(self.health), None)

    def _react(self, bad: tuple[int, Any] | None, epoch: int | None) -> None:
        if bad is None:
            return
        if self.forgives:
            self.trainer.model.stop_training = True
            return
        number, batch = bad
        self.close()
        explain_bad_step(self.trainer, batch, step=number, epoch=epoch)

    def close(self) -> None:
        """Give the values back to the variables."""
        if self.loan is not None:
            with self.interrupts.held():
                self.loan.settle()
                self.loan = self._plan = None


def _grouped(source: DataSource, size: int) -> Iterator[list[Any]]:
    """Batches in lists of as many as one execution takes; at the end there may be fewer."""
    on_host = (
        jax.default_backend() == "cpu"
    )  # where the device is the host there is nowhere to fetch ahead to
    batches = source.batches() if on_host else prefetch(source.batches())
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _are_alike(batches: list[Any]) -> bool:
    first, *others = ([leaf.shape for leaf in jax.tree.leaves(batch)] for batch in batches)
    return all(shapes == first for shapes in others)


def train(
    trainer: Any,
    source: DataSource,
    validation: DataSource | None,
    callbacks: CallbackList,
    *,
    epochs: int,
    initial_epoch: int,
    validation_freq: int | list[int],
) -> None:
    """Train for epochs, measure after those that are due, and tell the callbacks."""
    model = trainer.model
    forgives = any(isinstance(callback, TerminateOnNaN) for callback in callbacks)
    with Interrupts() as interrupts:
        training = Training(trainer, interrupts, forgives=forgives)
        logs: dict[str, Any] = {}
        try:
            callbacks.on_train_begin()
            start = max(initial_epoch, getattr(model, "_initial_epoch", 0) or 0)
            for epoch in range(start, epochs):
                trainer.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                found = training.epoch(source, callbacks, epoch)
                if found is None:  # a generator that is used up
                    break
                logs = found
                if validation is not None and is_due(epoch, validation_freq):
                    measured = test(trainer, validation, callbacks, seed=training.seed)
                    logs.update({f"val_{name}": value for name, value in measured.items()})
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
        finally:
            training.close()
            for opened in (source, validation):
                if opened is not None:
                    opened.close()
        if epochs > 0:
            trainer.optimizer.finalize_variable_values(model.trainable_variables)
        callbacks.on_train_end(logs)


def is_due(epoch: int, frequency: int | list[int]) -> bool:
    """Whether validation follows an epoch, the first of which is 0."""
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    if isinstance(frequency, (list, tuple, set, range)):
        return (epoch + 1) in frequency
    raise ArgumentError(
        f"validation_freq is {frequency!r}.", do="pass every how many epochs, or a list of epochs"
    )


def test(trainer: Any, source: DataSource, callbacks: CallbackList, *, seed: Any) -> dict[str, Any]:
    """Measure loss and metrics over a source; nothing of training changes."""
    callbacks.on_test_begin()
    plan = trainer.plan("test")
    for metric in plan.metrics:
        metric.reset_state()
    state, step = plan.state, plan.one
    values, logs = stored(state.model), {}
    loan = Loan(state.measures)
    try:
        source.on_epoch_begin()
        for index, batch in enumerate(source.batches()):
            callbacks.on_test_batch_begin(index)
            measures, changed, logs = step(loan.values, values, seed, np.uint32(index), batch)
            loan.exchange(measures)
            if changed:
                values = _write(state.model, changed)
            callbacks.on_test_batch_end(index, logs)
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
    state, step = plan.state, plan.one
    values, seed = stored(state.model), np.uint32(next_key().integer())
    made: list[Any] = []
    waiting: deque[Any] = deque()
    for index, batch in enumerate(source.batches()):
        callbacks.on_predict_batch_begin(index)
        outputs, changed = step(values, seed, np.uint32(index), batch[0])
        if changed:
            values = _write(state.model, changed)
        waiting.append(outputs)
        if len(waiting) > _IN_FLIGHT:
            made.append(jax.device_get(waiting.popleft()))
        callbacks.on_predict_batch_end(index, {"outputs": outputs})
        if trainer.model.stop_predicting:
            break
    made.extend(map(jax.device_get, waiting))
    callbacks.on_predict_end()
    return jax.tree.map(lambda *parts: np.concatenate(parts), *made) if made else None


def _write(variables: list[Any], changed: dict[int, Any]) -> list[Any]:
    """Assign what a step has changed; gives the values of all variables."""
    for index, value in changed.items():
        variables[index].assign(value)
    return stored(variables)
