"""How the size of an output came about: windows, strides, padding and dilation as arithmetic."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from tally.accounting.ledger import Owner, Shape
from tally.accounting.words import plural

SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Side(NamedTuple):
    """The options of one spatial side of a layer, and the size of its input there."""

    size: int
    window: int
    stride: int
    dilation: int
    padding: Any
    extra: int | None


def output_arithmetic(owner: Owner) -> tuple[str, ...]:
    """Say how each spatial size of an owner's output follows from its input.

    Only arithmetic that gives the shape the owner really has is said; where a size is open, or the layer
    has no window, there is nothing.

    Example:
        >>> conv = Owner(
        ...     path="conv2d", type="Conv2D", options=(("kernel_size", (3, 3)),),
        ...     input_shapes=((None, 28, 28, 1),), output_shapes=((None, 26, 26, 32),),
        ... )
        >>> output_arithmetic(conv)
        ('height and width: (28 − 3)/1 + 1 = 26',)
    """
    if len(owner.input_shapes) != 1 or len(owner.output_shapes) != 1:
        return _joined(owner)
    before, after = owner.input_shapes[0], owner.output_shapes[0]
    sizes = [size for size in before[1:] if size is not None]
    if owner.type == "Flatten" and len(sizes) == len(before) - 1 > 1:
        return (f"{'·'.join(f'{size:,}' for size in sizes)} = {plural(math.prod(sizes), 'value')} in a row",)
    rule = _rule(owner)
    if rule is None or len(before) != len(after) or len(before) - 2 not in SIDES:
        return ()
    lines: dict[str, list[str]] = {}
    for name, side, result in _sides(owner, before, after):
        text, value = rule(side)
        if value == result:
            line = f"{text} = {value:,}" if text else f"{value:,}, as in the input"
            line += _border(side, value) if rule is _slid else ""
            lines.setdefault(line, []).append(name)
    return tuple(f"{_and(names)}: {line}" for line, names in lines.items())


def spatial(owner: Owner, shape: Shape) -> Shape:
    """Return the sizes between the batch and the channels, wherever the channels are."""
    return shape[2:] if owner.option("data_format") == "channels_first" else shape[1:-1]


def each_side(value: Any, rank: int) -> tuple[Any, ...]:
    """Give an option one value for each side: a single one is meant for all."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,) * rank


def _sides(owner: Owner, before: Shape, after: Shape) -> list[tuple[str, Side, int]]:
    rank = len(before) - 2
    window = owner.option("kernel_size", owner.option("pool_size", owner.option("size", 1)))
    strides = owner.option("strides") or (window if owner.option("pool_size") is not None else 1)
    padding = owner.option("cropping", owner.option("padding", "valid"))
    columns = zip(
        SIDES[rank],
        spatial(owner, before),
        each_side(window, rank),
        each_side(strides, rank),
        each_side(owner.option("dilation_rate", 1), rank),
        _paddings(padding, rank),
        each_side(owner.option("output_padding"), rank),
        spatial(owner, after),
        strict=True,
    )
    return [
        (name, Side(size, *options), result)
        for name, size, *options, result in columns
        if size is not None and result is not None
    ]


def _paddings(padding: Any, rank: int) -> tuple[Any, ...]:
    """Give each side its padding: a word, a number, or the pair of numbers before and after it."""
    given = each_side(padding, rank)
    return (given,) if rank == 1 and len(given) == 2 else given


def _slid(side: Side) -> tuple[str, int]:
    """Slide a window over an input: as many places as it fits, or as many as the stride divides the input into."""
    if side.padding in ("same", "causal"):
        if side.stride == 1:
            return "", side.size
        return _quotient(f"{side.size:,}", side.size, side.stride, math.ceil, "⌈⌉")
    return _fitted(side, f"{side.size:,}", side.size)


def _fitted(side: Side, shown: str, size: int) -> tuple[str, int]:
    """Count the places at which a window fits into a size, which is shown as the sum it may be."""
    text, steps = _quotient(f"({shown} − {_width(side)})", size - _span(side), side.stride, math.floor, "⌊⌋")
    return f"{text} + 1", steps + 1


