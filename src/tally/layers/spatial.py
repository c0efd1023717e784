"""What layers over lengths, images and volumes share: their sides, and where their channels are."""

from typing import Any, ClassVar

import jax

from tally.core.dtype import image_data_format
from tally.core.layer import InputSpec, Layer
from tally.layers.options import read_word, refuse_shape, settle

SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""Number of spatial axes -> what they are called."""


class _Spatial(Layer):
    """A layer over the sides that lie between, or after, batch and channels; a subclass says its rank."""

    rank: ClassVar[int]
    data_format: str

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        formats = ("channels_last", "channels_first")
        settle(self, data_format=read_word(self, "data_format", data_format or image_data_format(), formats))
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def channels_first(self) -> bool:
        """Whether the channels come before the sides."""
        return self.data_format == "channels_first"

    @property
    def channel_axis(self) -> int:
        """The axis of the channels."""
        return 1 if self.channels_first else -1

    @property
    def first_side(self) -> int:
        """The axis of the first side."""
        return 2 if self.channels_first else 1

    def _around(self, sides: tuple[Any, ...], rest: Any) -> tuple[Any, ...]:
        """One value for every axis: those of the sides, and `rest` for batch and channels."""
        return (rest, rest, *sides) if self.channels_first else (rest, *sides, rest)

    def _check_fit(
        self,
        x: jax.Array,
        what: str,
        windows: tuple[int, ...],
        strides: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> None:
        """Refuse an input that is smaller than the window which slides over it."""
        sizes = x.shape[self.first_side : self.first_side + self.rank]
        for side, size, window, stride, distance in zip(
            SIDES[self.rank], sizes, windows, strides, dilation, strict=True
        ):
            span = distance * (window - 1) + 1
            if isinstance(size, int) and size < span:
                spread = "" if distance == 1 else f", spread to {span} by dilation_rate={distance},"
                steps = f"({size} − {span})" if stride == 1 else f"⌊({size} − {span})/{stride}⌋"
                positions = str((size - span) // stride + 1).replace("-", "−")
                raise refuse_shape(
                    self,
                    f"slides a {what} of {side} {window}{spread} over an input of {side} {size}: "
                    f"{steps} + 1 = {positions} positions.",
                    x,
                    f"set padding='same', make the {what} smaller, or keep more of the {side} before it",
                )
