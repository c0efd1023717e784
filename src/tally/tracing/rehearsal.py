"""A training step and a prediction, written out from one followed call, to be counted and compiled.

Nothing is allocated and the model stays as it is. The step does what `fit` does: forward, loss, gradients of the
trainable weights, a look whether all are finite, the optimizer's update.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import jaxpr_as_fun

from tally import optimizers as optimizer_room
from tally.core.dtype import DTypePolicy, get_policy, is_floating
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.optimizers import Optimizer
from tally.tracing.following import Run
from tally.tracing.memory import GRADIENT, Footprint, footprint, is_gradient
from tally.tracing.program import Program, read
from tally.tracing.segments import in_segments
from tally.tracing.undisturbed import undisturbed

Spec = jax.ShapeDtypeStruct


@dataclass
class Rehearsal:
    """A function of arrays, and the shapes it is to be called with.

    Attributes:
        run: The followed call it was made from.
        function: Of the values, then what else the step takes; pure.
        variables: Those whose values it takes.
        arguments: Shapes and dtypes of its arguments.
        donated: How many of the values give their memory to the outputs; the first ones.
    """

    run: Run
    function: Callable[..., Any]
    variables: list[Variable]
    arguments: tuple[Any, ...]
    donated: int

    @cached_property
    def program(self) -> Program:
        """What it computes."""
        return read(jax.make_jaxpr(self.function)(*self.arguments), self.run.labels, self.run.root)

    @property
    def before_update(self) -> Program:
        """What it computes until all gradients are there."""
        marked = (place for place, node in enumerate(self.program.nodes) if is_gradient(node))
        return replace(self.program, nodes=self.program.nodes[: max(marked, default=-1) + 1])

    def footprint(self, device: str) -> Footprint:
        """The memory it needs on a kind of device."""
        return footprint(self.program, range(self.donated), device)


def rehearse_prediction(run: Run) -> Rehearsal:
    """What `predict` computes for a batch: only the outputs."""

    def predict(values: list[Any], inputs: list[Any]) -> Any:
        return jaxpr_as_fun(run.jaxpr)(*values, *inputs)[: run.outputs]

    return Rehearsal(run, predict, run.variables, (_specs(run.variables), run.inputs), 0)


def rehearse_training(
    run: Run, optimizer: Optimizer, losses: Sequence[Any] = (), *, rematerialise: bool = False
) -> Rehearsal:
    """One step of `fit` on a batch.

    Args:
        run: A followed call in the training phase.
        optimizer: Built for the root's trainable variables.
        losses: A function of targets and outputs for each output; where one is None, or takes no targets of the
            output's shape nor whole numbers, half the mean square of the output stands for it.
        rematerialise: Whether the forward pass is cut into segments, of which the backward pass keeps only what goes
            from one to the next, and computes the rest again.
    """
    trainable = list(run.root.trainable_variables)
    trained = set(trainable)
    others = [variable for variable in run.variables if variable not in trained]
    slots = list(optimizer.variables)
    forward = in_segments(run.jaxpr) if rematerialise else jaxpr_as_fun(run.jaxpr)
    outputs = [Spec(aval.shape, aval.dtype) for aval in run.jaxpr.out_avals[: run.outputs]]
    rule_once_a_kind = _rule_once_a_kind(optimizer)
    judge, targets = _judge(losses or [None] * len(outputs), outputs)

    def step(values: list[Any], health: Any, inputs: list[Any], targets: list[Any]) -> Any:
        weights, rest = values[: len(trainable)], values[len(trainable) : len(values) - len(slots)]

        def objective(weights: list[Any]) -> Any:
            held = dict(zip([*trainable, *others], [*weights, *rest], strict=True))
            results = forward(*(held[variable] for variable in run.variables), *inputs)
            made, added = results[: run.outputs], results[run.outputs : run.outputs + run.losses]
            assigned = results[run.outputs + run.losses :][: len(run.assigned)]
            total = judge(made, targets) + sum(jnp.sum(one) for one in added)
            return optimizer.scale_loss(total), (total, assigned)

        gradients, (total, assigned) = jax.grad(objective, has_aux=True)(weights)
        gradients = [checkpoint_name(gradient, GRADIENT) for gradient in gradients]
        with rule_once_a_kind():
            moved, new_slots = optimizer.stateless_apply(
                values[len(values) - len(slots) :], gradients, weights
            )
        fresh = dict(zip(run.assigned, assigned, strict=True))
        new = [
            *moved,
            *(fresh.get(variable, old) for variable, old in zip(others, rest, strict=True)),
            *new_slots,
        ]
        finite = jnp.array([jnp.isfinite(one).all() for one in gradients])
        is_good = jnp.isfinite(total) & jnp.all(finite) & (health[1] < 0)
        first_bad = jnp.where((health[1] < 0) & ~is_good, health[0], health[1])
        return new, jnp.stack([health[0] + 1, first_bad])

    variables = [*trainable, *others, *slots]
    arguments = (_specs(variables), Spec((2,), jnp.int32), run.inputs, targets)
    return Rehearsal(run, step, variables, arguments, len(variables))


def _rule_once_a_kind(optimizer: Any) -> Callable[[], AbstractContextManager[None]]:
    """While a block runs, let an optimizer's rule be traced once for all weights of one shape and dtype.

    A rule of the user's own may look at more than it is given, so it stays as it is.
    """
    rule = getattr(optimizer, "rule", None)
    if rule is None or not rule.__module__.startswith("tally.") or "rule" in vars(optimizer):
        return nullcontext
    jitted = jax.jit(rule)

    @contextmanager
    def exchanged() -> Iterator[None]:
        vars(optimizer)["rule"] = jitted
        try:
            yield
        finally:
            del vars(optimizer)["rule"]

    return exchanged


def _specs(variables: Sequence[Variable]) -> list[Spec]:
    return [Spec(variable.shape, variable.dtype) for variable in variables]


def _judge(losses: Sequence[Any], outputs: list[Spec]) -> tuple[Callable[[Any, Any], Any], list[Spec | None]]:
    """What is minimised, as a function of outputs and targets, and the shapes of the targets."""
    targets = [_target(loss, output) for loss, output in zip(losses, outputs, strict=True)]

    def judge(made: list[Any], targets: list[Any]) -> Any:
        every = zip(losses, made, targets, strict=True)
        return sum(
            _squares(one) if target is None else jnp.mean(loss(target, one)) for loss, one, target in every
        )

    return judge, targets


def _target(loss: Any, output: Spec) -> Spec | None:
    """The shape of targets that a loss takes with an output; None where none fits, or where there is no loss."""
    like = Spec(output.shape, jnp.float32)
    classes = Spec(output.shape[:-1], jnp.int32)
    name = getattr(getattr(loss, "fn", loss), "__name__", "")
    for target in (classes, like) if "sparse" in name else (like, classes):
        if loss is not None and _takes(loss, target, output):
            return target
    return None


def _takes(loss: Any, target: Spec, output: Spec) -> bool:
    try:
        jax.eval_shape(loss, target, output)
    except Exception:  # a loss of the user's own may refuse in any way
        return False
    return True


def _squares(output: Any) -> Any:
    return 0.5 * jnp.mean(jnp.square(output.astype(jnp.float32))) if is_floating(output.dtype) else 0.0


@contextmanager
def under_policy(root: Layer, policy: "str | DTypePolicy | None") -> Iterator[None]:
    """Let the layers that have the root's dtype policy have another while the block runs, and their weights its dtype.

    Layers that were given a policy of their own keep it, as they would in a model that was made under the other.
    """
    if policy is None:
        yield
        return
    new, old = get_policy(policy), root.dtype_policy
    layers = [layer for layer in root._flatten_layers() if layer.dtype_policy == old]
    variables = [
        variable
        for layer in layers
        for variable in layer._own_variables()
        if variable.dtype == old.variable_dtype and is_floating(variable.dtype)
    ]
    try:
        for layer in layers:
            layer._held.policy = new
        for variable in variables:
            variable.dtype = new.variable_dtype
        yield
    finally:
        for layer in layers:
            layer._held.policy = old
        for variable in variables:
            variable.dtype = old.variable_dtype


def ready_optimizer(variables: Sequence[Variable], optimizer: Any) -> Optimizer:
    """An optimizer built for some weights, without allocating and without changing the one that is given.

    Args:
        variables: The trainable weights.
        optimizer: What `compile` takes.
    """
    trainable = list(variables)
    with undisturbed(Layer(name="nothing")):  # what is put back is the counting of names and random numbers
        made: Any = optimizer_room.get(optimizer)
        if not made.built:
            made = _twin(made)
            made.build(trainable)
        elif list(made._trainable_variables) != trainable:
            made = type(made).from_config(made.get_config())
            made.build(trainable)
    return made


def _twin(optimizer: Any) -> Any:
    """An optimizer of the same settings that can be built without changing the first."""
    twin = copy.copy(optimizer)
    twin._variables = list(optimizer._variables)
    if hasattr(optimizer, "inner_optimizer"):
        twin.inner_optimizer = _twin(optimizer.inner_optimizer)
    return twin
