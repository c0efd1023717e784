"""One step of training, testing or predicting as a pure function of arrays, compiled once per batch structure."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import masks
from tally.core.layer import Layer, training_phase
from tally.core.random import step_key
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Values, Variable, substitute
from tally.metrics import Metric
from tally.training.cutting import compute_in_parts, part_of
from tally.training.gate import are_usable, change_if, keep_unless
from tally.training.grouping import Group, Joining

Arrays = list[jax.Array]


class State:
    """A model's variables in the four roles that a step treats differently.

    Args:
        trainable: Those the optimizer changes.
        fixed: The others: frozen weights, moving statistics, seeds.
        slots: What the optimizer remembers.
        measures: What metrics collect in.
    """

    def __init__(
        self,
        trainable: list[Variable],
        fixed: list[Variable],
        slots: list[Variable],
        measures: list[Variable],
    ) -> None:
        self.trainable, self.fixed, self.slots, self.measures = trainable, fixed, slots, measures
        self.model = [*trainable, *fixed]
        self.learned = [*trainable, *slots]
        self.carried = [*self.learned, *measures]
        self.everything = [*self.carried, *fixed]

    def split(self, carried: Arrays) -> tuple[Arrays, Arrays, Arrays]:
        """The values of `carried` by role: trainable, slots, measures."""
        first, second = len(self.trainable), len(self.learned)
        return carried[:first], carried[first:second], carried[second:]

    @property
    def identity(self) -> Any:
        """What a compiled step depends on: which variables play which role."""
        return tuple(map(tuple, (self.trainable, self.fixed, self.slots, self.measures)))


@dataclass
class Plan:
    """A step that is ready to run.

    Attributes:
        state: The variables by role.
        steps: The step, compiled for each way in which batches come.
        metrics: What is reset before an epoch.
        layers: The model's layers when the plan was made.
        signature: What it was made from; when that changes, so must the plan.
    """

    state: State
    steps: "Steps"
    metrics: list[Metric]
    layers: list[Layer]
    signature: Any = None


class Steps:
    """One pure step and its compiled forms, each made when it is first asked for.

    Args:
        step: The step.
        kind: `"train"`, `"test"` or `"predict"`.
        compile: Makes a compiled function of a function and a kind.
        joins: Whether one call may handle several batches.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        kind: str,
        compile: Callable[..., Any],
        *,
        joins: bool = True,
    ) -> None:
        self.step, self.kind, self._compile, self.joins = step, kind, compile, joins
        self._made: dict[int, Callable[..., Any]] = {}
        self._gathering: dict[Any, Group | None] = {}

    def gathering(self, arguments: tuple[Any, ...], size: int | None = None) -> Group | None:
        """The compiled form of a step that reads, for several batches at a time; None where they need a call each.

        Args:
            arguments: What the step is called with, an example of a batch last.
            size: How many batches; None for up to as many as are best.
        """
        batch = arguments[-1]
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))
        key = jax.tree.structure(batch), shapes, size
        if key not in self._gathering:
            joining = Joining(self.step, self.kind, arguments)
            most = 1 if not joining.is_possible else joining.best_size if size is None else size
            self._gathering[key] = None
            if most > 1:
                self._gathering[key] = Group(
                    self._compile(joining.joined(most), self.kind), most, size is None
                )
        return self._gathering[key]

    def given(self, count: int = 1) -> Callable[..., Any]:
        """The compiled step; of training, with a count, for so many batches stacked along a new first axis."""
        if count not in self._made:
            step = self.step if count == 1 else several(self.step, count)
            self._made[count] = self._compile(step, self.kind)
        return self._made[count]


def _standing_for(variables: list[Variable], values: Arrays) -> Values:
    return Values(zip(variables, values, strict=True))


def _changed(variables: list[Variable], before: Arrays, held: Values) -> dict[int, jax.Array]:
    """Position -> new value of those that were assigned; the rest need not leave the compiled function."""
    return {i: held[v] for i, v in enumerate(variables) if held[v] is not before[i]}


def forward(trainer: Any, x: Any, *, training: bool) -> Any:
    """The model's outputs, in a phase."""
    with training_phase(training):
        part = None if training else part_of(trainer.model, x)
        return trainer.model(x) if part is None else compute_in_parts(trainer.model, x, part)


def _compute_loss(trainer: Any, batch: Any, y_pred: Any, *, training: bool) -> tuple[Any, dict[str, Any]]:
    """The model's loss, which its class may compute its own way, and each output's part of it."""
    x, y, weight = batch
    compute = trainer.model.compute_loss
    phase = {"training": training} if _takes_training(compute) else {}
    try:
        loss = compute(x, y, y_pred, weight, **phase)
        return loss, trainer.take_parts()
    finally:
        trainer.model._clear_losses()


