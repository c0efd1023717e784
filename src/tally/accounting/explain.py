"""Why every number in a ledger is what it is: a formula, the weights one by one, and the reasons in words."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tally.accounting.formula import Formula, closed_form, product_in_words, sum_of_parts, sum_of_products
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State
from tally.accounting.window import each_side, output_arithmetic, spatial
from tally.accounting.words import POSITIONS, instead, listed, plural

Kind: TypeAlias = Literal[
    "weights",
    "absent",
    "none",
    "constant",
    "frozen",
    "state",
    "seed",
    "fixed",
    "untracked",
    "unbuilt",
    "shared",
    "output",
    "note",
]
Entries: TypeAlias = Sequence[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One reason in words.

    Args:
        kind: What it is about, for a view that shows some reasons and not others.
        text: A sentence or two.
    """

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightExplanation:
    """One parameter array as the product of its axes.

    Args:
        path: The path of its entry.
        name: What its owner calls it.
        product: Such as `"1,600 features × 10 units = 16,000"`.
        state: What training does with it.
        count: What it adds to the sum.
    """

    path: str
    name: str
    product: str
    state: State
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerExplanation:
    """Why one layer has as many parameters as it has.

    Args:
        path: The path of the layer; `""` is the model itself.
        name: Its name.
        type: Its class.
        count: All its parameters, those of the layers inside it included.
        formula: How the count comes about; None where the layer has none.
        expected: What the count will be by as much as can be told of a layer that isn't built.
        weights: Its own parameter arrays, without what random generators and optimizers keep.
        remarks: The reasons in words.
        origin: The line that made it.
    """

    path: str
    name: str
    type: str
    count: int
    formula: Formula | None
    expected: str | None
    weights: tuple[WeightExplanation, ...]
    remarks: tuple[Remark, ...]
    origin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A whole ledger explained.

    Args:
        name: The model's name.
        formula: The total as the sum of the outermost layers.
        owners: Each layer's explanation, in the ledger's order.
    """

    name: str
    formula: Formula
    owners: tuple[OwnerExplanation, ...]

    @property
    def total(self) -> int:
        """The number of parameters."""
        return self.formula.value

    def __getitem__(self, path: str) -> OwnerExplanation:
        """Return the explanation of the layer at a path.

        Raises:
            KeyError: There is none.
        """
        for owner in self.owners:
            if owner.path == path:
                return owner
        raise KeyError(path)


def explain(ledger: Ledger) -> Explanation:
    """Explain every layer of a ledger.

    Example:
        >>> axes = ("kernel height", "kernel width", "input channels", "filters")
        >>> ledger = Ledger(
        ...     name="tiny",
        ...     owners=(Owner(path="conv2d", type="Conv2D"),),
        ...     entries=(
        ...         Entry(path="conv2d/kernel", owner="conv2d", shape=(3, 3, 1, 32), axes=axes),
        ...         Entry(path="conv2d/bias", owner="conv2d", shape=(32,), axes=("filters",)),
        ...     ),
        ... )
        >>> explain(ledger)["conv2d"].formula.numbers
        '32 × (1·3·3 + 1) = 320'
    """
    return Explanation(
        name=ledger.name,
        formula=sum_of_parts(_parts(ledger, "")),
        owners=tuple(_explain_owner(ledger, owner) for owner in ledger.owners),
    )


def _explain_owner(ledger: Ledger, owner: Owner) -> OwnerExplanation:
    entries = ledger.owned_by(owner.path)
    return OwnerExplanation(
        path=owner.path,
        name=owner.name,
        type=owner.type,
        count=_total(ledger.under(owner.path)),
        formula=_formula(ledger, owner, _counted(ledger, owner)),
        expected=_expected(owner) if owner.status == "unbuilt" and not entries else None,
        weights=tuple(
            WeightExplanation(
                path=entry.path,
                name=entry.name,
                product=product_in_words(entry, owner),
                state=entry.state,
                count=entry.count,
            )
            for entry in entries
            if entry.state not in ("seed", "optimizer")
        ),
        remarks=tuple(remark for reason in _REASONS for remark in reason(owner, entries, ledger)),
        origin=owner.origin,
    )


def _parts(ledger: Ledger, path: str) -> Iterator[tuple[str, str, int]]:
    """Give the name, kind and count of each layer directly inside one, after what it owns itself."""
    yield "own weights", "own weights", _total(ledger.owned_by(path))
    for child in ledger.children(path):
        yield child.path.removeprefix(f"{path}/"), child.type, _total(ledger.under(child.path))


def _counted(ledger: Ledger, owner: Owner) -> list[Entry]:
    own = ledger.owned_by(owner.path)
    return [entry for entry in own if entry.state in COUNTED and entry.shared_with is None]


def _total(entries: Entries) -> int:
    return sum(entry.count for entry in entries if entry.state in COUNTED)


def _formula(ledger: Ledger, owner: Owner, counted: list[Entry]) -> Formula | None:
    if ledger.children(owner.path):
        bearing = [child for child in ledger.children(owner.path) if _total(ledger.under(child.path))]
        if len(bearing) == 1 and not counted:  # a wrapper's count is that of what it wraps
            return _formula(ledger, bearing[0], _counted(ledger, bearing[0]))
        return sum_of_parts(_parts(ledger, owner.path)) if bearing or counted else None
    if not counted:
        return None
    if any(entry.shape and not any(entry.axes) for entry in counted):
        return sum_of_products(counted, owner)
    return closed_form(counted)


def _expected(owner: Owner) -> str | None:
    """Give the formula of a layer that isn't built, with its options put in and only its input left open."""
    bias = " + 1" if owner.option("use_bias", True) else ""
    kernel, filters, units = owner.option("kernel_size"), owner.option("filters"), owner.option("units")
    if kernel is not None and filters is not None and "Separable" not in owner.type:
        sides = "·".join(f"{side:,}" for side in each_side(kernel, 1))
        groups = owner.option("groups", 1)
        channels = "input channels" if groups == 1 else f"input channels / {groups:,}"
        return f"{filters:,} × ({channels} · {sides}{bias})"
    if owner.type == "Dense" and units is not None:
        return f"{units:,} × (features + 1)" if bias else f"{units:,} × features"
    return None


