"""What a layer's arrays are called in other libraries, how they lie there, and what turns them into this one's."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tally.saving.parts import Part, Shape, added, stacked

Parts = dict[str, Part]


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """One layer of the model that waits for weights.

    Args:
        path: The layer's path; of half of a layer, such as the depthwise part, it is the same for both.
        kind: The name of its class.
        word: Which of several such layers it is: `"query"`, `"reverse"`, `"pointwise"`.
        shapes: Its weights: name -> shape.
        paths: The paths of these weights.
        flat: The shape (..., channels) that is flattened right before it, if one is.
        is_named: Whether somebody gave it its name, and it doesn't only say its class.
        epsilon: What it adds to a variance.
    """

    path: str
    kind: str
    word: str
    shapes: dict[str, Shape]
    paths: dict[str, str]
    flat: Shape | None = None
    is_named: bool = False
    epsilon: float | None = None

    @property
    def form(self) -> tuple[object, ...]:
        """What decides about which units fit."""
        return self.kind, self.word, self.flat, tuple(self.shapes.items())

    @property
    def bulk(self) -> int:
        """The scalars of all but biases, by which layers that could go together are found."""
        return _bulk({name: _size(shape) for name, shape in self.shapes.items()})


@dataclass(slots=True, kw_only=True, eq=False)
class Unit:
    """One layer of the source.

    Args:
        path: What the names of its arrays begin with.
        word: As of a slot.
        parts: Its arrays by the last part of their names.
        place: Its place among all.
        is_mapped: Whether the user said where it belongs.
    """

    path: str
    word: str = ""
    parts: Parts = field(default_factory=dict)
    place: int = 0
    is_mapped: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """What decides about which slots it fits."""
        return self.word, tuple((name, part.shape) for name, part in self.parts.items())

    @property
    def bulk(self) -> int:
        """The scalars of all but biases."""
        return _bulk({name: part.size for name, part in self.parts.items()})


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _bulk(sizes: Mapping[str, int]) -> int:
    heavy = sum(size for name, size in sizes.items() if not name.startswith(("bias", "beta")))
    return heavy or sum(sizes.values())


@dataclass(frozen=True, slots=True)
class Fit:
    """How a unit's arrays become a slot's weights.

    Args:
        parts: The slot's names -> what they are made of.
        is_square: Whether it could lie either way, so that the names alone say which.
        is_odd: Whether it lies the other way than its names say.
    """

    parts: Parts
    is_square: bool = False
    is_odd: bool = False


def fit(unit: Unit, slot: Slot) -> Fit | str:
    """Turn a unit's arrays into a slot's weights; or say why they are none.

    Example:
        >>> import numpy as np
        >>> weight = Part(("fc.weight",), (2, 3), lambda: np.zeros((2, 3)))
        >>> slot = Slot(path="d", kind="Dense", word="", shapes={"kernel": (3, 2)}, paths={"kernel": "d/kernel"})
        >>> fit(Unit(path="fc", parts={"weight": weight}), slot).parts["kernel"].done
        ('transposed',)
    """
    if (slot.word or "reverse" in (unit.word, slot.word)) and unit.word != slot.word:
        return f"it is the {unit.word or 'forward'} part, not the {slot.word or 'forward'} one"
    recipe = next((recipe for pattern, recipe in _RECIPES if re.fullmatch(pattern, slot.kind)), _take_by_name)
    made = recipe(unit, slot)
    if isinstance(made, str):
        return made
    made = replace(made, parts={name: part for name, part in made.parts.items() if name in slot.shapes})
    for name, shape in slot.shapes.items():
        if name not in made.parts:
            return f"it has no {name}"
        if made.parts[name].shape != shape:
            return f"its {name} would be {made.parts[name].shape}, not {shape}"
    used = {source for part in made.parts.values() for source in part.sources}
    spare = [name for name, part in unit.parts.items() if not used.issuperset(part.sources)]
    if spare:
        return f"its {spare[0]} has no place there"
    return made


def _first(unit: Unit, *names: str) -> Part | None:
    return next((unit.parts[name] for name in names if name in unit.parts), None)


def _given(**parts: Part | None) -> Fit:
    return Fit({name: part for name, part in parts.items() if part is not None})


# -- a recipe for each kind ----------------------------------------------------------------------------------------
def _dense(unit: Unit, slot: Slot) -> Fit | str:
    shape, bias = slot.shapes["kernel"], _first(unit, "bias", "b")
    if bias is not None and "bias" in slot.shapes and _size(slot.shapes["bias"]) == bias.size:
        bias = bias.reshaped(slot.shapes["bias"])
    kernel, weight = _first(unit, "kernel"), _first(unit, "weight", "w")
    if kernel is not None:
        if kernel.size != _size(shape):
            return f"its kernel is {kernel.shape}, not {shape}"
        same_ends = kernel.shape == shape or kernel.shape[:1] == shape[:1] or kernel.shape[-1:] == shape[-1:]
        return _given(kernel=kernel.reshaped(shape) if same_ends else kernel, bias=bias)
    if weight is None:
        return "it has no weight"
    if len(weight.shape) != 2:
        return f"its weight is {weight.shape}, no matrix"
    ahead = _inputs(slot)
    rows, columns = _size(shape[:ahead]), _size(shape[ahead:])
    lies, odd = weight.shape == (columns, rows), weight.shape == (rows, columns)
    if lies:
        turned = weight.transposed((1, 0))
    elif odd:
        turned = weight
    else:
        return f"its weight is {weight.shape}, which is neither {(columns, rows)} nor {(rows, columns)}"
    if _is_turned(slot):
        turned = turned.from_channels_first(slot.flat or ())
    made = _given(kernel=turned.reshaped(shape), bias=bias)
    return Fit(made.parts, is_square=lies and odd, is_odd=odd and not lies)


def _inputs(slot: Slot) -> int:
    """How many of a kernel's axes are summed over."""
    rank = len(slot.shapes["kernel"])
    if slot.word == "attention_output":
        return rank - 1
    return 1 if "bias" not in slot.shapes or slot.word else rank - len(slot.shapes["bias"])


