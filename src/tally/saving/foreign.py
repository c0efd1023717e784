"""Weights from elsewhere into a model: each layer of the source finds its layer, by name, by shape or by order."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tally.core.errors import SavingError
from tally.saving.arrays import assign, check_arrays, places_of
from tally.saving.matching import BETWEEN, Renaming, cut, left_out
from tally.saving.orbax import is_checkpoint, restore_folder
from tally.saving.outcome import Left, Match, Report
from tally.saving.pairing import Pairing
from tally.saving.safetensors import is_own, load_safetensors
from tally.saving.slots import Series, slots_of
from tally.saving.sources import Source, is_foreign_file, is_live, open_source
from tally.saving.units import units_of


def is_foreign(source: Any) -> bool:
    """Tell whether weights come from something else than a `.weights.h5` or `.keras` file."""
    return is_live(source) or is_foreign_file(Path(source)) or is_checkpoint(Path(source))


def load_foreign(
    model: Any, source: Any, *, skip_mismatch: bool = False, name_map: Renaming = None
) -> Report:
    """Set a model's weights from a safetensors or PyTorch file, a Hub's folder, a module, a state dict, a Keras model.

    Layers go together by their names where these are the same or `name_map` says so, by their shapes where nothing
    else fits, and by their order where the source has one and all fits along it. Where two could be exchanged, nothing
    is loaded.

    Args:
        model: A built model.
        source: Where the weights are.
        skip_mismatch: Load what fits instead of refusing.
        name_map: Names in the source -> paths in the model: of an array, or of a layer with all that is inside; or None
            to leave it out.

    Returns:
        What went where, and what was done to it.

    Raises:
        SavingError: Something doesn't fit or is ambiguous; then nothing is changed.
        BadFileError: The file is broken.
    """
    if not is_live(source) and is_checkpoint(Path(source)):
        return restore_folder(model, Path(source), skip_mismatch=skip_mismatch, name_map=name_map)[0]
    opened = open_source(source)
    if opened.contents is not None and is_own(opened.contents):
        return load_safetensors(
            model, opened.contents, Path(opened.name), skip_mismatch=skip_mismatch, name_map=name_map
        )
    places_of(model)  # says what is wrong with what is no model
    ledger = model.account()
    units = units_of(opened, ledger, name_map)
    pairing = Pairing(slots_of(ledger), units, opened.is_ordered, Series(ledger))
    pairing.run()
    report = _report(model, opened, pairing, name_map)
    problems = [one for one in report.left if not one.harmless]
    if not skip_mismatch and (report.missing or problems):
        raise _refusal(report, pairing)
    places = places_of(model).weights
    made = [
        (slot.paths[name], part) for slot, _, found, _ in pairing.pairs for name, part in found.parts.items()
    ]
    if opened.contents is not None:
        used = {source for _, part in made for source in part.sources}
        check_arrays(tensor for tensor in opened.contents.tensors if tensor.name in used)
    assign((places[path], part.read) for path, part in made)
    return report


# -- what came of it -----------------------------------------------------------------------------------------------
def _report(model: Any, source: Source, pairing: Pairing, name_map: Renaming) -> Report:
    matched = tuple(
        Match(path=slot.paths[name], shape=part.shape, sources=part.sources, done=part.done, by=by)
        for slot, _, found, by in pairing.pairs
        for name, part in found.parts.items()
    )
    refused = [slot for slot, _ in pairing.refused]
    missing = tuple(
        Left(name=slot.paths[name], shape=shape, why=pairing.whys.get(slot.path, "nothing fits"))
        for slot in (*pairing.slots, *refused)
        for name, shape in slot.shapes.items()
    )
    unused = (*pairing.units, *(unit for _, unit in pairing.refused))
    left = [
        Left(
            name=f"{part.sources[0]}",
            shape=part.shape,
            why=pairing.whys.get(f"<{unit.path}", "no layer of the model takes it"),
        )
        for unit in unused
        for part in unit.parts.values()
    ]
    left += [
        Left(name=name, shape=part.shape, why="needed by no layer", harmless=True)
        for name, part in pairing.dropped
    ]
    left += [
        Left(name=name, shape=shape, why=why, harmless=True) for name, (shape, why) in source.passed.items()
    ]
    left += [
        Left(
            name=name,
            shape=source.parts[first].shape if first in source.parts else (),
            why=f"the same as {first}",
            harmless=True,
        )
        for name, first in source.aliases.items()
    ]
    return Report(
        source=source.name,
        model=model.name,
        matched=matched,
        missing=missing,
        left=(*left, *left_out({name: part.shape for name, part in source.parts.items()}, name_map)),
        notes=tuple(_epsilons(source, pairing)),
    )


_TORCH_EPSILON = 1e-5


def _epsilons(source: Source, pairing: Pairing) -> Iterator[str]:
    """Say where normalisations add another number to a variance, which changes what the model computes."""
    told: dict[tuple[str, float, float], list[str]] = defaultdict(list)
    for slot, unit, _, _ in pairing.pairs:
        if slot.epsilon is None or not slot.kind.endswith("Normalization"):
            continue
        known = source.epsilons.get(unit.path)
        there = _TORCH_EPSILON if known is None and "weight" in unit.parts else known
        if there is not None and there != slot.epsilon:
            told[
                "" if known is not None else ", unless it was made with another", there, slot.epsilon
            ].append(slot.path)
    for (unless, there, here), paths in told.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        yield (
            f"{paths[0]}{more}: epsilon is {here:g} here and {there:g} in the source{unless}; make it with "
            f"epsilon={there:g} to compute the same."
        )


def _refusal(report: Report, pairing: Pairing) -> SavingError:
    """The error that says what has no counterpart, and which names to map."""
    told = [f"{one.name} {one.shape}: {one.why}" for one in report.missing]
    spare = [f"{one.name} {one.shape}: {one.why}" for one in report.left if not one.harmless]
    lines = [*cut(told, "of the model"), *cut(spare, "of the source")]
    counts = [
        f"{len(told):,} of its {len(told) + len(report.matched):,} weights got nothing" if told else "",
        f"{len(spare):,} of the source go nowhere" if spare else "",
    ]
    likely = pairing.classes(pairing.slots, pairing.units)
    named = next(((unit, slots[0]) for slots, units in likely for unit in units if unit.path), None)
    advice = "build the model the weights were made for"
    if named is not None:
        unit, slot = named
        advice = f"pass name_map={{{unit.path!r}: {slot.path!r}, ...}} to say what belongs where"
    return SavingError(
        f"The weights in {report.source} don't fit '{report.model}': {', and '.join(filter(None, counts))}.",
        where=BETWEEN.join(lines),
        do=f"{advice}; or pass skip_mismatch=True to load what fits; nothing was changed",
    )
