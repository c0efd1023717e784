"""Finding the variables and layers an object holds, wherever the user put them; nothing is wrapped or copied."""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

_CONTAINERS = (dict, list, tuple, deque, set, frozenset, SimpleNamespace)
_LEAVES = (str, bytes, bool, int, float, complex, type(None), np.ndarray, np.generic, jax.Array, type)


def parts(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The named parts of a container, or None when the value is no container that tracking sees into.

    Seen into: list, tuple, dict, set, deque (and their subclasses), dataclasses, `SimpleNamespace`.
    """
    if isinstance(value, dict):
        return zip(list(map(str, value)), list(value.values()), strict=True)
    if isinstance(value, (list, tuple, deque)):
        names = getattr(value, "_fields", None)  # a named tuple's own words
        return zip(names or map(str, range(len(value))), list(value), strict=True)
    if isinstance(value, (set, frozenset)):
        # A set has no order of its own; the order things were made in is the same in every run.
        ordered = sorted((item for item in value if hasattr(item, "number")), key=lambda item: item.number)
        return ((str(i), item) for i, item in enumerate(ordered))
    if isinstance(value, SimpleNamespace):
        return iter(list(vars(value).items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return None


@functools.lru_cache(4096)
def _is_leaf(kind: type) -> bool:
    return issubclass(kind, _LEAVES)


@functools.lru_cache(4096)
def _has_parts(kind: type) -> bool:
    """Whether values of a type are containers, told once for all of them: most attributes are none."""
    return issubclass(kind, _CONTAINERS) or dataclasses.is_dataclass(kind)


def find(root: Any, wanted: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(place, thing)` for everything wanted in a container, nested to any depth, each once.

    Args:
        root: A container; usually the attributes of a layer.
        wanted: Says which values to yield; they are not looked into.
        prefix: Place of `root` itself.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter(((prefix, root),)))]
    while waiting:
        around, items = waiting[-1]
        for name, value in items:
            kind = type(value)
            if _is_leaf(kind):
                continue
            is_wanted = wanted(value)
            if not (is_wanted or _has_parts(kind)) or id(value) in seen:
                continue
            seen.add(id(value))
            place = f"{around}/{name}" if around else name
            if is_wanted:
                yield place, value
            elif (inside := parts(value)) is not None:
                waiting.append((place, inside))
                break
        else:
            waiting.pop()
