"""Metrics that count true and false positives and negatives at thresholds."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.errors import ArgumentError, ShapeError
from tally.core.variable import Variable, as_array
from tally.losses.base import align, called_with, safe_divide, spread
from tally.metrics.base import Metric

OUTCOMES = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_RATES = {
    "precision": ("true_positives", "false_positives"),
    "recall": ("true_positives", "false_negatives"),
    "sensitivity": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "fallout": ("false_positives", "true_negatives"),
}
"""Rate -> what is counted, and what it is counted against."""
_NOTHING = -1e10
"""Below every prediction: with `top_k` and no threshold each of the `k` counts as positive."""


def count_outcomes(
    y_true: jax.Array, y_pred: jax.Array, weights: jax.Array, thresholds: Sequence[float]
) -> dict[str, jax.Array]:
    """Weight of each outcome at each threshold; a prediction is positive where it lies above.

    Predictions are sorted into the gaps between thresholds once, and running sums over the gaps give every threshold's
    counts: the work is that of the predictions plus that of the thresholds, not their product.

    Args:
        y_true: Labels, (samples, labels); anything but 0 is true.
        y_pred: Predictions, (samples, labels).
        weights: (samples, labels)
        thresholds: In any order.

    Returns:
        Name of the outcome -> (thresholds, labels).
    """
    order = np.argsort(thresholds)
    place = np.argsort(order)
    gap = jnp.searchsorted(jnp.asarray(np.asarray(thresholds)[order], y_pred.dtype), y_pred)
    labels = jnp.broadcast_to(jnp.arange(y_pred.shape[1]), y_pred.shape)

    def at_thresholds(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        by_gap = jnp.zeros((len(order) + 1, y_pred.shape[1]), weights.dtype).at[gap, labels].add(weights)
        above = jnp.cumsum(by_gap[::-1], axis=0)[::-1][1:]
        below = jnp.cumsum(by_gap, axis=0)[:-1]
        return above[place], below[place]

    is_true = y_true != 0
    true_positives, false_negatives = at_thresholds(jnp.where(is_true, weights, 0))
    false_positives, true_negatives = at_thresholds(jnp.where(is_true, 0, weights))
    return dict(
        zip(OUTCOMES, (true_positives, false_positives, true_negatives, false_negatives), strict=True)
    )


class _Outcomes(Metric):
    """Counts outcomes at thresholds; a subclass says which it keeps and what it makes of them."""

    kept: ClassVar[tuple[str, ...]] = OUTCOMES
    top_k: int | None = None
    class_id: int | None = None
    thresholds: list[float]
    true_positives: Variable
    false_positives: Variable
    true_negatives: Variable
    false_negatives: Variable

    def add_counters(self, *labels: int) -> None:
        """Make one variable per kept outcome, with one number per threshold (and per label)."""
        for outcome in self.kept:
            setattr(self, outcome, self.add_variable((len(self.thresholds), *labels), name=outcome))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, 0 and 1.
            y_pred: Predictions of the same shape, usually from 0 to 1.
            sample_weight: One weight per sample, or per prediction.

        Raises:
            ShapeError: Labels and predictions differ in shape.
        """
        dtype = getattr(self, self.kept[0]).dtype
        y_true, y_pred = align(as_array(y_true, dtype), as_array(y_pred, dtype))
        if y_true.shape != y_pred.shape:
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' takes labels of the predictions' shape {y_pred.shape}, but was "
                f"given labels of shape {y_true.shape}.",
                where=called_with(y_true, y_pred),
                do="give one label of 0 or 1 for each prediction; make class numbers one-hot",
            )
        weights = as_array(1 if sample_weight is None else sample_weight, dtype)
        weights = jnp.broadcast_to(spread(weights, y_pred.shape), y_pred.shape) * self.label_factors()
        if self.top_k is not None:
            chosen = jax.nn.one_hot(jax.lax.top_k(y_pred, self.top_k)[1], y_pred.shape[-1], dtype=bool).any(
                axis=-2
            )
            y_pred = jnp.where(chosen, y_pred, _NOTHING)
        if self.class_id is not None:
            y_true, y_pred, weights = (self._column(x) for x in (y_true, y_pred, weights))
        columns = getattr(self, self.kept[0]).shape[1:] or (1,)
        counts = count_outcomes(
            *(x.reshape(-1, *columns) for x in (y_true, y_pred, weights)), thresholds=self.thresholds
        )
        for outcome in self.kept:
            variable: Variable = getattr(self, outcome)
            variable.assign_add(counts[outcome].reshape(variable.shape))

    def label_factors(self) -> Any:
        """Weights of the labels, beside those of the samples."""
        return 1

    def _column(self, x: jax.Array) -> jax.Array:
        if x.ndim < 2:
            raise ShapeError(
                f"{type(self).__name__} '{self.name}' looks at class {self.class_id}, but was given predictions of "
                f"shape {x.shape}, without an axis of classes.",
                do="give predictions of shape (batch, classes), or leave class_id out",
            )
        return x[..., self.class_id]

    def rate(self, name: str) -> jax.Array:
        """One of precision, recall, sensitivity, specificity and fallout, at each threshold."""
        counted, against = (getattr(self, outcome).value for outcome in _RATES[name])
        return safe_divide(counted, counted + against)


