"""A block of layers repeated: as many copies as one likes, each with weights of its own, run as one loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import holding, masks, tracking
from tally.core import variable as variables_room
from tally.core.arguments import is_traced
from tally.core.calling import building
from tally.core.errors import ShapeError, TallyError, nearest, users_line
from tally.core.layer import Layer
from tally.core.random import SeedGenerator
from tally.core.registry import deserialize, remembering
from tally.core.shapes import map_shapes, shapes_of
from tally.core.stacks import Numbering, Stack, piece_at
from tally.core.symbol import KerasTensor, leaves, map_tree
from tally.core.variable import Variable, name_scope
from tally.layers.options import call_by_name, read_count, refuse
from tally.layers.repeating import Work, value_of, with_masks

_MOST = 100_000
"""Blocks; each weight of each has a key of its own."""


class Repeat(Layer):
    """Applies copies of a block one after another, each with weights of its own, as one loop.

    It computes what a `Sequential` of the blocks computes, and with the same seed its weights are the same. But the
    weights of all blocks lie in one array with a new first axis, and `jax.lax.scan` goes along it: the step that is
    traced and compiled is as long for 64 blocks as for one. The account still names each block.

    Outside of a compiled function the blocks simply run one after another.

    Args:
        block: A layer or model, which is copied and stays as it is; or a function or class that makes one when it is
            called without arguments. What the block gives must have the shape and dtype of what it is given.
        count: How many blocks there are.
        frozen: Numbers of blocks that are not to be trained, from 0; it can be set later, too, before `compile`.
        remat: Whether the backward pass computes each block anew instead of keeping what is inside it; or the name of
            one of `jax.checkpoint_policies` that says what is kept, such as `"dots_saveable"`.
        unroll: How many blocks one round of the loop takes; True writes the loop out.

    Shapes:
        input: what one block takes; further arguments of the call are the same for every block
        mask: travels from block to block
        output: as the input

    Raises:
        ArgumentError: There is no block, fewer than one of them, or layers that the blocks would share.
        ShapeError: A block gives another shape or dtype than it is given.
        TallyError: A block changed something that it doesn't hold, or got a weight after it was built.

    `get_weights`, files and optimizers see one array for each weight of a block, its first axis the blocks. Optimizers
    treat each block by itself, except for transformations of optax, to which the array is one weight.

    Example:
        >>> block = tally.Sequential([tally.layers.Dense(8, activation="relu"), tally.layers.LayerNormalization()])
        >>> model = tally.Sequential([tally.Input((8,)), tally.layers.Repeat(block, 12), tally.layers.Dense(1)])
        >>> model.count_params(), [weight.shape for weight in model.trainable_variables[:2]]
        (1065, [(12, 8, 8), (12, 8)])
        >>> [entry.path for entry in tally.account(model).entries][:2]
        ['repeat/block_0/dense/kernel', 'repeat/block_0/dense/bias']
    """

    keras_module = "tally.layers"
    supports_masking = True

    def __init__(
        self,
        block: Layer | Callable[[], Layer],
        count: int,
        frozen: Iterable[int] = (),
        remat: bool | str = False,
        unroll: int | bool = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.count = read_count(self, "count", count)
        if self.count > _MOST:
            raise refuse(self, f"can't have count={count!r}.", f"give at most {_MOST:,}")
        self.remat, self.unroll = self._read_remat(remat), unroll
        self._numbering = Numbering(self.count)
        self._patterns: list[Variable] = []
        self._runs = [range(self.count)]
        self.frozen_at: str | None = None
        self.block = self._make(block)
        if kwargs.get("dtype") is None:
            self.dtype_policy = self.block.dtype_policy
        if not self.trainable:
            for layer in self.block._flatten_layers():
                layer._held.trainable, layer._held.frozen_at = False, self.made_at
        self._to_freeze = self._read_blocks(frozen)
        self._arguments.update(block=self.block, count=self.count, frozen=self._to_freeze)
        if self.block.variables:
            self._stack()

    # -- the block -----------------------------------------------------------------------------------------------------
    def _make(self, given: Any) -> Layer:
        """The layer that stands for all blocks, and the keys of what it draws in its constructor."""
        if not isinstance(given, Layer) and not callable(given):
            raise refuse(
                self,
                f"repeats a layer, but was given a {type(given).__name__}.",
                "pass a layer, such as Dense(8), or a function that makes one",
            )
        layers, variables = next(holding.numbers), next(variables_room.numbers)
        with self._numbering.counted(), name_scope(self.name):
            made = self._copy(given) if isinstance(given, Layer) else given()
        if not isinstance(made, Layer):
            raise refuse(
                self,
                f"repeats what a function makes, which is a {type(made).__name__} and no layer.",
                "return the layer: lambda: Dense(8)",
            )
        if isinstance(given, Layer):
            self._numbering.begin_with(given.variables, made.variables)
        self._refuse_shared(made, layers, variables)
        return made

    def _copy(self, layer: Layer) -> Layer:
        """A new layer from a layer's configuration, which says of its parts that they were made where the layer was."""
        try:
            with remembering():
                made = type(layer).from_config(layer.get_config())
        except Exception as error:
            raise refuse(
                self,
                f"can't copy {call_by_name(layer)}: {str(error).splitlines()[0] if str(error) else error!r}",
                "pass a function that makes the block, Repeat(lambda: Block(...), count)",
            ) from error
        pairs = zip(layer._flatten_layers(), made._flatten_layers(), strict=False)
        for old, new in pairs:
            new._held.made_at, new._held.auto_named = old._held.made_at, old._held.auto_named
        return made

    def _attributes(self) -> dict[str, Any]:
        """The block holds its variables; that they are listed here, too, is no second place for them."""
        return {name: value for name, value in super()._attributes().items() if name != "_patterns"}

    def _refuse_shared(self, block: Layer, layers: int, variables: int) -> None:
        """Blocks have nothing in common: what a function gives must have been made in it."""
        old = next((one for one in block._flatten_layers() if one.number < layers), None)  # type: ignore[attr-defined]
        weight = next((one for one in block.variables if one.number < variables), None)
        if old is None and weight is None:
            return
        told = call_by_name(old) if old is not None else f"the variable '{weight.path}'" if weight else ""
        raise refuse(
            self,
            f"would share {told} among its {self.count} blocks: it was made outside of the function.",
            "make it inside the function; what all blocks are to use can be passed as an argument of the call",
        )

    def build(self, input_shape: Any) -> None:
        """Plan the weights of all blocks for an input shape, batch included."""
        seen = [(layer._held, layer._held.output_shapes) for layer in self.block._flatten_layers()]
        self._plan((map_shapes(lambda shape: KerasTensor(shape, self.compute_dtype), input_shape),), {})
        for held, shapes in seen:  # constants are computed at once in a build, so sizes had to be made up
            held.output_shapes = shapes

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.built:
            with name_scope(self.name):
                self._plan(*map_tree(_as_symbol, (args, kwargs)))
            with building(self, (shapes_of(args[0]),) if args else (), {}):
                pass

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Build the block and all layers inside it, some of which may see their input only when it is called."""
        with self._numbering.counted():
            self.block._ensure_built(args, kwargs)
            if not all(layer.built for layer in self.block._flatten_layers()):
                self.block.compute_output_spec(*args, **kwargs)
        self._stack()

    def _stack(self) -> None:
        """Let each variable of the block stand for all blocks, and make the arrays that hold its values."""
        generators = self._generators()
        for variable in list(self._unstacked()):
            stack = self._numbering.stack(variable, generators.get(_root(variable)))
            variable.pieces, variable._value = (stack,), None
            self._patterns.append(variable)
        self._share_out(set(self._to_freeze))

    def _unstacked(self) -> Iterator[Variable]:
        """The block's variables that do not stand for all blocks yet; of blocks inside it, their stacks."""
        known = set(self._patterns)
        waiting = [v for layer in self.block._flatten_layers() for v in _variables_of(layer)]
        for variable in dict.fromkeys(waiting):
            inside = [variable]
            while inside:
                one = inside.pop(0)
                if one not in known:
                    known.add(one)
                    inside += one.pieces
                    if not one.pieces:
                        yield one

    def _generators(self) -> dict[Variable, SeedGenerator]:
        return {
            generator.state: generator
            for layer in self.block._flatten_layers()
            for _, generator in tracking.find(
                layer._attributes(), lambda value: isinstance(value, SeedGenerator)
            )
        }

    # -- single blocks -------------------------------------------------------------------------------------------------
    @property
    def frozen(self) -> list[int]:
        """The numbers of the blocks that are frozen while others may learn. Set it before `compile`.

        Blocks that differ in this run in loops of their own: keep those that are frozen together.
        """
        if not self._patterns:
            return list(self._to_freeze)
        return [block for place, run in enumerate(self._runs) if self._is_set_apart(place) for block in run]

    @frozen.setter
    def frozen(self, blocks: Iterable[int]) -> None:
        self._to_freeze = self._read_blocks(blocks)
        self.frozen_at = users_line()
        if self._patterns:
            self._share_out(set(self._to_freeze))

    def _share_out(self, frozen: set[int]) -> None:
        """Let blocks that are frozen and blocks that are not have arrays of their own."""
        self._runs = [part for run in self._runs for part in _cut_where(run, frozen)]
        for variable in self._patterns:
            pieces: Any = variable.pieces
            if [piece.blocks for piece in pieces] != self._runs:
                cuts = [(piece, run) for piece in pieces for run in self._runs if run.start in piece.blocks]
                variable.pieces = pieces = tuple(piece.cut(run) for piece, run in cuts)
            for piece in pieces:
                if piece.declared_trainable:
                    piece.set_apart(piece.blocks.start in frozen)

    def _read_blocks(self, blocks: Any) -> list[int]:
        """The numbers of some blocks in order; negative ones count from the end."""
        given = list(blocks) if isinstance(blocks, Iterable) and not isinstance(blocks, str) else [blocks]
        wrong = next((one for one in given if not _is_block(one, self.count)), None)
        if wrong is not None:
            raise refuse(
                self,
                f"has the blocks 0 to {self.count - 1}, so {wrong!r} can't be frozen.",
                "give the numbers of blocks: frozen=range(2) freezes the first two",
            )
        return sorted({int(one) % self.count for one in given})

    def _is_set_apart(self, place: int) -> bool:
        """Whether the blocks of a run are frozen by number."""
        pieces: list[Any] = [variable.pieces[place] for variable in self._patterns]
        learned = [piece for piece in pieces if piece.declared_trainable]
        return any(piece.is_set_apart for piece in learned) and not any(piece.trainable for piece in learned)

    def get_block_weights(self, index: int) -> list[np.ndarray]:
        """The weights of one block, in the order the block itself would give them.

        Args:
            index: The block's number, from 0.
        """
        (block,) = self._read_blocks([index])
        pieces = [self._piece(variable, block) for variable in self._own_patterns()]
        return [np.asarray(piece.raw[block - piece.blocks.start]) for piece in pieces]

    def set_block_weights(self, index: int, weights: Sequence[Any]) -> None:
        """Set the weights of one block, for instance to those of a layer that was trained by itself.

        Args:
            index: The block's number, from 0.
            weights: One array for each weight of the block.

        Raises:
            ShapeError: There are too many or too few, or one has another shape; then none was changed.
        """
        (block,) = self._read_blocks([index])
        patterns = self._own_patterns()
        given, wanted = [tuple(np.shape(one)) for one in weights], [one.shape for one in patterns]
        if given != wanted:
            raise ShapeError(
                f"A block of {call_by_name(self)} has weights of the shapes {wanted}, but was given {given}.",
                where=f"made at {self.made_at}",
                do="give one array for each weight, in the order of get_block_weights; nothing was changed",
            )
        for variable, value in zip(patterns, weights, strict=True):
            piece = self._piece(variable, block)
            piece.assign(piece.raw.at[block - piece.blocks.start].set(jnp.asarray(value, piece.dtype)))

    def _own_patterns(self) -> list[Variable]:
        return [variable for variable in self._patterns if not variable.is_seed]

    def _piece(self, variable: Variable, block: int) -> Any:
        return piece_at(variable, [block])

    # -- calling -------------------------------------------------------------------------------------------------------
    def call(self, inputs: Any, *args: Any, mask: Any = None, **kwargs: Any) -> Any:
        """What the last block gives."""
        self._refuse_new_weights()
        carry: Any = with_masks(inputs, mask)
        given = (args, kwargs)
        for place, run in enumerate(self._runs):
            pieces = [variable.pieces[place] for variable in self._patterns]
            values = [value_of(piece) for piece in pieces]
            work = Work(self, given, is_traced((carry, given, values)))
            with self._phase(place):
                carry, results = work.run(carry, values, run)
            self._keep(pieces, work, results)
        outputs, kept = carry
        for array, one in zip(leaves(outputs), kept, strict=True):
            if one is not None:
                masks.set_mask(array, one)
        return outputs

    def _keep(self, pieces: list[Any], work: Work, results: Any) -> None:
        """Assign the variables that the blocks of a run changed, and add up the losses that they added."""
        new, losses = results
        for position, value in zip(work.changed, new, strict=True):
            pieces[position].assign(value)
        for layer, values in zip(work.adding, losses, strict=True):
            layer._held.losses.append(jnp.sum(values, axis=0))

    @contextmanager
    def _phase(self, place: int) -> Iterator[None]:
        """Let the layers know while a run of frozen blocks runs: moving statistics then stay."""
        held = [layer._held for layer in self.block._flatten_layers()] if self._is_set_apart(place) else []
        before = [one.trainable for one in held]
        for one in held:
            one.trainable = False
        try:
            yield
        finally:
            for one, value in zip(held, before, strict=True):
                one.trainable = value

    def _refuse_new_weights(self) -> None:
        """A weight that came later, from `enable_lora` for instance, belongs to no block."""
        for layer in self.block._flatten_layers():
            for variable in _variables_of(layer):
                if not variable.pieces:
                    raise TallyError(
                        f"{call_by_name(layer)} got the weight '{variable.name}' after it had been repeated "
                        f"{self.count} times.",
                        where=f"'{variable.path}' made at {variable.origin}; repeated at {self.made_at}",
                        do="make all weights of the block in its constructor or in build; for LoRA give the layer "
                        "inside lora_rank=...",
                    )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The output carries the mask that the last block gave it."""
        del inputs, previous_mask

    # -- configuration -------------------------------------------------------------------------------------------------
    def _read_remat(self, remat: Any) -> bool | str:
        known = [name for name in dir(jax.checkpoint_policies) if name.endswith("_saveable")]
        if isinstance(remat, bool) or remat in known:
            return remat
        raise refuse(
            self,
            f"can't have remat={remat!r}.{nearest(str(remat), known)}",
            f"use True, False or {' or '.join(repr(name) for name in known)}",
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the block and what is frozen as they are now."""
        return {**super().get_config(), "frozen": self.frozen}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the layer and its block."""
        block = config["block"]
        rest = {name: deserialize(value) for name, value in config.items() if name != "block"}
        if isinstance(block, dict):
            unbuilt = {name: value for name, value in block.items() if name != "build_config"}
            return cls(block=lambda: deserialize(unbuilt), **rest)
        return cls(block=block, **rest)


def _as_symbol(leaf: Any) -> Any:
    """A symbolic tensor in the place of an array, with its mask."""
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return leaf
    made = KerasTensor(leaf.shape, leaf.dtype.name)
    mask = masks.get_mask(leaf)
    if mask is not None:
        made.keras_mask = KerasTensor(mask.shape, mask.dtype.name)
    return made


def _variables_of(layer: Layer) -> list[Variable]:
    return [*(variable for _, variable in layer._named_variables()), *layer._own_seeds()]


def _root(variable: Variable) -> Variable:
    while isinstance(variable, Stack):
        variable = variable.pattern
    return variable


def _is_block(value: Any, count: int) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and -count <= int(value) < count


def _cut_where(run: range, wanted: set[int]) -> Iterator[range]:
    """A run of blocks in parts that are wanted or not as a whole."""
    start = run.start
    for block in run:
        if block > run.start and (block in wanted) != (block - 1 in wanted):
            yield range(start, block)
            start = block
    yield range(start, run.stop)
