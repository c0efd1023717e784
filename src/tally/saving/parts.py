"""Arrays of a source with what is to be done to them: shapes are known at once, values read when they are wanted."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One array, or what is made of several.

    Args:
        sources: The names of the arrays that it is made of.
        shape: Its shape.
        read: Gives its values.
        done: What is done to them, in words.
    """

    sources: tuple[str, ...]
    shape: Shape
    read: Callable[[], np.ndarray]
    done: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many scalars it has."""
        return math.prod(self.shape)

    def _then(self, shape: Shape, change: Callable[[np.ndarray], np.ndarray], *words: str) -> "Part":
        before = self.read
        return replace(self, shape=shape, read=lambda: change(before()), done=(*self.done, *words))

    def transposed(self, axes: Sequence[int], word: str = "transposed") -> "Part":
        """The axes in another order."""
        if tuple(axes) == tuple(range(len(axes))):
            return self
        return self._then(tuple(self.shape[a] for a in axes), lambda values: values.transpose(axes), word)

    def reshaped(self, shape: Shape, *words: str) -> "Part":
        """The same values in another shape."""
        return (
            self if shape == self.shape else self._then(shape, lambda values: values.reshape(shape), *words)
        )

    def third(self, number: int, axis: int = 0) -> "Part":
        """One of three equal parts along an axis."""
        size = self.shape[axis] // 3
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        cut = range(number * size, (number + 1) * size)
        return self._then(shape, lambda values: values.take(cut, axis), "split in 3")

    def third_of_heads(self, number: int, heads: int) -> "Part":
        """One of three equal parts of the rows of each head, where the heads stand one after the other."""
        rows, *rest = self.shape
        shape = (rows // 3, *rest)

        def take(values: np.ndarray) -> np.ndarray:
            return values.reshape(heads, 3, rows // (3 * heads), *rest)[:, number].reshape(shape)

        return self._then(shape, take, f"split in 3 in each of {heads} heads")

    def gates(self, order: Sequence[int]) -> "Part":
        """Equal parts along the last axis in another order."""
        if tuple(order) == tuple(range(len(order))):
            return self
        return self._then(
            self.shape,
            lambda values: np.concatenate([np.split(values, len(order), -1)[i] for i in order], -1),
            "gates in another order",
        )

    def flipped(self, axes: Sequence[int]) -> "Part":
        """Some axes turned round."""
        return self._then(self.shape, lambda values: np.flip(values, tuple(axes)), "flipped")

    def from_channels_first(self, features: Shape) -> "Part":
        """Rows that follow (channels, ...) in the order that (..., channels) are flattened in.

        Args:
            features: What is flattened, (..., channels).
        """
        *sides, channels = features
        rest = self.shape[1:]
        order = (*range(1, len(sides) + 1), 0, *range(len(sides) + 1, len(sides) + 1 + len(rest)))

        def turn(values: np.ndarray) -> np.ndarray:
            return values.reshape(channels, *sides, *rest).transpose(order).reshape(-1, *rest)

        return self._then(self.shape, turn, "rows from channels first to channels last")


def added(one: Part, other: Part) -> Part:
    """The sum of two."""
    return Part(
        (*one.sources, *other.sources),
        one.shape,
        lambda: one.read() + other.read(),
        tuple(dict.fromkeys((*one.done, *other.done, "added"))),
    )


def stacked(one: Part, other: Part) -> Part:
    """Two as rows of one."""
    return Part(
        (*one.sources, *other.sources),
        (2, *one.shape),
        lambda: np.stack([one.read(), other.read()]),
        tuple(dict.fromkeys((*one.done, *other.done, "stacked"))),
    )


def joined(parts: Sequence[Part]) -> Part:
    """Several along the last axis; their other axes are the same."""
    if len(parts) == 1:
        return parts[0]
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return Part(
        tuple(source for part in parts for source in part.sources),
        shape,
        lambda: np.concatenate([part.read() for part in parts], -1),
        (*dict.fromkeys(word for part in parts for word in part.done), "joined"),
    )


def zeros(shape: Shape) -> Part:
    """Zeros, for what a source leaves out."""
    return Part((), shape, lambda: np.zeros(shape, np.float32))
