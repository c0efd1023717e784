"""What can be found in a ledger alone, and the diagnosis that gathers all findings."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tally.accounting.dialect import dialect
from tally.accounting.finding import SEVERITIES, Finding, Severity
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, bits, learns
from tally.accounting.reasons import follows_data, reasons
from tally.accounting.weightless import implied
from tally.accounting.words import listed, plural


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Diagnosis:
    """What was found in a model.

    Args:
        name: The model's name.
        findings: Errors first, then warnings, then notes.
        followed: Whether a call could be followed; without one, only what is stored could be looked at.
        source: Where the model's ledger was read from.
    """

    name: str
    findings: tuple[Finding, ...]
    followed: bool = True
    source: str = "tally model"

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes the model do something else than its code says."""
        return self.of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is probably not what was meant."""
        return self.of("warning")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What explains a number; nothing is wrong there."""
        return self.of("note")

    @property
    def holds(self) -> bool:
        """Whether there is no error and no warning."""
        return not self.errors and not self.warnings

    def __repr__(self) -> str:
        return f"<Diagnosis of {self.name!r}: {counted(self)}>"


def counted(diagnosis: Diagnosis) -> str:
    """Say how many findings of each severity there are.

    Example:
        >>> counted(Diagnosis(name="m", findings=(Finding(code="T301", layer="", what="It is unused."),)))
        '1 warning'
    """
    parts = [plural(len(found), severity) for severity in SEVERITIES if (found := diagnosis.of(severity))]
    return listed(parts) or "nothing found"


def arranged(findings: Iterable[Finding], ledger: Ledger) -> tuple[Finding, ...]:
    """Each finding once: errors, then warnings, then notes; within those by the layer's place, then by code."""
    places = {owner.path: place for place, owner in enumerate(ledger.owners)}
    last = len(places)

    def rank(finding: Finding) -> tuple[int, int, str]:
        severity = SEVERITIES.index(finding.severity or "error")
        return severity, places.get(finding.layer, last), finding.code

    return tuple(sorted(dict.fromkeys(findings), key=rank))


def findings_of_ledger(ledger: Ledger) -> Iterator[Finding]:
    """Find what the ledger itself tells: constants, what is unbuilt, shared, frozen, state, optimizer, packed."""
    for owner in ledger.owners:
        yield from _constants(owner, ledger)
        yield from _unbuilt(owner, ledger)
        yield from _shared(owner, ledger)
        yield from _state(owner, ledger)
        yield from _packed(owner, ledger)
    yield from _frozen(ledger)
    yield from _optimizer(ledger)


def _constants(owner: Owner, ledger: Ledger) -> Iterator[Finding]:
    numbers = owner.constants or implied(owner)
    if numbers:
        said = [r.text for r in reasons(owner, ledger) if r.kind == "constant"]
        yield Finding(
            code="T108",
            layer=owner.path,
            what=" ".join(said),
            why="They are no parameters: not counted, not trained.",
            fix=dialect(ledger.source).learn,
            where=owner.origin,
            count=sum(count for _, count, _, _ in numbers),
        )


def _unbuilt(owner: Owner, ledger: Ledger) -> Iterator[Finding]:
    """Name the outermost layer that has nothing yet, not each of those inside it."""
    if not _is_empty(owner, ledger) or _is_inside_empty(owner, ledger):
        return
    waiting = [one.path for one in ledger.owners if one.status == "unbuilt" and not ledger.children(one.path)]
    inside = [path for path in waiting if path.startswith(f"{owner.path}/" if owner.path else "") and path]
    yield Finding(
        code="T201",
        layer=owner.path,
        what=f"{owner.type} '{owner.path or owner.name}' has seen no input shape, so its weights don't exist yet"
        f"{f': {listed(inside)}' if inside else ''}.",
        why=f"Its count is unknown, not zero; {dialect(ledger.source).uncounted}.",
        fix=dialect(ledger.source).feed,
        where=owner.origin,
        names=(owner.path or owner.name,),
    )


def _is_empty(owner: Owner, ledger: Ledger) -> bool:
    return owner.status == "unbuilt" and not any(e.state in COUNTED for e in ledger.under(owner.path))


def _is_inside_empty(owner: Owner, ledger: Ledger) -> bool:
    with suppress(KeyError):  # the whole model may have no row of its own
        return owner.path != "" and _is_empty(ledger.parent(owner.path), ledger)
    return False


