"""The layers of a model that wait for weights, with what is to be known of each: its class, and what reaches it."""

import math
import re
from collections.abc import Sequence

from tally.accounting.ledger import COUNTED, Ledger, Owner
from tally.core.registry import snake_case
from tally.saving.layouts import Slot
from tally.saving.parts import Shape
from tally.saving.units import word_of


def slots_of(ledger: Ledger) -> list[Slot]:
    """The layers of the model that hold weights, in its order."""
    found: list[Slot] = []
    for owner in ledger.owners:
        entries = [
            entry for entry in ledger.owned_by(owner.path) if entry.state in COUNTED and not entry.shared_with
        ]
        shapes = {entry.name: entry.shape for entry in entries}
        paths = {entry.name: entry.path for entry in entries}
        if not entries:
            continue
        parts = ("depthwise_kernel",), tuple(name for name in shapes if name != "depthwise_kernel")
        halves = parts if {"depthwise_kernel", "pointwise_kernel"} <= shapes.keys() else ((*shapes,),)
        found += [
            Slot(
                path=owner.path if len(halves) == 1 else f"{owner.path}/{half[0].removesuffix('_kernel')}",
                kind=_kind(owner, half),
                word=_slot_word(ledger, owner),
                shapes={name: shapes[name] for name in half},
                paths={name: paths[name] for name in half},
                flat=_flattened(ledger, owner),
                is_named=_is_named(ledger, owner),
                epsilon=owner.option("epsilon"),
            )
            for half in halves
        ]
    return found


def _kind(owner: Owner, names: Sequence[str]) -> str:
    if not owner.builtin:
        return ""
    if owner.type.startswith("SeparableConv"):
        return owner.type.replace("Separable", "Depthwise" if "depthwise_kernel" in names else "")
    return owner.type


def _slot_word(ledger: Ledger, owner: Owner) -> str:
    if re.search(r"(^|/)backward", owner.path):
        return "reverse"
    if (
        owner.path
        and ledger.parent(owner.path).type.endswith("Attention")
        and ledger.parent(owner.path).builtin
    ):
        return word_of(owner.path)
    return ""


def _is_named(ledger: Ledger, owner: Owner) -> bool:
    """Whether the last part of a path is a name that was given, and not a class with a number."""
    last = owner.path.rpartition("/")[2]
    return bool(last) and re.sub(r"_\d+$", "", last) != snake_case(owner.type)


def _flattened(ledger: Ledger, owner: Owner) -> Shape | None:
    """The shape (..., channels) that is flattened on the way to a layer, with nothing but that in between."""
    here: Owner | None = owner
    for _ in range(_FARTHEST):
        here = _feeder(ledger, here) if here is not None else None
        if here is None:
            return _only_flatten(ledger, owner)
        if here.type == "Flatten" and here.builtin:
            return _sides(here)
        if here.input_shapes != here.output_shapes or not here.input_shapes:
            return None
    return None


_FARTHEST = 8
"""Layers between a flattening and what its rows go into: dropout, an activation, a normalisation."""


def _sides(flatten: Owner) -> Shape | None:
    shape = flatten.input_shapes[0][1:] if flatten.input_shapes else ()
    sizes = tuple(size for size in shape if size is not None)
    return sizes if len(sizes) == len(shape) else None


def _feeder(ledger: Ledger, owner: Owner) -> Owner | None:
    """What feeds a layer, where the account says it: in a graph, or in a row of layers."""
    if len(owner.inputs) == 1:
        known = {one.path: one for one in ledger.owners}
        return _last(ledger, known.get(owner.inputs[0]))
    if not owner.path:
        return None
    parent = ledger.parent(owner.path)
    if parent.type != "Sequential":
        return None
    row = [one.path for one in ledger.children(parent.path)]
    place = row.index(owner.path)
    return _last(ledger, ledger.owner(row[place - 1])) if place else _feeder(ledger, parent)


def _last(ledger: Ledger, owner: Owner | None) -> Owner | None:
    """Of a row of layers the last one."""
    while owner is not None and owner.type == "Sequential" and ledger.children(owner.path):
        owner = ledger.children(owner.path)[-1]
    return owner


def _only_flatten(ledger: Ledger, owner: Owner) -> Shape | None:
    """Where nothing says what feeds a layer: the one flattening that gives as many features as the layer takes."""
    entry = next(iter(ledger.owned_by(owner.path)), None)
    if owner.type != "Dense" or entry is None or len(entry.shape) != 2:
        return None
    found = {
        sides
        for one in ledger.owners
        if one.type == "Flatten"
        and one.builtin
        and (sides := _sides(one))
        and math.prod(sides) == entry.shape[0]
    }
    return found.pop() if len(found) == 1 else None


class Series:
    """Tells whether one layer comes after another, so that their order means something.

    Args:
        ledger: The account of the model.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._owners = {owner.path: owner for owner in ledger.owners}
        self._before: dict[str, set[str]] = {}

    def __call__(self, first: str, second: str) -> bool:
        """Whether the second follows the first, as far as the account says what feeds what."""
        one, two = first.split("/"), second.split("/")
        same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
        if same is None:
            return True
        here, there = "/".join(one[: same + 1]), "/".join(two[: same + 1])
        if here not in self._owners or there not in self._owners:
            return True
        graph = self._owners[there].inputs or self._owners[here].inputs
        return not graph or here in self._ancestors(there)

    def _ancestors(self, path: str) -> set[str]:
        if path not in self._before:
            found: set[str] = set()
            waiting = [path]
            while waiting:
                owner = self._owners.get(waiting.pop())
                new = [name for name in (owner.inputs if owner is not None else ()) if name not in found]
                found.update(new)
                waiting += new
            self._before[path] = found
        return self._before[path]
