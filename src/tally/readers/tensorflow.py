"""The account of what plain TensorFlow has: a module by what its attributes hold, and a SavedModel that was loaded."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tally.accounting.ledger import Ledger
from tally.readers import keras
from tally.readers.parts import (
    Array,
    Part,
    assemble,
    attributes_of,
    class_of,
    dtype_of,
    is_of,
    line_of,
    members,
    recognised,
    sizes_of,
    under,
)
from tally.readers.pytree import TENSORFLOW_VARIABLE, Leaf, of_leaves

_MODULE = "tensorflow.python.module.module.Module"
_LOADED = ("_UserObject", "AutoTrackable")
"""What `tf.saved_model.load` makes of a SavedModel, and of one of TensorFlow 1."""


def matches(thing: Any) -> bool:
    """Tell whether a thing is a `tf.Module`, or what `tf.saved_model.load` gives; TensorFlow is not imported for that.

    Example:
        >>> matches({})
        False
    """
    return _is_module(thing) or _is_loaded(thing)


def read(module: Any) -> Ledger:
    """Read the account of a module or of a SavedModel that was loaded; nothing runs and no value is read.

    Args:
        module: A `tf.Module`, or what `tf.saved_model.load` gave.
    """
    if _is_loaded(module):
        leaves = [
            Leaf(tuple(name.split("/")), one) for name, one in _called(list(_once(list(_variables(module)))))
        ]
        return of_leaves(leaves, name="SavedModel", source="TensorFlow SavedModel")
    walk = _Walk()
    walk.visit(module, "")
    return assemble(walk.parts, name=str(module.name), source="TensorFlow module")


@dataclass
class _Walk:
    """One way through a module, from the outside in."""

    parts: list[Part] = field(default_factory=lambda: list[Part]())
    places: dict[int, str] = field(default_factory=lambda: dict[int, str]())
    above: list[Any] = field(default_factory=lambda: list[Any]())

    def visit(self, module: Any, path: str) -> None:
        """List a module, the variables it holds itself, and the modules inside."""
        if any(module is one for one in self.above):
            return
        if keras.matches(module):
            self.parts += keras.parts_of(module, path)
            return
        held = _held(module)
        part = Part(
            path=path,
            type=type(module).__name__,
            builtin=False,
            name="" if path else str(module.name),
            module=type(module).__module__,
            options=sizes_of(module),
            origin=line_of(class_of(module)),
            shared_with=self.places.get(id(module)),
        )
        self.places.setdefault(id(module), path)
        part.arrays = list(_named(part, [_array(*one) for one in members(held, _is_variable)]))
        self.parts.append(part)
        self.above.append(module)
        for place, child in members(held, _is_module):
            self.visit(child, under(path, place))
        self.above.pop()


def _is_module(thing: Any) -> bool:
    return is_of(thing, _MODULE)


def _is_loaded(thing: Any) -> bool:
    kind = class_of(thing)
    return kind.__name__ in _LOADED and kind.__module__.startswith("tensorflow.")


def _is_variable(thing: Any) -> bool:
    return is_of(thing, TENSORFLOW_VARIABLE)


def _held(thing: Any) -> dict[str, Any]:
    """The attributes of an object that are the user's, and not what TensorFlow keeps beside them."""
    return {name: one for name, one in attributes_of(thing).items() if not name.startswith("_self_")}


def _array(place: str, variable: Any) -> Array:
    return Array(
        name=place.replace("/", "."),
        place=place,
        shape=tuple(variable.shape),
        dtype=dtype_of(variable) or "float32",
        state="trainable" if variable.trainable else "state",
        of=id(variable),
    )


def _named(part: Part, arrays: list[Array]) -> Iterator[Array]:
    found = recognised((part.type, part.path), arrays, "keras")
    for array in arrays:
        yield replace(array, axes=found.axes.get(array.name, ())) if found is not None else array


# -- a SavedModel that was loaded ----------------------------------------------------------------------------------
def _variables(loaded: Any) -> Iterator[tuple[str, Any]]:
    """Each variable once, with the place where it stands first: an object's own before those of the objects inside."""
    waiting: list[tuple[str, Any]] = [("", loaded)]
    seen: set[int] = set()
    while waiting:
        place, one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        inside: list[tuple[str, Any]] = []
        for name, found in members(_held(one), lambda thing: _is_variable(thing) or _is_loaded(thing)):
            if not _is_variable(found):
                inside.append((under(place, name), found))
            elif id(found) not in seen:
                seen.add(id(found))
                yield under(place, name), found
        waiting += reversed(inside)


def _once(found: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Leave out the second copy of each variable that an export of Keras keeps under `_all_variables`."""
    first = Counter(_known_by(one) for place, one in found if not place.startswith(_COPIES))
    for place, variable in found:
        one = _known_by(variable)
        if place.startswith(_COPIES) and first[one]:
            first[one] -= 1
        else:
            yield place, variable


_COPIES = "_all_variables/"


def _known_by(variable: Any) -> tuple[str, str, str]:
    return str(variable.name), str(variable.shape), str(variable.dtype)


def _called(found: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Name each variable as the account of the files does: as in the program if that tells its layer, or by its place.

    What an optimizer keeps stands under that word, which says what it is.
    """
    own = [str(variable.name).partition(":")[0] for _, variable in found]
    often = Counter(own)
    for (place, variable), name in zip(found, own, strict=True):
        called = name if "/" in name and often[name] == 1 else place
        yield f"optimizer/{called}" if "optimizer" in place.split("/") else called, variable
