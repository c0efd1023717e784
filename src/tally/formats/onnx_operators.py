"""What the operators of ONNX make of the arrays they take: a kernel, a statistic, a scale, with named axes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tally.formats.uses import Meaning, Passing, Step, Use, seen, sides

_FIXED_PLACES: dict[str, tuple[int, ...]] = {
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (4, 5, 6, 8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "GRU": (4, 5),
    "GatherBlockQuantized": (2, 3),
    "GroupQueryAttention": (7, 8),
    "LSTM": (4, 5, 6),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "RNN": (4, 5),
    "Resize": (1, 2, 3),
    "RotaryEmbedding": (1, 2, 3),
    "Upsample": (1,),
}
"""Inputs that are no weights whatever they hold: scales, zero points, sizes, tables of angles, states to start from."""

_PLACES: dict[str, dict[int, str]] = {
    "Attention": {1: "right", 2: "units"},
    "BatchNormalization": {1: "channels", 2: "channels", 3: "statistic", 4: "statistic"},
    "BiasGelu": {1: "features"},
    "Conv": {1: "kernel", 2: "filters"},
    "ConvInteger": {1: "kernel"},
    "ConvTranspose": {1: "transposed kernel", 2: "filters"},
    "DeformConv": {1: "kernel", 3: "filters"},
    "DynamicQuantizeLSTM": {1: "gates by features, turned", 2: "gates by units, turned", 3: "gates"},
    "DynamicQuantizeMatMul": {1: "right", 4: "units"},
    "EmbedLayerNormalization": {2: "tokens", 3: "tokens", 4: "tokens", 5: "features", 6: "features"},
    "FastGelu": {1: "features"},
    "FusedConv": {1: "kernel", 2: "filters"},
    "FusedGemm": {0: "gemm left", 1: "gemm right", 2: "units"},
    "FusedMatMul": {0: "left", 1: "right"},
    "GRU": {1: "gates by features", 2: "gates by units", 3: "gates"},
    "Gather": {0: "tokens"},
    "GatherBlockQuantized": {0: "tokens"},
    "Gemm": {0: "gemm left", 1: "gemm right", 2: "units"},
    "GroupNorm": {1: "channels", 2: "channels"},
    "GroupNormalization": {1: "channels", 2: "channels"},
    "InstanceNormalization": {1: "channels", 2: "channels"},
    "LSTM": {1: "gates by features", 2: "gates by units", 3: "gates", 7: "peepholes"},
    "LayerNormalization": {1: "features", 2: "features"},
    "MatMul": {0: "left", 1: "right"},
    "MatMulInteger": {0: "left", 1: "right"},
    "MatMulIntegerToFloat": {1: "right", 6: "units"},
    "MatMulNBits": {1: "rows of units", 5: "units"},
    "MultiHeadAttention": {3: "units"},
    "PRelu": {1: "slope"},
    "QAttention": {1: "right", 2: "units"},
    "QGemm": {0: "gemm left", 3: "gemm right", 6: "units"},
    "QLinearConv": {3: "kernel", 8: "filters"},
    "QLinearMatMul": {0: "left", 3: "right"},
    "RMSNormalization": {1: "features"},
    "RNN": {1: "gates by features", 2: "gates by units", 3: "gates"},
    "SimplifiedLayerNormalization": {1: "features"},
    "SkipLayerNormalization": {2: "features", 3: "features", 4: "features"},
    "SkipSimplifiedLayerNormalization": {2: "features", 3: "features"},
}
"""What each operator's inputs are, by place."""

_UNSURE = ("Gather",)
"""Operators that also take arrays which are no weights: theirs are weights only if they hold fractions."""
HEAVY = (
    "Conv",
    "ConvTranspose",
    "ConvInteger",
    "MatMul",
    "MatMulNBits",
    "MatMulInteger",
    "Gemm",
    "LSTM",
    "GRU",
    "RNN",
)
"""How the names of operators end that multiply with an array; a constant which they take acts as a weight."""
_GATES = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
_RESHAPING = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Split", "Slice", "Concat")
_UNCHANGED = ("Identity", "Cast", "CastLike", "DequantizeLinear", "QuantizeLinear")


