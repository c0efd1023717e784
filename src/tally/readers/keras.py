"""The account of a Keras model: Keras 3 with any backend, tf.keras, Keras 2; the same that tally gives of its own."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tally.accounting.ledger import Ledger, Shape, State
from tally.formats.keras_layers import (
    NO_OPTIONS,
    OPTIONS,
    einsum_axes,
    projected_axes,
    snake_case,
    weights_of,
)
from tally.readers.graph import USED
from tally.readers.parts import (
    Array,
    Options,
    Part,
    assemble,
    attributes_of,
    class_of,
    dtype_of,
    is_of,
    line_of,
    members,
    plain,
    recognised,
    sizes_of,
    under,
)

_LAYER = ("keras.*.Layer", "tf_keras.*.Layer", "tensorflow.*.Layer")
_MODEL = ("keras.*.Model", "tf_keras.*.Model", "tensorflow.*.Model")
_SEQUENTIAL = ("keras.*.Sequential", "tf_keras.*.Sequential", "tensorflow.*.Sequential")
_LIBRARIES = ("keras.", "tf_keras.", "tensorflow.")


def matches(thing: Any) -> bool:
    """Tell whether a thing is a layer or a model of Keras; Keras is not imported for that.

    Example:
        >>> matches("model.keras")
        False
    """
    return is_of(thing, *_LAYER)


def read(layer: Any) -> Ledger:
    """Read the account of a layer or a model; nothing runs and no value is read.

    Args:
        layer: A `keras.Layer` or `keras.Model`, built or not.
    """
    parts = parts_of(layer)
    parts[0].arrays += _optimizer(layer)
    source = "Keras model" if is_of(layer, *_MODEL) else "Keras layer"
    return assemble(parts, name=layer.name, source=source)


def parts_of(layer: Any, path: str = "") -> list[Part]:
    """The layers of a model, each before those inside it.

    Args:
        layer: A layer or a model.
        path: Its place in what holds it.
    """
    walk = _Walk(learning={id(one) for one in _learning(layer)})
    walk.visit(layer, path)
    return walk.parts


@dataclass
class _Walk:
    """One way through a model, from the outside in."""

    learning: set[int]
    parts: list[Part] = field(default_factory=lambda: list[Part]())
    places: dict[int, str] = field(default_factory=lambda: dict[int, str]())
    above: list[Any] = field(default_factory=lambda: list[Any]())

    def visit(
        self, layer: Any, path: str, inputs: tuple[str, ...] = (), uses: int = 1, holder: Any = None
    ) -> None:
        """List a layer, its own weights, and all that is inside."""
        if not matches(layer):
            self.parts.append(_operation(layer, path, inputs))
            return
        part = _part(layer, path)
        part.inputs = inputs
        part.shared_with = self.places.get(id(layer))
        part.notes = (USED.format(uses),) if uses > 1 else ()
        self.places.setdefault(id(layer), path)
        part.arrays = list(self._arrays(layer, part, holder))
        self.parts.append(part)
        self.above.append(layer)
        for place, child, feeders, times in _inside(layer):
            if not any(child is one for one in self.above):
                fed_by = tuple(under(path, feeder) for feeder in feeders)
                self.visit(child, under(path, place), fed_by, times, layer)
        self.above.pop()

    def _arrays(self, layer: Any, part: Part, holder: Any) -> Iterator[Array]:
        declared = _first(layer, "_trainable_variables", "_trainable_weights")
        kept = _first(layer, "_non_trainable_variables", "_non_trainable_weights")
        held = {id(one): one for one in (*declared, *kept)}
        made = [self._array(one, part, declared) for one in held.values()]
        yield from _named(layer, part, made, holder)
        for generator in getattr(layer, "_seed_generators", None) or ():
            yield _seed(generator.state)

    def _array(self, variable: Any, part: Part, declared: Sequence[Any]) -> Array:
        learns = id(variable) in self.learning
        was = any(one is variable for one in declared)
        state: State = "trainable" if learns else "frozen" if was else "state"
        return Array(
            name=_last_name(variable),
            shape=tuple(variable.shape),
            dtype=dtype_of(variable) or "float32",
            state=state,
            of=id(variable),
        )


def _learning(layer: Any) -> Iterator[Any]:
    """The weights that training changes; a model of Keras 2 that isn't built has none to tell, but its layers may."""
    try:
        yield from layer.trainable_weights
    except ValueError:
        if layer.trainable:
            yield from layer._trainable_weights
            for child in layer.layers:
                yield from _learning(child)


