"""Losses give the numbers the real Keras gives."""

from typing import Any

import jax
import keras
import numpy as np
import pytest

import tally.losses
from losses.cases import LOSSES, data
from tally.losses.base import REDUCTIONS

FUNCTIONS = [n for n in tally.losses.__all__ if n.islower() and n not in ("get", "serialize", "deserialize")]
IDS = [f"{name}-{'-'.join(map(str, options.values()))}" for name, options, _ in LOSSES]


def peer(name: str, options: dict[str, Any], **more: Any) -> Any:
    return getattr(keras.losses, name)(**options, **more)


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=IDS)
def test_loss_is_keras_with_every_reduction_and_weight(name: str, options: dict[str, Any], kind: str) -> None:
    y_true, y_pred = data(kind)
    size = np.shape(peer(name, options, reduction="none")(y_true, y_pred))
    for reduction in REDUCTIONS:
        for weights in (None, np.linspace(0.5, 2, size[0]).astype("float32") if size else np.float32(0.3)):
            ours = getattr(tally.losses, name)(**options, reduction=reduction)(y_true, y_pred, weights)
            theirs = peer(name, options, reduction=reduction)(y_true, y_pred, weights)
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6, err_msg=f"{reduction} {weights}")


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=IDS)
def test_gradient_is_keras_s(name: str, options: dict[str, Any], kind: str) -> None:
    y_true, y_pred = data(kind)
    ours = jax.grad(lambda x: getattr(tally.losses, name)(**options)(y_true, x))(y_pred)
    theirs = jax.grad(lambda x: peer(name, options)(y_true, x))(y_pred)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["MeanSquaredError", "KLDivergence", "SparseCategoricalCrossentropy"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mask_leaves_out_what_keras_leaves_out(name: str, reduction: str) -> None:
    draw = np.random.default_rng(3)
    y_pred = draw.uniform(0.1, 1, size=(2, 3, 4)).astype("float32")
    y_true = draw.integers(0, 4, size=(2, 3)) if name.startswith("Sparse") else y_pred[::-1].copy()
    kept = np.array([[True, True, False], [True, False, False]])
    weights = draw.uniform(size=(2, 3)).astype("float32")
    for weight in (None, weights):
        masked = tally.core.masks.set_mask(jax.numpy.asarray(y_pred), jax.numpy.asarray(kept))
        ours = getattr(tally.losses, name)(reduction=reduction)(y_true, masked, weight)
        masked = jax.numpy.asarray(y_pred)
        masked._keras_mask = jax.numpy.asarray(kept)
        theirs = getattr(keras.losses, name)(reduction=reduction)(y_true, masked, weight)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


SHAPES = [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (4, 3, 1)), ((4, 3, 1), (4, 3)), ((4, 3, 2), (4, 3, 2))]


@pytest.mark.parametrize(("true", "predicted"), SHAPES)
def test_last_axis_of_one_may_be_missing_as_in_keras(
    true: tuple[int, ...], predicted: tuple[int, ...]
) -> None:
    y_true = np.arange(np.prod(true), dtype="float32").reshape(true)
    y_pred = np.ones(predicted, "float32")
    ours = tally.losses.MeanSquaredError(reduction="none")(y_true, y_pred)
    np.testing.assert_allclose(ours, keras.losses.MeanSquaredError(reduction="none")(y_true, y_pred))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_what_its_class_takes(name: str) -> None:
    title, options, kind = next(row for row in LOSSES if tally.losses.get(row[0]).fn.__name__ == name)
    y_true, y_pred = data(kind)
    ours = getattr(tally.losses, name)(y_true, y_pred, **options)
    theirs = getattr(keras.losses, name)(y_true, jax.numpy.asarray(y_pred), **options)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6, err_msg=title)


def test_everything_keras_offers_is_here() -> None:
    assert {name for name in dir(keras.losses) if not name.startswith("_")} <= set(tally.losses.__all__)


@pytest.mark.parametrize("name", ["binary_crossentropy", "binary_focal_crossentropy"])
def test_binary_losses_stay_exact_at_large_logits(name: str) -> None:
    loss = getattr(tally.losses, name)(np.array([[1.0]]), np.array([[-80.0]], "float32"), from_logits=True)
    assert float(loss[0]) == pytest.approx(80.0)


def test_probabilities_of_0_and_1_have_finite_loss_in_bfloat16() -> None:
    loss = tally.losses.BinaryCrossentropy(dtype="bfloat16")
    assert np.isfinite(float(loss(np.array([[1.0, 0.0, 1.0]]), np.array([[1.0, 1.0, 0.0]]))))


def test_class_numbers_keep_their_value_in_bfloat16() -> None:
    scores = np.zeros((1, 300), "float32")
    scores[0, 257] = 20.0
    loss = tally.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="bfloat16")
    assert float(loss(np.array([257]), scores)) < 0.01


def test_one_weight_per_sample_weighs_all_its_time_steps() -> None:
    y_true, y_pred = np.zeros((2, 2, 3)), np.ones((2, 2, 3))
    loss = tally.losses.MeanSquaredError(reduction="none")(y_true, y_pred, np.array([1.0, 3.0]))
    assert loss.tolist() == [[1, 1], [3, 3]]


def test_samples_without_a_partner_leave_circle_s_gradient_finite() -> None:
    y_pred = np.eye(3, dtype="float32")
    gradient = jax.grad(lambda x: tally.losses.Circle()(np.array([0, 1, 2]), x))(y_pred)
    assert np.isfinite(gradient).all()


def test_ignored_positions_have_no_gradient() -> None:
    y_true, y_pred = np.array([0, -1]), np.array([[0.2, 0.8], [0.5, 0.5]], "float32")
    loss = tally.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    gradient = jax.grad(lambda x: loss(y_true, x))(y_pred)
    assert np.all(gradient[1] == 0)
    assert np.all(gradient[0] != 0)


def test_classes_may_lie_on_another_axis() -> None:
    y_true, y_pred = (
        np.array([[0, 2], [1, 1]]),
        np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32"),
    )
    ours = tally.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True, axis=1)
    moved = tally.losses.sparse_categorical_crossentropy(y_true, np.moveaxis(y_pred, 1, -1), from_logits=True)
    np.testing.assert_allclose(ours, moved, rtol=1e-6)
