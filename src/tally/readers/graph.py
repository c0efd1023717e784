"""What a file says of its layers besides their arrays: types, options, shapes, and what feeds what."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tally.accounting.ledger import Shape
from tally.accounting.words import instead
from tally.formats.tensor import Contents, Node, Tensor
from tally.readers.branch import parts_of, shown
from tally.readers.leaves import Layer

Parts = tuple[str, ...]

USED = "Used {} times in the graph with the same weights, counted once."
"""Said of a layer that a graph calls more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A layer as the file describes it.

    Args:
        type: What it is; `""` where the file doesn't say.
        options: What enters its formula.
        input_shapes: The shape of each input, the batch first.
        output_shapes: The same of each output.
        inputs: The paths of the layers that feed it.
        known: Whether it is a layer that tally has, too.
        frozen: The names of its arrays that don't learn, `"*"` for all that is in it.
        name: What its maker calls it, where that isn't its place.
        uses: How often the graph calls it.
    """

    type: str
    options: tuple[tuple[str, Any], ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    inputs: tuple[str, ...] = ()
    known: bool = True
    frozen: tuple[str, ...] = ()
    name: str = ""
    uses: int = 1


@dataclass
class Described:
    """Where a file's own description puts its arrays, and what it says of each place.

    Args:
        places: The place of each array, by its name in the file.
        layers: What is said of each place, in the file's order.
        left_out: The names of arrays that are only sizes.
    """

    places: dict[str, Parts]
    layers: dict[Parts, Given] = field(default_factory=lambda: dict[Parts, Given]())
    left_out: set[str] = field(default_factory=lambda: set[str]())


def describe(contents: Contents, places: Mapping[str, Parts]) -> Described:
    """Read the graph that a file holds.

    Args:
        contents: What the file says.
        places: Where the names alone put the arrays.

    Example:
        >>> weight = Tensor(name="onnx::Conv_7", shape=(8, 3, 5, 5), dtype="float32", stored=2400)
        >>> node = Node(name="/stem/conv/Conv", type="Conv", tensors=("onnx::Conv_7",))
        >>> found = describe(Contents(format="ONNX", tensors=(weight,), nodes=(node,)), {"onnx::Conv_7": ("x",)})
        >>> found.places
        {'onnx::Conv_7': ('stem', 'conv', 'weight')}
        >>> [given.type for given in found.layers.values()]
        ['Conv2D']
    """
    found = Described(dict(places))
    if not contents.nodes:
        return found
    known = {tensor.name: tensor for tensor in contents.tensors if tensor.name in places}
    if _is_of_operators(contents.nodes):
        _Operators(contents.nodes, known, found).place()
    else:
        _place_layers(contents.nodes, known, found)
    return found


def _is_of_operators(nodes: Sequence[Node]) -> bool:
    """Whether a graph is one of operators, as ONNX has it, and not one of layers, as Keras has it."""
    bearing = [node.type for node in nodes if node.tensors]
    return any(kind in _OPERATORS and kind not in _LAYERS_TOO for kind in bearing)


def _plain(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options as a ledger may hold them: numbers, words and tuples of them."""
    for name, value in options.items():
        if isinstance(value, list):
            value = tuple(cast("list[Any]", value))
        if isinstance(value, tuple):
            parts = cast("tuple[Any, ...]", value)
            if len(parts) <= _MOST_PARTS and all(map(_is_plain, parts)):
                yield name, parts
        elif isinstance(value, int | float | str):
            yield name, shown(value[:_MOST_LETTERS]) if isinstance(value, str) else value


def _is_plain(part: Any) -> bool:
    """Whether it is a number, a word, or a pair of them, as the edges of a side are."""
    if isinstance(part, tuple):
        inner = cast("tuple[Any, ...]", part)
        return len(inner) <= _MOST_PARTS and all(isinstance(one, int | float | str) for one in inner)
    return isinstance(part, int | float | str | None)


