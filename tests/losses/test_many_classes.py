"""Cross-entropy of class numbers on logits: what its program holds, and its numbers to the second derivative."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tally.losses import SparseCategoricalCrossentropy, sparse_categorical_crossentropy

CHANCE = np.random.default_rng(0)
LOGITS = CHANCE.normal(size=(2, 3, 7)).astype("float32") * 3
LABELS = CHANCE.integers(0, 7, size=(2, 3)).astype("int32")


def _cost(logits: jax.Array, labels: jax.Array = LABELS, axis: int = -1) -> jax.Array:
    return sparse_categorical_crossentropy(labels, logits, from_logits=True, axis=axis)


def _written_out(logits: jax.Array) -> jax.Array:
    return -jnp.sum(jax.nn.one_hot(LABELS, 7) * jax.nn.log_softmax(logits), axis=-1)


def _lowered(function, words: int = 1000) -> str:
    shapes = jax.ShapeDtypeStruct((4, 16, words), "bfloat16"), jax.ShapeDtypeStruct((4, 16), "int32")
    return jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()


def _of_words(program: str, kind: str) -> int:
    """How many operations of a kind give one value for each word."""
    return len(re.findall(rf"stablehlo\.{kind} .*tensor<4x16x1000x\w+>$", program, re.MULTILINE))


def test_the_loss_makes_no_label_one_hot() -> None:
    loss = SparseCategoricalCrossentropy(from_logits=True)
    program = _lowered(lambda logits, labels: loss(labels, logits))
    assert "stablehlo.gather" in program
    assert [_of_words(program, kind) for kind in ("compare", "multiply", "exponential")] == [0, 0, 1]


def test_its_gradient_is_one_pass_without_a_scatter() -> None:
    loss = SparseCategoricalCrossentropy(from_logits=True)
    program = _lowered(jax.grad(lambda logits, labels: loss(labels, logits)))
    assert "scatter" not in program
    assert [_of_words(program, kind) for kind in ("compare", "divide", "log")] == [1, 0, 0]


def test_value_gradient_and_second_derivative_are_those_of_the_formula() -> None:
    np.testing.assert_allclose(_cost(LOGITS), _written_out(LOGITS), rtol=1e-5, atol=1e-6)
    for derivative in (jax.grad, jax.hessian):
        ours = derivative(lambda x: jnp.sum(jnp.square(_cost(x))))(LOGITS)
        formula = derivative(lambda x: jnp.sum(jnp.square(_written_out(x))))(LOGITS)
        np.testing.assert_allclose(ours, formula, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_classes_may_lie_on_any_axis(axis: int) -> None:
    moved = jnp.moveaxis(LOGITS, -1, axis)
    np.testing.assert_allclose(_cost(moved, axis=axis), _written_out(LOGITS), rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda x: _cost(x, axis=axis).sum())(moved)
    formula = jax.grad(lambda x: _written_out(x).sum())(LOGITS)
    np.testing.assert_allclose(jnp.moveaxis(slope, axis, -1), formula, rtol=1e-4, atol=1e-6)


def test_it_can_be_vectorised() -> None:
    np.testing.assert_allclose(jax.vmap(_cost)(LOGITS, LABELS), _cost(LOGITS), rtol=1e-6)


@pytest.mark.parametrize("number", [-1, 7])
def test_a_number_of_no_class_costs_nothing_in_a_compiled_program(number: int) -> None:
    labels = LABELS.copy()
    labels[0, 1] = number
    cost, slope = jax.jit(lambda x, y: (_cost(x, y), jax.grad(lambda z: _cost(z, y).sum())(x)))(
        LOGITS, labels
    )
    assert cost[0, 1] == 0
    assert not slope[0, 1].any()
    assert slope[0, 0].any()


def test_a_class_that_is_ruled_out_leaves_the_others_finite() -> None:
    logits = LOGITS.copy()
    logits[..., 6], labels = -np.inf, LABELS % 6
    cost, slope = _cost(logits, labels), jax.grad(lambda x: _cost(x, labels).sum())(logits)
    assert np.isfinite(cost).all()
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(cost, _cost(logits[..., :6], labels), rtol=1e-6)
