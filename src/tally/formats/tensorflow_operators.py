"""What TensorFlow's operations make of the arrays they take."""

from tally.formats.uses import Meaning, Passing, Step, Use, seen, sides

_UNCHANGED = ("Identity", "IdentityN", "ReadVariableOp", "Cast", "Enter", "StopGradient", "EnsureShape")
_RESHAPING = ("Reshape", "ExpandDims", "Squeeze", "Transpose", "Split", "StridedSlice", "Pack", "ConcatV2")
HOUSEKEEPING = frozenset(
    (
        "Assert",
        "Assign",
        "AssignAddVariableOp",
        "AssignVariableOp",
        "DisableCopyOnRead",
        "DestroyResourceOp",
        "IsVariableInitialized",
        "MergeV2Checkpoints",
        "NoOp",
        "RestoreV2",
        "SaveV2",
        "Shape",
        "ShardedFilename",
        "VarIsInitializedOp",
        "VariableShape",
    )
)
"""Operations that keep a variable, not use it."""

_AXES: dict[str, dict[int, tuple[str, ...]]] = {
    "Conv2D": {1: (*sides(2), "input channels", "filters")},
    "Conv2DBackpropInput": {1: (*sides(2), "filters", "input channels")},
    "Conv3D": {1: (*sides(3), "input channels", "filters")},
    "Conv3DBackpropInputV2": {1: (*sides(3), "filters", "input channels")},
    "DepthwiseConv2dNative": {1: (*sides(2), "input channels", "depth multiplier")},
    "FusedBatchNorm": {1: ("channels",), 2: ("channels",), 3: ("channels",), 4: ("channels",)},
    "FusedBatchNormV2": {1: ("channels",), 2: ("channels",), 3: ("channels",), 4: ("channels",)},
    "FusedBatchNormV3": {1: ("channels",), 2: ("channels",), 3: ("channels",), 4: ("channels",)},
    "Gather": {0: ("tokens", "features")},
    "GatherV2": {0: ("tokens", "features")},
    "ResourceGather": {0: ("tokens", "features")},
}
_PRODUCTS = {"MatMul": "transpose_", "BatchMatMul": "adj_", "BatchMatMulV2": "adj_", "BatchMatMulV3": "adj_"}
_STATISTICS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_UNSURE = ("Gather", "GatherV2")


def passing(step: Step, place: int) -> Passing:
    """Tell how an operation hands on what it takes; see `Flow`."""
    if place == 0 and step.type in _UNCHANGED:
        return "same"
    if step.type in _RESHAPING and (place == 0 or step.type in ("Pack", "ConcatV2")):
        return "lost"
    return None


def meaning(use: Use, shape: tuple[int, ...]) -> Meaning | None:
    """Tell what an operation makes of an array; None if it says nothing.

    Args:
        use: The operation and the place.
        shape: The array's own.

    Example:
        >>> meaning(Use(Step(name="m", type="MatMul"), 1), (4, 10)).axes
        ('features', 'units')
    """
    step, place = use.step, use.place
    met = seen(use, shape)
    rank = len(met) if met is not None else -1
    if step.type in _PRODUCTS and place < 2:
        return Meaning("weight", _matrix(step, place, rank) if rank > 1 else ())
    if step.type == "BiasAdd" and place == 1:
        return Meaning("weight")
    axes = _AXES.get(step.type, {}).get(place)
    if axes is None:
        return None
    if (
        step.type.startswith("Conv2D")
        and place == 1
        and step.options.get("groups", 1) != 1
        and len(axes) == 4
    ):
        axes = (*axes[:2], "input channels per group", axes[3])
    role = "state" if step.type in _STATISTICS and place > 2 else "weight"
    return Meaning(role, axes if rank == len(axes) else (), step.type not in _UNSURE)


def _matrix(step: Step, place: int, rank: int) -> tuple[str, ...]:
    """Name the axes of one side of a matrix product."""
    side = "ab"[place] if step.type == "MatMul" else "xy"[place]
    turned = bool(step.options.get(_PRODUCTS[step.type] + side))
    last = ("features", "units") if turned == (place == 0) else ("units", "features")
    return ("",) * (rank - 2) + last
