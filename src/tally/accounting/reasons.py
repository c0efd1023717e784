"""The reasons behind a layer's numbers, in words: what has weights of its own, what shares them, what has none."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State
from tally.accounting.window import each_side, output_arithmetic, spatial
from tally.accounting.words import POSITIONS, ROLES, inside, instead, listed, plural, singular

Kind: TypeAlias = Literal[
    "weights",
    "inside",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One reason in words.

    Args:
        kind: What it is about, for a view that shows some reasons and not others.
        text: A sentence or two.
    """

    kind: Kind
    text: str


Entries: TypeAlias = Sequence[Entry]
Reason: TypeAlias = Callable[[Owner, Entries, Ledger], Iterator[Remark]]


def reasons(owner: Owner, ledger: Ledger) -> tuple[Remark, ...]:
    """Give the reasons behind an owner's numbers, in the order a reader asks for them."""
    entries = ledger.owned_by(owner.path)
    return tuple(remark for reason in _REASONS for remark in reason(owner, entries, ledger))


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


def _inside(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    if owner.builtin and (says := inside(owner.type)):
        yield Remark(kind="inside", text=says)


def _convolution(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    kernels = [
        entry
        for entry in entries
        if entry.state in COUNTED and any(name.startswith("kernel ") for name in entry.axes)
    ]
    for entry in kernels:
        if entry.name.startswith("lora_"):
            continue
        sizes = dict(zip(entry.axes, entry.shape, strict=True))
        if "filters" not in sizes:
            yield Remark(kind="weights", text=_each_channel(sizes))
        elif "depthwise channels" in sizes:
            filters, channels = (
                plural(sizes["filters"], "filter"),
                plural(sizes["depthwise channels"], "channel"),
            )
            text = f"Then each of the {filters} mixes the {channels} this gives, with one weight for each."
            yield Remark(kind="weights", text=text)
        else:
            yield Remark(kind="weights", text=_each_filter(sizes, owner.option("groups", 1)))
    if sides := list(dict.fromkeys(side for entry in kernels for side in _sides(entry.axes))):
        yield Remark(
            kind="absent",
            text=f"The {listed(sides)} of the input and the batch size do not enter: "
            "the same weights serve them all.",
        )


def _sides(axes: Sequence[str]) -> list[str]:
    return [name.removeprefix("kernel ") for name in axes if name.startswith("kernel ")]


def _window(sizes: dict[str, int]) -> tuple[str, str, str]:
    """Say a kernel's weights, several such kernels, and what they slide over."""
    sides = _sides(tuple(sizes))
    lengths = [sizes[f"kernel {side}"] for side in sides]
    places = POSITIONS.get(sides[0], "every position")
    if math.prod(lengths) == 1:
        return "weight", "weights", places
    if len(lengths) == 1:
        return plural(lengths[0], "weight"), f"kernels of length {lengths[0]:,}", places
    window = "×".join(f"{length:,}" for length in lengths)
    return f"{window} weights", f"{window} kernels", places


def _each_channel(sizes: dict[str, int]) -> str:
    weights, _, places = _window(sizes)
    several = sizes.get("depth multiplier", 1)
    own = f"one kernel of {weights}" if several == 1 else f"{several:,} kernels of {weights}"
    own = own if weights != "weight" else plural(several, "weight")
    return (
        f"Each of the {plural(sizes['input channels'], 'input channel')} has {own} of its own; "
        f"channels are not mixed here, and {places} shares the same weights."
    )


def _each_filter(sizes: dict[str, int], groups: int) -> str:
    weights, kernels, places = _window(sizes)
    filters = sizes["filters"]
    channels = next(size for name, size in sizes.items() if name.startswith("input channels"))
    who = "The one filter" if filters == 1 else f"Each of the {filters:,} filters"
    group = f" of its group, out of {channels * groups:,} in {groups:,} groups" if groups > 1 else ""
    if channels == 1:
        them = "it" if weights == "weight" else "them"
        return f"{who} has its own {weights} for the one input channel{group}; {places} shares {them}."
    return (
        f"{who} has its own {weights} for each of the {channels:,} input channels{group}, "
        f"{filters * channels:,} separate {kernels} in all: "
        f"they are not shared between channels, but {places} shares them."
    )


def _matrix(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    kernel = next((entry for entry in entries if entry.name == "kernel" and len(entry.shape) == 2), None)
    if owner.type == "EinsumDense" and owner.builtin:
        yield Remark(
            kind="absent",
            text="The batch size and the number of positions do not enter: all share the weights.",
        )
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
        what = {3: "sequence", 4: "image", 5: "volume"}.get(len(flat.input_shapes[0]), "input")
        product = output_arithmetic(flat)[0].partition(" values")[0]
        text = f"The batch size does not enter. The size of the {what} does, through '{flat.path}': "
        yield Remark(kind="absent", text=f"{text}{product} features.")
    elif any(len(shape) > 2 for shape in owner.input_shapes):
        text = "Only the last axis of the input enters: every position along the others shares the weights."
        yield Remark(kind="absent", text=text)
    else:
        yield Remark(
            kind="absent", text="The batch size does not enter; only the last axis of the input does."
        )


def _adapted(_: Owner, entries: Entries, __: Ledger) -> Iterator[Remark]:
    pair = [entry for entry in entries if entry.name.startswith("lora_")]
    if pair:
        whole = pair[0].name.removeprefix("lora_").removesuffix("_a")
        yield Remark(
            kind="weights",
            text=f"{listed([entry.name for entry in pair])} learn in place of {whole}: their product, "
            f"of rank {pair[-1].shape[0]:,}, is added to it.",
        )


def _normalisation(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    """What is learned of a normalisation; the statistics of BatchNormalization speak for themselves as state."""
    if not owner.builtin or not owner.type.endswith("Normalization"):
        return
    roles = [(entry, ROLES[entry.name]) for entry in entries if entry.name in ROLES]
    if owner.type == "Normalization" and entries:
        text = (
            "The mean and the variance are those of the data adapt() was given; count is how much that was."
        )
        yield Remark(kind="weights", text=text)
    if not roles:
        return
    text = (
        f"{listed([f'{entry.name} {does}' for entry, does in roles])} {_each(roles[0][0])} after normalising."
    )
    if not any(entry.state == "state" for entry in entries):
        text += " The statistics are taken anew from each input, so none are kept."
    yield Remark(kind="weights", text=text)


def _slopes(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    if owner.type != "PReLU" or not entries or not owner.builtin:
        return
    shared = [name for name, size in zip(entries[0].axes, entries[0].shape, strict=True) if size == 1]
    along = f", shared along {listed(shared)}" if shared else ""
    yield Remark(
        kind="weights", text=f"alpha is the slope for negative values: one for {_each(entries[0])}{along}."
    )


def _scores(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    if owner.builtin and entries and owner.type in ("Attention", "AdditiveAttention"):
        names = listed([entry.name for entry in entries])
        what = f", {_each(entries[0])} by itself" if entries[0].shape else ""
        weigh = "weighs" if len(entries) == 1 else "weigh"
        text = f"{names} {weigh} the scores of queries and keys{what}; the scores follow from the data."
        yield Remark(kind="weights", text=text)


def _each(entry: Entry) -> str:
    """Say what a weight has one number for: `each of the 3 channels`."""
    axes = [(name, size) for name, size in zip(entry.axes, entry.shape, strict=True) if size != 1]
    if entry.size == 1:
        return f"the one {singular(entry.axes[-1])}"
    if len(axes) == 1:
        return f"each of the {axes[0][1]:,} {axes[0][0]}"
    return f"each of the {plural(entry.size, 'place')} ({' × '.join(entry.axes)})"


def _recurrence(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    weights = {entry.name: entry for entry in entries}
    kernel, recurrent = weights.get("kernel"), weights.get("recurrent_kernel")
    if kernel is None or recurrent is None or len(recurrent.shape) != 2:
        return
    units, gates = recurrent.shape[0], recurrent.shape[1] // recurrent.shape[0]
    sums = weights["bias"].size // recurrent.shape[1] if "bias" in weights else 0
    bias = f", and has {'a bias' if sums == 1 else f'{sums} biases'}" if sums else ""
    who = f"Each of the {plural(units, 'unit')}"
    names = f" ({_GATES[owner.type]})" if owner.type in _GATES and owner.builtin else ""
    who = f"{who} has {gates:,} gates{names}. Each gate" if gates > 1 else who
    yield Remark(
        kind="weights",
        text=f"{who} weighs the {plural(kernel.shape[0], 'feature')} of a step and the "
        f"{plural(units, 'output')} of the step before{bias}.",
    )
    yield Remark(
        kind="absent",
        text="The length of the sequence and the batch size do not enter: every step uses the same weights.",
    )


_GATES = {
    "LSTMCell": "input, forget, candidate and output",
    "GRUCell": "update, reset and candidate",
}


def _table(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.type != "Embedding" or not entries or len(entries[0].shape) != 2:
        return
    tokens, width = entries[0].shape
    yield Remark(
        kind="weights",
        text=f"One row of {plural(width, 'number')} for each of the {plural(tokens, 'token')}; "
        "a token's row is looked up, nothing is multiplied.",
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
    elif owner.module == "tally.ops":
        yield Remark(kind="none", text="No weights: an operation only computes, it holds nothing.")
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
            yield Remark(kind=state, text=say(found, ledger))


def _sum(entries: Entries) -> str:
    """Write a count the way it is made: `2 × 64 = 128` for two arrays of 64."""
    sizes = {entry.size for entry in entries}
    total = sum(entry.size for entry in entries)
    return (
        f"{len(entries):,} × {sizes.pop():,} = {total:,}"
        if len(sizes) == 1 and len(entries) > 1
        else f"{total:,}"
    )


def _say_frozen(entries: Entries, ledger: Ledger) -> str:
    return (
        f"Frozen: {plural(sum(e.size for e in entries), 'parameter')} switched off{_switch(entries, ledger)}. "
        "They are counted and used, but training leaves them as they are."
    )


def _switch(entries: Entries, ledger: Ledger) -> str:
    """Say who switched weights off, and on which line."""
    by = list(dict.fromkeys(entry.frozen_by for entry in entries if entry.frozen_by is not None))
    lines = list(dict.fromkeys(entry.frozen_at for entry in entries if entry.frozen_at is not None))
    where = f" at {listed(lines)}" if lines else ""
    if not by:
        return where
    whole = "the model" if ledger.source == "tally model" else "the layer"
    return f" by {listed([repr(path) if path else whole for path in by])} (trainable = False{where})"


def _say_state(entries: Entries, _: Ledger) -> str:
    names = [entry.name for entry in entries]
    follow, touch, they = ("follows", "is", "it is") if len(names) == 1 else ("follow", "are", "they are")
    if any(name.startswith("moving_") for name in names):
        return (
            f"{listed(names)} {follow} the data: training updates {'it' if len(names) == 1 else 'them'} from each "
            f"batch, no gradient ever does, so {they} never trainable."
        )
    return f"{listed(names)} {touch} state the layer keeps for itself: no gradient ever changes it."


def _say_seed(entries: Entries, _: Ledger) -> str:
    size = sum(e.size for e in entries)
    return (
        f"{plural(size, 'number')} of random state: where the random generator stands. "
        "Not a parameter, never in the total."
    )


def _say_fixed(entries: Entries, _: Ledger) -> str:
    return (
        f"{plural(sum(e.size for e in entries), 'fixed number')} ({listed([e.name for e in entries])}): "
        "stored and used like weights, but constant; not in the total."
    )


def _say_untracked(entries: Entries, _: Ledger) -> str:
    return " ".join(f"Untracked: {text}" for text in untracked(entries))


def untracked(entries: Entries) -> Iterator[str]:
    """Say of each untracked array or layer what happens to it, and what to write instead; arrays together."""
    arrays = [entry for entry in entries if entry.note is None]
    if arrays:
        where = [f"{entry.name}{f' ({entry.origin})' if entry.origin else ''}" for entry in arrays]
        act, are, them = (
            ("acts as a weight", "is", "it") if len(arrays) == 1 else ("act as weights", "are", "them")
        )
        yield (
            f"{listed(where)} {act}, {plural(sum(e.size for e in arrays), 'number')}, but {are} not: never counted, "
            f"never trained, never saved. Make {them} in build with self.add_weight(...)."
        )
    for entry in entries:
        if entry.note is not None:
            where = f" (made at {entry.origin})" if entry.origin else ""
            yield f"{entry.note} {plural(entry.size, 'number')} not counted{where}."


_ADJECTIVES: dict[State, str] = {"trainable": "trainable", "frozen": "frozen", "state": "never trainable"}
_STATE_SAYINGS: dict[
    Literal["state", "frozen", "seed", "fixed", "untracked"], Callable[[Entries, Ledger], str]
] = {
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
    _inside,
    _convolution,
    _matrix,
    _adapted,
    _normalisation,
    _slopes,
    _scores,
    _recurrence,
    _table,
    _weightless,
    _constants,
    _states,
    _shared,
    _output,
    _notes,
)
