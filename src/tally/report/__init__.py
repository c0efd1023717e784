"""What a person reads: an analysis becomes a neutral Document, which a terminal or a text file draws.

Names are loaded when first used: a command that writes plain text needs neither HTML nor notebooks.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tally.report.document import Bar, Column, Document, Formula, Note, Table, Text, Title, Tree
    from tally.report.explanation import draw
    from tally.report.plain import render
    from tally.report.summary import Summary, summarise, tabulate
    from tally.report.terminal import to_rich, write

_NAMES = {
    **dict.fromkeys(
        ("Bar", "Column", "Document", "Formula", "Note", "Table", "Text", "Title", "Tree"), "document"
    ),
    "draw": "explanation",
    "render": "plain",
    **dict.fromkeys(("Summary", "summarise", "tabulate"), "summary"),
    **dict.fromkeys(("to_rich", "write"), "terminal"),
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"tally.report has no '{name}'.")
    value = getattr(importlib.import_module(f"tally.report.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_NAMES)


__all__ = [
    "Bar",
    "Column",
    "Document",
    "Formula",
    "Note",
    "Summary",
    "Table",
    "Text",
    "Title",
    "Tree",
    "draw",
    "render",
    "summarise",
    "tabulate",
    "to_rich",
    "write",
]
