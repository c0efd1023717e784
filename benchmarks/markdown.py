"""Tables and figures in Markdown, as the report writes them."""

from collections.abc import Sequence
from typing import Any


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    r"""Lines of a table; columns whose cells are all numbers stand at the right.

    Args:
        headings: One for each column.
        rows: Cells; what is not text is written as `figure` does.

    Example:
        >>> print(*table(["model", "seconds"], [["small", 0.123456], ["large", 1234.5]]), sep="\n")
        | model | seconds |
        |---|---:|
        | small | 0.123 |
        | large | 1,234 |
    """
    cells = [[figure(cell) for cell in row] for row in rows]
    numeric = [any(_is_number(row[place]) for row in rows) for place in range(len(headings))]
    rule = "|".join("---:" if number else "---" for number in numeric)
    return [_row(headings), f"|{rule}|", *(_row(row) for row in cells)]


def figure(value: Any) -> str:
    """A value as a reader wants it: three digits of what is below a thousand, thousands apart above.

    Example:
        >>> [figure(value) for value in (0.0123456, 1.5, 12.34, 1234567, 1e-5, None, True, "as it is")]
        ['0.0123', '1.50', '12.3', '1,234,567', '1e-05', '–', 'yes', 'as it is']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    if size >= 0.1 or size == 0:
        return f"{value:.3f}"
    return f"{value:.3g}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _is_number(value: Any) -> bool:
    """Whether a cell is a number, also one written out, as `**0.92**` or `12 to 14`."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.strip("*≈ ")[:1].isdigit())
