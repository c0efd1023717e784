"""What scripts import as `tensorflow`: functions with TensorFlow's names, arguments and meaning, one file a family."""

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any

from tally.compat.keras import keras
from tally.compat.names import NAMES, put
from tally.compat.rooms import Room

VERSION = "2.21.0+tally"
"""The TensorFlow that the functions are compared with in the tests."""

_FAMILIES = (
    *("making", "elementwise", "reducing", "shaping", "picking", "products", "nn", "convolution"),
    *("images", "drawing", "control", "variables", "tape", "system", "data"),
)
_FROM_KERAS = ("initializers", "losses", "metrics", "optimizers")
"""Rooms that TensorFlow has at its top, too."""


@cache
def tensorflow() -> Room:
    """The module `tensorflow`."""
    importlib.import_module("tally.compat.tensors")
    for family in _FAMILIES:
        importlib.import_module(f"tally.compat.tensorflow.{family}")
    put("keras", keras("tensorflow.keras"))
    for word in _FROM_KERAS:
        put(word, getattr(keras("tensorflow.keras"), word))
    put("version.VERSION", VERSION)
    made = _room("")
    made.__version__ = VERSION  # type: ignore[attr-defined]
    return made


@cache
def _room(path: str) -> Room:
    """The module at a dotted path below `tensorflow`."""

    def find(name: str) -> Any:
        full = f"{path}.{name}" if path else name
        return _room(full) if full not in NAMES and _below(full) else NAMES[full]

    return Room(f"tensorflow.{path}".rstrip("."), find, lambda: _below(path), _everything)


def _below(path: str) -> list[str]:
    """The names directly inside a module."""
    start = f"{path}." if path else ""
    inside = (name.removeprefix(start) for name in NAMES if name.startswith(start))
    return list(dict.fromkeys(name.partition(".")[0] for name in inside))


def _everything() -> Iterable[str]:
    return (f"tensorflow.{name}" for name in NAMES)
