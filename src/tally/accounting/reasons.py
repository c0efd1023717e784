"""The reasons behind a layer's numbers, in words, in the order a reader asks for them."""

from collections.abc import Callable, Iterator
from typing import Literal

from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State
from tally.accounting.remark import Entries, Reason, Remark
from tally.accounting.shapes import Sources, input_lines, output_lines
from tally.accounting.sharing import SHARING
from tally.accounting.weightless import WEIGHTLESS
from tally.accounting.words import inside, listed, plural


def reasons(owner: Owner, ledger: Ledger, came: Sources | None = None) -> tuple[Remark, ...]:
    """Give the reasons behind an owner's numbers, in the order a reader asks for them.

    Args:
        owner: The layer.
        ledger: The ledger it is in.
        came: Where the inputs of the ledger's layers come from, see `tally.accounting.shapes.sources`; found once
            for all layers, so that a ledger is not searched for each. Left out, no layer before is named.
    """
    entries = ledger.owned_by(owner.path)
    first: list[Remark] = []
    for line, arithmetic in input_lines(owner, came or {}):
        first.append(Remark(kind="input", text=line))
        if arithmetic:
            first.append(Remark(kind="arithmetic", text=arithmetic))
    last = [Remark(kind="output", text=line) for line in output_lines(owner)]
    found = [remark for reason in _REASONS for remark in reason(owner, entries, ledger)]
    return (*first, *found, *last)


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
    counters = [name for name in names if name == "num_batches_tracked"]
    if counters and len(names) > 1:
        names = [name for name in names if name not in counters]
        return (
            f"{_say_state([e for e in entries if e.name in names], _)} {counters[0]} counts the batches seen."
        )
    follow, touch, they = ("follows", "is", "it is") if len(names) == 1 else ("follow", "are", "they are")
    if any(name.startswith(("moving_", "running_")) for name in names):
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


def _notes(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    for note in owner.notes:
        yield Remark(kind="note", text=note)


_REASONS: tuple[Reason, ...] = (
    _unbuilt,
    _inside,
    *SHARING,
    *WEIGHTLESS,
    _states,
    _shared,
    _notes,
)
