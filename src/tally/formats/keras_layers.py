"""What each of Keras's layers calls its weights, in the order it saves them, with their axes and planned shapes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from tally.formats.keras_shapes import Shape
from tally.formats.tensor import Role

Axes: TypeAlias = tuple[str, ...]

_SIDES: dict[int, Axes] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_GATES = {"SimpleRNNCell": 1, "GRUCell": 3, "LSTMCell": 4, "ConvLSTMCell": 4}
_MANY = {1: "units", 3: "3 gates·units", 4: "4 gates·units"}


_WORDS = """units filters kernel_size pool_size strides padding dilation_rate output_padding data_format groups
depth_multiplier use_bias activation size cropping axis rate input_dim output_dim num_heads key_dim value_dim function
target_shape n"""
OPTIONS = tuple(word for line in _WORDS.splitlines() for word in line.split())
"""What enters a formula, in the order a reader meets it: attributes that Keras and tally share."""
NO_OPTIONS = ("name", "dtype", "trainable", "zero_output_for_mask", "batch_input_shape")
"""What a layer is made with that enters no account."""


def shown_options(kind: str, options: Mapping[str, Any], made: Sequence[Shape] = ()) -> dict[str, Any]:
    """Return the options of a layer as an account lists them: the known ones first, of the others no words.

    Args:
        kind: The class.
        options: What a configuration says it was made with.
        made: The shapes of its outputs.

    Example:
        >>> shown_options("Conv2D", {"padding": "same", "filters": 8, "note": "mine", "depth": 2})
        {'filters': 8, 'padding': 'same', 'depth': 2}
    """
    if kind in ("Sequential", "Functional", "Model"):
        return {}
    if kind == "InputLayer":
        return {"shape": made[0][1:] if made else (), "optional": bool(options.get("optional"))}
    known = {name: options[name] for name in OPTIONS if name in options}
    more = {
        name: value
        for name, value in options.items()
        if name not in (*OPTIONS, *NO_OPTIONS) and not isinstance(value, str)
    }
    return known | more


class Weight(NamedTuple):
    """One weight of a layer: its name, the names of its axes, and its shape where that follows from the input's."""

    name: str
    axes: Axes = ()
    shape: tuple[int, ...] | None = None
    role: Role = "weight"


