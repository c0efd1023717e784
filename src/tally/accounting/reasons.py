"""The reasons behind a layer's numbers, in words, in the order a reader asks for them."""

import re
from collections.abc import Callable, Iterator
from typing import Literal

from tally.accounting.dialect import dialect
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State, learns
from tally.accounting.remark import Entries, Reason, Remark
from tally.accounting.shapes import Sources, input_lines, output_lines
from tally.accounting.sharing import SHARING
from tally.accounting.weightless import WEIGHTLESS
from tally.accounting.words import inside, listed, plural, sentence


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
        say = dialect(ledger.source)
        inside = ledger.children(owner.path)
        what = f"some layers inside it are {say.waiting}" if inside else "it has no weights yet"
        yield Remark(
            kind="unbuilt",
            text=f"{sentence(say.waiting)}: {what}, because the shapes of weights follow from an input, and it has "
            f"seen none. {sentence(say.feed)}.",
        )


def _inside(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    if owner.builtin and (says := inside(owner.type)):
        yield Remark(kind="inside", text=says)


def _states(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    by_state: dict[State, list[Entry]] = {}
    words = dialect(ledger.source)
    for entry in entries:
        if entry.shared_with is None:
            by_state.setdefault(entry.state, []).append(entry)
    if len([state for state in by_state if state in COUNTED]) > 1:
        split: list[tuple[State, list[Entry]]] = [
            (state, by_state[state]) for state in COUNTED if state in by_state
        ]
        text = " and ".join(
            f"{_sum(found)} {words.states[state]} ({listed([e.name for e in found])})"
            for state, found in split
        )
        yield Remark(kind="state", text=f"Of these, {text}.")
    for state, say in _STATE_SAYINGS.items():
        if found := by_state.get(state):
            yield Remark(kind=state, text=say(found, owner, ledger))


def _sum(entries: Entries) -> str:
    """Write a count the way it is made: `2 × 64 = 128` for two arrays of 64."""
    sizes = {entry.size for entry in entries}
    total = sum(entry.size for entry in entries)
    return (
        f"{len(entries):,} × {sizes.pop():,} = {total:,}"
        if len(sizes) == 1 and len(entries) > 1
        else f"{total:,}"
    )


def _say_frozen(entries: Entries, _: Owner, ledger: Ledger) -> str:
    """Say what is switched off, and what no gradient could change because of its type."""
    off, packed = ([e for e in entries if learns(e.dtype) is real] for real in (True, False))
    told: list[str] = []
    if off:
        told.append(
            f"Frozen: {plural(_size(off), 'parameter')} switched off{_switch(off, ledger)}. "
            "They are counted and used, but training leaves them as they are."
        )
    if packed:
        told.append(
            f"{plural(_size(packed), 'parameter')} stored as {listed(list(dict.fromkeys(e.dtype for e in packed)))}, "
            "which no gradient changes. They are counted and used as they are."
        )
    return " ".join(told)


def _size(entries: Entries) -> int:
    return sum(entry.size for entry in entries)


def _switch(entries: Entries, ledger: Ledger) -> str:
    """Say who switched weights off, and on which line."""
    by = list(dict.fromkeys(entry.frozen_by for entry in entries if entry.frozen_by is not None))
    lines = list(dict.fromkeys(entry.frozen_at for entry in entries if entry.frozen_at is not None))
    where = f" at {listed(lines)}" if lines else ""
    switch = f" ({dialect(ledger.source).switch} = False{where})"
    if not by:
        return where or switch
    whole = "the layer" if ledger.source.endswith("layer") else "the model"
    return f" by {listed([repr(path) if path else whole for path in by])}{switch}"


def _say_state(entries: Entries, owner: Owner, ledger: Ledger) -> str:
    """Say of averages over the data, of counters of batches, and of any other state what changes it."""
    words = dialect(ledger.source)
    averages = [entry for entry in entries if follows_data(entry, owner)]
    counters = [entry for entry in entries if entry.name in _COUNTERS]
    others = [entry for entry in entries if entry not in (*averages, *counters)]
    told: list[str] = []
    if averages:
        told.append(_agreeing(words.statistics, averages))
    if counters:
        told.append(
            f"{listed([e.name for e in counters])} {'counts' if len(counters) == 1 else 'count'} the batches seen."
        )
    if others:
        told.append(_agreeing(words.own_state, others))
    return " ".join(told)


def _agreeing(text: str, entries: Entries) -> str:
    """Put the names of arrays into a sentence, with the pronoun and the verbs that go with their number."""
    one = len(entries) == 1
    return text.format_map(
        {
            "names": listed([entry.name for entry in entries]),
            "follow": "follows" if one else "follow",
            "are": "is" if one else "are",
            "them": "it" if one else "them",
            "they are": "it is" if one else "they are",
        }
    )


def follows_data(entry: Entry, owner: Owner) -> bool:
    """Tell whether state is an average over the data: by its name, or as a mean or a variance in a normalisation.

    Example:
        >>> mean = Entry(path="bn/mean", owner="bn", shape=(8,), state="state")
        >>> follows_data(mean, Owner(path="bn", type="BatchNormalization"))
        True
    """
    if entry.state != "state":
        return False
    if entry.name.startswith(("moving_", "running_")):
        return True
    # Of Keras's Normalization both are of the data that adapt() was given, once.
    normalises = re.search("(?i)norm", owner.type) is not None and owner.type != "Normalization"
    return normalises and re.fullmatch("mean|var|variance", entry.name) is not None


_COUNTERS = ("num_batches_tracked", "batch_counter")
"""Of batches, as PyTorch and Equinox call them."""


def _say_seed(entries: Entries, _: Owner, __: Ledger) -> str:
    size = sum(e.size for e in entries)
    return (
        f"{plural(size, 'number')} of random state: where the random generator stands. "
        "Not a parameter, never in the total."
    )


def _say_fixed(entries: Entries, _: Owner, ledger: Ledger) -> str:
    return (
        f"{plural(_size(entries), 'fixed number')} ({listed([e.name for e in entries])}): "
        f"{dialect(ledger.source).fixed}"
    )


def _say_untracked(entries: Entries, _: Owner, __: Ledger) -> str:
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


_STATE_SAYINGS: dict[
    Literal["state", "frozen", "seed", "fixed", "untracked"], Callable[[Entries, Owner, Ledger], str]
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
