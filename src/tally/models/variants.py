"""What a layer might be instead: for each family the usual ways of making the same thing with other weights."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tally import layers, ops
from tally.accounting.words import plural
from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.models.model import Functional
from tally.models.rebuilding import copy_with

Shape = tuple[int | None, ...]
_FEW = 3
"""How many numbers of groups are shown unless asked for: more would hide the rest."""


class Recipe(NamedTuple):
    """One way to make a layer.

    Args:
        name: What it is called.
        what: What it is, in words; empty where the name says all.
        make: Makes it, unbuilt; raises where it isn't possible, with the reason.
    """

    name: str
    what: str
    make: Callable[[], Layer]


class Source(NamedTuple):
    """The layer that is varied, and what it is fed.

    Args:
        layer: Itself.
        shape: The shape of its first input, the batch first.
        dtype: The dtype of that.
        sizes: What was asked for beyond the layer's own arguments: `rank`, `bottleneck`.
    """

    layer: Layer
    shape: Shape
    dtype: str
    sizes: Mapping[str, int]

    def option(self, name: str) -> Any:
        """An option of the layer, as it settled it."""
        return getattr(self.layer, name)

    @property
    def channels(self) -> int:
        """The channels it reads."""
        size = self.shape[1 if _is_first(self.layer) else -1]
        if size is None:
            raise ArgumentError(
                "The number of input channels is open.", do="give the model an Input with that size"
            )
        return size


def recipes(source: Source) -> Iterator[Recipe]:
    """Give the ways to make a layer otherwise, in the order of a table; none for a family without any."""
    for kinds, family in _FAMILIES:
        if isinstance(source.layer, kinds):
            yield from family(source)
            return


def usual_changes(source: Source) -> Iterator[dict[str, Any]]:
    """The changes of size that are shown where none is asked for: another kernel, half as many filters or units."""
    layer = source.layer
    size = getattr(layer, "kernel_size", None)
    if isinstance(size, tuple):
        yield {"kernel_size": 5 if set(size) == {3} else 3}
    for name in ("filters", "units", "output_dim"):
        number = getattr(layer, name, None)
        if isinstance(number, int) and number > 1:
            yield {name: number // 2}
            return


# -- convolutions ----------------------------------------------------------------------------------------------------
def _convolution(source: Source) -> Iterator[Recipe]:
    layer = source.layer
    yield Recipe(
        "separable",
        "each channel by itself, then a mix of the channels",
        lambda: _separable(source),
    )
    yield Recipe("depthwise", "each channel by itself, and no mix", lambda: _depthwise(source))
    yield from _grouped(source)
    yield Recipe(
        "bottleneck",
        "a 1×1 convolution to fewer channels, the kernel there, and back",
        lambda: _bottleneck(source),
    )
    yield Recipe("factorised", "one side of the kernel after the other", lambda: _factorised(source))
    yield Recipe(
        "channel-shared",
        "one kernel for all channels: their sum, then the convolution",
        lambda: _chain(
            source, _sum_channels(source), copy_with(layer, name=f"{layer.name}_shared", groups=1)
        ),
    )


def _separable(source: Source) -> Layer:
    layer, rank = source.layer, len(source.option("kernel_size"))
    kind = {1: layers.SeparableConv1D, 2: layers.SeparableConv2D}.get(rank)
    if kind is not None:
        return kind(source.option("filters"), source.option("kernel_size"), **_shared(layer))
    # In three dimensions there is no such layer, but groups of one channel are the same.
    apart = copy_with(
        layer,
        name=f"{layer.name}_depthwise",
        filters=source.channels,
        groups=source.channels,
        use_bias=False,
        activation=None,
    )
    mix = _point(layer, "pointwise", source.option("filters"), bias=source.option("use_bias"))
    return _chain(source, apart, mix)


def _depthwise(source: Source) -> Layer:
    layer, rank = source.layer, len(source.option("kernel_size"))
    kind = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}.get(rank)
    if kind is not None:
        return kind(source.option("kernel_size"), **_shared(layer))
    return copy_with(layer, filters=source.channels, groups=source.channels)


def _grouped(source: Source) -> Iterator[Recipe]:
    layer, filters = source.layer, source.option("filters")
    whole = [g for g in range(2, source.channels + 1) if source.channels % g == 0 and filters % g == 0]
    found = [groups for groups in whole if groups != source.option("groups")]
    if not found:
        yield Recipe(
            "grouped", "each filter sees the channels of its group alone", lambda: _no_groups(source)
        )
    for groups in _spread(found):
        yield Recipe(
            f"groups={groups}",
            f"each filter sees the {source.channels // groups} channels of its group alone"
            if groups < source.channels
            else "each filter sees one channel alone",
            lambda groups=groups: copy_with(layer, groups=groups),
        )


def _spread(found: list[int]) -> list[int]:
    """A few of many numbers: the smallest, and the largest, which is the farthest one can go."""
    return found if len(found) <= _FEW else [*found[: _FEW - 1], found[-1]]


def _no_groups(source: Source) -> Layer:
    raise ArgumentError(
        f"{source.channels} input channels and {source.option('filters')} filters have no other number of groups "
        "that divides both."
    )


def _bottleneck(source: Source) -> Layer:
    layer, filters = source.layer, source.option("filters")
    width = source.sizes.get("bottleneck", max(filters // 4, 1))
    if max(source.option("kernel_size")) == 1:
        raise ArgumentError("The kernel has a single position already.")
    return _chain(
        source,
        _point(layer, "reduce", width),
        copy_with(layer, name=f"{layer.name}_inner", filters=width, groups=1, activation=None),
        _point(layer, "expand", filters, bias=source.option("use_bias")),
    )


def _factorised(source: Source) -> Layer:
    layer, size = source.layer, source.option("kernel_size")
    sides = [side for side, length in enumerate(size) if length > 1]
    if len(sides) < 2:
        raise ArgumentError("The kernel has only one side longer than 1, so there is nothing to take apart.")
    strides, holes = source.option("strides"), source.option("dilation_rate")
    steps: list[Any] = []
    for number, side in enumerate(sides):
        last = number == len(sides) - 1
        # A side without a kernel of its own still moves by its stride, with the first of the others.
        moved = [i for i in range(len(size)) if i == side or (not number and i not in sides)]
        steps.append(
            copy_with(
                layer,
                name=f"{layer.name}_{number}",
                kernel_size=tuple(size[i] if i == side else 1 for i in range(len(size))),
                strides=tuple(strides[i] if i in moved else 1 for i in range(len(size))),
                dilation_rate=tuple(holes[i] if i == side else 1 for i in range(len(size))),
                use_bias=source.option("use_bias") and last,
                activation=layer.get_config()["activation"] if last else None,
                groups=1,
            )
        )
    return _chain(source, *steps)


def _sum_channels(source: Source) -> Callable[[Any], Any]:
    axis = 1 if _is_first(source.layer) else -1
    return lambda x: ops.sum(x, axis=axis, keepdims=True)


def _point(layer: Layer, name: str, filters: int, bias: bool = False) -> Layer:
    """A convolution of a single position: a mix of the channels."""
    return copy_with(
        layer,
        name=f"{layer.name}_{name}",
        filters=filters,
        kernel_size=1,
        strides=1,
        dilation_rate=1,
        groups=1,
        use_bias=bias,
        activation=layer.get_config()["activation"] if bias else None,
    )


def _shared(layer: Any) -> dict[str, Any]:
    """What every convolution takes, as the layer has it."""
    names = (
        "strides",
        "padding",
        "data_format",
        "dilation_rate",
        "activation",
        "use_bias",
        "name",
        "trainable",
    )
    return {name: getattr(layer, name) for name in names} | {"dtype": layer.dtype_policy}


def _is_first(layer: Layer) -> bool:
    return getattr(layer, "data_format", None) == "channels_first"


def _ordinary(source: Source) -> Iterator[Recipe]:
    """A depthwise or separable convolution as the ordinary one of the same output."""
    layer, rank = source.layer, len(source.option("kernel_size"))
    kind = {1: layers.Conv1D, 2: layers.Conv2D}[rank]

    def make() -> Layer:
        filters = getattr(layer, "filters", None) or source.channels * source.option("depth_multiplier")
        return kind(filters, source.option("kernel_size"), **_shared(layer))

    yield Recipe("ordinary", "each filter sees every channel", make)


# -- matrices ---------------------------------------------------------------------------------------------------------
def _matrix(source: Source) -> Iterator[Recipe]:
    layer, units = source.layer, source.option("units")

    def make(rank: int) -> Layer:
        inner = {"name": f"{layer.name}_a", "units": rank, "use_bias": False, "activation": None}
        return _chain(source, copy_with(layer, **inner), copy_with(layer, name=f"{layer.name}_b"))

    whole = min(source.channels, units)
    for rank in _ranks(source, whole):
        yield Recipe(
            f"rank={rank}", f"two matrices, with {rank} numbers between", lambda rank=rank: make(rank)
        )
    if source.option("use_bias"):
        yield Recipe(
            "no bias", "without the number added to each unit", lambda: copy_with(layer, use_bias=False)
        )


def _table(source: Source) -> Iterator[Recipe]:
    layer = source.layer

    def make(rank: int) -> Layer:
        rows = copy_with(layer, name=f"{layer.name}_rows", output_dim=rank)
        wide = layers.Dense(
            source.option("output_dim"), use_bias=False, name=f"{layer.name}_wide", dtype=layer.dtype_policy
        )
        return _chain(source, rows, wide)

    for rank in _ranks(source, source.option("output_dim")):
        yield Recipe(f"rank={rank}", f"rows of {rank} numbers, then a matrix", lambda rank=rank: make(rank))


def _ranks(source: Source, whole: int) -> list[int]:
    """The rank that was asked for; else a half, a quarter and an eighth of the full one."""
    if "rank" in source.sizes:
        return [source.sizes["rank"]]
    return sorted({whole // part for part in (2, 4, 8) if whole >= part}, reverse=True)


# -- sequences --------------------------------------------------------------------------------------------------------
_RECURRENT = {
    "LSTM": (layers.LSTM, "four gates"),
    "GRU": (layers.GRU, "three gates"),
    "SimpleRNN": (layers.SimpleRNN, "no gates"),
}


def _recurrent(source: Source) -> Iterator[Recipe]:
    layer = source.layer
    for name, (kind, what) in _RECURRENT.items():
        if type(layer) is not kind:
            yield Recipe(name, what, lambda kind=kind: _as(kind, layer))
    yield Recipe(
        "bidirectional",
        "another one for the other direction",
        lambda: layers.Bidirectional(_as(type(layer), layer), name=layer.name),
    )


def _as(kind: Any, layer: Layer) -> Layer:
    """A recurrent layer of another kind with what both take."""
    names = (
        "units",
        "use_bias",
        "dropout",
        "recurrent_dropout",
        "return_sequences",
        "return_state",
        "go_backwards",
    )
    config = layer.get_config()
    return kind.from_config({name: config[name] for name in (*names, "stateful", "unroll", "name", "dtype")})


def _both_ways(source: Source) -> Iterator[Recipe]:
    wrapper: Any = source.layer

    def one_way() -> Layer:
        return copy_with(wrapper.forward_layer, name=wrapper.name)

    yield Recipe("one direction", "the forward layer alone", one_way)
    inner = wrapper.forward_layer
    for name, (kind, what) in _RECURRENT.items():
        if type(inner) is not kind and type(inner) in [one for one, _ in _RECURRENT.values()]:
            yield Recipe(
                name,
                f"{what}, both ways",
                lambda kind=kind: layers.Bidirectional(
                    _as(kind, inner), merge_mode=wrapper.merge_mode, name=wrapper.name
                ),
            )


def _heads(source: Source) -> Iterator[Recipe]:
    """Attention whose heads share keys and values, in groups of two and all together."""
    layer, heads = source.layer, source.option("num_heads")

    def make(shared: int) -> Layer:
        return layers.GroupQueryAttention(
            source.option("key_dim"),
            heads,
            shared,
            use_bias=source.option("use_bias"),
            name=layer.name,
            dtype=layer.dtype_policy,
        )

    for shared in dict.fromkeys(number for number in (heads // 2, 1) if number and heads % number == 0):
        if shared < heads:
            yield Recipe(
                f"key heads={shared}",
                f"{heads} query heads share {plural(shared, 'head')} of keys and values",
                lambda shared=shared: make(shared),
            )


def _chain(source: Source, *steps: Callable[[Any], Any]) -> Layer:
    """One layer after the other, under the name of the layer they stand for."""
    name = source.layer.name
    start = x = layers.Input(batch_shape=source.shape, dtype=source.dtype, name=f"{name}_input")
    for step in steps:
        x = step(x)
    return Functional(start, x, name=name)


_CONV = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_APART = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
_LOOPS = tuple(kind for kind, _ in _RECURRENT.values())
_FAMILIES: tuple[tuple[Any, Callable[[Source], Iterator[Recipe]]], ...] = (
    (_CONV, _convolution),
    (_APART, _ordinary),
    (layers.Dense, _matrix),
    (layers.Embedding, _table),
    (_LOOPS, _recurrent),
    (layers.Bidirectional, _both_ways),
    (layers.MultiHeadAttention, _heads),
)
