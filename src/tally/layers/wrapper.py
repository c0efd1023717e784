"""Layers that hold another layer and say how it is called."""

from typing import Any

from tally.core.errors import ArgumentError
from tally.core.layer import Layer

Shape = tuple[int | None, ...]


class Wrapper(Layer):
    """Holds a layer; a subclass says how it is called.

    Args:
        layer: The layer.

    Source: `keras.layers.Wrapper`.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"{type(self).__name__} wraps a layer, but was given a {type(layer).__name__}.",
                do="pass an instance, such as Dense(8), not a class or a tensor",
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside."""
        if not self.layer.built:
            self.layer._build(input_shape)
