"""A Document as plain text of any width: for pipes, files and `print_fn`, without escape codes."""

from tally.report.document import Document
from tally.report.layout import DEFAULT_WIDTH, lay_out


def render(document: Document, width: int | None = None) -> str:
    """Draw a document as text.

    Args:
        document: What to draw.
        width: Characters in a line; the document's own width, else 88, if None.

    Example:
        >>> from tally.report.document import Note
        >>> render(Document((Note("Nothing is wrong."),)))
        '· Nothing is wrong.'
    """
    lines = lay_out(document, width or document.width or DEFAULT_WIDTH)
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)
