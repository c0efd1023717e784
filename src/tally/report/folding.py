"""Repeated blocks as one row: which layers in a row are alike in everything but their number."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto

from tally.accounting.ledger import Owner
from tally.report.amounts import Amount, add
from tally.report.rows import Node, counts_on, numberless

_FEWEST_BLOCKS = 3
"""Two are shown as two, unless asked otherwise: one row would hide more than it saves."""

_LONGEST = 64
"""So many layers in a row are looked at for a pattern that repeats."""


def fold(nodes: Sequence[Node], *, everything: bool) -> tuple[Node, ...]:
    """Let the first of several layers that are alike stand for all of them.

    Alike are neighbours of one type whose options, shapes, weights and layers inside are the same, that are fed in
    the same way, and whose names are equal but for a number that counts up.

    Args:
        nodes: Layers in order.
        everything: Whether two are enough and single layers fold, too, as do a few layers in a row that come again
            (`conv2_block2_…`, `conv2_block3_…`); else only layers with layers inside, three or more of them.
    """
    places = {name: place for place, node in enumerate(nodes) for name in (node.owner.name, node.owner.path)}
    folded: list[Node] = []
    place = 0
    while place < len(nodes):
        size, times = _repeats(nodes, place, places, everything)
        run = nodes[place : place + size * times]
        first = run[0] if size == 1 else _gather(run[:size])
        last = run[-1].place if size == 1 else _stem(run[-size:])
        if times > 1:
            first = replace(first, times=times, last=last)
        folded.append(replace(first, inside=fold(first.inside, everything=everything)))
        place += size * times
    return tuple(folded)


class _Way(Enum):
    """What feeds a layer, compared with the one that it is like: the same, or what stands as far before it."""

    SAME = auto()
    ON = auto()


def _repeats(nodes: Sequence[Node], start: int, places: dict[str, int], everything: bool) -> tuple[int, int]:
    """How many layers from here on make a pattern, and how often it comes."""
    if not (everything or nodes[start].inside) or nodes[start].owner.path == "":
        return 1, 1
    for size in range(1, _LONGEST + 1 if everything else 2):
        times, way = 1, None
        while wired := _alike(nodes, start + times * size, size, places):
            if way not in (None, wired):
                break
            times, way = times + 1, wired
        if times >= (2 if everything else _FEWEST_BLOCKS):
            return size, times
    return 1, 1


def _alike(nodes: Sequence[Node], start: int, size: int, places: dict[str, int]) -> list[_Way] | None:
    """How the layers from here on are fed, seen from those just before; None where they aren't like them."""
    before, after = nodes[start - size : start], nodes[start : start + size]
    if len(after) < size or before[0].form != after[0].form or not _numbered_on(before, after):
        return None
    ways: list[_Way] = [_Way.ON]  # for layers without inputs
    for one, other in zip(before, after, strict=True):
        if one.form != other.form or numberless(one.place) != numberless(other.place):
            return None
        if len(one.owner.inputs) != len(other.owner.inputs):
            return None
        for feeder, then in zip(one.owner.inputs, other.owner.inputs, strict=True):
            if feeder == then:
                ways.append(_Way.SAME)
            elif places.get(then, -1) - places.get(feeder, -1) == size:
                ways.append(_Way.ON)
            else:
                return None
    return ways


def _numbered_on(before: Sequence[Node], after: Sequence[Node]) -> bool:
    """Whether the number in the names counts on; several layers in a row have it in what their names begin with."""
    if len(before) == 1:
        return counts_on(before[0].place, after[0].place)
    stem, again = _stem(before), _stem(after)
    return bool(stem) and counts_on(stem, again)


def _stem(nodes: Sequence[Node]) -> str:
    """What the names of some layers begin with, up to a number; nothing if they have no number in common."""
    names = [node.place for node in nodes]
    first, last = min(names), max(names)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    stem = re.match(r".*\d", first[:same])
    if stem is None or any(name[stem.end() : stem.end() + 1].isdigit() for name in names):
        return ""
    return stem[0]


def _gather(nodes: Sequence[Node]) -> Node:
    """Make one node of a few layers in a row, named by what their names have in common."""
    stem, first, last = _stem(nodes), nodes[0], nodes[-1]
    statuses = {node.owner.status for node in nodes}
    owner = Owner(
        path=first.owner.path.removesuffix(first.place) + stem,
        type=f"{len(nodes):,} layers",
        status="unbuilt" if "unbuilt" in statuses else "built",
        input_shapes=first.owner.input_shapes,
        output_shapes=last.owner.output_shapes,
        origin=first.owner.origin,
        inputs=first.owner.inputs,
    )
    return Node(
        owner=owner,
        place=stem,
        own=Amount(),
        whole=add(node.whole for node in nodes),
        inside=tuple(_renamed(nodes, stem)),
        gathers=True,
    )


def _renamed(nodes: Sequence[Node], stem: str) -> Iterator[Node]:
    """The layers under what is left of their names."""
    for node in nodes:
        yield replace(node, place=node.place.removeprefix(stem).lstrip("_-/.") or node.place)
