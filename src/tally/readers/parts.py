"""What the readers of live objects have in common: layers with their arrays, put together into a ledger."""

import functools
import inspect
import os
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeAlias, cast

from tally.accounting.ledger import Entry, Ledger, Owner, Shape, State, Status
from tally.formats.tensor import Tensor
from tally.readers.leaves import Axes, Group, Layer, recognise

Options: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """One array of a live layer, without its values.

    Args:
        name: What its layer calls it.
        shape: Its dimensions.
        dtype: The type of an element.
        state: What training does with it.
        of: What it is one with: arrays that have the same here are counted once. None where it is alone.
        place: Its path below its layer; its name unless given.
        axes: A name for each dimension, or nothing.
        stored: The bytes it takes, where these aren't those of its elements.
        note: What is wrong with it, of an untracked one.
        inside: Whether it is a part of what it is one with, which then counts, wherever it stands.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    state: State = "trainable"
    of: Any = None
    place: str = ""
    axes: Axes = ()
    stored: int | None = None
    note: str | None = None
    inside: bool = False


@dataclass(slots=True, kw_only=True)
class Part:
    """One layer of a live model.

    Args:
        path: Its place in the model; `""` is the model itself.
        type: The class that tally has for it, or its own.
        builtin: Whether a library made the class, and it is known what it does.
        name: Its name.
        module: The module of its class.
        arrays: What it holds itself.
        options: What enters its formula.
        waits: Whether it will make arrays once it sees an input.
        switched_off: Whether it, with all inside, was told not to learn.
        notes: Sentences for the reader.
        origin: The line of its class or of its making.
        shared_with: The path that lists the same layer first.
        input_shapes: The shape of each input, the batch first.
        output_shapes: The same of each output.
        inputs: The paths of what feeds it.
    """

    path: str
    type: str
    builtin: bool = True
    name: str = ""
    module: str = ""
    arrays: list[Array] = field(default_factory=lambda: list[Array]())
    options: Options = ()
    waits: bool = False
    switched_off: bool = False
    notes: tuple[str, ...] = ()
    origin: str | None = None
    shared_with: str | None = None
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    inputs: tuple[str, ...] = ()


def assemble(parts: Sequence[Part], *, name: str, source: str) -> Ledger:
    """Put the layers of a model into a ledger: each array once, each layer with its state.

    Args:
        parts: The layers, each before those inside it.
        name: What the model is called.
        source: What it is, such as `"PyTorch model"`.

    Example:
        >>> weight = Array(name="weight", shape=(2, 2), dtype="float32", of=1)
        >>> parts = [Part(path=path, type="Dense", arrays=[weight]) for path in ("a", "b")]
        >>> ledger = assemble(parts, name="tied", source="PyTorch model")
        >>> ledger.total, ledger.entries[1].shared_with
        (4, 'a/weight')
    """
    placed = list(_placed(parts))
    homes = _homes(placed)
    switches = {part.path for part in parts if part.switched_off}
    status = _statuses(parts)
    return Ledger(
        name=name,
        source=source,
        owners=tuple(_owner(part, status[part.path]) for part in parts),
        entries=tuple(
            _entry(path, part, array, homes.get(array.of), switches) for path, part, array in placed
        ),
    )


_Placed: TypeAlias = tuple[str, Part, Array]


def _placed(parts: Sequence[Part]) -> Iterator[_Placed]:
    """Each array with its path, no two the same; what an optimizer keeps comes last."""
    taken: set[str] = set()
    held = [(part, array) for part in parts for array in part.arrays]
    for last in (False, True):
        for part, array in held:
            if (array.state == "optimizer") is not last:
                continue
            first = path = under(part.path, array.place or array.name)
            number = 1
            while path in taken:
                path, number = f"{first}_{number}", number + 1
            taken.add(path)
            yield path, part, array


def _homes(placed: Sequence[_Placed]) -> dict[Any, str]:
    """Where the scalars of arrays that are one are counted: in the first layer that is known to work with them.

    So a model that keeps an embedding's table as an attribute of its own, too, doesn't take it away from the embedding;
    and what is a part of a larger array is counted there.
    """
    homes: dict[Any, str] = {}
    for path, _, array in sorted(placed, key=lambda one: (one[2].inside, not any(one[2].axes))):
        if array.of is not None:
            homes.setdefault(array.of, path)
    return homes


def _entry(path: str, part: Part, array: Array, home: str | None, switches: set[str]) -> Entry:
    by = _switch(part.path, switches) if array.state == "frozen" else None
    return Entry(
        path=path,
        owner=part.path,
        name=array.name,
        shape=array.shape,
        axes=array.axes if len(array.axes) == len(array.shape) else (),
        dtype=array.dtype,
        state=array.state,
        frozen_by=by,
        shared_with=None if home in (None, path) else home,
        note=array.note,
        stored=array.stored,
    )


def _switch(path: str, switches: set[str]) -> str | None:
    """The outermost layer around a place that was switched off."""
    if "" in switches:
        return ""
    parts = path.split("/")
    above = ("/".join(parts[:size]) for size in range(1, len(parts) + 1))
    return next((place for place in above if place in switches), None)


def _statuses(parts: Sequence[Part]) -> dict[str, Status]:
    """Whether each layer's weights exist, those of the layers inside it included."""
    holds = {part.path for part in parts if any(a.state not in _ASIDE for a in part.arrays)}
    waits = {part.path for part in parts if part.waits}
    for found in (holds, waits):
        for path in list(found):
            while path:
                path = path.rpartition("/")[0]
                found.add(path)
    return {
        part.path: "unbuilt" if part.path in waits else "built" if part.path in holds else "no weights"
        for part in parts
    }


