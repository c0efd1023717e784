"""From a live layer or model to its ledger: each weight once, each layer with what explains its numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from tally.accounting.ledger import Entry, Ledger, Owner, Shape, State, Status
from tally.core.collecting import collecting_later
from tally.core.holding import unchanging
from tally.core.layer import Layer
from tally.core.registry import snake_case
from tally.core.stacks import piece_at
from tally.core.symbol import KerasTensor, Operation, leaves
from tally.core.variable import Variable
from tally.formats.keras_layers import OPTIONS
from tally.layers.repeat import Repeat
from tally.models.constants import array_named, constants_of, constants_of_op
from tally.models.model import Model
from tally.tracing.untracked import find_untracked


def account(layer: Any) -> Ledger:
    """Give account of a layer or a model: all weights, seeds, optimizer variables, and layers inside.

    Nothing is drawn and nothing runs: planned weights are counted by their shapes.

    Args:
        layer: A layer or a model, built or not; or one of another library, a tree of arrays, or the path of a file.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)])
        >>> account(model).total
        55
        >>> [entry.path for entry in account(model).entries]
        ['dense/kernel', 'dense/bias']
    """
    if isinstance(layer, Layer):
        return survey(layer).ledger
    from tally.models.verbs.subject import ledger_of

    return ledger_of(layer)


class Survey(NamedTuple):
    """An account, and which layer and which variable each of its lines is about.

    Args:
        ledger: The account.
        layers: The path of each layer, where it is listed first.
        entries: The path of the entry that counts each variable.
    """

    ledger: Ledger
    layers: dict[Layer, str]
    entries: dict[Variable, str]


def survey(layer: Layer) -> Survey:
    """Give account of a layer or a model, as `account`, and say what each line is about."""
    with unchanging(), collecting_later():
        walk = _walked(layer)
        walk.add_untracked(layer)
    walk.add_optimizer(layer)
    source = "tally model" if isinstance(layer, Model) else "tally layer"
    ledger = Ledger(
        name=layer.name, source=source, owners=tuple(walk.owners), entries=tuple(walk.entries.values())
    )
    return Survey(ledger, walk.layers, walk.homes)


def arrays_of(layer: Layer) -> dict[str, tuple[Variable, tuple[int, ...]]]:
    """Which variable holds the array of each entry that counts, optimizer and seeds included; nothing is followed.

    Args:
        layer: A layer or a model.

    Returns:
        Path -> the variable, and which block of it where it holds the arrays of several: of blocks inside blocks the
        number of each, the innermost last.
    """
    with unchanging():
        walk = _walked(layer)
    found = {path: mark for mark, path in walk.counted.items()}
    return found | {path: (variable, ()) for path, variable in walk.add_optimizer(layer)}


def _walked(layer: Layer) -> "_Walk":
    makers = {v: one for one in layer._flatten_layers() for v in one._held.weights}
    walk = _Walk(trainable=set(layer.trainable_variables), makers=makers)
    walk.visit(layer, "")
    walk.share()
    return walk


class _Names:
    """Names given out so far; however many ask for one word, each gets the next number at once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken, self.numbers = set(taken), Counter[str]()

    def take(self, word: str) -> str:
        """The word itself, or with the first number behind it that is free."""
        while True:
            number = self.numbers[word]
            self.numbers[word] += 1
            name = f"{word}_{number}" if number else word
            if name not in self.taken:
                self.taken.add(name)
                return name


class _Switch(NamedTuple):
    """Whose `trainable` is off, and the line that switched it."""

    path: str | None
    line: str | None


