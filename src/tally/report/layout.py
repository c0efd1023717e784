"""Where everything in a Document goes: parts and a width become lines of styled spans."""

from collections.abc import Iterator, Sequence

from tally.report.document import Bar, Document, Formula, Note, Part, Table, Text, Title, Tree
from tally.report.fitting import BOUND, SMALLEST, Line, Span, cells, shorten, wrap
from tally.report.tables import draw_table

DEFAULT_WIDTH = 88
_RULE, _INDENT = "─", "  "


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


def _belongs(part: Part, before: Part) -> bool:
    """Tell what follows without an empty line: what a section's title is about, and more of the same kind."""
    if isinstance(before, Title):
        return before.level > 1
    return type(part) is type(before) and isinstance(part, Bar | Note | Text)


def _title(part: Title, width: int) -> Iterator[Line]:
    room = width - cells(part.aside) - 2 if part.aside else width
    text = shorten(part.text, max(room, SMALLEST))
    gap = max(width - cells(text) - cells(part.aside), 2) if part.aside else 0
    yield Span(text, "title"), Span(" " * gap + part.aside)
    if part.level == 1:
        return
    yield (Span(_RULE * width, "rule"),)


def _text(part: Text, width: int) -> Iterator[Line]:
    for line in wrap(part.text, width):
        yield (Span(line),)


def _formula(part: Formula, width: int) -> Iterator[Line]:
    for text in filter(None, (part.symbols, part.numbers)):
        whole = wrap(_bound(text), width, _INDENT, _INDENT * 2)
        fits = all(cells(line) <= width for line in whole)
        for line in whole if fits else wrap(text, width, _INDENT, _INDENT * 2):
            yield (Span(line.replace(BOUND, " "), "formula"),)


def _bound(formula: str) -> str:
    """Let a formula be broken only before a sign that stands outside parentheses."""
    depth, bound = 0, ""
    for place, char in enumerate(formula):
        depth += (char == "(") - (char == ")")
        free = depth == 0 and formula[place + 1 : place + 3] in ("+ ", "= ")
        bound += BOUND if char == " " and not free else char
    return bound


def _note(part: Note, width: int) -> Iterator[Line]:
    mark = {"note": "· ", "warning": "! ", "error": "✗ "}[part.mark]
    role = "" if part.mark == "note" else part.mark
    for line in wrap(part.text, width, mark, _INDENT):
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


def _tree(part: Tree, width: int) -> Iterator[Line]:
    yield (Span(shorten(part.label, width)),)
    for line in _branches(part.children, ""):
        yield (Span(shorten(line, width)),)


def _branches(children: Sequence[Tree], stem: str) -> Iterator[str]:
    for place, child in enumerate(children, 1):
        last = place == len(children)
        yield stem + ("└ " if last else "├ ") + child.label
        yield from _branches(child.children, stem + ("  " if last else "│ "))


def _draw(part: Part, width: int) -> Iterator[Line]:
    match part:
        case Title():
            return _title(part, width)
        case Text():
            return _text(part, width)
        case Table():
            return draw_table(part, width)
        case Formula():
            return _formula(part, width)
        case Bar():
            return _bar(part, width)
        case Tree():
            return _tree(part, width)
        case Note():
            return _note(part, width)
