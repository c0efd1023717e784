"""The document that shows what was found in a model: each finding with its line, its meaning and its remedy."""

from itertools import groupby

from tally.accounting.diagnose import Diagnosis, counted
from tally.accounting.dialect import dialect
from tally.accounting.finding import Finding
from tally.report.document import Column, Document, Note, Part, Row, Table, Text, Title


def draw(diagnosis: Diagnosis, *, notes: bool = True, width: int | None = None) -> Document:
    """Set a diagnosis.

    Args:
        diagnosis: What was found.
        notes: Whether to list what only explains a number.
        width: The line length; None leaves it to where the document is drawn.
    """
    parts: list[Part] = [Title(f'Diagnosis of "{diagnosis.name}"', aside=counted(diagnosis))]
    urgent = (*diagnosis.errors, *diagnosis.warnings)
    for (code, layer), alike in groupby(urgent, key=lambda one: (one.code, one.layer)):
        found = list(alike)
        parts.append(Title(f"{code} {found[0].name}", 2, layer or "the model"))
        for one in found:
            parts.extend(_said(one))
    if notes and diagnosis.notes:
        parts.append(Title("Notes: nothing is wrong there", 2))
        parts.append(_table(tuple((one.code, one.layer or "the model", one.what) for one in diagnosis.notes)))
    if diagnosis.holds and diagnosis.followed:
        parts.append(Text("Every weight is tracked, reached and trained as the code says."))
    if not diagnosis.followed:
        parts.append(Note(dialect(diagnosis.source).unfollowed))
    return Document(tuple(parts), width)


def _said(finding: Finding) -> list[Part]:
    mark = "error" if finding.severity == "error" else "warning"
    rows = (("  where", finding.where or ""), ("  means", finding.why), ("  do", finding.fix))
    return [Note(finding.what, mark), _table(tuple(row for row in rows if row[1]))]


def _table(rows: tuple[Row, ...]) -> Table:
    columns = tuple(Column() for _ in rows[0][:-1]) if rows else ()
    return Table(columns=(*columns, Column(wraps=True)), rows=rows, ruled=False)