@dataclass
class _Walk:
    """One way through a model: what was listed so far, and where each thing is counted.

    A weight counts at the layer that made it, even if another layer which uses it, too, stands before that. A block
    that is repeated is walked through once for each time: `at` says which of the blocks around this is.
    """

    trainable: set[Variable]
    makers: dict[Variable, Layer]
    owners: list[Owner] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    layers: dict[Layer, str] = field(default_factory=dict)
    homes: dict[Variable, str] = field(default_factory=dict)
    places: dict[Any, str] = field(default_factory=dict)
    counted: dict[Any, str] = field(default_factory=dict)
    guests: dict[str, Any] = field(default_factory=dict)
    at: tuple[int, ...] = ()
    above: list[Layer] = field(default_factory=list)
    names: _Names = field(default_factory=_Names)

    def visit(
        self,
        layer: Layer,
        path: str,
        frozen: _Switch | None = None,
        inputs: tuple[str, ...] = (),
        uses: int = 1,
    ) -> None:
        """List a layer, its own variables, and all that is inside."""
        if frozen is None and not layer.trainable:
            frozen = _Switch(path, layer._held.frozen_at)
        self.owners.append(_owner(layer, path, inputs, uses, self.places.get((layer, self.at))))
        self.places.setdefault((layer, self.at), path)
        self.layers.setdefault(layer, path)
        for name, variable in layer._named_variables():
            maker = self.makers.get(variable, layer)
            if maker is layer:
                self.add(variable, path, name, frozen)
            elif maker not in layer._flatten_layers():  # what a layer inside made is listed there
                self.add(variable, path, name, frozen, guest=True)
        for seed in layer._own_seeds():
            self.add(seed, path, seed.name, None)
        self.above.append(layer)
        for place, child, feeders, times in _inside(layer):
            below, fed_by = _under(path, place), tuple(_under(path, feeder) for feeder in feeders)
            if isinstance(child, Operation):
                self.owners.append(_operation(child, below, fed_by))
            elif isinstance(layer, Repeat) and child is layer.block:
                self.visit_blocks(layer, below, frozen)
            elif child not in self.above:  # a layer that holds its holder is listed where it stands
                self.visit(child, below, frozen, fed_by, times)
        self.above.pop()

    def visit_blocks(self, layer: Repeat, path: str, frozen: _Switch | None) -> None:
        """List every block of a layer that repeats one."""
        around, apart = self.at, set(layer.frozen)
        for number in range(layer.count):
            self.at, below = (*around, number), f"{path}_{number}"
            switch = _Switch(below, layer.frozen_at) if number in apart else None
            self.visit(layer.block, below, frozen or switch)
        self.at = around

    def add(
        self, variable: Variable, owner: str, name: str, frozen: _Switch | None, guest: bool = False
    ) -> None:
        """Enter a variable at an owner, as a guest where it counts elsewhere."""
        path = self.names.take(_under(owner, name))
        stored = piece_at(variable, self.at)
        state = self._state(stored)
        switch = (frozen or _Switch(None, stored.frozen_at)) if state == "frozen" else _Switch(None, None)
        self.entries[path] = Entry(
            path=path,
            owner=owner,
            name=path.rpartition("/")[2],
            shape=variable.shape,
            axes=tuple(variable.axes),
            dtype=variable.dtype,
            state=state,
            origin=variable.origin,
            frozen_by=switch.path,
            frozen_at=switch.line,
        )
        # An array counts once for each block it holds.
        mark = (stored, self.at if stored is not variable else ())
        if guest or self.counted.setdefault(mark, path) != path:
            self.guests[path] = mark
        else:
            self.homes.setdefault(variable, path)
            self.homes.setdefault(stored, path)

    def share(self) -> None:
        """Say of each guest where its scalars are counted."""
        for path, mark in self.guests.items():
            self.entries[path] = replace(self.entries[path], shared_with=self.counted[mark])

    def add_untracked(self, layer: Layer) -> None:
        """Enter what acts as a weight without being one: found by following a call, never part of the total."""
        places = {owner.path: place for place, owner in enumerate(self.owners)}
        for lost in find_untracked(layer, self.layers):
            path = self.names.take(_under(lost.owner, lost.name))
            self.entries[path] = Entry(
                path=path,
                owner=lost.owner,
                name=lost.name,
                shape=lost.shape,
                dtype=lost.dtype,
                state="untracked",
                origin=lost.line,
                note=None if lost.code == "T101" else f"{lost.what}. To mend it, {lost.fix}.",
            )
            if lost.owner in places:
                self._drop_constant(places[lost.owner], lost.name)

    def _drop_constant(self, place: int, name: str) -> None:
        """What a call makes anew is no constant, even if the last one is still there."""
        owner = self.owners[place]
        kept = tuple(one for one in owner.constants if one[0] != array_named(name))
        self.owners[place] = replace(owner, constants=kept)

    def add_optimizer(self, layer: Layer) -> list[tuple[str, Any]]:
        """Enter what the optimizer of a compiled model keeps, under the model itself; return the paths it has there."""
        added: list[tuple[str, Any]] = []
        optimizer: Any = layer.optimizer if isinstance(layer, Model) else None
        for variable in optimizer.variables if getattr(optimizer, "built", False) else ():
            path = self.names.take(f"optimizer/{variable.path}")
            shape, dtype = tuple(variable.shape), str(variable.dtype)
            self.entries[path] = Entry(path=path, owner="", shape=shape, dtype=dtype, state="optimizer")
            added.append((path, variable))
        return added

    def _state(self, variable: Variable) -> State:
        if variable.is_seed:
            return "seed"
        if variable in self.trainable:
            return "trainable"
        return "frozen" if variable.declared_trainable else "state"