_MOST_PARTS, _MOST_LETTERS = 16, 200


# -- layers --------------------------------------------------------------------------------------------------------
def _place_layers(nodes: Sequence[Node], known: Mapping[str, Tensor], found: Described) -> None:
    """Put each layer at its name and its arrays below it."""
    paths = {
        node.name: parts_of(node.name) if node.name else () for node in nodes
    }  # a model has no name inside
    taken: set[Parts] = set()
    held: set[str] = set()
    for node in nodes:
        parts = paths[node.name]
        if parts in taken:
            continue
        taken.add(parts)
        for name in node.tensors:
            if name in known and name not in held:
                held.add(name)
                if parts and found.places[name][: len(parts)] != parts:
                    found.places[name] = _free((*parts, found.places[name][-1]), found)
        inputs = tuple("/".join(paths[name]) for name in node.inputs if name in paths)
        found.layers[parts] = Given(
            type=shown(node.type),
            options=tuple((name, value) for name, value in _plain(node.options) if name not in _STANDING),
            frozen=("*",)
            if node.options.get("trainable") is False
            else tuple(node.options.get("frozen", ())),
            input_shapes=node.input_shapes,
            output_shapes=node.output_shapes,
            inputs=inputs,
            known=instead(node.type) is not None or re.fullmatch(_KERAS, node.type) is not None,
            name=shown(str(node.options.get("name", ""))),
            uses=calls if type(calls := node.options.get("calls")) is int else 1,
        )


_STANDING = ("trainable", "frozen", "shared_with", "calls", "name")
"""What a node says of how it stands in the model, which enters no formula."""
_KERAS = (
    r"Sequential|Functional|Model|InputLayer|Dense|EinsumDense|Embedding|(Depthwise|Separable)?Conv[123]D(Transpose)?|\w*Normalization|(Simple)?RNN|"
    r"LSTM|GRU|(SimpleRNN|LSTM|GRU)Cell|StackedRNNCells|Bidirectional|TimeDistributed|ConvLSTM[123]D|"
    r"MultiHeadAttention|GroupQueryAttention|GroupedQueryAttention|PReLU"
)


def _free(parts: Parts, found: Described) -> Parts:
    """The place itself, or with a number where another array is there."""
    used = set(found.places.values())
    number, *above = 1, *parts[:-1]
    while parts in used:
        number += 1
        parts = (*above, f"{parts[-1]}_{number}")
    return parts


# -- operators -----------------------------------------------------------------------------------------------------
_OPERATORS: dict[str, str] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv", "CONV_2D", "CONV_3D"), "Conv"),
    **dict.fromkeys(("ConvTranspose", "TRANSPOSE_CONV", "CONV_3D_TRANSPOSE"), "ConvTranspose"),
    "DEPTHWISE_CONV_2D": "DepthwiseConv",
    **dict.fromkeys(("Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "MatMulInteger"), "Dense"),
    **dict.fromkeys(
        ("MatMulNBits", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), "Dense"
    ),
    **dict.fromkeys(("FULLY_CONNECTED", "BATCH_MATMUL"), "Dense"),
    "BatchNormalization": "BatchNormalization",
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization"), "LayerNormalization"),
    **dict.fromkeys(
        ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "RMSNormalization"),
        "RMSNormalization",
    ),
    **dict.fromkeys(("GroupNorm", "GroupNormalization"), "GroupNormalization"),
    "InstanceNormalization": "InstanceNormalization",
    **dict.fromkeys(("LSTM", "DynamicQuantizeLSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"), "LSTM"),
    "GRU": "GRU",
    **dict.fromkeys(("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN"), "SimpleRNN"),
    **dict.fromkeys(("Gather", "GatherBlockQuantized", "EMBEDDING_LOOKUP"), "Embedding"),
    **dict.fromkeys(("PRelu", "PRELU"), "PReLU"),
}
"""The operators that make a layer, and what tally calls it; of convolutions without the rank."""
_LAYERS_TOO = (
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "LSTM",
    "GRU",
)
"""Of these the words that Keras has, too."""
_MOST_FEEDERS = 8


