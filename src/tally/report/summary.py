"""The table a person reads first: each layer, its output shape, its parameters, and totals that add up."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner
from tally.accounting.reasons import untracked
from tally.accounting.words import listed, plural
from tally.report.document import Column, Document, Note, Part, Row, Table, Title
from tally.report.figures import count, memory, shape
from tally.report.layout import cells
from tally.report.terminal import line_length as terminal_width


def summarise(
    ledger: Ledger,
    *,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Document:
    """Summarise a ledger as a table with totals.

    The numbers of the table add up to the total: a layer used twice counts where it is listed first, and
    a layer whose inside is listed counts only what it owns itself. A zero says why it is one where that
    isn't its nature: `0 (unbuilt)`, `0 (2 untracked)`, `0 (320 counted at conv2d)`.

    Args:
        ledger: What to summarise.
        line_length: Characters in a line; None takes the terminal's width, or 88.
        positions: Where each column ends, as shares of the line or, if the last is above 1, in characters.
        expand_nested: Whether to list the layers inside layers.
        show_trainable: Whether to say of each layer if training changes it: `Y`, `N`, `Y/N` for some of
            its weights, `-` where it has none.
        layer_range: The names, or regular expressions for them, of the first and the last layer to list.
        columns: Names of columns to show, of `layer shape params bytes dtype trainable frozen state inputs
            origin`; None chooses them by what there is to say.

    Raises:
        ValueError: No layer matches an end of `layer_range`, a column is unknown, `positions` is too short.
    """
    rows = list(_rows(ledger, expand_nested))
    shown = rows if layer_range is None else _between(rows, layer_range)
    names = tuple(columns) if columns is not None else _chosen(ledger, rows, show_trainable)
    ends = _ends(positions, names, line_length)
    table = _table(shown, names, ends)
    if columns is None and ends is None:
        table = _narrowed(table, line_length or terminal_width())
    parts: list[Part] = [
        Title(f'Model: "{ledger.name}"'),
        table,
        _totals(ledger),
        *_notes(ledger),
    ]
    if len(shown) < len(rows):
        parts.append(
            Note(f"{len(shown):,} of {plural(len(rows), 'row')} listed; the totals are the whole model's.")
        )
    return Document(tuple(parts), line_length)


class _Line(NamedTuple):
    """One owner as a row.

    Args:
        owner: Whose row it is.
        label: Its place and type, drawn as deep as it stands.
        entries: What the row counts.
        below: What is counted by rows of its inside instead.
        opened: Whether its inside has rows of its own.
    """

    owner: Owner
    label: str
    entries: tuple[Entry, ...]
    below: tuple[Entry, ...] = ()
    opened: bool = False

    def sum(self, *states: str) -> int:
        return sum(entry.count for entry in self.entries if entry.state in states)


def _rows(ledger: Ledger, expand: bool) -> Iterator[_Line]:
    """Give the model a row of its own only for weights it owns itself."""
    own = tuple(entry for entry in ledger.owned_by("") if entry.state != "optimizer")
    if own or not ledger.children(""):
        for owner in ledger.owners:
            if owner.path == "":
                yield _Line(
                    owner,
                    f"{owner.name or ledger.name} ({owner.type})",
                    own,
                    opened=bool(ledger.children("")),
                )
    yield from _rows_below(ledger, "", expand, "")


def _rows_below(ledger: Ledger, path: str, expand: bool, stem: str) -> Iterator[_Line]:
    children = ledger.children(path)
    for place, owner in enumerate(children, 1):
        mark, deeper = ("", "") if not path else ("└ ", "  ") if place == len(children) else ("├ ", "│ ")
        name = owner.path.removeprefix(f"{path}/") if path else owner.path
        label = f"{stem}{mark}{name} ({owner.type})"
        if expand and ledger.children(owner.path):
            own = ledger.owned_by(owner.path)
            yield _Line(owner, label, own, ledger.under(owner.path)[len(own) :], opened=True)
            yield from _rows_below(ledger, owner.path, expand, stem + deeper)
        else:
            yield _Line(owner, label, ledger.under(owner.path))


def _between(rows: list[_Line], layer_range: Sequence[str]) -> list[_Line]:
    """Keep the rows from the first match of one pattern to the last match of the other, in either order."""
    if len(layer_range) != 2:
        raise ValueError(f"layer_range takes a first and a last name, but was given {list(layer_range)}.")
    found: list[list[int]] = []
    for pattern in layer_range:
        places = [place for place, row in enumerate(rows) if _named(row.owner, pattern)]
        if not places:
            names = ", ".join(row.owner.path or row.owner.name for row in rows)
            raise ValueError(f"No layer's name matches {pattern!r} of layer_range. The layers are: {names}.")
        found.append(places)
    first, last = found
    start, end = (first[0], last[-1]) if first[0] <= last[-1] else (last[0], first[-1])
    return rows[start : end + 1]


def _named(owner: Owner, pattern: str) -> bool:
    return any(re.match(pattern, name) for name in (owner.name, owner.path))


def _chosen(ledger: Ledger, rows: list[_Line], show_trainable: bool) -> tuple[str, ...]:
    states = ledger.by_state
    wanted = {
        "layer": True,
        "shape": any(row.owner.output_shapes for row in rows),
        "params": True,
        "frozen": states["frozen"] > 0,
        "state": states["state"] > 0,
        "trainable": show_trainable,
        "inputs": _branches(rows),
    }
    return tuple(name for name, wants in wanted.items() if wants)


def _branches(rows: list[_Line]) -> bool:
    """Tell whether some layer is fed by anything but the row before it."""
    top = [row.owner for row in rows if not row.label.startswith((" ", "│", "├", "└"))]
    if not any(owner.inputs for owner in top):
        return False
    pairs = pairwise(top)
    return bool(top[0].inputs) or any(
        len(owner.inputs) != 1 or owner.inputs[0] not in (before.path, before.name) for before, owner in pairs
    )


def _shapes(row: _Line) -> str:
    return "\n".join(shape(sizes) for sizes in row.owner.output_shapes) or "?"


def _remark(row: _Line) -> str:
    """Say what a number doesn't: why it is zero, or what else there is."""
    said: list[str] = []
    owner = row.owner
    if inside := sum(entry.count for entry in row.below if entry.state in COUNTED):
        said.append(f"{count(inside)} inside")
    if owner.status == "unbuilt" and not row.opened:
        said.append("unbuilt")
    if lost := [entry for entry in row.entries if entry.state == "untracked"]:
        said.append(f"{len(lost):,} untracked")
    elsewhere: dict[str, int] = {}
    for entry in row.entries:
        if entry.shared_with is not None and entry.state in COUNTED:
            where = owner.shared_with or entry.shared_with.rpartition("/")[0] or "the model"
            elsewhere[where] = elsewhere.get(where, 0) + entry.size
    said += [f"{count(size)} counted at {where}" for where, size in elsewhere.items()]
    if owner.shared_with is not None and not row.entries and not row.opened:
        said.append(f"counted at {owner.shared_with}")
    return f"({'; '.join(said)})" if said else ""


