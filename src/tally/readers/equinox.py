"""The account of an Equinox module: its fields, of which arrays of real numbers learn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, cast

from tally.accounting.ledger import Ledger, State
from tally.readers import pytree
from tally.readers.leaves import SIDES
from tally.readers.parts import (
    Array,
    Kind,
    Part,
    assemble,
    dtype_of,
    is_array,
    is_key,
    is_of,
    members,
    shape_of,
    takes_gradients,
)
from tally.readers.walk import Walk

_MODULE = "equinox.*.Module"
_INDEX = "equinox.*.StateIndex"
_STATE = "equinox.*.State"


def matches(thing: Any) -> bool:
    """Tell whether a thing is a module of Equinox, or one with its state in a tuple; Equinox is not imported.

    Example:
        >>> matches((1, 2))
        False
    """
    return is_of(thing, _MODULE) or _is_pair(thing)


def _is_pair(thing: Any) -> bool:
    if not isinstance(thing, tuple):
        return False
    pair = cast("tuple[Any, ...]", thing)
    return len(pair) == 2 and is_of(pair[0], _MODULE) and is_of(pair[1], _STATE)


def read(thing: Any) -> Ledger:
    """Read the account of a module, or of `(module, state)` as `eqx.nn.make_with_state` gives them.

    Args:
        thing: The module, or the pair.
    """
    module, state = thing if _is_pair(thing) else (thing, None)
    kept = getattr(state, "_state", None)
    walk = _Walk(cast("Mapping[Any, Any]", kept) if isinstance(kept, Mapping) else {})
    walk.visit(module, "")
    if state is not None and not walk.state:
        walk.parts[0].arrays += _kept(state)
    return assemble(walk.parts, name=type(module).__name__, source="Equinox model")


class _Walk(Walk):
    """One way through a module of Equinox: fields in their order, static ones left out."""

    library, layers, layout = "equinox.", "equinox.nn.", "torch"

    def __init__(self, state: Mapping[Any, Any]) -> None:
        super().__init__(_KINDS)
        self.state = state

    def held(self, module: Any) -> Iterator[tuple[str, Any]]:
        """The arrays and modules in fields, however deep in containers."""
        held = {one.name: getattr(module, one.name, None) for one in fields(module) if not _is_static(one)}
        return members(held, _is_wanted)

    def arrays(self, place: str, thing: Any) -> Iterator[Array] | None:
        """The array itself, or what a layer keeps from call to call."""
        if is_of(thing, _INDEX):
            return self._kept_at(place, thing)
        return iter([_array(place, thing)]) if is_array(thing) else None

    def named(self, part: Part, known: Mapping[str, tuple[str, ...]]) -> Iterator[Array]:
        """Arrays with their axes: a bias is ready to be added to an image, and averages have numbers for names."""
        fitting = {
            array.name: (*axes, *("broadcast" for _ in array.shape[len(axes) :]))
            for array in part.arrays
            if (axes := known.get(array.name))
        }
        for array in super().named(part, fitting):
            is_average = (
                array.state == "state" and part.type == "BatchNormalization" and len(array.shape) == 1
            )
            number = array.place.rpartition("/")[2]
            if is_average and number in _AVERAGES:
                array = replace(array, name=_AVERAGES[number], axes=("channels",))
            yield array

    def _kept_at(self, place: str, index: Any) -> Iterator[Array]:
        """What a layer keeps from call to call: in the state beside the model, or still in the layer."""
        value = self.state.get(getattr(index, "marker", None), getattr(index, "init", None))
        for leaf in pytree.leaves_of(value):
            yield _array("/".join((place, *leaf.place)).removesuffix("/value"), leaf.array, "state")


_AVERAGES = {"0": "mean", "1": "var"}
"""What stands where in the pair that a batch normalisation keeps."""


def _is_static(one: Any) -> bool:
    return bool(one.metadata.get("static"))


def _is_wanted(value: Any) -> bool:
    return is_of(value, _MODULE, _INDEX) or is_array(value)


def _array(place: str, thing: Any, state: State | None = None) -> Array:
    dtype = dtype_of(thing) or "float32"
    learns: State = "seed" if is_key(thing) else "trainable" if takes_gradients(dtype) else "fixed"
    return Array(
        name=place.replace("/", "."),
        place=place,
        shape=shape_of(thing),
        dtype=dtype,
        state=state or learns,
        of=id(thing),
    )


def _kept(state: Any) -> Iterator[Array]:
    for leaf in pytree.leaves_of(state):
        yield _array("/".join(("state", *leaf.place)), leaf.array, "state")


_Read = str | Callable[[Any], Any]


def _convolution(rank: int | None, transposed: bool) -> Kind:
    def axes(module: Any) -> Mapping[str, tuple[str, ...]]:
        per = " per group" if getattr(module, "groups", 1) > 1 else ""
        sides = tuple(f"kernel {side}" for side in SIDES.get(module.num_spatial_dims, ()))
        return {"weight": ("filters", f"input channels{per}", *sides), "bias": ("filters",)}

    options: dict[str, _Read] = {
        "filters": "out_channels",
        "kernel_size": "kernel_size",
        "strides": "stride",
        "padding": "padding",
        "dilation_rate": "dilation",
        "data_format": lambda _: "channels_first",
        "groups": "groups",
        "use_bias": "use_bias",
    }
    return Kind(f"Conv{rank or ''}D{'Transpose' if transposed else ''}", options, axes)


def _pooling(name: str, rank: int) -> Kind:
    options: dict[str, _Read] = {"pool_size": "kernel_size", "strides": "stride"}
    return Kind(f"{name}Pooling{rank}D", options)


_CHANNELS: dict[str, tuple[str, ...]] = dict.fromkeys(("weight", "bias"), ("channels",))
_SCALED: dict[str, _Read] = {"center": lambda m: m.bias is not None, "scale": lambda m: m.weight is not None}
_GATED = {"units": "hidden_size", "use_bias": "use_bias"}

_KINDS: dict[str, Kind] = {
    "Linear": Kind(
        "Dense",
        {"units": "out_features", "use_bias": "use_bias"},
        {"weight": ("units", "features"), "bias": ("units",)},
    ),
    **{f"Conv{rank}d": _convolution(rank, False) for rank in SIDES},
    **{f"ConvTranspose{rank}d": _convolution(rank, True) for rank in SIDES},
    "Embedding": Kind(
        "Embedding",
        {"input_dim": "num_embeddings", "output_dim": "embedding_size"},
        {"weight": ("tokens", "features")},
    ),
    "LayerNorm": Kind("LayerNormalization", _SCALED, _CHANNELS),
    "GroupNorm": Kind("GroupNormalization", {"groups": "groups", **_SCALED}, _CHANNELS),
    "RMSNorm": Kind("RMSNormalization", {}, _CHANNELS),
    "BatchNorm": Kind("BatchNormalization", _SCALED, _CHANNELS),
    "GRUCell": Kind(
        "GRUCell",
        _GATED,
        {
            "weight_ih": ("3 gates·units", "features"),
            "weight_hh": ("3 gates·units", "units"),
            "bias": ("3 gates·units",),
            "bias_n": ("units",),
        },
    ),
    "LSTMCell": Kind(
        "LSTMCell",
        _GATED,
        {
            "weight_ih": ("4 gates·units", "features"),
            "weight_hh": ("4 gates·units", "units"),
            "bias": ("4 gates·units",),
        },
    ),
    "MultiheadAttention": Kind("MultiHeadAttention", {"num_heads": "num_heads", "key_dim": "qk_size"}),
    "MLP": Kind("MLP", {"width": "width_size", "depth": "depth"}),
    "PReLU": Kind("PReLU"),
    "Dropout": Kind("Dropout", {"rate": "p"}),
    "Identity": Kind("Identity"),
    "Sequential": Kind("Sequential"),
    "Lambda": Kind("Activation", {"activation": "fn"}),
    **{f"MaxPool{rank}d": _pooling("Max", rank) for rank in SIDES},
    **{f"AvgPool{rank}d": _pooling("Average", rank) for rank in SIDES},
    **{
        f"Adaptive{short}Pool{rank}d": Kind(f"Adaptive{word}Pooling{rank}D", {"output_size": "target_shape"})
        for rank in SIDES
        for short, word in {"Avg": "Average", "Max": "Max"}.items()
    },
}
"""Each class of `equinox.nn` by its name."""