def _takes_training(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def make_train_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure training step of a trainer.

    The step takes the values of `state.carried`, those of `state.fixed`, a record `[steps made, first bad step or -1]`,
    a seed and a batch. It gives the new carried values, by position the fixed ones that were assigned, the new record
    and the logs. Once the loss or a gradient is not finite, nothing changes any more: the weights stay those of the
    last good step.
    """
    rest = [*state.measures, *state.fixed]

    def step(carried: Arrays, fixed: Arrays, record: jax.Array, seed: jax.Array, batch: Any) -> Any:
        trainable, slots, measures = state.split(carried)
        before = [*measures, *fixed]
        key = jax.random.fold_in(jax.random.key(seed), record[0])

        def objective(weights: Arrays) -> Any:
            held = _standing_for(state.everything, [*weights, *slots, *before])
            with substitute(held), step_key(key):
                y_pred = forward(trainer, batch[0], training=True)
                loss, parts = _compute_loss(trainer, batch, y_pred, training=True)
                scaled = trainer.optimizer.scale_loss(loss)
            told = loss, parts, y_pred, map_tree(masks.get_mask, y_pred), _changed(rest, before, held)
            return jnp.asarray(scaled, jnp.result_type(scaled, jnp.float32)), told

        gradients, (loss, parts, y_pred, kept, changed) = jax.grad(objective, has_aux=True)(trainable)
        after = [changed.get(i, value) for i, value in enumerate(before)]
        is_good = (record[1] < 0) & jnp.isfinite(loss).all() & are_usable(gradients, trainer.optimizer)

        def update(learned: Arrays) -> Arrays:
            held = _standing_for(state.everything, [*learned, *after])
            with substitute(held):
                trainer.optimizer.apply(gradients, state.trainable)
            return [held[v] for v in state.learned]

        learned = change_if(is_good, update, [*trainable, *slots]) if trainable else slots
        held = _standing_for(state.everything, [*learned, *after])
        with substitute(held):
            logs = _measure(trainer, batch, (y_pred, kept), loss, parts)
        bad = jnp.stack([record[0], jnp.where(record[1] < 0, record[0], record[1])])
        *after, record = keep_unless(is_good, [*before, bad], [*(held[v] for v in rest), record])
        now, still = after[: len(measures)], after[len(measures) :]
        assigned = {i: value for i, value in enumerate(still) if value is not fixed[i]}
        return [*learned, *now], assigned, record + np.array([1, 0], "int32"), logs

    return step


def make_test_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `evaluate`.

    The step takes the values of `state.measures`, those of `state.model`, the number of the step, a seed and a batch.
    It gives the new measures, by position the model's values that were assigned, and the logs.
    """

    def step(measures: Arrays, values: Arrays, number: jax.Array, seed: jax.Array, batch: Any) -> Any:
        held = _standing_for([*state.model, *state.measures], [*values, *measures])
        with substitute(held), step_key(jax.random.fold_in(jax.random.key(seed), number)):
            y_pred = forward(trainer, batch[0], training=False)
            loss, parts = _compute_loss(trainer, batch, y_pred, training=False)
            logs = _measure(trainer, batch, (y_pred, map_tree(masks.get_mask, y_pred)), loss, parts)
        return [held[v] for v in state.measures], _changed(state.model, values, held), logs

    return step


def make_predict_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `predict`. It takes and gives what a test step does, outputs in the place of logs."""

    def step(nothing: Arrays, values: Arrays, number: jax.Array, seed: jax.Array, batch: Any) -> Any:
        held = _standing_for(state.model, values)
        with substitute(held), step_key(jax.random.fold_in(jax.random.key(seed), number)):
            outputs = forward(trainer, batch[0], training=False)
        trainer.model._clear_losses()
        return nothing, _changed(state.model, values, held), outputs

    return step


def _measure(trainer: Any, batch: Any, predicted: Any, loss: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """Update loss trackers and metrics with a batch; gives the logs."""
    x, y, weight = batch
    y_pred, kept = predicted
    for output, mask in zip(leaves(y_pred), leaves(kept), strict=True):
        if mask is not None:  # outputs have come through `grad`, which makes new arrays of them
            masks.set_mask(output, mask)
    trainer.track_loss(x, loss, parts)
    return trainer.model.compute_metrics(x, y, y_pred, weight)


def several(step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Make `count` training steps in one compiled call, on batches that are stacked along a new first axis.

    Args:
        step: One step.
        count: How many. Logs are those of the last.
    """

    def steps(carried: Arrays, fixed: Arrays, record: jax.Array, seed: jax.Array, batches: Any) -> Any:
        positions: set[int] = set()

        def body(carry: Any, batch: Any) -> Any:
            carried, fixed, record = carry
            carried, changed, record, told = step(carried, fixed, record, seed, batch)
            positions.update(changed)
            return (carried, [changed.get(i, value) for i, value in enumerate(fixed)], record), told

        (carried, fixed, record), told = jax.lax.scan(body, (carried, fixed, record), batches, length=count)
        return carried, {i: fixed[i] for i in sorted(positions)}, record, jax.tree.map(_last, told)

    return steps


def _last(values: jax.Array) -> jax.Array:
    return values[-1]


MAKERS = {"train": make_train_step, "test": make_test_step, "predict": make_predict_step}
"""Kind of step -> what makes it."""
DONATED = {"train": (0,), "test": (0,), "predict": ()}
"""Kind of step -> the positions of arguments whose memory it takes over."""
