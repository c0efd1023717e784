"""Metrics give the numbers the real Keras gives, eagerly and inside compiled functions."""

from typing import Any

import jax
import keras
import numpy as np
import pytest

import tally.metrics
from metrics.cases import IDS, METRICS, data
from tally.core.masks import set_mask
from tally.core.variable import Values, substitute

pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # the peer asks for it
each_metric = pytest.mark.parametrize(("name", "options", "kind"), METRICS, ids=IDS)
INTEGER_COUNTS = ("IoU", "MeanIoU", "BinaryIoU", "OneHotIoU", "OneHotMeanIoU")


def batches(name: str, kind: str, weighted: bool) -> list[tuple[Any, ...]]:
    """Two batches of six; weights begin with 0 and make the second count for twice the first."""
    found = []
    for number in (1, 2):
        weights = np.arange(6) if name in INTEGER_COUNTS else np.linspace(0, 1, 6, dtype="float32")
        found.append((*data(kind, number), *[number * weights] * weighted))
    return found


@each_metric
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_metric_is_keras_after_every_update_and_reset(
    name: str, options: dict[str, Any], kind: str, weighted: bool
) -> None:
    ours, theirs = getattr(tally.metrics, name)(**options), getattr(keras.metrics, name)(**options)
    for batch in batches(name, kind, weighted):
        ours.update_state(*batch)
        theirs.update_state(*batch)
        np.testing.assert_allclose(ours.result(), theirs.result(), rtol=2e-5, atol=1e-6)
    ours.reset_state()
    theirs.reset_state()
    for batch in batches(name, kind, weighted)[1:]:
        np.testing.assert_allclose(ours(*batch), theirs(*batch), rtol=2e-5, atol=1e-6)


@each_metric
def test_compiled_update_is_the_eager_one(name: str, options: dict[str, Any], kind: str) -> None:
    metric = getattr(tally.metrics, name)(**options)
    first, second = batches(name, kind, weighted=True)
    with substitute(Values(abstract=True)):  # makes the variables that are sized by the data
        jax.eval_shape(metric.update_state, *first)
    state = metric.stateless_reset_state()
    assert all(np.all(value == 0) for value in state)
    for batch in (first, second):
        state = jax.jit(metric.stateless_update_state)(state, *batch)
        metric.update_state(*batch)
    for value, variable in zip(state, metric.variables, strict=True):
        np.testing.assert_allclose(value, variable.raw, rtol=1e-6)
    compiled = jax.jit(metric.stateless_result)(state)
    np.testing.assert_allclose(compiled, metric.result(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "shape"), [((6,), (6,)), ((6, 2), (6,)), ((6, 2), (6, 2)), ((6, 2, 3), (6, 2))]
)
@pytest.mark.parametrize("name", ["Mean", "Sum"])
def test_weights_per_sample_and_per_value_count_as_in_keras(name: str, values: tuple, shape: tuple) -> None:
    draw = np.random.default_rng(0)
    numbers, weights = draw.normal(size=values).astype("float32"), draw.uniform(size=shape).astype("float32")
    ours, theirs = getattr(tally.metrics, name)(), getattr(keras.metrics, name)()
    for batch in ((numbers,), (numbers, weights), (2.5,)):
        np.testing.assert_allclose(ours(*batch), theirs(*batch), rtol=1e-5)


def test_mask_of_the_predictions_leaves_positions_out() -> None:
    y_true, y_pred = np.zeros((2, 2, 1)), np.array([[[1.0], [9.0]], [[2.0], [3.0]]])
    masked = set_mask(jax.numpy.asarray(y_pred), np.array([[True, False], [True, True]]))
    metric = tally.metrics.MeanMetricWrapper(tally.losses.mean_absolute_error)
    assert float(metric(y_true, masked)) == 2.0


def test_ignored_class_is_left_out_of_the_mean() -> None:
    y_true, y_pred = data("numbers", 1)
    metric = tally.metrics.SparseCategoricalCrossentropy(ignore_class=1)
    loss = tally.losses.SparseCategoricalCrossentropy(ignore_class=1)
    np.testing.assert_allclose(metric(y_true, y_pred), loss(y_true, y_pred), rtol=1e-6)


def test_every_function_of_keras_gives_keras_s_numbers() -> None:
    rows = {
        "binary_accuracy": "answers",
        "categorical_accuracy": "one-hot",
        "sparse_categorical_accuracy": "steps of numbers",
        "top_k_categorical_accuracy": "one-hot",
        "sparse_top_k_categorical_accuracy": "numbers",
        "pearson_correlation": "quantities",
        "concordance_correlation": "quantities",
    }
    for name, kind in rows.items():
        ours = getattr(tally.metrics, name)(*data(kind, 4))
        theirs = getattr(keras.metrics, name)(*data(kind, 4))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


def test_everything_keras_offers_is_here() -> None:
    assert {name for name in dir(keras.metrics) if not name.startswith("_")} <= set(tally.metrics.__all__)


def test_adjusted_r2_stays_plain_with_too_few_samples() -> None:
    y_true, y_pred = data("quantities", 1, 2)
    plain, adjusted = (tally.metrics.R2Score(num_regressors=number) for number in (0, 9))
    assert float(plain(y_true, y_pred)) == float(adjusted(y_true, y_pred))


def test_a_true_prediction_of_nan_is_no_top_k_hit() -> None:
    assert tally.metrics.sparse_top_k_categorical_accuracy(np.array([0]), np.array([[np.nan, 1.0]]), k=2) == 0
