"""The document that says whether a model keeps to its budget, and where it doesn't, which layer to look at."""

from collections.abc import Iterator

from tally.accounting.budget import Bound, Measure
from tally.accounting.check import Check, Measured, Part
from tally.accounting.words import plural
from tally.report.difference import draw as draw_difference
from tally.report.document import Column, Document, Note, Row, Table, Text, Title
from tally.report.document import Part as Drawn

_NOUNS: dict[Measure, str] = {
    "params": "parameter",
    "trainable": "trainable parameter",
    "bytes": "byte",
    "macs": "multiply-add",
}
_BOUNDS: dict[Bound, str] = {"max": "at most", "min": "at least", "expect": "exactly"}


def draw(check: Check, *, width: int | None = None) -> Document:
    """Set a check: all limits, and for each that doesn't hold by how much, where, and what would help.

    Args:
        check: What `tally.accounting.check` found.
        width: The line length; None leaves it to where the document is drawn.
    """
    parts: list[Drawn] = [Title(f"Budget of {check.name}: {'holds' if check.holds else 'does not hold'}")]
    if check.measured:
        parts.append(_limits(check))
    for measured in check.measured:
        if not measured.holds:
            parts.extend(_breach(measured))
    parts.extend(Note(f"{asked.layer}: {asked.what}", "error") for asked in check.asked if not asked.holds)
    kept = sum(asked.holds for asked in check.asked)
    if kept:
        parts.append(Text(f"{plural(kept, 'layer')} trainable or frozen as asked."))
    parts.extend(_findings(check))
    parts.extend(_lock(check))
    if check.untracked:
        act, are = ("acts as a weight", "is") if check.untracked == 1 else ("act as weights", "are")
        text = f"{plural(check.untracked, 'number')} {act} without being tracked, and {are} in no figure."
        parts.append(Note(text, "warning"))
    return Document(tuple(parts), width)


# -- limits --------------------------------------------------------------------------------------------------------
def _limits(check: Check) -> Table:
    columns = (
        Column(title="Limit"),
        Column(title="Layer", flexible=True),
        *(Column(title=title, align="right") for title in ("Allowed", "Found", "Left")),
    )
    rows = [_limit(measured) for measured in check.measured]
    if not any(measured.layer for measured in check.measured):
        columns, rows = (columns[0], *columns[2:]), [(row[0], *row[2:]) for row in rows]
    return Table(columns=columns, rows=tuple(rows))


def _limit(measured: Measured) -> Row:
    limit, figure, left = measured.limit, measured.figure, ""
    if figure is not None and not measured.unknown and limit.bound != "expect":
        room = -measured.excess if limit.bound == "max" else measured.excess
        left = f"{room:,}".replace("-", "−")
    found = "unknown" if figure is None else f"{'≥ ' if measured.unknown else ''}{figure:,}"
    return limit.name, measured.layer or "the model", f"{limit.value:,}", found, left


def _breach(measured: Measured) -> Iterator[Drawn]:
    limit, figure = measured.limit, measured.figure
    where = f" in {measured.layer}" if measured.layer else ""
    bound = f"{_BOUNDS[limit.bound]} {limit.value:,}"
    if figure is None or limit.holds(figure):
        told = f"{limit.name}{where} can't be told to hold: {measured.unknown}."
        yield Note(told, "error")
        return
    much, noun = abs(measured.excess), _NOUNS[limit.measure]
    many = "too many" if measured.excess > 0 else "too few"
    least = "at least " if measured.unknown else ""
    yield Note(f"{least}{plural(figure, noun)}{where}: {much:,} {many}, {bound} asked.", "error")
    if limit.bound == "max" and measured.parts:
        yield _parts(measured.parts, noun)
        first = measured.parts[0]
        formula = f": {first.formula}" if first.formula else ""
        yield Text(f"Look first at {_label(first)}{formula}.")
    for advice in measured.advice:
        yield Text(advice)


def _parts(parts: tuple[Part, ...], noun: str) -> Table:
    columns = (
        Column(title="Largest layers", flexible=True),
        Column(title=f"{noun[0].upper()}{noun[1:]}s", align="right"),
        Column(title="Share", align="right"),
    )
    rows = tuple((_label(part), f"{part.figure:,}", f"{part.share:.1%}") for part in parts)
    return Table(columns=columns, rows=rows)


def _label(part: Part) -> str:
    return f"{part.path or 'the model'} ({part.type})"


# -- findings and the lock -----------------------------------------------------------------------------------------
def _findings(check: Check) -> Iterator[Drawn]:
    if check.severity is None:
        return
    if not check.findings:
        yield Text("A diagnosis found nothing that is refused.")
    if not check.followed:
        yield Note("No call could be followed, so only what is stored was diagnosed.", "warning")
    for finding in check.findings:
        where = f" ({finding.where})" if finding.where else ""
        fix = f" To mend it: {finding.fix}" if finding.fix else ""
        text = f"{finding.code} {finding.name}, {finding.layer or 'the model'}{where}: {finding.what}{fix}"
        yield Note(text, "error")


def _lock(check: Check) -> Iterator[Drawn]:
    difference = check.difference
    if difference is None:
        return
    if difference.is_empty:
        yield Text("The model is the one of the lock.")
        return
    moved = difference.after.total - difference.before.total
    changes = f"{plural(len(difference.changes), 'change')}, {moved:+,} parameters".replace("-", "−")
    if check.keeps_lock:
        yield Note(f"The lock is kept within {check.tolerance:,} parameters: {changes}.")
        return
    yield Note(f"The model is not the one of the lock: {changes}. Take it over with --update.", "error")
    yield from draw_difference(difference).parts[1:]
