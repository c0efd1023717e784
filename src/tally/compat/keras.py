"""What scripts import as `keras` and as `tensorflow.keras`: this library's rooms under Keras's names."""

import importlib
import inspect
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import Any

from tally.compat.rooms import Room

VERSION = "3.15.1+tally"
"""The Keras whose names and numbers the rooms are compared with in the tests."""

_ROOMS = (
    *("activations", "applications", "backend", "callbacks", "config", "constraints", "datasets"),
    *("dtype_policies", "initializers", "layers", "losses", "metrics", "mixed_precision", "models", "ops"),
    *("optimizers", "random", "regularizers", "saving", "tree", "utils"),
)
_TOP = (
    *("DTypePolicy", "Initializer", "Input", "InputSpec", "KerasTensor", "Layer", "Loss", "Metric", "Model"),
    *("Optimizer", "Regularizer", "Sequential", "Variable", "name_scope"),
)
_ALSO_FROM = {
    "backend": ("tally.ops", "tally.core.dtype", "tally.core.naming"),
    "dtype_policies": ("tally.core.dtype",),
    "mixed_precision": ("tally.core.dtype",),
    "random": ("tally.core.random",),
    "saving": ("tally.core.registry",),
}
"""Rooms that pass on names of other rooms."""
_LAYER_FILES = (
    *("core", "convolutional", "pooling", "recurrent", "embeddings", "merge", "normalization"),
    *("advanced_activations", "wrappers", "noise", "local"),
)
_UTILITY_FILES = ("np_utils", "generic_utils")
"""Files of older Keras versions that scripts import layers and helpers from."""
_IMAGES = ("array_to_img", "image_dataset_from_directory", "img_to_array", "load_img", "save_img")


@cache
def keras(name: str = "keras") -> Room:
    """The module `keras`, under this name."""
    made = Room(name, lambda word: _top(name, word), lambda: (*_ROOMS, *_TOP, "preprocessing"), _everything)
    made.__version__ = VERSION  # type: ignore[attr-defined]
    return made


@cache
def _top(place: str, name: str) -> Any:
    if name in _ROOMS:
        return _room(f"{place}.{name}", f"tally.{name}")
    if name in _TOP:
        return getattr(importlib.import_module("tally"), name)
    if name == "preprocessing":
        return _preprocessing(f"{place}.preprocessing")
    if name == "engine":
        return _alias(f"{place}.engine", {word: f"tally.{word}" for word in ("Layer", "InputSpec", "Model")})
    raise KeyError(name)


@cache
def _room(name: str, module: str) -> Room:
    """A room of this library, with the names that are its own, and the rooms inside."""
    source = importlib.import_module(module)
    extra = _older(name, module)

    def find(word: str) -> Any:
        if word in extra:
            return extra[word]
        if not _is_public(source, word):
            raise KeyError(word)
        value = getattr(source, word)
        return _room(f"{name}.{word}", value.__name__) if inspect.ismodule(value) else value

    return Room(name, find, lambda: [*_public(source), *extra], _everything)


def _is_public(source: ModuleType, name: str) -> bool:
    listed = getattr(source, "__all__", None)
    if listed is not None:
        return name in listed
    if name.startswith("_") or not hasattr(source, name):
        return False
    value = getattr(source, name)
    if inspect.ismodule(value):
        return _is_part(source, value)
    homes = (source.__name__, *_ALSO_FROM.get(source.__name__.removeprefix("tally."), ()))
    return _home(value).startswith(homes) and not _home(value).startswith("tally.ops.definition")


def _home(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


_MODULES = {
    "tally.datasets": (
        *("boston_housing", "california_housing", "cifar10", "cifar100"),
        *("fashion_mnist", "imdb", "mnist", "reuters"),
    ),
    "tally.optimizers": ("schedules",),
    "tally.ops": ("image", "linalg", "nn", "numpy"),
}
"""Rooms whose parts Keras has as modules, too."""


def _is_part(source: ModuleType, value: ModuleType) -> bool:
    return value.__name__.rpartition(".")[2] in _MODULES.get(source.__name__, ())


def _public(source: ModuleType) -> list[str]:
    return [name for name in dir(source) if _is_public(source, name)] + [
        name for name in getattr(source, "__all__", ()) if name not in dir(source)
    ]


def _older(name: str, module: str) -> dict[str, Any]:
    """Names of older Keras versions in a room."""
    files = {"tally.layers": _LAYER_FILES, "tally.utils": _UTILITY_FILES}.get(module, ())
    return {word: _same_names(f"{name}.{word}", module) for word in files}


def _same_names(name: str, module: str) -> Room:
    """A file of older Keras versions: the names of the room it was in."""

    def find(word: str) -> Any:
        source = importlib.import_module(module)
        if not _is_public(source, word):
            raise KeyError(word)
        return getattr(source, word)

    return Room(name, find, lambda: _public(importlib.import_module(module)), _everything)


def _alias(name: str, paths: dict[str, str]) -> Room:
    """A module of some names that live elsewhere here; those that don't exist are unknown."""

    def find(word: str) -> Any:
        module, _, thing = paths[word].rpartition(".")
        source = importlib.import_module(module)
        if thing not in getattr(source, "__all__", dir(source)):
            raise KeyError(word)
        return getattr(source, thing)

    return Room(name, find, lambda: paths, _everything)


def _preprocessing(name: str) -> Room:
    parts = {
        "image": _alias(f"{name}.image", {word: f"tally.utils.{word}" for word in _IMAGES}),
        "sequence": _alias(f"{name}.sequence", {"pad_sequences": "tally.utils.pad_sequences"}),
    }
    return Room(name, parts.__getitem__, lambda: parts, _everything)


def _everything() -> Iterable[str]:
    for room in _ROOMS:
        yield from (f"keras.{room}.{name}" for name in _public(importlib.import_module(f"tally.{room}")))
    yield from (f"keras.{name}" for name in _TOP)
