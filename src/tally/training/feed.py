"""How batches reach compiled steps: cut out of arrays, on the host or on the device, or one after the other."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from tally.training.data import DataSource, Pieces, prefetch
from tally.training.keeping import is_worth_keeping
from tally.training.step import Steps

Call = tuple[Any, Any]
"""A compiled function, and the batch or batches it is called with."""


class Feed:
    """Cuts an epoch into executions: what one compiled call handles, and what it is called with.

    Args:
        source: Where batches come from.
        steps: The compiled forms of the step.
        size: How many batches an execution takes.
        device: Where the step runs; None for steps that are not compiled, or run on several.
    """

    def __init__(self, source: DataSource, steps: Steps, size: int, device: Any) -> None:
        self.source, self.steps, self.size = source, steps, size
        is_host = jax.default_backend() == "cpu" if device is None else not is_worth_keeping(device)
        shelf = None if device is None or is_host else source.keep(device)
        # Where the device is the host there is nowhere to fetch ahead to: a step is given to it, and runs beside what
        # prepares the next batch.
        self._is_ahead = shelf is None and not is_host
        self._origin = Pieces() if self._is_ahead else shelf or source

    def executions(self) -> Iterator[tuple[list[Any], list[Call]]]:
        """Each execution of an epoch: what stands for its batches, and the calls that handle them."""
        for group in grouped(self.pieces(), self.size):
            yield group, self._calls(group)

    def pieces(self) -> Iterator[Any]:
        """What stands for the batches of an epoch."""
        return prefetch(self.source.batches()) if self._is_ahead else self.source.pieces()

    def batch_of(self, piece: Any) -> Any:
        """The batch that a piece stands for."""
        return self._origin.batch_of(piece)

    def are_alike(self, pieces: list[Any]) -> bool:
        """Whether the batches that pieces stand for have the same shapes."""
        return self._origin.are_alike(pieces)

    def together(self, pieces: list[Any]) -> Any:
        """The batches that pieces stand for, stacked along a new first axis."""
        return self._origin.together(pieces)

    def _calls(self, group: list[Any]) -> list[Call]:
        if 1 < len(group) == self.size and self.steps.joins and self.are_alike(group):
            return [(self.steps.given(self.size), self.together(group))]
        return [(self.steps.given(), self.batch_of(piece)) for piece in group]


def grouped(pieces: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Pieces in lists of a size; the last may be shorter."""
    group: list[Any] = []
    for piece in pieces:
        group.append(piece)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
