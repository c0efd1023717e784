"""The account of what Flax makes: modules of NNX, and of Linen with their variables."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tally.accounting.ledger import Ledger, Owner, State
from tally.readers import pytree
from tally.readers.leaves import SIDES
from tally.readers.parts import (
    Array,
    Kind,
    Part,
    assemble,
    attributes_of,
    class_of,
    dtype_of,
    is_array,
    is_key,
    is_of,
    line_of,
    members,
    shape_of,
    sizes_of,
    takes_gradients,
    under,
)
from tally.readers.walk import Walk

_LINEN = "flax.linen.module.Module"
_NNX = ("flax.nnx.pytreelib.Pytree", "flax.nnx.object.Object", "flax.nnx.module.Module", "flax.nnx.*.Object")
_VARIABLE = "flax.nnx.variablelib.Variable"


def matches(thing: Any) -> bool:
    """Tell whether a thing is a module of Flax, or one of Linen with its variables in a tuple; nothing is imported.

    Example:
        >>> matches(3)
        False
    """
    return is_of(thing, _LINEN, *_NNX) or _is_pair(thing)


def _is_pair(thing: Any) -> bool:
    if not isinstance(thing, tuple):
        return False
    pair = cast("tuple[Any, ...]", thing)
    return len(pair) == 2 and is_of(pair[0], _LINEN) and isinstance(pair[1], Mapping)


def read(thing: Any) -> Ledger:
    """Read the account of a module of NNX, a bound module of Linen, or `(module, variables)`.

    Args:
        thing: The module, or the pair.

    Raises:
        UnreadableError: It is a module of Linen alone, whose variables are elsewhere.
    """
    if _is_pair(thing):
        return _read_linen(*thing)
    if is_of(thing, _LINEN):
        return _read_linen(thing, None)
    walk = _Walk(_KINDS)
    walk.visit(thing, "")
    return assemble(walk.parts, name=type(thing).__name__, source="Flax NNX model")


# -- Linen ---------------------------------------------------------------------------------------------------------
def _read_linen(module: Any, variables: Mapping[str, Any] | None) -> Ledger:
    kind = class_of(module)
    if variables is None:
        if getattr(module, "scope", None) is None:
            from tally.readers.live import UnreadableError

            raise UnreadableError(
                f"{kind.__name__} is a module of Flax Linen, which holds no parameters itself.",
                "give the module with its variables, (module, variables), or module.bind(variables); "
                "jax.eval_shape(module.init, key, x) makes variables without computing anything",
            )
        variables = cast("Mapping[str, Any]", module.variables)
    kept = {name: tree for name, tree in variables.items() if name not in _PASSING}
    if not any(name in kept for name in ("params", "batch_stats", "cache")):
        kept = {"params": kept}
    ledger = pytree.of_leaves(list(pytree.leaves_of(kept)), name=kind.__name__, source="Flax Linen model")
    root = Owner(
        path="",
        name=kind.__name__,
        type=kind.__name__,
        module=kind.__module__,
        builtin=False,
        options=sizes_of(module),
        origin=line_of(kind),
        notes=ledger.owners[0].notes if ledger.owners and not ledger.owners[0].path else (),
    )
    owners = [_told(owner) for owner in ledger.owners if owner.path]
    return replace(ledger, owners=(root, *owners))


_PASSING = ("intermediates", "perturbations")
"""Collections that a call leaves behind, and that are no part of a model."""


def _told(owner: Owner) -> Owner:
    """A block with the class that Flax has named it after: `ResBlock_0` is a ResBlock."""
    found = re.fullmatch(r"([A-Z]\w*?)_\d+", owner.path.rpartition("/")[2])
    if found is None or owner.type not in ("Block", "unknown"):
        return owner
    return replace(owner, type=found[1], notes=() if owner.type == "Block" else owner.notes)


# -- NNX -----------------------------------------------------------------------------------------------------------
class _Walk(Walk):
    """One way through a graph of NNX."""

    library, layers, layout = "flax.", "flax.nnx.", "keras"

    def held(self, module: Any) -> Iterator[tuple[str, Any]]:
        """The variables and modules among the attributes."""
        return _held(module)

    def arrays(self, place: str, thing: Any) -> Iterator[Array] | None:
        """The arrays of a variable or of a random generator."""
        if is_of(thing, _VARIABLE):
            return _variable(place, thing)
        return _stream(place, thing) if is_of(thing, *_RANDOM) else None

    def named(self, part: Part, known: Mapping[str, tuple[str, ...]]) -> Iterator[Array]:
        """Arrays with their axes, parameters first."""
        yield from sorted(
            super().named(part, known), key=lambda array: array.state not in ("trainable", "frozen")
        )


_RANDOM = ("flax.nnx.rnglib.RngStream", "flax.nnx.rnglib.Rngs")


def _held(module: Any) -> Iterator[tuple[str, Any]]:
    """The variables and modules among the attributes; lists and dictionaries of NNX are looked into."""
    held = {name: value for name, value in attributes_of(module).items() if not name.startswith("_pytree__")}
    for place, thing in members(held, lambda value: is_of(value, _VARIABLE, *_NNX)):
        if type(thing).__module__ == "flax.nnx.helpers" and type(thing).__name__ in ("List", "Dict"):
            yield from ((under(place, name), one) for name, one in _held(thing))
        else:
            yield place, thing


def _stream(place: str, stream: Any) -> Iterator[Array]:
    """Where a random generator stands: its keys and its counters."""
    for name, thing in _held(stream):
        if is_of(thing, _VARIABLE):
            yield from _variable(under(place, name), thing)
        else:
            yield from _stream(under(place, name), thing)


_STATES: tuple[tuple[str, State], ...] = (
    ("flax.nnx.rnglib.RngState", "seed"),
    ("flax.nnx.variablelib.Param", "trainable"),
    ("flax.nnx.*.OptVariable", "optimizer"),
    ("flax.nnx.*.OptState", "optimizer"),
)


def _variable(place: str, variable: Any) -> Iterator[Array]:
    """The array of a variable; of one that holds a tree, each."""
    known: list[State] = [state for name, state in _STATES if is_of(variable, name)]
    state: State = known[0] if known else "state"
    value = variable.get_value() if hasattr(variable, "get_value") else variable.value
    single = is_array(value)
    leaves = [pytree.Leaf((), value)] if single else list(pytree.leaves_of(value))
    for leaf in leaves:
        found: State = "seed" if is_key(leaf.array) else state
        dtype = dtype_of(leaf.array) or "float32"
        if found == "trainable" and not takes_gradients(dtype):
            found = "frozen"
        where = "/".join((place, *leaf.place))
        yield Array(
            name=where.replace("/", "."),
            place=where,
            shape=shape_of(leaf.array),
            dtype=dtype,
            state=found,
            of=id(variable) if single else (id(variable), leaf.place),
        )


def _convolution(transposed: bool) -> Callable[[Any], Kind]:
    def make(module: Any) -> Kind:
        window = module.kernel_size
        rank = len(cast("Sequence[Any]", window)) if isinstance(window, Sequence) else 1
        per = " per group" if getattr(module, "feature_group_count", 1) > 1 else ""
        sides = tuple(f"kernel {side}" for side in SIDES.get(rank, ("side",) * rank))
        ends = (f"input channels{per}", "filters")
        options: dict[str, str | Callable[[Any], Any]] = {
            "filters": "out_features",
            "kernel_size": "kernel_size",
            "strides": "strides",
            "padding": lambda m: m.padding.lower() if isinstance(m.padding, str) else m.padding,
            "dilation_rate": "kernel_dilation",
            "groups": lambda m: getattr(m, "feature_group_count", 1),
            "use_bias": "use_bias",
        }
        name = f"Conv{rank}D{'Transpose' if transposed else ''}"
        return Kind(name, options, {"kernel": (*sides, *ends), "bias": ("filters",)})

    return make


_CHANNELS: dict[str, tuple[str, ...]] = dict.fromkeys(("scale", "bias", "mean", "var"), ("channels",))
_SCALED: dict[str, str | Callable[[Any], Any]] = {"center": "use_bias", "scale": "use_scale"}
_KINDS: dict[str, Kind | Callable[[Any], Kind]] = {
    "Linear": Kind(
        "Dense",
        {"units": "out_features", "use_bias": "use_bias"},
        {"kernel": ("features", "units"), "bias": ("units",)},
    ),
    "Embed": Kind(
        "Embedding",
        {"input_dim": "num_embeddings", "output_dim": "features"},
        {"embedding": ("tokens", "features")},
    ),
    "Conv": _convolution(False),
    "ConvTranspose": _convolution(True),
    "BatchNorm": Kind("BatchNormalization", _SCALED, _CHANNELS),
    "LayerNorm": Kind("LayerNormalization", _SCALED, _CHANNELS),
    "RMSNorm": Kind("RMSNormalization", {"scale": "use_scale"}, _CHANNELS),
    "GroupNorm": Kind("GroupNormalization", {"groups": "num_groups", **_SCALED}, _CHANNELS),
    "InstanceNorm": Kind("InstanceNormalization", _SCALED, _CHANNELS),
    "Dropout": Kind("Dropout", {"rate": "rate"}),
    "MultiHeadAttention": Kind("MultiHeadAttention", {"num_heads": "num_heads", "key_dim": "head_dim"}),
    "LinearGeneral": lambda module: _general(module),
    "LSTMCell": Kind("LSTMCell", {"units": "hidden_features"}),
    "OptimizedLSTMCell": Kind("LSTMCell", {"units": "hidden_features"}),
    "GRUCell": Kind("GRUCell", {"units": "hidden_features"}),
    "SimpleCell": Kind("SimpleRNNCell", {"units": "hidden_features"}),
    "RNN": Kind("RNN"),
    "Bidirectional": Kind("Bidirectional"),
    "Sequential": Kind("Sequential"),
    "PReLU": Kind("PReLU", {}, {"negative_slope": ()}),
    "LoRA": Kind("LoRA", {}, {"lora_a": ("features", "rank"), "lora_b": ("rank", "units")}),
}


def _general(module: Any) -> Kind:
    """A projection into several axes: those inside an attention have heads."""
    made, taken = (_length(module.out_features), _length(module.in_features))
    if (taken, made) == (1, 2):
        axes, bias = ("features", "heads", "key size"), ("heads", "key size")
    elif (taken, made) == (2, 1):
        axes, bias = ("heads", "key size", "features"), ("features",)
    else:
        return Kind("EinsumDense", {"use_bias": "use_bias"})
    return Kind("EinsumDense", {"use_bias": "use_bias"}, {"kernel": axes, "bias": bias})


def _length(sizes: Any) -> int:
    return len(cast("tuple[Any, ...]", sizes)) if isinstance(sizes, tuple) else 1
