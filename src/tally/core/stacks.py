"""Stacks: the weights of blocks that are alike, one array for all of them, and the keys each block is drawn from."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.random import Key, SeedGenerator, keys_drawn, next_key, pass_over
from tally.core.variable import Variable, as_array, call_initializer, materialize, numbers


class Stack(Variable):
    """The values that one weight has in several blocks that are alike, along a new first axis.

    The weight itself, its `pattern`, keeps the shape of one block: what is read in a block's call is its own part.

    Args:
        pattern: The weight of one block. It may be a stack itself, of blocks inside that block.
        blocks: The blocks it holds, counted from 0.
        keys: A key for each array that is drawn, those of the first block first.
        values: The values, if they are given and not drawn.
    """

    def __init__(
        self, pattern: Variable, blocks: range, keys: Sequence[Key], values: jax.Array | None = None
    ) -> None:
        vars(self).update(vars(pattern))
        self.number = next(numbers)
        self.pattern, self.blocks, self.pieces, self._keys = pattern, blocks, (), tuple(keys)
        self.lead = (len(blocks), *pattern.lead)
        self.shape = (len(blocks), *pattern.shape)
        self.axes = ("blocks", *pattern.axes)
        self._value, self._is_unseen = values, False
        self._thawed: bool | None = None
        if pattern.regularizer is not None:
            self.regularizer = _summed(pattern.regularizer)
        if pattern.constraint is not None:
            self.constraint = jax.vmap(pattern.constraint)

    @property
    def keys(self) -> Sequence[Key]:
        """The keys that the value is drawn from."""
        return self._keys

    @property
    def is_set_apart(self) -> bool:
        """Whether these blocks are frozen, and others may learn."""
        return self._thawed is not None and not self.trainable

    def set_apart(self, is_frozen: bool) -> None:
        """Freeze the weight in these blocks, or let it be again what it was before."""
        if is_frozen and not self.is_set_apart:
            self._thawed, self.trainable = self.trainable, False
        elif not is_frozen and self.is_set_apart:
            self.trainable, self._thawed = bool(self._thawed), None

    def cut(self, blocks: range) -> "Stack":
        """The part of some of its blocks, as a variable of its own."""
        start, stop = blocks.start - self.blocks.start, blocks.stop - self.blocks.start
        each = len(self._keys) // len(self.blocks)
        values = None if self.is_planned else self.raw[start:stop]
        part = Stack(self.pattern, blocks, self._keys[start * each : stop * each], values)
        part.path = f"{self.pattern.path}[{blocks.start}:{blocks.stop}]"
        part.trainable, part.frozen_at, part._thawed = self.trainable, self.frozen_at, self._thawed
        return part

    def _draw_alone(self) -> Any:
        shape = self.shape[len(self.lead) :]
        drawn = [call_initializer(self.initializer, shape, self.dtype) for _ in self._keys]
        return jnp.stack([as_array(one, self.dtype) for one in drawn]).reshape(self.shape)


def _summed(regularizer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: jnp.sum(jax.vmap(regularizer)(value))


def by_block(variable: Variable, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """A function of one block's arrays as one of the arrays that hold them for all blocks.

    Args:
        variable: Says how many blocks share an array; mostly it is one that none share.
        function: What is done with each block by itself.
        in_axes: Which arguments have a part for each block, as `jax.vmap` takes it.
    """
    for _ in variable.lead:
        function = jax.vmap(function, in_axes=in_axes)
    return function


def in_pieces(variables: Iterable[Variable]) -> Iterator[Variable]:
    """Variables that hold values: in the place of a weight that stands for several blocks, its stacks."""
    for variable in variables:
        if variable.pieces:
            yield from in_pieces(variable.pieces)
        else:
            yield variable


class Whole:
    """A weight of all blocks as a file holds it: one array, however its blocks are shared out among stacks.

    Args:
        variable: The weight of one block.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable, self.name = variable, variable.name
        self.parts = [Whole(piece) if piece.pieces else piece for piece in variable.pieces]
        self.axis = len(self.parts[0].shape) - len(variable.shape) - 1
        sizes = list(self.parts[0].shape)
        sizes[self.axis] = sum(part.shape[self.axis] for part in self.parts)
        self.shape = tuple(sizes)

    def numpy(self) -> np.ndarray:
        """The values of all blocks."""
        return np.concatenate([part.numpy() for part in self.parts], axis=self.axis)

    def assign(self, value: Any) -> None:
        """Set the values of all blocks."""
        start = 0
        for part in self.parts:
            stop = start + part.shape[self.axis]
            part.assign(np.take(np.asarray(value), range(start, stop), axis=self.axis))
            start = stop


