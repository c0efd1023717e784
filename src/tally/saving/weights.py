"""Weights in HDF5, laid out as Keras 3 does: one group per layer, named by where the layer is held."""

import dataclasses
import functools
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np

from tally.core import tracking
from tally.core.errors import SavingError, nearest
from tally.core.layer import Layer
from tally.core.registry import snake_case
from tally.core.variable import Variable
from tally.saving.files import check_h5

_CONTAINERS = (list, tuple, dict, set, frozenset, deque, SimpleNamespace)
_GENERAL = (["tally", "core"], ["tally", "models"], ["tally", "training"])
"""Rooms whose classes say what every layer or model has, in contrast to what a particular one adds."""


def is_container(value: Any) -> bool:
    """Whether a value may hold layers in its parts."""
    return isinstance(value, _CONTAINERS) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def places(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """`(group, layer)` for a layer and all below it, each once: the places Keras 3 gives them in a file."""
    seen: set[int] = set()

    def walk(one: Layer, path: str) -> Iterator[tuple[str, Layer]]:
        if id(one) in seen:
            return
        seen.add(id(one))
        yield path, one
        for name, held in _held(one):
            yield from into(held, f"{path}/{name}" if path else name)

    def into(held: Any, path: str) -> Iterator[tuple[str, Layer]]:
        if isinstance(held, Layer):
            yield from walk(held, path)
            return
        used: dict[str, int] = {}
        for _, item in tracking.parts(held) or ():
            if isinstance(item, Layer):
                yield from walk(item, f"{path}/{_unique(snake_case(type(item).__name__), used)}")
            elif is_container(item):
                yield from into(item, f"{path}/{_unique('container', used)}")

    yield from walk(layer, "")


def _held(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Attributes that may hold layers: a graph's layers first, then by name, private names last."""
    graph_or_stack = getattr(layer, "file_layers", lambda: None)()
    if graph_or_stack is not None:
        yield "layers", graph_or_stack
    everything = {**layer._attributes(), **{name: getattr(layer, name, None) for name in _properties(type(layer))}}
    attributes = {
        name: value for name, value in everything.items() if isinstance(value, Layer) or is_container(value)
    }
    if graph_or_stack is None and hasattr(layer, "get_layer"):  # a subclassed model lists its layers, too
        attributes["layers"] = list(dict.fromkeys(child for _, child in layer._children()))
    for name in sorted(attributes, key=lambda word: (word.startswith("_"), word)):
        yield name, attributes[name]


@functools.cache
def _properties(cls: type) -> frozenset[str]:
    """Properties that a class adds to those every layer and model has; one of them may be a layer's public name."""
    added = {
        name
        for base in cls.__mro__
        if base.__module__.split(".")[:2] not in _GENERAL
        for name, value in vars(base).items()
        if isinstance(value, (property, functools.cached_property))
    }
    return frozenset(added)


def _unique(name: str, used: dict[str, int]) -> str:
    number = used.get(name, 0)
    used[name] = number + 1
    return f"{name}_{number}" if number else name


def write_weights(file: h5py.File, model: Layer) -> None:
    """Write every layer's variables, and the optimizer's of a compiled model."""
    model.materialize()
    for path, layer in places(model):
        _write_group(file, path, layer.name, _stored(layer))
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and getattr(optimizer, "built", False):
        values = {str(i): np.asarray(variable.value) for i, variable in enumerate(optimizer.variables)}
        _write_group(file, "optimizer", optimizer.name, values)


def _stored(layer: Layer) -> dict[str, Any]:
    save = getattr(layer, "save_own_variables", None)
    if save is not None:
        store: dict[str, Any] = {}
        save(store)
        return store
    return {str(i): variable for i, variable in enumerate(layer._own_variables())}


def _write_group(file: h5py.File, path: str, name: str, values: dict[str, Any]) -> None:
    group = file.create_group(f"{path}/vars" if path else "vars")
    group.attrs["name"] = name
    for key, value in values.items():
        array = value.numpy() if isinstance(value, Variable) else np.asarray(value)
        dtype = array.dtype.name
        if dtype in (
            "bfloat16",
            "float8_e4m3fn",
            "float8_e5m2",
            "int4",
        ):  # HDF5 has no such types; Keras marks them so
            dataset = group.create_dataset(
                key,
                data=np.frombuffer(array.tobytes(), dtype="uint8")
                .reshape(*array.shape, -1)
                .view(f"V{array.dtype.itemsize}")[..., 0]
                if array.size
                else array.astype("float32"),
            )
            dataset.attrs["dtype"] = dtype
        else:
            group.create_dataset(key, data=array)


def read_weights(file: h5py.File, model: Layer, *, skip_mismatch: bool = False) -> list[str]:
    """Read every layer's variables. Everything is compared first; if something doesn't fit, nothing is changed.

    Args:
        file: An open file in the layout of Keras 3.
        model: A built layer or model.
        skip_mismatch: Leave layers that don't fit as they are, and say which.

    Returns:
        What was skipped, a line each.

    Raises:
        SavingError: A layer's weights are missing in the file, or have other shapes.
    """
    wrong: list[str] = []
    assignments: list[tuple[Variable, h5py.Dataset]] = []
    custom: list[tuple[Layer, dict[str, Any]]] = []
    known = list(places(model))
    for path, layer in known:
        group = _group(file, f"{path}/vars" if path else "vars")
        found = _datasets(group) if group is not None else {}
        variables = layer._own_variables()
        problem = None
        if hasattr(layer, "load_own_variables"):
            if found:
                custom.append((layer, found))
            continue
        if len(found) != len(variables):
            problem = _count_problem(file, path, layer, len(found), known)
        else:
            for i, variable in enumerate(variables):
                shape = tuple(found[str(i)].shape) if str(i) in found else None
                if shape != variable.shape:
                    problem = (
                        f"{layer.name}: '{variable.name}' has shape {variable.shape}, the file has {shape}"
                    )
                    break
        if problem:
            wrong.append(problem)
        else:
            assignments.extend((variable, found[str(i)]) for i, variable in enumerate(variables))
    if wrong and not skip_mismatch:
        raise SavingError(
            f"The weights in {file.filename} don't fit '{model.name}': {wrong[0]}"
            + (f", and {len(wrong) - 1} more layers." if len(wrong) > 1 else "."),
            where="; ".join(wrong[1:6]),
            do="build the model the file was made from, or pass skip_mismatch=True; nothing was changed",
        )
    for variable, dataset in assignments:
        variable.assign(_value(dataset))
    for layer, found in custom:
        layer.load_own_variables({key: _value(dataset) for key, dataset in found.items()})  # type: ignore[attr-defined]
    _read_optimizer(file, model)
    return wrong


def _read_optimizer(file: h5py.File, model: Any) -> None:
    optimizer = getattr(model, "optimizer", None)
    group = _group(file, "optimizer/vars")
    if optimizer is None or group is None:
        return
    if not getattr(optimizer, "built", False):
        optimizer.build(model.trainable_variables)
    found = _datasets(group)
    variables = list(optimizer.variables)
    if len(found) != len(variables) or any(
        tuple(found[str(i)].shape) != v.shape for i, v in enumerate(variables)
    ):
        import warnings

        warnings.warn(
            f"The optimizer state in {file.filename} is another optimizer's ({len(found)} variables for {len(variables)}); "
            "the weights were read, the optimizer starts anew.",
            stacklevel=5,
        )
        return
    for i, variable in enumerate(variables):
        variable.assign(_value(found[str(i)]))


def _count_problem(
    file: h5py.File, path: str, layer: Layer, count: int, known: list[tuple[str, Layer]]
) -> str:
    if not layer.built and count:
        return f"{layer.name} is not built, the file has {count} weights for it"
    if count == 0:
        inside = [name for name in _paths(file) if name not in {place for place, _ in known}]
        return f"the file has nothing at '{path}' for {layer.name}{nearest(path, inside)}"
    return f"{layer.name} has {len(layer._own_variables())} weights, the file has {count}"


def _paths(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(lambda name: names.append(name.removesuffix("/vars")) if name.endswith("/vars") else None)
    return names


def _group(file: h5py.File, path: str) -> h5py.Group | None:
    """A group by its path, followed step by step so that no link leads out of the file."""
    here: Any = file
    for part in path.split("/"):
        link = here.get(part, getlink=True) if part in here else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise SavingError(
                f"'{path}' in {file.filename} is a link to somewhere else.", do="don't trust this file"
            )
        here = here[part]
        if not isinstance(here, h5py.Group):
            return None
    return here


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    for key in group:
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise SavingError(
                f"'{group.name}/{key}' in {group.file.filename} is a link.", do="don't trust this file"
            )
        thing = group[key]
        if isinstance(thing, h5py.Dataset):
            check_h5(thing, f"{group.name}/{key}")
            found[str(key)] = thing
    return found


def _value(dataset: h5py.Dataset) -> np.ndarray:
    dtype = dataset.attrs.get("dtype")
    value = np.asarray(dataset)
    if dtype is not None and value.dtype.kind == "V":
        import jax.numpy as jnp

        return value.view(jnp.dtype(str(dtype)))
    return value
