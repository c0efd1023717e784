"""Metrics between quantities that are no plain mean: root of a mean, explained variance, correlation."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon
from tally.core.errors import ArgumentError, ShapeError
from tally.core.variable import Variable, as_array
from tally.losses.base import prepare, safe_divide, spread
from tally.metrics.base import Mean, MeanMetricWrapper, Metric

_AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> jax.Array:
    """Correlation along an axis: 1 where predictions rise with the labels on a straight line."""
    standardised = []
    for x in prepare(y_true, y_pred, "pearson_correlation"):
        centred = x - x.mean(axis=axis, keepdims=True)
        standardised.append(centred / centred.std(axis=axis, keepdims=True))
    return jnp.mean(standardised[0] * standardised[1], axis=axis)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> jax.Array:
    """Concordance along an axis: 1 where predictions equal the labels."""
    y_true, y_pred = prepare(y_true, y_pred, "concordance_correlation")
    mean_true, mean_pred = (x.mean(axis=axis, keepdims=True) for x in (y_true, y_pred))
    covariance = jnp.mean((y_true - mean_true) * (y_pred - mean_pred), axis=axis)
    spread_of_means = jnp.square(mean_true - mean_pred).sum(axis=axis)
    return 2 * covariance / (y_true.var(axis=axis) + y_pred.var(axis=axis) + spread_of_means + epsilon())


class PearsonCorrelation(MeanMetricWrapper):
    """Mean correlation of labels and predictions.

    Args:
        name, dtype: As `Metric` takes them.
        axis: The axis that is correlated along.

    Source: `keras.metrics.PearsonCorrelation`.
    """

    direction = "up"

    def __init__(self, name: str = "pearson_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(MeanMetricWrapper):
    """Mean concordance of labels and predictions: correlation that also asks for equal mean and scale.

    Args:
        name, dtype: As `Metric` takes them.
        axis: The axis that is correlated along.

    Source: Lin, A Concordance Correlation Coefficient, 1989; `keras.metrics.ConcordanceCorrelation`.
    """

    direction = "up"

    def __init__(self, name: str = "concordance_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(concordance_correlation, name, dtype, axis=axis)


class RootMeanSquaredError(Mean):
    """Root of the mean squared difference of labels and predictions.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.RootMeanSquaredError`.
    """

    direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels.
            y_pred: Predictions of the same shape.
            sample_weight: One weight per sample, or per value.
        """
        y_true, y_pred = prepare(y_true, as_array(y_pred, self.dtype), "root_mean_squared_error")
        super().update_state(jnp.square(y_true - y_pred), sample_weight)

    def result(self) -> jax.Array:
        """The root so far."""
        return jnp.sqrt(super().result())


class R2Score(Metric):
    """Coefficient of determination: the share of the labels' variance that predictions explain.

    Args:
        class_aggregation: How outputs become one number: `"uniform_average"`, `"variance_weighted_average"`, or None
            for one number per output.
        num_regressors: Number of independent variables, for the adjusted score; 0 for the plain one. Where there are
            not more samples than regressors the score stays the plain one.
        name, dtype: As `Metric` takes them.
    Shapes:
        y_true, y_pred: (batch, outputs)

    Raises:
        ArgumentError: An argument is none of those known.

    Source: `keras.metrics.R2Score`.
    """

    direction = "up"
    squared_sum: Variable
    sum: Variable
    residual: Variable
    count: Variable

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        if class_aggregation not in _AGGREGATIONS:
            raise ArgumentError(
                f"R2Score's class_aggregation can't be {class_aggregation!r}.",
                do=f"use one of {', '.join(map(repr, _AGGREGATIONS))}",
            )
        if num_regressors < 0:
            raise ArgumentError(f"R2Score's num_regressors can't be negative, as {num_regressors} is.")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable(name="num_samples")
        self.built = False

    def build(self, y_true_shape: tuple[int, ...], y_pred_shape: tuple[int, ...]) -> None:
        """Make the variables for a number of outputs.

        Raises:
            ShapeError: There are not two dimensions.
        """
        if len(y_true_shape) != 2 or len(y_pred_shape) != 2:
            raise ShapeError(
                f"R2Score takes labels and predictions of shape (batch, outputs), but was given {y_true_shape} and "
                f"{y_pred_shape}.",
                do="flatten all but the batch axis",
            )
        for name in ("squared_sum", "sum", "residual", "count"):
            setattr(self, name, self.add_variable(y_pred_shape[-1:], name=name))
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, (batch, outputs).
            y_pred: Predictions of the same shape.
            sample_weight: One weight per sample, or per value.
        """
        y_true, y_pred = prepare(y_true, as_array(y_pred, self.dtype), "r2_score")
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        weights = as_array(1 if sample_weight is None else sample_weight, self.dtype)
        weights = jnp.broadcast_to(spread(weights, y_true.shape), y_true.shape)
        weighted = weights * y_true
        self.sum.assign_add(weighted.sum(axis=0))
        self.squared_sum.assign_add((weighted * y_true).sum(axis=0))
        self.residual.assign_add((weights * jnp.square(y_true - y_pred)).sum(axis=0))
        self.count.assign_add(weights.sum(axis=0))
        self.num_samples.assign_add(y_true.size)

    def result(self) -> jax.Array:
        """The score so far."""
        total = self.squared_sum.value - jnp.square(self.sum.value) / self.count.value
        scores = 1 - self.residual.value / total
        scores = jnp.where(jnp.isinf(scores), 0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (total * scores).sum() / total.sum()
        if not self.num_regressors:
            return scores
        freedom = self.num_samples.value - self.num_regressors - 1
        adjusted = 1 - safe_divide((1 - scores) * (self.num_samples.value - 1), freedom)
        return jnp.where(freedom > 0, adjusted, scores)
