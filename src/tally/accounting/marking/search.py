"""The search for what a wrong number is: every quantity is offered, the most plausible ones that fit are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from tally.accounting.marking.quantities import NOUNS, STATES, Fact, Quantities
from tally.accounting.marking.statements import Given

_SMALLEST_GUESS = 10
_SMALLEST_FAR_GUESS = 100
"""Below these, a number equals too many things by accident: then only the layer itself, or its own mistakes, count."""


_CALLED = {
    "output": "its output values",
    "input": "its input values",
    "without_biases": "its weights",
    "weights": "its arrays of weights",
}


class Rank(IntEnum):
    """How plausible it is that a number was taken for another, the most plausible first."""

    DIRECT = 0
    SIZE = 1
    MISTAKE = 2
    FAR_MISTAKE = 3
    ELSEWHERE = 4
    SUM = 5
    SLIP = 6


@dataclass(slots=True)
class Search:
    """One search: what was asked, what was given, and what fits so far.

    Args:
        known: The quantities of the ledger.
        fact: What is true.
        given: What was said instead.
        found: Each fitting quantity: its rank and the sentence about it.
    """

    known: Quantities
    fact: Fact
    given: Given
    found: list[tuple[Rank, str]] = field(default_factory=list[tuple[Rank, str]])

    @property
    def path(self) -> str:
        """The layer that was asked about."""
        return self.fact.quantity.path

    @property
    def noun(self) -> str:
        """What was asked for: `its parameters`, `the values of its kernel`."""
        quantity = self.fact.quantity
        if quantity.kind in STATES:
            whole = not self.path and quantity.kind == "parameters"
            return "the total" if whole else f"its {NOUNS[quantity.kind]}"
        if quantity.kind == "weight":
            return f"the values of its {quantity.name.rpartition('/')[2]}"
        return _CALLED.get(quantity.kind, f"its {quantity.kind.replace('_', '-')}")

    def offer(self, rank: Rank, number: int | None, says: Callable[[], str] | str) -> None:
        """Keep a quantity if it is the number that was given.

        Args:
            rank: How plausible it is.
            number: The quantity.
            says: What it is, as the sentence goes on after the number; a function where that costs something.
        """
        if number is None or number == self.fact.number or (number == 0 and rank > Rank.DIRECT):
            return
        least = _SMALLEST_FAR_GUESS if rank == Rank.FAR_MISTAKE else _SMALLEST_GUESS
        if rank > Rank.SIZE and (number < least or self.given.within):
            return
        if self.given.is_about(number, memory=self.fact.quantity.kind == "bytes"):
            text = says if isinstance(says, str) else says()
            self.found.append((rank, f"{number:,} {text}."))

    def best(self) -> tuple[str, ...]:
        """The most plausible sentence; two where two quantities of the layer itself are as plausible."""
        ordered = sorted(self.found, key=lambda one: one[0])
        sentences = list(dict.fromkeys(text for rank, text in ordered if rank == ordered[0][0]))
        return tuple(sentences[: 2 if ordered and ordered[0][0] == Rank.DIRECT else 1])
