"""A Keras configuration read as data: the layers it describes, and what it names that would run code or read files.

Nothing is made of it: no class is looked up, no function revived, no bytecode unpacked, no file opened.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tally.formats.keras_layers import ATTENTIONS, Axes, inner_layers, projected_axes, snake_case
from tally.formats.keras_shapes import Shape, output_of

_EXPORTED = {"GroupQueryAttention": "GroupedQueryAttention"}
"""Classes whose public name, which a configuration has, isn't the one in the code, which a file of weights has."""
_MODELS = ("Sequential", "Functional", "Model")
_MOST_OPTIONS, _MOST_ITEMS, _LONGEST = 64, 16, 200
_SHOWN = 5
_HOLDING = ("layer", "backward_layer", "forward_layer", "cell", "cells")
_APART = ("name", "dtype", "trainable", "layers", *_HOLDING)
_OF_MODELS = ("input_layers", "output_layers", "build_input_shape", "batch_input_shape")
_OF_CELLS = (
    *("units", "filters", "kernel_size", "use_bias", "activation", "recurrent_activation"),
    *("reset_after", "dropout", "recurrent_dropout", "unit_forget_bias"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A layer of a configuration.

    Args:
        path: Its place in the model, by the names of the layers around it.
        type: Its class.
        label: The name that Keras gave it.
        place: Its group in a file of weights.
        options: What it was made with, as far as that is plain.
        trainable: Whether neither it nor a layer around it is switched off.
        inputs: The paths of the layers that feed it.
        input_shapes: The shape of each input.
        output_shapes: The same of each output.
        is_operation: Whether it is an operation of `keras.ops`, which holds nothing.
        mode: How its weights are quantised: `"int8"`, `"int4"`, `"float8"`, or `""`.
        axes: The names of the axes of its weights, where what is around it says so.
    """

    path: str
    type: str
    label: str = ""
    place: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trainable: bool = True
    inputs: tuple[str, ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    is_operation: bool = False
    mode: str = ""
    axes: Mapping[str, Axes] = field(default_factory=dict[str, Axes])


@dataclass(slots=True)
class Architecture:
    """All layers of a configuration, each before those inside it, and sentences on what was left alone."""

    layers: list[Described] = field(default_factory=list[Described])
    notes: list[str] = field(default_factory=list[str])


def is_configuration(value: Any) -> bool:
    """Tell whether a value of JSON describes a Keras object.

    Example:
        >>> is_configuration({"class_name": "Dense", "config": {"units": 3}})
        True
    """
    found = _mapping(value)
    return found is not None and isinstance(found.get("class_name"), str) and "config" in found


def describe(configuration: Mapping[str, Any]) -> Architecture:
    """Read the layers of a model's configuration, as Keras 2 and 3 write it.

    Args:
        configuration: The JSON of `to_json()`, of `config.json`, or of the attribute `model_config`.

    Example:
        >>> dense = {"class_name": "Dense", "config": {"name": "head", "units": 3}}
        >>> found = describe({"class_name": "Sequential", "config": {"name": "m", "layers": [dense]}})
        >>> [(layer.path, layer.type, layer.place) for layer in found.layers]
        [('', 'Sequential', ''), ('head', 'Dense', 'layers/dense')]
    """
    found = Architecture()
    found.layers.extend(_Model(configuration).layers())
    found.notes.extend(_suspicions(configuration))
    return found


class _Model:
    """One configuration on its way to a list of layers."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self.configuration = configuration

    def layers(self) -> Iterator[Described]:
        """All layers, outermost first."""
        yield from self.one(self.configuration, "", "", True)

    def one(
        self,
        said: Mapping[str, Any],
        path: str,
        place: str,
        trainable: bool,
        inputs: tuple[str, ...] = (),
        calls: int = 0,
        given: tuple[Shape, ...] = (),
        made: tuple[Shape, ...] = (),
    ) -> Iterator[Described]:
        """A layer and those inside it."""
        config = _mapping(said.get("config")) or {}
        kind = _kind(said)
        trainable = trainable and config.get("trainable") is not False
        options = dict(_options(config))
        if calls > 1:
            options["calls"] = calls
        given = given or _built(said, config)
        if kind == "InputLayer":
            given, made = (), _shapes(config.get("batch_shape", config.get("batch_input_shape")))
        if not made and (shape := output_of(kind, options, given)) is not None:
            made = (shape,)
        own = Described(
            path=path,
            type=kind,
            label=_text(config.get("name", said.get("name"))),
            place=place,
            options=options,
            trainable=trainable,
            inputs=inputs,
            input_shapes=given,
            output_shapes=made,
            is_operation=_is_operation(said) and str(said.get("module")).startswith("keras."),
            mode=_mode(config),
        )
        listed = _list(config.get("layers")) if "layers" in config else None
        if listed is None and kind in _MODELS and isinstance(said.get("config"), list):
            listed = _list(said.get("config"))  # as Keras 1 wrote a Sequential
        if listed is None:
            yield own
            yield from self.inside(own, config, given)
            return
        below: list[Mapping[str, Any]] = [
            entry for item in listed if is_configuration(item) and (entry := _mapping(item)) is not None
        ]
        inner = list(self.graph(below, own, kind))
        yield _framed(own, inner, path, list(_ends(config.get("output_layers"))))
        yield from inner

    def inside(
        self, own: Described, config: Mapping[str, Any], given: tuple[Shape, ...]
    ) -> Iterator[Described]:
        """The layers that one is made with, or makes for itself."""
        each = tuple((shape[0], *shape[2:]) for shape in given if shape)  # what a cell sees: one step
        for key, value in config.items():
            for name, label, held in self.held(own.type, key, value):
                place, path = _join(own.place, name), _join(own.path, name.lstrip("_"))
                below = each if key == "cell" or own.type == "TimeDistributed" else ()
                inner = self.one(held, path, place, own.trainable, given=below)
                first = next(inner)
                yield replace(first, label=label or first.label)
                yield from inner
        if (
            own.type == "Bidirectional"
            and "backward_layer" not in config
            and is_layer(config.get("layer"), "layer")
        ):
            yield from self.inside(own, {"backward_layer": config["layer"]}, given)  # as Keras 2 wrote it
        for attribute, kind, label in inner_layers(own.type, own.options):
            is_cell, place = attribute == "cell", attribute.lstrip("_")
            yield Described(
                path=_join(own.path, place),
                type=kind,
                label=label,
                place=_join(own.place, attribute),
                options=dict(_of_inner(kind, own.options)),
                trainable=own.trainable,
                input_shapes=each if is_cell else (),
                axes=_axes_inside(own, place) if own.type in ATTENTIONS else {},
            )

    def held(self, kind: str, key: str, value: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Layers among the options of one: their places in it, and their labels where these differ."""
        found = _mapping(value)
        if found is not None and is_layer(value, key):
            label = _label(found)
            if kind == "Bidirectional" and key in ("layer", "backward_layer"):
                way = "forward" if key == "layer" else "backward"
                yield f"{way}_layer", label if label.startswith(way) else f"{way}_{label}", found
            else:
                yield key, label, found
        used = _Names()
        for item in _list(value):
            found = _mapping(item)
            if found is not None and is_layer(item, key):
                yield f"{key}/{used.take(_class_of(found))}", _label(found), found

    def graph(self, listed: list[Mapping[str, Any]], around: Described, kind: str) -> Iterator[Described]:
        """The layers of a model, with what feeds each."""
        places, paths = _Names(), _Names()
        groups = [_join(around.place, f"layers/{places.take(_class_of(said))}") for said in listed]
        names = [_label(said) for said in listed]
        # Layers first: an operation has no name of its own, and takes the first that is free.
        order = [number for number, said in enumerate(listed) if kind != "Sequential" or not _is_input(said)]
        order.sort(key=lambda number: _is_operation(listed[number]))
        given_names = ["" if _is_counted(said) else name for said, name in zip(listed, names, strict=True)]
        paths.taken.update(filter(None, given_names))
        taken = {number: given_names[number] or paths.take(_class_of(listed[number])) for number in order}
        homes = [_join(around.path, taken.get(number, "")) for number in range(len(listed))]
        known = {name: home for name, home in zip(names, homes, strict=True) if name}
        calls = [list(_calls(said)) for said in listed]
        outputs: dict[str, tuple[Shape, ...]] = {}
        for call in calls:
            for name, node, shape in (one for tensors in call for one in tensors):
                if shape is not None and node == 0:
                    outputs.setdefault(name, (shape,))
        inside = [_built(said, _mapping(said.get("config")) or {}) for said in listed]
        flow = around.input_shapes if kind == "Sequential" else ()
        for number, said in enumerate(listed):
            if kind == "Sequential" and _is_input(said):  # a stack has no row for what it is given
                config = _mapping(said.get("config")) or {}
                flow = flow or _shapes(config.get("batch_shape", config.get("batch_input_shape")))
                continue
            made = outputs.get(names[number], ())
            following = inside[number + 1] if number + 1 < len(listed) else ()
            if kind == "Sequential" and not made and len(following) == 1:
                made = following
            fed = dict.fromkeys(known[name] for call in calls[number] for name, _, _ in call if name in known)
            called = tuple(shape for _, _, shape in calls[number][0] if shape) if calls[number] else ()
            inner = self.one(
                said,
                homes[number],
                groups[number],
                around.trainable,
                tuple(fed),
                len(calls[number]),
                called or inside[number] or flow,
                made,
            )
            first = next(inner)
            flow = first.output_shapes if kind == "Sequential" else ()
            yield first
            yield from inner


def _of_inner(kind: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a layer gives on to one that it makes for itself."""
    if kind.endswith("Cell"):
        yield from ((name, value) for name, value in options.items() if name in _OF_CELLS)
    elif kind == "EinsumDense":
        yield "activation", "linear"
        if options.get("use_bias") is False:
            yield "bias_axes", ""
    elif kind == "Dropout":
        yield "rate", options.get("dropout")


def _axes_inside(own: Described, place: str) -> Mapping[str, Axes]:
    return projected_axes(own.type, place, own.options.get("key_dim"), own.options.get("value_dim"))


def _is_input(said: Mapping[str, Any]) -> bool:
    return _class_of(said) == "input_layer"


def _is_counted(said: Mapping[str, Any]) -> bool:
    """Whether a layer has no name of its own but its class's, with a number that counts in the process that made it."""
    word = _class_of(said)
    return _is_operation(said) or re.fullmatch(rf"({re.escape(word)}(_\d+)?)?", _label(said)) is not None


class _Names:
    """Names given out so far, each once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.numbers = Counter[str]()

    def take(self, word: str) -> str:
        """The word; with the first free number, where it is taken."""
        while True:
            number = self.numbers[word]
            self.numbers[word] += 1
            name = f"{word}_{number}" if number else word
            if name not in self.taken:
                self.taken.add(name)
                return name


def _framed(own: Described, inner: list[Described], path: str, ends: list[str]) -> Described:
    """A model with the shapes that its first layers take and its last one gives."""
    direct = [one for one in inner if "/" not in one.path.removeprefix(f"{path}/" if path else "")]
    inputs = tuple(s for one in direct if one.type == "InputLayer" for s in one.output_shapes)
    if own.type == "Sequential" and direct:
        inputs = direct[0].input_shapes
    given = own.input_shapes or inputs
    labels = {one.label: one.output_shapes[:1] for one in direct}
    named = [labels.get(name, ()) for name in ends] or [one.output_shapes for one in direct[-1:]]
    made = own.output_shapes or tuple(shape for shapes in named for shape in shapes)
    return replace(own, input_shapes=given, output_shapes=made)


def _ends(value: Any) -> Iterator[str]:
    """The names of the layers whose outputs are the model's: in one list, or in lists or a mapping of them."""
    listed = list((_mapping(value) or {}).values()) or _list(value)
    if listed and isinstance(listed[0], str):
        yield _text(listed[0])
        return
    for one in listed:
        yield from _ends(one)


def is_layer(value: Any, key: str) -> bool:
    """Tell whether an option is a layer, and no initializer, activation, policy or function.

    Example:
        >>> is_layer({"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}, "layer")
        True
    """
    found = _mapping(value)
    if found is None or not is_configuration(value) or key == "dtype":
        return False
    module = found.get("module")
    if not isinstance(module, str):
        return key in _HOLDING
    within = module == "keras.layers" or module.startswith(("keras.src.models", "keras.src.layers"))
    return within or (module.startswith("keras") and found["class_name"] in _MODELS)


def _kind(said: Mapping[str, Any]) -> str:
    """The class of a layer; `Custom>Mine` is registered under another name than its own."""
    kind = str(said.get("class_name"))[:_LONGEST].rpartition(">")[2]
    return _EXPORTED.get(kind, kind)


def _mode(config: Mapping[str, Any]) -> str:
    """How the weights of a layer are quantised, by its policy on types."""
    policy = _mapping(config.get("dtype")) or {}
    mode = (_mapping(policy.get("config")) or {}).get("mode")
    return mode.partition("/")[0] if isinstance(mode, str) else ""


def _class_of(said: Mapping[str, Any]) -> str:
    return snake_case(_kind(said))


def _label(said: Mapping[str, Any]) -> str:
    name = (_mapping(said.get("config")) or {}).get("name", said.get("name"))
    return _text(name).replace("/", "_")


def _is_operation(said: Mapping[str, Any]) -> bool:
    module = said.get("module")
    return isinstance(module, str) and ".ops" in module


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _mapping(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _options(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options that are numbers, words, or short lists of them."""
    found = 0
    for name, value in config.items():
        plain = "linear" if name == "activation" and value is None else plain_of(value)
        kept = name not in (*_APART, *_OF_MODELS) and not name.endswith(
            ("_initializer", "_regularizer", "_constraint")
        )
        if plain is not None and kept and len(name) < 80 and found < _MOST_OPTIONS:
            found += 1
            yield name, plain


def plain_of(value: Any) -> Any:
    """Return a number, a word, or a tuple of them, and a function or activation by its name; else None.

    Example:
        >>> plain_of([3, 3]), plain_of({"class_name": "ReLU", "config": {}}), plain_of({"a": 1})
        ((3, 3), 'ReLU', None)
    """
    if isinstance(value, bool | int | float):
        return value if abs(value) < 2**63 else None
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if isinstance(value, list):
        items: list[Any] = [plain_of(item) for item in _list(value)[: _MOST_ITEMS + 1]]
        return tuple(items) if 0 < len(items) <= _MOST_ITEMS and None not in items else None
    found = _mapping(value)
    name = found.get("class_name") if found is not None else None
    if name == "function" and found is not None:
        name = found.get("config")
    return name if isinstance(name, str) and len(name) <= _LONGEST and is_configuration(value) else None


def _shapes(value: Any) -> tuple[Shape, ...]:
    """One shape, or several in a list."""
    if not isinstance(value, list):
        return ()
    items = _list(value)
    if all(item is None or (type(item) is int and 0 <= item < 2**62) for item in items) and len(items) <= 64:
        return (tuple(items),) if items else ()
    return (
        tuple(shape for item in items[:64] for shape in _shapes(item))
        if all(_flat(item) for item in items)
        else ()
    )


def _flat(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, list) for item in _list(value))


def _built(said: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Shape, ...]:
    """The shapes that a layer was built with."""
    built = _mapping(said.get("build_config")) or {}
    named = _mapping(built.get("shapes_dict"))
    if named is not None:
        return tuple(shape for value in list(named.values())[:16] for shape in _shapes(value))
    return _shapes(built.get("input_shape", config.get("batch_input_shape")))


def _calls(said: Mapping[str, Any]) -> Iterator[list[tuple[str, int, Shape | None]]]:
    """For each call of a layer in a graph, what it was given: the layer, its call, the shape."""
    for node in _list(said.get("inbound_nodes")):
        found = _mapping(node)
        if found is not None:
            yield list(_tensors([found.get("args"), found.get("kwargs")]))
        elif isinstance(node, list):  # as Keras 2 wrote it
            several = isinstance((_list(node) or [None])[0], list)
            given = [_list(item) for item in _list(node)] if several else [_list(node)]
            yield [
                (_text(one[0]), one[1] if isinstance(one[1], int) else 0, None)
                for one in given
                if len(one) >= 3
            ]


def _tensors(value: Any) -> Iterator[tuple[str, int, Shape | None]]:
    """The symbolic tensors in the arguments of a call, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        found = _mapping(one)
        if found is None:
            waiting.extend(reversed(_list(one)))
        elif found.get("class_name") == "__keras_tensor__":
            config = _mapping(found.get("config")) or {}
            history = _list(config.get("keras_history"))
            shapes = _shapes(config.get("shape"))
            if len(history) >= 2:
                yield (
                    _text(history[0]),
                    history[1] if isinstance(history[1], int) else 0,
                    (shapes or (None,))[0],
                )
        else:
            waiting.extend(reversed(list(found.values())))


# -- what would run, or be read, if the model were loaded ------------------------------------------------------------
def _suspicions(configuration: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what a configuration names besides Keras's own layers."""
    lambdas: dict[str, None] = {}
    foreign: dict[str, None] = {}
    files: dict[str, None] = {}
    waiting: list[Any] = [configuration]
    while waiting:
        one = waiting.pop()
        found = _mapping(one)
        if found is None:
            waiting.extend(reversed(_list(one)))
            continue
        waiting.extend(reversed(list(found.values())))
        kind, module = found.get("class_name"), found.get("module")
        if not isinstance(kind, str):
            continue
        config = _mapping(found.get("config")) or {}
        if kind in ("Lambda", "__lambda__"):
            lambdas[_text(config.get("name")) or kind] = None
        elif kind.startswith("__"):
            continue
        elif (isinstance(module, str) and module.split(".")[0] != "keras") or _is_loader(module, found):
            name = found.get("config") if kind == "function" else kind
            foreign[f"{_text(module)}.{_text(name)}".strip(".")] = None
        elif found.get("registered_name") not in (None, kind):
            foreign[_text(found["registered_name"])] = None
        for key in ("vocabulary", "filepath", "idf_weights"):
            if isinstance(config.get(key), str):
                files[f"{config[key][:80]!r} in {kind}"] = None
    for names, sentence in (
        (lambdas, "Holds Python code in {}: it was neither unpacked nor run."),
        (foreign, "Names what isn't Keras's own, none of it imported: {}."),
        (files, "Names other files, none of them opened: {}."),
    ):
        if names:
            shown = ", ".join(list(names)[:_SHOWN])
            yield sentence.format(f"{shown}, ..." if len(names) > _SHOWN else shown)


def _is_loader(module: Any, found: Mapping[str, Any]) -> bool:
    """Whether a name of Keras's own is one that loads, saves, fetches or switches safety off, which no layer needs."""
    inner = found.get("config")
    words = f"{module}.{found.get('class_name')}.{inner if isinstance(inner, str) else ''}".lower()
    return any(
        word in words
        for word in ("unsafe", ".utils.", "saving.", "get_file", "tfsmlayer", "torchmodulewrapper")
    )