def _span(side: Side) -> int:
    """How far a window reaches, its holes included."""
    return side.dilation * (side.window - 1) + 1


def _width(side: Side) -> str:
    return f"{side.window:,}" if side.dilation == 1 else f"({side.dilation:,}·({side.window:,} − 1) + 1)"


def _border(side: Side, result: int) -> str:
    """Say how much a padding of the name `same` or `causal` adds, and that the window then fits so often."""
    if side.padding not in ("same", "causal"):
        return ""
    if side.padding == "causal":
        start, end = _span(side) - 1, 0
    else:
        whole = max((result - 1) * side.stride + _span(side) - side.size, 0)
        start, end = whole // 2, whole - whole // 2
    shown = f"{side.size:,}" + "".join(f" + {size:,}" for size in (start, end) if size)
    text, places = _fitted(side, shown, side.size + start + end)
    if start + end == 0 or places != result:
        return ""
    ends = [f"{size:,} at the {end}" for size, end in ((start, "start"), (end, "end")) if size]
    where = f"{start:,} on each end" if start == end else " and ".join(ends)
    return f", padded by {where}: {text} = {places:,}"


def _quotient(
    text: str, size: int, stride: int, round_off: Callable[[float], int], marks: str
) -> tuple[str, int]:
    whole = f"{text}/{stride:,}"
    return (whole if size % stride == 0 else marks[0] + whole + marks[1]), round_off(size / stride)


def _spread(side: Side) -> tuple[str, int]:
    """A transposed window: each input is spread out by the stride, and the windows overlap."""
    span = _span(side)
    if side.extra is not None:
        cut = 0 if side.padding == "valid" else span // 2
        text = f"({side.size:,} − 1)·{side.stride:,} + {span:,} − 2·{cut:,} + {side.extra:,}"
        return text, (side.size - 1) * side.stride + span - 2 * cut + side.extra
    over = 0 if side.padding == "same" else max(span - side.stride, 0)
    text = _times(side.size, side.stride)
    more = f"{text or f'{side.size:,}'} + ({_width(side)} − {side.stride:,})"
    return (more if over else text), side.size * side.stride + over


def _repeated(side: Side) -> tuple[str, int]:
    return _times(side.size, side.window), side.size * side.window


def _times(size: int, factor: int) -> str:
    return "" if factor == 1 else f"{size:,}·{factor:,}"


def _padded(side: Side) -> tuple[str, int]:
    return _moved(side, "+", 1)


def _cropped(side: Side) -> tuple[str, int]:
    return _moved(side, "−", -1)


def _moved(side: Side, sign: str, by: int) -> tuple[str, int]:
    """The border by which both ends grow or shrink; an end that stays is not said."""
    borders = [border for border in each_side(side.padding, 2) if border]
    text = "".join(f" {sign} {border:,}" for border in borders)
    return (f"{side.size:,}{text}" if text else ""), side.size + by * sum(borders)


def _rule(owner: Owner) -> Callable[[Side], tuple[str, int]] | None:
    if owner.option("kernel_size") is not None:
        return _spread if owner.type.endswith("Transpose") else _slid
    if owner.option("pool_size") is not None:
        return _slid
    rules = {"UpSampling": _repeated, "ZeroPadding": _padded, "Cropping": _cropped}
    return next((rule for start, rule in rules.items() if owner.type.startswith(start)), None)


def _joined(owner: Owner) -> tuple[str, ...]:
    """A concatenation adds up the one axis in which its inputs may differ."""
    if owner.type != "Concatenate" or len(owner.output_shapes) != 1:
        return ()
    after = owner.output_shapes[0]
    axis: int = owner.option("axis", -1) % len(after)
    sizes = [shape[axis] for shape in owner.input_shapes if len(shape) == len(after)]
    known = [size for size in sizes if size is not None]
    if len(known) != len(owner.input_shapes) or sum(known) != after[axis]:
        return ()
    return (f"axis {axis}: {' + '.join(f'{size:,}' for size in known)} = {after[axis]:,}",)


def _and(names: list[str]) -> str:
    return " and ".join(([", ".join(names[:-1])] if names[1:] else []) + names[-1:])
