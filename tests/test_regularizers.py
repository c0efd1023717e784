"""Regularizers: Keras's penalties, gradients and configurations."""

import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import tally.regularizers as regularizers
from tally.core.errors import ArgumentError
from tally.core.registry import register_keras_serializable
from tally.core.variable import Variable

CASES = [
    ("L1", {}),
    ("L1", {"l1": 0.3}),
    ("L2", {}),
    ("L2", {"l2": 0.2}),
    ("L1L2", {}),
    ("L1L2", {"l1": 0.1, "l2": 0.7}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.4, "mode": "columns"}),
]
MATRIX = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_penalty_and_gradient_are_those_of_keras(name: str, arguments: dict) -> None:
    ours, theirs = getattr(regularizers, name)(**arguments), getattr(keras.regularizers, name)(**arguments)
    np.testing.assert_allclose(ours(MATRIX), theirs(jnp.asarray(MATRIX)), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ours)(MATRIX), jax.grad(theirs)(MATRIX), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_configs_are_equal_to_keras_and_read_both_ways(name: str, arguments: dict) -> None:
    ours, theirs = getattr(regularizers, name)(**arguments), getattr(keras.regularizers, name)(**arguments)
    written = json.loads(json.dumps(regularizers.serialize(ours)))
    expected = keras.regularizers.serialize(theirs)
    assert {**written, "config": {}} == {**expected, "config": {}}
    assert written["config"] == pytest.approx(expected["config"])
    assert keras.regularizers.deserialize(written).get_config() == pytest.approx(expected["config"])
    assert regularizers.deserialize(expected).get_config() == pytest.approx(ours.get_config())


@pytest.mark.parametrize("name", ["l1", "l2", "L1", "L2", "l1_l2", "l1l2", "L1L2", "orthogonal_regularizer"])
def test_names_give_the_defaults(name: str) -> None:
    made = regularizers.get(name)
    assert made.get_config() == type(made)().get_config()
    assert type(made) is getattr(regularizers, type(made).__name__)


def test_none_stays_none() -> None:
    assert regularizers.get(None) is None


def test_a_missing_factor_is_the_default() -> None:
    assert (regularizers.L1(None).l1, regularizers.L2(None).l2, regularizers.L1L2(None, None).l1) == (
        0.01,
        0.01,
        0.0,
    )


def test_the_penalty_keeps_the_dtype() -> None:
    assert regularizers.L1L2(0.1, 0.1)(jnp.ones(3, "bfloat16")).dtype == jnp.bfloat16


def test_a_variable_can_be_penalised() -> None:
    assert float(regularizers.L2(0.5)(Variable(np.array([1.0, 2.0])))) == 2.5


def test_a_row_of_zeros_has_a_finite_gradient() -> None:
    assert np.isfinite(
        jax.grad(regularizers.OrthogonalRegularizer())(jnp.zeros((2, 2)).at[0, 0].set(1.0))
    ).all()


def test_a_users_regularizer_goes_through_a_config() -> None:
    @register_keras_serializable("test")
    class Cubes(regularizers.Regularizer):
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, x):
            return self.factor * jnp.sum(jnp.abs(x) ** 3)

    again = regularizers.deserialize(regularizers.serialize(Cubes(0.5)))
    assert float(again(jnp.array([2.0]))) == 4.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: regularizers.L1("x"),
        lambda: regularizers.L2(float("nan")),
        lambda: regularizers.L2(-0.1),
        lambda: regularizers.L1L2(l2=float("inf")),
        lambda: regularizers.OrthogonalRegularizer(mode="both"),
        lambda: regularizers.OrthogonalRegularizer()(np.ones(3)),
    ],
)
def test_what_keras_refuses_is_refused(make) -> None:
    with pytest.raises(ValueError):
        make()


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'orthogonal_regularizer'"):
        regularizers.get("orthogonal_regulariser")
