"""The verbs as methods of a model give what the functions give."""

import pytest

import tally
from tally import layers


@pytest.fixture
def model():
    return tally.Sequential(
        [tally.Input((28, 28, 1)), layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(10)]
    )


def test_each_verb_is_a_method(model):
    shown = []
    quiet = {"print_fn": shown.append}
    assert model.explain(**quiet).total == tally.explain(model, **quiet).total == model.count_params()
    assert model.explain(layer="conv2d", **quiet)["conv2d"].count == 320
    assert model.verify("conv2d=320", **quiet).holds
    assert model.diagnose(**quiet).holds
    assert model.plan(8, **quiet).multiply_adds == tally.plan(model, 8, **quiet).multiply_adds
    assert model.what_if("conv2d", filters=16, **quiet) == tally.what_if(model, "conv2d", filters=16, **quiet)
    assert len(shown) == 9


def test_a_model_of_the_users_own_may_use_the_names(model):
    class Planner(tally.Model):
        def __init__(self):
            super().__init__()
            self.plan = layers.Dense(3)

        def call(self, x):
            return self.plan(x)

    planner = Planner()
    planner(tally.Input((4,)))
    assert planner.count_params() == 15
