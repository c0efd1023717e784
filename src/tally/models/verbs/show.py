"""How a verb's answer reaches a person: with colour on a terminal, as HTML in a notebook, else as plain text."""

import sys
from collections.abc import Callable
from typing import Any

from tally.report.document import Document


def show(
    document: Document,
    print_fn: Callable[..., Any] | None = None,
    line_length: int | None = None,
    page: Document | None = None,
) -> None:
    """Show a document.

    Args:
        document: What to show.
        print_fn: What is called with the text; it is shown where the user looks unless given.
        line_length: Characters in a line; the terminal's unless given.
        page: What a notebook shows instead, where its own form of the document says more.
    """
    from tally.report import html, notebook, plain, terminal

    if print_fn is not None:
        print_fn(plain.render(document, line_length))
    elif notebook.running_cell() is not None:
        notebook.show(html.render(page or document), plain.render(document, line_length))
    elif sys.stdout.isatty():
        terminal.write(document, line_length)
    else:
        print(plain.render(document, line_length))