def passing(step: Step, place: int) -> Passing:
    """Tell how an operator hands on what it takes; see `Flow`."""
    if place == 0 and step.type in _UNCHANGED:
        return "same"
    if step.type == "Transpose":
        order = step.options.get("perm")
        return tuple(order) if isinstance(order, tuple) and _is_order(order) else "lost"  # pyright: ignore
    if step.type in _RESHAPING and (place == 0 or step.type == "Concat"):
        return "lost"
    return None


def _is_order(order: tuple[Any, ...]) -> bool:
    return sorted(order) == list(range(len(order)))


def meaning(use: Use, shape: tuple[int, ...]) -> Meaning | None:
    """Tell what an operator makes of an array; None if it says nothing.

    Args:
        use: The operator and the place.
        shape: The array's own.

    Example:
        >>> conv = Step(name="c", type="Conv", options={"group": 1})
        >>> meaning(Use(conv, 1), (8, 3, 5, 5)).axes
        ('filters', 'input channels', 'kernel height', 'kernel width')
    """
    step = use.step
    if use.place in _FIXED_PLACES.get(step.type, ()):
        return Meaning("fixed")
    kind = _PLACES.get(step.type, {}).get(use.place)
    if kind is None:
        return None
    met = seen(use, shape)
    axes = () if met is None else _axes(kind, step, met)
    return Meaning("state" if kind == "statistic" else "weight", axes, step.type not in _UNSURE)


def _axes(kind: str, step: Step, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the dimensions of an array as an operator sees it; none where it can't be what the operator takes."""
    rank = len(shape)
    if kind in _NAMED:
        return _NAMED[kind](rank, step.options)
    if kind in ("channels", "statistic"):
        return ("channels",) if rank == 1 else ()
    if kind == "units" and rank == 2:
        return ("", "units")
    if kind in ("filters", "units", "features"):
        return (kind,) if rank == 1 else ("",) * (rank - 1) + (kind,)
    if kind == "slope":
        return ("channels",) + ("",) * (rank - 1) if rank and math.prod(shape[1:]) == 1 else ()
    return _gates(kind, _GATES.get(step.type, 1), rank)


def _kernel(rank: int, options: Mapping[str, Any], *, transposed: bool = False) -> tuple[str, ...]:
    """Name a kernel's axes: filters first, or input channels first where the convolution is transposed."""
    if rank < 3:
        return ()
    grouped = options.get("group", 1) != 1
    if transposed:
        return ("input channels", "filters per group" if grouped else "filters", *sides(rank - 2))
    return ("filters", "input channels per group" if grouped else "input channels", *sides(rank - 2))


def _matrix(rank: int, names: tuple[str, str]) -> tuple[str, ...]:
    return ("",) * (rank - 2) + names if rank >= 2 else ("features",)[:rank]


def _turned(names: tuple[str, str], is_turned: object) -> tuple[str, str]:
    return (names[1], names[0]) if is_turned else names


_NAMED: dict[str, Callable[[int, Mapping[str, Any]], tuple[str, ...]]] = {
    "kernel": _kernel,
    "transposed kernel": lambda rank, options: _kernel(rank, options, transposed=True),
    "left": lambda rank, options: _matrix(rank, _turned(("units", "features"), options.get("transA"))),
    "right": lambda rank, options: _matrix(rank, _turned(("features", "units"), options.get("transB"))),
    "gemm left": lambda rank, options: _matrix(rank, _turned(("units", "features"), options.get("transA"))),
    "gemm right": lambda rank, options: _matrix(rank, _turned(("features", "units"), options.get("transB"))),
    "rows of units": lambda rank, _: _matrix(rank, ("units", "features")),
    "tokens": lambda rank, options: (
        ("tokens", "features") if rank == 2 and options.get("axis", 0) == 0 else ("",) * rank
    ),
}


def _gates(kind: str, gates: int, rank: int) -> tuple[str, ...]:
    """Name the axes of a recurrent operator's arrays: directions first, all gates in one axis."""
    wide = "units" if gates == 1 else f"{gates} gates·units"
    names = {
        "gates by features": ("directions", wide, "features"),
        "gates by features, turned": ("directions", "features", wide),
        "gates by units": ("directions", wide, "units"),
        "gates by units, turned": ("directions", "units", wide),
        "gates": ("directions", f"2 biases·{wide}"),
        "peepholes": ("directions", "3 gates·units"),
    }.get(kind, ())
    return names if len(names) == rank else ()
