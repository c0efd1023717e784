"""Accuracies: how often the prediction is the label."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import floatx
from tally.core.errors import ShapeError
from tally.core.variable import as_array
from tally.losses.base import align, called_with, prepare
from tally.metrics.base import MeanMetricWrapper, _Optionless


def accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """1 where prediction and label are equal."""
    return _as_numbers(jnp.equal(*align(as_array(y_true), as_array(y_pred))))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> jax.Array:
    """1 where the prediction is on the label's side of the threshold; labels are 0 and 1."""
    y_true, y_pred = prepare(y_true, y_pred, "binary_accuracy")
    return _as_numbers(y_true == (y_pred > threshold))


def categorical_accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """1 where the most probable class is the label's; labels are one-hot."""
    return _as_numbers(_class_of(y_true, y_pred, "categorical_accuracy") == as_array(y_pred).argmax(axis=-1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> jax.Array:
    """1 where the most probable class is the label's; labels are class numbers."""
    return _as_numbers(
        _number_of(y_true, y_pred, "sparse_categorical_accuracy") == as_array(y_pred).argmax(axis=-1)
    )


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> jax.Array:
    """1 where fewer than `k` classes are more probable than the label's; labels are one-hot."""
    return _in_top(_class_of(y_true, y_pred, "top_k_categorical_accuracy"), as_array(y_pred), k)


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> jax.Array:
    """1 where fewer than `k` classes are more probable than the label's; labels are class numbers.

    Args:
        y_true: Class numbers, (batch, ...).
        y_pred: Scores, (batch, ..., classes); or, with `from_sorted_ids`, class numbers from the most probable down.
        k: How many classes count as a hit.
        from_sorted_ids: Whether predictions are class numbers already.
    """
    y_pred = as_array(y_pred)
    labels = _number_of(y_true, y_pred, "sparse_top_k_categorical_accuracy")
    if from_sorted_ids:
        return _as_numbers((y_pred[..., :k] == labels[..., None]).any(axis=-1))
    return _in_top(labels.astype("int32"), y_pred, k)


def _in_top(labels: jax.Array, scores: jax.Array, k: int) -> jax.Array:
    own = jnp.take_along_axis(scores, labels[..., None], axis=-1)
    return _as_numbers(((scores > own).sum(axis=-1) < k) & ~jnp.isnan(own[..., 0]))


def _class_of(y_true: Any, y_pred: Any, who: str) -> jax.Array:
    y_true, y_pred = as_array(y_true), as_array(y_pred)
    if y_true.shape != y_pred.shape:
        raise ShapeError(
            f"{who} takes one-hot labels of shape {y_pred.shape}, but was given labels of shape {y_true.shape}.",
            where=called_with(y_true, y_pred),
            do=f"use sparse_{who} for class numbers",
        )
    return y_true.argmax(axis=-1)


def _number_of(y_true: Any, y_pred: Any, who: str) -> jax.Array:
    y_true, y_pred = as_array(y_true), as_array(y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        raise ShapeError(
            f"{who} takes class numbers of shape {y_pred.shape[:-1]}, but was given labels of shape {y_true.shape}.",
            where=called_with(y_true, y_pred),
            do=f"use {who.removeprefix('sparse_')} for one-hot labels",
        )
    return y_true


def _as_numbers(hits: jax.Array) -> jax.Array:
    return hits.astype(floatx())


class Accuracy(_Optionless):
    """How often the prediction equals the label: both are class numbers.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.Accuracy`.
    """

    function = staticmethod(accuracy)
    direction = "up"


class BinaryAccuracy(MeanMetricWrapper):
    """How often the prediction is on the label's side of a threshold.

    Args:
        name, dtype: As `Metric` takes them.
        threshold: Predictions above it mean 1.
    Shapes:
        y_true, y_pred: (batch, ..., answers); labels are 0 and 1

    Example:
        >>> float(tally.metrics.BinaryAccuracy()(np.array([1, 0]), np.array([0.9, 0.6])))
        0.5

    Source: `keras.metrics.BinaryAccuracy`.
    """

    direction = "up"

    def __init__(self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(_Optionless):
    """How often the most probable class is the label's.

    Args:
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true: (batch, ..., classes), one-hot
        y_pred: (batch, ..., classes)

    Source: `keras.metrics.CategoricalAccuracy`.
    """

    function = staticmethod(categorical_accuracy)
    direction = "up"


class SparseCategoricalAccuracy(_Optionless):
    """How often the most probable class is the label's.

    Args:
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true: (batch, ...), class numbers
        y_pred: (batch, ..., classes)

    Source: `keras.metrics.SparseCategoricalAccuracy`.
    """

    function = staticmethod(sparse_categorical_accuracy)
    direction = "up"


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the label's class is among the `k` most probable.

    Args:
        k: How many classes count as a hit.
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true: (batch, ..., classes), one-hot
        y_pred: (batch, ..., classes)

    Source: `keras.metrics.TopKCategoricalAccuracy`.
    """

    direction = "up"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the label's class is among the `k` most probable.

    Args:
        k: How many classes count as a hit.
        name, dtype: As `Metric` takes them.
        from_sorted_ids: Whether predictions are class numbers from the most probable down, instead of scores.
    Shapes:
        y_true: (batch, ...), class numbers
        y_pred: (batch, ..., classes)

    Source: `keras.metrics.SparseTopKCategoricalAccuracy`.
    """

    direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)