def _trains(row: _Line) -> str:
    states = {entry.state for entry in (*row.entries, *row.below)} & {"trainable", "frozen"}
    return "-" if not states else "Y/N" if len(states) == 2 else "Y" if "trainable" in states else "N"


def _unless_zero(number: int) -> str:
    return count(number) if number else ""


_Cell = Callable[[_Line], str]
_COLUMNS: dict[str, tuple[tuple[Column, _Cell], ...]] = {
    "layer": ((Column(title="Layer (type)", flexible=True), lambda row: row.label),),
    "shape": ((Column(title="Output Shape"), _shapes),),
    "params": (
        (Column(title="Param #", align="right"), lambda row: count(row.sum(*COUNTED))),
        (Column(gap=1), _remark),
    ),
    "bytes": (
        (
            Column(title="Size", align="right"),
            lambda row: memory(sum(entry.nbytes for entry in row.entries if entry.state in COUNTED)),
        ),
    ),
    "dtype": (
        (
            Column(title="Dtype"),
            lambda row: ", ".join(dict.fromkeys(e.dtype for e in row.entries if e.state in COUNTED)) or "-",
        ),
    ),
    "trainable": ((Column(title="Trainable"), _trains),),
    "frozen": ((Column(title="Frozen", align="right"), lambda row: _unless_zero(row.sum("frozen"))),),
    "state": ((Column(title="State", align="right"), lambda row: _unless_zero(row.sum("state"))),),
    "inputs": (
        (Column(title="Connected to", flexible=True), lambda row: "\n".join(row.owner.inputs) or "-"),
    ),
    "origin": ((Column(title="Made at", flexible=True), lambda row: row.owner.origin or "-"),),
}


def _table(rows: list[_Line], names: Sequence[str], ends: Sequence[int] | None) -> Table:
    columns: list[Column] = []
    cells: list[list[str]] = []
    for place, name in enumerate(names):
        for column, cell in _COLUMNS[name]:
            texts = [cell(row) for row in rows]
            if not column.title and not any(texts):
                continue
            if ends is not None and column.title:
                width = ends[place] - (ends[place - 1] if place else 0) - (column.gap if place else 0)
                column = replace(column, width=width)
            columns.append(column)
            cells.append(texts)
    return Table(columns=tuple(columns), rows=tuple(zip(*cells, strict=True)))


def _narrowed(table: Table, width: int) -> Table:
    """Leave out what the totals say, too, before names have to be cut short."""
    for title in ("State", "Frozen"):
        if title in (column.title for column in table.columns) and _needed(table) > width:
            kept = [place for place, column in enumerate(table.columns) if column.title != title]
            rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
            table = Table(columns=tuple(table.columns[place] for place in kept), rows=rows)
    return table


