"""Layers that hold arrays, recognised by what a file calls these and by their shapes; what isn't certain is said.

A rule looks at the arrays that stand side by side under one name and gives the layer they make, or nothing. PyTorch
says `weight` and puts what a layer makes first; Keras and Flax say `kernel` and put it last; MLX says `weight` and
puts it first, what it reads last.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from tally.accounting.ledger import State
from tally.formats.tensor import Tensor

Axes = tuple[str, ...]
SIDES: dict[int, Axes] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""What a kernel slides along, by how many axes that are."""


@dataclass(frozen=True)
class Group:
    """The arrays that stand side by side under one name.

    Args:
        path: The name they share.
        arrays: What each is called there, and the array.
        layout: In which order the axes of a kernel lie: `"torch"`, `"keras"` or `"mlx"`; `""` leaves it to the names.
        follows: The channels of the normalisation that comes next, where one does.
        rms: Whether a normalisation without shift is one by the root mean square; None where nothing says so.
        beside: What stands beside it under the same name.

    Example:
        >>> group = Group("head", {"weight": Tensor(name="head.weight", shape=(5, 10), dtype="float32", stored=200)})
        >>> group.named("weight", "kernel").shape, group.words
        ((5, 10), ('head',))
    """

    path: str
    arrays: Mapping[str, Tensor]
    layout: str = ""
    follows: int | None = None
    rms: bool | None = None
    beside: Collection[str] = ()

    @cached_property
    def held(self) -> dict[str, Tensor]:
        """The arrays that a layer is recognised by: no scales of quantised weights, nothing an optimizer keeps."""
        return {
            plain(name): array for name, array in self.arrays.items() if array.role in ("weight", "state")
        }

    @cached_property
    def words(self) -> Axes:
        """The words of its own name, or, where that is a number, of the one it is in."""
        parts = [part for part in re.split("[/.]", self.path) if not part.isdigit()]
        return tuple(word.lower() for word in re.findall(_WORD, parts[-1])) if parts else ()

    def named(self, *names: str) -> Tensor | None:
        """The first array there is of some names."""
        return next((self.held[name] for name in names if name in self.held), None)

    def only(self, *names: str) -> bool:
        """Whether it holds nothing but arrays of some names."""
        return self.held.keys() <= set(names)

    def says(self, pattern: str) -> bool:
        """Whether a word of its name is like a pattern."""
        return any(re.fullmatch(pattern, word) for word in self.words)


_WORD = r"[A-Z]*[a-z]+\d*(?:d(?![a-z]))?|[A-Z]+\d*|\d+"
_PLAIN = {
    "qweight": "weight",
    "weight_packed": "weight",
    "weight_orig": "weight",
    "w": "kernel",
    "b": "bias",
    "embedding": "embeddings",
    "weights": "kernel",
    "biases": "bias",
    "depthwise_weights": "depthwise_kernel",
    "pointwise_weights": "pointwise_kernel",
}
"""Other words for the same arrays: quantised by GPTQ and AWQ, by compressed-tensors; under a spectral norm; Haiku's;
those of TensorFlow's Slim."""


def plain(name: str) -> str:
    """The name by which layers are recognised.

    Example:
        >>> plain("qweight"), plain("bias"), plain("parametrizations/weight/original0")
        ('weight', 'bias', 'weight_g')
    """
    if (found := _PARAMETRISED.fullmatch(name)) is not None:
        return found[1] + _COMPUTED_FROM.get(found[2], f"/{found[2]}")
    return _PLAIN.get(name, name)


_PARAMETRISED = re.compile(r"parametrizations/([^/]+)/(.+)", re.DOTALL)
_COMPUTED_FROM = {"original": "", "original0": "_g", "original1": "_v", "0/_u": "_u", "0/_v": "_v"}
"""What PyTorch computes a parametrised weight from, and what is added to its name where hooks do the same."""


