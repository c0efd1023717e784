"""What of a file fits a model and what doesn't: every missing, surplus and misshapen weight, and the likely renames."""

import difflib
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from tally.core.errors import SavingError
from tally.saving.outcome import Left, Match, Report

Shape = tuple[int, ...]

BETWEEN = "\n         "
"""Between lines of a message, so that they stand below each other."""
LEFT_OUT = "left out by name_map"
"""Why an array of a file is not used that the user mapped to None."""
_MOST_SHOWN = 6
"""Weights of a kind that a message lists; the rest is counted."""
_MOST_COMPARED = 200
"""Weights that a name is looked for; comparing takes time with the square of their number."""
_NEAR = 0.5
"""How alike two names must be, from 0 to 1, for one to be taken for the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How the weights of a file and those of a model go together.

    Args:
        total: How many weights the model has.
        missing: Path and shape of the model's weights that the file doesn't have.
        surplus: Name and shape of what the file has besides.
        misshapen: Path, the model's shape and the file's.
        renames: Names or the beginnings of names that the file has besides -> what would fit a missing weight; or None
            for what stands where another one fits.
        likely: Path of a missing weight -> the name in the file that is renamed to it.
        paths: Where the file has its own names for what is in the model: that name -> the path in the model.

    Example:
        >>> found = compare({"head/kernel": (8, 3)}, {"heads/kernel": (8, 3)})
        >>> found.fits, found.renames
        (False, {'heads': 'head'})
    """

    total: int
    missing: tuple[tuple[str, Shape], ...] = ()
    surplus: tuple[tuple[str, Shape], ...] = ()
    misshapen: tuple[tuple[str, Shape, Shape], ...] = ()
    renames: Mapping[str, str | None] = field(default_factory=dict)
    likely: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether each weight has its like."""
        return not (self.missing or self.surplus or self.misshapen)

    @property
    def counts(self) -> str:
        """One clause with the number of each kind."""
        one_of = f"of its {self.total:,} weight{_s(self.total)} " if self.total else ""
        parts: list[str] = []
        if self.missing:
            parts.append(f"{one_of}{_number(self.missing)} missing in the file")
        if self.misshapen:
            has = "has another shape" if len(self.misshapen) == 1 else "have other shapes"
            parts.append(f"{'' if parts else one_of}{len(self.misshapen):,} {has}")
        if self.surplus:
            parts.append(f"the file has {len(self.surplus):,} that the model hasn't")
        return ", and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else "all fit"

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each weight, those of a kind together; what is too much is counted in the last."""
        renamed = {self.likely.get(path) for path, _ in self.missing}
        return (
            *cut(
                (
                    f"{self._called(path)} {shape} is missing{self._at(path)}"
                    + (f"; the file has {self.likely[path]}" if path in self.likely else "")
                    for path, shape in self.missing
                ),
                "missing",
            ),
            *cut(
                (
                    f"{self._called(path)} is {shape}, the file has {other}{self._at(path)}"
                    for path, shape, other in self.misshapen
                ),
                "of another shape",
            ),
            *cut(
                (
                    f"{name} {shape} is only in the file"
                    for name, shape in self.surplus
                    if name not in renamed
                ),
                "only in the file",
            ),
        )

    def _called(self, path: str) -> str:
        return self.paths.get(path, path)

    def _at(self, path: str) -> str:
        return f" at {path}" if path in self.paths else ""

    def report(
        self,
        source: object,
        model: str,
        matched: Iterable[Match],
        *,
        aside: Iterable[Left] = (),
        left_out: Iterable[Left] = (),
    ) -> Report:
        """Tell what was loaded and what was left out.

        Args:
            source: The file.
            model: The model's name.
            matched: The weights that were set.
            aside: Weights that fit but were left, since others of their layer don't.
            left_out: What the user left out.
        """
        missing = [
            Left(
                name=self._called(path),
                shape=shape,
                why=f"the file has nothing{self._at(path) or ' so named'}",
            )
            for path, shape in self.missing
        ]
        missing += [
            Left(name=self._called(path), shape=shape, why=f"the file has {other}")
            for path, shape, other in self.misshapen
        ]
        left = [
            Left(name=name, shape=shape, why="the model has no such weight") for name, shape in self.surplus
        ]
        return Report(
            source=str(source),
            model=model,
            matched=tuple(matched),
            missing=(*missing, *aside),
            left=(*left, *left_out),
        )


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _number(listed: tuple[object, ...]) -> str:
    return f"{len(listed):,} {'is' if len(listed) == 1 else 'are'}"


