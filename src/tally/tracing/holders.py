"""Where a layer is kept that tracking can't see: in a function, in a container, in an object, or nowhere."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tally.core import tracking
from tally.core.layer import Layer
from tally.core.variable import Variable

_DEPTH = 6
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_PLAIN = (str, bytes, bool, int, float, complex, type(None), np.generic, type, types.ModuleType, Variable)


class Holder(NamedTuple):
    """What keeps a layer out of sight.

    Args:
        code: The finding's code.
        told: How it is kept, in words.
        fix: What to write instead.
    """

    code: str
    told: str
    fix: str


def find_holder(layer: Layer, root: Layer, caller: Layer | None) -> Holder:
    """Say how a layer is kept, looking through what the root's layers hold, the caller first.

    Args:
        layer: The layer that was used.
        root: The model that doesn't hold it.
        caller: The layer in whose call it is used.
    """
    seen: set[int] = set()
    for one in dict.fromkeys((*((caller,) if caller is not None else ()), *root._flatten_layers())):
        for name, value in one._attributes().items():
            found = _look(value, layer, f"self.{name}", seen, _DEPTH)
            if found is not None:
                return found
        found = _in_function(type(one).call, layer, seen) if one is caller else None
        if found is not None:
            return found
    return Holder(
        "T106",
        "held where tracking can't see it",
        "keep it in an attribute of a layer, or in a list, tuple, dict, set, deque or dataclass there",
    )


def _look(value: Any, layer: Layer, place: str, seen: set[int], depth: int) -> Holder | None:
    """Search a value; the first thing on the way that tracking doesn't enter is what hides the layer."""
    if depth == 0 or isinstance(value, (*_PLAIN, Layer)) or id(value) in seen:
        return None
    seen.add(id(value))
    parts = tracking.parts(value)
    if parts is not None:
        for name, part in parts:
            if (found := _look(part, layer, f"{place}[{name}]", seen, depth - 1)) is not None:
                return found
        return None
    if isinstance(value, _FUNCTIONS):
        return _in_function(value, layer, seen)
    inside = list(_inside(value))
    if any(_holds(one, layer, set(), depth) for one in inside):
        kind = type(value).__name__
        if _is_container(value):
            told = f"held in an {_named(value)} at {place}, which tracking can't see into"
            return Holder("T105", told, f"make {place} a list: [...] in place of the {_named(value)}")
        told = f"held by {place}, an ordinary {kind} object"
        fix = f"make {kind} a tally.layers.Layer, or keep the layer in an attribute of this one"
        return Holder("T106", told, fix)
    return None


def _in_function(function: Any, layer: Layer, seen: set[int]) -> Holder | None:
    name = getattr(function, "__name__", "it is part of")
    if not any(_holds(value, layer, seen, _DEPTH) for value in _captured(function)):
        return None
    what = "a lambda function" if name == "<lambda>" else f"the function {name}"
    return Holder(
        "T104",
        f"captured by {what}, which owns nothing",
        "make a Layer of it: keep the inner layer in an attribute and call it in call",
    )


def _captured(function: Any) -> Iterator[Any]:
    """What a function closes over, takes as defaults, is bound to, or reads by name from its module."""
    if isinstance(function, functools.partial):
        yield from (function.func, *function.args, *function.keywords.values())
        return
    function = getattr(function, "__wrapped__", function)
    bound = getattr(function, "__self__", None)
    if bound is not None and not isinstance(bound, Layer):
        yield bound
    function = getattr(function, "__func__", function)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    around = getattr(function, "__globals__", {})
    yield from (around[name] for name in names if name in around)


def _holds(value: Any, layer: Layer, seen: set[int], depth: int) -> bool:
    if value is layer:
        return True
    if depth == 0 or isinstance(value, _PLAIN) or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, Layer):
        return layer in value._flatten_layers()
    parts = tracking.parts(value)
    inside = (part for _, part in parts) if parts is not None else _inside(value)
    return any(_holds(one, layer, seen, depth - 1) for one in inside)


def _inside(value: Any) -> Iterator[Any]:
    """What something holds that tracking doesn't enter."""
    if isinstance(value, np.ndarray):
        yield from value.ravel().tolist() if value.dtype == object else ()
    elif isinstance(value, types.GeneratorType):
        yield from (value.gi_frame.f_locals.values() if value.gi_frame is not None else ())
    elif isinstance(value, _FUNCTIONS):
        yield from _captured(value)
    else:
        yield from getattr(value, "__dict__", {}).values()
        yield from (getattr(value, name, None) for name in getattr(type(value), "__slots__", ()))
        if _is_container(value) and not isinstance(value, types.GeneratorType):
            try:
                yield from list(value.values() if isinstance(value, Mapping) else value)
            except Exception:  # something that only looks as if it could be gone through
                return


def _is_container(value: Any) -> bool:
    return isinstance(value, np.ndarray | types.GeneratorType) or (
        hasattr(type(value), "__iter__") and hasattr(type(value), "__len__")
    )


def _named(value: Any) -> str:
    return "object array" if isinstance(value, np.ndarray) else type(value).__name__