def is_of_parametrisation(name: str) -> bool:
    """Tell whether an array belongs to what computes a weight, and isn't the weight itself in another form.

    Example:
        >>> is_of_parametrisation("parametrizations/weight/0/base"), is_of_parametrisation("weight")
        (True, False)
    """
    found = _PARAMETRISED.fullmatch(name)
    return found is not None and found[2] not in _COMPUTED_FROM


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What some arrays were recognised as.

    Args:
        type: The name of the class that tally has for it.
        axes: A name for each axis of the arrays, by what they are called in their layer.
        states: What training does with them, where it is not what a weight is for.
        options: What enters the layer's formula.
        notes: What is not certain.
        known: Whether it is a layer that tally has, too.
    """

    type: str
    axes: Mapping[str, Axes] = field(default_factory=lambda: MappingProxyType({}))
    states: Mapping[str, State] = field(default_factory=lambda: MappingProxyType({}))
    options: tuple[tuple[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    known: bool = True


def recognise(group: Group) -> Layer | None:
    """Tell which layer some arrays make; None where nothing is known of them.

    Example:
        >>> def array(*shape): return Tensor(name="", shape=shape, dtype="float32", stored=0)
        >>> recognise(Group("head", {"weight": array(5, 10), "bias": array(5)})).type
        'Dense'
        >>> recognise(Group("stem", {"kernel": array(3, 3, 2, 8)})).axes["kernel"]
        ('kernel height', 'kernel width', 'input channels', 'filters')
    """
    if not group.held:
        return None
    return next((layer for rule in _RULES if (layer := rule(group)) is not None), None)


# -- recurrent -----------------------------------------------------------------------------------------------------
_GATES = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}


def _recurrent(group: Group) -> Layer | None:
    """PyTorch: `weight_ih_l0`, for each layer and direction; a cell has no number."""
    parts = {name: re.fullmatch(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?", name) for name in group.held}
    first = group.named("weight_hh_l0", "weight_hh")
    if first is None or not all(parts.values()) or any(len(a.shape) > 2 for a in group.held.values()):
        return None
    made = group.named("weight_hr_l0")
    units = first.shape[1] if made is None and len(first.shape) == 2 else made.shape[1] if made else 0
    if not units or first.shape[0] % units or first.shape[0] // units not in _GATES:
        return None
    gates = first.shape[0] // units
    rows = f"{gates} gates·units" if gates > 1 else "units"
    seen = "units" if made is None else "outputs"
    columns = {"ih": (rows, "features"), "hh": (rows, seen), "hr": ("outputs", "units")}
    axes: dict[str, Axes] = {}
    for name, part in parts.items():
        if part is not None:
            axes[name] = columns[part[2]] if part[1] == "weight" else (rows,)
    cell = "" if "weight_hh_l0" in group.held else "Cell"
    biased = any(name.startswith("bias") for name in group.held)
    return Layer(type=_GATES[gates] + cell, axes=axes, options=(("units", units), ("use_bias", biased)))


def _recurrent_kernel(group: Group) -> Layer | None:
    """Keras: a kernel for the input and one for the state."""
    kernel, recurrent, bias = (group.named(name) for name in ("kernel", "recurrent_kernel", "bias"))
    if kernel is None or recurrent is None or not group.only("kernel", "recurrent_kernel", "bias"):
        return None
    if len(kernel.shape) != 2 or len(recurrent.shape) != 2 or not recurrent.shape[0]:
        return None
    units, columns = recurrent.shape
    if columns % units or columns // units not in _GATES or kernel.shape[1] != columns:
        return None
    gates = columns // units
    made = f"{gates} gates·units" if gates > 1 else "units"
    axes: dict[str, Axes] = {"kernel": ("features", made), "recurrent_kernel": ("units", made)}
    if bias is not None:
        axes["bias"] = ("biases", made) if len(bias.shape) == 2 else (made,)
    options: list[tuple[str, Any]] = [("units", units), ("use_bias", bias is not None)]
    if gates == 3 and bias is not None:
        options.append(("reset_after", len(bias.shape) == 2))
    return Layer(type=f"{_GATES[gates]}Cell", axes=axes, options=tuple(options))


# -- attention in one layer ----------------------------------------------------------------------------------------
def _packed_attention(group: Group) -> Layer | None:
    """PyTorch's attention: the projections of query, key and value in one matrix, or in one each."""
    whole = group.named("in_proj_weight")
    apart = [group.named(f"{part}_proj_weight") for part in "qkv"]
    if whole is None and None in apart:
        return None
    three = ("3 projections·units",)
    axes: dict[str, Axes] = {"in_proj_weight": (*three, "features"), "in_proj_bias": three}
    axes |= {f"{part}_proj_weight": ("units", f"{word} features") for part, word in _PROJECTED.items()}
    axes |= dict.fromkeys(("bias_k", "bias_v"), ("broadcast", "broadcast", "units"))
    fitting = {
        name: axes[name]
        for name, array in group.held.items()
        if name in axes and len(axes[name]) == len(array.shape)
    }
    return Layer(type="MultiHeadAttention", axes=fitting)


