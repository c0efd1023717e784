"""The rows of a summary: layers as a tree, and the lines that come of opening it to a depth."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tally.accounting.ledger import Entry, Ledger, Owner
from tally.report.amounts import Amount, Guest, add, amount_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A layer with what is inside it; or several alike, of which it is the first.

    Args:
        owner: The layer.
        place: Its path below the layer that it stands in.
        own: What it holds itself.
        whole: What it and everything inside it hold.
        inside: The layers directly inside.
        form: A number that layers of one structure have in common: types, options, shapes and weights, down to the
            last layer inside.
        last: The place of the last of the layers that it stands for; its own if it stands for itself.
        times: How many layers it stands for.
        gathers: Whether it is no layer but a name for a few in a row.
    """

    owner: Owner
    place: str
    own: Amount
    whole: Amount
    inside: tuple["Node", ...] = ()
    form: int = 0
    last: str = ""
    times: int = 1
    gathers: bool = False

    @property
    def label(self) -> str:
        """Its name and type, and how many it stands for."""
        if self.times == 1:
            return f"{self.place} ({self.owner.type})"
        return f"{_span(self.place, self.last)} ({self.owner.type}) × {self.times:,}"

    @property
    def guests(self) -> tuple[Guest, ...]:
        """What is used by it or inside it, and counted in neither."""
        within = f"{self.owner.path}/"
        return tuple(guest for guest in self.whole.guests if not guest.home.startswith(within))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A node as a row.

    Args:
        node: Whose row it is.
        stem: What is drawn before its name, as deep as it stands.
        under: What is drawn there in the further lines of its row.
        depth: How many layers it stands in.
        times: How often its figures count: for each of the layers that it and those around it stand for.
        opened: Whether its inside has rows of its own; it counts only what it holds itself, then.
    """

    node: Node
    stem: str = ""
    under: str = ""
    depth: int = 0
    times: int = 1
    opened: bool = False

    @property
    def owner(self) -> Owner:
        """The layer."""
        return self.node.owner

    @property
    def label(self) -> str:
        """Its name and type, drawn as deep as it stands."""
        return self.stem + self.node.label

    @property
    def amount(self) -> Amount:
        """What one of the layers it stands for adds to the total in this row."""
        return self.node.own if self.opened else self.node.whole

    @property
    def params(self) -> int:
        """What the row adds to the total."""
        return self.times * self.amount.params

    @property
    def guests(self) -> tuple[Guest, ...]:
        """What the row uses and another counts."""
        return self.node.own.guests if self.opened else self.node.guests


def grow(ledger: Ledger, *, with_model: bool = False) -> tuple[Node, ...]:
    """Make the outermost layers' nodes.

    Args:
        ledger: What to make them of.
        with_model: Whether the model itself is the first; else it is only if it owns weights or is all there is.
    """
    forms: dict[tuple[object, ...], int] = {}
    nodes = tuple(_node(ledger, owner, "", forms) for owner in ledger.children(""))
    own = tuple(entry for entry in ledger.owned_by("") if entry.state not in _NO_ROW)
    for owner in ledger.owners:
        if owner.path == "" and (own or with_model or not nodes):
            amount = amount_of(owner, own)
            name = owner.name or ledger.name
            return (Node(owner=owner, place=name, own=amount, whole=amount, form=-1), *nodes)
    return nodes


_NO_ROW = ("optimizer", "seed", "fixed")
"""States of what adds to no row, and makes none of its own."""


def _node(ledger: Ledger, owner: Owner, above: str, forms: dict[tuple[object, ...], int]) -> Node:
    entries = ledger.owned_by(owner.path)
    own = amount_of(owner, entries)
    inside = tuple(_node(ledger, child, owner.path, forms) for child in ledger.children(owner.path))
    form = _form(owner, entries, inside)
    return Node(
        owner=owner,
        place=owner.path.removeprefix(f"{above}/") if above else owner.path,
        own=own,
        whole=add([own, *(node.whole for node in inside)]) if inside else own,
        inside=inside,
        form=forms.setdefault(form, len(forms)),
    )


def _form(owner: Owner, entries: Sequence[Entry], inside: Sequence[Node]) -> tuple[object, ...]:
    """What layers of one structure have in common; where they stand and what feeds them is not part of it."""
    weights = tuple(
        (numberless(entry.name), entry.shape, entry.dtype, entry.state, _way(owner.path, entry.shared_with))
        for entry in entries
    )
    return (
        (owner.module, owner.type, owner.status, str(owner.options), owner.multiply_adds),
        (owner.input_shapes, owner.output_shapes, _way(owner.path, owner.shared_with)),
        weights,
        tuple((numberless(node.place), node.form) for node in inside),
    )


def _way(start: str, end: str | None) -> tuple[int, str] | None:
    """How to get from one path to another: so many steps up, then down along a path."""
    if end is None:
        return None
    here, there = start.split("/"), end.split("/")
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    return len(here) - shared, "/".join(there[shared:])


def numberless(name: str) -> str:
    """Put one sign in place of each number, so that names which differ by number are equal.

    Example:
        >>> numberless("blocks/11"), numberless("dense_2") == numberless("dense")
        ('blocks/#', True)
    """
    return re.sub(r"\d+", "#", name).removesuffix("_#")


def _span(first: str, last: str) -> str:
    """Name several by the first and the last: `blocks/0 … 11`."""
    start, end = (re.fullmatch(r"(.*?)(\d+)", name) for name in (first, last))
    if start and end and start[1] == end[1]:
        return f"{first} … {end[2]}"
    return f"{first} … {last}"


_FEWEST = 3
"""Two names are written out."""


def counted_up(names: Sequence[str]) -> list[str]:
    """Write names in a row whose numbers count up as one.

    Example:
        >>> counted_up(["image", "tower_0", "tower_1", "tower_2"])
        ['image', 'tower_0 … 2']
    """
    written: list[str] = []
    place = 0
    while place < len(names):
        end = place + 1
        while end < len(names) and _follows(names[end - 1], names[end]):
            end += 1
        run = names[place:end]
        written += [_span(run[0], run[-1])] if len(run) >= _FEWEST else run
        place = end
    return written


def _follows(name: str, after: str) -> bool:
    return bool(re.search(r"\d$", name)) and counts_on(name, after)


def counts_on(name: str, after: str) -> bool:
    """Tell whether one number in a name is one more in the next, all else being equal.

    Example:
        >>> counts_on("blocks/9", "blocks/10"), counts_on("dense", "dense_1"), counts_on("bn_0", "bn_3")
        (True, True, False)
    """
    if numberless(name) != numberless(after):
        return False
    start, end = (list(map(int, re.findall(r"\d+", each))) for each in (name, after))
    steps = [b - a for a, b in zip([*start, *[0] * (len(end) - len(start))], end, strict=False)]
    return [step for step in steps if step] == [1]


def flatten(nodes: Sequence[Node], depth: int) -> Iterator[Line]:
    """Give the rows in order, the layers inside others down to a depth: 0 shows the outermost only."""
    whole_model = nodes[0].owner.path == "" and len(nodes) > 1 if nodes else False
    for place, node in enumerate(nodes):
        if place == 0 and whole_model:
            yield Line(node=node, opened=True)
        else:
            yield from _lines(node, depth, 0, "", "", 1)


def _lines(node: Node, depth: int, level: int, stem: str, deeper: str, times: int) -> Iterator[Line]:
    opened, times = bool(node.inside) and level < depth, times * node.times
    under = deeper + ("│ " if opened else "")
    yield Line(node=node, stem=stem, under=under, depth=level, times=times, opened=opened)
    if opened:
        for place, child in enumerate(node.inside, 1):
            mark, below = ("└ ", "  ") if place == len(node.inside) else ("├ ", "│ ")
            yield from _lines(child, depth, level + 1, deeper + mark, deeper + below, times)
