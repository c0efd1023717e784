"""Weights in HDF5, laid out as Keras 3 does: one group per layer, named by where the layer is held."""

import dataclasses
import functools
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tally.core import tracking
from tally.core.layer import Layer
from tally.core.registry import snake_case
from tally.core.variable import Variable
from tally.saving.files import numbers_in
from tally.saving.matching import Renaming, compare, left_out, refuse, refuse_unbuilt, rename_all
from tally.saving.outcome import Left, Match, Report

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
    file: "h5py.File | Store",
    model: Layer,
    *,
    source: Any,
    skip_mismatch: bool = False,
    name_map: Renaming = None,
) -> Report:
    """Read every layer's variables. Everything is compared first; if something doesn't fit, nothing is changed.

    Args:
        file: An open file in the layout of Keras 3, or several as one.
        model: A built layer or model.
        source: The file's path, for messages.
        skip_mismatch: Leave layers that don't fit as they are.
        name_map: Places in the file, such as `layers/dense_1` -> places or paths in the model, or None to leave out.

    Returns:
        What was loaded and what was left out.

    Raises:
        SavingError: A weight is missing in the file, is only in the file, or has another shape.
    """
    store = file if isinstance(file, Store) else OneFile(file, source)
    layout = _Layout(model)
    stored = _Stored(store, layout, name_map, source)
    comparison = compare(
        layout.wanted(stored),
        {name: tuple(array.shape) for name, array in stored.of_layers().items()},
        layout.paths,
    )
    if not comparison.fits and not skip_mismatch:
        unbuilt = [layer.name for group, layer in layout.plain.items() if not layer.built and stored[group]]
        if unbuilt:
            name = unbuilt[0] if model.built else model.name
            raise refuse_unbuilt(comparison, source, model.name, name)
        raise refuse(comparison, source, model.name)
    matched, aside = _Loading(layout, stored), []
    for group, layer in layout.plain.items():
        held = {f"{group}/{i}": variable for i, variable in enumerate(layer._file_variables())}
        if stored.fits(group, [variable.shape for variable in held.values()]):
            matched.add(held)
            continue
        aside += [
            Left(name=layout.paths[name], shape=variable.shape, why="another weight of its layer doesn't fit")
            for name, variable in held.items()
            if name in stored.arrays and tuple(stored.arrays[name].shape) == variable.shape
        ]
    notes = matched.load(model)
    report = comparison.report(source, model.name, matched.told(), aside=aside, left_out=stored.left_out)
    return dataclasses.replace(report, notes=tuple(notes))


class _Layout:
    """What a model has, by the groups of a file.

    Args:
        model: A layer or model.
    """

    def __init__(self, model: Layer) -> None:
        things = {group_of(place): thing for place, thing in places(model)}
        self.plain: dict[str, Layer] = {
            group: thing for group, thing in things.items() if _keeps_to_the_layout(thing)
        }
        self.custom: dict[str, Any] = {
            group: thing for group, thing in things.items() if group not in self.plain
        }
        self.paths = _paths(model, things)

    def wanted(self, stored: "_Stored") -> dict[str, tuple[int, ...]]:
        """The shapes that a file must have, by their names in it; a layer that loads itself must find something."""
        wanted = {
            f"{group}/{i}": variable.shape
            for group, layer in self.plain.items()
            for i, variable in enumerate(layer._file_variables())
        }
        for group, thing in self.custom.items():
            if isinstance(thing, Layer) and not stored[group]:
                wanted |= {f"{group}/{key}": np.shape(value) for key, value in own_values(thing).items()}
        return wanted


def _paths(model: Layer, things: dict[str, Any]) -> dict[str, str]:
    """What the model's account calls each array, each group and each layer that a file has by another name."""
    held = model.held_arrays() if hasattr(model, "held_arrays") else {}  # pyright: ignore[reportAttributeAccessIssue]
    known = {id(variable): path for path, (variable, blocks) in held.items() if not blocks}
    layers: dict[str, str] = {}
    found: dict[str, str] = {}
    for group, thing in things.items():
        variables = thing._file_variables() if isinstance(thing, Layer) else ()
        paths = [known.get(id(one)) or getattr(one, "variable", one).path for one in variables]
        found |= {f"{group}/{i}": path for i, path in enumerate(paths)}
        above = {path.rpartition("/")[0] for path in paths}
        if len(above) == 1:
            layers[group] = above.pop()
    taken = Counter(layers.values())
    layers |= {
        group: thing.path
        for group, thing in things.items()
        if isinstance(thing, Layer) and group not in layers and thing.path not in taken
    }
    taken = Counter(layers.values())
    for group, path in layers.items():
        if path and group != "vars" and taken[path] == 1:
            found |= {group: path, group.removesuffix("/vars"): path}
    return found