def _shared(owner: Owner, ledger: Ledger) -> Iterator[Finding]:
    if owner.shared_with is not None:
        yield Finding(
            code="T305",
            layer=owner.path,
            what=f"'{owner.path}' is the same layer as '{owner.shared_with}'.",
            why="Its weights count once, there; a gradient of each use reaches them.",
            where=owner.origin,
            names=(owner.shared_with,),
        )
        return
    for note in owner.notes:
        if re.search("counts once|counted once", note):
            yield Finding(code="T305", layer=owner.path, what=note, where=owner.origin, names=(owner.path,))
    for entry in ledger.owned_by(owner.path):
        if entry.shared_with is not None:
            yield Finding(
                code="T305",
                layer=owner.path,
                what=f"'{entry.path}' is the same weight as '{entry.shared_with}'.",
                why="It counts once, there; a gradient of each use reaches it.",
                where=entry.origin,
                names=(entry.shared_with,),
                count=entry.size,
            )


def _state(owner: Owner, ledger: Ledger) -> Iterator[Finding]:
    held = [entry for entry in ledger.owned_by(owner.path) if entry.shared_with is None]
    averages = " that follows the data" if any(follows_data(entry, owner) for entry in held) else ""
    for state, told in (("state", f"state{averages}"), ("seed", "a random generator's state")):
        found = [entry for entry in held if entry.state == state]
        if found:
            yield Finding(
                code="T404",
                layer=owner.path,
                what=f"{listed([e.name for e in found])}: {_numbers(found)} of {told}.",
                why="No gradient ever changes them."
                + (
                    " They are part of the total." if state in COUNTED else " They are not part of the total."
                ),
                where=found[0].origin,
                names=tuple(e.path for e in found),
                count=_size(found),
            )


def _packed(owner: Owner, ledger: Ledger) -> Iterator[Finding]:
    packed = [e for e in ledger.owned_by(owner.path) if e.state in COUNTED and _is_packed(e.dtype)]
    if packed:
        yield Finding(
            code="T701",
            layer=owner.path,
            what=f"{listed([f'{e.name} ({e.dtype})' for e in packed])} {'is' if len(packed) == 1 else 'are'} stored "
            f"in few bits: {_numbers(packed)} in {plural(sum(e.nbytes for e in packed), 'byte')}.",
            why="What is stored stands for parameters of a wider type; scales stand beside it.",
            where=packed[0].origin,
            names=tuple(e.path for e in packed),
            count=_size(packed),
        )


def _is_packed(dtype: str) -> bool:
    """Whether a type has few bits and stands for a wider one; of a type without a size that isn't known."""
    with suppress(ValueError):
        return not learns(dtype) and dtype != "bool" and bits(dtype) <= _FEW_BITS
    return False


_FEW_BITS = 8


def _frozen(ledger: Ledger) -> Iterator[Finding]:
    switches: dict[tuple[str | None, str | None], list[Entry]] = {}
    for entry in ledger.entries:
        if entry.state == "frozen" and entry.shared_with is None and learns(entry.dtype):
            switches.setdefault((entry.frozen_by, entry.frozen_at), []).append(entry)
    for (by, at), entries in switches.items():
        paths = [entry.path for entry in entries] if by is None else [by]
        who = listed([repr(path) if path else "the whole model" for path in paths], 3)
        yield Finding(
            code="T401",
            layer=entries[0].owner if by is None else by,
            what=f"{_numbers(entries)} frozen: {dialect(ledger.source).switch} is off on {who}"
            f"{f', switched at {at}' if at else ''}.",
            why="They are counted, used and saved, but training leaves them as they are.",
            where=at,
            names=tuple(e.path for e in entries),
            count=_size(entries),
        )


def _optimizer(ledger: Ledger) -> Iterator[Finding]:
    kept = [entry for entry in ledger.entries if entry.state == "optimizer"]
    if kept:
        yield Finding(
            code="T503",
            layer="",
            what=f"The optimizer keeps {_numbers(kept)} beside the {plural(ledger.total, 'parameter')}.",
            why="They take memory and are saved with the model, but are never part of its total.",
            count=_size(kept),
        )


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _numbers(entries: Iterable[Entry]) -> str:
    return plural(_size(entries), "number")