_ASIDE = ("untracked", "seed", "optimizer")


def _owner(part: Part, status: Status) -> Owner:
    return Owner(
        path=part.path,
        name=part.name,
        type=part.type,
        module=part.module,
        builtin=part.builtin,
        status=status,
        input_shapes=part.input_shapes,
        output_shapes=part.output_shapes,
        options=part.options,
        origin=part.origin,
        shared_with=part.shared_with,
        inputs=part.inputs,
        notes=part.notes,
    )


def under(path: str, place: str) -> str:
    """The path of a place inside another.

    Example:
        >>> under("", "head"), under("blocks", "0")
        ('head', 'blocks/0')
    """
    return f"{path}/{place}" if path else place


# -- what kind of layer it is --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a class of layers.

    Args:
        type: What tally calls it.
        options: What enters its formula: tally's word, and the attribute, or a function of the layer.
        axes: A name for each axis of its arrays.
    """

    type: str
    options: Mapping[str, str | Callable[[Any], Any]] = field(default_factory=lambda: MappingProxyType({}))
    axes: Mapping[str, Axes] | Callable[[Any], Mapping[str, Axes]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def options_of(self, layer: Any) -> Options:
        """The options of a layer of this class, those that are plain."""
        read = (
            (word, what(layer) if callable(what) else getattr(layer, what, None))
            for word, what in self.options.items()
        )
        return tuple((word, found) for word, value in read if (found := plain(value)) is not None)

    def axes_of(self, layer: Any) -> Mapping[str, Axes]:
        """The names of the axes of a layer of this class."""
        return self.axes(layer) if callable(self.axes) else self.axes


def plain(value: Any) -> Any:
    """Numbers, words and tuples of them as they are, a function by its name, anything else as None.

    Example:
        >>> plain([3, 3]), plain(len), plain(object())
        ((3, 3), 'len', None)
    """
    if isinstance(value, bool | str | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        items = tuple(plain(item) for item in cast("Sequence[Any]", value))
        return None if None in items or len(items) > _MOST_ITEMS else items
    name = getattr(value, "__name__", None) if callable(value) else None
    return name if isinstance(name, str) and name.isidentifier() else None


_MOST_ITEMS, _MOST_SIZES = 16, 32


def sizes_of(layer: Any) -> Options:
    """The whole numbers among the attributes of a layer of the user's own: what its shapes are likely made of."""
    held: dict[str, Any] = getattr(layer, "__dict__", {})
    found = [
        (name, value)
        for name, value in held.items()
        if type(value) is int and not name.startswith("_") and not name.endswith(("_idx", "_index", "_id"))
    ]
    return tuple(found[:_MOST_SIZES])


def recognised(words: Sequence[str], arrays: Sequence[Array], layout: str) -> Layer | None:
    """What some arrays make by their names and shapes; None where that isn't known.

    Args:
        words: Names that may tell what it is, such as that of its class, the best first.
        arrays: The arrays of one layer.
        layout: In which order the axes of a kernel lie.

    Example:
        >>> arrays = [Array(name="weight", shape=(5, 10), dtype="float32")]
        >>> recognised(["MyLinear"], arrays, "torch").axes["weight"]
        ('units', 'features')
    """
    tensors = {
        array.name: Tensor(name=array.name, shape=array.shape, dtype=array.dtype, stored=0)
        for array in arrays
    }
    for word in words:
        found = recognise(Group(word, tensors, layout=layout)) if tensors else None
        if found is not None and found.type != "unknown":
            return found
    return None


