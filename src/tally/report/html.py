"""A Document as a piece of HTML that needs nothing else: no script, no file, no network; light or dark as its page."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tally.report.document import Bar, Column, Document, Formula, Note, Row, Table, Text, Title, Tree
from tally.report.tables import natural_sizes

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
"""What the pieces look like; nothing outside `class="tally"` is touched."""

PAGE = """<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root { color-scheme: light dark; } body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; }</style>"""
"""What the head of a page of its own needs besides its title."""


def render(document: Document, *, style: bool = True) -> str:
    r"""Draw a document as a fragment of HTML, to be put into a page or a notebook.

    Args:
        document: What to draw.
        style: Whether the rules for its look come with it; a page with several fragments needs `STYLE` once.

    Example:
        >>> from tally.report.document import Note
        >>> render(Document((Note("1 < 2"),)), style=False)
        '<div class="tally">\n<p class="tally-note">1 &lt; 2</p>\n</div>'
    """
    lines = ['<div class="tally">']
    if style:
        lines.append(f"<style>{STYLE}</style>")
    for part in document.parts:
        lines.extend(_DRAWN[type(part)](part))
    return "\n".join([*lines, "</div>"])


def _title(part: Title) -> Iterator[str]:
    tag = "h2" if part.level == 1 else "h3"
    aside = f" <span>{escape(part.aside)}</span>" if part.aside else ""
    yield f"<{tag}>{escape(part.text)}{aside}</{tag}>"


def _text(part: Text) -> Iterator[str]:
    yield f"<p>{escape(part.text)}</p>"


def _formula(part: Formula) -> Iterator[str]:
    lines = "<br>".join(escape(text) for text in (part.symbols, part.numbers) if text)
    yield f'<p class="tally-formula">{lines}</p>'


def _note(part: Note) -> Iterator[str]:
    yield f'<p class="tally-{part.mark}">{escape(part.text)}</p>'


def _bar(part: Bar) -> Iterator[str]:
    share = min(max(part.share, 0.0), 1.0)
    width = f' style="width:{share:.2%}"' if share else ' style="width:0;min-width:0"'
    yield f'<div class="tally-bar"><span>{escape(part.label)}</span><span><i{width}></i></span>'
    yield f"<span>{escape(part.text)}</span></div>"


def _tree(part: Tree) -> Iterator[str]:
    yield "<ul>"
    yield from _branch(part)
    yield "</ul>"


def _branch(part: Tree) -> Iterator[str]:
    if not part.children:
        yield f"<li>{escape(part.label)}</li>"
        return
    yield f"<li><details open><summary>{escape(part.label)}</summary><ul>"
    for child in part.children:
        yield from _branch(child)
    yield "</ul></details></li>"


def _table(part: Table) -> Iterator[str]:
    """Draw a table; what a row opens to is a table of columns as wide, in a row of its own."""
    if not part.ruled:
        yield '<table class="tally-plain">'
        yield from _body(part, 0, "")
        yield "</table>"
        return
    gutter = bool(part.inside)
    sizes = _sizes(part, int(gutter))
    gaps = [0 if column.attached or place == 0 else column.gap for place, column in enumerate(part.columns)]
    widths = [size + gap for size, gap in zip(sizes, gaps, strict=True)]
    columns = "".join(f'<col style="width:{width}ch">' for width in widths)
    opening = f'style="width:{sum(widths)}ch;--tally-depth:{{}}"><colgroup>{columns}</colgroup>'
    yield f'<table class="tally-ruled" {opening.format(int(gutter))}'
    yield from _head(part.columns)
    yield from _body(part, int(gutter), opening)
    if part.totals:
        yield "<tfoot>"
        yield from (_row(part.columns, row) for row in part.totals)
        yield "</tfoot>"
    yield "</table>"


def _sizes(part: Table, depth: int) -> list[int]:
    """How many characters each column takes, the tables inside included."""
    titles = tuple(column.title for column in part.columns)
    first, *others = natural_sizes((titles, *part.rows, *part.totals))
    inside = (_sizes(table, depth + 1) for _, table in part.inside)
    return [max(column) for column in zip([first + 2 * depth, *others], *inside, strict=True)]


def _head(columns: Sequence[Column]) -> Iterator[str]:
    if any(column.title for column in columns):
        cells = "".join(
            f'<th scope="col"{_class(column)}>{escape(column.title)}</th>' if column.title else "<td></td>"
            for column in columns
        )
        yield f"<thead><tr>{cells}</tr></thead>"


def _body(part: Table, depth: int, opening: str) -> Iterator[str]:
    inside = dict(part.inside)
    yield "<tbody>"
    for place, row in enumerate(part.rows):
        yield _row(part.columns, row)
        if table := inside.get(place):
            shown = " open" if table.opened else ""
            yield f'<tr><td class="tally-inside" colspan="{len(row)}"><details{shown}>'
            yield f"<summary><span>inside {escape(row[0])}</span></summary>"
            yield f"<table {opening.format(depth + 1)}"
            yield from _body(table, depth + 1, opening)
            yield "</table></details></td></tr>"
    yield "</tbody>"


def _row(columns: Sequence[Column], row: Row) -> str:
    cells = (f"<td{_class(column)}>{escape(cell)}</td>" for column, cell in zip(columns, row, strict=True))
    return f"<tr>{''.join(cells)}</tr>"


def _class(column: Column) -> str:
    names = {
        "tally-right": column.align == "right",
        "tally-attached": column.attached,
        "tally-near": column.gap == 1 and not column.attached,
    }
    chosen = " ".join(name for name, applies in names.items() if applies)
    return f' class="{chosen}"' if chosen else ""


_DRAWN: dict[type, Callable[[Any], Iterator[str]]] = {
    Bar: _bar,
    Formula: _formula,
    Note: _note,
    Table: _table,
    Text: _text,
    Title: _title,
    Tree: _tree,
}
