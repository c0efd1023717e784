"""Correct models: layers held in every way that is seen."""

import collections
import dataclasses
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


class Parts(NamedTuple):
    """Two layers by name."""

    first: Any
    second: Any


@dataclasses.dataclass
class Heads:
    """Layers as fields."""

    mean: Any
    spread: Any


@correct
def layers_in_lists_dicts_and_tuples():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [[layers.Dense(4), layers.ReLU()] for _ in range(2)]
            self.heads = {"a": layers.Dense(1), "b": (layers.Dense(2), layers.Dense(1))}
            self.pair = Parts(layers.Dense(4), layers.Dense(4))

        def call(self, x):
            for dense, activation in self.blocks:
                x = activation(dense(x))
            x = self.pair.second(self.pair.first(x))
            first, second = self.heads["b"]
            return self.heads["a"](x), second(first(x))

    model = Net()
    model(ones(2, 3))
    return model


@correct
def layers_in_deques_dataclasses_and_namespaces():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = collections.deque([layers.Dense(4), layers.Dense(4)])
            self.heads = Heads(layers.Dense(1), layers.Dense(1))
            self.parts = SimpleNamespace(norm=layers.LayerNormalization())
            self.table = collections.defaultdict(list, extra=[layers.Dense(4)])

        def call(self, x):
            for layer in (*self.stack, *self.table["extra"]):
                x = layer(x)
            x = self.parts.norm(x)
            return self.heads.mean(x), ops.softplus(self.heads.spread(x))

    model = Net()
    model(ones(2, 3))
    return model


@correct
def layers_named_by_setattr_in_a_loop():
    class Deep(keras.Model):
        def __init__(self, depth):
            super().__init__()
            self.depth = depth
            for i in range(depth):
                setattr(self, f"dense_{i}", layers.Dense(4, activation="relu"))

        def call(self, x):
            for i in range(self.depth):
                x = getattr(self, f"dense_{i}")(x)
            return x

    model = Deep(3)
    model(ones(2, 3))
    return model


@correct
def layers_made_in_a_loop_of_build():
    class Mlp(layers.Layer):
        def __init__(self, sizes):
            super().__init__()
            self.sizes = sizes
            self.hidden = []

        def build(self, input_shape):
            for size in self.sizes:
                layer = layers.Dense(size, activation="tanh")
                layer.build(input_shape)
                input_shape = (*input_shape[:-1], size)
                self.hidden.append(layer)

        def call(self, x):
            for layer in self.hidden:
                x = layer(x)
            return x

    return keras.Sequential([keras.Input((3,)), Mlp([4, 5, 2])])


@correct
def attribute_wrapped_in_another_layer():
    class Net(keras.Model):
        def __init__(self, spectral=True):
            super().__init__()
            self.conv = layers.Conv2D(4, 3)
            if spectral:
                self.conv = layers.SpectralNormalization(self.conv)
            self.blocks = []
            for _ in range(2):
                self.blocks = [*self.blocks, layers.Dense(4)]
            self.head = None
            self.head = layers.Dense(1)

        def call(self, x):
            x = ops.mean(self.conv(x), axis=(1, 2))
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    model = Net()
    model(ones(2, 6, 6, 1))
    return model


@correct
def models_in_models_in_models():
    class Inner(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return ops.relu(self.dense(x))

    class Middle(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right = Inner(), Inner()

        def call(self, x):
            return self.left(x) + self.right(x)

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.middle = Middle()
            self.head = keras.Sequential([layers.Dense(3), layers.Dropout(0.1), layers.Dense(1)])

        def call(self, x, training=False):
            return self.head(self.middle(x), training=training)

    model = Outer()
    model.compile("adam", "mse")
    model(ones(2, 3))
    return model