Reason: TypeAlias = Callable[[Owner, Entries, Ledger], Iterator[Remark]]


def _unbuilt(owner: Owner, _: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.status == "unbuilt":
        what = (
            "the layers inside it are not all built"
            if ledger.children(owner.path)
            else "it has no weights yet"
        )
        yield Remark(
            kind="unbuilt",
            text=f"Not built: {what}, because the shapes of weights follow from an input, and it has "
            "seen none. Call it on data, or give the model an Input or a shape to build for.",
        )


def _convolution(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    for entry in entries:
        sizes = dict(zip(entry.axes, entry.shape, strict=True))
        sides = [name.removeprefix("kernel ") for name in entry.axes if name.startswith("kernel ")]
        channels = next((size for name, size in sizes.items() if name.startswith("input channels")), None)
        if not sides or channels is None:
            continue
        window = "×".join(f"{sizes[f'kernel {side}']:,}" for side in sides)
        places = POSITIONS.get(sides[0], "every position")
        filters = sizes.get("filters")
        yield Remark(kind="weights", text=_separate(entry, window, channels, filters, places, sizes))
        groups = owner.option("groups", 1)
        if filters is not None and groups > 1:
            yield Remark(
                kind="weights",
                text=f"In {groups:,} groups: each filter sees {channels:,} of the {channels * groups:,} "
                "input channels.",
            )
    sides = list(
        dict.fromkeys(name[7:] for entry in entries for name in entry.axes if name.startswith("kernel "))
    )
    if sides:
        yield Remark(
            kind="absent",
            text=f"The {listed(sides)} of the input and the batch size do not enter: "
            "the same weights serve them all.",
        )


def _separate(
    entry: Entry, window: str, channels: int, filters: int | None, places: str, sizes: dict[str, int]
) -> str:
    if filters is None:
        several = sizes.get("depth multiplier", 1)
        own = (
            f"its own {window} weights"
            if several == 1
            else f"{several:,} kernels of {window} weights of its own"
        )
        return (
            f"Each of the {plural(channels, 'input channel')} has {own}; "
            f"channels are not mixed here, and {places} shares the same weights."
        )
    whose = f"Each of the {filters:,} filters has its own {window} weights"
    if filters == 1:
        whose = f"The one filter has its own {window} weights"
    if channels == 1:
        return f"{whose} for the one input channel; {places} shares them."
    return (
        f"{whose} for each of the {channels:,} input channels, {filters * channels:,} separate "
        f"{window} kernels in all: they are not shared between channels, but {places} shares them."
    )


def _matrix(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    kernel = next((entry for entry in entries if entry.name == "kernel" and len(entry.shape) == 2), None)
    if owner.type != "Dense" or kernel is None:
        return
    features, units = kernel.shape
    bias = ", and one bias" if any(entry.name == "bias" for entry in entries) else ""
    yield Remark(
        kind="weights",
        text=f"Each of the {plural(units, 'unit')} has its own weight for each of the "
        f"{plural(features, 'feature')}{bias}.",
    )
    flat = _flattened(ledger, owner)
    if flat is not None:
        text = f"The batch size does not enter. The size of the image does, through '{flat.path}': "
        product = output_arithmetic(flat)[0].partition(" values")[0]
        yield Remark(kind="absent", text=f"{text}{product} features.")
    else:
        yield Remark(
            kind="absent", text="The batch size does not enter; only the last axis of the input does."
        )


def _recurrence(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    weights = {entry.name: entry for entry in entries}
    kernel, recurrent = weights.get("kernel"), weights.get("recurrent_kernel")
    if kernel is None or recurrent is None or len(recurrent.shape) != 2:
        return
    units, gates = recurrent.shape[0], recurrent.shape[1] // recurrent.shape[0]
    sums = weights["bias"].size // recurrent.shape[1] if "bias" in weights else 0
    bias = f", and has {'a bias' if sums == 1 else f'{sums} biases'}" if sums else ""
    several = f"{gates:,} gates, and each gate" if gates > 1 else "one sum, which"
    yield Remark(
        kind="weights",
        text=f"Each of the {plural(units, 'unit')} makes {several} weighs the "
        f"{plural(kernel.shape[0], 'feature')} of a step and the {plural(units, 'output')} "
        f"of the step before{bias}.",
    )
    yield Remark(
        kind="absent",
        text="The length of the sequence and the batch size do not enter: every step uses the same weights.",
    )


def _table(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.type != "Embedding" or not entries or len(entries[0].shape) != 2:
        return
    tokens, width = entries[0].shape
    yield Remark(
        kind="weights",
        text=f"A row of {plural(width, 'number')} for each of the {plural(tokens, 'token')}; "
        "rows are looked up.",
    )
    yield Remark(kind="absent", text="The length of the sequence and the batch size do not enter.")


def _flattened(ledger: Ledger, owner: Owner) -> Owner | None:
    """Find the Flatten whose values reach this layer in their number, behind dropout and the like at most."""
    for other in ledger.preceding(owner.path):
        if other.output_shapes != owner.input_shapes or (
            owner.inputs and not {other.path, other.name} & set(owner.inputs)
        ):
            return None
        if other.type == "Flatten" and output_arithmetic(other):
            return other
        owner = other
    return None


def _weightless(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.status != "no weights" or any(entry.state != "seed" for entry in ledger.under(owner.path)):
        return
    does = instead(owner.type) if owner.builtin else None
    if owner.type == "Lambda":
        yield Remark(
            kind="none",
            text="No weights: it applies the function it was given, and a function owns nothing "
            "that could be trained.",
        )
    elif does is not None:
        yield Remark(kind="none", text=f"No weights, nothing to learn: it {does}.")
    else:
        yield Remark(
            kind="none",
            text="No weights: it made none with add_weight and holds no layer that did; "
            "its output follows from its input alone.",
        )


def _constants(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    constants = owner.constants or _implied(owner)
    for what, count, value, stored in constants:
        kept = "stored but not learned" if stored else "not stored and not learned, so not counted"
        several = "number" if count == 1 else "numbers"
        each = f" of {_fraction(value)}" if value is not None else ""
        yield Remark(kind="constant", text=f"Fixed {several}: {what}, {count:,}{each}; {kept}.")
    if constants and owner.option("pool_size") is not None and owner.option("padding") == "same":
        yield Remark(
            kind="constant",
            text="Where a window hangs over the border, the mean is over the values inside: "
            "fewer and larger weights.",
        )


def _implied(owner: Owner) -> tuple[tuple[str, int, Any, bool], ...]:
    """The weights a mean implies: 1/n for each of the n values it is taken of."""
    sizes: tuple[Any, ...] = ()
    if owner.type.startswith("AveragePooling") and owner.option("pool_size") is not None:
        rank = int(owner.type[-2]) if owner.type[-2:-1].isdigit() else 1
        sizes, what = (
            each_side(owner.option("pool_size"), rank),
            "the implied weights of the mean in each window",
        )
    elif owner.type.startswith("GlobalAveragePooling") and owner.input_shapes:
        sizes, what = (
            spatial(owner, owner.input_shapes[0]),
            "the implied weights of the mean over all positions",
        )
    elif owner.type == "Average" and owner.input_shapes:
        sizes, what = (len(owner.input_shapes),), "the implied weights of the mean of the inputs"
    else:
        return ()
    if not sizes or None in sizes:
        return ()
    number = math.prod(sizes)
    return ((what, number, f"1/{number:,}", False),)


def _fraction(value: Any) -> str:
    """Write 0.1111 as the fraction it is."""
    if isinstance(value, float) and 0 < value < 1 and abs(1 / value - round(1 / value)) < 1e-6 / value:
        return f"1/{round(1 / value):,}"
    return str(value)


def _states(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    by_state: dict[State, list[Entry]] = {}
    for entry in entries:
        if entry.shared_with is None:
            by_state.setdefault(entry.state, []).append(entry)
    if len([state for state in by_state if state in COUNTED]) > 1:
        split: list[tuple[State, list[Entry]]] = [
            (state, by_state[state]) for state in COUNTED if state in by_state
        ]
        text = " and ".join(
            f"{_sum(found)} {_ADJECTIVES[state]} ({listed([e.name for e in found])})"
            for state, found in split
        )
        yield Remark(kind="state", text=f"Of these, {text}.")
    for state, say in _STATE_SAYINGS.items():
        if found := by_state.get(state):
            yield Remark(kind=state, text=say(found))


def _sum(entries: Entries) -> str:
    """Write a count the way it is made: `2 × 64 = 128` for two arrays of 64."""
    sizes = {entry.size for entry in entries}
    total = sum(entry.size for entry in entries)
    return (
        f"{len(entries):,} × {sizes.pop():,} = {total:,}"
        if len(sizes) == 1 and len(entries) > 1
        else f"{total:,}"
    )


def _say_frozen(entries: Entries) -> str:
    switches = list(dict.fromkeys(entry.frozen_by for entry in entries if entry.frozen_by is not None))
    by = f" by {listed([repr(path) if path else 'the model' for path in switches])}" if switches else ""
    return (
        f"Frozen: {plural(sum(e.size for e in entries), 'parameter')} switched off{by} (trainable = False). "
        "They are counted and used, but training leaves them as they are."
    )


def _say_state(entries: Entries) -> str:
    names = [entry.name for entry in entries]
    are = "is" if len(names) == 1 else "are"
    if any(name.startswith("moving_") for name in names):
        return (
            f"{listed(names)} {are} statistics of the data the layer keeps while training: "
            "no gradient ever touches them, so they are never trainable."
        )
    return f"{listed(names)} {are} state the layer keeps for itself: no gradient ever touches it."


def _say_seed(entries: Entries) -> str:
    size = sum(e.size for e in entries)
    return (
        f"{plural(size, 'number')} of random state: where the random generator stands. "
        "Not a parameter, never in the total."
    )


def _say_fixed(entries: Entries) -> str:
    return (
        f"{plural(sum(e.size for e in entries), 'fixed number')} ({listed([e.name for e in entries])}): "
        "stored and used like weights, but constant; not in the total."
    )


def _say_untracked(entries: Entries) -> str:
    where = [f"{entry.name}{f' ({entry.origin})' if entry.origin else ''}" for entry in entries]
    return (
        f"Untracked: {listed(where)} act as weights, {plural(sum(e.size for e in entries), 'number')}, "
        "but are not: never counted, never trained, never saved. "
        "Make them in build with self.add_weight(...)."
    )


_ADJECTIVES: dict[State, str] = {"trainable": "trainable", "frozen": "frozen", "state": "never trainable"}
_STATE_SAYINGS: dict[Literal["state", "frozen", "seed", "fixed", "untracked"], Callable[[Entries], str]] = {
    "state": _say_state,
    "frozen": _say_frozen,
    "seed": _say_seed,
    "fixed": _say_fixed,
    "untracked": _say_untracked,
}


def _shared(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.shared_with is not None:
        yield Remark(
            kind="shared",
            text=f"The same layer as '{owner.shared_with}', which counts its weights: none are added.",
        )
        return
    for entry in entries:
        if entry.shared_with is not None:
            yield Remark(
                kind="shared",
                text=f"{entry.name} is '{entry.shared_with}' used again: {entry.size:,} counted there.",
            )


def _output(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    for line in output_arithmetic(owner):
        yield Remark(kind="output", text=line)


def _notes(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    for note in owner.notes:
        yield Remark(kind="note", text=note)


_REASONS: tuple[Reason, ...] = (
    _unbuilt,
    _convolution,
    _matrix,
    _recurrence,
    _table,
    _weightless,
    _constants,
    _states,
    _shared,
    _output,
    _notes,
)
