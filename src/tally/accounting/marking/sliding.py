"""The shapes a layer with a window would give were it slid otherwise: the usual mistakes about padding and strides."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tally.accounting.ledger import Owner, Shape
from tally.accounting.window import each_side, spatial
from tally.accounting.words import listed


class _Slide(NamedTuple):
    """A window on one side of an input: how large the side and the window are, how far it moves, how it is padded."""

    size: int
    window: int
    stride: int
    padding: str

    @property
    def places(self) -> int:
        if self.padding == "same":
            return -(-self.size // self.stride)
        return (self.size - self.window) // self.stride + 1


def other_outputs(owner: Owner) -> Iterator[tuple[Shape, str]]:
    """Give shapes of one example that a layer doesn't have, and the predicate that says when it would.

    Only for a layer whose true shape follows from its window; `{noun}` in the predicate stands for what it would be.

    Example:
        >>> conv = Owner(
        ...     path="conv2d", type="Conv2D", options=(("kernel_size", (3, 3)), ("padding", "valid")),
        ...     input_shapes=((None, 28, 28, 1),), output_shapes=((None, 26, 26, 32),),
        ... )
        >>> next(other_outputs(conv))
        ((28, 28, 32), 'would be {noun} with padding="same"')
    """
    slides = _slides(owner)
    if not slides:
        return
    other = "same" if slides[0].padding == "valid" else "valid"
    yield (
        _shape(owner, slides, lambda one: one._replace(padding=other)),
        f'would be {{noun}} with padding="{other}"',
    )
    if any(one.stride > 1 for one in slides):
        yield _shape(owner, slides, lambda one: one._replace(stride=1)), "would be {noun} with a stride of 1"
    else:
        yield _shape(owner, slides, lambda one: one._replace(stride=2)), "would be {noun} with a stride of 2"
    if slides[0].padding == "valid":
        over = [-(-(one.size - one.window) // one.stride) + 1 for one in slides]
        yield _with_channels(owner, over), "would be {noun} if the last window might hang over the border"
        steps = [one.places - 1 for one in slides]
        yield _with_channels(owner, steps), _steps(slides)


def _steps(slides: Sequence[_Slide]) -> str:
    """What is wrong where the + 1 of the formula is missing."""
    sums = [
        f"({one.size} − {one.window})/{one.stride} = {one.places - 1} steps make {one.places} places"
        for one in dict.fromkeys(slides)
    ]
    return f"counts the steps of the window, not its places: {listed(sums)}"


def _slides(owner: Owner) -> list[_Slide]:
    """The window on each side, where the sizes of the output follow from it."""
    window = owner.option("kernel_size", owner.option("pool_size"))
    padding = owner.option("padding", "valid")
    if window is None or "Transpose" in owner.type or padding not in ("valid", "same"):
        return []
    if (
        len(owner.input_shapes) != 1
        or len(owner.output_shapes) != 1
        or owner.option("dilation_rate", 1) not in _ONCE
    ):
        return []
    before, after = spatial(owner, owner.input_shapes[0]), spatial(owner, owner.output_shapes[0])
    strides = owner.option("strides") or (window if owner.option("pool_size") is not None else 1)
    if None in before or len(before) != len(after):
        return []
    rank = len(before)
    slides = [
        _Slide(size, side, stride, padding)
        for size, side, stride in zip(before, each_side(window, rank), each_side(strides, rank), strict=True)
        if size is not None
    ]
    return slides if tuple(one.places for one in slides) == tuple(after) else []


_ONCE = (1, (1,), (1, 1), (1, 1, 1))


def _shape(owner: Owner, slides: Sequence[_Slide], change: Callable[[_Slide], _Slide]) -> Shape:
    return _with_channels(owner, [change(one).places for one in slides])


def _with_channels(owner: Owner, places: Sequence[int]) -> Shape:
    shape = owner.output_shapes[0]
    if owner.option("data_format") == "channels_first":
        return (shape[1], *places)
    return (*places, shape[-1])
