"""A Document as LaTeX that any installation sets: `tabular`, `verbatim`, `itemize`, and no package."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tally.report.document import Bar, Column, Document, Formula, Note, Row, Table, Text, Title, Tree
from tally.report.fitting import BOUND

_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    BOUND: "~",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "…": r"\dots{}",
    "→": r"$\to$",
    "✗": r"$\times$",
}


def render(document: Document) -> str:
    r"""Draw a document as LaTeX, to be put into a paper with `\input`.

    Args:
        document: What to draw.

    Example:
        >>> from tally.report.document import Text
        >>> print(render(Document((Text("2 × 3 is 100 % of conv_1"),))))
        2 $\times$ 3 is 100 \% of conv\_1
    """
    return "\n\n".join("\n".join(_DRAWN[type(part)](part)) for part in document.parts)


def _escape(text: str) -> str:
    return re.sub(r"[\\&%$#_{}~^<>|\u00a0×·−≥≤≈…→✗]", lambda found: _SIGNS[found[0]], text)


def _title(part: Title) -> Iterator[str]:
    aside = rf" \hfill {_escape(part.aside)}" if part.aside else ""
    yield rf"\noindent\textbf{{{_escape(part.text)}}}{aside}\par\smallskip"


def _text(part: Text) -> Iterator[str]:
    yield _escape(part.text)


def _formula(part: Formula) -> Iterator[str]:
    lines = r" \\ ".join(rf"\texttt{{{_escape(text)}}}" for text in (part.symbols, part.numbers) if text)
    yield rf"\begin{{quote}}{lines}\end{{quote}}"


def _note(part: Note) -> Iterator[str]:
    mark = {"note": "", "warning": r"\textbf{Warning:} ", "error": r"\textbf{Error:} "}[part.mark]
    yield rf"\noindent {{\small {mark}{_escape(part.text)}}}\par"


def _bar(part: Bar) -> Iterator[str]:
    share = min(max(part.share, 0.0), 1.0)
    yield rf"\noindent {_escape(part.label)} \rule{{{share * 0.5:.4f}\linewidth}}{{1ex}} {_escape(part.text)}\par"


def _tree(part: Tree) -> Iterator[str]:
    yield from _items((part,))


def _items(parts: Sequence[Tree]) -> Iterator[str]:
    yield r"\begin{itemize}"
    for part in parts:
        yield rf"\item {_escape(part.label)}"
        if part.children:
            yield from _items(part.children)
    yield r"\end{itemize}"


def _table(part: Table) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{_setting(part.columns)}}}"
    if any(column.title for column in part.columns):
        yield _line(_headings(part.columns))
    if part.ruled:
        yield r"\hline"
    for row in part.rows:
        yield from _row(row)
    if part.ruled:
        yield r"\hline"
    for row in part.totals:
        yield from _row(row)
    yield r"\end{tabular}\par\medskip"


def _setting(columns: Sequence[Column]) -> str:
    """One letter for each column; nothing stands between a column and what is attached to it."""
    letters = [("@{}" if column.attached else "") + column.align[0] for column in columns]
    return "@{}" + "".join(letters) + "@{}"


def _headings(columns: Sequence[Column]) -> list[str]:
    """One heading for a column and what is attached to it, on the side of the numbers."""
    return [rf"\textbf{{{_escape(column.title)}}}" if column.title else "" for column in columns]


def _row(row: Row) -> Iterator[str]:
    """Write a row; a cell of several lines makes it as many."""
    split = [cell.split("\n") for cell in row]
    for height in range(max(map(len, split))):
        yield _line([_cell(lines[height]) if height < len(lines) else "" for lines in split])


def _cell(text: str) -> str:
    """A cell, as far in as the lines of a tree before it are long; the space before a remark stays."""
    name = text.lstrip("│├└ ")
    lead = len(text) - len(name)
    return r"\quad " * (lead // 2) + "~" * (lead % 2) + _escape(name)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


_DRAWN: dict[type, Callable[[Any], Iterator[str]]] = {
    Bar: _bar,
    Formula: _formula,
    Note: _note,
    Table: _table,
    Text: _text,
    Title: _title,
    Tree: _tree,
}
