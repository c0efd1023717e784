"""What a layer holds: the layers and variables in its attributes, whether they learn, and their values."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tally.core import tracking
from tally.core.dtype import DTypePolicy, get_policy
from tally.core.errors import ShapeError, TallyError, UnbuiltError, is_users, users_line
from tally.core.random import SeedGenerator
from tally.core.registry import Configured
from tally.core.stacks import Whole, in_pieces
from tally.core.variable import Variable, materialize

if TYPE_CHECKING:
    from tally.core.layer import Layer


numbers = itertools.count()
"""Layers, calls and switches, in the order they came about."""

current_call: ContextVar[Any] = ContextVar("call", default=None)
"""What is known while the outermost layer runs; None outside calls."""


_memory: ContextVar[dict[Any, Any] | None] = ContextVar("what layers hold", default=None)


@contextmanager
def unchanging() -> Iterator[None]:
    """Look only once at what each layer holds while the block runs, which must not change that."""
    memory = _memory.get()
    with _remembering({} if memory is None else memory):
        yield


def looking_anew() -> AbstractContextManager[None]:
    """Look each time while the block runs, even within `unchanging`: what the block changes, it must put back."""
    return _remembering(None)


@contextmanager
def _remembering(memory: dict[Any, Any] | None) -> Iterator[None]:
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)


def _remembered(what: Any, find: Callable[[], Any]) -> Any:
    memory = _memory.get()
    if memory is None:
        return find()
    if what not in memory:
        memory[what] = find()
    return memory[what]


class Thing(NamedTuple):
    """A layer or a variable as it was remembered, without keeping it alive.

    Args:
        kind: Its class.
        name: Its name.
        made_at: The user's line that made it.
        number: Its place among all layers, or among all variables.
        is_fresh: Whether it was a layer that had never been called.
    """

    kind: str
    name: str
    made_at: str | None
    number: int
    is_fresh: bool


class Change(NamedTuple):
    """An attribute that holds a layer or variable, assigned when that is worth a second look.

    Args:
        name: The attribute; a weight's name for one added by `add_weight`.
        line: The user's line that did it.
        old: What it held before, if that was a layer or a variable.
        new: What it holds since, likewise.
        is_late: Whether the layer was built by then.
        number: Its place among all that came about.
    """

    name: str
    line: str | None
    old: Thing | None
    new: Thing | None
    is_late: bool
    number: int


class Switch(NamedTuple):
    """A `trainable` that was set by name, and not by a layer around it.

    Args:
        value: What it was set to.
        line: The user's line.
        number: Its place among all switches and layers made.
    """

    value: bool
    line: str | None
    number: int


class Held:
    """The base class's own notes about a layer, in one place so that the layer's attributes are the user's alone."""

    def __init__(self) -> None:
        self.name = ""
        self.auto_named = True
        self.path = ""
        self.policy: DTypePolicy = get_policy(None)
        self.trainable = True
        self.frozen_at: str | None = None
        self.built = False
        self.building = False
        self.built_number: int | None = None
        """When it was built: its place among all that came about."""
        self.made_in_call = False
        """Whether it was made while some layer's call ran."""
        self.marked_at: str | None = None
        """The user's line that set `built` by hand, outside a build."""
        self.changes: list[Change] = []
        self.switches: list[Switch] = []
        self.made_at: str | None = None
        self.weights: list[Variable] = []
        self.losses: list[Any] = []
        self.initial_weights: list[Any] | None = None
        self.batch_input_shape: tuple[int | None, ...] | None = None
        self.build_shapes: Any = None
        self.input_shapes: list[tuple[int | None, ...]] = []
        self.output_shapes: list[tuple[int | None, ...]] = []
        self.legacy: list[str] = []
        self.last_call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.initialised = False


