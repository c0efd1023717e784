"""PyTorch's own layers: what tally calls each, where it keeps its options, and the names of its axes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tally.readers.leaves import SIDES, Axes
from tally.readers.parts import Array, Kind

_Read = str | Callable[[Any], Any]


def _convolution(rank: int, transposed: bool) -> Kind:
    options: dict[str, _Read] = {
        "filters": "out_channels",
        "kernel_size": "kernel_size",
        "strides": "stride",
        "padding": _padding,
        "dilation_rate": "dilation",
        **({"output_padding": "output_padding"} if transposed else {}),
        "data_format": lambda _: "channels_first",
        "groups": "groups",
        "use_bias": _has_bias,
    }

    def axes(layer: Any) -> Mapping[str, Axes]:
        per = " per group" if getattr(layer, "groups", 1) > 1 else ""
        ends = ("input channels", f"filters{per}") if transposed else ("filters", f"input channels{per}")
        return {"weight": (*ends, *(f"kernel {side}" for side in SIDES[rank])), "bias": ("filters",)}

    return Kind(f"Conv{rank}D{'Transpose' if transposed else ''}", options, axes)


def _padding(layer: Any) -> Any:
    """No padding has a word of its own in tally."""
    padding: Any = layer.padding
    return "valid" if str(padding).strip("()0, ") == "" else padding


def _has_bias(layer: Any) -> bool:
    """Whether a layer adds a bias; a quantised one gives it when asked."""
    bias = getattr(layer, "bias", None)
    return (bias() if callable(bias) and not hasattr(bias, "shape") else bias) is not None


def _norm(name: str, **options: _Read) -> Kind:
    names = ("weight", "bias", "running_mean", "running_var")
    scaled: dict[str, _Read] = {"center": _has_bias, "scale": lambda m: m.weight is not None}
    return Kind(f"{name}Normalization", {**options, **scaled}, dict.fromkeys(names, ("channels",)))


def _pooling(name: str, rank: int) -> Kind:
    def each_side(what: str) -> Callable[[Any], Any]:
        def read(layer: Any) -> Any:
            size = getattr(layer, what)
            return (size,) * rank if isinstance(size, int) else size

        return read

    options: dict[str, _Read] = {
        "pool_size": each_side("kernel_size"),
        "strides": each_side("stride"),
        "padding": _padding,
    }
    return Kind(f"{name}Pooling{rank}D", {**options, "data_format": lambda _: "channels_first"})


def _recurrent(name: str) -> Kind:
    options: dict[str, _Read] = {
        "units": "hidden_size",
        "layers": "num_layers",
        "bidirectional": "bidirectional",
        "use_bias": "bias",
        "dropout": "dropout",
    }
    return Kind(name, options)


def _activation(name: str) -> Kind:
    return Kind("Activation", {"activation": lambda _: name})


_DENSE = Kind(
    "Dense",
    {"units": "out_features", "use_bias": _has_bias},
    {"weight": ("units", "features"), "bias": ("units",)},
)
_TABLE_AXES = {"weight": ("tokens", "features")}
_TABLE: dict[str, _Read] = {"input_dim": "num_embeddings", "output_dim": "embedding_dim"}
_BILINEAR = {"weight": ("units", "features of first", "features of second"), "bias": ("units",)}

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("Linear", "LazyLinear", "NonDynamicallyQuantizableLinear"), _DENSE),
    "Bilinear": Kind("Bilinear", {"units": "out_features", "use_bias": _has_bias}, _BILINEAR),
    **{f"{lazy}Conv{rank}d": _convolution(rank, False) for rank in SIDES for lazy in ("", "Lazy")},
    **{f"{lazy}ConvTranspose{rank}d": _convolution(rank, True) for rank in SIDES for lazy in ("", "Lazy")},
    **dict.fromkeys(
        (*(f"{lazy}BatchNorm{rank}d" for rank in SIDES for lazy in ("", "Lazy")), "SyncBatchNorm"),
        _norm("Batch"),
    ),
    **{f"{lazy}InstanceNorm{rank}d": _norm("Instance") for rank in SIDES for lazy in ("", "Lazy")},
    "LayerNorm": _norm("Layer"),
    "GroupNorm": _norm("Group", groups="num_groups"),
    "RMSNorm": Kind("RMSNormalization", {}, {"weight": ("channels",)}),
    "Embedding": Kind("Embedding", _TABLE, _TABLE_AXES),
    "EmbeddingBag": Kind("EmbeddingBag", _TABLE, _TABLE_AXES),
    "RNN": _recurrent("SimpleRNN"),
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "RNNCell": Kind("SimpleRNNCell", {"units": "hidden_size", "use_bias": "bias"}),
    "LSTMCell": Kind("LSTMCell", {"units": "hidden_size", "use_bias": "bias"}),
    "GRUCell": Kind("GRUCell", {"units": "hidden_size", "use_bias": "bias"}),
    "MultiheadAttention": Kind(
        "MultiHeadAttention", {"num_heads": "num_heads", "key_dim": "head_dim", "dropout": "dropout"}
    ),
    "PReLU": Kind("PReLU", {}, {"weight": ("channels",)}),
    "ReLU": Kind("ReLU"),
    "ReLU6": Kind("ReLU", {"max_value": lambda _: 6.0}),
    "LeakyReLU": Kind("LeakyReLU", {"negative_slope": "negative_slope"}),
    "ELU": Kind("ELU", {"alpha": "alpha"}),
    "Softmax": Kind("Softmax", {"axis": "dim"}),
    **{
        name: _activation(word)
        for name, word in {
            **{"GELU": "gelu", "SiLU": "silu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Mish": "mish"},
            **{"Hardswish": "hard_swish", "Hardsigmoid": "hard_sigmoid", "Hardtanh": "hard_tanh"},
            **{"Softplus": "softplus", "Softsign": "softsign", "SELU": "selu", "CELU": "celu"},
            **{"LogSigmoid": "log_sigmoid", "LogSoftmax": "log_softmax", "GLU": "glu"},
            **{"Tanhshrink": "tanh_shrink", "Softshrink": "soft_shrink", "Hardshrink": "hard_shrink"},
        }.items()
    },
    **{f"MaxPool{rank}d": _pooling("Max", rank) for rank in SIDES},
    **{f"AvgPool{rank}d": _pooling("Average", rank) for rank in SIDES},
    **{
        f"Adaptive{short}Pool{rank}d": Kind(f"Adaptive{word}Pooling{rank}D", {"output_size": "output_size"})
        for rank in SIDES
        for short, word in {"Avg": "Average", "Max": "Max"}.items()
    },
    "Dropout": Kind("Dropout", {"rate": "p"}),
    **{f"Dropout{rank}d": Kind(f"SpatialDropout{rank}D", {"rate": "p"}) for rank in SIDES},
    **dict.fromkeys(("AlphaDropout", "FeatureAlphaDropout"), Kind("AlphaDropout", {"rate": "p"})),
    "Flatten": Kind("Flatten"),
    "Unflatten": Kind("Reshape", {"target_shape": "unflattened_size"}),
    "Identity": Kind("Identity"),
    "Upsample": Kind("UpSampling", {"size": "scale_factor"}),
    **{f"ZeroPad{rank}d": Kind(f"ZeroPadding{rank}D", {"padding": "padding"}) for rank in SIDES},
    "Sequential": Kind("Sequential"),
}
"""Each class of `torch.nn` by its name; a quantised one has the name of the class that it stands for."""

TURNED_LINEAR = Kind(
    "Dense",
    {"units": "nf", "use_bias": _has_bias},
    {"weight": ("features", "units"), "bias": ("units",)},
)
"""The linear layer of GPT-2 in `transformers`, which keeps its matrix the other way round."""

ACTIVATIONS = {
    name: _activation(word)
    for name, word in {
        **{"GELUActivation": "gelu", "NewGELUActivation": "gelu_new", "FastGELUActivation": "gelu_fast"},
        **{"QuickGELUActivation": "quick_gelu", "GELUTanh": "gelu_tanh", "SiLUActivation": "silu"},
        **{"MishActivation": "mish", "LinearActivation": "linear", "ReLUSquaredActivation": "relu_squared"},
    }.items()
}
"""The activations that `transformers` has classes of its own for."""

LISTS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "ParametrizationList")
"""Classes that only hold what is inside, as a list does."""


# -- arrays that a layer of no class of PyTorch's holds itself -----------------------------------------------------
_BY_NAME: tuple[tuple[str, Axes], ...] = (
    (r"(cls|class|mask|dist|distillation|reg|register)_(tokens?|embedding)", ("tokens", "features")),
    (r"pos(ition|itional)?_(embed(ding)?s?)", ("positions", "features")),
    (r"relative_position_bias_table", ("relative positions", "heads")),
    (r"sinks", ("heads",)),
    (r"layer_scale\w*|masked_spec_embed", ("channels",)),
)
"""What models for pictures and sound call arrays of their own, and their axes but for those of size 1 before them."""


def named_axes(kind: str, arrays: Sequence[Array]) -> dict[str, Axes]:
    """Name the axes of arrays that only their names explain: tokens and positions that are learned, experts, routers.

    Args:
        kind: The class that holds them.
        arrays: What it holds itself.

    Example:
        >>> named_axes("Embeddings", [Array(name="cls_token", shape=(1, 1, 32), dtype="float32")])
        {'cls_token': ('broadcast', 'broadcast', 'features')}
    """
    shapes = {array.name: array.shape for array in arrays}
    return {**dict(_told(shapes)), **_routed(kind, shapes), **_experts(shapes)}


def _told(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Axes]]:
    for name, shape in shapes.items():
        axes = next((axes for pattern, axes in _BY_NAME if re.fullmatch(pattern, name)), ())
        fitting = axes[-len(shape) :] if shape else ()
        before = len(shape) - len(fitting)
        if fitting and set(shape[:before]) <= {1}:
            alone = (
                axis if size > 1 else "broadcast" for axis, size in zip(fitting, shape[before:], strict=True)
            )
            yield name, (*("broadcast",) * before, *alone)


def _routed(kind: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Axes]:
    """The layer that says which experts a token goes to."""
    weight = shapes.get("weight", ())
    biases = [name for name in shapes if name != "weight"]
    if "Router" not in kind or len(weight) != 2 or any(shapes[name] != weight[:1] for name in biases):
        return {}
    return {"weight": ("experts", "features"), **dict.fromkeys(biases, ("experts",))}


def _experts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Axes]:
    """The matrices of all experts in one array each, with the first two of an expert side by side or apart."""
    last = shapes.get("down_proj", ())
    axes: dict[str, Axes] = {}
    for name in ("gate_up_proj", "gate_proj", "up_proj"):
        shape = shapes.get(name, ())
        if len(last) != 3 or len(shape) != 3:
            continue
        times = 2 if name == "gate_up_proj" else 1
        made = f"{times} projections·units" if times > 1 else "units"
        if shape[1:] == (last[2] * times, last[1]):
            axes |= {name: ("experts", made, "features"), "down_proj": ("experts", "features", "units")}
        elif shape[1:] == (last[2], last[1] * times):
            axes |= {name: ("experts", "features", made), "down_proj": ("experts", "units", "features")}
        axes |= {f"{name}_bias": ("experts", made), "down_proj_bias": ("experts", "features")}
    return {name: found for name, found in axes.items() if len(shapes.get(name, ())) == len(found)}