def _needed(table: Table) -> int:
    sizes = [
        max(
            cells(line)
            for row in (tuple(c.title for c in table.columns), *table.rows)
            for line in row[place].split("\n")
        )
        for place in range(len(table.columns))
    ]
    return sum(sizes) + sum(column.gap for column in table.columns[1:])


_FURTHER = 16
"""Width of a column that `positions` says nothing of."""


def _ends(
    positions: Sequence[float] | None, names: Sequence[str], line_length: int | None
) -> list[int] | None:
    if unknown := [name for name in names if name not in _COLUMNS]:
        raise ValueError(
            f"There is no column {', '.join(map(repr, unknown))}; the columns are {', '.join(_COLUMNS)}."
        )
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


def _totals(ledger: Ledger) -> Table:
    """Write the figures below the table, labels and numbers meeting at the colon."""
    unbuilt = len(_waiting(ledger))
    waiting = f"; {plural(unbuilt, 'layer')} not built" if unbuilt else ""
    rows: list[Row] = [_figure("Total params:", ledger.counted, waiting, "at least " if unbuilt else "")]
    rows.append(_figure("Trainable params:", _in_state(ledger, "trainable")))
    rows.append(_figure("Non-trainable params:", _in_state(ledger, "frozen", "state")))
    frozen, state = _in_state(ledger, "frozen"), _in_state(ledger, "state")
    if frozen:
        switches = [
            repr(path) if path else "the model"
            for path in dict.fromkeys(e.frozen_by for e in frozen)
            if path is not None
        ]
        rows.append(_figure("frozen:", frozen, f" by {listed(switches, 3)}" if switches else ""))
    if state:
        rows.append(_figure("state:", state, " never trained by gradients"))
    if seeds := _in_state(ledger, "seed"):
        rows.append(_figure("Seed state:", seeds, " not part of the total"))
    rows += _optimizer(_in_state(ledger, "optimizer"))
    if len(ledger.bytes_by_dtype) > 1:
        for dtype, size in ledger.bytes_by_dtype.items():
            number = sum(entry.count for entry in ledger.counted if entry.dtype == dtype)
            rows.append((f"{dtype}:", count(number), f"({memory(size)})"))
    columns = (Column(align="right"), Column(align="right", gap=1), Column(gap=1))
    return Table(columns=columns, rows=tuple(rows), ruled=False)


def _optimizer(entries: tuple[Entry, ...]) -> Iterator[Row]:
    """Write what the optimizer keeps: as much again for each weight as it has averages, and a few counters."""
    counters, averages = (tuple(e for e in entries if bool(e.shape) is arrays) for arrays in (False, True))
    if entries:
        yield _figure("Optimizer params:", entries, " not part of the total")
    if counters and averages:
        yield _figure("for the weights:", averages)
        yield _figure("of its own:", counters, f" {listed([entry.name for entry in counters])}")


def _waiting(ledger: Ledger) -> list[Owner]:
    """Find the layers that wait for an input themselves, not those which only hold some that do."""
    unbuilt = [owner for owner in ledger.owners if owner.status == "unbuilt"]
    return [owner for owner in unbuilt if not any(c.status == "unbuilt" for c in ledger.children(owner.path))]


def _in_state(ledger: Ledger, *states: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in ledger.entries if entry.state in states)


def _figure(label: str, entries: Sequence[Entry], remark: str = "", before: str = "") -> Row:
    number, size = sum(entry.count for entry in entries), sum(entry.nbytes for entry in entries)
    return label, before + count(number), f"({memory(size)}){remark}"


def _notes(ledger: Ledger) -> Iterator[Note]:
    """Say below the table what makes a number other than it looks."""
    if unbuilt := [owner.path or owner.name or ledger.name for owner in _waiting(ledger)]:
        verb = "is" if len(unbuilt) == 1 else "are"
        yield Note(
            f"{listed(unbuilt)} {verb} not built: weights take their shapes from an input, and there was "
            "none yet. Call the model on data, or give it an Input or a shape to build for.",
            "warning",
        )
    for line, switches in _frozen_lines(ledger).items():
        who = listed([repr(path) if path else "the model" for path in switches], 3)
        yield Note(f"{who} {'was' if len(switches) == 1 else 'were'} frozen at {line}.")
    for owner in ledger.owners:
        lost = [entry for entry in ledger.owned_by(owner.path) if entry.state == "untracked"]
        for text in untracked(lost):
            yield Note(f"{owner.path or ledger.name}: {text}", "warning")


def _frozen_lines(ledger: Ledger) -> dict[str, list[str]]:
    """Gather what was switched off by the line that did it."""
    lines: dict[str, list[str]] = {}
    for entry in _in_state(ledger, "frozen"):
        if entry.frozen_at is not None and entry.shared_with is None:
            switch = entry.path if entry.frozen_by is None else entry.frozen_by
            if switch not in lines.setdefault(entry.frozen_at, []):
                lines[entry.frozen_at].append(switch)
    return lines
