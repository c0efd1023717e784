"""What came of loading weights that were made elsewhere: which went where, what was done to them, what is left."""

from collections import Counter
from dataclasses import dataclass

Shape = tuple[int, ...]

_MOST_SHOWN = 40
"""Lines of a kind that are printed; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One weight of the model and what it was made of.

    Args:
        path: The weight.
        shape: Its shape.
        sources: The names of the arrays it was made of.
        done: What was done to them, in order, such as `("split in 3", "transposed")`.
        by: How it was found: `"name"`, `"place"` (where in the model a file of Keras has it), `"shape"` (nothing else
            fits), or `"order"`.
    """

    path: str
    shape: Shape
    sources: tuple[str, ...]
    done: tuple[str, ...] = ()
    by: str = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An array of the source that went nowhere, or a weight of the model that got nothing.

    Args:
        name: Its name or path.
        shape: Its shape.
        why: The reason, as a clause.
        harmless: Whether nothing is amiss: a counter, a second name of an array that went somewhere.
    """

    name: str
    shape: Shape
    why: str
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of loading weights.

    Args:
        source: Where they came from.
        model: The model's name.
        matched: The weights that were set.
        missing: The weights that were not.
        left: The arrays of the source that were not used.
        notes: What to know besides.

    Example:
        >>> match = Match(path="dense/kernel", shape=(4, 2), sources=("fc.weight",), done=("transposed",), by="shape")
        >>> print(Report(source="net.pt", model="net", matched=(match,)))
        1 weight of 'net' set from net.pt.
          dense/kernel (4, 2) <- fc.weight, transposed; by shape
    """

    source: str
    model: str
    matched: tuple[Match, ...] = ()
    missing: tuple[Left, ...] = ()
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The report as text."""
        count = len(self.matched)
        lines = [f"{count:,} weight{'' if count == 1 else 's'} of '{self.model}' set from {self.source}."]
        lines += _cut([_match_line(match) for match in self.matched])
        if self.missing:
            lines += [f"Not set: {len(self.missing):,}.", *_cut([_left_line(one) for one in self.missing])]
        if self.left:
            lines += [f"Not used: {len(self.left):,}.", *_cut([_left_line(one) for one in self.left])]
        return "\n".join((*lines, *self.notes))

    @property
    def ways(self) -> dict[str, int]:
        """How many weights were found in each way."""
        return dict(Counter(match.by for match in self.matched))


def _match_line(match: Match) -> str:
    done = "".join(f", {what}" for what in match.done)
    return f"{match.path} {match.shape} <- {' + '.join(match.sources)}{done}; by {match.by}"


def _left_line(one: Left) -> str:
    return f"{one.name} {one.shape}: {one.why}"


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - _MOST_SHOWN
    shown = lines if rest <= 1 else [*lines[:_MOST_SHOWN], f"and {rest:,} more"]
    return [f"  {line}" for line in shown]
