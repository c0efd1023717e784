"""A table in lines of text: which columns stay, how wide each is, and what is cut or goes on in the next line."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from tally.report.document import Column, Row, Table
from tally.report.fitting import BOUND, SMALLEST, Line, Span, cells, longest_word, shorten, without_type, wrap

_RULE = "─"
_COMFORTABLE = 16
"""A name that is longer keeps at least so much while there is a column to leave out instead."""


def draw_table(part: Table, width: int) -> Iterator[Line]:
    """Set a table in lines of at most `width` cells, unless numbers need more."""
    titles = tuple(column.title for column in part.columns)
    sizes = _sizes(part, (titles, *part.rows, *part.totals), width)
    kept = [place for place, size in enumerate(sizes) if size is not None]
    columns = [part.columns[place] for place in kept]
    widths = [size for size in sizes if size is not None]
    rule = (Span(_RULE * (sum(widths) + _gaps(columns)), "rule"),)

    def row(values: Row, role: str) -> Iterator[Line]:
        return _row(columns, [values[place] for place in kept], widths, role)

    if any(titles):
        yield from row(titles, "head")
    if part.ruled:
        yield rule
    for values in part.rows:
        yield from row(values, "")
    if part.ruled:
        yield rule
    for values in part.totals:
        yield from row(values, "head")


def natural_sizes(rows: Sequence[Row]) -> list[int]:
    """Return how many cells each column takes if nothing is cut and nothing is broken."""
    return [max(map(cells, _lines(column))) for column in zip(*rows, strict=True)]


def _lines(column: Sequence[str]) -> list[str]:
    return [line for cell in column for line in cell.split("\n")]


def _gap(column: Column) -> int:
    return 0 if column.attached else column.gap


def _gaps(columns: Sequence[Column]) -> int:
    return sum(map(_gap, columns[1:]))


def _sizes(part: Table, rows: Sequence[Row], width: int) -> list[int | None]:
    """Give each column its width, and None to those left out."""
    natural = natural_sizes(rows)
    if any(column.width is not None for column in part.columns):
        return [_asked(column, need) for column, need in zip(part.columns, natural, strict=True)]
    contents = [_lines(column) for column in zip(*rows, strict=True)]
    left_out: set[int] = set()
    for rank, sizes in ((2, natural), (1, _least(part.columns, contents, _COMFORTABLE))):
        _leave_out(part.columns, sizes, width, rank, left_out)
    kept = [place for place in range(len(natural)) if place not in left_out]
    over = sum(natural[place] for place in kept) + _gaps([part.columns[place] for place in kept]) - width
    for step in _steps(part.columns, contents, natural):
        over = _shrink(natural, step, kept, over)
    return [size if place in kept else None for place, size in enumerate(natural)]


def _steps(
    columns: Sequence[Column], contents: Sequence[Sequence[str]], natural: Sequence[int]
) -> Iterator[list[int]]:
    """What columns shrink to, step by step: types go first, then remarks are broken, then names are cut."""
    names = [
        max(cells(without_type(line)) for line in lines) if column.flexible else size
        for column, lines, size in zip(columns, contents, natural, strict=True)
    ]
    yield names
    least = _least(columns, contents, SMALLEST)
    yield [
        max(name, size) if column.flexible else size
        for column, name, size in zip(columns, names, least, strict=True)
    ]
    yield _least(columns, contents, _COMFORTABLE)
    yield least


def _asked(column: Column, need: int) -> int:
    """A width that was asked for, wherever no number is lost by it."""
    if column.width is None:
        return max(need, SMALLEST) if column.flexible else need
    if column.flexible:
        return max(column.width, SMALLEST)
    return max(column.width, need)


def _least(columns: Sequence[Column], contents: Sequence[Sequence[str]], floor: int) -> list[int]:
    """How narrow columns may become: words give way, numbers don't, and names keep so many cells."""
    sizes: list[int] = []
    for column, lines in zip(columns, contents, strict=True):
        size = max(map(cells, lines))
        if column.wraps:
            size = min(size, max(SMALLEST, *map(longest_word, lines)))
        elif column.flexible:
            size = min(size, floor)
        sizes.append(size)
    return sizes


def _leave_out(
    columns: Sequence[Column], sizes: Sequence[int], width: int, rank: int, left_out: set[int]
) -> None:
    """Leave out columns of a rank, the last first, with what is attached to them, until the others fit."""
    for place in reversed(range(len(columns))):
        kept = [other for other in range(len(columns)) if other not in left_out]
        if sum(sizes[other] for other in kept) + _gaps([columns[other] for other in kept]) <= width:
            return
        if columns[place].optional == rank:
            left_out.add(place)
            after = place + 1
            while after < len(columns) and columns[after].attached:
                left_out.add(after)
                after += 1


def _shrink(sizes: list[int], least: Sequence[int], kept: Sequence[int], over: int) -> int:
    """Take what is too much from the widest columns first; return what is still too much."""
    while over > 0:
        spare = [place for place in kept if sizes[place] > least[place]]
        if not spare:
            break
        widest = max(spare, key=lambda place: sizes[place])
        sizes[widest] -= 1
        over -= 1
    return over


def _row(
    columns: Sequence[Column], values: Sequence[str], widths: Sequence[int], role: str
) -> Iterator[Line]:
    """Set one row; a cell of several lines makes it as high."""
    set_cells = [
        _cell(column, value, size) for column, value, size in zip(columns, values, widths, strict=True)
    ]
    for texts in zip_longest(*set_cells, fillvalue=""):
        spans: list[Span] = []
        for place, (column, text, size) in enumerate(zip(columns, texts, widths, strict=True)):
            space = " " * (size - cells(text))
            gap = " " * _gap(column) if place else ""
            spans.append(Span(gap + (space + text if column.align == "right" else text + space), role))
        yield _stripped(spans)


def _cell(column: Column, value: str, size: int) -> list[str]:
    lines = value.split("\n")
    if column.wraps:
        indent = " " if column.attached else ""
        lines = [piece for line in lines for piece in (wrap(line, size, rest=indent) if line else [""])]
    elif column.flexible:
        lines = [shorten(line, size) for line in lines]
    return [line.replace(BOUND, " ") for line in lines]


def _stripped(spans: list[Span]) -> Line:
    """Leave no spaces at the end of a line."""
    while spans and not spans[-1].text.strip():
        spans.pop()
    return (*spans[:-1], Span(spans[-1].text.rstrip(), spans[-1].role)) if spans else ()