def piece_at(variable: Variable, blocks: Sequence[int]) -> Variable:
    """The variable that holds a weight of a block.

    Args:
        variable: The weight.
        blocks: The block's number; of blocks inside blocks all numbers, the innermost last.
    """
    for block in reversed(blocks):
        found: Any = (piece for piece in variable.pieces if block in piece.blocks)  # type: ignore[attr-defined]
        variable = next(found, variable)
    return variable


class _Phase(NamedTuple):
    """Keys that were drawn for one block: from which number up to which, and where the first block's stand."""

    start: int
    stop: int
    first: int


class Numbering:
    """Which keys the weights of each block are drawn from: those they would get if the blocks were made one by one.

    Args:
        count: How many blocks there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._phases: list[_Phase] = []
        self._given: dict[Variable, Sequence[Key]] = {}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the keys that are drawn for one block while the block of code runs, and leave out the others'."""
        start = keys_drawn()
        yield
        stop = keys_drawn()
        if stop > start:
            self._phases.append(_Phase(start, stop, 0))
            pass_over((self.count - 1) * (stop - start))

    def begin_with(self, made: Sequence[Variable], copies: Sequence[Variable]) -> None:
        """Let the first block have the keys of a layer that was made before, of which the pattern is a copy.

        Args:
            made: The variables of that layer.
            copies: Those of the copy, whose keys were the last that were counted.
        """
        if not made or [v.shape for v in made] != [v.shape for v in copies]:
            return
        self._given = {copied: one.keys for one, copied in zip(made, copies, strict=True)}
        start, stop, _ = self._phases.pop()
        self._phases.append(_Phase(start, stop, 1))  # the copy's own keys are the second block's
        pass_over(start - stop)

    def keys(self, variable: Variable) -> list[Key]:
        """The keys of a weight in all blocks, those of the first block first."""
        phase = next((p for p in self._phases if p.start <= variable.key.number < p.stop), None)
        if phase is None:  # the global sequence was set back in between
            return [next_key() for _ in range(self.count) for _ in variable.keys]
        found = list(self._given.get(variable, variable.keys))
        for block in range(1, self.count):
            ahead = (block - phase.first) * (phase.stop - phase.start)
            found += [Key(key.seed, key.number + ahead) for key in variable.keys]
        return found

    def stack(self, variable: Variable, generator: SeedGenerator | None) -> Stack:
        """The variable that holds a weight for all blocks.

        Args:
            variable: The weight of one block.
            generator: The seed generator whose state it is, if it is one.
        """
        keys, values = self.keys(variable), None
        with jax.ensure_compile_time_eval():
            if generator is not None and generator.seed is None:
                drawn = [[Key(key.seed, key.number - 1).integer(), 0] for key in keys]
                values = jnp.asarray(np.array(drawn, "uint32").reshape(self.count, *variable.shape))
            elif (value := _given_value(variable)) is not None:
                values = jnp.broadcast_to(value, (self.count, *variable.shape))
        return Stack(variable, range(self.count), keys, values)


def _given_value(variable: Variable) -> jax.Array | None:
    """The value of a variable if somebody gave it one; None where it is a plan, or was drawn by it."""
    if variable.is_planned or variable.initializer is None:
        return variable._value
    twin = copy.copy(variable)
    twin._value = None
    materialize([twin])
    is_drawn = np.array_equal(np.asarray(twin._value), np.asarray(variable._value))
    return None if is_drawn else variable._value
