"""Names for axes that nobody named: a size is compared with the options of its layer and the shape of its input."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from tally.accounting.ledger import Entry, Owner


def named_axes(entry: Entry, owner: Owner) -> Entry:
    """Name what has no name where one thing alone has that size; where several have it, name them all.

    A name in parentheses says that it isn't certain: equal sizes can't be told apart by their numbers.

    Args:
        entry: A weight; axes that have a name keep it.
        owner: The layer that holds it, whose options and input are compared.

    Example:
        >>> layer = Owner(path="d", type="Linear", options=(("units", 5),), input_shapes=((None, 10),))
        >>> named_axes(Entry(path="d/w", owner="d", shape=(10, 5)), layer).axes
        ('input features', 'units')
        >>> square = Owner(path="d", type="Linear", options=(("units", 10),), input_shapes=((None, 10),))
        >>> named_axes(Entry(path="d/b", owner="d", shape=(10,)), square).axes
        ('(input features or units)',)
    """
    if all(entry.axes):
        return entry
    known: dict[int, list[str]] = {}
    for name, size in _sizes(owner):
        if size > 1 and name not in known.setdefault(size, []):
            known[size].append(name)
    axes = [
        name or _one_or_all(known.get(size, [])) for name, size in zip(entry.axes, entry.shape, strict=True)
    ]
    return replace(entry, axes=tuple(axes))


def _one_or_all(names: list[str]) -> str:
    return f"({' or '.join(names)})" if names[1:] else "".join(names)


def _sizes(owner: Owner) -> Iterator[tuple[str, int]]:
    """Every size that is known of a layer, with its name: the axes of its inputs, then its options."""
    for number, shape in enumerate(dict.fromkeys(owner.input_shapes), 1):
        which = "input" if number == 1 else f"input {number}"
        for axis, size in enumerate(shape):
            if axis and size is not None:
                yield f"{which} features" if axis == len(shape) - 1 else f"{which} axis {axis}", size
    for name, value in owner.options:
        for size in cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,):
            if type(size) is int:
                yield name.replace("_", " "), size
