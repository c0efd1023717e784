"""What acts as a weight without being one is found, with the line that makes it; correct models come out clean."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import tally
from tally import layers
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.tracing.untracked import find_untracked


def findings(model):
    paths = {model: ""}
    paths.update({layer: place for place, layer in model._children()})
    return find_untracked(model, paths)


class DrawsInCall(Layer):
    def call(self, x):
        weight = jax.random.normal(jax.random.PRNGKey(0), (10, 3))
        return x @ weight


def test_random_numbers_multiplied_with_the_input_are_found_where_they_are_drawn():
    model = tally.Sequential([tally.Input((10,)), DrawsInCall()])
    (found,) = findings(model)
    line = DrawsInCall.call.__code__.co_firstlineno + 1
    assert (found.code, found.owner, found.shape) == ("T101", "draws_in_call", (10, 3))
    assert found.origin.endswith(f"test_untracked.py:{line}")


class MakesLayerInCall(tally.Model):
    def call(self, x):
        return layers.Dense(4)(x)


def test_a_layer_made_in_each_call_is_found():
    model = MakesLayerInCall()
    model(np.ones((2, 10), "float32"))
    (found,) = findings(model)
    assert (found.code, found.shape) == ("T107", (44,))
    assert found.origin.endswith(f":{MakesLayerInCall.call.__code__.co_firstlineno + 1}")


class Plain:
    def __init__(self):
        self.dense = layers.Dense(3)


class HidesLayers(tally.Model):
    def __init__(self):
        super().__init__()
        self.plain = Plain()
        self.array = np.array([layers.Dense(2)], dtype=object)

    def call(self, x):
        return self.array[0](self.plain.dense(x))


def test_layers_in_ordinary_objects_and_object_arrays_are_found():
    model = HidesLayers()
    model(np.ones((2, 10), "float32"))
    assert sorted((one.code, one.shape) for one in findings(model)) == [("T106", (8,)), ("T106", (33,))]
    shown = []
    model.summary(print_fn=shown.append)
    assert "2 untracked" in shown[0]


def test_a_variable_from_a_closure_is_found():
    outside = Variable(np.ones(10, "float32"), name="outside")
    model = tally.Sequential([tally.Input((10,)), layers.Lambda(lambda x: x * outside.value)])
    (found,) = findings(model)
    assert (found.code, found.name, found.shape) == ("T103", "outside", (10,))


class Noise(Layer):
    def __init__(self):
        super().__init__()
        self.seed = tally.random.SeedGenerator(1)

    def call(self, x):
        return x + tally.random.normal((3,), seed=self.seed)


class UnseededNoise(Layer):
    def call(self, x):
        return (x + tally.random.normal((3,))) @ x.T


class KeepsIntermediate(Layer):
    def call(self, x):
        self.last = x * 2
        return self.last


class Holds(Layer):
    def __init__(self):
        super().__init__()
        self.parts = SimpleNamespace(a=[{"b": layers.Dense(3)}])

    def call(self, x):
        return self.parts.a[0]["b"](x)


@pytest.mark.parametrize("layer", [Noise, UnseededNoise, KeepsIntermediate, Holds])
def test_correct_layers_come_out_clean(layer):
    model = tally.Sequential([tally.Input((3,)), layer()])
    assert findings(model) == []


def test_a_model_that_was_never_called_gives_no_findings():
    assert findings(HidesLayers()) == []
