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
from tally.optimizers import LossScaleOptimizer

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
        self.everything = [*trainable, *fixed, *slots, *measures]

    def split(self, values: Arrays) -> tuple[Arrays, Arrays, Arrays, Arrays]:
        """The values of `everything` by role."""
        found, start = [], 0
        for group in (self.trainable, self.fixed, self.slots, self.measures):
            found.append(values[start : start + len(group)])
            start += len(group)
        return tuple(found)

    @property
    def identity(self) -> Any:
        """What a compiled step depends on: which variables play which role."""
        return tuple(map(tuple, (self.trainable, self.fixed, self.slots, self.measures)))


@dataclass
class Plan:
    """A step that is ready to run.

    Attributes:
        state: The variables by role.
        one: The compiled step.
        many: The compiled function of several steps, where one execution takes several batches.
        metrics: What is reset before an epoch.
        layers: The model's layers when the plan was made.
        signature: What it was made from; when that changes, so must the plan.
    """

    state: State
    one: Callable[..., Any]
    many: Callable[..., Any] | None
    metrics: list[Metric]
    layers: list[Layer]
    signature: Any = None


def _standing_for(variables: list[Variable], values: Arrays) -> Values:
    return Values(zip(variables, values, strict=True))


def _changed(variables: list[Variable], before: Arrays, held: Values) -> dict[int, jax.Array]:
    """Position -> new value of those that were assigned; the rest need not leave the device function."""
    return {i: held[v] for i, v in enumerate(variables) if held[v] is not before[i]}


def forward(trainer: Any, x: Any, *, training: bool) -> Any:
    """The model's outputs, in a phase."""
    with training_phase(training):
        return trainer.model(x)


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

    The step takes the values of `state.everything`, a health record `[steps made, first bad step or -1]`, a seed and a
    batch, and gives the new values, the new record and the logs. Once the loss or a gradient is not finite, nothing
    changes any more: the weights stay those of the last good step.
    """

    def step(values: Arrays, health: jax.Array, seed: jax.Array, batch: Any) -> Any:
        trainable, fixed, slots, measures = state.split(values)
        key = jax.random.fold_in(jax.random.key(seed), health[0])

        def objective(weights: Arrays) -> Any:
            held = _standing_for(state.everything, [*weights, *fixed, *slots, *measures])
            with substitute(held), step_key(key):
                y_pred = forward(trainer, batch[0], training=True)
                loss, parts = _compute_loss(trainer, batch, y_pred, training=True)
                scaled = trainer.optimizer.scale_loss(loss)
            kept = map_tree(masks.get_mask, y_pred)
            new = [held[v] for v in state.fixed], [held[v] for v in state.measures]
            return jnp.asarray(scaled, jnp.result_type(scaled, jnp.float32)), (loss, parts, y_pred, kept, new)

        found = jax.grad(objective, has_aux=True)(trainable)
        gradients, (loss, parts, y_pred, kept, (new_fixed, new_measures)) = found
        held = _standing_for(state.everything, [*trainable, *new_fixed, *slots, *new_measures])
        with substitute(held):
            trainer.optimizer.apply(gradients, state.trainable)
            logs = _measure(trainer, batch, (y_pred, kept), loss, parts)
        is_good = jnp.isfinite(loss).all() & _are_usable(gradients, trainer.optimizer) & (health[1] < 0)
        first_bad = jnp.where((health[1] < 0) & ~is_good, health[0], health[1])
        new = [jnp.where(is_good, held[v], old) for v, old in zip(state.everything, values, strict=True)]
        return new, jnp.stack([health[0] + 1, first_bad]), logs

    return step


def _are_usable(gradients: Arrays, optimizer: Any) -> Any:
    """Whether a step by these gradients leaves numbers behind. Loss scaling skips such steps by itself."""
    if isinstance(optimizer, LossScaleOptimizer):
        return True
    # Clipping by value makes an infinite gradient a finite one; only NaN is beyond it.
    is_usable = (lambda g: ~jnp.isnan(g)) if optimizer.clipvalue else jnp.isfinite
    return jnp.all(jnp.array([is_usable(gradient).all() for gradient in gradients], dtype=bool))


def make_test_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `evaluate`: takes the values of metrics and of the model, a key's seed, a number and a batch.

    Gives the new values of metrics, those of the model that were assigned, and the logs.
    """

    def step(measures: Arrays, values: Arrays, seed: Any, number: Any, batch: Any) -> Any:
        held = _standing_for([*state.model, *state.measures], [*values, *measures])
        with substitute(held), step_key(jax.random.fold_in(jax.random.key(seed), number)):
            y_pred = forward(trainer, batch[0], training=False)
            loss, parts = _compute_loss(trainer, batch, y_pred, training=False)
            logs = _measure(trainer, batch, (y_pred, map_tree(masks.get_mask, y_pred)), loss, parts)
        return [held[v] for v in state.measures], _changed(state.model, values, held), logs

    return step


def make_predict_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `predict`: gives the outputs and the values of the model that were assigned."""

    def step(values: Arrays, seed: Any, number: Any, x: Any) -> Any:
        held = _standing_for(state.model, values)
        with substitute(held), step_key(jax.random.fold_in(jax.random.key(seed), number)):
            outputs = forward(trainer, x, training=False)
        trainer.model._clear_losses()
        return outputs, _changed(state.model, values, held)

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
    """Make `count` training steps in one compiled call: batches are stacked along a new first axis."""

    def steps(values: Arrays, health: jax.Array, seed: jax.Array, batches: Any) -> Any:
        def body(carry: Any, batch: Any) -> Any:
            *carry, logs = step(*carry, seed, batch)
            return tuple(carry), logs

        (values, health), logs = jax.lax.scan(body, (values, health), batches, length=count)
        return values, health, jax.tree.map(lambda value: value[-1], logs)

    return steps


def stack(batches: list[Any]) -> Any:
    """Stack equal batches along a new first axis."""
    return jax.tree.map(
        lambda *arrays: (np if isinstance(arrays[0], np.ndarray) else jnp).stack(arrays), *batches
    )


MAKERS = {"train": make_train_step, "test": make_test_step, "predict": make_predict_step}
"""Kind of step -> what makes it."""
DONATED = {"train": (0,), "test": (0,), "predict": ()}
"""Kind of step -> the positions of arguments whose memory it takes over."""
