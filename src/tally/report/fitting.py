"""How many cells a text takes, and how one that is too long is made to fit: broken at spaces or cut in its middle."""

import re
import unicodedata
from typing import NamedTuple

BOUND = "\u00a0"
"""A space at which no line ends."""

SMALLEST = 10
"""A text is cut no shorter: a name's beginning and end."""

_ELLIPSIS = "…"
_LEAST_OF_A_TYPE = 3


class Span(NamedTuple):
    """A run of text and the role it plays: `""`, "title", "head", "rule", "formula", "warning" or "error"."""

    text: str
    role: str = ""


Line = tuple[Span, ...]


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

    How often a row stands for a layer, ` × 12` at its end, is never cut.

    Example:
        >>> shorten("gap (GlobalAveragePooling2D)", 16)
        'gap (GlobalAve…)'
        >>> shorten("blocks/0 … 11 (TransformerBlock) × 12", 26)
        'blocks/0 … 11 (Tran…) × 12'
        >>> shorten("block_14_project_batch_norm", 17)
        'block_14…tch_norm'
    """
    if cells(text) <= width:
        return text
    name, kind, times = _split(text)
    room = width - cells(times)
    if kind:
        left = room - cells(name) - len(" (…)")
        kind = f" ({kind[:left]}…)" if left >= _LEAST_OF_A_TYPE else ""
    return (name + kind if cells(name + kind) <= room else _cut_middle(name, room)) + times


def without_type(text: str) -> str:
    """Return what is left of a label when the type is cut off.

    Example:
        >>> without_type("blocks/0 … 11 (Block) × 12")
        'blocks/0 … 11 × 12'
    """
    name, _, times = _split(text)
    return name + times


def _split(text: str) -> tuple[str, str, str]:
    """A label's name, its type without the parentheses, and how often it stands for a layer."""
    found = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?( × [\d,]+)?", text, re.DOTALL)
    return (found[1], found[2] or "", found[3] or "") if found else (text, "", "")


def _cut_middle(text: str, width: int) -> str:
    for kept in range(min(len(text), max(width, 1)) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + _ELLIPSIS + text[len(text) - kept // 2 :]
        if cells(short) <= width:
            return short
    return _ELLIPSIS


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Break a text at its spaces; a name that is longer than a line is cut in its middle, a number never.

    Args:
        text: What to break.
        width: Cells in a line.
        first: What the first line begins with.
        rest: What the other lines begin with.

    Example:
        >>> wrap("1,000,000 numbers counted at a_layer_with_a_long_name", 16)
        ['1,000,000', 'numbers counted', 'at', 'a_layer_…ng_name']
    """
    room = max(width - max(cells(first), cells(rest)), 1)
    words = [_fit_word(word, room) for word in re.split(r"[ \t\r\n]+", text.strip(" \t\r\n"))]
    lead = text[: len(text) - len(text.lstrip(" "))]
    lines: list[str] = []
    line = first + lead + words[0]
    for word in words[1:]:
        if cells(line) + 1 + cells(word) <= width:
            line += f" {word}"
        else:
            lines.append(line)
            line = rest + word
    return [*lines, line]


def longest_word(text: str) -> int:
    """Return the cells of the longest piece that `wrap` keeps whole; names may be cut to `SMALLEST`."""
    return max((cells(_fit_word(word, SMALLEST)) for word in text.split(" ")), default=0)


def _fit_word(word: str, room: int) -> str:
    """Cut a name; what has no letter is a number, and what is bound to one belongs to it."""
    if cells(word) <= room or BOUND in word or not any(map(str.isalpha, word)):
        return word
    return shorten(word, room)
