"""A Document on a terminal, with quiet colours; rich is loaded only when one is written to."""

import shutil
import sys
from typing import TYPE_CHECKING

from tally.report.document import Document
from tally.report.layout import DEFAULT_WIDTH, lay_out
from tally.report.plain import render

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {
    "": "",
    "title": "bold",
    "head": "bold",
    "rule": "dim",
    "formula": "cyan",
    "warning": "yellow",
    "error": "red",
}


def to_rich(document: Document, width: int | None = None) -> "Text":
    """Draw a document as one rich text, for a console of one's own.

    Args:
        document: What to draw.
        width: Cells in a line; the document's own width, else the terminal's, if None.
    """
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ignore", end="")
    for line in lay_out(document, width or document.width or line_length()):
        for span in line:
            text.append(span.text, style=_STYLES[span.role])
        text.append("\n")
    return text


def write(document: Document, width: int | None = None) -> None:
    """Write a document to standard output: styled on a terminal, plain text anywhere else."""
    if not sys.stdout.isatty():
        print(render(document, width))
        return
    from rich.console import Console

    # Rich would fold lines wider than the terminal, and numbers with them.
    Console(soft_wrap=True, highlight=False).print(to_rich(document, width), soft_wrap=True)


def line_length() -> int:
    """Return the width of the terminal, 88 where there is none."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns if sys.stdout.isatty() else DEFAULT_WIDTH
