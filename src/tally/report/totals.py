"""What stands below a summary's table: the figures its rows add up to, and what makes a number other than it looks."""

from collections.abc import Iterator, Sequence

from tally.accounting.dialect import dialect
from tally.accounting.ledger import Entry, Ledger, Owner, learns
from tally.accounting.reasons import untracked
from tally.accounting.words import listed, plural
from tally.report.document import Column, Note, Row, Table
from tally.report.figures import count, memory
from tally.report.fitting import BOUND

_COLUMNS = (
    Column(align="right", flexible=True),
    Column(align="right", gap=1),
    Column(gap=1, wraps=True, optional=1),
)


def totals(ledger: Ledger) -> Table:
    """Write the figures below the table, labels and numbers meeting at the colon."""
    unbuilt = len(waiting(ledger))
    counted, frozen, state = (
        ledger.counted,
        *(_in_state(ledger, *states) for states in (("frozen",), ("state",))),
    )
    rows: list[Row] = [
        _figure(
            "Total params:",
            counted,
            f"; {plural(unbuilt, 'layer')} {dialect(ledger.source).waiting}" if unbuilt else "",
            "at least " if unbuilt else "",
        ),
        _figure("Trainable params:", _in_state(ledger, "trainable")),
        _figure("Non-trainable params:", (*frozen, *state)),
    ]
    if frozen:
        rows.append(_figure("frozen:", frozen, _why_frozen(frozen)))
    if state:
        rows.append(_figure("state:", state, " never trained by gradients"))
    if seeds := _in_state(ledger, "seed"):
        rows.append(_figure("Seed state:", seeds, " not part of the total"))
    rows += _optimizer(_in_state(ledger, "optimizer"))
    if len(ledger.bytes_by_dtype) > 1:
        rows += _by_dtype(counted)
    return Table(columns=_COLUMNS, rows=tuple(rows), ruled=False)


def _why_frozen(frozen: Sequence[Entry]) -> str:
    """Name what was switched off, or the types that no gradient changes where that is all there is."""
    if not any(learns(entry.dtype) for entry in frozen):
        return f" stored as {listed(list(dict.fromkeys(entry.dtype for entry in frozen)), 3)}"
    switches = [
        repr(path) if path else "the model"
        for path in dict.fromkeys(entry.frozen_by for entry in frozen)
        if path is not None
    ]
    return f" by {listed(switches, 3)}" if switches else ""


def _figure(label: str, entries: Sequence[Entry], remark: str = "", before: str = "") -> Row:
    number, size = sum(entry.count for entry in entries), sum(entry.nbytes for entry in entries)
    return label, before + count(number), f"({_bound(memory(size))}){remark}"


def _bound(text: str) -> str:
    return text.replace(" ", BOUND)


def _optimizer(entries: tuple[Entry, ...]) -> Iterator[Row]:
    """Write what the optimizer keeps: as much again for each weight as it has averages, and a few counters."""
    counters, averages = (tuple(e for e in entries if bool(e.shape) is arrays) for arrays in (False, True))
    if entries:
        yield _figure("Optimizer params:", entries, " not part of the total")
    if counters and averages:
        yield _figure("for the weights:", averages)
        yield _figure("of its own:", counters, f" {listed([entry.name for entry in counters])}")


def _by_dtype(counted: Sequence[Entry]) -> Iterator[Row]:
    dtypes: dict[str, list[Entry]] = {}
    for entry in counted:
        dtypes.setdefault(entry.dtype, []).append(entry)
    for dtype, entries in dtypes.items():
        if any(entry.nbytes for entry in entries):
            yield _figure(f"{dtype}:", entries)


def waiting(ledger: Ledger) -> list[Owner]:
    """Find the layers that wait for an input themselves, not those which only hold some that do."""
    unbuilt = [owner for owner in ledger.owners if owner.status == "unbuilt"]
    return [owner for owner in unbuilt if not any(c.status == "unbuilt" for c in ledger.children(owner.path))]


def _in_state(ledger: Ledger, *states: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in ledger.entries if entry.state in states)


def notes(ledger: Ledger) -> Iterator[Note]:
    """Say what makes a number other than it looks."""
    words = dialect(ledger.source)
    if words.note:
        yield Note(words.note.format(source=ledger.source))
    if unbuilt := [owner.path or owner.name or ledger.name for owner in waiting(ledger)]:
        verb = "is" if len(unbuilt) == 1 else "are"
        yield Note(
            f"{listed(unbuilt)} {verb} {words.waiting}: weights take their shapes from an input, and there was "
            f"none yet. {words.feed[0].upper()}{words.feed[1:]}.",
            "warning",
        )
    for owner in ledger.owners:
        if not owner.path:
            yield from (Note(note) for note in owner.notes)
    for line, switches in _frozen_lines(ledger).items():
        who = listed([repr(path) if path else "the model" for path in switches], 3)
        yield Note(f"{who[0].upper()}{who[1:]} {'was' if len(switches) == 1 else 'were'} frozen at {line}.")
    if unsaid := _frozen_somewhere(ledger):
        who = listed([repr(path) if path else "the model" for path in unsaid], 3)
        yield Note(f"On which line {who} {'was' if len(unsaid) == 1 else 'were'} frozen is not recorded.")
    for text, owners in _untracked(ledger).items():
        yield Note(f"{listed(owners, 3)}: {text}", "warning")


def _frozen_somewhere(ledger: Ledger) -> list[str]:
    """What was switched off where no line is known: Keras keeps none, and neither does a file."""
    if not ledger.source.startswith("Keras"):
        return []
    found = (e.frozen_by for e in ledger.entries if e.frozen_by is not None and e.frozen_at is None)
    return list(dict.fromkeys(found))


def _untracked(ledger: Ledger) -> dict[str, list[str]]:
    """Gather the layers that lose weights by what is wrong with them: twelve blocks of one class say it once."""
    lost: dict[str, list[Entry]] = {}
    for entry in _in_state(ledger, "untracked"):
        lost.setdefault(entry.owner, []).append(entry)
    found: dict[str, list[str]] = {}
    for path, entries in lost.items():
        for text in untracked(entries):
            found.setdefault(text, []).append(path or ledger.name)
    return found


def _frozen_lines(ledger: Ledger) -> dict[str, list[str]]:
    """Gather what was switched off by the line that did it."""
    lines: dict[str, dict[str, None]] = {}
    for entry in _in_state(ledger, "frozen"):
        if entry.frozen_at is not None and entry.shared_with is None:
            switch = entry.path if entry.frozen_by is None else entry.frozen_by
            lines.setdefault(entry.frozen_at, {})[switch] = None
    return {line: [*switches] for line, switches in lines.items()}
