"""How a verb's answer reaches a person: with colour on a terminal, as plain text elsewhere or through `print_fn`."""

import sys
from collections.abc import Callable
from typing import Any

from tally.report.document import Document


def show(
    document: Document, print_fn: Callable[..., Any] | None = None, line_length: int | None = None
) -> None:
    """Print a document.

    Args:
        document: What to print.
        print_fn: What is called with the text; printing unless given.
        line_length: Characters in a line; the terminal's unless given.
    """
    from tally.report import plain, terminal

    if print_fn is not None:
        print_fn(plain.render(document, line_length))
    elif sys.stdout.isatty():
        terminal.write(document, line_length)
    else:
        print(plain.render(document, line_length))
