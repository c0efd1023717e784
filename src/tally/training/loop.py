"""The loop of fit: batches in, compiled steps, and what is told to callbacks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.callbacks import CallbackList, TerminateOnNaN
from tally.callbacks.base import as_numbers
from tally.core.errors import ArgumentError
from tally.core.random import next_key
from tally.core.variable import Loan
from tally.training.data import DataSource
from tally.training.feed import Call, Feed
from tally.training.health import Interrupts, Watch, explain_bad_step
from tally.training.holding import Hold
from tally.training.keeping import device_of
from tally.training.pace import Pace
from tally.training.reading import test
from tally.training.resuming import Run
from tally.training.step import Plan

_NEW = np.array([0, -1], "int32")
"""The record of steps before the first: how many were made, and which was the first bad one."""


class Training:
    """The steps of one `fit` or `train_on_batch`: the compiled functions, and the values they have borrowed.

    Args:
        trainer: Whose model is trained.
        interrupts: What holds Ctrl-C back where values would be lost.
        forgives: Whether a loss that is not finite ends training quietly.
    """

    def __init__(self, trainer: Any, interrupts: Interrupts, *, forgives: bool = False) -> None:
        self.trainer, self.interrupts, self.forgives = trainer, interrupts, forgives
        self.seed = jnp.asarray(np.uint32(next_key().integer()))
        self.record: Any = jnp.asarray(_NEW)
        self.watch = Watch()
        self.loan: Loan | None = None
        self.hold: Hold | None = None
        self.device: Any = None
        self.pace = Pace(is_host=False)
        self._plan: Any = None
        self._is_jitted = False

    def begin(self, batch: Any = None) -> Plan:
        """Borrow the variables, in the roles they have now, for the step compiled for them.

        Args:
            batch: What to build from if something is not built yet.
        """
        plan = self.trainer.plan("train", batch)
        if plan is not self._plan:
            self.close()
            with self.interrupts.held():
                self._plan = plan
                self.hold, self.loan = Hold(plan.state.fixed), Loan(plan.state.carried)
            self._is_jitted = self.trainer.is_jitted
            values = [*self.loan.values, *self.hold.values]
            self.device = device_of(values) if self._is_jitted else None
            self.pace = Pace(is_host=self._is_jitted and jax.default_backend() == "cpu")
        return plan

    def go_on(self, seed: int, made: int) -> None:
        """Go on with another run's random numbers, as if its steps had been made here.

        Args:
            seed: What that run drew them from.
            made: How many steps it made.
        """
        self.seed = jnp.asarray(np.uint32(seed))
        self.record = jnp.asarray(np.array([made, -1], "int32"))
        self.watch.go_on(made)

    def step(self, batch: Any) -> dict[str, Any]:
        """Run the compiled step on a batch; gives its logs."""
        logs = self._run([(self._plan.steps.given(), batch)])
        self.watch.note([batch], self.record)
        return logs

    def _run(self, calls: list[Call]) -> dict[str, Any]:
        loan, hold, interrupts = self.loan, self.hold, self.interrupts
        assert loan is not None
        assert hold is not None
        logs: Any = None
        for function, argument in calls:
            interrupts.is_holding = self._is_jitted  # an eager step gives nothing away before it is done
            try:
                values, changed, self.record, logs = function(
                    loan.values, hold.values, self.record, self.seed, argument
                )
                loan.exchange(values)
                if changed:
                    hold.change(changed)
            finally:
                interrupts.release()
            self.pace.follow(self.record)
        return logs

    def epoch(
        self, source: DataSource, callbacks: CallbackList, epoch: int, run: Run
    ) -> dict[str, float] | None:
        """All steps of an epoch, or those still to be made; gives its logs, or None when there was no batch."""
        plan = self.begin()
        feed = Feed(source, plan.steps, self.trainer.steps_per_execution, self.device)
        model, watch, done, logs = self.trainer.model, self.watch, run.done, run.logs
        watch.batch_of = feed.batch_of
        tell_begin, tell_end = (
            callbacks.teller("on_train_batch_begin"),
            callbacks.teller("on_train_batch_end"),
        )
        source.on_epoch_begin()
        for pieces, calls in feed.executions():
            if tell_begin is not None:
                tell_begin(done)
            logs = self._run(calls)
            done += len(pieces)
            run.done, run.logs = done, logs
            bad = watch.note(pieces, self.record)
            if bad is not None:
                self._react(bad, epoch)
            if tell_end is not None:
                tell_end(done - 1, logs)
            if model.stop_training:
                break
        self._react(watch.look(self.record), epoch)
        if not done:
            return None
        source.on_epoch_end()
        return as_numbers(jax.device_get(logs))

    def reset_metrics(self) -> None:
        """Begin anew with every metric; those that the plan knows need not be looked for in the whole model."""
        if self._plan is None:
            self.trainer.reset_metrics()
        for metric in self._plan.metrics if self._plan is not None else ():
            metric.reset_state()

    def check(self) -> None:
        """Look at what has been done so far.

        Raises:
            NonFiniteError: A loss or a gradient was not finite.
        """
        self._react(self.watch.look(self.record), None)

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
        if self.loan is not None and self.hold is not None:
            with self.interrupts.held():
                self.loan.settle()
                self.hold.settle()
                self.loan = self.hold = self._plan = None


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
        trainer.run = run = Run(training, source, validation, callbacks)
        logs: dict[str, Any] = {}
        try:
            callbacks.on_train_begin()
            start = max(initial_epoch, getattr(model, "_initial_epoch", 0) or 0)
            trainer.go_on(run, start)
            run.start(start)
            for epoch in range(start, epochs):
                if run.is_over:
                    break
                run.begin(epoch)
                found = training.epoch(source, callbacks, epoch, run)
                if found is None:  # a generator that is used up
                    break
                logs = found
                if validation is not None and is_due(epoch, validation_freq):
                    measured = test(trainer, validation, callbacks, seed=training.seed)
                    logs.update({f"val_{name}": value for name, value in measured.items()})
                run.end(epoch)
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
        finally:
            training.close()
            trainer.run = None
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