_PROJECTED = {"q": "query", "k": "key", "v": "value"}


# -- normalisation -------------------------------------------------------------------------------------------------
_MEANS = ("running_mean", "moving_mean", "mean")
_VARIANCES = ("running_var", "moving_variance", "var", "variance")
_COUNTERS = ("num_batches_tracked", "count")
_SCALES = ("weight", "gamma", "scale")
_SHIFTS = ("bias", "beta")


def _batch_norm(group: Group) -> Layer | None:
    mean, variance = group.named(*_MEANS), group.named(*_VARIANCES)
    if mean is None or variance is None or len(mean.shape) != 1 or mean.shape != variance.shape:
        return None
    if not group.only(*_SCALES, *_SHIFTS, *_MEANS, *_VARIANCES, *_COUNTERS):
        return None
    if any(array.shape not in ((), mean.shape) for array in group.held.values()):
        return None
    axes: dict[str, Axes] = {name: ("channels",) for name, array in group.held.items() if array.shape}
    kept = {*_MEANS, *_VARIANCES, *_COUNTERS}
    states: dict[str, State] = {name: "state" for name in group.held if name in kept}
    return Layer(type="BatchNormalization", axes=axes, states=states, options=_scaled(group))


def _scaled(group: Group) -> tuple[tuple[str, Any], ...]:
    return (("center", group.named(*_SHIFTS) is not None), ("scale", group.named(*_SCALES) is not None))


def _norm(group: Group) -> Layer | None:
    """A scale for each channel, and a shift or none; which normalisation it is may be in its name."""
    scale, shift = group.named(*_SCALES), group.named(*_SHIFTS)
    if scale is None or len(scale.shape) != 1 or not group.only(*_SCALES, *_SHIFTS):
        return None
    if shift is not None and shift.shape != scale.shape:
        return None
    axes: dict[str, Axes] = dict.fromkeys(group.held, ("channels",))
    if shift is None and group.says("p?relu|prelu\\d*|act\\d*|activation"):
        return Layer(type="PReLU", axes=axes)
    if shift is None:
        return _scale_only(group, axes)
    text = "".join(group.words)
    for pattern, kind in _NORMS.items():
        if re.search(pattern, text):
            return Layer(type=kind, axes=axes, options=_scaled(group))
    return Layer(type="Norm", axes=axes, notes=(_WHICH_NORM,))


def _scale_only(group: Group, axes: Mapping[str, Axes]) -> Layer | None:
    if group.rms or re.search("rms", "".join(group.words)):
        return Layer(type="RMSNormalization", axes=axes)
    if not re.search("norm|(^|_)ln", "_".join(group.words)):
        return None
    if group.rms is False:
        return Layer(type="LayerNormalization", axes=axes, options=_scaled(group))
    return Layer(type="Norm", axes=axes, notes=(_WHICH_SCALE,))


_NORMS = {
    "layer_?norm|^ln": "LayerNormalization",
    "group_?norm|^gn": "GroupNormalization",
    "batch_?norm|^bn": "BatchNormalization",
}
_WHICH_NORM = (
    "The same scale and shift make a layer, a group and an instance normalisation; names and shapes don't say which of "
    "them this is."
)
_WHICH_SCALE = (
    "A normalisation with a scale and no shift: by the root mean square, or by mean and variance; names and "
    "shapes don't say which."
)


# -- kernels and tables --------------------------------------------------------------------------------------------
def _separable(group: Group) -> Layer | None:
    """Keras: a kernel for each channel, and for SeparableConv a second that mixes what the first made."""
    first, second, bias = (group.named(name) for name in ("depthwise_kernel", "pointwise_kernel", "bias"))
    if first is None or not 3 <= len(first.shape) <= 5:
        return None
    if not group.only("depthwise_kernel", "pointwise_kernel", "bias"):
        return None
    sides = tuple(f"kernel {side}" for side in SIDES[len(first.shape) - 2])
    axes: dict[str, Axes] = {"depthwise_kernel": (*sides, "input channels", "depth multiplier")}
    options: list[tuple[str, Any]] = [
        ("kernel_size", first.shape[:-2]),
        ("depth_multiplier", first.shape[-1]),
    ]
    kind = "DepthwiseConv"
    if second is not None and len(second.shape) == len(first.shape):
        axes["pointwise_kernel"] = (*sides, "depthwise channels", "filters")
        options.insert(0, ("filters", second.shape[-1]))
        kind = "SeparableConv"
    if bias is not None and len(bias.shape) == 1:
        axes["bias"] = ("filters" if second is not None else "output channels",)
    options.append(("use_bias", bias is not None))
    return Layer(type=f"{kind}{len(sides)}D", axes=axes, options=tuple(options))


