"""Metrics as objects: the user's own, variables, names, configurations, errors."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally.metrics
from metrics.cases import IDS, METRICS, data
from tally.core.errors import ArgumentError, ShapeError
from tally.core.naming import reset_names
from tally.core.registry import custom_object_scope, snake_case
from tally.core.variable import Values, Variable, substitute

pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # the peer asks for it
shares = st.floats(0, 1, width=32)
CLASSES = [
    name
    for name in tally.metrics.__all__
    if name[0].isupper()
    and name not in ("Metric", "MeanMetricWrapper")
    and "At" not in name
    and "IoU" not in name
]


class Largest(tally.metrics.Metric):
    def __init__(self, name: str = "largest", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.largest = self.add_weight(name="value", shape=(), initializer="zeros")
        self.inner = [tally.metrics.Mean()]
        self.seen = Variable(0.0, trainable=False)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.largest.assign(jnp.maximum(self.largest.value, jnp.max(y_pred)))
        self.inner[0].update_state(y_pred)
        self.seen.assign_add(1.0)

    def result(self) -> Any:
        return self.largest.value


def test_own_metric_collects() -> None:
    metric = Largest()
    metric.update_state(None, np.array([1.0, 3.0]))
    assert float(metric(None, np.array([2.0]))) == 3.0


def test_variables_are_those_added_assigned_and_of_metrics_inside() -> None:
    metric = Largest()
    inner = metric.inner[0]
    assert metric.variables == [metric.largest, inner.total, inner.count, metric.seen]
    assert metric.largest.path == "largest/value"


def test_reset_sets_metrics_inside_back_too() -> None:
    metric = Largest()
    metric.update_state(None, np.array([3.0]))
    metric.reset_state()
    assert [float(variable.raw) for variable in metric.variables] == [0, 0, 0, 0]


def test_update_inside_a_compiled_step_goes_to_the_values_that_stand_for_the_variables() -> None:
    metric = tally.metrics.MeanSquaredError()

    @jax.jit
    def step(state: list[Any], y_true: Any, y_pred: Any) -> list[Any]:
        with substitute(Values(zip(metric.variables, state, strict=True))) as values:
            metric.update_state(y_true, y_pred)
            return [values[variable] for variable in metric.variables]

    state = step([variable.raw for variable in metric.variables], np.zeros((2, 1)), np.ones((2, 1)))
    assert [float(value) for value in state] == [2.0, 2.0]
    assert [float(variable.raw) for variable in metric.variables] == [0.0, 0.0]


def test_no_trainable_variable_is_added() -> None:
    assert not any(variable.trainable for variable in tally.metrics.AUC().variables)


def test_names_of_counts_are_numbered_and_those_of_means_are_not() -> None:
    reset_names()
    made = [metric().name for metric in (tally.metrics.Precision, tally.metrics.Mean) for _ in range(2)]
    assert made == ["precision", "precision_1", "mean", "mean"]


@pytest.mark.parametrize("name", ["mse", "MSE", "mae", "MAE", "mape", "MAPE", "msle", "MSLE", "bce", "BCE"])
def test_short_names_mean_what_they_mean_in_keras(name: str) -> None:
    assert type(tally.metrics.get(name)).__name__ == type(keras.metrics.get(name)).__name__


@pytest.mark.parametrize("name", CLASSES)
def test_class_is_found_under_both_spellings(name: str) -> None:
    for spelling in (name, snake_case(name)):
        assert type(tally.metrics.get(spelling)).__name__ == name


@pytest.mark.parametrize("name", CLASSES)
def test_default_name_is_keras_s(name: str) -> None:
    ours, theirs = (getattr(module.metrics, name)().name.rstrip("_0123456789") for module in (tally, keras))
    assert ours == theirs


@pytest.mark.parametrize("name", CLASSES)
def test_direction_is_keras_s(name: str) -> None:
    theirs = getattr(getattr(keras.metrics, name)(), "_direction", None)
    assert getattr(tally.metrics, name)().direction == theirs


@pytest.mark.parametrize(("name", "options", "kind"), METRICS, ids=IDS)
def test_configurations_go_to_keras_and_back(name: str, options: dict[str, Any], kind: str) -> None:
    ours = getattr(tally.metrics, name)(**options)
    written = json.loads(json.dumps(tally.metrics.serialize(ours)))
    batch = data(kind, 5)
    back = tally.metrics.deserialize(written)
    theirs = keras.metrics.deserialize(written)
    for metric in (back, theirs):
        np.testing.assert_allclose(metric(*batch), ours(*batch), rtol=2e-5, atol=1e-6)
        ours.reset_state()
    told_otherwise = ("label_weights", "thresholds", "num_thresholds")  # what the results above have compared
    told = {name: value for name, value in theirs.get_config().items() if name not in told_otherwise}
    assert told.items() <= written["config"].items()


def test_wrapped_function_comes_back_from_its_configuration() -> None:
    def off(y_true: Any, y_pred: Any, factor: float) -> Any:
        return factor * jnp.abs(y_true - y_pred)

    metric = tally.metrics.MeanMetricWrapper(off, factor=2.0)
    with custom_object_scope({"off": off}):
        back = tally.metrics.deserialize(json.loads(json.dumps(tally.metrics.serialize(metric))))
    assert (back.name, float(back(np.zeros(2), np.ones(2)))) == ("off", 2.0)


@pytest.mark.parametrize("function", ["mean_squared_error", "binary_accuracy"])
def test_wrapped_library_function_comes_back_and_is_written_as_keras_writes_it(function: str) -> None:
    written = tally.metrics.serialize(
        tally.metrics.MeanMetricWrapper(getattr(tally.metrics, function), name="m")
    )
    theirs = keras.metrics.serialize(
        keras.metrics.MeanMetricWrapper(getattr(keras.metrics, function), name="m")
    )
    assert written == theirs
    assert tally.metrics.deserialize(written).fn is getattr(tally.metrics, function)


def test_wrapped_loss_is_better_when_smaller() -> None:
    assert tally.metrics.MeanMetricWrapper(tally.losses.huber).direction == "down"
    assert tally.metrics.MeanMetricWrapper(tally.losses.Huber()).direction == "down"
    assert tally.metrics.MeanMetricWrapper(lambda y_true, y_pred: y_pred).direction is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), shares), min_size=5, max_size=5))
def test_the_four_outcomes_are_all_samples(samples: list[tuple[bool, float]]) -> None:
    y_true, y_pred = (np.array(column, "float32") for column in zip(*samples, strict=True))
    names = ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
    counts = [getattr(tally.metrics, name)([0.1, 0.5])(y_true, y_pred) for name in names]
    assert np.all(sum(counts) == len(samples))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), shares), min_size=5, max_size=5), st.integers(1, 5))
def test_batches_may_be_cut_anywhere(samples: list[tuple[bool, float]], cut: int) -> None:
    y_true, y_pred = (np.array(column, "float32") for column in zip(*samples, strict=True))
    whole, parts = tally.metrics.AUC(num_thresholds=5), tally.metrics.AUC(num_thresholds=5)
    whole.update_state(y_true, y_pred)
    for piece in (slice(0, cut), slice(cut, None)):
        parts.update_state(y_true[piece], y_pred[piece])
    np.testing.assert_allclose(parts.result(), whole.result(), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.lists(shares, min_size=4, max_size=4))
def test_weights_of_one_change_nothing(values: list[float]) -> None:
    x = np.array(values, "float32")
    np.testing.assert_allclose(tally.metrics.Mean()(x, np.ones(len(x))), tally.metrics.Mean()(x), rtol=1e-6)


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: tally.metrics.AUC(curve="RCO"),
        ArgumentError,
        "AUC has no curve 'RCO'. Did you mean 'ROC'?\n  do: use one of ROC, PR, PRGAIN",
    ),
    (
        lambda: tally.metrics.AUC(multi_label=True, name="a").update_state(np.zeros(3), np.zeros(3)),
        ShapeError,
        "AUC 'a' with multi_label takes predictions of shape (batch, labels), but was given (3,).\n"
        "  do: flatten all but the batch axis, or leave multi_label out",
    ),
    (
        lambda: tally.metrics.AUC(num_labels=2),
        ArgumentError,
        "AUC takes num_labels only together with multi_label=True.",
    ),
    (
        lambda: tally.metrics.AUC(num_thresholds=1),
        ArgumentError,
        "AUC needs at least 2 thresholds, but num_thresholds is 1.",
    ),
    (
        lambda: tally.metrics.Precision(thresholds=[0.5, 1.5]),
        ArgumentError,
        "Thresholds lie between 0 and 1, but [1.5] was given.\n"
        "  do: apply a sigmoid to logits and compare with that",
    ),
    (
        lambda: tally.metrics.Precision(name="p").update_state(np.zeros(4), np.zeros((4, 3))),
        ShapeError,
        "Precision 'p' takes labels of the predictions' shape (4, 3), but was given labels of shape (4,).\n"
        "  where: called with labels float32[4] and predictions float32[4,3]\n"
        "  do: give one label of 0 or 1 for each prediction; make class numbers one-hot",
    ),
    (
        lambda: tally.metrics.Recall(class_id=1, name="r").update_state(np.zeros(4), np.zeros(4)),
        ShapeError,
        "Recall 'r' looks at class 1, but was given predictions of shape (4,), without an axis of classes.\n"
        "  do: give predictions of shape (batch, classes), or leave class_id out",
    ),
    (
        lambda: tally.metrics.PrecisionAtRecall(1.5),
        ArgumentError,
        "PrecisionAtRecall's recall lies between 0 and 1, and 1.5 does not.",
    ),
    (
        lambda: tally.metrics.F1Score(average="mean"),
        ArgumentError,
        "F1Score's average can't be 'mean'.\n  do: use one of None, 'micro', 'macro', 'weighted'",
    ),
    (
        lambda: tally.metrics.FBetaScore(beta=1),
        ArgumentError,
        "FBetaScore's beta is a float above 0, not 1.\n  do: write 1.0, for instance",
    ),
    (
        lambda: tally.metrics.F1Score().update_state(np.zeros(4), np.zeros((4, 3))),
        ShapeError,
        "F1Score takes labels and predictions of shape (batch, classes), but was given (4,) and (4, 3).\n"
        "  do: make class numbers one-hot, and give one answer a last axis of size 1",
    ),
    (
        lambda: tally.metrics.IoU(2, [2]),
        ArgumentError,
        "IoU is to look at class 2, but there are 2 classes, 0 to 1.\n  do: name target classes below num_classes",
    ),
    (
        lambda: tally.metrics.R2Score("mean"),
        ArgumentError,
        "R2Score's class_aggregation can't be 'mean'.\n"
        "  do: use one of None, 'uniform_average', 'variance_weighted_average'",
    ),
    (
        lambda: tally.metrics.categorical_accuracy(np.zeros(4), np.zeros((4, 3))),
        ShapeError,
        "categorical_accuracy takes one-hot labels of shape (4, 3), but was given labels of shape (4,).\n"
        "  where: called with labels float32[4] and predictions float32[4,3]\n"
        "  do: use sparse_categorical_accuracy for class numbers",
    ),
    (
        lambda: tally.metrics.sparse_categorical_accuracy(np.zeros((4, 3)), np.zeros((4, 3))),
        ShapeError,
        "sparse_categorical_accuracy takes class numbers of shape (4,), but was given labels of shape (4, 3).\n"
        "  where: called with labels float32[4,3] and predictions float32[4,3]\n"
        "  do: use categorical_accuracy for one-hot labels",
    ),
    (
        lambda: tally.metrics.Mean(name="m").stateless_result([0.0]),
        ArgumentError,
        "Mean 'm' has 2 variables, but was given 1 values.\n"
        "  do: pass one value for each of metric.variables; a metric that sizes them by the data has them after its "
        "first update",
    ),
    (
        lambda: tally.metrics.get("acuracy"),
        ArgumentError,
        "'acuracy' is not a known name in tally.metrics. Did you mean 'accuracy'?",
    ),
]


@pytest.mark.parametrize(("act", "kind", "text"), ERRORS)
def test_mistakes_are_told(act: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        act()
    assert str(caught.value).startswith(text)


def test_variable_before_super_init_is_told() -> None:
    class Early(tally.metrics.Metric):
        def __init__(self) -> None:
            self.total = self.add_variable((), "zeros")

    with pytest.raises(ArgumentError) as caught:
        Early()
    assert str(caught.value) == (
        "Early added a variable before it was set up.\n  do: call super().__init__() at the start of its __init__"
    )


def test_fractions_of_weights_that_integer_counts_cut_off_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="counts in int32"):
        tally.metrics.MeanIoU(2).update_state(np.array([0, 1]), np.array([0, 1]), np.array([0.5, 1.0]))
