"""Recurrent cells that Flax builds of a linear layer for each gate, or of one for the input and one for the state."""

import re
from collections.abc import Mapping, Sequence

from tally.saving.layouts import Parts, Unit
from tally.saving.parts import Part, added, joined, stacked, zeros

_GATES: dict[str, tuple[str, ...]] = {"LSTM": tuple("ifgo"), "GRU": tuple("zrn"), "RNN": ("",)}
"""The gates of each cell, in this library's order; Flax calls the layers of one `ii` and `hi`, of the last `i`, `h`."""
_TOGETHER = {4: ("LSTM", (0, 1, 2, 3)), 3: ("GRU", (1, 0, 2)), 1: ("RNN", (0,))}
"""By how many gates one layer holds: the cell, and the order that turns Flax's into this library's."""


def with_cells(units: Sequence[Unit]) -> list[Unit]:
    """The same layers, those that make up a cell put together at the place of the first.

    Args:
        units: The layers of a source.
    """
    inside: dict[str, dict[str, Unit]] = {}
    for unit in units:
        above, last = re.fullmatch(r"(?:(.*)[./])?([^./]*)", unit.path, re.DOTALL).groups()  # pyright: ignore
        inside.setdefault(above or "", {})[last.rstrip("_")] = (
            unit  # `in_` and `if_`, where Python has the word
        )
    replaced: dict[int, Unit | None] = {}
    for above, layers in inside.items():
        parts = _cell({name: unit.parts for name, unit in layers.items()})
        if parts is not None:
            first, *others = layers.values()
            word = first.word if first.word == "reverse" else ""
            is_mapped = any(unit.is_mapped for unit in layers.values())
            replaced[id(first)] = Unit(path=above, word=word, parts=parts, is_mapped=is_mapped)
            replaced.update((id(unit), None) for unit in others)
    kept = (replaced.get(id(unit), unit) for unit in units)
    return [unit for unit in kept if unit is not None]


def _cell(layers: Mapping[str, Parts]) -> Parts | None:
    """The arrays of the cell that some layers make; None where they make none."""
    if any("kernel" not in parts or len(parts["kernel"].shape) != 2 for parts in layers.values()):
        return None
    if layers.keys() == {"dense_i", "dense_h"}:
        return _of_two(layers["dense_i"], layers["dense_h"])
    for kind, gates in _GATES.items():
        if layers.keys() == {side + gate for side in "ih" for gate in gates}:
            sides = [[layers[side + gate] for gate in gates] for side in "ih"]
            if (
                len({parts["kernel"].shape for parts in sides[0]}) > 1
                or len({parts["kernel"].shape for parts in sides[1]}) > 1
            ):
                return None
            kernels = [joined([parts["kernel"] for parts in side]) for side in sides]
            return _put(kind, kernels, [_biases(side) for side in sides])
    return None


def _of_two(inputs: Parts, state: Parts) -> Parts | None:
    units, columns = state["kernel"].shape
    if (
        not units
        or columns % units
        or columns // units not in _TOGETHER
        or inputs["kernel"].shape[1] != columns
    ):
        return None
    kind, order = _TOGETHER[columns // units]
    kernels = [side["kernel"].gates(order) for side in (inputs, state)]
    return _put(
        kind, kernels, [side["bias"].gates(order) if "bias" in side else None for side in (inputs, state)]
    )


def _biases(side: Sequence[Parts]) -> Part | None:
    """The biases of all gates in a row, zeros where a gate has none."""
    if not any("bias" in parts for parts in side):
        return None
    return joined([parts.get("bias") or zeros(parts["kernel"].shape[1:]) for parts in side])


def _put(kind: str, kernels: Sequence[Part], biases: Sequence[Part | None]) -> Parts:
    """The arrays of a cell: a GRU here has a bias for either side, any other cell one for both."""
    found: Parts = dict(zip(("kernel", "recurrent_kernel"), kernels, strict=True))
    held = [bias for bias in biases if bias is not None]
    if held and kind == "GRU":
        first, second = (bias or zeros(held[0].shape) for bias in biases)
        found["bias"] = stacked(first, second)
    elif held:
        found["bias"] = held[0] if len(held) == 1 else added(*held)
    return found