class _Stored:
    """The arrays of a file by their names, which the user may have given other ones.

    Args:
        store: The file.
        layout: The model's.
        name_map: What the user renames.
        source: The file's path, for messages.
    """

    def __init__(self, store: Store, layout: _Layout, name_map: Renaming, source: Any) -> None:
        self._layout = layout
        known = [group.removesuffix("vars").rstrip("/") for group in (*layout.plain, *layout.custom)]
        found = {
            f"{group_of(place)}/{key}": array
            for place in dict.fromkeys((*known, *store.groups()))
            for key, array in store.numbers(place).items()
        }
        renaming = _to_places(name_map, layout.paths)
        self.names = rename_all(found, renaming, source)
        self.left_out = left_out({name: tuple(array.shape) for name, array in found.items()}, renaming)
        self.arrays = {name: found[old] for name, old in self.names.items()}
        self._groups: dict[str, dict[str, h5py.Dataset]] = {}
        for name, array in self.arrays.items():
            group, _, key = name.rpartition("/")
            self._groups.setdefault(group, {})[key] = array

    def __getitem__(self, group: str) -> "dict[str, h5py.Dataset]":
        """The arrays of a group; none where there is no such group."""
        return self._groups.get(group, {})

    def fits(self, group: str, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether a group has arrays of these shapes, and no others."""
        found = self[group]
        return len(found) == len(shapes) and all(
            str(i) in found and tuple(found[str(i)].shape) == shape for i, shape in enumerate(shapes)
        )

    def of_layers(self) -> "dict[str, h5py.Dataset]":
        """The arrays that layers have as a rule: not those of an optimizer, of random numbers, of a metric."""
        return {
            f"{group}/{key}": array
            for group, found in self._groups.items()
            if group not in self._layout.custom
            and (group in self._layout.plain or _is_of_layer(group, found))
            for key, array in found.items()
        }


def _to_places(name_map: Renaming, paths: Mapping[str, str]) -> Renaming:
    """The same renaming, with the names that a file has where the user gave paths of the model."""
    known = {path: name for name, path in paths.items() if not name.endswith("/vars")}
    if name_map is None:
        return None
    if callable(name_map):
        return lambda name: known.get(new := name_map(name) or name, new)
    return {name: None if path is None else known.get(path, path) for name, path in name_map.items()}


def _is_of_layer(group: str, found: "dict[str, h5py.Dataset]") -> bool:
    """Whether what the model has no place for is of a layer, to judge by its name and its arrays."""
    if not {"optimizer", "metrics", "seed_generator"}.isdisjoint(group.split("/")):
        return False
    first = found.get("0")
    if first is None:
        return True
    counts_steps = first.shape == () and first.dtype.kind in "iu"  # an optimizer by another name
    is_seed = len(found) == 1 and first.shape == (2,) and first.dtype == np.uint32
    return not counts_steps and not is_seed


class _Loading:
    """What goes where, until all of it goes there.

    Args:
        layout: The model's.
        stored: The file's.
    """

    def __init__(self, layout: _Layout, stored: _Stored) -> None:
        self._layout, self._stored = layout, stored
        self._variables: dict[str, Any] = {}

    def add(self, variables: Mapping[str, Any]) -> None:
        """Set these, too; by their names in the file."""
        self._variables |= variables

    def told(self) -> Iterator[Match]:
        """A line for each variable that was set."""
        for name, variable in self._variables.items():
            yield Match(
                path=self._layout.paths[name],
                shape=variable.shape,
                sources=(self._stored.names[name],),
                by="place",
            )

    def load(self, model: Layer) -> list[str]:
        """Read all values, and then set them; what an optimizer keeps is left where it isn't this one's.

        Returns:
            What to know besides.
        """
        values = {name: _value(self._stored.arrays[name]) for name in self._variables}
        custom = [
            (thing, {key: _value(array) for key, array in found.items()})
            for group, thing in self._layout.custom.items()
            if (found := self._stored[group])
        ]
        _load_custom([pair for pair in custom if isinstance(pair[0], Layer)])
        for name, value in values.items():
            self._variables[name].assign(value)
        optimizer = getattr(model, "optimizer", None)
        notes: list[str] = []
        for thing, found in custom:
            if isinstance(thing, Layer):
                continue
            if thing is optimizer and not thing.built:
                thing.build(model.trainable_variables)
            if problem := _state_problem(thing, found):
                warnings.warn(problem, stacklevel=6)
                notes.append(problem)
            else:
                thing.load_own_variables(found)
        return notes


def _load_custom(pairs: Sequence[tuple[Layer, dict[str, np.ndarray]]]) -> None:
    """Let layers load what they store in a form of their own; if one can't, all are as they were."""
    before = [(variable, variable.raw) for layer, _ in pairs for variable in layer.variables]
    try:
        for layer, found in pairs:
            layer.load_own_variables(found)
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise


def _state_problem(thing: Any, found: Mapping[str, np.ndarray]) -> str | None:
    """What to say when a file's state of an optimizer isn't that of the model's."""
    if not hasattr(thing, "variables"):
        return None
    shapes = [tuple(variable.shape) for variable in thing.variables]
    said = f"The state of optimizer '{thing.name}' was not loaded: "
    if len(found) != len(shapes):
        return f"{said}it has {len(shapes):,} variables, the file {len(found):,}."
    for i, shape in enumerate(shapes):
        other = found[str(i)].shape if str(i) in found else "nothing"
        if other != shape:
            return f"{said}'{thing.variables[i].name}' is {shape}, the file has {other}."
    return None


def _keeps_to_the_layout(thing: Any) -> bool:
    return isinstance(thing, Layer) and type(thing).load_own_variables is Layer.load_own_variables


def _value(dataset: "h5py.Dataset") -> np.ndarray:
    value = np.asarray(dataset)
    if value.dtype.kind != "V":
        return value
    import jax.numpy as jnp

    return value.view(jnp.dtype(str(dataset.attrs["dtype"])))
