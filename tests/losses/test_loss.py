"""Losses as objects: the user's own, names, configurations, errors."""

import json
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally.losses
from losses.cases import LOSSES, data
from tally.core.errors import ArgumentError, ShapeError
from tally.core.registry import custom_object_scope

IDS = [f"{name}-{'-'.join(map(str, options.values()))}" for name, options, _ in LOSSES]
FUNCTIONS = [
    name
    for name in dir(keras.losses)
    if name.islower() and name[0] != "_" and name not in ("get", "serialize", "deserialize")
]
floats = st.floats(-100, 100, width=32)


class Largest(tally.losses.Loss):
    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.factor * jnp.abs(y_true - y_pred).max(axis=-1)


def test_own_class_is_weighted_and_reduced() -> None:
    loss = Largest(reduction="sum")
    assert (
        float(loss(np.zeros((2, 2)), np.array([[1, 2], [3, 4]]), np.array([1, 0.5]))) == 2 * 2 + 2 * 4 * 0.5
    )


def test_own_class_is_named_after_itself() -> None:
    assert Largest().name.startswith("largest")


def test_own_class_comes_back_from_its_configuration() -> None:
    config = json.loads(json.dumps(tally.losses.serialize(Largest(factor=3.0, reduction="sum", name="far"))))
    back = tally.losses.deserialize(config, {"Largest": Largest})
    assert (back.factor, back.reduction, back.name) == (3.0, "sum", "far")


def test_own_loss_may_take_nests_of_arrays() -> None:
    class Both(tally.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return sum(jnp.abs(y_true[name] - y_pred[name]) for name in y_true)

    y_true, y_pred = ({name: np.full(2, value) for name in "ab"} for value in (1, 3))
    assert float(Both()(y_true, y_pred)) == 4.0


def far(y_true: Any, y_pred: Any, factor: float = 1.0) -> Any:
    return factor * jnp.abs(y_true - y_pred).mean(axis=-1)


def test_wrapped_function_is_reduced_and_keeps_its_name() -> None:
    loss = tally.losses.LossFunctionWrapper(far, factor=2.0)
    assert (loss.name, float(loss(np.zeros((2, 2)), np.ones((2, 2))))) == ("far", 2.0)


def test_wrapped_function_comes_back_from_its_configuration() -> None:
    config = json.loads(json.dumps(tally.losses.serialize(tally.losses.LossFunctionWrapper(far, factor=2.0))))
    with custom_object_scope({"far": far}):
        back = tally.losses.deserialize(config)
    assert (back.fn, back.options) == (far, {"factor": 2.0})


def test_wrapped_library_function_is_written_as_keras_writes_it() -> None:
    from keras.src.losses.losses import LossFunctionWrapper

    ours = tally.losses.LossFunctionWrapper(tally.losses.huber, name="h", delta=2.0).get_config()
    theirs = LossFunctionWrapper(keras.losses.huber, name="h", delta=2.0).get_config()
    assert ours == theirs


def test_lists_of_numbers_are_data() -> None:
    assert float(tally.losses.MeanSquaredError()([1.0, 2.0], [1.0, 4.0])) == 2.0


@pytest.mark.parametrize(
    "name", ["mse", "MSE", "mae", "MAE", "mape", "MAPE", "msle", "MSLE", "bce", "BCE", "kld", "KLD"]
)
def test_short_names_mean_what_they_mean_in_keras(name: str) -> None:
    assert tally.losses.get(name).__name__ == keras.losses.get(name).__name__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_names_resolve(name: str) -> None:
    assert tally.losses.get(name) is getattr(tally.losses, name)


def test_none_stays_none() -> None:
    assert tally.losses.get(None) is None


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=IDS)
def test_configurations_go_to_keras_and_back(name: str, options: dict[str, Any], kind: str) -> None:
    y_true, y_pred = data(kind)
    ours = getattr(tally.losses, name)(**options)
    written = json.loads(json.dumps(tally.losses.serialize(ours)))
    theirs = keras.saving.deserialize_keras_object(written)
    np.testing.assert_allclose(theirs(y_true, y_pred), ours(y_true, y_pred), rtol=2e-5)
    of_keras = json.loads(json.dumps(keras.losses.serialize(getattr(keras.losses, name)(**options))))
    assert of_keras["config"].items() <= written["config"].items()
    assert tally.losses.deserialize(of_keras).get_config().items() >= of_keras["config"].items()


@settings(deadline=None, max_examples=30)
@given(st.lists(floats, min_size=4, max_size=4))
def test_equal_labels_and_predictions_cost_nothing(values: list[float]) -> None:
    x = np.array([values], "float32")
    for name in ("MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh"):
        assert float(getattr(tally.losses, name)()(x, x)) == pytest.approx(0, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(floats, min_size=4, max_size=4), st.lists(floats, min_size=4, max_size=4))
def test_weights_of_one_change_nothing(labels: list[float], predictions: list[float]) -> None:
    y_true, y_pred = (np.array(x, "float32").reshape(2, 2) for x in (labels, predictions))
    for reduction in tally.losses.base.REDUCTIONS:
        loss = tally.losses.MeanAbsoluteError(reduction=reduction)
        np.testing.assert_allclose(loss(y_true, y_pred, np.ones(2)), loss(y_true, y_pred), rtol=1e-6)