def _listed(thresholds: float | Sequence[float] | None, default: float) -> list[float]:
    """Thresholds as a list.

    Raises:
        ArgumentError: One is not between 0 and 1.
    """
    if thresholds is None:
        return [default]
    given = thresholds if isinstance(thresholds, (Sequence, np.ndarray)) else [thresholds]
    wrong = [threshold for threshold in given if threshold is None or not 0 <= threshold <= 1]
    if wrong:
        raise ArgumentError(
            f"Thresholds lie between 0 and 1, but {wrong} was given.",
            do="apply a sigmoid to logits and compare with that",
        )
    return [float(threshold) for threshold in given]


class _Count(_Outcomes):
    """The weight of one outcome; a subclass says of which."""

    def __init__(
        self, thresholds: float | Sequence[float] | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(dtype, name)
        self.thresholds = _listed(thresholds, 0.5)
        self.add_counters()

    def result(self) -> jax.Array:
        """The weight so far: a number, or one per threshold where several were given."""
        counted = getattr(self, self.kept[0]).value
        return counted[0] if len(self.thresholds) == 1 else counted


class TruePositives(_Count):
    """The weight of samples labelled true and predicted true.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.TruePositives`.
    """

    kept = ("true_positives",)


class TrueNegatives(_Count):
    """The weight of samples labelled false and predicted false.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.TrueNegatives`.
    """

    kept = ("true_negatives",)


class FalsePositives(_Count):
    """The weight of samples labelled false and predicted true.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.FalsePositives`.
    """

    kept = ("false_positives",)


class FalseNegatives(_Count):
    """The weight of samples labelled true and predicted false.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.FalseNegatives`.
    """

    kept = ("false_negatives",)


class _Rate(_Outcomes):
    """A rate at given thresholds; a subclass says which."""

    direction = "up"
    shown: ClassVar[str]

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        self.top_k, self.class_id = top_k, class_id
        self.thresholds = _listed(thresholds, 0.5 if top_k is None else _NOTHING)
        self.add_counters()

    def result(self) -> jax.Array:
        """The rate so far: a number, or one per threshold where several were given."""
        rate = self.rate(self.shown)
        return rate[0] if len(self.thresholds) == 1 else rate


class Precision(_Rate):
    """Share of what is predicted true that is true.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        top_k: Count the `k` highest predictions of a sample as true (those above the threshold, where one is given).
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Example:
        >>> float(tally.metrics.Precision()(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.1])))
        0.5

    Source: `keras.metrics.Precision`.
    """

    kept = ("true_positives", "false_positives")
    shown = "precision"


class Recall(_Rate):
    """Share of what is true that is predicted true.

    Args:
        thresholds: Predictions above it count as true; 0.5 by default. Several give several results.
        top_k: Count the `k` highest predictions of a sample as true (those above the threshold, where one is given).
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.Recall`.
    """

    kept = ("true_positives", "false_negatives")
    shown = "recall"


class _BestRate(_Outcomes):
    """The best of one rate over the thresholds at which another is at least a value; a subclass says which."""

    direction = "up"
    best: ClassVar[str]
    held: ClassVar[str]

    def __init__(
        self, value: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any
    ) -> None:
        super().__init__(dtype, name)
        if not 0 <= value <= 1:
            raise ArgumentError(
                f"{type(self).__name__}'s {self.held} lies between 0 and 1, and {value} does not."
            )
        if num_thresholds < 1:
            raise ArgumentError(
                f"{type(self).__name__} needs at least 1 threshold, but num_thresholds is {num_thresholds}."
            )
        self.value, self.num_thresholds, self.class_id = value, num_thresholds, class_id
        setattr(self, self.held, value)
        self.thresholds = np.linspace(0, 1, num_thresholds).tolist() if num_thresholds > 1 else [0.5]
        self.add_counters()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, 0 and 1.
            y_pred: Predictions of the same shape, from 0 to 1; others count as 0 or 1.
            sample_weight: One weight per sample, or per prediction.
        """
        super().update_state(y_true, jnp.clip(as_array(y_pred), 0, 1), sample_weight)

    def result(self) -> jax.Array:
        """The best rate so far, 0 where no threshold will do."""
        return jnp.max(jnp.where(self.rate(self.held) >= self.value, self.rate(self.best), 0))


class SensitivityAtSpecificity(_BestRate):
    """The best sensitivity at which the specificity is at least a value.

    Args:
        specificity: That value, from 0 to 1.
        num_thresholds: How many thresholds from 0 to 1 are tried.
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Raises:
        ArgumentError: The value is not between 0 and 1.

    Source: `keras.metrics.SensitivityAtSpecificity`.
    """

    best, held = "sensitivity", "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_BestRate):
    """The best specificity at which the sensitivity is at least a value.

    Args:
        sensitivity: That value, from 0 to 1.
        num_thresholds: How many thresholds from 0 to 1 are tried.
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Raises:
        ArgumentError: The value is not between 0 and 1.

    Source: `keras.metrics.SpecificityAtSensitivity`.
    """

    best, held = "specificity", "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_BestRate):
    """The best precision at which the recall is at least a value.

    Args:
        recall: That value, from 0 to 1.
        num_thresholds: How many thresholds from 0 to 1 are tried.
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Raises:
        ArgumentError: The value is not between 0 and 1.

    Source: `keras.metrics.PrecisionAtRecall`.
    """

    best, held = "precision", "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_BestRate):
    """The best recall at which the precision is at least a value.

    Args:
        precision: That value, from 0 to 1.
        num_thresholds: How many thresholds from 0 to 1 are tried.
        class_id: Look at this class only; of all by default.
        name, dtype: As `Metric` takes them.

    Raises:
        ArgumentError: The value is not between 0 and 1.

    Source: `keras.metrics.RecallAtPrecision`.
    """

    best, held = "recall", "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)
