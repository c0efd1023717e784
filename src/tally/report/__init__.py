"""What a person reads: an analysis becomes a neutral Document, which a terminal or a text file draws."""

from tally.report.document import Bar, Column, Document, Formula, Note, Table, Text, Title, Tree
from tally.report.explanation import draw
from tally.report.plain import render
from tally.report.summary import Summary, summarise, tabulate
from tally.report.terminal import to_rich, write

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