def _first(layer: Any, *names: str) -> list[Any]:
    """The first list there is of some attributes: they are called otherwise in Keras 2."""
    for name in names:
        found: Any = getattr(layer, name, None)
        if found is not None:
            return list(found)
    return []


def _last_name(variable: Any) -> str:
    return str(variable.name).partition(":")[0].rpartition("/")[2]


def _seed(variable: Any) -> Array:
    shape, dtype = tuple(variable.shape), dtype_of(variable) or "uint32"
    return Array(name=_last_name(variable), shape=shape, dtype=dtype, state="seed", of=id(variable))


def _optimizer(layer: Any) -> Iterator[Array]:
    """What the optimizer of a compiled model keeps."""
    optimizer: Any = getattr(layer, "optimizer", None)
    # The last two in Keras 2.
    built = any(getattr(optimizer, one, False) for one in ("built", "_built", "_weights"))
    if optimizer is None or not built:
        return
    found: Any = optimizer.variables
    if callable(found):  # in Keras 2
        found = found()
    for variable in cast("Sequence[Any]", found):
        place = f"optimizer/{getattr(variable, 'path', variable.name)}".removesuffix(":0")
        name = place.rpartition("/")[2]
        shape, dtype = tuple(variable.shape), dtype_of(variable) or "float32"
        yield Array(name=name, place=place, shape=shape, dtype=dtype, state="optimizer")


# -- what is inside ------------------------------------------------------------------------------------------------
def _inside(layer: Any) -> Iterator[tuple[str, Any, tuple[str, ...], int]]:
    """Each layer or operation directly inside: its place, the places that feed it, and how often it is used."""
    if is_of(layer, *_SEQUENTIAL):
        stack = [one for one in layer.layers if type(one).__name__ != "InputLayer"]
        yield from ((place, child, (), 1) for place, child in _in_order(stack))
        return
    nodes = _nodes(layer)
    if nodes:
        yield from _graph(layer, nodes)
        return
    yield from ((place, child, (), 1) for place, child in _attributes(layer))


_INTERNAL = re.compile(
    r"_layers|_functional|_metrics|_operations\w*|_nodes\w*|_tracker|_self_\w+|_inbound_nodes|_outbound_nodes|"
    r"_trainable_\w+|_non_trainable_\w+|_seed_generators|optimizer|loss|_loss\w*|_compile\w*|_obj_\w+|_inputs\w*|"
    r"_outputs\w*|_flattened\w*|_parent_path|_auto_config|input_spec|_input_spec|_call_\w+|_losses\w*"
)


def _attributes(layer: Any) -> Iterator[tuple[str, Any]]:
    """The layers among a layer's attributes, each once; Keras's own hide theirs behind an underscore."""
    held = {name: value for name, value in attributes_of(layer).items() if not _INTERNAL.fullmatch(name)}
    if is_of(layer, "tf_keras.*.Bidirectional"):
        held.pop("layer", None)  # what both directions were copied from; it never gets weights
    seen: set[int] = {id(layer)}
    for place, child in members(held, matches):
        if id(child) not in seen:
            seen.add(id(child))
            yield place.lstrip("_") if _is_builtin(layer) else place, child