def _under(path: str, place: str) -> str:
    return f"{path}/{place}" if path else place


def _inside(layer: Layer) -> Iterator[tuple[str, Any, tuple[str, ...], int]]:
    """Each layer or op directly inside: its place, the places that feed it, and how often a graph uses it."""
    children = [
        (place.lstrip("_") if _is_builtin(layer) else place, child) for place, child in layer._children()
    ]
    graph = getattr(layer, "_graph", None)
    listed = {child for _, child in children}
    if graph is None or not listed.issuperset(graph.layers):
        for place, child in children:
            yield place, child, (), 1
        return
    uses = Counter(id(node.operation) for node in graph.nodes)
    places: dict[Any, str] = {child: place for place, child in children}
    names = _Names(places.values())
    for operation in graph.operations:
        if operation not in places:
            places[operation] = names.take(snake_case(operation.function.__name__))
    for operation in graph.operations:
        feeders = tuple(places[feeder] for feeder in graph.feeders(operation))
        yield places[operation], operation, feeders, uses[id(operation)]
    inside = set(graph.layers)
    for place, child in children:
        if child not in inside:
            yield place, child, (), 1


def _owner(layer: Layer, path: str, inputs: tuple[str, ...], uses: int, first: str | None) -> Owner:
    held = layer._held
    return Owner(
        path=path,
        name=layer.name,
        type=type(layer).__name__,
        module=type(layer).__module__,
        builtin=_is_builtin(layer),
        status=_status(layer),
        input_shapes=_shapes(held.input_shapes),
        output_shapes=_shapes(held.output_shapes or [getattr(layer, "batch_shape", None)]),
        options=tuple(_options(layer)),
        origin=layer.made_at,
        shared_with=first,
        inputs=inputs,
        constants=tuple(constants_of(layer, _is_builtin(layer))),
        notes=(f"Used {uses} times in the graph with the same weights, counted once.",) if uses > 1 else (),
    )


def _operation(operation: Operation, path: str, inputs: tuple[str, ...]) -> Owner:
    node = operation.inbound_nodes[0]
    return Owner(
        path=path,
        name=operation.name,
        type="".join(word.capitalize() for word in snake_case(operation.function.__name__).split("_")),
        module="tally.ops",
        status="no weights",
        input_shapes=tuple(tensor.shape for tensor in node.inputs),
        output_shapes=tuple(leaf.shape for leaf in leaves(node.outputs) if isinstance(leaf, KerasTensor)),
        origin=operation.made_at,
        inputs=inputs,
        constants=tuple(constants_of_op(operation.function, node.args, node.kwargs)),
    )


def _status(layer: Layer) -> Status:
    """Tell a layer that waits for an input from one that will never have a weight."""
    inside = layer._flatten_layers()
    if any(map(_waits, inside)):
        return "unbuilt"
    return "built" if any(one._own_variables() for one in inside) else "no weights"


def _waits(layer: Layer) -> bool:
    """Whether a layer will make weights of its own once it sees an input.

    A layer that only passes on what its sublayers do is built when they are, whatever its own flag says.
    """
    if isinstance(layer, Model):
        return not layer.built and not layer.layers
    return not layer.built and layer._has_own_build


def _shapes(shapes: Any) -> tuple[Shape, ...]:
    return tuple(tuple(shape) for shape in shapes if shape is not None)


def _options(layer: Layer) -> Iterator[tuple[str, Any]]:
    """A layer's options as plain data: the known ones, settled in its attributes, then sizes of a user's own layer."""
    own = [
        name
        for name in layer._arguments
        if name not in OPTIONS and name not in ("name", "dtype", "trainable")
    ]
    for name in (*OPTIONS, *own):
        value = (
            getattr(layer, name, layer._arguments.get(name)) if name in OPTIONS else layer._arguments[name]
        )
        plain = _plain(value)
        if plain is not None and (name in OPTIONS or not isinstance(plain, str)):
            yield name, plain
    if not _is_builtin(layer):  # sizes that it works out for itself
        for name, value in layer._attributes().items():
            if type(value) is int and not name.startswith("_") and name not in (*OPTIONS, *own):
                yield name, value


def _is_builtin(layer: Layer) -> bool:
    return type(layer).__module__.split(".")[0] == "tally"


def _plain(value: Any) -> Any:
    """Numbers, words and tuples of them as they are, a function by its name, anything else as None."""
    if isinstance(value, bool | str | int | float) or value is None:
        return value
    if isinstance(value, np.integer | np.floating):
        return value.item()
    if isinstance(value, list | tuple):
        items = tuple(_plain(item) for item in value)
        return None if None in items else items
    return getattr(value, "__name__", None) if callable(value) else None
