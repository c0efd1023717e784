"""How a command writes a document: with colour on a terminal, as plain text into a pipe, or as Markdown."""

import sys

from tally.report.document import Document

FORMATS = ("text", "markdown")


def write(document: Document, form: str = "text") -> None:
    """Write a document to standard output.

    Args:
        document: What to write.
        form: `"text"` or `"markdown"`.
    """
    if form == "markdown":
        from tally.report import markdown

        print(markdown.render(document))
    elif sys.stdout.isatty():
        from tally.report import terminal

        terminal.write(document)
    else:
        from tally.report import plain

        print(plain.render(document))
