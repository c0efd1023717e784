"""The way through a module of Flax or Equinox: what it is, the arrays it holds, the modules inside."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

from tally.readers.leaves import Axes
from tally.readers.parts import Array, Kind, Part, class_of, line_of, recognised, sizes_of, under

Kinds: TypeAlias = Mapping[str, Kind | Callable[[Any], Kind]]
"""What is known of a library's classes, each by its name, or a function of the layer that gives it."""


class Walk:
    """One way through a module, from the outside in; a reader says what a module holds, and what of that is arrays."""

    library: ClassVar[str]
    """Where the library's own classes are: what their modules begin with."""
    layers: ClassVar[str]
    """The same of those of which something is known."""
    layout: ClassVar[str]
    """In which order the axes of a kernel lie."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.parts: list[Part] = []
        self.places: dict[int, str] = {}
        self.above: list[Any] = []

    def held(self, module: Any) -> Iterator[tuple[str, Any]]:
        """Each array, or what holds some, and each module inside, with its place."""
        raise NotImplementedError

    def arrays(self, place: str, thing: Any) -> Iterator[Array] | None:
        """The arrays of a thing that a module holds; None for a module."""
        raise NotImplementedError

    def named(self, part: Part, known: Mapping[str, Axes]) -> Iterator[Array]:
        """The arrays of a layer with the names of their axes, where those fit."""
        for array in part.arrays:
            axes = known.get(array.name, ())
            yield replace(array, axes=axes) if len(axes) == len(array.shape) else array

    def visit(self, module: Any, path: str) -> None:
        """List a module, its arrays, and the modules inside."""
        if any(module is one for one in self.above):
            return
        kind = self._kind(module)
        part = self._part(module, path, kind)
        part.shared_with = self.places.get(id(module))
        self.places.setdefault(id(module), path)
        self.parts.append(part)
        self.above.append(module)
        inside: list[tuple[str, Any]] = []
        for place, thing in self.held(module):
            arrays = self.arrays(place, thing)
            if arrays is None:
                inside.append((place, thing))
            else:
                part.arrays += arrays
        part.arrays = list(self.named(part, self._axes(module, part, kind)))
        for place, child in inside:
            self.visit(child, under(path, place))
        self.above.pop()

    def _kind(self, module: Any) -> Kind | None:
        """What is known of a module's class, or of the class of the library that it comes from."""
        for own in type(module).__mro__:
            if own.__module__.startswith(self.layers) and own.__name__ in self.kinds:
                found = self.kinds[own.__name__]
                return found if isinstance(found, Kind) else found(module)
        return None

    def _axes(self, module: Any, part: Part, kind: Kind | None) -> Mapping[str, Axes]:
        """The names of the axes of a module's arrays, known by its class or recognised by their names and shapes."""
        if kind is not None and (known := kind.axes_of(module)):
            return known
        found = recognised((type(module).__name__, part.path), part.arrays, self.layout)
        return found.axes if found is not None else {}

    def _part(self, module: Any, path: str, kind: Kind | None) -> Part:
        own = class_of(module)
        builtin = own.__module__.startswith(self.library)
        return Part(
            path=path,
            name="" if path else own.__name__,
            type=kind.type if kind is not None and builtin else own.__name__,
            builtin=builtin,
            module=own.__module__,
            options=kind.options_of(module) if kind is not None else () if builtin else sizes_of(module),
            origin=None if builtin else line_of(own),
        )
