"""The account of an Equinox module: its fields, of which arrays of real numbers learn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from tally.accounting.ledger import Ledger, State
from tally.readers import pytree
from tally.readers.leaves import SIDES
from tally.readers.parts import (
    Array,
    Kind,
    Part,
    assemble,
    class_of,
    dtype_of,
    is_array,
    is_key,
    is_of,
    line_of,
    members,
    recognised,
    shape_of,
    sizes_of,
    takes_gradients,
    under,
)

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


@dataclass
class _Walk:
    """One way through a module, from the outside in."""

    state: Mapping[Any, Any]
    parts: list[Part] = field(default_factory=lambda: list[Part]())
    above: list[Any] = field(default_factory=lambda: list[Any]())

    def visit(self, module: Any, path: str) -> None:
        """List a module, its arrays, and the modules inside."""
        if any(module is one for one in self.above):
            return
        part = _part(module, path)
        self.parts.append(part)
        self.above.append(module)
        held = {one.name: getattr(module, one.name, None) for one in fields(module) if not _is_static(one)}
        inside: list[tuple[str, Any]] = []
        for place, thing in members(held, _is_wanted):
            if is_of(thing, _INDEX):
                part.arrays += self._kept_at(place, thing)
            elif is_array(thing):
                part.arrays.append(_array(place, thing))
            else:
                inside.append((place, thing))
        part.arrays = list(_named(module, part))
        for place, child in inside:
            self.visit(child, under(path, place))
        self.above.pop()

    def _kept_at(self, place: str, index: Any) -> Iterator[Array]:
        """What a layer keeps from call to call: in the state beside the model, or still in the layer."""
        value = self.state.get(getattr(index, "marker", None), getattr(index, "init", None))
        for leaf in pytree.leaves_of(value):
            yield _array("/".join((place, *leaf.place)).removesuffix("/value"), leaf.array, "state")


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


def _part(module: Any, path: str) -> Part:
    own = class_of(module)
    builtin = own.__module__.startswith("equinox.")
    kind = _kind(module)
    return Part(
        path=path,
        name="" if path else own.__name__,
        type=kind.type if kind is not None and builtin else own.__name__,
        builtin=builtin,
        module=own.__module__,
        options=kind.options_of(module) if kind is not None else () if builtin else sizes_of(module),
        origin=None if builtin else line_of(own),
    )


def _named(module: Any, part: Part) -> Iterator[Array]:
    kind = _kind(module)
    known: Mapping[str, tuple[str, ...]] = kind.axes_of(module) if kind is not None else {}
    if not known:
        found = recognised((type(module).__name__, part.path), part.arrays, "torch")
        known = found.axes if found is not None else {}
    for array in part.arrays:
        axes = known.get(array.name, ())
        if array.state == "state" and part.type == "BatchNormalization" and len(array.shape) == 1:
            axes = ("channels",)
        if len(axes) < len(array.shape) and axes:  # a bias that is ready to be added to an image
            axes = (*axes, *("broadcast" for _ in array.shape[len(axes) :]))
        yield replace(array, axes=axes) if len(axes) == len(array.shape) else array


def _kind(module: Any) -> Kind | None:
    """What is known of a module's class, or of the class of Equinox that it comes from."""
    for own in type(module).__mro__:
        if own.__module__.startswith("equinox.nn.") and own.__name__ in _KINDS:
            return _KINDS[own.__name__]
    return None


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
