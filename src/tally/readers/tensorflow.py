"""The account of a module of plain TensorFlow: what its attributes hold, layers of Keras among them."""

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

_MODULE = "tensorflow.python.module.module.Module"
_VARIABLE = "tensorflow.python.ops.variables.Variable"


def matches(thing: Any) -> bool:
    """Tell whether a thing is a `tf.Module`; TensorFlow is not imported for that.

    Example:
        >>> matches({})
        False
    """
    return is_of(thing, _MODULE)


def read(module: Any) -> Ledger:
    """Read the account of a module; nothing runs and no value is read.

    Args:
        module: A `tf.Module`.
    """
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
        held = {name: one for name, one in attributes_of(module).items() if not name.startswith("_self_")}
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
        for place, child in members(held, matches):
            self.visit(child, under(path, place))
        self.above.pop()


def _is_variable(thing: Any) -> bool:
    return is_of(thing, _VARIABLE)


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
