"""One step of training or testing as a pure function of arrays, compiled once per batch structure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import masks
from tally.core.layer import training_phase
from tally.core.random import step_key
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Loan, Values, Variable, substitute

Arrays = list[jax.Array]


class State:
    """A model's variables in the four roles a step treats differently, and their values while a loop runs."""

    def __init__(
        self,
        trainable: list[Variable],
        state: list[Variable],
        slots: list[Variable],
        measures: list[Variable],
    ):
        self.groups = (trainable, state, slots, measures)
        self.loan: Loan | None = None

    def borrow(self) -> None:
        """Take the values from the variables. They are copied, since a step gives its inputs' memory away."""
        loan = Loan([variable for group in self.groups for variable in group])
        loan.values = [jnp.array(value, copy=True) for value in loan.values]
        self.loan = loan

    def settle(self) -> None:
        """Give the values back."""
        if self.loan is not None:
            self.loan.settle()
            self.loan = None

    @property
    def values(self) -> list[Arrays]:
        """The values of each group."""
        values = iter(self.loan.values if self.loan else [v.raw for group in self.groups for v in group])
        return [[next(values) for _ in group] for group in self.groups]

    def exchange(self, *groups: Arrays) -> None:
        """Set the values of all groups at once."""
        flat = [value for group in groups for value in group]
        if self.loan is not None:
            self.loan.values = flat
        else:
            for variable, value in zip((v for group in self.groups for v in group), flat, strict=True):
                variable._value = value


def _pairs(variables: list[Variable], values: Arrays) -> Values:
    return Values(zip(variables, values, strict=True))


def forward(trainer: Any, x: Any, *, training: bool) -> Any:
    """The model's outputs, in a phase."""
    with training_phase(training):
        return trainer.model(x, training=training) if _takes_training(trainer.model) else trainer.model(x)


def _takes_training(model: Any) -> bool:
    import inspect

    return "training" in inspect.signature(model.call).parameters


def make_train_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure training step of a trainer.

    The step takes the four groups of values, a health record `[steps made, first bad step or -1]`, a seed and a batch, and
    gives the same back and the logs. Once a loss is not finite, nothing changes any more: the weights stay those of the
    last good step.
    """
    trainable, fixed, slots, measures = state.groups

    def step(
        t: Arrays, s: Arrays, o: Arrays, m: Arrays, health: jax.Array, seed: jax.Array, batch: Any
    ) -> Any:
        x, y, weight = batch
        key = jax.random.fold_in(jax.random.key(seed), health[0])

        def objective(values: Arrays) -> Any:
            held = _pairs(trainable, values)
            held.update(_pairs(fixed, s))
            held.update(_pairs(measures, m))
            with substitute(held), step_key(key):
                y_pred = forward(trainer, x, training=True)
                loss = trainer.model.compute_loss(
                    x=x, y=y, y_pred=y_pred, sample_weight=weight, training=True
                )
                parts = trainer.take_parts()
            trainer.model._clear_losses()
            scaled = trainer.optimizer.scale_loss(loss) if hasattr(trainer.optimizer, "scale_loss") else loss
            kept = map_tree(masks.get_mask, y_pred)
            new = ([held[v] for v in fixed], [held[v] for v in measures])
            return jnp.asarray(scaled, jnp.result_type(scaled, jnp.float32)), (loss, parts, y_pred, kept, new)

        held = _pairs(slots, o)
        with substitute(held):
            grads, (loss, parts, y_pred, kept, (new_s, new_m)) = jax.grad(objective, has_aux=True)(t)
        held.update(_pairs(trainable, t))
        with substitute(held):
            trainer.optimizer.apply(grads, trainable)
        new_t, new_o = [held[v] for v in trainable], [held[v] for v in slots]
        new_m, logs = measure(trainer, measures, new_m, (x, y, weight), (y_pred, kept), loss, parts)
        finite = jnp.isfinite(loss).all() & (health[1] < 0)
        bad = jnp.where((health[1] < 0) & ~finite, health[0], health[1])

        def keep(new: Arrays, old: Arrays) -> Arrays:
            return [jnp.where(finite, a, b) for a, b in zip(new, old, strict=True)]

        health = jnp.stack([health[0] + 1, bad])
        return keep(new_t, t), keep(new_s, s), keep(new_o, o), keep(new_m, m), health, logs

    return step


def make_test_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `evaluate`: only metrics change."""
    trainable, fixed, _, measures = state.groups

    def step(t: Arrays, s: Arrays, m: Arrays, batch: Any) -> Any:
        x, y, weight = batch
        held = _pairs(trainable, t)
        held.update(_pairs(fixed, s))
        held.update(_pairs(measures, m))
        with substitute(held):
            y_pred = forward(trainer, x, training=False)
            loss = trainer.model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight, training=False)
            parts = trainer.take_parts()
        trainer.model._clear_losses()
        kept = map_tree(masks.get_mask, y_pred)
        return measure(trainer, measures, [held[v] for v in measures], batch, (y_pred, kept), loss, parts)

    return step


def make_predict_step(trainer: Any, state: State) -> Callable[..., Any]:
    """The pure step of `predict`."""
    trainable, fixed, _, _ = state.groups

    def step(t: Arrays, s: Arrays, x: Any) -> Any:
        held = _pairs(trainable, t)
        held.update(_pairs(fixed, s))
        with substitute(held):
            return forward(trainer, x, training=False)

    return step


def measure(
    trainer: Any,
    measures: list[Variable],
    values: Arrays,
    batch: Any,
    predicted: Any,
    loss: Any,
    parts: dict[str, Any],
) -> tuple[Arrays, dict[str, Any]]:
    """Update loss trackers and metrics with a batch; gives their new values and the logs."""
    x, y, weight = batch
    y_pred, kept = predicted
    for output, mask in zip(leaves(y_pred), leaves(kept), strict=True):
        if mask is not None:
            masks.set_mask(output, mask)
    held = _pairs(measures, values)
    with substitute(held):
        trainer.update_metrics(x, y, y_pred, weight, loss, parts)
        logs = trainer.compute_metrics()
    return [held[v] for v in measures], logs


def several(step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Make `count` training steps in one compiled call: batches are stacked along a new first axis."""

    def steps(
        t: Arrays, s: Arrays, o: Arrays, m: Arrays, health: jax.Array, seed: jax.Array, batches: Any
    ) -> Any:
        def body(carry: Any, batch: Any) -> Any:
            *carry, logs = step(*carry, seed, batch)
            return tuple(carry), logs

        carry, logs = jax.lax.scan(body, (t, s, o, m, health), batches, length=count)
        return (*carry, {name: value[-1] for name, value in logs.items()})

    return steps


def stack(batches: list[Any]) -> Any:
    """Stack equal batches along a new first axis."""
    return jax.tree.map(lambda *arrays: np.stack([np.asarray(a) for a in arrays]), *batches)