def cut(lines: Iterable[str], kind: str) -> list[str]:
    """The first lines, and how many more of their kind there are.

    Example:
        >>> cut("abcdefghi", "letters")
        ['a', 'b', 'c', 'd', 'e', 'f', 'and 3 more letters']
    """
    listed = list(lines)
    rest = len(listed) - _MOST_SHOWN
    return listed if rest <= 1 else [*listed[:_MOST_SHOWN], f"and {rest:,} more {kind}"]


def compare(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape], paths: Mapping[str, str] | None = None
) -> Comparison:
    """Hold the weights that a model has against those in a file, by their names.

    Args:
        wanted: Path -> shape, of the model.
        found: Name -> shape, of the file.
        paths: What the model calls a weight, or a layer, where the file has a name of its own for it.
    """
    return sort_out(
        missing=[(path, shape) for path, shape in wanted.items() if path not in found],
        surplus=[(name, shape) for name, shape in found.items() if name not in wanted],
        misshapen=[
            (path, shape, found[path])
            for path, shape in wanted.items()
            if path in found and found[path] != shape
        ],
        fitting=[path for path, shape in wanted.items() if found.get(path) == shape],
        paths=paths,
        by_name=True,
    )


def sort_out(
    *,
    missing: Iterable[tuple[str, Shape]],
    surplus: Iterable[tuple[str, Shape]],
    misshapen: Iterable[tuple[str, Shape, Shape]],
    fitting: Iterable[str],
    paths: Mapping[str, str] | None = None,
    by_name: bool = False,
) -> Comparison:
    """Find the likely renames among what fits nowhere.

    Args:
        missing: Path and shape of the model's weights that the file doesn't have.
        surplus: Name and shape of what the file has besides.
        misshapen: Path, the model's shape and the file's.
        fitting: The names in the file of all other weights.
        paths: What the model calls a weight, or a layer, where the file has a name of its own for it.
        by_name: Whether what has another shape has the model's name in the file, so that names may be exchanged.
    """
    missing, surplus, misshapen, fitting = tuple(missing), tuple(surplus), tuple(misshapen), tuple(fitting)
    pairs = _renames(missing, surplus)
    is_larger = bool(surplus) and not missing and not misshapen
    dropped = [name for name, _ in surplus] if is_larger else []
    if by_name and not is_larger:
        exchanged, dropped = _exchanges(pairs, missing, surplus, misshapen)
        pairs += exchanged
    moved = {name for name, _ in pairs}
    stays = (*fitting, *(path for path, *_ in misshapen if path not in moved and path not in dropped))
    return Comparison(
        total=len(missing) + len(misshapen) + len(fitting),
        missing=missing,
        surplus=surplus,
        misshapen=misshapen,
        renames=short_renames(pairs, stays) | _short_drops(dropped, (*stays, *moved)),
        likely={path: name for name, path in pairs},
        paths=paths or {},
    )


_Names = Mapping[str, Mapping[str, Shape]]
"""Whole names of layers, or of arrays -> the last part of each array's name -> its shape."""


def _renames(
    missing: Iterable[tuple[str, Shape]], surplus: Iterable[tuple[str, Shape]]
) -> list[tuple[str, str]]:
    """Pairs of a surplus name and a missing path: first whole layers of the same arrays, then single arrays."""
    missing, surplus = list(missing), list(surplus)
    pairs: dict[str, str] = {}
    for of_layers in (True, False):
        wanted = _grouped((path for path in missing if path[0] not in pairs), of_layers)
        found = _grouped((name for name in surplus if name[0] not in pairs.values()), of_layers)
        for above, other in _most_alike(wanted, found):
            pairs |= {above + last: other + last for last in wanted[above]} if of_layers else {above: other}
    return [(pairs[path], path) for path, _ in missing if path in pairs]