ERRORS: list[tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...], type[Exception], str]] = [
    (
        "categorical_crossentropy",
        {},
        (32,),
        (32, 10),
        ShapeError,
        "categorical_crossentropy takes one-hot labels of shape (32, 10), but was given labels of shape (32,), "
        "which look like class numbers.\n"
        "  where: called with labels float32[32] and predictions float32[32,10]\n"
        "  do: use sparse_categorical_crossentropy for class numbers, or make them one-hot: "
        "tally.utils.to_categorical(labels, 10)",
    ),
    (
        "categorical_crossentropy",
        {},
        (32, 7),
        (32, 10),
        ShapeError,
        "categorical_crossentropy was given labels of 7 classes and predictions of 10.\n"
        "  where: called with labels float32[32,7] and predictions float32[32,10]\n"
        "  do: give the model 7 outputs, or make the labels one-hot with 10 classes",
    ),
    (
        "sparse_categorical_crossentropy",
        {},
        (32, 10),
        (32, 10),
        ShapeError,
        "sparse_categorical_crossentropy takes class numbers of shape (32,), but was given labels of shape "
        "(32, 10), which look one-hot.\n"
        "  where: called with labels float32[32,10] and predictions float32[32,10]\n"
        "  do: use categorical_crossentropy for one-hot labels, or make them class numbers: "
        "labels.argmax(axis=-1)",
    ),
    (
        "sparse_categorical_crossentropy",
        {},
        (16,),
        (32, 10),
        ShapeError,
        "sparse_categorical_crossentropy takes class numbers of shape (32,), but was given labels of shape "
        "(16,).\n"
        "  where: called with labels float32[16] and predictions float32[32,10]\n"
        "  do: give one class number for each prediction, or predictions of shape (16, 10)",
    ),
    (
        "mean_squared_error",
        {},
        (10,),
        (10, 10),
        ShapeError,
        "mean_squared_error takes labels of the predictions' shape (10, 10), but was given labels of shape "
        "(10,).\n"
        "  where: called with labels float32[10] and predictions float32[10,10]\n"
        "  do: give labels of shape (10, 10), or end the model in a layer whose output is (10,)",
    ),
    (
        "ctc",
        {},
        (4,),
        (4, 7, 5),
        ShapeError,
        "ctc takes labels of shape (batch, length) and logits of shape (batch, length, classes), but was given "
        "(4,) and (4, 7, 5).\n"
        "  where: called with labels int32[4] and predictions float32[4,7,5]\n"
        "  do: give one row of class numbers per sample, filled up with 0, and logits for each time step",
    ),
]


@pytest.mark.parametrize(("name", "options", "true", "predicted", "kind", "text"), ERRORS)
def test_shapes_that_do_not_fit_are_told(
    name: str, options: dict[str, Any], true: Any, predicted: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        getattr(tally.losses, name)(np.zeros(true, "float32"), np.ones(predicted, "float32"), **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        (
            [1, 2, 3],
            {},
            "Class numbers run from 0 to 2 for 3 classes, but the labels run from 1 to 3.\n"
            "  do: number the classes from 0: labels - 1",
        ),
        (
            [0, 1, 5],
            {},
            "Class numbers run from 0 to 2 for 3 classes, but the labels run from 0 to 5.\n"
            "  do: give the model 6 outputs, or check the labels",
        ),
        (
            [0, 1, -1],
            {},
            "Class numbers run from 0 to 2 for 3 classes, but the labels run from -1 to 1.\n"
            "  do: number the classes from 0, or pass ignore_class=-1 if that number stands for no label",
        ),
    ],
)
def test_class_numbers_that_are_no_class_are_told(
    labels: list[int], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        tally.losses.SparseCategoricalCrossentropy(**options)(np.array(labels), np.ones((3, 3)))
    assert str(caught.value) == text


def test_unknown_reduction_is_told_with_the_nearest() -> None:
    with pytest.raises(ArgumentError) as caught:
        tally.losses.MeanSquaredError(reduction="sum_over_batch")
    assert str(caught.value) == (
        "There is no reduction 'sum_over_batch'. Did you mean 'sum_over_batch_size'?\n"
        "  do: use one of sum_over_batch_size, mean, mean_with_sample_weight, sum, none"
    )


def test_weights_that_fit_nowhere_are_told() -> None:
    with pytest.raises(ShapeError) as caught:
        tally.losses.MeanSquaredError()(np.zeros((4, 3)), np.ones((4, 3)), np.ones(3))
    assert str(caught.value) == (
        "Sample weights of shape (3,) don't fit values of shape (4,).\n"
        "  do: give one weight per sample, of shape (4,), or one per value, of shape (4,)"
    )


def test_one_class_is_warned_about() -> None:
    with pytest.warns(SyntaxWarning, match=r"predictions of one class, \(2, 1\)"):
        tally.losses.categorical_crossentropy(np.ones((2, 1)), np.ones((2, 1)))


def test_q_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ArgumentError, match="q is between 0 and 1"):
        tally.losses.CategoricalGeneralizedCrossEntropy(q=1.5)


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(ArgumentError, match="3 is no loss"):
        tally.losses.get(3)