def _table(group: Group) -> Layer | None:
    """A table of embeddings, by Keras's and Flax's word for it."""
    table = group.named("embeddings")
    if table is None or len(table.shape) != 2 or not group.only("embeddings"):
        return None
    return table_of(table, "embeddings")


def table_of(table: Tensor, name: str) -> Layer:
    """The layer that has a table of embeddings, a row for each token.

    Args:
        table: The table.
        name: What its layer calls it.
    """
    tokens, width = table.shape
    options = (("input_dim", tokens), ("output_dim", width))
    return Layer(type="Embedding", axes={name: ("tokens", "features")}, options=options)


def _kernel(group: Group) -> Layer | None:
    """A kernel with or without a bias: a linear layer, a convolution, or a table of embeddings."""
    name = next((name for name in ("kernel", "weight", "weight_v") if name in group.held), None)
    if name is None or not group.only(name, "bias", "weight_g", *_SPECTRAL):
        return None
    last = group.layout == "keras" or (name == "kernel" and group.layout in ("", "torch"))
    order = "keras" if last else "mlx" if group.layout == "mlx" else "torch"
    kernel, bias = group.held[name], group.named("bias")
    if "weight_g" not in group.held and name == "weight_v":
        return None
    if len(kernel.shape) == 2:
        found = _matrix(group, kernel, bias, name, order)
    elif re.search("experts?|exps", group.path) and len(kernel.shape) == 3:
        found = _experts(kernel, bias, name, order)
    elif (bias is not None and len(bias.shape) == 2) or _is_of_heads(group, name):
        found = _projection(group, kernel, bias, name)
    elif 3 <= len(kernel.shape) <= 5:
        found = _convolution(group, kernel, bias, name, order)
    else:
        return None
    return found and _with_norms(found, group, name)


_SPECTRAL = ("weight_u", "weight_v")


def _with_norms(layer: Layer, group: Group, kernel: str) -> Layer:
    """The same layer with what a weight norm or a spectral norm keeps beside its kernel."""
    axes, states = dict(layer.axes), dict(layer.states)
    if (length := group.named("weight_g")) is not None:
        names = layer.axes[kernel]
        axes["weight_g"] = tuple(
            name if size > 1 else "broadcast" for name, size in zip(names, length.shape, strict=False)
        )
    for name in _SPECTRAL:
        if name in group.held and name != kernel:
            states[name] = "state"
    fitting = {name: names for name, names in axes.items() if len(names) == len(group.held[name].shape)}
    by = "WeightNorm" if "weight_g" in group.held else "SpectralNorm" if "weight_u" in states else ""
    notes = (*layer.notes, _COMPUTED.format(by)) if by else layer.notes
    return Layer(type=layer.type, axes=fitting, states=states, options=layer.options, notes=notes)


_COMPUTED = "weight is not stored: {} computes it from what is."


_TABLES = r"emb\w*|\w*emb|embeddings?|wte|wpe|vocab|vocabulary|tok|codebook"
_LINEAR = (
    r"(proj|projection|fc|linear|lin|dense|head|classifier|query|key|value|qkv|kv|[qkvow]|wq|wk|wv|wo|out|output|gate|"
    r"gates|up|down|ffn|mlp|score|router|intermediate|logits|pooler|attn|nn|gemm|matmul|inp?|to)\d*"
)
_GPT2 = r"c_(attn|proj|fc|mlp)|q_attn"


