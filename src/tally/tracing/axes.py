"""Layers that meet axes they hardly were made for: feature maps instead of vectors, channels in another place."""

from collections.abc import Iterator
from typing import Any

from tally import layers as layer_room
from tally.accounting.finding import Finding
from tally.core.layer import Layer
from tally.layers import RNN, BatchNormalization, Dense
from tally.tracing.following import Run, Use
from tally.tracing.study import Study

_COLOURS = (1, 3, 4)
_CONVOLUTIONS = tuple(
    getattr(layer_room, f"{kind}Conv{rank}D{end}")
    for kind in ("", "Depthwise", "Separable")
    for rank in (1, 2, 3)
    for end in ("", "Transpose")
    if hasattr(layer_room, f"{kind}Conv{rank}D{end}")
)


def find(study: Study) -> Iterator[Finding]:
    """Find a Dense that ends a model on a feature map (T601), and axes that look exchanged (T602)."""
    flow = study.predicting or study.training
    if flow is None:
        return
    run = flow.run
    makers = {id(out): use for use in run.uses for out in use.outputs}
    yield from _missing_flatten(study, run, makers)
    seen: set[Layer] = set()
    for use in run.uses:
        if use.layer not in seen and use.inputs:
            for finding in (
                _channels(study, use, makers),
                _steps(study, use),
                _normalised(study, use, makers),
            ):
                if finding is not None:
                    seen.add(use.layer)
                    yield finding


# -- T601 --------------------------------------------------------------------------------------------------------------
def _missing_flatten(study: Study, run: Run, makers: dict[int, Use]) -> Iterator[Finding]:
    finals = next((use.outputs for use in run.uses if use.layer is study.root), [])
    sizes = {tuple(spec.shape[1:3]) for spec in run.inputs if len(spec.shape) == 4}
    for out in finals:
        use = next((u for u in reversed(run.uses) if isinstance(u.layer, Dense) and _gives(u, out)), None)
        if use is None or out.ndim < 4 or not use.inputs or _area(out.shape) == 1:
            continue
        if tuple(out.shape[1:3]) in sizes or not _is_map(use, makers):
            continue  # as large as the image it came from: one answer for each pixel
        size = " × ".join(f"{side:,}" for side in out.shape[1:-1])
        yield Finding(
            code="T601",
            layer=study.path(use.layer),
            what=f"{study.told(use.layer)}, the last layer, meets a feature map {tuple(use.inputs[0].shape[1:])} "
            f"and gives one answer for each of its {size} places.",
            why="Its count is that of one place, shared by all, and the output has the map's height and width.",
            fix="put Flatten() or GlobalAveragePooling2D() before it",
            where=use.layer.made_at,
            names=(study.path(use.layer),),
        )


def _gives(use: Use, out: Any) -> bool:
    return any(one is out for one in use.outputs)


def _area(shape: Any) -> int:
    area = 1
    for size in shape[1:-1]:
        area *= size
    return area


def _is_map(use: Use, makers: dict[int, Use]) -> bool:
    """Whether a convolution or pooling stands before it, other Dense layers and what has no weights in between."""
    for _ in range(32):
        before = makers.get(id(use.inputs[0])) if use.inputs else None
        if before is None or before is use:
            return False
        kind = type(before.layer).__name__
        if "Conv" in kind or "Pooling" in kind:
            return True
        use = before
    return False


# -- T602 --------------------------------------------------------------------------------------------------------------
def _channels(study: Study, use: Use, makers: dict[int, Use]) -> Finding | None:
    """A convolution fed by the model's input, whose colours stand where it expects the height, or the other way."""
    layer, shape = use.layer, use.inputs[0].shape
    if not isinstance(layer, _CONVOLUTIONS) or len(shape) != 4 or id(use.inputs[0]) in makers:
        return None
    last = getattr(layer, "data_format", "channels_last") != "channels_first"
    _, first, middle, end = shape
    sides, colours = ((middle, end), first) if last else ((first, middle), end)
    given = end if last else first
    if colours not in _COLOURS or given in _COLOURS or min(sides) < 8 or sides[0] != sides[1]:
        return None
    return Finding(
        code="T602",
        layer=study.path(layer),
        what=f"{study.told(layer)} takes an input {tuple(shape[1:])} as "
        f"{'height, width, channels' if last else 'channels, height, width'}, so it sees {given} channels and "
        f"{'a height' if last else 'a width'} of {colours}.",
        why="It looks like an image with its channels at the other end: the kernel slides over the colours, and "
        "its count follows from a side of the image.",
        fix=f"move the channels to the end, x.transpose(0, 2, 3, 1), or use data_format="
        f'"{"channels_first" if last else "channels_last"}"',
        where=layer.made_at,
        names=(study.path(layer),),
    )


def _steps(study: Study, use: Use) -> Finding | None:
    """A recurrent layer that is given sequences of a single step."""
    layer, shape = use.layer, use.inputs[0].shape
    if not isinstance(layer, RNN) or len(shape) != 3 or shape[1] != 1 or shape[2] <= 1:
        return None
    if getattr(layer, "stateful", False) or getattr(layer, "return_state", False) or len(use.inputs) > 1:
        return None  # one step at a time, with the state carried on by hand
    return Finding(
        code="T602",
        layer=study.path(layer),
        what=f"{study.told(layer)} is given sequences of 1 step with {shape[2]} features.",
        why="Nothing is carried from step to step, so its recurrent weights only ever see zeros: they count, but "
        "do nothing.",
        fix=f"reshape to (batch, {shape[2]}, 1) if these are {shape[2]} steps of one feature",
        where=layer.made_at,
        names=(study.path(layer),),
    )


def _normalised(study: Study, use: Use, makers: dict[int, Use]) -> Finding | None:
    """A batch normalisation over an axis that isn't the channels of the layer before it."""
    layer, array = use.layer, use.inputs[0]
    before = makers.get(id(array))
    if not isinstance(layer, BatchNormalization) or before is None or array.ndim < 3:
        return None
    form = getattr(before.layer, "data_format", None)
    axis = layer.axis if isinstance(layer.axis, int) else None
    if (
        axis is None
        or form not in ("channels_last", "channels_first")
        or not isinstance(before.layer, _CONVOLUTIONS)
    ):
        return None
    channels = array.ndim - 1 if form == "channels_last" else 1
    if axis % array.ndim == channels:
        return None
    return Finding(
        code="T602",
        layer=study.path(layer),
        what=f"{study.told(layer)} normalises axis {axis}, but the channels of {study.told(before.layer)} are on axis "
        f"{channels}.",
        why=f"It keeps {array.shape[axis]} pairs of statistics, one for each place along axis {axis}, and not one for "
        f"each of the {array.shape[channels]} channels.",
        fix=f"use axis={-1 if form == 'channels_last' else 1}",
        where=layer.made_at,
        names=(study.path(layer),),
    )