class Holder(Configured):
    """The part of a layer that knows what it holds. `Layer` adds building and calling."""

    _held: Held
    name: str
    built: bool
    made_at: str | None

    def _notes(self) -> Held:
        if not self._held.initialised:
            raise TallyError(
                f"{type(self).__name__} was used before its base class was set up.",
                where=f"made at {self._held.made_at}",
                do="call super().__init__(**kwargs) first in __init__",
            )
        return self._held

    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get("_held")
        if held is not None and not held.initialised and isinstance(value, (Holder, Variable)):
            self._notes()  # raises: super().__init__ was forgotten
        old = vars(self).get(name)
        object.__setattr__(self, name, value)
        if held is None or old is value:
            return
        if isinstance(old, Variable) and old in held.weights:
            held.weights.remove(old)  # a weight that was exchanged for another is no longer this layer's
        if isinstance(old, (list, tuple, dict)):
            old = next((one for _, one in tracking.find(old, lambda one: isinstance(one, Holder))), None)
        if isinstance(value, (Holder, Variable)) or isinstance(old, (Holder, Variable)):
            self._note_change(name, old, value, sys._getframe(1))

    def _note_change(self, name: str, old: Any, new: Any, frame: FrameType) -> None:
        """Remember that a layer or variable lost its place, or came after the build, where the user's code did it."""
        held = self._held
        constructing = frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is self
        is_late = held.built and not held.building and not constructing and current_call.get() is None
        lost = _remember(old)
        if (is_late or lost is not None) and is_users(frame.f_code.co_filename) and name not in _INTERNAL:
            held.changes.append(Change(name, users_line(), lost, _remember(new), is_late, next(numbers)))

    def _attributes(self) -> dict[str, Any]:
        """The user's attributes: everything but the base's own notes."""
        return {name: value for name, value in vars(self).items() if name not in _INTERNAL}

    def _children(self) -> Iterator[tuple[str, Any]]:
        """`(place, layer)` of every direct sublayer: attribute names, with positions or keys in containers."""
        return (
            (place, one) for place, one in self._contents() if isinstance(one, Holder) and one is not self
        )

    def _contents(self) -> list[tuple[str, Any]]:
        """`(place, thing)` of every layer, variable and seed generator in the attributes, found in one walk."""
        return _remembered(
            ("contents", self),
            lambda: list(tracking.find(self._attributes(), lambda value: isinstance(value, _HELD))),
        )

    def _own_variables(self) -> list[Variable]:
        """Variables held by the layer itself, trainable ones first, each group in the order of making.

        In the place of a weight of a block that is repeated stand the arrays that hold it for all blocks.
        """
        return list(in_pieces(variable for _, variable in self._named_variables()))

    def _named_variables(self) -> list[tuple[str, Variable]]:
        """`(place, variable)` for the layer's own variables, seeds excluded."""
        return _remembered(("variables", self), self._find_variables)

    def _find_variables(self) -> list[tuple[str, Variable]]:
        named = {v: v.name for v in self._held.weights}
        for place, variable in self._contents():
            if isinstance(variable, Variable) and variable not in named:
                named[variable] = variable.name if variable.name != "variable" else place
        ordered = sorted(named, key=lambda v: (not v.declared_trainable, v.number))
        return [(named[v], v) for v in ordered if not v.is_seed]

    def _file_variables(self) -> list[Any]:
        """The layer's own variables as a file holds them: each array once, for all blocks that share it."""
        return [Whole(variable) if variable.pieces else variable for _, variable in self._named_variables()]

    def _own_seeds(self) -> list[Variable]:
        """The states of seed generators held by the layer itself."""
        return [one.state for _, one in self._contents() if isinstance(one, SeedGenerator)]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list["Layer"]:
        def find() -> list[Any]:
            found: dict[Any, None] = {self: None}

            def walk(layer: Any) -> None:
                for child in _remembered(("children", layer), lambda: [one for _, one in layer._children()]):
                    if child not in found:
                        found[child] = None
                        if recursive:
                            walk(child)

            walk(self)
            return list(found)

        return _remembered(("inside", self, recursive), find)[0 if include_self else 1 :]

    @property
    def variables(self) -> list[Variable]:
        """Every variable of the layer and its sublayers, once each, seed states included."""
        found: dict[Variable, None] = {}
        for layer in self._flatten_layers():
            found.update(dict.fromkeys((*layer._own_variables(), *in_pieces(layer._own_seeds()))))
        return list(found)

    @property
    def weights(self) -> list[Variable]:
        """Like `variables`, without seed states: what `get_weights` gives and files hold."""
        return [variable for variable in self.variables if not variable.is_seed]

    def _trainable(self, seen: set[Any] | None = None) -> dict[Variable, None]:
        seen = set() if seen is None else seen
        if self in seen or not self._notes().trainable:
            return {}
        seen.add(self)
        found = {variable: None for variable in self._own_variables() if variable.trainable}
        for _, child in self._children():
            found.update(child._trainable(seen))
        return found

    @property
    def trainable_variables(self) -> list[Variable]:
        """Variables an optimizer may change. Empty before the layer is built."""
        return list(self._trainable())

    @property
    def trainable_weights(self) -> list[Variable]:
        """The same as `trainable_variables`."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """All other variables: frozen ones, moving statistics, seed states."""
        trainable = self._trainable()
        return [variable for variable in self.variables if variable not in trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The same without seed states."""
        return [variable for variable in self.non_trainable_variables if not variable.is_seed]

    @property
    def trainable(self) -> bool:
        """Whether the layer may learn. Setting it reaches all sublayers and weights, at any time."""
        return self._notes().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        line = users_line()
        self._notes().switches.append(Switch(bool(value), line, next(numbers)))
        for layer in self._flatten_layers():
            layer._notes().trainable = bool(value)
            layer._held.frozen_at = None if value else line
            for variable in layer._own_variables():
                if variable.declared_trainable:
                    variable.trainable = bool(value)
                    variable.frozen_at = None if value else line

    def count_params(self) -> int:
        """Number of scalars in all weights, each weight once.

        Raises:
            UnbuiltError: No input shape has been seen, so there is nothing to count yet.
        """
        if not self.built:
            raise UnbuiltError(
                f"{type(self).__name__} '{self.name}' has no weights yet: it has not seen an input shape.",
                where=f"made at {self.made_at}",
                do="call it on data, call build(input_shape), or give the model an Input",
            )
        return sum(variable.count for variable in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """The values of all weights as NumPy arrays."""
        self.materialize()
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of all weights, in the order of `weights`.

        Raises:
            ShapeError: There are too many or too few, or one has another shape; then none was changed.
        """
        variables = self.weights
        shapes = [tuple(np.shape(value)) for value in weights]
        if len(shapes) != len(variables):
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' has {len(variables)} weights but was given {len(shapes)}.",
                where=f"made at {self.made_at}",
                do="give one array for each of: "
                + (", ".join(f"{v.path} {v.shape}" for v in variables) or "no weights"),
            )
        for variable, shape in zip(variables, shapes, strict=True):
            if variable.shape != shape:
                raise ShapeError(
                    f"Weight '{variable.path}' has shape {variable.shape} but was given {shape}.",
                    where=f"layer made at {self.made_at}",
                    do="check the order and the orientation of the arrays; nothing was changed",
                )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Put the layer's own variables into what a file will hold of it. Override it to store something else, too.

        Args:
            store: Name -> array; the base class uses `"0"`, `"1"`, ...
        """
        for index, variable in enumerate(self._file_variables()):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Set the layer's own variables from what `save_own_variables` stored.

        Raises:
            ShapeError: The store holds more or fewer arrays, or one of another shape.
        """
        variables = self._file_variables()
        if len(store) != len(variables):
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' has {len(variables)} variables but was given {len(store)}.",
                where=f"made at {self.made_at}",
            )
        for index, variable in enumerate(variables):
            variable.assign(store[str(index)])

    def materialize(self, shardings: Any = None) -> None:
        """Draw all values that are still planned, in one compiled call.

        Args:
            shardings: A function `variable -> jax.sharding.Sharding`, or None for the default device.
        """
        variables = self.variables
        materialize(variables, [shardings(v) for v in variables] if callable(shardings) else None)


_HELD = (Holder, Variable, SeedGenerator)


def _remember(value: Any) -> Thing | None:
    if isinstance(value, Variable):
        return Thing("Variable", value.name, value.origin, value.number, is_fresh=value.is_planned)
    if isinstance(value, Holder):
        layer: Any = value
        fresh = layer._held.last_call is None and not layer.inbound_nodes and not layer._held.output_shapes
        return Thing(type(layer).__name__, layer.name, layer.made_at, layer.number, is_fresh=fresh)
    return None


_INTERNAL = frozenset(
    (
        "_held",
        "_arguments",
        "number",
        "inbound_nodes",
        "activity_regularizer",
        "autocast",
        "input_spec",
        "supports_masking",
    )
)