def _matrix(group: Group, kernel: Tensor, bias: Tensor | None, name: str, order: str) -> Layer | None:
    rows, columns = kernel.shape
    if bias is not None and len(bias.shape) != 1:
        return None
    if lora := re.search(r"lora_?([ABab])(?![a-z])", group.path):
        first = lora[1] in "Aa"
        pair = ("rank", "features") if first else ("units", "rank")
        return Layer(type="Dense", axes={name: pair if order == "torch" else pair[::-1]})
    # GPT-2's own linear layer keeps its matrix the other way round.
    turned = kernel.axes == ("features", "units") or (
        (
            order == "torch"
            and bool(re.search(rf"(^|/)({_GPT2})$", group.path) and bias and bias.shape[0] == columns)
        )
        or (order == "torch" and bias is not None and bias.shape[0] == columns != rows)
    )
    axes: Axes = ("features", "units") if order == "keras" or turned else ("units", "features")
    units = columns if axes[0] == "features" else rows
    if bias is not None and bias.shape != (units,):
        return None
    if bias is None and name != "kernel" and group.says(_TABLES) and not group.says(_LINEAR):
        return table_of(kernel, name)
    if bias is None and name != "kernel" and not group.says(_LINEAR):
        return Layer(type="unknown", notes=(_WHICH_MATRIX,), known=False)
    options = (("units", units), ("use_bias", bias is not None))
    return Layer(type="Dense", axes={name: axes, **_one(bias, "units")}, options=options)


_WHICH_MATRIX = "A linear layer without a bias, or a table of embeddings: both have the same matrix."


def _one(bias: Tensor | None, axis: str) -> dict[str, Axes]:
    return {} if bias is None else {"bias": (axis,)}


def _experts(kernel: Tensor, bias: Tensor | None, name: str, order: str) -> Layer | None:
    axes = ("experts", "features", "units") if order == "keras" else ("experts", "units", "features")
    units = kernel.shape[axes.index("units")]
    named: dict[str, Axes] = {name: axes}
    if bias is not None:
        if bias.shape != (kernel.shape[0], units):
            return None
        named["bias"] = ("experts", "units")
    options = (("units", units), ("experts", kernel.shape[0]), ("use_bias", bias is not None))
    return Layer(type="Dense", axes=named, options=options)


_HEADS = ("query", "key", "value")
_BACK = ("out", "attention_output")


def _is_of_heads(group: Group, name: str) -> bool:
    """Whether it is part of an attention as Flax and Keras name them, its heads an axis of their own."""
    last = group.path.rpartition("/")[2]
    return name == "kernel" and last in (*_HEADS, *_BACK) and set(_HEADS) <= set(group.beside)


def _projection(group: Group, kernel: Tensor, bias: Tensor | None, name: str) -> Layer | None:
    """A projection into heads, or of what the heads found back; the bias has the axes of what is made."""
    if len(kernel.shape) != 3:
        return None
    axes: Axes = ("features", "heads", "key size")
    made = axes[1:]
    if group.path.rpartition("/")[2] in _BACK:
        axes, made = ("heads", "key size", "features"), ("features",)
    if bias is not None and bias.shape != kernel.shape[-len(made) :]:
        return None
    named: dict[str, Axes] = {name: axes}
    if bias is not None:
        named["bias"] = made
    return Layer(type="EinsumDense", axes=named)


_TURNED = r"\w*transpose\w*|deconv\w*|upconv\w*|convt\w*"


def _convolution(group: Group, kernel: Tensor, bias: Tensor | None, name: str, order: str) -> Layer | None:
    """A convolution, its kernel's axes named by the layout; transposed where the bias or the name says so."""
    shape = kernel.shape
    rank = len(shape) - 2
    sides = tuple(f"kernel {side}" for side in SIDES[rank])
    if bias is not None and len(bias.shape) != 1:
        return None
    if order == "keras" and _is_depthwise(group, kernel, bias):
        return _depthwise(group, kernel, bias, name)
    makes, reads = _ends(shape, order)  # of a convolution; of a transposed one they change places
    made = shape[makes] if bias is None else bias.shape[0]
    told = kernel.axes.index("filters") if "filters" in kernel.axes else None
    turned = (
        told == reads if told is not None else group.says(_TURNED) or shape[makes] != made == shape[reads]
    )
    if turned:
        makes, reads = (makes, reads) if order == "mlx" else (reads, makes)
    if bias is not None and made != shape[makes]:
        return None
    alone = shape[reads] == 1 < shape[makes] and not turned
    names = {makes: "filters", reads: "input channels per group" if alone else "input channels"}
    rest = iter(sides)
    axes = tuple(names[place] if place in names else next(rest) for place in range(len(shape)))
    window = tuple(size for place, size in enumerate(shape) if place not in names)
    notes: tuple[str, ...] = ()
    if alone:
        notes = (_ONE_CHANNEL,)
    elif bias is None and not turned and order != "mlx" and shape[makes] != shape[reads] != group.follows:
        notes = () if group.follows == shape[makes] else (_WHICH_WAY,)
    options = (("filters", shape[makes]), ("kernel_size", window), ("use_bias", bias is not None))
    kind = f"Conv{rank}D{'Transpose' if turned else ''}"
    return Layer(type=kind, axes={name: axes, **_one(bias, "filters")}, options=options, notes=notes)