class _Operators:
    """A graph of operators on its way to layers: only those that hold arrays are layers."""

    def __init__(self, nodes: Sequence[Node], known: Mapping[str, Tensor], found: Described) -> None:
        self.nodes, self.known, self.found = nodes, known, found
        self.used = set(found.places.values())
        self.held: set[str] = set()
        self.homes: dict[str, Parts] = {}

    def place(self) -> None:
        """Find the layer of each operator, and put its arrays there."""
        feeding: dict[str, tuple[str, ...]] = {}
        for node in self.nodes:
            own = [name for name in node.tensors if name in self.known and name not in self.held]
            fed = [path for name in node.inputs for path in feeding.get(name, ())]
            feeders = tuple(dict.fromkeys(fed))[:_MOST_FEEDERS]
            if not own or node.type not in _OPERATORS:
                feeding[node.name] = feeders
                continue
            parts = self._home(node, own)
            self.held.update(own)
            for name in own:
                self._move(name, parts, _OPERATORS[node.type])
            self.found.layers[parts] = self._given(node, own, feeders)
            feeding[node.name] = ("/".join(parts),)
        self._leave_out()
        if not all(given.output_shapes for given in self.found.layers.values()):
            self._forget_shapes()

    def _leave_out(self) -> None:
        """Leave out whole numbers in a row that no layer takes: sizes for reshaping and slicing."""
        self.found.left_out.update(
            name
            for name, tensor in self.known.items()
            if name not in self.held
            and tensor.role == "fixed"
            and len(tensor.shape) < 2
            and tensor.dtype.startswith(("int", "uint"))
        )

    def _forget_shapes(self) -> None:
        """Say no sizes of outputs where the file has only some: a column of question marks tells nothing."""
        for parts, given in self.found.layers.items():
            self.found.layers[parts] = replace(given, output_shapes=())

    def _home(self, node: Node, own: Sequence[str]) -> Parts:
        """Where a layer stands: in what its arrays' names share, or else where its operator does."""
        # A name of several, joined by semicolons, is that of operators which became one.
        said = [_above(name) for name in own if not _is_made_up(name) and ";" not in name]
        shared = _shared(said)
        parts = shared or _named(node, own) or _scope(node)
        if parts in self.found.layers:
            parts = (*parts, node.name.rpartition("/")[2] or "again")
        number, first = 1, parts
        while parts in self.found.layers:
            number += 1
            parts = (*first[:-1], f"{first[-1]}_{number}")
        return parts

    def _move(self, name: str, parts: Parts, kind: str) -> None:
        """Put an array right below its layer; it keeps its own name where that is one."""
        now = self.found.places[name]
        tensor = self.known[name]
        if now[:-1] == parts and not now[-1].startswith(_OPERATORS_OF_TENSORFLOW):
            return
        word = _word(tensor, kind)
        place, number = (*parts, word), 1
        while place in self.used:
            number += 1
            place = (*parts, f"{word}_{number}")
        self.used.discard(now)
        self.used.add(place)
        self.found.places[name] = place

    def _given(self, node: Node, own: Sequence[str], feeders: tuple[str, ...]) -> Given:
        arrays = [self.known[name] for name in own]
        kind = _OPERATORS[node.type]
        main = max(arrays, key=lambda tensor: len(tensor.shape))
        if "Conv" in kind:
            rank = sum(axis.startswith("kernel ") for axis in main.axes) or max(len(main.shape) - 2, 1)
            kind = kind.replace("Conv", f"Conv{rank}D")
        return Given(
            type=kind,
            options=tuple(_sizes(node, main, arrays)),
            input_shapes=tuple(shape for shape in node.input_shapes if shape)[:1],
            output_shapes=tuple(shape for shape in node.output_shapes if shape)[:1],
            inputs=feeders,
        )


