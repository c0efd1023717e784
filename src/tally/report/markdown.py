"""A Document as GitHub's Markdown, for issues and pull requests: tables stay tables, nothing is markup by accident."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tally.report.document import Bar, Column, Document, Formula, Note, Part, Row, Table, Text, Title, Tree
from tally.report.fitting import BOUND


def render(document: Document) -> str:
    r"""Draw a document as Markdown; lines are as long as they need to be.

    Args:
        document: What to draw.

    Example:
        >>> from tally.report.document import Note
        >>> render(Document((Note("a * b is no emphasis."),)))
        '> a \\* b is no emphasis.'
    """
    blocks: list[str] = []
    before: Part | None = None
    for part in document.parts:
        drawn = "\n".join(_DRAWN[type(part)](part))
        if isinstance(part, Bar) and isinstance(before, Bar):
            blocks[-1] += f"\n{drawn}"
        else:
            apart = _is_list(part) and before is not None and _is_list(before)
            blocks += ["<!-- -->", drawn] if apart else [drawn]  # else the two lists would be one
        before = part
    return "\n\n".join(blocks)


def _is_list(part: Part) -> bool:
    return isinstance(part, Bar | Tree) or (isinstance(part, Table) and not _has_headings(part))


def _has_headings(part: Table) -> bool:
    return part.ruled and any(column.title for column in part.columns)


def _escape(text: str) -> str:
    """Let every character stand for itself; an underscore inside a word does so anyway."""
    text = re.sub(r"([\\`*\[\]<>|~&$])", r"\\\1", text.replace(BOUND, " "))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)
    return re.sub(r"^(\s*)([-+#]|\d+[.)])(?=\s)", r"\1\\\2", text)


def _title(part: Title) -> Iterator[str]:
    aside = f": {_escape(part.aside)}" if part.aside else ""
    yield f"{'#' * (part.level + 2)} {_escape(part.text)}{aside}"


def _text(part: Text) -> Iterator[str]:
    yield _escape(part.text)


def _formula(part: Formula) -> Iterator[str]:
    yield "```text"
    yield from (text for text in (part.symbols, part.numbers) if text)
    yield "```"


def _note(part: Note) -> Iterator[str]:
    mark = {"note": "", "warning": "**Warning:** ", "error": "**Error:** "}[part.mark]
    yield f"> {mark}{_escape(part.text)}"


def _bar(part: Bar) -> Iterator[str]:
    yield f"- {_escape(part.label)}: {_escape(part.text) or f'{part.share:.0%}'}"


def _tree(part: Tree, stem: str = "") -> Iterator[str]:
    yield f"{stem}- {_escape(part.label)}"
    for child in part.children:
        yield from _tree(child, f"{stem}  ")


def _table(part: Table) -> Iterator[str]:
    """Draw a table; a small list of labels and values, which has no headings, is a list here, too."""
    if not _has_headings(part):
        for row in (*part.rows, *part.totals):
            yield "- " + " ".join(_escape(cell) for cell in _joined(part.columns, row) if cell)
        return
    columns = [column for column in part.columns if not column.attached]
    yield _line(tuple(_escape(column.title) for column in columns))
    yield _line(tuple("---:" if column.align == "right" else ":---" for column in columns))
    for row in part.rows:
        yield _line(tuple(map(_cell, _joined(part.columns, row))))
    for row in part.totals:
        yield _line(tuple(f"**{_cell(cell)}**" if cell else "" for cell in _joined(part.columns, row)))


def _joined(columns: Sequence[Column], row: Row) -> Row:
    """The cells of a row, each with what is attached to it."""
    cells: list[str] = []
    for column, cell in zip(columns, row, strict=True):
        if column.attached and cells:
            cells[-1] += cell
        else:
            cells.append(cell)
    return tuple(cells)


def _cell(text: str) -> str:
    """A cell in one line; the lines of a tree before it stay as long as they are."""
    name = text.lstrip("│├└ ")
    stem = text[: len(text) - len(name)].replace(" ", "&nbsp;")
    return stem + "<br>".join(_escape(line) for line in name.split("\n"))


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


_DRAWN: dict[type, Callable[[Any], Iterator[str]]] = {
    Bar: _bar,
    Formula: _formula,
    Note: _note,
    Table: _table,
    Text: _text,
    Title: _title,
    Tree: _tree,
}
