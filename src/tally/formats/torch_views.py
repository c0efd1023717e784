"""Tensors that are views of one storage: which show the same elements, which share some, and what none shows."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tally.formats.torch_arrays import Array, bits_of
from tally.formats.torch_tree import Found


@dataclass(slots=True)
class Sharing:
    """What views of the same storages have in common.

    Args:
        alias_of: For the name of a tensor, the name of the one that has the same elements.
        notes: For the name of a tensor, what else it shares.
        unused: The bytes of storages that no tensor shows.
    """

    alias_of: dict[str, str] = field(default_factory=dict[str, str])
    notes: dict[str, str] = field(default_factory=dict[str, str])
    unused: int = 0


@dataclass(frozen=True, slots=True)
class _View:
    """The bits from the first element to the last, and whether all in between belong to it."""

    first: int
    end: int
    dense: bool
    name: str


def share(found: Sequence[Found]) -> Sharing:
    """Find out what the tensors of one file share.

    Of several that show the same elements the first weight counts; where none is a weight, the first.

    Example:
        >>> from tally.formats.torch_arrays import Storage
        >>> def array(*shape): return Array(dtype="int8", shape=shape, storage=Storage("0", "int8", 6), strides=(1,))
        >>> share([Found("a", array(6), "weight"), Found("b", array(6), "weight")]).alias_of
        {'b': 'a'}
    """
    sharing = Sharing()
    views: dict[str, list[_View]] = defaultdict(list)
    whole: dict[str, int] = {}
    first: dict[tuple[object, ...], str] = {}
    # Stable: else in their order.
    for one in sorted(found, key=lambda one: one.role not in ("weight", "state")):
        array = one.array
        if array.storage is None:
            continue
        whole[array.storage.key] = array.storage.whole * array.storage.bits
        if 0 in array.shape:
            continue
        bits, layout = bits_of(array.dtype), _layout(array)
        begin = array.storage.start * array.storage.bits + array.start * bits
        holder = first.setdefault((array.storage.key, begin, bits, layout), one.name)
        if holder != one.name:
            sharing.alias_of[one.name] = holder
            continue
        dense = all(stride == 1 for stride, _ in layout) and len(layout) < 2
        view = _View(begin, begin + array.reach * bits, dense, one.name)
        views[array.storage.key].append(view)
    for key, bits in whole.items():
        covered = _sweep(views[key], sharing)
        sharing.unused += max(bits - covered, 0) // 8
    return sharing


def _layout(array: Array) -> tuple[tuple[int, int], ...]:
    """Which elements a view shows, whatever their order: strides and lengths, neighbouring axes made one."""
    merged: list[tuple[int, int]] = []
    pairs = zip(array.strides, array.shape, strict=True)
    for stride, size in sorted(((step, size) for step, size in pairs if size > 1 and step), reverse=True):
        if merged and merged[-1][0] == stride * size:
            merged[-1] = (stride, merged[-1][1] * size)
        else:
            merged.append((stride, size))
    return tuple(merged)


def _sweep(views: list[_View], sharing: Sharing) -> int:
    """Note the views that reach into one before them, and return how many bits all together span."""
    covered, last = 0, None
    for view in sorted(views, key=lambda one: (one.first, -one.end)):
        if last is not None and view.first < last.end:
            sharing.notes[view.name] = _overlap(view, last)
        covered += max(0, view.end - max(view.first, last.end if last else 0))
        if last is None or view.end > last.end:
            last = view
    return covered


def _overlap(view: _View, other: _View) -> str:
    if view.dense and other.dense:
        shared = min(view.end, other.end) - view.first
        return f"Shares {math.ceil(shared / 8):,} bytes with {other.name!r}; they count twice."
    return f"Its elements lie between those of {other.name!r}; whether both share some was not worked out."