def _word(tensor: Tensor, kind: str) -> str:
    """What a layer calls an array whose own name says nothing."""
    if kind in ("LSTM", "GRU", "SimpleRNN"):
        weight = "weight_ih" if "features" in tensor.axes else "weight_hh"
        return weight if len(tensor.shape) > 2 else "bias"
    return "bias" if len(tensor.shape) == 1 else "weight"


def _sizes(node: Node, main: Tensor, arrays: Sequence[Tensor]) -> Iterator[tuple[str, Any]]:
    """What enters a formula, from the names of the axes and the operator's own options."""
    sized = dict(zip(main.axes, main.shape, strict=False))
    each = node.type == "DEPTHWISE_CONV_2D"
    for axis, option in (("filters", "filters"), ("units", "units"), ("tokens", "input_dim")):
        if axis in sized and not each:
            yield option, sized[axis]
    window = tuple(size for axis, size in sized.items() if axis.startswith("kernel "))
    if window:
        yield "kernel_size", window
    several = node.options.get("depth_multiplier", 1)
    if each and type(several) is int and several > 0:
        yield "depth_multiplier", several
    groups = node.options.get("group")
    if type(groups) is int and groups > 1:
        yield "groups", groups
    if window or "units" in sized:
        yield "use_bias", len(arrays) > 1


def _is_made_up(name: str) -> bool:
    """Whether a name was made by an exporter: `onnx::Conv_129`, `arith.constant3`, a constant's output."""
    return re.match(r"onnx::|/|arith\.|tfl\.|Constant|const|\d+$", name) is not None or not re.search(
        "[./]", name
    )


def _named(node: Node, own: Sequence[str]) -> Parts:
    """Where a layer stands by its one array with a name, if its operator has none but its type and a number."""
    if re.fullmatch(rf"({re.escape(node.type)})?(_?\d+)?", node.name) is None:
        return ()
    words = [
        name for name in own if re.fullmatch(r"[A-Za-z][A-Za-z_]{2,}\w*", name) and not _is_constant(name)
    ]
    return (re.sub(r"_(weight|kernel|table|embeddings?)$", "", words[0]),) if len(words) == 1 else ()


def _is_constant(name: str) -> bool:
    return re.match(r"(?i)const|tensor|val|arg|init|param|weights?_?\d*$|kernel", name) is not None


_OPERATORS_OF_TENSORFLOW = ("BiasAdd", "MatMul", "convolution", "conv_transpose", "depthwise", "Conv2D")
"""Where TensorFlow names an array after the operator that takes it."""


def _above(name: str) -> Parts:
    """The parts of a name before its last."""
    return parts_of(name)[:-1]


def _shared(paths: Sequence[Parts]) -> Parts:
    """The parts that some paths begin with together."""
    first = paths[0] if paths else ()
    same = (
        len({path[:size] for path in paths}) == 1 for size in range(1, min(map(len, paths), default=0) + 1)
    )
    return first[: sum(itertools.takewhile(bool, same))]


def _scope(node: Node) -> Parts:
    """Where an operator stands, by its name: `/layers.0/linear/MatMul` is in `layers/0/linear`."""
    parts = tuple(part for part in re.split("[/.]", shown(node.name)) if part)
    if len(parts) > 1 and re.fullmatch(rf"{re.escape(node.type)}(_\d+)?(_quant)?", parts[-1]):
        parts = parts[:-1]
    return parts[:_DEEPEST] or ("(no name)",)


_DEEPEST = 90


def as_layer(given: Given, layer: Layer | None) -> Layer | None:
    """What the file says of a layer, with the axes that its arrays were recognised by."""
    if not given.type:
        return layer
    if layer is None:
        return Layer(type=given.type, options=given.options, known=given.known)
    options = given.options or layer.options
    return Layer(
        type=given.type,
        axes=layer.axes,
        states=layer.states,
        options=options,
        known=given.known or layer.known,
    )