def snake_case(name: str) -> str:
    """Write a class name as Keras names its layers in a file.

    Example:
        >>> snake_case("Conv2DTranspose"), snake_case("PReLU")
        ('conv2d_transpose', 'p_re_lu')
    """
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def inner_layers(kind: str, options: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return the layers that one of Keras's makes for itself: attribute, class, and Keras's name for it.

    Example:
        >>> inner_layers("GRU", {})
        (('cell', 'GRUCell', 'gru_cell'),)
    """
    if kind in ("LSTM", "GRU", "SimpleRNN"):
        return (("cell", f"{kind}Cell", snake_case(f"{kind}Cell")),)
    if re.fullmatch("ConvLSTM[123]D", kind):
        return (("cell", "ConvLSTMCell", "conv_lstm_cell"),)
    if kind in ATTENTIONS:
        start = "" if kind == "MultiHeadAttention" else "_"
        names = (("query", "query"), ("key", "key"), ("value", "value"))
        gate = (("_gate_dense", "EinsumDense", "gate"),) if options.get("use_gate") else ()
        return (
            *((f"{start}{one}_dense", "EinsumDense", name) for one, name in names),
            *gate,
            ("_softmax", "Softmax", "softmax"),
            ("_dropout_layer", "Dropout", "dropout"),
            (f"{start}output_dense", "EinsumDense", "attention_output"),
        )
    return ()


def weights_of(
    kind: str, options: Mapping[str, Any], given: Shape | None = None
) -> tuple[Weight, ...] | None:
    """Return the weights that a layer holds itself, in the order of a file; None where the class isn't known.

    Args:
        kind: The class.
        options: What it was made with.
        given: The shape of its input, the batch first.

    Example:
        >>> [(one.name, one.shape) for one in weights_of("Dense", {"units": 5}, (None, 10))]
        [('kernel', (10, 5)), ('bias', (5,))]
    """
    rule = next((rule for pattern, rule in _RULES if re.fullmatch(pattern, kind)), None)
    if rule is None:
        return None
    try:
        return tuple(rule(kind, options, given))
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):  # options of no layer of this class
        return ()


def _count(options: Mapping[str, Any], name: str) -> int | None:
    value = options.get(name)
    return value if type(value) is int and 0 <= value < 2**31 else None


def _several(value: Any) -> list[Any] | None:
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else None


def _shape(*sizes: int | None) -> tuple[int, ...] | None:
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def _channel(options: Mapping[str, Any], given: Shape | None, name: str = "axis") -> int | None:
    """The size of the input along the axis of channels."""
    if not given:
        return None
    if name == "data_format":
        return given[1 if options.get(name) == "channels_first" else -1]
    axis = options.get(name, -1)
    axis = (_several(axis) or [axis])[0]
    return given[axis if isinstance(axis, int) else -1]


def _window(options: Mapping[str, Any], rank: int) -> tuple[int | None, ...]:
    size = options.get("kernel_size")
    sizes = [size] * rank if isinstance(size, int) else _several(size) or []
    fits = len(sizes) == rank and all(type(one) is int and one >= 0 for one in sizes)
    return tuple(sizes) if fits else (None,) * rank


def _biased(options: Mapping[str, Any], found: list[Weight], *bias: Weight) -> list[Weight]:
    return [*found, *bias] if options.get("use_bias", True) else found


def _dense(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    units, features = _count(options, "units"), given[-1] if given else None
    kernel = Weight("kernel", ("features", "units"), _shape(features, units))
    return _biased(options, [kernel], Weight("bias", ("units",), _shape(units)))


def _einsum(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    axes = einsum_axes(options.get("equation"), options.get("bias_axes"))
    biased = options.get("bias_axes", "equation" not in options)
    bias = [Weight("bias", axes.get("bias", ()))] if biased else []
    return [Weight("kernel", axes.get("kernel", ())), *bias]


def einsum_axes(equation: Any, bias_axes: Any) -> dict[str, Axes]:
    """Return the names of the axes of an `EinsumDense`: units where they are in its output, else features.

    Example:
        >>> einsum_axes("abc,cd->abd", "d")
        {'kernel': ('features c', 'units d'), 'bias': ('units d',)}
    """
    found = re.fullmatch(r"[^,]*,([A-Za-z]+)->\.*([A-Za-z]+)", str(equation))
    if found is None:
        return {}
    kernel, outputs = found.groups()
    biased = str(bias_axes or "")
    rest = outputs[min((outputs.index(one) for one in biased if one in outputs), default=0) :]
    return {
        "kernel": tuple(f"{'units' if one in outputs else 'features'} {one}" for one in kernel),
        "bias": tuple(f"units {one}" if one in biased else "broadcast" for one in rest),
    }


ATTENTIONS = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")


def projected_axes(around: str, place: str, key_size: Any, value_size: Any) -> dict[str, Axes]:
    """Return the names of the axes of a projection inside an attention; none for what is no projection.

    Args:
        around: The class of the attention.
        place: What the projection is called in it.
        key_size: The size of a head's keys, where the class tells it apart from that of its values.
        value_size: That of its values.

    Example:
        >>> projected_axes("MultiHeadAttention", "output_dense", 8, 8)
        {'kernel': ('heads', 'key size', 'features'), 'bias': ('features',)}
    """
    if around == "MultiHeadAttention":
        content = "key size" if value_size in (None, key_size) else "value size"
        asking, asked, size = "heads", "heads", "key size"
    else:
        asking, asked, size, content = "query heads", "key heads", "head size", "head size"
    kernels = {
        "query_dense": ("features", asking, size),
        "key_dense": ("features", asked, size),
        "value_dense": ("features", asked, content),
        "gate_dense": ("features", asking, content),
        "output_dense": (asking, content, "features"),
    }
    kernel = kernels.get(place)
    return {} if kernel is None else {"kernel": kernel, "bias": kernel[2 if place == "output_dense" else 1 :]}


def _table(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    shape = _shape(_count(options, "input_dim"), _count(options, "output_dim"))
    found = [Weight("embeddings", ("tokens", "features"), shape)]
    if kind == "ReversibleEmbedding" and options.get("tie_weights") is False:
        found.append(Weight("reverse_embeddings", ("features", "tokens"), shape and shape[::-1]))
    return found


def _convolution(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    rank = int(re.findall(r"\d", kind)[0])
    sides = tuple(f"kernel {side}" for side in _SIDES[rank])
    window, channels = _window(options, rank), _channel(options, given, "data_format")
    filters, groups = _count(options, "filters"), _count(options, "groups") or 1
    if kind.startswith("Depthwise"):
        many = _count(options, "depth_multiplier") or 1
        made = channels * many if channels is not None else None
        kernel = Weight(
            "kernel", (*sides, "input channels", "depth multiplier"), _shape(*window, channels, many)
        )
        return _biased(options, [kernel], Weight("bias", ("output channels",), _shape(made)))
    bias = Weight("bias", ("filters",), _shape(filters))
    if kind.startswith("Separable"):
        many = _count(options, "depth_multiplier") or 1
        between = channels * many if channels is not None else None
        first = Weight(
            "depthwise_kernel",
            (*sides, "input channels", "depth multiplier"),
            _shape(*window, channels, many),
        )
        point = _shape(*(1,) * rank, between, filters)
        return _biased(
            options,
            [first, Weight("pointwise_kernel", (*sides, "depthwise channels", "filters"), point)],
            bias,
        )
    if kind.endswith("Transpose"):
        kernel = Weight("kernel", (*sides, "filters", "input channels"), _shape(*window, filters, channels))
    else:
        seen = "input channels per group" if groups > 1 else "input channels"
        inside = channels // groups if channels is not None else None
        kernel = Weight("kernel", (*sides, seen, "filters"), _shape(*window, inside, filters))
    return _biased(options, [kernel], bias)


def _cell(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    gates = _GATES[kind]
    if kind == "ConvLSTMCell":
        return _biased(
            options, [Weight("kernel"), Weight("recurrent_kernel")], Weight("bias", ("4 gates·filters",))
        )
    units, many = _count(options, "units"), _MANY[gates]
    wide = units * gates if units is not None else None
    bias = Weight("bias", (many,), _shape(wide))
    if kind == "GRUCell" and options.get("reset_after", True):
        bias = Weight("bias", ("biases", many), _shape(2, wide))
    features = given[-1] if given else None
    found = [
        Weight("kernel", ("features", many), _shape(features, wide)),
        Weight("recurrent_kernel", ("units", many), _shape(units, wide)),
    ]
    return _biased(options, found, bias)


def _scales(kind: str, options: Mapping[str, Any], given: Shape | None) -> list[Weight]:
    """A scale and a shift, of a shape that the axis says."""
    axes = options.get("axis", -1)
    several = len(_several(axes) or ()) > 1
    names: Axes = () if several else ("channels",)
    shape = None if several else _shape(_channel(options, given))
    if options.get("rms_scaling"):
        return [Weight("gamma", names, shape)]
    wanted = (("gamma", "scale"), ("beta", "center"))
    return [Weight(name, names, shape) for name, option in wanted if options.get(option, True)]


def _batch_norm(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    shape = _shape(_channel(options, given))
    kept = ["moving_mean", "moving_variance"]
    if options.get("renorm"):
        kept += ["moving_stddev", "renorm_mean", "renorm_stddev"]
    return [*_scales(kind, options, given), *(Weight(name, ("channels",), shape, "state") for name in kept)]


def _rms(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    return [Weight("scale", *_scales(kind, {"axis": options.get("axis", -1)}, given)[0][1:3])]


def _prelu(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    if given is None:
        return [Weight("alpha")]
    shared = _several(options.get("shared_axes")) or []
    names = {1: ("features",), **{rank + 1: (*sides, "channels") for rank, sides in _SIDES.items()}}
    sizes = (1 if axis in shared else size for axis, size in enumerate(given))
    return [Weight("alpha", names.get(len(given) - 1, ()), _shape(*list(sizes)[1:]))]


def _normalization(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    return [Weight(name, (), None, "state") for name in ("mean", "variance", "count")]


def _spectral(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    return [Weight("kernel"), Weight("vector_u", (), None, "state")]


def _scale(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    return [Weight("scale")] if options.get("use_scale", kind == "AdditiveAttention") else []


def _none(kind: str, options: Mapping[str, Any], given: Shape | None) -> Sequence[Weight]:
    return ()


_RULES = (
    ("Dense", _dense),
    ("EinsumDense", _einsum),
    ("(Reversible)?Embedding", _table),
    ("(Depthwise|Separable)?Conv[123]D|Conv[123]DTranspose", _convolution),
    ("(SimpleRNN|GRU|LSTM|ConvLSTM)Cell", _cell),
    ("BatchNormalization|SyncBatchNormalization", _batch_norm),
    ("LayerNormalization|GroupNormalization", _scales),
    ("RMSNormalization", _rms),
    ("PReLU", _prelu),
    ("Normalization", _normalization),
    ("SpectralNormalization", _spectral),
    ("Attention|AdditiveAttention", _scale),
    (
        r"InputLayer|Activation|ReLU|LeakyReLU|ELU|Softmax|.*Dropout.*|Flatten|Reshape|Permute|RepeatVector|Masking|"
        r"(Global)?(Max|Average)Pooling[123]D|(Adaptive(Max|Average)Pooling[123]D)|Cropping[123]D|ZeroPadding[123]D|"
        r"UpSampling[123]D|Add|Subtract|Multiply|Average|Maximum|Minimum|Concatenate|Dot|Rescaling|Resizing|"
        r"Bidirectional|TimeDistributed|RNN|LSTM|GRU|SimpleRNN|ConvLSTM[123]D|StackedRNNCells|MultiHeadAttention|"
        r"Group(ed)?QueryAttention|Sequential|Functional|Model|GaussianNoise|UnitNormalization|Identity",
        _none,
    ),
)
"""What each class makes, the first that fits."""


_BESIDE = {
    "int8": ("{}_scale",),
    "int4": ("{}_scale", "{}_zero", "g_idx"),
    "float8": tuple(
        f"{what}_{kept}" for what in ("inputs", "{}", "outputs_grad") for kept in ("scale", "amax_history")
    ),
}


def beside(mode: str, name: str) -> tuple[Weight, ...]:
    """Return what a quantised layer keeps beside its weights: scales, zero points, what was seen of the inputs.

    Args:
        mode: How it is quantised.
        name: What is quantised: the kernel, or the embeddings.

    Example:
        >>> [one.name for one in beside("int4", "kernel")]
        ['kernel_scale', 'kernel_zero', 'g_idx']
    """
    return tuple(Weight(one.format(name), role="fixed") for one in _BESIDE.get(mode, ()))


def told_by_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Return names for the weights of a layer whose class isn't told, where their shapes leave no doubt.

    Example:
        >>> told_by_shapes([(3, 3, 1, 8), (8,)]), told_by_shapes([(8,), (8,), (8,), (8,)]), told_by_shapes([(8,)])
        (('kernel', 'bias'), ('gamma', 'beta', 'moving_mean', 'moving_variance'), ())
    """
    ranks = [len(shape) for shape in shapes]
    if ranks == [1, 1, 1, 1] and len(set(shapes)) == 1:
        return ("gamma", "beta", "moving_mean", "moving_variance")
    if ranks == [1, 1] and shapes[0] == shapes[1]:
        return ("gamma", "beta")
    if len(ranks) == 2 and ranks[0] >= 2 and ranks[1] == 1 and shapes[1][0] in shapes[0][-2:]:
        return ("kernel", "bias")
    if len(ranks) == 3 and ranks[:2] == [2, 2] and shapes[0][1] == shapes[1][1] == shapes[2][-1]:
        return ("kernel", "recurrent_kernel", "bias")
    return ("kernel",) if len(ranks) == 1 and 3 <= ranks[0] <= 5 else ()


CLASSES = {
    snake_case(kind): kind
    for kind in (
        *(
            "Dense",
            "EinsumDense",
            "Embedding",
            "ReversibleEmbedding",
            "BatchNormalization",
            "LayerNormalization",
        ),
        *(
            "GroupNormalization",
            "RMSNormalization",
            "PReLU",
            "Normalization",
            "SpectralNormalization",
            "Bidirectional",
        ),
        *(
            "LSTM",
            "GRU",
            "SimpleRNN",
            "LSTMCell",
            "GRUCell",
            "SimpleRNNCell",
            "MultiHeadAttention",
            "TimeDistributed",
        ),
        *(
            "Conv1D",
            "Conv2D",
            "Conv3D",
            "Conv1DTranspose",
            "Conv2DTranspose",
            "Conv3DTranspose",
            "DepthwiseConv1D",
        ),
        *("DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "Attention", "AdditiveAttention"),
    )
}
"""The classes that a group of weights may be named after."""
