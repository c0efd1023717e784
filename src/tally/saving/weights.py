"""Weights in HDF5, laid out as Keras 3 does: one group per layer, named by where the layer is held."""

import dataclasses
import functools
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tally.core import tracking
from tally.core.errors import SavingError, nearest
from tally.core.layer import Layer
from tally.core.registry import snake_case
from tally.core.variable import Variable
from tally.saving.files import numbers_in
from tally.saving.matching import cut

if TYPE_CHECKING:
    import h5py

_CONTAINERS = (list, tuple, dict, set, frozenset, deque, SimpleNamespace)
_GENERAL = (["tally", "core"], ["tally", "models"], ["tally", "training"], ["tally", "optimizers"])
"""Rooms whose classes say what every layer or model has, in contrast to what a particular one adds."""


def is_container(value: Any) -> bool:
    """Whether a value may hold layers in its parts."""
    return isinstance(value, _CONTAINERS) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def is_stored(value: Any) -> bool:
    """Whether a value has a group of its own in a file: a layer or an optimizer."""
    return isinstance(value, Layer) or hasattr(type(value), "save_own_variables")


def places(model: Any) -> Iterator[tuple[str, Any]]:
    """`(group, thing)` for a model and all layers and optimizers below it, each once: the places Keras 3 gives them."""
    seen: set[int] = set()

    def walk(one: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(one) in seen:
            return
        seen.add(id(one))
        yield path, one
        for name, held in _held(one):
            yield from into(held, f"{path}/{name}" if path else name)

    def into(held: Any, path: str) -> Iterator[tuple[str, Any]]:
        if is_stored(held):
            yield from walk(held, path)
            return
        used: dict[str, int] = {}
        for _, item in tracking.parts(held) or ():
            if is_stored(item):
                yield from walk(item, f"{path}/{_unique(snake_case(type(item).__name__), used)}")
            elif is_container(item):
                yield from into(item, f"{path}/{_unique('container', used)}")

    yield from walk(model, "")


def _held(thing: Any) -> Iterator[tuple[str, Any]]:
    """Attributes that may hold layers: a graph's layers first, then by name, private names last."""
    attributes: dict[str, Any] = {**(thing._attributes() if hasattr(thing, "_attributes") else vars(thing))}
    attributes.update((name, getattr(thing, name, None)) for name in _properties(type(thing)))
    if hasattr(thing, "file_layers"):  # a model
        attributes["optimizer"] = thing.optimizer
        listed = thing.file_layers()
        if listed is not None:
            yield "layers", listed
        else:
            attributes["layers"] = thing.layers
    for name in sorted(attributes, key=lambda word: (word.startswith("_"), word)):
        if is_stored(attributes[name]) or is_container(attributes[name]):
            yield name, attributes[name]


@functools.cache
def _properties(cls: type) -> frozenset[str]:
    """Properties that a class adds to those every layer and model has; one of them may be a layer's public name."""
    return frozenset(
        name
        for base in cls.__mro__
        if base.__module__.split(".")[:2] not in _GENERAL
        for name, value in vars(base).items()
        if isinstance(value, (property, functools.cached_property))
    )


def _unique(name: str, used: dict[str, int]) -> str:
    number = used.get(name, 0)
    used[name] = number + 1
    return f"{name}_{number}" if number else name


def write_weights(file: "h5py.File", model: Layer) -> None:
    """Write the variables of every layer, and those of optimizers that have any."""
    model.materialize()
    for path, thing in places(model):
        group = make_group(file, path, thing)
        for key, value in own_values(thing).items():
            write_array(group, key, value)


def own_values(thing: Any) -> dict[str, Any]:
    """What a layer or optimizer stores itself: variables, whose values nobody has fetched yet, or arrays."""
    values: dict[str, Any] = {}
    thing.save_own_variables(values)
    return values


def make_group(file: "h5py.File", path: str, thing: Any) -> "h5py.Group":
    """Make the group that holds the arrays of a layer or optimizer."""
    group = file.create_group(group_of(path))
    group.attrs["name"] = thing.name
    return group


def write_array(group: "h5py.Group", key: str, value: Any) -> None:
    """Write a variable's values, or an array."""
    array = value.numpy() if isinstance(value, Variable) else np.asarray(value)
    if array.dtype.isbuiltin == 1:
        group.create_dataset(key, data=array)
    else:  # bfloat16, float8, int4: HDF5 has no such types, so Keras stores their bytes and says what they are
        raw = np.asarray(array, order="C").view(f"V{array.dtype.itemsize}")
        group.create_dataset(key, data=raw).attrs["dtype"] = array.dtype.name


@runtime_checkable
class Store(Protocol):
    """What arrays are read from, by the place of the layer or optimizer that they belong to."""

    def numbers(self, path: str) -> "dict[str, h5py.Dataset]":
        """The arrays of a place, looked at but not read; none where it has none."""
        ...

    def groups(self) -> list[str]:
        """The places that have arrays or might have."""
        ...


class OneFile:
    """A file that has all.

    Args:
        file: The file, open.
        source: Its path, for messages.
    """

    def __init__(self, file: "h5py.File", source: Any) -> None:
        self.file, self.source = file, source

    def numbers(self, path: str) -> "dict[str, h5py.Dataset]":
        """The arrays of a place, looked at but not read; none where it has none."""
        return numbers_in(self.file, group_of(path), self.source)

    def groups(self) -> list[str]:
        """The places that have arrays or might have."""
        names: list[str] = []
        self.file.visit(lambda name: names.append(str(name)))
        return [name.removesuffix("/vars") for name in names if name.endswith("/vars")]


def group_of(path: str) -> str:
    """The group that holds the arrays of a place.

    Example:
        >>> group_of("layers/dense"), group_of("")
        ('layers/dense/vars', 'vars')
    """
    return f"{path}/vars".removeprefix("/")


def read_weights(
    file: "h5py.File | Store", model: Layer, *, source: Any, skip_mismatch: bool = False
) -> list[str]:
    """Read every layer's variables. Everything is compared first; if something doesn't fit, nothing is changed.

    Args:
        file: An open file in the layout of Keras 3, or several as one.
        model: A built layer or model.
        source: The file's path, for messages.
        skip_mismatch: Leave layers that don't fit as they are, and say which.

    Returns:
        What was skipped, a line each.

    Raises:
        SavingError: A layer's weights are missing in the file, or have other shapes.
    """
    store = file if isinstance(file, Store) else OneFile(file, source)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built and store.numbers("optimizer"):
        optimizer.build(model.trainable_variables)
    known = dict(places(model))
    wrong: list[str] = []
    assigned: list[tuple[Variable, h5py.Dataset]] = []
    custom: list[tuple[Any, dict[str, h5py.Dataset]]] = []
    for path, thing in known.items():
        found = store.numbers(path)
        if not _keeps_to_the_layout(thing):
            custom += [(thing, found)] if found else []
        elif problem := _compare(thing, found) or _missing(store, path, thing, found, known):
            wrong.append(problem)
        else:
            assigned += [(variable, found[str(i)]) for i, variable in enumerate(thing._file_variables())]
    if wrong and not skip_mismatch:
        more = f", and {len(wrong) - 1} more." if len(wrong) > 1 else "." if wrong[0][-1] != "?" else ""
        raise SavingError(
            f"The weights in {source} don't fit '{model.name}': {wrong[0]}{more}",
            where="; ".join(
                (*cut(wrong[1:], "that don't fit"), *cut(_surplus(store, known), "only in the file"))
            ),
            do="build the model the file was made from, or pass skip_mismatch=True; nothing was changed",
        )
    values = [_value(dataset) for _, dataset in assigned]
    for thing, found in custom:
        thing.load_own_variables({key: _value(dataset) for key, dataset in found.items()})
    for (variable, _), value in zip(assigned, values, strict=True):
        variable.assign(value)
    return wrong


def _keeps_to_the_layout(thing: Any) -> bool:
    return isinstance(thing, Layer) and type(thing).load_own_variables is Layer.load_own_variables


def _compare(layer: Layer, found: "dict[str, h5py.Dataset]") -> str | None:
    """The variables whose shape in the file is another."""
    variables = layer._file_variables()
    if len(found) != len(variables):
        return None
    shapes = [tuple(found[str(i)].shape) if str(i) in found else "nothing" for i in range(len(variables))]
    wrong = [
        f"'{variable.name}' has shape {variable.shape}, the file has {shape}"
        for variable, shape in zip(variables, shapes, strict=True)
        if shape != variable.shape
    ]
    return f"{layer.name}: {', '.join(wrong)}" if wrong else None


def _missing(
    store: Store, path: str, layer: Layer, found: dict[str, Any], known: dict[str, Any]
) -> str | None:
    """What to say when the file holds more or fewer variables for a layer than it has."""
    count = len(layer._file_variables())
    if len(found) == count:
        return None
    if not layer.built and found:
        return f"{layer.name} is not built, the file has {len(found)} weights for it"
    if not found:
        unused = [name for name in store.groups() if name not in known]
        wanted = [variable.shape for variable in layer._file_variables()]
        unused = [name for name in unused if _shapes_at(store, name) == wanted] or unused
        return f"the file has nothing at '{path}' for {layer.name}.{nearest(path, unused)}"
    return f"{layer.name} has {count} weights, the file has {len(found)}"


def _shapes_at(store: Store, name: str) -> list[tuple[int, ...]]:
    """The shapes of a layer's variables in a file, in their order."""
    found = store.numbers(name)
    return [tuple(found[key].shape) for key in sorted(found, key=lambda key: (len(key), key))]


def _surplus(store: Store, known: dict[str, Any]) -> list[str]:
    """What the file holds for layers that the model hasn't; an optimizer is no layer."""
    names = [name for name in store.groups() if name not in known and not name.startswith("optimizer")]
    shapes = ((name, _shapes_at(store, name)) for name in names)
    return [f"{name} {', '.join(map(str, found))} is only in the file" for name, found in shapes if found]


def _value(dataset: "h5py.Dataset") -> np.ndarray:
    value = np.asarray(dataset)
    if value.dtype.kind != "V":
        return value
    import jax.numpy as jnp

    return value.view(jnp.dtype(str(dataset.attrs["dtype"])))
