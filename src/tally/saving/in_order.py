"""Layers of an older Keras file and of a model, which go together by their order, or by names where it doesn't tell."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from tally.saving.matching import (
    LEFT_OUT,
    Comparison,
    Renaming,
    refuse,
    refuse_unbuilt,
    rename,
    rename_all,
    sort_out,
)
from tally.saving.outcome import Left, Match, Report

Shape = tuple[int, ...]
_MOST_COMPARED = 1_000_000
"""Pairs of layers beyond which order isn't looked for: a file may claim any number of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """The arrays of one layer, of a model or of a file.

    Args:
        name: The layer's name.
        arrays: What each is called in messages, and the variable or the array of the file; in order.
        is_own: Whether they are those that a model holds beside its layers.
    """

    name: str
    arrays: tuple[tuple[str, Any], ...]
    is_own: bool = False

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes, in order."""
        return tuple(tuple(array.shape) for _, array in self.arrays)

    @property
    def named_shapes(self) -> list[tuple[str, Shape]]:
        """Names and shapes, in order."""
        return [(name, tuple(array.shape)) for name, array in self.arrays]


Pair = tuple[Group, Group]


def load_groups(
    wanted: Sequence[Group],
    stored: Sequence[Group],
    model: Any,
    source: Path,
    *,
    by_name: bool,
    skip_mismatch: bool,
    name_map: Renaming,
) -> Report:
    """Set a model's layers from those of a file; all of them or, if something doesn't fit, none.

    Args:
        wanted: The model's layers that have weights.
        stored: The file's.
        model: The model.
        source: The file, for messages.
        by_name: Whether layers go by their names, and those unknown on either side are left out.
        skip_mismatch: Leave layers that don't fit as they are.
        name_map: Names of layers in the file -> names in the model, or None to leave them out.

    Raises:
        SavingError: They don't fit.
    """
    stored, dropped = _left_out(stored, name_map)
    renamed = _renamed(stored, wanted, name_map, source)
    pairs = _pairs(wanted, stored, renamed, by_name=by_name)
    taken = {id(group) for pair in pairs for group in pair}
    alone = [group for group in wanted if id(group) not in taken]
    spare = [group for group in stored if id(group) not in taken]
    are_passed = by_name and bool(pairs)  # what only one side has was asked to be left out
    comparison = _compare(pairs, () if are_passed else alone, () if are_passed else spare)
    if not comparison.fits and not skip_mismatch:
        if not model.built:
            raise refuse_unbuilt(comparison, source, model.name, model.name)
        same = {group.name for group in wanted} == {group.name for group in stored}
        advice = ("pass by_name=True, since the layers have the same names",) if same and not by_name else ()
        raise refuse(comparison, source, model.name, also=advice)
    fitting = [(group, found) for group, found in pairs if group.shapes == found.shapes]
    values = [np.asarray(array) for _, found in fitting for _, array in found.arrays]
    variables = [variable for group, _ in fitting for _, variable in group.arrays]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    matched = [
        Match(path=path, shape=tuple(variable.shape), sources=(name,), by="name" if is_named else "order")
        for group, found in fitting
        for is_named in [by_name or id(found) in renamed]
        for (path, variable), (name, _) in zip(group.arrays, found.arrays, strict=True)
    ]
    report = comparison.report(source, model.name, matched, aside=_aside(pairs), left_out=dropped)
    return _with_passed(report, alone, spare) if are_passed else report


def _left_out(stored: Sequence[Group], name_map: Renaming) -> tuple[list[Group], list[Left]]:
    """The layers of the file without what the user leaves out, and that."""
    groups, dropped = list[Group](), list[Left]()
    for group in stored:
        kept = group.arrays if rename(group.name, name_map) is not None else ()
        kept = tuple(one for one in kept if rename(one[0], name_map) is not None)
        if kept:
            groups.append(replace(group, arrays=kept))
        dropped += [
            Left(name=name, shape=tuple(array.shape), why=LEFT_OUT, harmless=True)
            for name, array in group.arrays
            if all(array is not one for _, one in kept)
        ]
    return groups, dropped


def _renamed(
    stored: Sequence[Group], wanted: Sequence[Group], name_map: Renaming, source: Path
) -> dict[int, str]:
    """The layers of the file that the user gave the name of one of the model, by their identity."""
    if name_map is None:
        return {}
    names = {group.name for group in wanted}
    found: dict[int, str] = {}
    for group in stored:
        first = group.arrays[0][0]
        last = first.removeprefix(group.name)
        new = [rename(group.name, name_map), (rename(first, name_map) or "").removesuffix(last)]
        told = next((name for name in new if name != group.name and name in names), None)
        if told is not None:
            found[id(group)] = told
    targets = {group.name: found[id(group)] for group in stored if id(group) in found}
    rename_all(targets, targets, source)
    return found