def _in_order(layers: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each layer's place in a model: the name its maker gave it, else its class, counted within this model."""
    words = [snake_case(type(layer).__name__) for layer in layers]
    counted = [
        re.fullmatch(rf"{word}(_\d+)?", layer.name) is not None
        for word, layer in zip(words, layers, strict=True)
    ]
    taken = {layer.name for layer, is_counted in zip(layers, counted, strict=True) if not is_counted}
    counts: Counter[str] = Counter()
    for layer, word, is_counted in zip(layers, words, counted, strict=True):
        yield (_counted(word, counts, taken) if is_counted else layer.name.replace("/", "|")), layer


def _counted(word: str, counts: Counter[str], taken: set[str]) -> str:
    """A word itself, or with the first number behind it that is free."""
    while True:
        number = counts[word]
        counts[word] += 1
        place = f"{word}_{number}" if number else word
        if place not in taken:
            return place


def _nodes(layer: Any) -> list[Any]:
    """The calls that make a functional model, in order; none for any other layer."""
    by_depth = getattr(layer, "_nodes_by_depth", None)
    if not isinstance(by_depth, Mapping) or not is_of(layer, *_MODEL):
        return []
    depths = cast("Mapping[int, list[Any]]", by_depth)
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def _operation_of(node: Any) -> Any:
    return getattr(node, "operation", None) or getattr(node, "layer", None)


def _graph(layer: Any, nodes: Sequence[Any]) -> Iterator[tuple[str, Any, tuple[str, ...], int]]:
    known = {id(_operation_of(node)) for node in nodes}
    operations = [one for one in getattr(layer, "operations", layer.layers) if id(one) in known]
    layers = [one for one in operations if matches(one)]
    places = {id(child): place for place, child in _in_order(layers)}
    counts: Counter[str] = Counter()
    taken = set(places.values())
    for one in operations:
        if id(one) not in places:
            places[id(one)] = _counted(snake_case(type(one).__name__), counts, taken)
            taken.add(places[id(one)])
    fed: dict[int, dict[str, None]] = {}
    for node in nodes:
        feeders = fed.setdefault(id(_operation_of(node)), {})
        feeders.update(dict.fromkeys(places[id(_operation_of(before))] for before in node.parent_nodes))
    uses = Counter(id(_operation_of(node)) for node in nodes)
    for one in operations:
        yield places[id(one)], one, tuple(fed[id(one)]), uses[id(one)]
    inside = {id(one) for one in operations}
    for place, child in _attributes(layer):
        if id(child) not in inside:
            yield place, child, (), 1


def _operation(operation: Any, path: str, inputs: tuple[str, ...]) -> Part:
    """An operation of a graph, such as the sum that `a + b` makes; what it does is said as of tally's own."""
    given, made = _shapes_of_call(operation)
    kind = "".join(word.capitalize() for word in snake_case(type(operation).__name__).split("_"))
    part = Part(path=path, type=kind, name=operation.name, module="tally.ops", inputs=inputs)
    part.input_shapes, part.output_shapes = given, made
    return part


# -- one layer -----------------------------------------------------------------------------------------------------
def _is_builtin(layer: Any) -> bool:
    return type(layer).__module__.startswith(_LIBRARIES)


def _part(layer: Any, path: str) -> Part:
    given, made = _shapes(layer)
    builtin = _is_builtin(layer)
    return Part(
        path=path,
        name=layer.name,
        type=type(layer).__name__,
        builtin=builtin,
        module=type(layer).__module__,
        waits=_waits(layer),
        switched_off=not layer.trainable,
        options=_options(layer, builtin),
        origin=None if builtin else line_of(class_of(layer)),
        input_shapes=given,
        output_shapes=made,
    )


def _waits(layer: Any) -> bool:
    """Whether a layer will make weights of its own once it sees an input."""
    if getattr(layer, "built", True):
        return False
    if is_of(layer, *_MODEL):
        return not layer.layers
    for kind in type(layer).__mro__:
        if "build" in vars(kind):
            return kind.__name__ not in ("Layer", "Operation")
    return False


def _options(layer: Any, builtin: bool) -> Options:
    if is_of(layer, *_MODEL):
        return () if builtin else tuple(o for o in sizes_of(layer) if o[0] != "steps_per_execution")
    said = _arguments(layer, builtin)
    if type(layer).__name__ == "InputLayer":
        shape = (said.get("batch_shape") or said.get("batch_input_shape") or ())[1:]
        return (("shape", plain(shape) or ()), ("optional", bool(said.get("optional"))))
    own = [name for name in said if name not in OPTIONS and name not in NO_OPTIONS]
    found: dict[str, Any] = {}
    for name in (*OPTIONS, *own):
        value = plain(_attribute(layer, name, said.get(name)) if name in OPTIONS else said[name])
        if value is not None and (name in OPTIONS or not isinstance(value, str)):
            found[name] = value
    return tuple(found.items() if builtin else (found | dict(sizes_of(layer))).items())


def _attribute(layer: Any, name: str, default: Any) -> Any:
    try:
        return getattr(layer, name, default)
    except Exception:  # a property of a layer that isn't built may raise anything
        return default


def _arguments(layer: Any, builtin: bool) -> Mapping[str, Any]:
    """What a layer was made with; of the user's own, whose `get_config` may be missing, as Keras noted it."""
    if not builtin:
        noted: Any = getattr(layer, "_auto_config", None)
        return attributes_of(noted).get("config") or {}
    try:
        return layer.get_config()
    except Exception:  # of a layer around one of the user's own, which can't be written down
        return {}


def _shapes(layer: Any) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    if is_of(layer, *_MODEL):
        return tuple(_each(layer, "inputs")), tuple(_each(layer, "outputs"))
    given, made = _shapes_of_call(layer)
    if not given and not made:
        noted: Any = getattr(layer, "_build_shapes_dict", None) or {}
        given = tuple(shape for value in noted.values() for shape in _flat(value))
        made = _made_of(layer, given)
    return given, made


def _made_of(layer: Any, given: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """The shape that a layer of Keras's own gives, by its own arithmetic; nothing where that isn't told."""
    if len(given) != 1 or not _is_builtin(layer) or next(_attributes(layer), None) is not None:
        return ()
    try:
        return tuple(_flat(layer.compute_output_shape(given[0])))
    except Exception:  # not every layer has one
        return ()


def _each(model: Any, name: str) -> Iterator[Shape]:
    try:
        tensors: Any = getattr(model, name, None)
    except Exception:  # a model that was never called has none, and says so in many ways
        return
    for tensor in _flattened(tensors):
        yield tuple(tensor.shape)


def _flattened(tensors: Any) -> Iterator[Any]:
    """The tensors in lists and dictionaries."""
    if hasattr(tensors, "shape"):
        yield tensors
    elif isinstance(tensors, Mapping):
        for one in cast("Mapping[Any, Any]", tensors).values():
            yield from _flattened(one)
    elif isinstance(tensors, list | tuple):
        for one in cast("Sequence[Any]", tensors):
            yield from _flattened(one)


def _shapes_of_call(layer: Any) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """The shapes of what a layer was first called with, and of what it gave."""
    nodes = getattr(layer, "_inbound_nodes", None)
    if not nodes:
        return (), ()
    given, made = (getattr(nodes[0], name, None) for name in ("input_tensors", "output_tensors"))
    shapes = [tuple(tuple(one.shape) for one in _flattened(tensors)) for tensors in (given, made)]
    return ((), shapes[1]) if type(layer).__name__ == "InputLayer" else (shapes[0], shapes[1])


def _flat(value: Any) -> Iterator[Shape]:
    """The shapes in lists of them."""
    if isinstance(value, list | tuple):
        parts = cast("Sequence[Any]", value)
        if all(isinstance(one, int | None) for one in parts):
            yield tuple(parts)
        else:
            for one in parts:
                yield from _flat(one)


# -- axes ----------------------------------------------------------------------------------------------------------
def _named(layer: Any, part: Part, arrays: Sequence[Array], holder: Any) -> Iterator[Array]:
    """A layer's arrays with the names of their axes."""
    known = _axes(layer, part, arrays, holder)
    for array in arrays:
        axes = known.get(array.name, ())
        yield replace(array, axes=axes) if len(axes) == len(array.shape) else array


def _axes(layer: Any, part: Part, arrays: Sequence[Array], holder: Any) -> Mapping[str, tuple[str, ...]]:
    if part.type == "EinsumDense" and part.builtin:
        return _einsum_axes(layer, part.path, holder)
    given = part.input_shapes[0] if part.input_shapes else None
    found = weights_of(part.type, dict(part.options), given) if part.builtin else None
    if found:
        axes = {weight.name: weight.axes for weight in found}
        if part.type.startswith("Depthwise"):
            axes["depthwise_kernel"] = axes["kernel"]  # as Keras 2 calls it
        return axes
    guess = recognised((type(layer).__name__, part.path), arrays, "keras")
    return guess.axes if guess is not None else {}


def _einsum_axes(layer: Any, path: str, holder: Any) -> Mapping[str, tuple[str, ...]]:
    around = type(holder).__name__
    if around.endswith("Attention"):
        sizes = getattr(holder, "key_dim", None), getattr(holder, "value_dim", None)
        if axes := projected_axes(around, path.rpartition("/")[2], *sizes):
            return axes
    return einsum_axes(getattr(layer, "equation", ""), getattr(layer, "bias_axes", None))