def _conv(unit: Unit, slot: Slot) -> Fit | str:
    """(filters, inputs, sides...) -> (sides..., inputs, filters)."""
    kernel, weight = _first(unit, "kernel", "pointwise_kernel"), _first(unit, "weight")
    name = next(name for name in slot.shapes if name.endswith("kernel"))
    rank = len(slot.shapes[name])
    if weight is not None and len(weight.shape) == rank:
        kernel = weight.transposed((*range(2, rank), 1, 0))
    elif weight is not None:
        return f"its weight is {weight.shape}, with another number of axes"
    return _given(**{name: kernel, "bias": _first(unit, "bias")})


def _conv_transpose(unit: Unit, slot: Slot) -> Fit | str:
    """(inputs, filters, sides...) -> (sides..., filters, inputs)."""
    kernel, weight = _first(unit, "kernel"), _first(unit, "weight")
    rank = len(slot.shapes["kernel"])
    if weight is not None and len(weight.shape) == rank:
        kernel = weight.transposed((*range(2, rank), 1, 0))
    elif weight is not None:
        return f"its weight is {weight.shape}, with another number of axes"
    # Flax: (sides..., inputs, filters), turned
    elif kernel is not None and kernel.shape != slot.shapes["kernel"]:
        axes = tuple(range(rank - 2))
        kernel = kernel.transposed((*axes, rank - 1, rank - 2)).flipped(axes)
    return _given(kernel=kernel, bias=_first(unit, "bias"))


def _depthwise(unit: Unit, slot: Slot) -> Fit | str:
    """(channels x multiplier, 1, sides...) -> (sides..., channels, multiplier)."""
    name = next(name for name in slot.shapes if name.endswith("kernel"))
    shape = slot.shapes[name]
    kernel, weight = _first(unit, "kernel", "depthwise_kernel"), _first(unit, "weight")
    *sides, channels, multiplier = shape
    if weight is not None:
        if weight.shape != (channels * multiplier, 1, *sides):
            return f"its weight is {weight.shape}, not {(channels * multiplier, 1, *sides)}"
        order = (*range(2, len(sides) + 2), 0, 1)
        kernel = weight.reshaped((channels, multiplier, *sides)).transposed(order)
    elif kernel is not None and kernel.shape == (*sides, 1, channels * multiplier):  # Flax
        kernel = kernel.reshaped(shape)
    return _given(**{name: kernel, "bias": _first(unit, "bias")})


