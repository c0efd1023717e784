"""What of a file fits a model and what doesn't: every missing, surplus and misshapen weight, and the likely renames."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tally.core.errors import SavingError

Shape = tuple[int, ...]

BETWEEN = "\n         "
"""Between lines of a message, so that they stand below each other."""
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
        renames: Pairs of a surplus name and the path of a missing weight of that shape, which are much alike.

    Example:
        >>> found = compare({"head/kernel": (8, 3)}, {"heads/kernel": (8, 3)})
        >>> found.fits, found.renames
        (False, (('heads/kernel', 'head/kernel'),))
    """

    total: int
    missing: tuple[tuple[str, Shape], ...] = ()
    surplus: tuple[tuple[str, Shape], ...] = ()
    misshapen: tuple[tuple[str, Shape, Shape], ...] = ()
    renames: tuple[tuple[str, str], ...] = ()

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
        likely = {path: name for name, path in self.renames}
        renamed = {name for name, _ in self.renames}
        return (
            *cut(
                (
                    f"{path} {shape} is missing"
                    + (f"; the file has {likely[path]}" if path in likely else "")
                    for path, shape in self.missing
                ),
                "missing",
            ),
            *cut(
                (f"{path} is {shape}, the file has {other}" for path, shape, other in self.misshapen),
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


def compare(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> Comparison:
    """Hold the weights that a model has against those in a file, by their names.

    Args:
        wanted: Path -> shape, of the model.
        found: Name -> shape, of the file.
    """
    missing = tuple((path, shape) for path, shape in wanted.items() if path not in found)
    surplus = tuple((name, shape) for name, shape in found.items() if name not in wanted)
    return Comparison(
        total=len(wanted),
        missing=missing,
        surplus=surplus,
        misshapen=tuple(
            (path, shape, found[path])
            for path, shape in wanted.items()
            if path in found and found[path] != shape
        ),
        renames=tuple(_renames(missing, surplus)),
    )


def _renames(
    missing: tuple[tuple[str, Shape], ...], surplus: tuple[tuple[str, Shape], ...]
) -> list[tuple[str, str]]:
    """Pairs of names that are much alike, the most alike first taken, each name once."""
    scored: list[tuple[float, int, int]] = []
    for row, (path, shape) in enumerate(missing[:_MOST_COMPARED]):
        alike = [place for place, (_, other) in enumerate(surplus[:_MOST_COMPARED]) if other == shape]
        for place in alike:
            score = _likeness(path, surplus[place][0])
            if score >= _NEAR:
                scored.append((-score, row, place))
    pairs: dict[int, int] = {}
    for _, row, place in sorted(scored):
        if row not in pairs and place not in pairs.values():
            pairs[row] = place
    return [(surplus[place][0], missing[row][0]) for row, place in sorted(pairs.items())]


def _likeness(path: str, name: str) -> float:
    """How alike two names are: letter by letter, and more if their last parts are the same."""
    path, name = path.lower(), name.replace(".", "/").lower()
    same = path.rpartition("/")[2] == name.rpartition("/")[2]
    return difflib.SequenceMatcher(None, path, name).ratio() + 0.25 * same


def short_renames(renames: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Say renames by the parts in which they differ, so that one line renames all weights of a layer.

    Example:
        >>> short_renames([("a.fc/kernel", "a.head/kernel"), ("a.fc/bias", "a.head/bias")])
        {'a.fc': 'a.head'}
    """
    short: dict[str, str] = {}
    for name, path in renames:
        before, after = name, path
        while "/" in before and "/" in after and before.rpartition("/")[2] == after.rpartition("/")[2]:
            before, after = before.rpartition("/")[0], after.rpartition("/")[0]
        if short.setdefault(before, after) != after:
            short[name] = path
    return short


def refuse(comparison: Comparison, source: object, model: object, *, can_map: bool = True) -> SavingError:
    """Make the error that says all that doesn't fit; the model was not changed.

    Args:
        comparison: What was found.
        source: The file, for the message.
        model: The name of the model.
        can_map: Whether weights of this source can be renamed by `name_map`.
    """
    renames = list(short_renames(comparison.renames).items()) if can_map else []
    told = ", ".join(f"{name!r}: {path!r}" for name, path in renames[:_MOST_SHOWN])
    more = ", ..." if len(renames) > _MOST_SHOWN else ""
    advice = (f"pass name_map={{{told}{more}}} if they are the same",) if told else ()
    return SavingError(
        f"The weights in {source} don't fit '{model}': {comparison.counts}.",
        where=BETWEEN.join(comparison.lines),
        do="; or ".join(
            (*advice, "build the model the file was made from", "pass skip_mismatch=True to load what fits")
        )
        + "; nothing was changed",
    )


Renaming = Mapping[str, str] | Callable[[str], str | None] | None


def rename(name: str, renaming: Renaming) -> str:
    """Give a name of a file the one that the user says it has in the model.

    Args:
        name: The name in the file.
        renaming: Names -> paths, where the beginning of a name up to one of its parts stands for all names that begin
            so, and the longest counts; or a function of the name, which gives None to leave it as it is.

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
    return renaming[longest] + name[len(longest) :]
