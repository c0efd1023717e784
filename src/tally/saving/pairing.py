"""Which layer of a source goes into which layer of a model: by name, by shape, or by an order that means something."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from tally.saving.layouts import Fit, Slot, Unit, fit
from tally.saving.parts import Part

_COUNTERS = ("num_batches_tracked", "position_ids", "inv_freq", "attention_mask")
"""Arrays that count or number something, which no layer needs."""
Pair = tuple[Slot, Unit, Fit, str]


class Pairing:
    """Layers of a model and of a source on their way to each other.

    Args:
        slots: The model's, in its order.
        units: The source's, in its order.
        is_ordered: Whether the source's order says how the model was written down.
        follows: Whether one layer of the model comes after another, by their paths.
    """

    def __init__(
        self, slots: list[Slot], units: list[Unit], is_ordered: bool, follows: Callable[[str, str], bool]
    ) -> None:
        self.slots, self.is_ordered, self.follows = slots, is_ordered, follows
        self.refused: list[tuple[Slot, Unit]] = []
        self._order = {id(slot): place for place, slot in enumerate(slots)}
        self.dropped: list[tuple[str, Part]] = []
        for unit in units:
            for name in [name for name in unit.parts if name in _COUNTERS]:
                self.dropped.append((f"{unit.path}.{name}".lstrip("."), unit.parts.pop(name)))
        self.units = [unit for unit in units if unit.parts]
        self.pairs: list[Pair] = []
        self.whys: dict[str, str] = {}
        self._forms = {id(one): one.form for one in (*slots, *self.units)}
        self._bulks = {id(one): one.bulk for one in (*slots, *self.units)}
        self._fits: dict[tuple[object, object], bool] = {}

    def run(self) -> None:
        """Find the pairs: by name, along the order, then by shape."""
        self._pair_names()
        self._pair_ends()
        for attempt in (self._along_the_order, self._by_segments):
            if self.is_ordered and (found := attempt()) and self._means_order(found):
                self._take(found, "order")
        self._by_shape()
        self._refuse_mixture()
        self.pairs.sort(key=lambda pair: self._order[id(pair[0])])

    def _take(self, found: Sequence[tuple[Slot, Unit]], by: str) -> None:
        for slot, unit in found:
            made = fit(unit, slot)
            assert isinstance(made, Fit)
            self.pairs.append((slot, unit, made, by))
            self.slots.remove(slot)
            self.units.remove(unit)

    def fits(self, slot: Slot, unit: Unit) -> bool:
        """Whether they go together; found once for all layers of one form."""
        key = self._forms[id(slot)], self._forms[id(unit)]
        if key not in self._fits:
            self._fits[key] = self._bulks[id(slot)] == self._bulks[id(unit)] and isinstance(
                fit(unit, slot), Fit
            )
        return self._fits[key]

    # -- by name ---------------------------------------------------------------------------------------------------
    def _pair_names(self) -> None:
        units = {unit.path.replace(".", "/"): unit for unit in self.units}
        all_named = all(slot.path in units for slot in self.slots)
        for slot in list(self.slots):
            unit = units.get(slot.path)
            if unit is None or not (all_named or slot.is_named or unit.is_mapped):
                continue
            if self.fits(slot, unit):
                self._take([(slot, unit)], "name")
            elif slot.is_named or unit.is_mapped:
                self.whys[slot.path] = f"{unit.path} has its name, but {fit(unit, slot)}"
                self.slots.remove(slot)
                self.units.remove(unit)
                self.refused.append((slot, unit))

    def _pair_ends(self) -> None:
        """By the last parts of names that were given, where only one has so many parts in common with the other."""
        by_end: dict[str, list[Unit]] = defaultdict(list)
        for unit in self.units:
            by_end[_parts(unit.path)[-1]].append(unit)
        best: dict[int, tuple[Slot, Unit]] = {}
        claims: dict[int, list[int]] = defaultdict(list)
        for slot in self.slots:
            near = [unit for unit in by_end[_parts(slot.path)[-1]] if slot.is_named and self.fits(slot, unit)]
            scores = [_in_common(slot.path, unit.path) for unit in near]
            if scores and scores.count(max(scores)) == 1:
                unit = near[scores.index(max(scores))]
                best[id(slot)] = slot, unit
                claims[id(unit)].append(id(slot))
        self._take([pair for key, pair in best.items() if claims[id(pair[1])] == [key]], "name")

    # -- by order --------------------------------------------------------------------------------------------------
    def _useful(self) -> list[Unit]:
        by_bulk: dict[int, list[Slot]] = defaultdict(list)
        for slot in self.slots:
            by_bulk[self._bulks[id(slot)]].append(slot)
        return [
            unit
            for unit in self.units
            if any(self.fits(slot, unit) for slot in by_bulk[self._bulks[id(unit)]])
        ]

    def _along_the_order(self) -> list[tuple[Slot, Unit]]:
        """All in a row, if each fits the one at its place."""
        units = self._useful()
        pairs = list(zip(self.slots, units, strict=False))
        fits = len(units) == len(self.slots) and all(self.fits(slot, unit) for slot, unit in pairs)
        return pairs if fits else []

    def _means_order(self, pairs: Sequence[tuple[Slot, Unit]]) -> bool:
        """Whether those that could be exchanged follow each other in the model; of branches, none comes first."""
        alike: dict[object, list[Slot]] = defaultdict(list)
        for slot, _ in sorted(pairs, key=lambda pair: self._order[id(pair[0])]):
            alike[slot.word, tuple(slot.shapes.values())].append(slot)
        return all(
            self.follows(one.path, other.path) for slots in alike.values() for one, other in pairwise(slots)
        )

    def _by_segments(self) -> list[tuple[Slot, Unit]]:
        """Block by block in a row, where inside of a block the order may differ: what has one shape has like names."""
        units = self._useful()
        if len(units) != len(self.slots):
            return []
        segments: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            segments[_segment(unit.path)].append(unit)
        pairs: list[tuple[Slot, Unit]] = []
        at = 0
        for inside in segments.values():
            slots = self.slots[at : at + len(inside)]
            at += len(inside)
            for group in self.classes(slots, inside):
                if not _are_alike(group[1]) or len(group[0]) != len(group[1]):
                    return []
                pairs += zip(*group, strict=True)
        return pairs if len(pairs) == len(self.slots) else []

    # -- by shape --------------------------------------------------------------------------------------------------
    def classes(self, slots: Sequence[Slot], units: Sequence[Unit]) -> list[tuple[list[Slot], list[Unit]]]:
        """Layers of the model that the same layers of the source could fill, with these."""
        groups: dict[tuple[int, ...], tuple[list[Slot], list[Unit]]] = {}
        by_bulk: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            by_bulk[self._bulks[id(unit)]].append(unit)
        for slot in slots:
            found = [unit for unit in by_bulk[self._bulks[id(slot)]] if self.fits(slot, unit)]
            groups.setdefault(tuple(unit.place for unit in found), ([], found))[0].append(slot)
        return [group for group in groups.values() if group[1]]

    def _by_shape(self) -> None:
        """What nothing else fits; of several, those whose last names are the same, or whose names count."""
        is_moving = True
        while is_moving:
            is_moving = False
            claims: dict[int, int] = defaultdict(int)
            groups = self.classes(self.slots, self.units)
            for _, units in groups:
                for unit in units:
                    claims[unit.place] += 1
            for slots, units in groups:
                alone = all(claims[unit.place] == 1 for unit in units)
                found, by = self._resolve(slots, units) if alone else ([], "")
                if found:
                    self._take(found, by)
                    is_moving = True
        for slots, units in self.classes(self.slots, self.units):
            names = ", ".join(unit.path or "(no name)" for unit in units[:3]) + (
                ", ..." if len(units) > 3 else ""
            )
            for slot in slots:
                self.whys[slot.path] = f"{len(units):,} would fit, and names don't tell which: {names}"
            for unit in units:
                self.whys[f"<{unit.path}"] = (
                    f"fits {', '.join(slot.path for slot in slots[:3])}; names don't tell which"
                )

    def _resolve(self, slots: list[Slot], units: list[Unit]) -> tuple[list[tuple[Slot, Unit]], str]:
        if len(slots) == len(units) == 1:
            return [(slots[0], units[0])], "shape"
        pairs = list(zip(slots, units, strict=False))
        if len(slots) == len(units) and _are_alike(units) and self._means_order(pairs):
            return pairs, "order"
        return [], ""

    # -- what must not pass ----------------------------------------------------------------------------------------
    def _refuse_mixture(self) -> None:
        """A square matrix may lie either way: where others lie otherwise than their names say, so may it."""
        odd = [unit.path for _, unit, made, _ in self.pairs if made.is_odd]
        square = [pair for pair in self.pairs if pair[2].is_square]
        if odd and square:
            for pair in square:
                self.pairs.remove(pair)
                self.slots.append(pair[0])
                self.units.append(pair[1])
                why = f"{pair[1].path} is square, and {odd[0]} isn't transposed, so it may lie either way"
                self.whys[pair[0].path] = self.whys[f"<{pair[1].path}"] = why


def _segment(path: str) -> str:
    """What a layer is a part of: a block with a number, or itself."""
    parts = re.split(r"[./]", path)
    numbers = [place for place, part in enumerate(parts[:-1]) if re.search(r"\d", part)]
    if not numbers:
        return path
    at = numbers[0]
    while at + 1 < len(parts) - 1 and parts[at + 1].isdigit():
        at += 1
    return "/".join(parts[: at + 1])


def _parts(path: str) -> list[str]:
    return [part.lower() for part in re.split(r"[./]", path)]


def _in_common(one: str, other: str) -> int:
    """How many parts at the end two names have in common."""
    pairs = zip(reversed(_parts(one)), reversed(_parts(other)), strict=False)
    return next(
        (count for count, (a, b) in enumerate(pairs) if a != b), min(len(_parts(one)), len(_parts(other)))
    )


def _stem(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _are_alike(units: Sequence[Unit]) -> bool:
    """Whether names differ by numbers alone, so that these say their order."""
    return len({_stem(unit.path) for unit in units}) == 1
