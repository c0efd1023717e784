"""One call of blocks that repeat: as one loop of a program, or one after another."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from tally.core import masks
from tally.core.errors import ShapeError, TallyError
from tally.core.layer import Layer
from tally.core.random import _step_key, next_key
from tally.core.shapes import describe
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Values, Variable, current_values, substitute
from tally.layers.options import call_by_name


class _OtherMasks(Exception):
    """A block's output has a mask where its input has none, or the other way round."""


@dataclass
class Work:
    """One call of the blocks of a run.

    Attributes:
        layer: The `Repeat`.
        given: What the call is given beside the inputs, by position and by name.
        is_traced: Whether it is compiled: then the blocks run in a loop of the program.
        changed: Which of the block's variables got a new value.
        adding: For each loss that a block added, the layer that did.
    """

    layer: Any
    given: tuple[tuple[Any, ...], dict[str, Any]]
    is_traced: bool
    changed: list[int] = field(default_factory=list)
    adding: list[Layer] = field(default_factory=list)

    def run(self, carry: Any, values: list[Any], run: range) -> Any:
        """What the last block gives, and what all of them changed and added, along a first axis of blocks."""
        done: list[Any] = []
        while len(done) < len(run):
            rest = range(run.start + len(done), run.stop)
            if self.is_traced and len(rest) > 1:
                try:
                    carry, made = self._loop(carry, _after(values, len(done)), rest)
                except _OtherMasks:  # the next block runs by itself, those after it see what it gives
                    pass
                else:
                    return carry, _joined(done, made)
            step = self._remade(self._apply) if self.is_traced else self._apply
            carry, made = step(carry, [value[len(done)] for value in values])
            done.append(made)
        return carry, _joined(done)

    def _loop(self, carry: Any, values: list[Any], run: range) -> Any:
        """The blocks as one loop of the program."""

        def step(carry: Any, now: Any) -> Any:
            number, parts = now
            with _drawing(number):
                after, made = self._apply(carry, parts)
            if [one is None for one in carry[1]] != [one is None for one in after[1]]:
                raise _OtherMasks
            return after, made

        places = jnp.arange(run.start, run.stop, dtype=jnp.uint32)
        return jax.lax.scan(
            self._remade(step), carry, (places, values), length=len(run), unroll=self.layer.unroll
        )

    def _remade(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A step whose inside the backward pass computes again, if that is wanted."""
        remat = self.layer.remat
        if not remat:
            return step
        policy = getattr(jax.checkpoint_policies, remat) if isinstance(remat, str) else None
        return jax.checkpoint(step, prevent_cse=False, policy=policy)

    def _apply(self, carry: Any, values: list[Any]) -> Any:
        """Run one block: what it gives with the masks, the new values of its variables, and the losses it added."""
        inputs, kept = carry
        for array, mask in zip(leaves(inputs), kept, strict=True):
            if mask is not None:
                masks.set_mask(array, mask)
        layers = self.layer.block._flatten_layers()
        before = [len(layer._held.losses) for layer in layers]
        args, kwargs = self.given
        with _standing_for(self.layer._patterns, values) as held, self.layer.block._kept_from_traces():
            outputs = self.layer.block(inputs, *args, **kwargs)
        new = [held[variable] for variable in self.layer._patterns]
        self._refuse_foreign(held)
        self._refuse_change(inputs, outputs)
        self.changed = [i for i, value in enumerate(new) if value is not values[i]]
        self.adding, losses = [], []
        for layer, count in zip(layers, before, strict=True):
            added = layer._held.losses[count:]
            del layer._held.losses[count:]
            self.adding += [layer] * len(added)
            losses += added
        made = map_tree(lambda a, b: b.astype(a.dtype), inputs, outputs)
        return (made, _masks_of(outputs)), ([new[i] for i in self.changed], losses)

    def _refuse_foreign(self, held: Values) -> None:
        outer = current_values()
        own = set(self.layer._patterns)
        for variable, value in held.items():
            if variable not in own and (outer is None or outer.get(variable) is not value):
                raise TallyError(
                    f"A block of {call_by_name(self.layer)} changes '{variable.path}', which it doesn't hold: its "
                    f"{self.layer.count} blocks would change it at once.",
                    where=f"'{variable.path}' made at {variable.origin}; block made at {self.layer.block.made_at}",
                    do="make it inside the block, or change it in a layer before or after",
                )

    def _refuse_change(self, inputs: Any, outputs: Any) -> None:
        """What a block gives is what the next one is given."""
        before, after = ([_sizes(leaf) for leaf in leaves(one)] for one in (inputs, outputs))
        if jax.tree.structure(inputs) == jax.tree.structure(outputs) and before == after:
            return
        told = [", ".join(map(_told, leaves(one))) for one in (outputs, inputs)]
        block = self.layer.block
        raise ShapeError(
            f"{call_by_name(block)} gives {told[0]} for {told[1]}, so it can't be repeated {self.layer.count} times.",
            where=f"block made at {block.made_at}; repeated at {self.layer.made_at}",
            do="let the block end with the shape and dtype it begins with, and put what changes them before or after",
        )


def _after(values: list[Any], done: int) -> list[Any]:
    """The values of the blocks that are left. All of them are given as they are: a slice would be a copy."""
    return [value[done:] for value in values] if done else values


def _joined(done: list[Any], rest: Any = None) -> Any:
    """What blocks that ran by themselves gave, put in front of what a loop gave."""
    single = jax.tree.map(lambda *parts: jnp.stack(parts), *done) if done else None
    if rest is None or single is None:
        return single if rest is None else rest
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), single, rest)


def _sizes(leaf: Any) -> Any:
    return (*leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else type(leaf)


def _told(leaf: Any) -> str:
    return describe(leaf) if isinstance(leaf, jax.Array) else repr(leaf)


def with_masks(inputs: Any, mask: Any) -> tuple[Any, list[Any]]:
    """The inputs, and the mask of each; one that is passed by name is not attached to the caller's own arrays."""
    attached = _masks_of(inputs)
    named = leaves(mask)[: len(attached)]
    kept = [one if other is None else other for one, other in itertools.zip_longest(attached, named)]
    if any(one is not other for one, other in zip(attached, kept, strict=True)):
        inputs = map_tree(jnp.copy, inputs)
    return inputs, [None if one is None else jnp.asarray(one) for one in kept]


def _masks_of(structure: Any) -> list[Any]:
    return [masks.get_mask(leaf) for leaf in leaves(structure)]


def value_of(piece: Variable) -> jax.Array:
    """The array behind a variable, which is not said to be read here: the layers inside read their part."""
    values = current_values()
    return values[piece] if values is not None and piece in values else piece.raw


@contextmanager
def _standing_for(patterns: Sequence[Variable], values: Sequence[Any]) -> Iterator[Values]:
    """Let the block's variables stand for their values in one block, all others for what they stand for already."""
    outer = current_values()
    inner = Values((outer or {}).items(), abstract=outer is not None and outer.abstract)
    if outer is not None:
        inner.read = _Reads(outer.read)
    inner.update(zip(patterns, values, strict=True))
    with substitute(inner):
        yield inner


class _Reads(dict[Variable, None]):
    """Tells of each variable of a block that is read that the arrays behind it are."""

    def __init__(self, told: dict[Variable, None]) -> None:
        super().__init__()
        self.told = told

    def __setitem__(self, variable: Variable, _: None) -> None:
        for one in variable.pieces or (variable,):
            self.told[one] = None


class _Draws:
    """Hands out keys for draws without a seed in a block of a loop: other ones in each round."""

    def __init__(self, number: jax.Array) -> None:
        self.number, self.outer = number, _step_key.get()
        self.key: Any = None
        self.numbers = itertools.count()

    def next(self) -> jax.Array:
        """The next key."""
        if self.key is None:  # nothing is drawn from the sequences outside unless it is needed
            key = self.outer.next() if self.outer is not None else next_key().array()
            self.key = jax.random.fold_in(key, self.number)
        return jax.random.fold_in(self.key, next(self.numbers))


@contextmanager
def _drawing(number: jax.Array) -> Iterator[None]:
    token = _step_key.set(_Draws(number))
    try:
        yield
    finally:
        _step_key.reset(token)