def _norm(unit: Unit, slot: Slot) -> Fit:
    """Its vectors have other names; behind a flattening they stand in another order, too."""
    scale = _first(unit, "gamma", "scale", "weight")
    made = _given(
        gamma=scale,
        scale=scale,
        beta=_first(unit, "beta", "bias"),
        moving_mean=_first(unit, "moving_mean", "running_mean", "mean"),
        moving_variance=_first(unit, "moving_variance", "running_var", "var"),
    )
    if not _is_turned(slot) or unit.parts.keys().isdisjoint({"weight", "running_mean"}):
        return made
    return Fit({name: part.from_channels_first(slot.flat or ()) for name, part in made.parts.items()})


def _is_turned(slot: Slot) -> bool:
    """Whether what reaches a layer was flattened from places with channels, whose order differs between libraries."""
    return slot.flat is not None and len(slot.flat) > 1 and _size(slot.flat[:-1]) > 1


def _embedding(unit: Unit, slot: Slot) -> Fit:
    return _given(embeddings=_first(unit, "embeddings", "weight", "embedding"))


def _prelu(unit: Unit, slot: Slot) -> Fit | str:
    """One slope for all, or one for each channel, which is the last axis here."""
    shape, slope = slot.shapes["alpha"], _first(unit, "alpha", "weight", "negative_slope")
    if slope is not None and slope.shape != shape:
        if slope.size != _size(shape) or _size(shape[:-1]) != 1 or len(slope.shape) > 1:
            return f"its slopes are {slope.shape}, not {shape}"
        slope = slope.reshaped(shape)
    return _given(alpha=slope)


def _recurrent(order: tuple[int, ...]) -> Callable[[Unit, Slot], Fit | str]:
    """The recipe of a recurrent cell whose gates stand in another order there."""

    def recipe(unit: Unit, slot: Slot) -> Fit | str:
        own = _first(unit, "kernel")
        if own is not None:
            return _given(
                kernel=own, recurrent_kernel=_first(unit, "recurrent_kernel"), bias=_first(unit, "bias")
            )
        weights = [_first(unit, name) for name in ("weight_ih", "weight_hh")]
        if (
            weights[0] is None
            or weights[1] is None
            or any(w is not None and len(w.shape) != 2 for w in weights)
        ):
            return "it has no weight_ih and weight_hh"
        kernel, recurrent = (w.transposed((1, 0)).gates(order) for w in weights if w is not None)
        biases = [
            part.gates(order) for name in ("bias_ih", "bias_hh") if (part := _first(unit, name)) is not None
        ]
        bias = None
        if len(biases) == 2:
            wide = len(slot.shapes.get("bias", ())) == 2
            bias = stacked(*biases) if wide else added(*biases)
            if not wide and len(order) == 3:
                return "its second bias is inside the reset gate: make the GRU with reset_after=True"
        return _given(kernel=kernel, recurrent_kernel=recurrent, bias=bias)

    return recipe


def _take_by_name(unit: Unit, slot: Slot) -> Fit:
    """A layer that isn't known: its arrays have the same names there, and lie the same."""
    return Fit({name: part for name, part in unit.parts.items() if name in slot.shapes})


_RECIPES: tuple[tuple[str, Callable[[Unit, Slot], Fit | str]], ...] = (
    (r"Dense|EinsumDense", _dense),
    (r"Conv[123]D", _conv),
    (r"Conv[123]DTranspose", _conv_transpose),
    (r"DepthwiseConv[12]D", _depthwise),
    (r"\w*Normalization", _norm),
    (r"Embedding", _embedding),
    (r"PReLU", _prelu),
    (r"LSTMCell", _recurrent((0, 1, 2, 3))),
    (r"GRUCell", _recurrent((1, 0, 2))),
    (r"SimpleRNNCell", _recurrent((0,))),
)