def _exchanges(
    pairs: Iterable[tuple[str, str]],
    missing: Iterable[tuple[str, Shape]],
    surplus: Iterable[tuple[str, Shape]],
    misshapen: tuple[tuple[str, Shape, Shape], ...],
) -> tuple[list[tuple[str, str]], list[str]]:
    """Renames that make misshapen weights fit, and what has to be left out of the file for them.

    Something is left out only where everything fits then; else none gets a name in the file that another one keeps.
    """
    names, paths = {name for name, _ in pairs}, {path for _, path in pairs}
    wanted = [one for one in missing if one[0] not in paths] + [(path, shape) for path, shape, _ in misshapen]
    found = [one for one in surplus if one[0] not in names] + [(path, other) for path, _, other in misshapen]
    exchanged = _renames(wanted, found)
    occupied = {path for path, *_ in misshapen}
    moved = {name for name, _ in exchanged}
    if len(exchanged) == len(wanted) and occupied - moved:
        return exchanged, [name for name, _ in found if name not in moved]
    while True:
        moved = {name for name, _ in exchanged}
        kept = [(name, path) for name, path in exchanged if path not in occupied or path in moved]
        if len(kept) == len(exchanged):
            return kept, []
        exchanged = kept


def _grouped(arrays: Iterable[tuple[str, Shape]], of_layers: bool) -> _Names:
    found: dict[str, dict[str, Shape]] = defaultdict(dict)
    for name, shape in arrays:
        at = max(name.rfind("/"), name.rfind(".")) + 1 if of_layers else len(name)
        found[name[:at]][name[at:]] = shape
    return found


def _most_alike(wanted: _Names, found: _Names) -> list[tuple[str, str]]:
    """Pairs of names whose arrays are the same, the most alike first taken, each name once."""
    others: dict[frozenset[tuple[str, Shape]], list[str]] = defaultdict(list)
    for name in list(found)[:_MOST_COMPARED]:
        others[frozenset(found[name].items())].append(name)
    scored = [
        (-score, row, path, name)
        for row, (path, arrays) in enumerate(list(wanted.items())[:_MOST_COMPARED])
        for name in others[frozenset(arrays.items())]
        if (score := _likeness(path + next(iter(arrays)), name + next(iter(arrays)))) >= _NEAR
    ]
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for _, _, path, name in sorted(scored):
        if path not in pairs and name not in taken:
            pairs[path] = name
            taken.add(name)
    return list(pairs.items())


def _likeness(path: str, name: str) -> float:
    """How alike two names are: letter by letter, and more if their last parts are the same."""
    path, name = path.lower(), name.replace(".", "/").lower()
    same = path.rpartition("/")[2] == name.rpartition("/")[2]
    return difflib.SequenceMatcher(None, path, name).ratio() + 0.25 * same


def short_renames(renames: Iterable[tuple[str, str]], others: Iterable[str] = ()) -> dict[str, str]:
    """Say renames by the parts in which they differ, so that one line renames all weights of a layer.

    Args:
        renames: Pairs of a name and what it becomes.
        others: Names that stay; a part of which one begins isn't renamed as a whole.

    Example:
        >>> short_renames([("a.fc/kernel", "a.head/kernel"), ("a.fc/bias", "a.head/bias")])
        {'a.fc': 'a.head'}
    """
    staying = {name[: match.start()] for name in others for match in re.finditer("[./]", name)}
    short: dict[str, str] = {}
    for name, path in renames:
        before, after = name, path
        while "/" in before and "/" in after and before.rpartition("/")[2] == after.rpartition("/")[2]:
            if before.rpartition("/")[0] in staying:
                break
            before, after = before.rpartition("/")[0], after.rpartition("/")[0]
        if short.setdefault(before, after) != after:
            short[name] = path
    return short


def _short_drops(names: Iterable[str], others: Iterable[str]) -> dict[str, None]:
    """Say what is left out by the layers, where all of a layer is."""
    staying = {name[: match.start()] for name in others for match in re.finditer("[./]", name)}
    layers = {name: name.rpartition("/")[0].removesuffix("/vars") for name in names}
    return {layer if layer and layer not in staying else name: None for name, layer in layers.items()}


