"""The document that shows what came of loading weights: what each was made of, what got nothing, what was not used."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tally.report.document import Column, Document, Note, Part, Row, Table, Title
from tally.report.figures import shape

if TYPE_CHECKING:
    from tally.saving.outcome import Left, Match, Report

_MOST = 40
"""Rows of a kind that are drawn; the rest is counted."""
_BY = {
    "name": "the name",
    "shape": "the shape, which nothing else has",
    "order": "the order",
    "place": "the place",
}

_SAID = ("name", "place")
"""Ways that leave no doubt."""


def draw(report: "Report", *, width: int | None = None) -> Document:
    """Set a report as a table of what was set, and one each of what got nothing and what went nowhere.

    Args:
        report: What came of loading weights.
        width: The line length; None leaves it to where the document is drawn.
    """
    total = len(report.matched) + len(report.missing)
    aside = f"{len(report.matched):,} of {total:,} weights set"
    parts: list[Part] = [Title(f'Weights of "{report.model}" from {report.source}', aside=aside)]
    if report.matched:
        parts.append(_matched(report.matched))
    parts += _left("Not set", report.missing)
    parts += _left("Not used", [one for one in report.left if not one.harmless])
    parts += _left("Not needed", [one for one in report.left if one.harmless])
    parts += [Note(note, "warning") for note in report.notes]
    if report.matched and not report.missing and all(one.harmless for one in report.left):
        parts.append(Note("Every weight is set, and nothing that a layer could take is left over."))
    return Document(tuple(parts), width)


def _matched(matched: "Sequence[Match]") -> Table:
    rows = [
        (one.path, shape(one.shape), " + ".join(one.sources), ", ".join(one.done), _BY.get(one.by, one.by))
        for one in matched
    ]
    is_changed, is_guessed = any(row[3] for row in rows), any(one.by not in _SAID for one in matched)
    columns = (
        Column(title="Set", flexible=True),
        Column(title="Shape"),
        Column(title="From", flexible=True),
        *((Column(title="Changed", wraps=True),) if is_changed else ()),
        *((Column(title="Found by", wraps=True),) if is_guessed else ()),
    )
    picked = (0, 1, 2, *((3,) if is_changed else ()), *((4,) if is_guessed else ()))
    return Table(columns=columns, rows=_cut([tuple(row[n] for n in picked) for row in rows]))


def _left(title: str, left: "Sequence[Left]") -> Iterator[Part]:
    if left:
        columns = (Column(title=title, flexible=True), Column(title="Shape"), Column(title="Why", wraps=True))
        yield Table(columns=columns, rows=_cut([(one.name, shape(one.shape), one.why) for one in left]))


def _cut(rows: list[Row]) -> tuple[Row, ...]:
    rest = len(rows) - _MOST
    if rest <= 1:
        return tuple(rows)
    return (*rows[:_MOST], (f"and {rest:,} more", *("" for _ in rows[0][1:])))