def _pairs(
    wanted: Sequence[Group], stored: Sequence[Group], renamed: dict[int, str], *, by_name: bool
) -> list[Pair]:
    """Which go together: by the names that the user gave, by all names if wanted, else by order."""
    by_layer = {group.name: group for group in wanted}
    pairs = [(by_layer[renamed[id(group)]], group) for group in stored if id(group) in renamed]
    taken = {group.name for group, _ in pairs}
    left = [group for group in wanted if group.name not in taken]
    rest = [group for group in stored if id(group) not in renamed]
    if by_name:
        return pairs + _same_names(left, rest)
    own = _same_names([one for one in left if one.is_own], [one for one in rest if one.is_own])
    left, rest = [one for one in left if not one.is_own], [one for one in rest if not one.is_own]
    return [*pairs, *_in_order(left, rest), *own]


def _same_names(wanted: Sequence[Group], stored: Sequence[Group]) -> list[Pair]:
    found = {group.name: group for group in stored}
    return [(group, found[group.name]) for group in wanted if group.name in found]


def _in_order(wanted: Sequence[Group], stored: Sequence[Group]) -> list[Pair]:
    """One after the other; where layers were added or left out, those of the same names, or of the same shapes."""
    if [group.shapes for group in wanted] == [group.shapes for group in stored]:
        return list(zip(wanted, stored, strict=True))
    names = Counter(group.name for group in wanted), Counter(group.name for group in stored)
    is_within = len(wanted) != len(stored) and (names[0] <= names[1] or names[1] <= names[0])
    if is_within or len(wanted) * len(stored) > _MOST_COMPARED:
        return _same_names(wanted, stored)
    matcher = SequenceMatcher(
        None, [group.shapes for group in wanted], [group.shapes for group in stored], autojunk=False
    )
    pairs: list[Pair] = []
    for kind, start, stop, other, end in matcher.get_opcodes():
        if kind == "equal" or stop - start == end - other:
            pairs += zip(wanted[start:stop], stored[other:end], strict=True)
        elif kind == "replace":
            pairs += _same_names(wanted[start:stop], stored[other:end])
    return pairs


def _compare(pairs: Sequence[Pair], alone: Sequence[Group], spare: Sequence[Group]) -> Comparison:
    missing = [one for group in alone for one in group.named_shapes]
    surplus = [one for group in spare for one in group.named_shapes]
    misshapen: list[tuple[str, Shape, Shape]] = []
    fitting: list[str] = []
    for group, found in pairs:
        both = list(zip(group.named_shapes, found.named_shapes, strict=False))
        misshapen += [(path, shape, other) for (path, shape), (_, other) in both if shape != other]
        fitting += [name for (_, shape), (name, other) in both if shape == other]
        missing += group.named_shapes[len(both) :]
        surplus += found.named_shapes[len(both) :]
    same_names = all(
        path == name
        for group, found in pairs
        for (path, shape), (name, other) in zip(group.named_shapes, found.named_shapes, strict=False)
        if shape != other
    )
    return sort_out(
        missing=missing, surplus=surplus, misshapen=misshapen, fitting=fitting, by_name=same_names
    )


def _aside(pairs: Sequence[Pair]) -> Iterator[Left]:
    """What fits in layers that don't."""
    for group, found in pairs:
        if group.shapes == found.shapes:
            continue
        for (path, shape), (_, other) in zip(group.named_shapes, found.named_shapes, strict=False):
            if shape == other:
                yield Left(name=path, shape=shape, why="another weight of its layer doesn't fit")


def _with_passed(report: Report, alone: Sequence[Group], spare: Sequence[Group]) -> Report:
    """Tell of the layers, too, whose names only one side has, which is what by_name=True is for."""
    why = "no layer of the {} has its name"
    missing = [
        Left(name=name, shape=shape, why=why.format("file"), harmless=True)
        for group in alone
        for name, shape in group.named_shapes
    ]
    left = [
        Left(name=name, shape=shape, why=why.format("model"), harmless=True)
        for group in spare
        for name, shape in group.named_shapes
    ]
    return replace(report, missing=(*report.missing, *missing), left=(*report.left, *left))