def refuse(comparison: Comparison, source: object, model: object, *, also: Iterable[str] = ()) -> SavingError:
    """Make the error that says all that doesn't fit; the model was not changed.

    Args:
        comparison: What was found.
        source: The file, for the message.
        model: The name of the model.
        also: What else the user may do.
    """
    renames = [
        (name, None if path is None else comparison.paths.get(path, path))
        for name, path in comparison.renames.items()
    ]
    told = ", ".join(f"{name!r}: {path!r}" for name, path in renames[:_MOST_SHOWN])
    more = ", ..." if len(renames) > _MOST_SHOWN else ""
    drops = ", and None leaves out" if None in comparison.renames.values() else ""
    are_kept = any(path is not None for path in comparison.renames.values())
    why = f"if they are the same{drops}" if are_kept else "to leave out what is too much"
    advice = (f"pass name_map={{{told}{more}}} {why}",) if told else ()
    usual = ("build the model the file was made from", "pass skip_mismatch=True to load what fits")
    return SavingError(
        f"The weights in {source} don't fit '{model}': {comparison.counts}.",
        where=BETWEEN.join(comparison.lines),
        do="; or ".join((*advice, *also, *usual)) + "; nothing was changed",
    )


def refuse_unbuilt(comparison: Comparison, source: object, model: object, layer: object) -> SavingError:
    """Make the error that says that a layer has no weights yet, so that the file's have nowhere to go.

    Args:
        comparison: What was found.
        source: The file, for the message.
        model: The name of the model.
        layer: The name of the layer, or of the model, that is not built.
    """
    return SavingError(
        f"The weights in {source} have nowhere to go: '{layer}' is not built.",
        where=BETWEEN.join(comparison.lines),
        do=f"call '{model}' on data or give it an Input, and then load; nothing was changed",
    )


Renaming = Mapping[str, str | None] | Callable[[str], str | None] | None


def rename(name: str, renaming: Renaming) -> str | None:
    """Give a name of a file the one that the user says it has in the model.

    Args:
        name: The name in the file.
        renaming: Names -> paths, where the beginning of a name up to one of its parts stands for all names that begin
            so, and the longest counts, and None leaves out what has such a name; or a function of the name, which gives
            None to leave it as it is.

    Returns:
        The name in the model; None for what is left out.

    Example:
        >>> rename("encoder.fc.weight", {"encoder": "body", "encoder.fc": "head"})
        'head.weight'
    """
    if renaming is None:
        return name
    if callable(renaming):
        return renaming(name) or name
    begins = [key for key in renaming if name == key or name.startswith((f"{key}.", f"{key}/"))]
    if not begins:
        return name
    longest = max(begins, key=len)
    new = renaming[longest]
    return None if new is None else new + name[len(longest) :]


def rename_all(names: Iterable[str], renaming: Renaming, source: object) -> dict[str, str]:
    """Give all names of a file those that the user says they have in the model.

    Args:
        names: The names in the file.
        renaming: As `rename` takes it.
        source: The file, for the message.

    Returns:
        The new name -> the one in the file, without what is left out.

    Raises:
        SavingError: Two would have one name.

    Example:
        >>> rename_all(["a.w", "b.w"], {"a": "body"}, "m.safetensors")
        {'body.w': 'a.w', 'b.w': 'b.w'}
    """
    found: dict[str, str] = {}
    for name in names:
        path = rename(name, renaming)
        if path is None:
            continue
        if found.setdefault(path, name) != name:
            raise SavingError(
                f"With this name_map both '{found[path]}' and '{name}' in {source} become '{path}'.",
                do=f"map {name if path == found[path] else found[path]!r} to another name, too; nothing was changed",
            )
    return found


def left_out(shapes: Mapping[str, Shape], renaming: Renaming) -> tuple[Left, ...]:
    """Tell what of a file the user leaves out.

    Args:
        shapes: Name -> shape, of the file.
        renaming: As `rename` takes it.
    """
    return tuple(
        Left(name=name, shape=shape, why=LEFT_OUT, harmless=True)
        for name, shape in shapes.items()
        if rename(name, renaming) is None
    )


def tell(report: Report, *, level: int) -> Report:
    """Give the report in the form that prints as tables, after a warning of what was left as it was or not used.

    Args:
        report: What came of loading.
        level: How many calls away from here the user's line is.
    """
    left = [one for one in (*report.missing, *report.left) if not one.harmless]
    if left:
        lines = cut((f"{one.name} {one.shape}: {one.why}" for one in left), "such")
        warnings.warn("Left as they were or not used: " + "; ".join(lines), stacklevel=level + 1)
    # Named, not imported: how a person sees it is the concern of the models, which are built on this.
    return import_module("tally.models.verbs.loading").LoadingReport.of(report)
