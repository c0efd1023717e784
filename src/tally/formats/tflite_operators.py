"""What the operators of TensorFlow Lite are called, and what they make of the arrays they take."""

import math

from tally.formats.uses import Meaning, Passing, Step, Use, seen, sides

_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX
DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER
GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL
LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT
LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N
GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF
WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM
ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD
STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""

OPERATORS: tuple[str, ...] = tuple(_NAMES.split())
"""The operators by their numbers."""

_FIXED_PLACES: dict[str, tuple[int, ...]] = {
    "CONV_3D_TRANSPOSE": (0,),
    "GATHER": (1,),
    "PAD": (1,),
    "PADV2": (1, 2),
    "RESIZE_BILINEAR": (1,),
    "TRANSPOSE_CONV": (0,),
}
"""Inputs that are no weights whatever they hold."""

_FEATURES, _UNITS, _EACH = ("units", "features"), ("units", "units"), ("units",)


def _lstm(first: int) -> dict[int, tuple[str, ...]]:
    """Name the arrays of one direction: four kernels, four recurrent kernels, peepholes, biases, a projection."""
    kernels = dict.fromkeys(range(first, first + 4), _FEATURES) | dict.fromkeys(
        range(first + 4, first + 8), _UNITS
    )
    return kernels | dict.fromkeys(range(first + 8, first + 15), _EACH)


_LSTM = _lstm(1) | {16: ("outputs", "units"), 17: ("outputs",)} | dict.fromkeys(range(20, 24), _EACH)

_AXES: dict[str, dict[int, tuple[str, ...]]] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": _lstm(1)
    | _lstm(18)
    | {16: ("outputs", "units"), 17: ("outputs",), 33: ("outputs", "units"), 34: ("outputs",)},
    "BIDIRECTIONAL_SEQUENCE_RNN": {1: _FEATURES, 2: _UNITS, 3: _EACH, 5: _FEATURES, 6: _UNITS, 7: _EACH},
    "CONV_2D": {1: ("filters", *sides(2), "input channels"), 2: ("filters",)},
    "CONV_3D": {1: (*sides(3), "input channels", "filters"), 2: ("filters",)},
    "CONV_3D_TRANSPOSE": {1: (*sides(3), "filters", "input channels"), 3: ("filters",)},
    "DEPTHWISE_CONV_2D": {1: ("input channels per group", *sides(2), "filters"), 2: ("output channels",)},
    "EMBEDDING_LOOKUP": {1: ("tokens", "features")},
    "EMBEDDING_LOOKUP_SPARSE": {4: ("tokens", "features")},
    "FULLY_CONNECTED": {1: _FEATURES, 2: _EACH},
    "LSTM": _LSTM,
    "RNN": {1: _FEATURES, 2: _UNITS, 3: _EACH},
    "SVDF": {1: _FEATURES, 2: ("units", "time"), 3: _EACH},
    "TRANSPOSE_CONV": {1: ("filters", *sides(2), "input channels"), 3: ("filters",)},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
    "UNIDIRECTIONAL_SEQUENCE_RNN": {1: _FEATURES, 2: _UNITS, 3: _EACH},
}
"""The axes of the arrays that are weights for sure, by operator and place."""

_LISTS = ("BATCH_MATMUL", "GATHER", "PRELU", "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL")
_UNCHANGED = ("DEQUANTIZE", "QUANTIZE", "DENSIFY", "CAST")
_RESHAPING = (
    "RESHAPE",
    "SQUEEZE",
    "EXPAND_DIMS",
    "TRANSPOSE",
    "SPLIT",
    "SPLIT_V",
    "UNPACK",
    "PACK",
    "CONCATENATION",
)


def passing(step: Step, place: int) -> Passing:
    """Tell how an operator hands on what it takes; see `Flow`."""
    if step.type in _UNCHANGED:
        return "same" if place == 0 else None
    if step.type in _RESHAPING and (place == 0 or step.type in ("PACK", "CONCATENATION")):
        return "lost"
    return None


def meaning(use: Use, shape: tuple[int, ...]) -> Meaning | None:
    """Tell what an operator makes of an array; None if it says nothing.

    Args:
        use: The operator and the place.
        shape: The array's own.

    Example:
        >>> meaning(Use(Step(name="d", type="FULLY_CONNECTED"), 1), (10, 4)).axes
        ('units', 'features')
    """
    step, place = use.step, use.place
    if place in _FIXED_PLACES.get(step.type, ()):
        return Meaning("fixed")
    met = seen(use, shape)
    axes = _AXES.get(step.type, {}).get(place)
    if axes is not None:
        return Meaning(
            "weight", _grouped(axes, step, met) if met is not None and len(met) == len(axes) else ()
        )
    if step.type not in _LISTS:
        return None
    return Meaning("weight", _others(step, place, met) if met is not None else (), step.type != "GATHER")


def _grouped(axes: tuple[str, ...], step: Step, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Say that a kernel covers the channels of a group, where it has fewer than the input, or one channel alone."""
    if step.type == "DEPTHWISE_CONV_2D" and len(axes) == 4 and step.options.get("depth_multiplier") == 1:
        return ("broadcast", *axes[1:3], "input channels")
    channels = step.options.get("input channels")
    if step.type != "CONV_2D" or channels in (None, shape[-1]):
        return axes
    return (*axes[:-1], "input channels per group") if len(axes) == 4 else axes


def _others(step: Step, place: int, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the axes of arrays whose rank isn't always the same."""
    rank = len(shape)
    if step.type == "GATHER":
        return ("tokens", "features") if rank == 2 and step.options.get("axis", 0) == 0 else ()
    if step.type == "PRELU":
        return ("",) * (rank - 1) + ("channels",) if rank and math.prod(shape[:-1]) == 1 else ()
    if step.type == "BATCH_MATMUL" and rank > 1:
        turned = bool(step.options.get("adj_x" if place == 0 else "adj_y"))
        last = ("features", "units") if turned == (place == 0) else ("units", "features")
        return ("",) * (rank - 2) + last
    return ()
