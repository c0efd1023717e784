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
    assert found.line.endswith(f"test_untracked.py:{line}")


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
    assert sorted((one.code, one.shape) for one in findings(model)) == [("T105", (8,)), ("T106", (33,))]
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


class Disturbs(tally.Model):
    """Draws, makes and keeps things in its call, as no call should."""

    def __init__(self):
        super().__init__()
        self.seen, self.cache = [], {}
        self.inner = layers.Dense(3)

    def call(self, x):
        self.w = tally.random.normal((3, 3))
        self.last = x * np.random.rand()
        self.seen.append(x)
        self.cache["last"] = x
        self.extra = layers.Dense(2)
        self.add_loss(x.sum())
        return self.extra(self.inner(x) @ self.w)


def test_an_account_leaves_the_model_and_all_randomness_as_they_were():
    model = Disturbs()
    x = np.ones((2, 3), "float32")
    model(x)
    attributes, losses = dict(vars(model)), list(model.losses)
    tally.utils.set_random_seed(7)
    expected = (np.random.rand(), float(tally.random.normal(())), layers.Dense(1).name)
    tally.utils.set_random_seed(7)
    tally.core.naming._counts["dense"] -= 1
    first, second = tally.account(model), tally.account(model)
    assert (np.random.rand(), float(tally.random.normal(())), layers.Dense(1).name) == expected
    assert first == second
    assert vars(model) == attributes
    assert not any(isinstance(one, jax.core.Tracer) for one in (model.w, model.last, *model.seen))
    assert (len(model.seen), list(model.cache), model.losses) == (1, ["last"], losses)
    model(x)


def test_weights_made_in_an_eager_call_are_found_and_results_are_not():
    model = Disturbs()
    model(np.ones((2, 3), "float32"))
    assert [(one.code, one.name) for one in findings(model) if one.code == "T101"] == [("T101", "w")]


def test_a_call_that_fails_while_it_is_followed_breaks_no_summary():
    class Fussy(tally.Model):
        def call(self, x):
            if isinstance(x, jax.core.Tracer):
                raise SystemError("only real numbers here")
            return x

    model = Fussy()
    model(np.ones((2, 3), "float32"))
    shown = []
    model.summary(print_fn=shown.append)
    assert "Total params: 0" in shown[0]


def test_a_search_that_goes_wrong_breaks_no_summary(monkeypatch):
    model = tally.Sequential([tally.Input((10,)), DrawsInCall()])
    monkeypatch.setattr("tally.tracing.untracked.follow", lambda *_, **__: 1 / 0)
    assert findings(model) == []


def test_each_finding_comes_with_its_own_remedy_in_the_summary():
    model = MakesLayerInCall()
    model(np.ones((2, 10), "float32"))
    shown = []
    model.summary(print_fn=shown.append)
    text = " ".join(shown[0].split())
    assert "a Dense is made anew in each call, with new weights every time." in text
    assert "make it once in __init__ or build" in text
    assert "44 numbers not counted" in text
    assert "add_weight" not in text