def _is_depthwise(group: Group, kernel: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel (sides..., channels, multiplier) is meant: the file says so, its name, or a bias for each."""
    if any(kernel.axes):
        return "depth multiplier" in kernel.axes
    *_, channels, several = kernel.shape
    if bias is None:
        return group.says(_EACH_CHANNEL)
    return bias.shape[0] == channels * several and channels > 1 and not group.says(_TURNED)


def _depthwise(group: Group, kernel: Tensor, bias: Tensor | None, name: str) -> Layer:
    *window, _, several = kernel.shape
    sides = tuple(f"kernel {side}" for side in SIDES[len(window)])
    axes: dict[str, Axes] = {
        name: (*sides, "input channels", "depth multiplier"),
        **_one(bias, "output channels"),
    }
    options = (("kernel_size", tuple(window)), ("depth_multiplier", several), ("use_bias", bias is not None))
    is_told = several > 1 or any(kernel.axes) or group.says(_EACH_CHANNEL)
    notes = () if is_told else (_ONE_FILTER,)
    return Layer(type=f"DepthwiseConv{len(sides)}D", axes=axes, options=options, notes=notes)


_EACH_CHANNEL = r"depthwise\w*|dw\w*|dconv\w*"
_ONE_FILTER = (
    "A depthwise convolution, or a transposed one whose input has one channel; names and shapes don't say which of "
    "them this is."
)


_ONE_CHANNEL = (
    "Each filter sees one channel: the input has one, or the convolution is depthwise; names and shapes don't say "
    "which."
)
_WHICH_WAY = (
    "Without a bias a transposed convolution looks the same, filters and input channels exchanged; names and shapes "
    "don't say which this is."
)


def _ends(shape: tuple[int, ...], order: str) -> tuple[int, int]:
    """The places of the filters and of the channels they see."""
    last = len(shape) - 1
    return {"torch": (0, 1), "mlx": (0, last), "keras": (last, last - 1)}[order]


_RULES: tuple[Callable[[Group], Layer | None], ...] = (
    _recurrent,
    _recurrent_kernel,
    _packed_attention,
    _batch_norm,
    _norm,
    _separable,
    _table,
    _kernel,
)


# -- arrays that no layer learns -----------------------------------------------------------------------------------
_BUFFERS = r"""inv_freq|rope_freqs|freqs_c(is|os)|freqs_sin|position_ids|token_type_ids|masked_bias|attn_mask|
|causal_mask|relative_position_index|relative_coords_table|total_ops|total_params|mask|cos_cached|sin_cached"""


def is_buffer(name: str, array: Tensor) -> bool:
    """Tell whether an array is a fixed table, such as a causal mask or the numbers of positions, by its name.

    Args:
        name: What it is called in its layer.
        array: The array.

    Example:
        >>> is_buffer("position_ids", Tensor(name="p", shape=(1, 512), dtype="int64", stored=4096))
        True
    """
    mask = name == "bias" and len(array.shape) == 4 and array.shape[:2] == (1, 1)
    return mask or re.fullmatch(_BUFFERS.replace("\n", ""), name) is not None


def is_whole_number(dtype: str) -> bool:
    """Tell whether a type holds plain whole numbers, such as positions and counts; small ones may be weights.

    Example:
        >>> is_whole_number("int64"), is_whole_number("int8"), is_whole_number("int4")
        (True, False, False)
    """
    return dtype in ("int64", "int32", "int16", "uint64", "uint32", "uint16", "uint8", "bool")


def holds_numbers(dtype: str) -> bool:
    """Tell whether the elements of a type are numbers, and not texts, dates or handles of something else.

    Example:
        >>> holds_numbers("q4_k"), holds_numbers("text64"), holds_numbers("string")
        (True, False, False)
    """
    return re.fullmatch(r"(string|text|bytes|object|datetime|timedelta|resource|variant)\d*", dtype) is None
