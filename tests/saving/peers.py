"""Classes a user might write, made on either library's base classes, under the same names."""

from types import SimpleNamespace
from typing import Any


def classes(lib: Any) -> SimpleNamespace:
    """A layer and models that hold layers in attributes, lists, dicts and properties."""
    layers = lib.layers

    class Block(layers.Layer):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units
            self.steps = [layers.Dense(units), [layers.Dense(units), layers.BatchNormalization()]]
            self.table = {"b": layers.Dense(units), "a": (layers.Dense(units),)}
            self._hidden = layers.Dense(units)
            self.Zed = layers.Dense(units)

        @property
        def ahead(self) -> Any:
            return self._hidden

        def build(self, input_shape: Any) -> None:
            self.offset = self.add_weight(shape=(self.units,), initializer="ones", name="offset")
            self.counter = self.add_weight(shape=(), initializer="zeros", trainable=False, name="counter")

        def call(self, x: Any, training: bool = False) -> Any:
            x = self.steps[1][1](self.steps[1][0](self.steps[0](x)), training=training)
            x = self.table["b"](x) + self.table["a"][0](x) + self._hidden(x) + self.Zed(x)
            return x + self.offset

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "units": self.units}

    class Net(lib.Model):
        def __init__(self, units: int = 2, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units
            self.zebra = layers.Dense(1)
            self.block = Block(units)
            self.tower = lib.Sequential([layers.Dense(units, activation="relu"), layers.Dropout(0.0)])
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, x: Any, training: bool = False) -> Any:
            return self.zebra(self.block(self.tower(x), training=training)) * self.scale

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "units": self.units}

    class Graph(lib.Model):
        """A subclass that is a graph, too, and holds a layer and a weight beside it."""

        def __init__(self, units: int = 3, **kwargs: Any) -> None:
            inputs = lib.Input((4,))
            kwargs.pop("name", None)
            super().__init__(inputs=inputs, outputs=layers.Dense(units)(inputs), name="graph")
            self.units = units
            self.after = layers.Dense(2)
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, x: Any) -> Any:
            return self.after(super().call(x)) * self.scale

        def get_config(self) -> dict[str, Any]:
            return {"units": self.units, "name": self.name}

        @classmethod
        def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
            return cls(**config)

    return SimpleNamespace(Block=Block, Net=Net, Graph=Graph)
