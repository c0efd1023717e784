"""The neutral parts every output draws: titles, text, tables, formulas, bars, trees and notes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Align: TypeAlias = Literal["left", "right"]
Row: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Title:
    """A heading.

    Args:
        text: What follows is about this.
        level: 1 for the document's own, 2 for a section.
        aside: Something short at the right end of the line.
    """

    text: str
    level: int = 1
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, wrapped to the width."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How a column of a table is set, and how it gives way where the line is too short.

    Args:
        title: Its heading.
        align: Numbers go right, words left.
        flexible: Whether a cell may be shortened in its middle when the line is too short; never for numbers.
        wraps: Whether a cell may go on in the next line when the line is too short; numbers in it stay whole.
        optional: What is left out of text when the line is too short: columns with 2, which only repeat what stands
            elsewhere, before a cell is shortened; columns with 1, before cells become stumps; with 0, none.
        attached: Whether it stands right behind the column before it and under the same heading, as a remark behind
            a number does. Its cells begin with the space or the comma between the two.
        gap: Spaces before the column, unless it is attached.
        width: A width to keep where the contents allow it; None takes what the contents need.
    """

    title: str = ""
    align: Align = "left"
    flexible: bool = False
    wraps: bool = False
    optional: Literal[0, 1, 2] = 0
    attached: bool = False
    gap: int = 2
    width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; a line break in a cell starts another line of its row.

    Args:
        columns: How each column is set.
        rows: As many cells each as there are columns.
        totals: Rows below a rule.
        ruled: Whether thin rules set the table off; a small list of labels and values has none.
        inside: The place of a row, and a table with the same columns that it opens to. Only an output with something
            to click on draws it.
        opened: Whether it is open at first, where it stands inside another table.

    Raises:
        ValueError: A row has another number of cells than there are columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    totals: tuple[Row, ...] = ()
    ruled: bool = True
    inside: tuple[tuple[int, "Table"], ...] = ()
    opened: bool = False

    def __post_init__(self) -> None:
        """Refuse a row that doesn't fit the columns."""
        for row in (*self.rows, *self.totals):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"A row of {len(row)} cells in a table of {len(self.columns)} columns: {row}."
                )


@dataclass(frozen=True, slots=True)
class Formula:
    """A count in symbols, and the same in numbers on the next line; either may be empty."""

    symbols: str
    numbers: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of a whole as a bar; `text` stands behind it."""

    label: str
    share: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A label with labels below it."""

    label: str
    children: tuple["Tree", ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Something the reader should know; `mark` says how urgent it is."""

    text: str
    mark: Literal["note", "warning", "error"] = "note"


Part: TypeAlias = Title | Text | Table | Formula | Bar | Tree | Note


@dataclass(frozen=True, slots=True)
class Document:
    """Parts in reading order.

    Args:
        parts: What to draw.
        width: The line length asked for; None leaves it to where the document is drawn.
    """

    parts: tuple[Part, ...]
    width: int | None = None
