"""What a layer takes: the rank and sizes of its inputs, and the error when they are others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tally.core.errors import ShapeError
from tally.core.registry import Configured
from tally.core.shapes import describe, is_tensor, known_sizes
from tally.core.symbol import leaves

if TYPE_CHECKING:
    from tally.core.layer import Layer


class InputSpec(Configured):
    """What a layer takes: rank, sizes of some axes, dtype.

    Args:
        dtype: Dtype of the input.
        shape: All sizes, None where any will do.
        ndim, max_ndim, min_ndim: Bounds on the number of dimensions.
        axes: Axis -> the size it must have.
        allow_last_axis_squeeze: Whether a last axis of size 1 may be missing.
        name: Name of the input.
        optional: Whether the input may be None.
    """

    keras_module = "keras"

    def __init__(
        self,
        dtype: str | None = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype, self.name, self.optional = dtype, name, optional
        self.shape = tuple(shape) if shape is not None else None
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze


def check_input_spec(layer: "Layer", inputs: Any) -> None:
    """Compare the inputs with the layer's `input_spec`.

    Raises:
        ShapeError: An input has another rank, or another size on an axis the layer was built for.
    """
    spec = layer.input_spec
    if spec is None or inputs is None:
        return
    specs = leaves(spec) if isinstance(spec, (list, tuple, dict)) else [spec]
    tensors = [leaf for leaf in leaves(inputs) if leaf is None or is_tensor(leaf)]
    if len(specs) != len(tensors):
        if len(specs) == 1:
            return
        raise ShapeError(
            f"{type(layer).__name__} '{layer.name}' takes {len(specs)} inputs, but was given {len(tensors)}.",
            where=f"made at {layer.made_at}",
        )
    for one, tensor in zip(specs, tensors, strict=True):
        if tensor is not None and isinstance(one, InputSpec):
            _check_one(layer, one, tensor)


def _check_one(layer: "Layer", spec: InputSpec, tensor: Any) -> None:
    shape, rank = known_sizes(tensor.shape), len(tensor.shape)
    who = f"{type(layer).__name__} '{layer.name}'"
    where = f"made at {layer.made_at}; called with {describe(tensor)}"
    if (
        spec.ndim is not None
        and rank != spec.ndim
        and not (spec.allow_last_axis_squeeze and abs(rank - spec.ndim) == 1)
    ):
        raise ShapeError(
            f"{who} takes an input of {spec.ndim} dimensions, but was given {rank}: {shape}.",
            where=where,
            do=_rank_advice(shape, rank, spec.ndim),
        )
    if (spec.max_ndim is not None and rank > spec.max_ndim) or (
        spec.min_ndim is not None and rank < spec.min_ndim
    ):
        bound = (
            f"at most {spec.max_ndim}"
            if spec.max_ndim is not None and rank > spec.max_ndim
            else f"at least {spec.min_ndim}"
        )
        raise ShapeError(
            f"{who} takes an input of {bound} dimensions, but was given {rank}: {shape}.", where=where
        )
    for axis, size in spec.axes.items():
        found = shape[axis] if -rank <= axis < rank else None
        if size is not None and found is not None and found != size:
            word = _axis_word(layer, size)
            word = word.removesuffix("s") if size == 1 else word
            raise ShapeError(
                f"{who} takes {size} {word}, but was given {found}.",
                where=where,
                do=f"feed {size} {word} on {'the last axis' if axis in (-1, rank - 1) else f'axis {axis}'}, "
                f"or make another {type(layer).__name__} for this input",
            )
    for axis, size in enumerate(spec.shape or ()):
        if size is not None and axis < rank and shape[axis] is not None and shape[axis] != size:
            raise ShapeError(
                f"{who} takes an input of shape {spec.shape}, but was given {shape}.", where=where
            )


def _rank_advice(shape: tuple[int | None, ...], rank: int, wanted: int) -> str:
    if rank == wanted - 1:
        return (
            f"add the missing axis: a batch axis, x[None], gives {(1, *shape)}; "
            f"a channel axis, x[..., None], gives {(*shape, 1)}"
        )
    if rank > wanted:
        return "flatten or pool the extra dimensions first, or take a layer of higher rank"
    return "check which axes the input lacks"


def _axis_word(layer: "Layer", size: int) -> str:
    """The name a weight of the layer gives to the axis of this size, in the user's terms."""
    for variable in layer._own_variables():
        for word, length in zip(variable.axes, variable.shape, strict=True):
            if word.startswith(("input", "features", "channels")) and length == size:
                return word
    return "input channels" if "conv" in type(layer).__name__.lower() else "features"