# -- what objects hold ---------------------------------------------------------------------------------------------
def class_of(thing: Any) -> type[Any]:
    """The class of a thing."""
    return cast("type[Any]", thing.__class__)


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes that a thing holds itself."""
    return dict(getattr(thing, "__dict__", {}))


def is_of(thing: Any, *names: str) -> bool:
    """Tell whether a thing's class, or one that it comes from, has a name; nothing is imported for that.

    Args:
        thing: Any object.
        names: Modules and classes such as `"torch.nn.modules.module.Module"`; a module may end early: what is
            inside `"keras"` is `"keras.*.Layer"`.

    Example:
        >>> is_of(deque(), "collections.deque"), is_of(deque(), "keras.*.Layer"), is_of(True, "builtins.int")
        (True, False, True)
    """
    return any(_is_called(kind, name) for kind in type(thing).__mro__ for name in names)


def _is_called(kind: type, name: str) -> bool:
    module, _, last = name.rpartition(".")
    if kind.__name__ != last:
        return False
    if module.endswith(".*"):
        return f"{kind.__module__}.".startswith(module[:-1])
    return kind.__module__ == module


def parts_inside(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The named parts of a list, tuple, dict, set, deque, dataclass or namespace; None for anything else.

    Example:
        >>> list(parts_inside({"a": 1})), parts_inside(3)
        ([('a', 1)], None)
    """
    if isinstance(value, Mapping):
        return ((str(key), one) for key, one in list(cast("Mapping[Any, Any]", value).items()))
    if isinstance(value, list | tuple | deque):
        held = list(cast("Sequence[Any]", value))
        names: Sequence[str] = getattr(cast("Any", value), "_fields", None) or [*map(str, range(len(held)))]
        return iter(list(zip(names, held, strict=False)))
    if isinstance(value, SimpleNamespace):
        return iter(list(vars(value).items()))
    if is_dataclass(value) and not isinstance(value, type):
        return ((one.name, getattr(value, one.name, None)) for one in fields(value))
    return None


def members(
    held: Mapping[str, Any], wanted: Callable[[Any], bool], most: int = 1_000_000
) -> Iterator[tuple[str, Any]]:
    """Yield each thing that is wanted among attributes, however deep in containers, with its place.

    Args:
        held: The attributes.
        wanted: Says which values to yield; they are not looked into.
        most: How many values are looked at.

    Example:
        >>> list(members({"a": [1, {"b": "x"}], "c": "y"}, lambda value: isinstance(value, str)))
        [('a/1/b', 'x'), ('c', 'y')]
    """
    waiting: list[tuple[str, Any]] = [(name, value) for name, value in reversed(list(held.items()))]
    around: set[int] = set()
    while waiting and most:
        place, value = waiting.pop()
        most -= 1
        if wanted(value):
            yield place, value
            continue
        inside = None if id(value) in around else parts_inside(value)
        if inside is not None:
            around.add(id(value))
            waiting.extend(reversed([(under(place, name), one) for name, one in inside]))


def is_array(thing: Any) -> bool:
    """Tell whether a thing is an array of numbers, of whatever library: it has a shape and a type of elements."""
    shape, dtype = getattr(thing, "shape", None), getattr(thing, "dtype", None)
    if dtype is None or isinstance(thing, type):
        return False
    if is_of(shape, _TENSORFLOW_SHAPE):
        return bool(cast("Any", shape).is_fully_defined()) and dtype_of(thing) is not None
    if not isinstance(shape, tuple):
        return False
    return all(type(size) is int for size in cast("tuple[Any, ...]", shape)) and dtype_of(thing) is not None


_TENSORFLOW_SHAPE = "tensorflow.python.framework.tensor_shape.TensorShape"


def shape_of(thing: Any) -> tuple[int, ...]:
    """The dimensions of an array; a random key of JAX has one more, for the numbers that it is."""
    shape = tuple(int(size) for size in thing.shape)
    return (*shape, thing.dtype.itemsize // 4) if is_key(thing) else shape


def is_key(thing: Any) -> bool:
    """Tell whether an array holds random keys of JAX."""
    return str(getattr(thing, "dtype", "")).startswith("key<")


def dtype_of(thing: Any) -> str | None:
    """The type of an array's elements as a ledger names it; None where they are no numbers."""
    if is_key(thing):
        return "uint32"
    found = thing.dtype
    text = str(getattr(found, "name", None) or found).removeprefix("torch.")
    return (
        text if text == "bool" or (any(letter.isdigit() for letter in text) and text.isidentifier()) else None
    )


def takes_gradients(dtype: str) -> bool:
    """Tell whether a type is one of real or complex numbers, which JAX gives gradients for.

    Example:
        >>> takes_gradients("bfloat16"), takes_gradients("int32")
        (True, False)
    """
    return dtype.startswith(("float", "bfloat", "complex"))


@functools.cache
def line_of(kind: type) -> str | None:
    """The line where the user's own class begins, as seen from this folder; None for a library's class.

    Example:
        >>> line_of(dict) is None
        True
    """
    try:
        file = inspect.getsourcefile(kind)
        if file is None or not os.path.isfile(file) or _is_library(os.path.realpath(file)):
            return None
        line = inspect.getsourcelines(kind)[1]
    except (TypeError, OSError, ValueError, SyntaxError):  # made at a prompt, or its file is gone
        return None
    here = Path(file).resolve()
    folder = Path.cwd()
    return f"{here.relative_to(folder) if here.is_relative_to(folder) else here}:{max(line, 1)}"


def _is_library(file: str) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in Path(file).parts) or any(
        file.startswith(os.path.realpath(sysconfig.get_path(one)) + os.sep)
        for one in ("stdlib", "platstdlib")
    )
