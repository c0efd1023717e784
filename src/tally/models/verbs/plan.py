"""`plan`: what training and prediction will cost, before a byte is allocated."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from tally.accounting.budget import read_number
from tally.accounting.ledger import Ledger
from tally.accounting.plan import RESERVE, LayerPlan, Memory, Plan, plan_ledger, solve, under
from tally.accounting.work import multiply_adds, total_multiply_adds
from tally.core.dtype import get_policy
from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.models.ledger import survey
from tally.models.verbs.show import show
from tally.models.verbs.subject import opened
from tally.optimizers import Optimizer
from tally.tracing.cost import Cost, cost_by_maker, follow_batch, paths_of, total, with_costs
from tally.tracing.following import Run
from tally.tracing.program import read
from tally.tracing.rehearsal import (
    Rehearsal,
    ready_optimizer,
    rehearse_prediction,
    rehearse_training,
    under_policy,
)

DEVICES = ("cpu", "gpu", "tpu")


def plan(
    subject: Any,
    batch_size: int = 32,
    training: bool = True,
    policy: str | None = None,
    optimizer: Any = None,
    memory: int | str | None = None,
    device: str | None = None,
    compare: bool = False,
    print_fn: Callable[..., Any] | None = None,
) -> Plan:
    """Print what training and prediction will cost before a byte is allocated, and return it as data.

    The model is followed, not run: no weight is drawn and a model larger than any memory is planned like any other.

    Args:
        subject: A model or layer of this library, a `Ledger`, or the path of a file.
        batch_size: Examples in a batch.
        training: Whether to plan training, too.
        policy: A dtype or dtype policy to plan under, such as `"mixed_bfloat16"`; the model's own unless given.
        optimizer: What `compile` takes; the compiled one, or else Adam, unless given.
        memory: A number of bytes, or a text such as `"16GB"` (16,000,000,000) or `"16GiB"`: the largest batch
            that fits it is looked for.
        device: `"cpu"`, `"gpu"` or `"tpu"`; the one at hand unless given. On the CPU, XLA needs more than elsewhere.
        compare: Whether to compile the step, too, and show the compiler's own figures and a measured run beside.
        print_fn: What is called with the text; printing unless given.

    Raises:
        ArgumentError: An argument makes no sense.

    Example:
        >>> model = tally.Sequential([tally.Input((784,)), tally.layers.Dense(10)])
        >>> found = tally.plan(model, batch_size=64, memory="1MB", device="gpu", print_fn=lambda text: None)
        >>> found.multiply_adds, found.gradients, found.fits
        (7840, 31400, True)
    """
    from tally.report.plan import draw

    _check(batch_size, policy, device, compare)
    asked = _Asked(batch_size, training, policy, optimizer, device or jax.default_backend())
    thing = opened(subject)
    wanted = None if memory is None else _room(memory)
    if isinstance(thing, Ledger) and compare:
        raise ArgumentError(
            f"There is nothing to compile: of '{thing.name}' an account is all that is known.",
            do="leave compare out, or give the model itself",
        )
    found = (
        _of_ledger(thing, asked, wanted)
        if isinstance(thing, Ledger)
        else _of_layer(thing, asked, wanted, compare)
    )
    show(draw(found), print_fn)
    return found


@dataclass(frozen=True)
class _Asked:
    """What was asked for."""

    batch_size: int
    training: bool
    policy: str | None
    optimizer: Any
    device: str


def _check(batch_size: Any, policy: str | None, device: str | None, compare: bool) -> None:
    get_policy(policy)  # says what it doesn't know
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
        raise ArgumentError(
            f"A batch can't have {batch_size!r} examples.", do="give a whole number from 1 up"
        )
    if device is not None and device not in DEVICES:
        raise ArgumentError(f"There is no device '{device}'.", do=f"use one of {', '.join(DEVICES)}")
    here = jax.default_backend()
    if compare and device not in (None, here):
        raise ArgumentError(
            f"What a compiler for the {device} says can't be compared here, where there is a {here}.",
            do=f"leave compare or device='{device}' out",
        )


def _room(memory: int | str) -> int:
    try:
        return read_number(memory, "bytes")
    except ValueError as error:
        raise ArgumentError(
            f"memory can't be read: {error}", do='give bytes, or a text such as "16GB"'
        ) from None


def _of_ledger(ledger: Ledger, asked: _Asked, memory: int | None) -> Plan:
    """A plan without a model to follow; the optimizer itself says what it remembers for weights of those shapes."""
    weights = [
        Variable(np.zeros, entry.shape, entry.dtype, name=entry.name)
        for entry in under(ledger, asked.policy).counted
        if entry.state == "trainable" and entry.shared_with is None
    ]
    slots: list[tuple[int, str]] = []
    name = None
    if asked.training and weights:
        optimizer = ready_optimizer(weights, asked.optimizer or "adam")
        slots = [(variable.count, variable.dtype) for variable in optimizer.variables]
        name = type(optimizer).__name__
    return plan_ledger(
        ledger,
        batch_size=asked.batch_size,
        training=asked.training,
        policy=asked.policy,
        slots=slots,
        optimizer=name,
        memory=memory,
    )


def _of_layer(root: Layer, asked: _Asked, memory: int | None, compare: bool) -> Plan:
    ledger = survey(root).ledger
    with under_policy(root, asked.policy):
        figures = _Figures(root, asked, asked.batch_size)
        if figures.predicted is None:
            return _of_ledger(ledger, asked, memory)
        found = _plan(figures, with_costs(root, ledger))
        if memory is not None:
            found = replace(found, **_fitting(found, root, asked, memory))
        if compare:
            from tally.tracing.measuring import compile_step

            found = replace(found, compiled=compile_step(figures.main))
    return found


class _Figures:
    """What is found of a model for one size of a batch; each part when it is first needed."""

    def __init__(self, root: Layer, asked: _Asked, batch: int) -> None:
        self.root, self.asked, self.batch = root, asked, batch

    @cached_property
    def predicted(self) -> Run | None:
        """A followed call of prediction; None where nothing is known to call the layer with."""
        return follow_batch(self.root, training=False, batch=self.batch)

    @property
    def size(self) -> int:
        """Examples in the batch: what was asked for, unless the model was made for batches of one size."""
        shapes = [spec.shape for spec in self.predicted.inputs if spec.shape] if self.predicted else []
        return shapes[0][0] if shapes else self.batch

    @cached_property
    def trained(self) -> Run:
        """A followed call in the training phase."""
        found = follow_batch(self.root, training=True, batch=self.batch)
        assert found is not None
        return found

    @cached_property
    def optimizer(self) -> Optimizer:
        """The optimizer, built."""
        given = self.asked.optimizer or getattr(self.root, "optimizer", None) or "adam"
        return ready_optimizer(self.trainable, given)

    @cached_property
    def trainable(self) -> list[Variable]:
        """The weights that are trained; none if only prediction is planned."""
        return list(self.root.trainable_variables) if self.asked.training else []

    @property
    def trains(self) -> bool:
        """Whether there is a training step to plan."""
        return bool(self.trainable)

    @cached_property
    def losses(self) -> list[Any]:
        """The compiled loss of each output, as far as it is known without targets."""
        trainer = getattr(self.root, "_trainer", None)
        return trainer.losses_by_output(self.trained.outputs) if trainer is not None else []

    @cached_property
    def step(self) -> Rehearsal:
        """A training step."""
        return rehearse_training(self.trained, self.optimizer, self.losses)

    @cached_property
    def rematerialised(self) -> Rehearsal:
        """The same, keeping little of the forward pass."""
        return rehearse_training(self.trained, self.optimizer, self.losses, rematerialise=True)

    @cached_property
    def prediction(self) -> Rehearsal:
        """A batch of predictions."""
        assert self.predicted is not None
        return rehearse_prediction(self.predicted)

    @property
    def main(self) -> Rehearsal:
        """What is planned for in the first place."""
        return self.step if self.trains else self.prediction


def _plan(figures: _Figures, ledger: Ledger) -> Plan:
    root, asked, main = figures.root, figures.asked, figures.main
    device, policy = asked.device, get_policy(asked.policy) if asked.policy else root.dtype_policy
    foot = main.footprint(device)
    work = _work(figures)
    inputs = main.arguments[-2:] if figures.trains else main.arguments[-1:]
    again = figures.rematerialised.footprint(device) if figures.trains else None
    predicted = figures.prediction.footprint(device) if figures.trains else foot
    return Plan(
        name=ledger.name,
        batch_size=figures.size,
        training=figures.trains,
        followed=True,
        policy=policy.name,
        device=device,
        count=ledger.total,
        parameters=sum(map(_nbytes, root.variables)),
        gradients=sum(map(_nbytes, figures.trainable)),
        optimizer=sum(map(_nbytes, figures.optimizer.variables)) if figures.trains else 0,
        optimizer_name=type(figures.optimizer).__name__ if figures.trains else None,
        batch=sum(map(_nbytes, jax.tree.leaves(inputs))),
        step=Memory(activations=foot.activations, peak=foot.peak) if figures.trains else None,
        rematerialised=None if again is None else Memory(activations=again.activations, peak=again.peak),
        prediction=Memory(activations=predicted.activations, peak=predicted.peak),
        multiply_adds=total_multiply_adds(ledger),
        flops_forward=total(work.forward.values()).flops,
        flops_backward=total(work.backward.values()).flops if figures.trains else None,
        flops_update=work.update.flops if figures.trains else None,
        transcendentals=work.whole.transcendentals,
        moved=foot.moved,
        layers=tuple(_layers(figures, ledger, work, foot.kept)),
        notes=tuple(_notes(figures)),
    )


def _nbytes(one: Any) -> int:
    return int(np.prod(one.shape, dtype=object)) * jax.numpy.dtype(one.dtype).itemsize


@dataclass(frozen=True)
class _Work:
    """What is computed: by layer in the forward and the backward pass, for the update, and in all."""

    forward: dict[Any, Cost]
    backward: dict[Any, Cost]
    update: Cost
    whole: Cost


def _work(figures: _Figures) -> _Work:
    if not figures.trains:
        forward = cost_by_maker(figures.prediction.program)
        return _Work(forward, {}, Cost(), total(forward.values()))
    run = figures.trained
    forward = cost_by_maker(read(run.jaxpr, run.labels, run.root))
    both = cost_by_maker(figures.step.before_update)
    backward = {maker: both.get(maker, Cost()) - forward.get(maker, Cost()) for maker in {**forward, **both}}
    whole = total(cost_by_maker(figures.step.program).values())
    return _Work(forward, backward, whole - total(both.values()), whole)


def _layers(figures: _Figures, ledger: Ledger, work: _Work, kept: dict[Any, int]) -> Iterator[LayerPlan]:
    places = paths_of(figures.root, ledger)
    makers = {path: maker for maker, paths in places.items() for path in paths}
    run = figures.trained if figures.trains else figures.predicted
    assert run is not None
    outputs: dict[Any, int] = defaultdict(int)
    for use in run.uses:
        outputs[use.layer] += sum(map(_nbytes, use.outputs))  # of a repeated block one stands for all
    counted = set(ledger.counted)
    for owner in ledger.owners:
        maker = makers.get(owner.path)
        times = len(places.get(maker, ())) or 1
        yield LayerPlan(
            path=owner.path,
            type=owner.type,
            parameters=sum(entry.count for entry in ledger.owned_by(owner.path) if entry in counted),
            multiply_adds=multiply_adds(ledger, owner.path),
            flops_forward=work.forward.get(maker, Cost()).flops // times,
            flops_backward=work.backward.get(maker, Cost()).flops // times if figures.trains else None,
            outputs=outputs.get(maker),
            kept=kept.get(maker, 0) // times if figures.trains else None,
        )


def _notes(figures: _Figures) -> Iterator[str]:
    if figures.size != figures.batch:
        yield f"The model was made for batches of {figures.size:,}: that is what was planned."
    if figures.asked.training and not figures.trains:
        yield "Nothing is trainable, so there is no training step to plan."
    if figures.trains and not any(loss is not None for loss in figures.losses):
        yield "No loss is known: half the mean square of the outputs stands for it."
    if figures.trains and figures.asked.device == "cpu":
        yield (
            "Planned for XLA on the CPU, which needs more than a GPU or TPU does, and takes no advantage of "
            "rematerialisation: it keeps what it would compute again. device='gpu' plans without what is special to "
            "the CPU."
        )
    if figures.asked.device != "cpu":
        yield (
            f"Planned for a {figures.asked.device.upper()} by the general rules of what a compiler keeps; the room its "
            "libraries take for themselves is not in it."
        )
    if any(layer.dtype_policy.name.startswith("mixed_") for layer in figures.root._flatten_layers()):
        yield "Under a mixed policy, copies of the weights in the shorter type are among the activations."
    if any(node.inner for node in figures.main.program.nodes):
        yield "A loop counts as often as it runs; XLA's own analysis counts what is in it once."


def _fitting(found: Plan, root: Layer, asked: _Asked, wanted: int) -> dict[str, int | None]:
    """Find the largest batch that fits: by the line through two sizes, then checked by following that size."""
    room = int(wanted * (1 - RESERVE))
    if found.batch_size != asked.batch_size:
        return {"memory": wanted, "largest_batch": found.batch_size if (found.peak or 0) <= room else 0}
    sizes: dict[int, int] = {asked.batch_size: found.peak or 0}

    def peak(size: int) -> int:
        if size not in sizes:
            sizes[size] = _Figures(root, asked, size).main.footprint(asked.device).peak
        return sizes[size]

    low, high = sorted((asked.batch_size, asked.batch_size * 2))
    fixed, each = solve((low, peak(low)), (high, peak(high)))
    return {
        "memory": wanted,
        "largest_batch": _largest(peak, room, fixed, each),
        "fixed": fixed,
        "per_example": each,
    }


def _largest(peak: Callable[[int], int], room: int, fixed: int, each: int) -> int:
    """The largest size whose peak fits a room; the line says where to look, and the size found is checked."""
    if each <= 0:
        return _MOST if peak(1) <= room else 0
    fits, fails = 0, _MOST
    guess = max(min((room - fixed) // each, _MOST - 1), 1)
    for _ in range(_TRIES):
        if fails - fits <= 1:
            break
        rest = room - peak(guess)
        if rest >= 0:
            fits = guess
        else:
            fails = guess
        guess = max(min(guess + (rest // each or 1), fails - 1), fits + 1)
    return fits


_MOST = 2**40
"""Larger batches are not looked for."""
_TRIES = 8
"""Sizes that are followed at most; one or two settle it unless memory is far from a line."""
