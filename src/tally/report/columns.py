"""The columns of a summary: how each is named and set, and what its cells say of a row."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tally.accounting.dialect import dialect
from tally.accounting.ledger import Ledger
from tally.accounting.words import listed
from tally.report.costs import activation_bytes, work_of
from tally.report.document import Column
from tally.report.figures import count, memory, shape
from tally.report.rows import Line, Node, counted_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What cells are read from besides their row.

    Args:
        ledger: The model's ledger.
        activation_dtype: The type of an element of what layers give out.
    """

    ledger: Ledger
    activation_dtype: str = "float32"


Cell = Callable[[Line, Source], str]


def _shapes(line: Line, _: Source) -> str:
    """Each output's shape on a line of its own, or one for all where they are equal."""
    shapes = [shape(sizes) for sizes in line.owner.output_shapes]
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{shapes[0]} × {len(shapes):,}"
    return "\n".join(shapes) or "?"


def _inputs(line: Line, _: Source) -> str:
    """What feeds the layer, a line each; names that count up are one line."""
    return "\n".join(counted_up(line.owner.inputs)) or "-"


def _params(line: Line, _: Source) -> str:
    """What the row adds to the total, or what it uses that another row adds; the remark behind it says which."""
    return count(sum(homes(line).values()) if only_home(line) else line.params)


def homes(line: Line) -> dict[str, int]:
    """Where what the row uses and doesn't count is counted, and how much of it."""
    found: dict[str, int] = {}
    for guest in line.guests:
        found[guest.where] = found.get(guest.where, 0) + guest.size
    return found


def only_home(line: Line) -> str | None:
    """The layer that counts all that the row uses, where the row itself counts nothing."""
    found = homes(line)
    alone = len(found) == 1 and not line.node.whole.params and not line.amount.untracked
    return next(iter(found)) if alone else None


def _remark(line: Line, source: Source) -> str:
    """Say what a number doesn't: why it is zero, whether it counts here, or what else there is."""
    if home := only_home(line):
        return f", counted at {home}"
    owner, amount = line.owner, line.amount
    said: list[str] = []
    if amount.params and line.times > 1:
        said.append(f"{line.times:,} × {count(amount.params)}")
    if inside := line.node.whole.params - amount.params:
        said.append(
            f"{line.times:,} × {count(inside)} inside" if line.times > 1 else f"{count(inside)} inside"
        )
    if owner.status == "unbuilt" and not line.opened:
        said.append(dialect(source.ledger.source).mark)
    if amount.untracked:
        said.append(f"{amount.untracked:,} untracked")
    sign = "+ " if amount.params else ""
    said += [f"{sign}{count(size)} counted at {home}" for home, size in homes(line).items()]
    if owner.shared_with is not None and not (
        line.opened or homes(line) or amount.params or amount.untracked
    ):
        said.append(f"counted at {owner.shared_with}")
    return f" ({'; '.join(said)})" if said else ""


def _trains(line: Line, _: Source) -> str:
    whole = line.node.whole if line.owner.path else line.node.own
    if whole.learns and whole.rests:
        return "Y/N"
    return "Y" if whole.learns else "N" if whole.rests else "-"


def _work(line: Line, source: Source) -> str:
    work = work_of(source.ledger, line)
    if work.complete:
        return count(work.known)
    return f"≥ {count(work.known)}" if work.known else "?"


def _activations(line: Line, source: Source) -> str:
    size = activation_bytes(line, source.activation_dtype)
    return "?" if size is None else memory(size)


def _unless_zero(number: int) -> str:
    return count(number) if number else ""


COLUMNS: dict[str, tuple[tuple[Column, Cell], ...]] = {
    "layer": ((Column(title="Layer (type)", flexible=True), lambda line, _: line.label),),
    "shape": ((Column(title="Output Shape"), _shapes),),
    "params": (
        (Column(title="Param #", align="right"), _params),
        (Column(attached=True, wraps=True), _remark),
    ),
    "bytes": (
        (Column(title="Size", align="right"), lambda line, _: memory(line.times * line.amount.nbytes)),
    ),
    "dtype": ((Column(title="Dtype"), lambda line, _: ", ".join(line.amount.dtypes) or "-"),),
    "trainable": ((Column(title="Trainable"), _trains),),
    "frozen": (
        (
            Column(title="Frozen", align="right"),
            lambda line, _: _unless_zero(line.times * line.amount.frozen),
        ),
    ),
    "state": (
        (Column(title="State", align="right"), lambda line, _: _unless_zero(line.times * line.amount.state)),
    ),
    "macs": ((Column(title="Multiply-adds", align="right"), _work),),
    "activations": ((Column(title="Activations", align="right"), _activations),),
    "inputs": ((Column(title="Connected to", flexible=True), _inputs),),
    "origin": ((Column(title="Made at", flexible=True), lambda line, _: line.owner.origin or "-"),),
}
"""Name -> the columns it stands for, with their cells; a second one is a remark on the first."""

ALIASES = {
    "activation_bytes": "activations",
    "connected_to": "inputs",
    "connections": "inputs",
    "layers": "layer",
    "made_at": "origin",
    "mult_adds": "macs",
    "multiply_adds": "macs",
    "name": "layer",
    "output_shape": "shape",
    "param": "params",
    "parameters": "params",
    "size": "bytes",
}
"""Other words for the same columns."""


def named(columns: Sequence[str] | str) -> tuple[str, ...]:
    """Read names of columns in any of their spellings; `layer` is the first where it isn't asked for elsewhere.

    Args:
        columns: The names, as a list or with commas between them.

    Raises:
        ValueError: There is no such column.

    Example:
        >>> named("Output Shape, parameters, multiply-adds")
        ('layer', 'shape', 'params', 'macs')
    """
    words = columns.split(",") if isinstance(columns, str) else columns
    names = [_settled(word) for word in words]
    return tuple(dict.fromkeys(names if "layer" in names else ["layer", *names]))


def _settled(word: str) -> str:
    name = word.strip().lower().replace("-", "_").replace(" ", "_")
    name = ALIASES.get(name, name)
    if name in COLUMNS:
        return name
    close = difflib.get_close_matches(name, [*COLUMNS, *ALIASES], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"There is no column {word!r}; the columns are {listed([*COLUMNS], 99)}.{hint}")


_SPARED: dict[str, Literal[1, 2]] = {"frozen": 2, "state": 2, "shape": 1, "inputs": 1}
"""What may be left out on a short line where nobody asked for it: the totals say what is frozen and state."""


def chosen(ledger: Ledger, nodes: Sequence[Node], *, show_trainable: bool) -> tuple[str, ...]:
    """Choose the columns by what there is to say."""
    states = ledger.by_state
    wanted = {
        "layer": True,
        "shape": any(node.owner.output_shapes for node in nodes),
        "params": True,
        "frozen": states["frozen"] > 0,
        "state": states["state"] > 0,
        "trainable": show_trainable,
        "inputs": _branches(nodes),
    }
    return tuple(name for name, wants in wanted.items() if wants)


def _branches(nodes: Sequence[Node]) -> bool:
    """Tell whether some layer is fed by anything but the row before it."""
    top = [node.owner for node in nodes if node.owner.path]
    if not any(owner.inputs for owner in top):
        return False
    return bool(top[0].inputs) or any(
        len(owner.inputs) != 1 or owner.inputs[0] not in (before.path, before.name)
        for before, owner in pairwise(top)
    )


def spared(name: str) -> Literal[0, 1, 2]:
    """How soon a column that was chosen, not asked for, gives way to others."""
    return _SPARED.get(name, 0)
