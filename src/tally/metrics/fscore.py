"""F-scores: precision and recall in one number."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon
from tally.core.errors import ArgumentError, ShapeError
from tally.core.variable import Variable, as_array
from tally.losses.base import called_with
from tally.metrics.base import Metric

_AVERAGES = (None, "micro", "macro", "weighted")


class FBetaScore(Metric):
    """The weighted harmonic mean of precision and recall, per class.

    Args:
        average: None for one score per class, `"micro"` for that of all classes counted together, `"macro"` for their
            mean, `"weighted"` for their mean weighted by how often each class is labelled.
        beta: How much more recall counts than precision.
        threshold: Predictions above it are true; None makes the highest of a sample true.
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true, y_pred: (batch, classes); labels are 0 and 1

    Raises:
        ArgumentError: An argument is none of those known.

    Source: `keras.metrics.FBetaScore`.
    """

    direction = "up"
    true_positives: Variable
    false_positives: Variable
    false_negatives: Variable
    intermediate_weights: Variable

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        who = type(self).__name__
        if average not in _AVERAGES:
            raise ArgumentError(
                f"{who}'s average can't be {average!r}.", do=f"use one of {', '.join(map(repr, _AVERAGES))}"
            )
        if not isinstance(beta, float) or beta <= 0:
            raise ArgumentError(
                f"{who}'s beta is a float above 0, not {beta!r}.", do="write 1.0, for instance"
            )
        if threshold is not None and (not isinstance(threshold, float) or not 0 < threshold <= 1):
            raise ArgumentError(
                f"{who}'s threshold is a float above 0 and at most 1, not {threshold!r}.",
                do="write 0.5, for instance",
            )
        self.average, self.beta, self.threshold = average, beta, threshold
        self.built = False

    def build(self, y_true_shape: tuple[int, ...], y_pred_shape: tuple[int, ...]) -> None:
        """Make the variables for a number of classes.

        Raises:
            ShapeError: There are not two dimensions.
        """
        if len(y_pred_shape) != 2 or len(y_true_shape) != 2:
            raise ShapeError(
                f"{type(self).__name__} takes labels and predictions of shape (batch, classes), but was given "
                f"{y_true_shape} and {y_pred_shape}.",
                do="make class numbers one-hot, and give one answer a last axis of size 1",
            )
        shape = () if self.average == "micro" else y_pred_shape[-1:]
        for name in ("true_positives", "false_positives", "false_negatives", "intermediate_weights"):
            setattr(self, name, self.add_variable(shape, dtype=self.dtype, name=name))
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, (batch, classes).
            y_pred: Predictions of the same shape.
            sample_weight: One weight per sample.

        Raises:
            ShapeError: Labels and predictions are not both (batch, classes).
        """
        y_true, y_pred = as_array(y_true, self.dtype), as_array(y_pred, self.dtype)
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        if y_true.shape != y_pred.shape:
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' takes labels of the predictions' shape {y_pred.shape}, but was "
                f"given {y_true.shape}.",
                where=called_with(y_true, y_pred),
                do="make class numbers one-hot",
            )
        if self.threshold is None:
            is_highest = y_pred >= y_pred.max(axis=-1, keepdims=True)
            predicted = is_highest & (jnp.abs(y_pred) > 1e-9)  # a sample of zeros predicts nothing
        else:
            predicted = y_pred > self.threshold
        predicted = predicted.astype(self.dtype)
        weights = 1 if sample_weight is None else as_array(sample_weight, self.dtype).reshape(-1, 1)

        def total(values: jax.Array) -> jax.Array:
            return (values * weights).sum(axis=None if self.average == "micro" else 0)

        self.true_positives.assign_add(total(predicted * y_true))
        self.false_positives.assign_add(total(predicted * (1 - y_true)))
        self.false_negatives.assign_add(total((1 - predicted) * y_true))
        self.intermediate_weights.assign_add(total(y_true))

    def result(self) -> jax.Array:
        """The score so far, or one per class."""
        hits = self.true_positives.value
        precision = hits / (hits + self.false_positives.value + epsilon())
        recall = hits / (hits + self.false_negatives.value + epsilon())
        square = self.beta**2
        scores = (1 + square) * precision * recall / (square * precision + recall + epsilon())
        if self.average == "weighted":
            labelled = self.intermediate_weights.value
            return (scores * labelled / (labelled.sum() + epsilon())).sum()
        return scores if self.average is None else scores.mean()


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall, per class.

    Args:
        average: None for one score per class, `"micro"`, `"macro"` or `"weighted"` as in `FBetaScore`.
        threshold: Predictions above it are true; None makes the highest of a sample true.
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true, y_pred: (batch, classes); labels are 0 and 1

    Source: `keras.metrics.F1Score`.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)
