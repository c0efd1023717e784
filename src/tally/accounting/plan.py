"""What training and prediction will cost before a byte is allocated: memory, multiply-adds, FLOPs, by layer and in all.

All memory is in bytes. A plan is made by following a call (`tally.plan`), or from a ledger alone (`plan_ledger`), which
knows the weights exactly and the rest as far as sizes tell.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

from tally.accounting.cache import KeyValueCache, cache_of
from tally.accounting.dialect import dialect
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, bits
from tally.accounting.words import listed, plural, sentence
from tally.accounting.work import multiply_adds, output_values, total_multiply_adds

PLAN_VERSION = 1
"""Of the data that `Plan.to_json` writes."""
RESERVE = 0.1
"""The share of a memory that is left free when the largest batch is looked for: for the runtime, and for gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of one way to run a model.

    Args:
        activations: The most that is alive at once of all that is made on the way and is no gradient; None where no
            size of it is known.
        peak: The most that is alive at once of everything known. It may be less than the sum of the parts, since
            gradients come as activations go.
    """

    activations: int | None
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """One layer's part, without the layers inside it.

    Args:
        path: Its place in the model.
        type: The name of its class.
        parameters: Scalars it holds itself.
        multiply_adds: For one example; None where it can't be told.
        flops_forward: For the batch; None where no call was followed.
        flops_backward: Likewise.
        outputs: Bytes of its outputs for the batch; None where their sizes are unknown.
        kept: Bytes it makes in the forward pass which the backward pass needs; None where no training was followed.

    Example:
        >>> LayerPlan(path="dense", type="Dense", parameters=50, multiply_adds=40).flops
    """

    path: str
    type: str
    parameters: int = 0
    multiply_adds: int | None = None
    flops_forward: int | None = None
    flops_backward: int | None = None
    outputs: int | None = None
    kept: int | None = None

    @property
    def flops(self) -> int | None:
        """Forward and backward together; None where no call was followed."""
        return None if self.flops_forward is None else self.flops_forward + (self.flops_backward or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The same step in the compiler's own figures, and in those of a run.

    Args:
        peak: Arguments, outputs and temporaries, as `compiled.memory_analysis()` has them.
        flops: Of the program as the compiler is given it, as `lowered.cost_analysis()` has them. A loop counts once.
        flops_optimised: Of the program it makes of that, as `compiled.cost_analysis()` has them.
        measured: How far a run made the process grow; None where it wasn't run.
    """

    peak: int
    flops: int
    flops_optimised: int
    measured: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a model will cost.

    Args:
        name: The model's name.
        batch_size: Examples in a batch.
        training: Whether training was planned, too; else prediction alone.
        followed: Whether a call was followed. If not, activations are the sum of all outputs, which is at least what
            training keeps, and there are no FLOPs.
        policy: What weights are stored in and computed with.
        device: What it was planned for: `"cpu"`, `"gpu"` or `"tpu"`.
        count: The parameters, as a number of scalars.
        parameters: Bytes of the weights and other variables.
        gradients: Bytes of the gradients of the trainable weights.
        optimizer: Bytes of what the optimizer remembers.
        optimizer_name: Its class; None where training isn't planned.
        batch: Bytes of a batch of inputs, and of targets where their shape is known.
        step: A training step; None where training isn't planned.
        rematerialised: A training step that keeps what goes between segments of the model and computes the rest again.
        prediction: A batch of predictions.
        multiply_adds: Forward, for one example; None where it can't be told.
        flops_forward: For the batch, in the training phase if training is planned.
        flops_backward: What the gradients take beyond that.
        flops_update: What the optimizer takes.
        transcendentals: Exponentials, roots and the like, in no other count.
        moved: Bytes that all operations read and write.
        layers: Each layer's part, in the ledger's order.
        memory: The memory it is to fit, if one was given.
        largest_batch: The largest batch that fits it, `RESERVE` left free; None where no memory was given.
        fixed: What a batch of any size takes, where memory was given.
        per_example: What each example adds to that.
        compiled: The compiler's figures, where they were asked for.
        optimizers: The bytes that each of several optimizers would remember; of a plan from a ledger alone.
        cache: The keys and values that a decoder keeps, where its configuration says their sizes.
        notes: Sentences for the reader.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)])
        >>> found = tally.plan(model, batch_size=32, print_fn=lambda text: None)
        >>> found.count, found.parameters, found.gradients, found.optimizer
        (55, 220, 220, 448)
        >>> found.multiply_adds, found.layer("dense").flops_forward
        (50, 3360)
    """

    name: str
    batch_size: int
    training: bool
    followed: bool
    policy: str
    device: str
    count: int
    parameters: int
    gradients: int = 0
    optimizer: int = 0
    optimizer_name: str | None = None
    batch: int | None = None
    step: Memory | None = None
    rematerialised: Memory | None = None
    prediction: Memory | None = None
    multiply_adds: int | None = None
    flops_forward: int | None = None
    flops_backward: int | None = None
    flops_update: int | None = None
    transcendentals: int | None = None
    moved: int | None = None
    layers: tuple[LayerPlan, ...] = ()
    memory: int | None = None
    largest_batch: int | None = None
    fixed: int | None = None
    per_example: int | None = None
    compiled: Compiled | None = None
    optimizers: tuple[tuple[str, int], ...] = ()
    cache: KeyValueCache | None = None
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> Memory | None:
        """What is planned for: a training step, or a batch of predictions."""
        return self.step if self.training else self.prediction

    @property
    def activations(self) -> int | None:
        """The most that is alive at once of all that is made on the way and is no gradient."""
        return None if self.whole is None else self.whole.activations

    @property
    def activations_rematerialised(self) -> int | None:
        """The same with rematerialisation."""
        return None if self.rematerialised is None else self.rematerialised.activations

    @property
    def peak(self) -> int | None:
        """The most memory that is in use at once."""
        return None if self.whole is None else self.whole.peak

    @property
    def flops(self) -> int | None:
        """Of a whole step on the batch; None where no call was followed."""
        if self.flops_forward is None:
            return None
        return self.flops_forward + (self.flops_backward or 0) + (self.flops_update or 0)

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte that is read or written; None where no call was followed."""
        return self.flops / self.moved if self.flops is not None and self.moved else None

    @property
    def fits(self) -> bool | None:
        """Whether the batch fits the memory, or what is known of it does; None where no memory was given."""
        if self.largest_batch is not None:
            return self.batch_size <= self.largest_batch
        spare = self.spare()
        return None if spare is None else spare >= 0

    def spare(self, way: Memory | None = None) -> int | None:
        """Return the bytes of the memory that are left at the peak, `RESERVE` apart; below 0 it doesn't fit.

        Args:
            way: A way to run the model; what is planned for unless given.

        Returns:
            The bytes; None where no memory was given.
        """
        way = way or self.whole
        if self.memory is None or way is None:
            return None
        return int(self.memory * (1 - RESERVE)) - way.peak

    @property
    def peak_error(self) -> float | None:
        """How far the planned peak is from the compiler's, as a share of that; None where it wasn't asked."""
        return None if self.compiled is None or self.peak is None else self.peak / self.compiled.peak - 1

    @property
    def flops_error(self) -> float | None:
        """How far the planned FLOPs are from the compiler's, as a share of those; None where it wasn't asked."""
        return None if self.compiled is None or self.flops is None else self.flops / self.compiled.flops - 1

    def layer(self, path: str) -> LayerPlan:
        """Return one layer's part.

        Raises:
            KeyError: There is no such layer.
        """
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise KeyError(path)

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the plan as JSON under a versioned schema, its keys always in the same order."""
        head = {"schema_version": PLAN_VERSION, "kind": "plan"}
        body = {field.name: getattr(self, field.name) for field in fields(self)}
        body |= {"peak": self.peak, "flops": self.flops, "intensity": self.intensity, "fits": self.fits}
        body |= {name: None if body[name] is None else asdict(body[name]) for name in _PARTS}
        body["layers"] = [asdict(layer) for layer in self.layers]
        return json.dumps(head | body, indent=indent, ensure_ascii=False)

    def __repr__(self) -> str:
        what = "training" if self.training else "prediction"
        peak = (
            "unknown"
            if self.peak is None
            else f"{'' if self.followed else 'at least '}{plural(self.peak, 'byte')}"
        )
        return f"<Plan of {self.name!r}: {what} with batches of {self.batch_size:,}, {peak} at the peak>"


_PARTS = ("step", "rematerialised", "prediction", "compiled", "cache")


def plan_ledger(
    ledger: Ledger,
    *,
    batch_size: int = 32,
    training: bool = True,
    policy: str | None = None,
    slots: Sequence[tuple[int, str]] = (),
    optimizer: str | None = None,
    memory: int | None = None,
) -> Plan:
    """Plan from a ledger alone: weights exactly, multiply-adds by closed form, activations as the sum of the outputs.

    Args:
        ledger: What is known of the model.
        batch_size: Examples in a batch.
        training: Whether to plan training, too.
        policy: A dtype or a policy such as `"mixed_bfloat16"`; what the ledger has unless given.
        slots: Size and dtype of each array that the optimizer remembers.
        optimizer: The optimizer's name.
        memory: The bytes that it is to fit.

    Example:
        >>> kernel = Entry(path="d/kernel", owner="d", shape=(10, 5), axes=("features", "units"))
        >>> owner = Owner(path="d", type="Dense", input_shapes=((None, 10),), output_shapes=((None, 5),))
        >>> ledger = Ledger(name="tiny", owners=(owner,), entries=(kernel,))
        >>> found = plan_ledger(ledger, batch_size=2, slots=[(50, "float32")] * 2, optimizer="Adam")
        >>> found.parameters, found.gradients, found.optimizer, found.activations, found.multiply_adds
        (200, 200, 400, 40, 50)
    """
    stored = under(ledger, policy)
    trainable = [entry for entry in stored.counted if entry.state == "trainable"]
    trains = training and bool(trainable)
    fixed = _fixed(stored, trainable if trains else (), slots if trains else ())
    computed = _computed(ledger, policy)
    outputs = _outputs(ledger, bits(computed) * batch_size)
    made, largest = (size if outputs.known else None for size in (outputs.made, outputs.largest))
    step = Memory(activations=made, peak=fixed.whole + outputs.made)
    prediction = Memory(activations=largest, peak=fixed.parameters + outputs.largest)
    each = -(-(outputs.made if trains else outputs.largest) // batch_size)
    return Plan(
        name=ledger.name,
        batch_size=batch_size,
        training=trains,
        followed=False,
        policy=policy or "as stored",
        device="any",
        count=ledger.total,
        parameters=fixed.parameters,
        gradients=fixed.gradients,
        optimizer=fixed.optimizer,
        optimizer_name=optimizer if trains else None,
        step=step if trains else None,
        prediction=prediction,
        multiply_adds=total_multiply_adds(ledger),
        layers=tuple(_layer(ledger, owner, outputs.of[owner.path]) for owner in ledger.owners),
        memory=memory,
        largest_batch=None if memory is None or not each else _fitting(memory, fixed.whole, each),
        fixed=None if memory is None else fixed.whole,
        per_example=None if memory is None or not each else each,
        optimizers=tuple(_remembered(stored)) if trains else (),
        cache=cache_of(ledger, computed),
        notes=(
            *_doubts(ledger, outputs),
            *([_NOTHING_LEARNS] if training and not trains and ledger.entries else []),
        ),
    )


class _Fixed(NamedTuple):
    """The bytes that a batch of any size takes."""

    parameters: int
    gradients: int
    optimizer: int

    @property
    def whole(self) -> int:
        return sum(self)


def _fixed(stored: Ledger, trained: Iterable[Entry], slots: Sequence[tuple[int, str]]) -> _Fixed:
    kept = (entry for entry in stored.entries if entry.state not in ("optimizer", "untracked"))
    return _Fixed(
        parameters=sum(entry.nbytes for entry in kept),
        gradients=sum(entry.nbytes for entry in trained),
        optimizer=_bytes_of(slots),
    )


class _Outputs(NamedTuple):
    """What the layers make of a batch.

    Args:
        of: Bytes by path; None where a size is open.
        made: Of all layers that hold no others, together.
        largest: Of the layer that makes most.
        known: Whether the size is known of any layer that holds no others.
        unknown: Paths of layers that would count, of which a size is open.
        unbuilt: Paths of those that wait for an input.
    """

    of: dict[str, int | None]
    made: int
    largest: int
    known: bool
    unknown: list[str]
    unbuilt: list[str]


def _outputs(ledger: Ledger, size: int) -> _Outputs:
    """Find what the layers make, at so many bits for each value of an example."""
    found = {owner.path: _bytes(output_values(owner), size) for owner in ledger.owners}
    around = {owner.path for owner in ledger.owners if ledger.children(owner.path)}
    unbuilt = [
        owner.path for owner in ledger.owners if owner.status == "unbuilt" and owner.path not in around
    ]
    sizes = [made for path, made in found.items() if path not in around and made is not None]
    return _Outputs(
        of=found,
        made=sum(sizes),
        largest=max((made or 0 for made in found.values()), default=0),
        known=bool(sizes),
        unknown=[path for path, made in found.items() if made is None and path not in {*around, *unbuilt}],
        unbuilt=unbuilt,
    )


_NOTHING_LEARNS = "Nothing in it is trainable as it is stored, so there is no training step to plan."


def _fitting(memory: int, fixed: int, each: int) -> int:
    return max(int(memory * (1 - RESERVE)) - fixed, 0) // each


def slots_of(ledger: Ledger, each: int) -> list[tuple[int, str]]:
    """Return the size and dtype of what an optimizer remembers: its step, its rate, and some arrays like each weight.

    Args:
        ledger: What is known of the model.
        each: How many arrays for each trainable weight: 2 for Adam.

    Example:
        >>> owner, kernel = Owner(path="d", type="Dense"), Entry(path="d/kernel", owner="d", shape=(10, 5))
        >>> slots_of(Ledger(name="tiny", owners=(owner,), entries=(kernel,)), 2)
        [(1, 'int32'), (1, 'float32'), (50, 'float32'), (50, 'float32')]
    """
    trained = [entry for entry in ledger.counted if entry.state == "trainable" and entry.shared_with is None]
    held = [(entry.size, entry.dtype) for entry in trained for _ in range(each)]
    return [(1, "int32"), (1, "float32"), *held] if trained else []


OPTIMIZERS = {"SGD": 0, "SGD with momentum": 1, "Lion": 1, "Adam, AdamW": 2}
"""How many arrays like each weight an optimizer keeps."""


def _remembered(ledger: Ledger) -> Iterator[tuple[str, int]]:
    for name, each in OPTIMIZERS.items():
        yield name, _bytes_of(slots_of(ledger, each))


def _bytes_of(slots: Sequence[tuple[int, str]]) -> int:
    return sum(-(-count * bits(dtype) // 8) for count, dtype in slots)


def _doubts(ledger: Ledger, outputs: _Outputs) -> Iterator[str]:
    if not outputs.known:
        yield (
            f"Activations and FLOPs are not told: the account ({ledger.source}) has no sizes of what goes in and out "
            "of the layers. What is planned is what doesn't depend on them."
        )
    else:
        yield (
            "No call could be followed. Activations are the outputs of all layers together, which is at least what "
            "training keeps; FLOPs are not told."
        )
    if outputs.unbuilt:
        waiting = sentence(dialect(ledger.source).waiting)
        yield f"{waiting} yet, and so not counted: {listed(outputs.unbuilt, 3)}."
    if outputs.unknown and outputs.known:
        sizes = f"The sizes of {plural(len(outputs.unknown), 'output')}"
        yield f"{sizes} are open and left out: {listed(outputs.unknown, 3)}."


def _layer(ledger: Ledger, owner: Owner, outputs: int | None) -> LayerPlan:
    held = sum(entry.count for entry in ledger.owned_by(owner.path) if entry.state in COUNTED)
    found = multiply_adds(ledger, owner.path)
    return LayerPlan(path=owner.path, type=owner.type, parameters=held, multiply_adds=found, outputs=outputs)


def _bytes(values: int | None, size: int) -> int | None:
    return None if values is None else -(-values * size // 8)


def under(ledger: Ledger, policy: str | None) -> Ledger:
    """The ledger as it would be under another dtype policy: real-valued weights have its dtype.

    Args:
        ledger: What is known of the model.
        policy: A dtype, or a policy such as `"mixed_bfloat16"`, whose weights are float32; None changes nothing.
    """
    if policy is None:
        return ledger
    stored = "float32" if policy.startswith("mixed_") else policy
    return replace(ledger, entries=tuple(_in(entry, stored) for entry in ledger.entries))


def _in(entry: Entry, dtype: str) -> Entry:
    return replace(entry, dtype=dtype) if "float" in entry.dtype and entry.state != "optimizer" else entry


def _computed(ledger: Ledger, policy: str | None) -> str:
    """The dtype of activations: the policy's, or that of most weights."""
    if policy is not None:
        return policy.removeprefix("mixed_")
    sizes = ledger.bytes_by_dtype
    real = {dtype: size for dtype, size in sizes.items() if "float" in dtype}
    return max(real, key=real.__getitem__, default="float32")


def solve(low: tuple[int, int], high: tuple[int, int]) -> tuple[int, int]:
    """Find what memory takes at any size and what each example adds, from two batch sizes and their peaks.

    Args:
        low: A batch size and its peak.
        high: A larger one and its peak.

    Returns:
        The fixed bytes and those of each example, rounded up.

    Example:
        >>> solve((32, 1320), (64, 1640))
        (1000, 10)
    """
    each = math.ceil((high[1] - low[1]) / (high[0] - low[0]))
    return max(low[1] - each * low[0], 0), each
