"""The table a person reads first: each layer, its output shape, its parameters, and totals that add up."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from tally.accounting.dialect import dialect
from tally.accounting.ledger import Ledger, Owner
from tally.accounting.words import plural
from tally.report import html, latex, markdown, notebook
from tally.report.columns import COLUMNS, Source, chosen, named, spared
from tally.report.costs import total_work, works_itself
from tally.report.document import Column, Document, Note, Part, Row, Table, Title
from tally.report.figures import count
from tally.report.folding import fold as folded
from tally.report.records import Record, record, to_csv, to_pandas
from tally.report.rows import Line, Node, flatten, grow
from tally.report.terminal import line_length as terminal_width
from tally.report.totals import notes, totals
from tally.writing import write_text

_EVERYTHING = sys.maxsize
_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Summary:
    """The table a person reads first, as data and in every form that it is written in.

    Args:
        ledger: What it summarises.
        nodes: The layers as a tree, those alike folded.
        lines: The rows of the table, in order.
        columns: The names of its columns.
        document: The table with its totals and notes, for text of any width.
        source: What else the numbers are read from.
        depth: How deep the layers inside layers are open.
        shown_in: The notebook's cell that has shown it already, if one has.

    Example:
        >>> layer = tally.layers.Dense(5, name="dense")
        >>> layer.build((None, 10))
        >>> made = tabulate(tally.account(layer))
        >>> made
        <summary of 'dense': 1 row, 55 parameters>
        >>> made.rows[0].params
        55
    """

    ledger: Ledger
    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    document: Document
    source: Source
    depth: int = 0
    shown_in: int | None = None

    def __repr__(self) -> str:
        rows, total = plural(len(self.lines), "row"), plural(self.total, "parameter")
        return f"<summary of '{self.ledger.name}': {rows}, {total}>"

    @property
    def rows(self) -> tuple[Record, ...]:
        """The rows as data; their `params` add up to the total, unless only a range of layers is listed."""
        return tuple(record(line, self.source) for line in self.lines)

    @property
    def total(self) -> int:
        """All parameters; see `Ledger.total`."""
        return self.ledger.total

    @property
    def page(self) -> Document:
        """The document for outputs with something to click on: each row opens to the layers inside."""
        table = _opening_table(self)
        return replace(
            self.document,
            parts=tuple(
                table if isinstance(part, Table) and part.ruled else part for part in self.document.parts
            ),
        )

    def to_html(self, path: str | Path | None = None) -> str:
        """Write it as HTML that needs nothing else: no script, no file, no network.

        Args:
            path: A file to write as a whole page.

        Returns:
            The fragment for a page of one's own.
        """
        fragment = html.render(self.page)
        if path is not None:
            title = escape(self.ledger.name)
            page = (
                f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{title}</title>\n{html.PAGE}\n{fragment}\n'
            )
            write_text(path, page)
        return fragment

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Write it as GitHub's Markdown, into a file, too, if a path is given."""
        return _kept(markdown.render(self.document), path)

    def to_latex(self, path: str | Path | None = None) -> str:
        """Write it as LaTeX that needs no package, into a file, too, if a path is given."""
        return _kept(latex.render(self.document), path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Write its rows as CSV, numbers exact and without separators; into a file, too, if a path is given.

        The columns are always the same, whatever the table shows: see `tally.report.records.Record`.
        """
        return _kept(to_csv(self.rows), path)

    def to_pandas(self) -> Any:
        """Make a `pandas.DataFrame` of its rows, with the columns of the CSV.

        Raises:
            ImportError: pandas isn't installed; `pip install pandas` brings it.
        """
        return to_pandas(self.rows)

    def to_json(self, *, indent: int | None = None) -> str:
        """Write its rows and figures as JSON, its keys always in the same order."""
        document = {
            "schema_version": _SCHEMA_VERSION,
            "kind": "summary",
            "name": self.ledger.name,
            "source": self.ledger.source,
            "total": self.total,
            "trainable": self.ledger.trainable,
            "non_trainable": self.ledger.non_trainable,
            "nbytes": self.ledger.nbytes,
            "by_state": self.ledger.by_state,
            "rows": [one.plain() for one in self.rows],
        }
        return json.dumps(document, indent=indent, ensure_ascii=False)

    def _repr_html_(self) -> str | None:
        """What a notebook shows; nothing in the cell that has shown it already."""
        if self.shown_in is not None and self.shown_in == notebook.running_cell():
            return None
        return self.to_html()


def _kept(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_text(path, text if text.endswith("\n") else text + "\n")
    return text


def summarise(ledger: Ledger, **options: Any) -> Document:
    """Draw a ledger as a table with totals; the options are those of `tabulate`."""
    return tabulate(ledger, **options).document


def tabulate(
    ledger: Ledger,
    *,
    columns: Sequence[str] | str | None = None,
    depth: int | None = None,
    fold: bool | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    layer_range: Sequence[str] | None = None,
    activation_dtype: str = "float32",
) -> Summary:
    """Summarise a ledger as a table with totals.

    The numbers of the table add up to the total: a layer used twice counts where it is listed first, and
    a layer whose inside is listed counts only what it owns itself. A number that doesn't count, and a zero that isn't
    a layer's nature, say why: `320, counted at conv2d`, `0 (unbuilt)`, `0 (2 untracked)`.

    Blocks that are alike become one row, `blocks/0 … 11 (Block) × 12`, with the product as its number:
    `85,054,464 (12 × 7,087,872)`. Unless `fold` says otherwise that happens to three or more layers with layers inside;
    a model whose layers all stand side by side, such as ResNet50, keeps a row for each, because there a reader
    compares rows by their names.

    Args:
        ledger: What to summarise.
        columns: Names of columns to show, in a list or with commas between them, of `layer shape params bytes dtype
            trainable frozen state macs activations inputs origin`; None chooses them by what there is to say.
            Multiply-adds (`macs`) are for one example and without biases; activations are the bytes of a layer's
            outputs for one example.
        depth: How deep the layers inside layers are listed: 0 shows the outermost, 1 what is inside them, too. Unless
            given, 0, and of a file as many as one holder is all that has parameters.
        fold: Whether alike neighbours become one row: True folds single layers, pairs, and a few layers in a row that
            come again, too; False folds nothing.
        expand_nested: Whether to list the layers inside layers, however deep.
        show_trainable: Whether to say of each layer if training changes it: `Y`, `N`, `Y/N` for some of
            its weights, `-` where it has none.
        line_length: Characters in a line; None takes the terminal's width, or 88.
        positions: Where each column ends, as shares of the line or, if the last is above 1, in characters.
        layer_range: The names, or regular expressions for them, of the first and the last layer to list.
        activation_dtype: The type of an element of what layers give out.

    Raises:
        ValueError: No layer matches an end of `layer_range`, a column is unknown, `positions` is too short, `depth`
            is below 0.
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth counts levels of layers inside layers and begins at 0, but was {depth}.")
    asked = named(columns) if columns is not None else None
    nodes = grow(ledger, with_model=asked is not None and "macs" in asked and works_itself(ledger))
    names = asked or chosen(ledger, nodes, show_trainable=show_trainable)
    if fold or (fold is None and layer_range is None):
        nodes = folded(nodes, everything=bool(fold))
    levels = _EVERYTHING if expand_nested else _wrappings(ledger, nodes) if depth is None else depth
    lines = tuple(flatten(nodes, levels))
    shown = lines if layer_range is None else _between(lines, layer_range)
    source = Source(ledger=ledger, activation_dtype=activation_dtype)
    columns_set = _columns(names, asked is None, _ends(positions, names, line_length))
    table = _fitted(Table(columns=columns_set, rows=_cells(shown, names, source)))
    return Summary(
        ledger=ledger,
        nodes=nodes,
        lines=shown,
        columns=names,
        document=Document(tuple(_parts(table, names, source, len(shown), len(lines))), line_length),
        source=source,
        depth=levels,
    )


def _wrappings(ledger: Ledger, nodes: Sequence[Node]) -> int:
    """How many levels of a file are only one holder around all the rest: one row of them would tell nothing."""
    levels = 0
    while not ledger.source.endswith(("model", "layer")):
        bearing = [node for node in nodes if node.whole.params]
        if len(bearing) != 1 or bearing[0].times > 1 or not bearing[0].inside:
            break
        nodes, levels = bearing[0].inside, levels + 1
    return levels


def _parts(table: Table, names: Sequence[str], source: Source, shown: int, whole: int) -> Iterator[Part]:
    """The parts of the document: what it is about, the table, the totals, and what to know of them."""
    ledger = source.ledger
    yield Title(f'{"Layer" if ledger.source.endswith("layer") else "Model"}: "{ledger.name}"')
    yield table
    yield _totals(ledger, names)
    yield from _notes(ledger, names, source)
    if shown < whole:
        yield Note(f"{shown:,} of {plural(whole, 'row')} listed; the totals are the whole model's.")


def _between(lines: Sequence[Line], layer_range: Sequence[str]) -> tuple[Line, ...]:
    """Keep the rows from the first match of one pattern to the last match of the other, in either order."""
    if len(layer_range) != 2:
        raise ValueError(f"layer_range takes a first and a last name, but was given {list(layer_range)}.")
    found: list[list[int]] = []
    for pattern in layer_range:
        places = [place for place, line in enumerate(lines) if _is_named(line.owner, pattern)]
        if not places:
            names = ", ".join(line.owner.path or line.owner.name for line in lines)
            raise ValueError(f"No layer's name matches {pattern!r} of layer_range. The layers are: {names}.")
        found.append(places)
    first, last = found
    start, end = (first[0], last[-1]) if first[0] <= last[-1] else (last[0], first[-1])
    return tuple(lines[start : end + 1])


def _is_named(owner: Owner, pattern: str) -> bool:
    return any(re.match(pattern, name) for name in (owner.name, owner.path))


def _columns(names: Sequence[str], spare: bool, ends: Sequence[int] | None) -> tuple[Column, ...]:
    """Set the columns: of those that nobody asked for some may be left out, and positions give them widths."""
    columns: list[Column] = []
    for place, name in enumerate(names):
        for column, _ in COLUMNS[name]:
            if spare:
                column = replace(column, optional=spared(name))
            if ends is not None and not column.attached:
                width = ends[place] - (ends[place - 1] if place else 0) - (column.gap if place else 0)
                column = replace(column, width=width)
            columns.append(column)
    return tuple(columns)


def _cells(lines: Sequence[Line], names: Sequence[str], source: Source) -> tuple[Row, ...]:
    texts = [cell for name in names for _, cell in COLUMNS[name]]
    layer = [name for name in names for _ in COLUMNS[name]].index("layer")
    rows: list[Row] = []
    for line in lines:
        row = [text(line, source) for text in texts]
        further = max(cell.count("\n") for cell in row)
        row[layer] += f"\n{line.under}".rstrip() * further  # the tree goes on beside a cell of several lines
        rows.append(tuple(row))
    return tuple(rows)


def _fitted(table: Table) -> Table:
    """Leave out a column of remarks where there are none."""
    kept = [
        place
        for place, column in enumerate(table.columns)
        if not column.attached or any(row[place] for row in table.rows)
    ]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(columns=tuple(table.columns[place] for place in kept), rows=rows)


def _opening_table(summary: Summary) -> Table:
    """The table in which each row is closed and opens to the rows of its inside, which add up to it."""
    columns = _columns(summary.columns, False, None)

    def table(lines: Sequence[Line], level: int) -> Table:
        return Table(
            columns=columns,
            rows=_cells(lines, summary.columns, summary.source),
            inside=tuple(
                (place, table(_inside(line), level + 1))
                for place, line in enumerate(lines)
                if line.node.inside and not line.opened
            ),
            opened=level <= summary.depth,
        )

    closed = {id(line.node): replace(line, opened=line.owner.path == "") for line in summary.lines}
    return table([line for line in closed.values() if line.depth == 0], 0)


def _inside(line: Line) -> list[Line]:
    """The rows that a row opens to: what the layer owns itself, if anything, and the layers inside."""
    node = line.node
    own = replace(node, place="own weights", whole=node.own, inside=(), times=1)
    has_own = node.own.params or node.own.guests or node.own.untracked
    first = [Line(node=own, depth=line.depth + 1, times=line.times, opened=True)] if has_own else []
    return first + [
        Line(node=child, depth=line.depth + 1, times=line.times * child.times) for child in node.inside
    ]


_FURTHER = 16
"""Width of a column that `positions` says nothing of."""


def _ends(
    positions: Sequence[float] | None, names: Sequence[str], line_length: int | None
) -> list[int] | None:
    if positions is None:
        return None
    if len(positions) < min(len(names), 3):
        raise ValueError(
            f"positions gives {len(positions)} ends for {len(names)} columns: {', '.join(names)}."
        )
    scale = (line_length or terminal_width()) if positions[-1] <= 1 else 1
    ends = [int(scale * position) for position in positions]
    while len(ends) < len(names):  # written for Keras's columns, which are fewer
        ends.append(ends[-1] + _FURTHER)
    return ends


def _totals(ledger: Ledger, names: Sequence[str]) -> Table:
    table = totals(ledger)
    if "macs" not in names:
        return table
    work = total_work(ledger)
    number = count(work.known) if work.complete else f"at least {count(work.known)}"
    return replace(table, rows=(*table.rows, ("Multiply-adds:", number, "for one example, without biases")))


def _notes(ledger: Ledger, names: Sequence[str], source: Source) -> list[Note]:
    found = list(notes(ledger))
    if "macs" in names:
        found.append(
            Note("A multiply-add is a product that enters a sum; a count of FLOPs has two for each.")
        )
        if not total_work(ledger).complete:
            found.append(Note(f"{dialect(ledger.source).uncomputed}: it shows as ? or ≥."))
    if "activations" in names:
        found.append(
            Note(
                "Activations are the bytes of a layer's outputs for one example, each number "
                f"{source.activation_dtype}."
            )
        )
    return found
