"""Constraints: Keras's projections and configurations."""

import json

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import tally.constraints as constraints
from tally.core.variable import Variable

CASES = [
    ("NonNeg", {}),
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 0.5, "axis": 1}),
    ("MaxNorm", {"max_value": 1.5, "axis": [0, 1, 2]}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": [0, 1]}),
    ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 1.9, "max_value": 2.1, "rate": 0.4, "axis": 2}),
]
KERNEL = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_the_projection_is_that_of_keras(name: str, arguments: dict) -> None:
    ours, theirs = getattr(constraints, name)(**arguments), getattr(keras.constraints, name)(**arguments)
    np.testing.assert_allclose(ours(KERNEL), theirs(KERNEL), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_configs_are_equal_to_keras_and_read_both_ways(name: str, arguments: dict) -> None:
    ours, theirs = getattr(constraints, name)(**arguments), getattr(keras.constraints, name)(**arguments)
    written = json.loads(json.dumps(constraints.serialize(ours)))
    assert written == keras.constraints.serialize(theirs)
    assert keras.constraints.deserialize(written).get_config() == written["config"]
    assert constraints.deserialize(written).get_config() == written["config"]


@pytest.mark.parametrize(
    "name", ["max_norm", "non_neg", "unit_norm", "min_max_norm", "MaxNorm", "NonNeg", "UnitNorm"]
)
def test_names_mean_the_same_class_as_in_keras(name: str) -> None:
    assert type(constraints.get(name)).__name__ == type(keras.constraints.get(name)).__name__


def test_none_stays_none() -> None:
    assert constraints.get(None) is None


def test_a_variable_can_be_projected() -> None:
    np.testing.assert_array_equal(constraints.NonNeg()(Variable(np.array([-1.0, 2.0]))), [0.0, 2.0])


def test_the_dtype_stays() -> None:
    weight = jnp.ones((3, 2), "bfloat16")
    assert {
        c(weight).dtype.name for c in (constraints.MaxNorm(1), constraints.UnitNorm(), constraints.NonNeg())
    } == {"bfloat16"}


def test_a_weight_of_zeros_stays_finite() -> None:
    np.testing.assert_array_equal(constraints.UnitNorm()(jnp.zeros((2, 2))), np.zeros((2, 2)))


def test_the_base_class_changes_nothing() -> None:
    assert constraints.Constraint()(KERNEL) is KERNEL


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        constraints.get("maxnorm_")
