"""Statistics of repeated measurements: median, quartiles, least, and ratios round by round."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where repeated measurements of one thing lie.

    Args:
        median: The middle one.
        low: The first quartile.
        high: The third quartile.
        least: The smallest.
        rounds: How many there are.
    """

    median: float
    low: float
    high: float
    least: float
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles (between neighbours, in proportion) and least.

    Args:
        values: One for each round.

    Raises:
        ValueError: There is none.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 10.0])
        Spread(median=3.0, low=2.0, high=4.0, least=1.0, rounds=5)
    """
    if not values:
        raise ValueError("There is nothing to take a median of.")
    ordered = sorted(values)
    return Spread(
        median=median(ordered),
        low=_quantile(ordered, 0.25),
        high=_quantile(ordered, 0.75),
        least=ordered[0],
        rounds=len(ordered),
    )


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """The spread of one contestant's measurements over another's, round by round.

    A disturbance that lasts longer than a round slows both and drops out.

    Args:
        of: One for each round.
        to: What to divide by, in the same rounds.

    Raises:
        ValueError: The rounds are not as many.

    Example:
        >>> ratios([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]).median
        2.0
    """
    return spread([one / other for one, other in zip(of, to, strict=True)])


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
