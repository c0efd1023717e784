"""Where everything in a Document goes: parts and a width become lines of styled spans."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tally.report.document import Bar, Document, Formula, Note, Part, Row, Table, Text, Title, Tree

DEFAULT_WIDTH = 88
_RULE, _ELLIPSIS, _INDENT = "─", "…", "  "
_BOUND = "\u00a0"  # a space at which no line ends
_SMALLEST = 10  # a flexible column keeps this much: a name's beginning and end


class Span(NamedTuple):
    """A run of text and the role it plays: `""`, "title", "head", "rule", "formula", "warning" or "error"."""

    text: str
    role: str = ""


Line = tuple[Span, ...]


def lay_out(document: Document, width: int) -> list[Line]:
    """Set a document in lines of at most `width` cells, unless numbers need more."""
    lines: list[Line] = []
    before: Part | None = None
    for part in document.parts:
        if before is not None and not _belongs(part, before):
            lines.append(())
        lines.extend(_draw(part, width))
        before = part
    return lines


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    marks = (
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
    return sum(marks)


def shorten(text: str, width: int) -> str:
    """Cut a text that is too long: a type behind a name first, then the middle, so that both ends stay.

    Example:
        >>> shorten("gap (GlobalAveragePooling2D)", 16)
        'gap (GlobalAve…)'
        >>> shorten("block_14_project_batch_norm", 17)
        'block_14…tch_norm'
    """
    if cells(text) <= width:
        return text
    name, bracket, kind = text.rpartition(" (")
    if bracket and kind.endswith(")"):
        room = width - cells(name) - len(" (…)")
        return f"{name} ({kind[:room]}…)" if room > 0 else shorten(name, width)
    for kept in range(len(text) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + _ELLIPSIS + text[len(text) - kept // 2 :]
        if cells(short) <= width:
            return short
    return _ELLIPSIS


def _belongs(part: Part, before: Part) -> bool:
    """Tell what follows without an empty line: what a section's title is about, and more of the same kind."""
    if isinstance(before, Title):
        return before.level > 1
    return type(part) is type(before) and isinstance(part, Bar | Note | Text)


def _title(part: Title, width: int) -> Iterator[Line]:
    gap = max(width - cells(part.text) - cells(part.aside), 2) if part.aside else 0
    yield Span(part.text, "title"), Span(" " * gap + part.aside)
    if part.level == 1:
        return
    yield (Span(_RULE * width, "rule"),)


def _text(part: Text, width: int) -> Iterator[Line]:
    for line in _wrap(part.text, width):
        yield (Span(line),)


def _formula(part: Formula, width: int) -> Iterator[Line]:
    for text in filter(None, (part.symbols, part.numbers)):
        whole = _wrap(_bound(text), width, _INDENT, _INDENT * 2)
        fits = all(cells(line) <= width for line in whole)
        for line in whole if fits else _wrap(text, width, _INDENT, _INDENT * 2):
            yield (Span(line.replace(_BOUND, " "), "formula"),)


def _bound(formula: str) -> str:
    """Let a formula be broken only before a sign that stands outside parentheses."""
    depth, bound = 0, ""
    for place, char in enumerate(formula):
        depth += (char == "(") - (char == ")")
        free = depth == 0 and formula[place + 1 : place + 3] in ("+ ", "= ")
        bound += _BOUND if char == " " and not free else char
    return bound


def _note(part: Note, width: int) -> Iterator[Line]:
    mark = {"note": "· ", "warning": "! ", "error": "✗ "}[part.mark]
    role = "" if part.mark == "note" else part.mark
    for line in _wrap(part.text, width, mark, _INDENT):
        yield (Span(line, role),)


def _bar(part: Bar, width: int) -> Iterator[Line]:
    room = max(width // 3, 10)
    # Half cells make small shares visible; a share that is not zero shows at least one.
    halves = max(round(2 * room * part.share), 1) if part.share > 0 else 0
    bar = "━" * (halves // 2) + "╸" * (halves % 2)
    label = shorten(part.label, room)
    yield (
        Span(label + " " * (room - cells(label)) + _INDENT),
        Span(f"{bar:<{room}}", "rule"),
        Span(f"  {part.text}".rstrip()),
    )


def _tree(part: Tree) -> Iterator[Line]:
    yield (Span(part.label),)
    for line in _branches(part.children, ""):
        yield (Span(line),)


def _branches(children: Sequence[Tree], stem: str) -> Iterator[str]:
    for place, child in enumerate(children, 1):
        last = place == len(children)
        yield stem + ("└ " if last else "├ ") + child.label
        yield from _branches(child.children, stem + ("  " if last else "│ "))


def _table(part: Table, width: int) -> Iterator[Line]:
    titles = tuple(column.title for column in part.columns)
    headed = any(titles)
    rows = [titles, *part.rows, *part.totals]
    widths = _widths(part, [_lines(row) for row in rows], width)
    rule = (Span(_RULE * (sum(widths) + sum(column.gap for column in part.columns[1:])), "rule"),)
    if headed:
        yield from _row(part, titles, widths, "head")
    if part.ruled:
        yield rule
    for row in part.rows:
        yield from _row(part, row, widths, "")
    if part.ruled:
        yield rule
    for row in part.totals:
        yield from _row(part, row, widths, "head")


def _lines(row: Row) -> list[list[str]]:
    return [cell.split("\n") for cell in row]


def _widths(part: Table, rows: list[list[list[str]]], width: int) -> list[int]:
    """Give each column what its contents need, and take what is too much from the widest flexible ones."""
    needed = [max(cells(line) for row in rows for line in row[place]) for place in range(len(part.columns))]
    widths = [
        column.width if column.width is not None and (column.flexible or column.width >= need) else need
        for column, need in zip(part.columns, needed, strict=True)
    ]
    if any(column.width is not None for column in part.columns):
        return [
            max(size, _SMALLEST) if column.flexible else size
            for size, column in zip(widths, part.columns, strict=True)
        ]
    over = sum(widths) + sum(column.gap for column in part.columns[1:]) - width
    flexible = [place for place, column in enumerate(part.columns) if column.flexible]
    while over > 0 and flexible:
        widest = max(flexible, key=lambda place: widths[place])
        if widths[widest] <= _SMALLEST:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _row(part: Table, row: Row, widths: list[int], role: str) -> Iterator[Line]:
    split = _lines(row)
    for height in range(max(len(cell) for cell in split)):
        spans: list[Span] = []
        for place, (column, cell, size) in enumerate(zip(part.columns, split, widths, strict=True)):
            text = cell[height] if height < len(cell) else ""
            text = shorten(text, size) if column.flexible else text
            space = " " * (size - cells(text))
            gap = " " * column.gap if place else ""
            spans.append(Span(gap + (space + text if column.align == "right" else text + space), role))
        yield _stripped(spans)


def _stripped(spans: list[Span]) -> Line:
    """Leave no spaces at the end of a line."""
    while spans and not spans[-1].text.strip():
        spans.pop()
    return (*spans[:-1], Span(spans[-1].text.rstrip(), spans[-1].role)) if spans else ()


def _wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        max(width, _SMALLEST),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _draw(part: Part, width: int) -> Iterator[Line]:
    match part:
        case Title():
            return _title(part, width)
        case Text():
            return _text(part, width)
        case Table():
            return _table(part, width)
        case Formula():
            return _formula(part, width)
        case Bar():
            return _bar(part, width)
        case Tree():
            return _tree(part)
        case Note():
            return _note(part, width)
