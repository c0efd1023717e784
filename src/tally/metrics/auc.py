"""The area under a curve that is drawn by moving a threshold."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.dtype import epsilon
from tally.core.errors import ArgumentError, ShapeError, nearest
from tally.core.variable import as_array
from tally.losses.base import safe_divide
from tally.metrics.confusion import _Outcomes

_HEIGHTS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "interpolation": lambda left, right: (left + right) / 2,
    "majoring": jnp.maximum,
    "minoring": jnp.minimum,
}
"""Summation method -> the height of the strip between two points."""
_CURVES = ("ROC", "PR", "PRGAIN")


class AUC(_Outcomes):
    """The area under the curve of two rates, over all thresholds.

    Args:
        num_thresholds: How many thresholds from 0 to 1 draw the curve; more come closer to the true area.
        curve: `"ROC"` (true against false positive rate), `"PR"` (precision against recall) or `"PRGAIN"` (their gains
            over always saying true).
        summation_method: The height of a strip between two points: `"interpolation"`, `"majoring"` or `"minoring"`.
        name, dtype: As `Metric` takes them.
        thresholds: Thresholds between 0 and 1 instead of evenly spaced ones.
        multi_label: Whether each column has an area of its own, and the result is their mean.
        num_labels: Number of columns, where `multi_label`; otherwise found at the first update.
        label_weights: One weight per column: of its area where `multi_label`, of its predictions otherwise.
        from_logits: Whether predictions are logits; probabilities otherwise.
    Shapes:
        y_true, y_pred: (batch, ...); (batch, labels) where `multi_label`

    Raises:
        ArgumentError: An argument is none of those known.

    Example:
        >>> auc = tally.metrics.AUC()
        >>> auc.update_state(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]))
        >>> round(float(auc.result()), 3)
        0.75

    Source: Davis & Goadrich, The Relationship Between Precision-Recall and ROC Curves, 2006; Flach & Kull,
    Precision-Recall-Gain Curves, 2015; `keras.metrics.AUC`.
    """

    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(dtype, name)
        self.curve = _one_of("curve", str(curve).upper(), _CURVES)
        self.summation_method = _one_of("summation_method", str(summation_method).lower(), tuple(_HEIGHTS))
        if thresholds is None and num_thresholds < 2:
            raise ArgumentError(f"AUC needs at least 2 thresholds, but num_thresholds is {num_thresholds}.")
        if num_labels and not multi_label:
            raise ArgumentError("AUC takes num_labels only together with multi_label=True.")
        inner = np.linspace(0, 1, num_thresholds)[1:-1].tolist() if thresholds is None else sorted(thresholds)
        # Beyond 0 and 1, so that the curve begins with everything predicted true and ends with nothing.
        self.thresholds = [-epsilon(), *inner, 1 + epsilon()]
        self.num_thresholds = len(self.thresholds)
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else as_array(label_weights, self.dtype)
        self.built = False
        if num_labels or not multi_label:
            self.build((), (None, num_labels))

    def build(self, y_true_shape: Sequence[Any], y_pred_shape: Sequence[Any]) -> None:
        """Make the variables for a number of labels.

        Raises:
            ShapeError: There are several labels, and not two dimensions.
        """
        if self.multi_label and len(y_pred_shape) != 2:
            raise ShapeError(
                f"AUC '{self.name}' with multi_label takes predictions of shape (batch, labels), but was given "
                f"{tuple(y_pred_shape)}.",
                do="flatten all but the batch axis, or leave multi_label out",
            )
        self.add_counters(*y_pred_shape[1:] if self.multi_label else ())
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels, 0 and 1.
            y_pred: Predictions of the same shape, from 0 to 1 (others count as 0 or 1), or logits.
            sample_weight: One weight per sample, or per prediction.
        """
        y_pred = as_array(y_pred, self.dtype)
        if not self.built:
            self.build(np.shape(y_true), y_pred.shape)
        y_pred = jax.nn.sigmoid(y_pred) if self.from_logits else jnp.clip(y_pred, 0, 1)
        super().update_state(y_true, y_pred, sample_weight)

    def label_factors(self) -> Any:
        """Weights of the columns, unless each has an area of its own."""
        return 1 if self.multi_label or self.label_weights is None else self.label_weights

    def result(self) -> jax.Array:
        """The area so far."""
        interpolates = self.summation_method == "interpolation"
        strips = self._interpolated_pr() if self.curve == "PR" and interpolates else self._strips()
        areas = strips.sum(axis=0)
        if not self.multi_label or self.label_weights is None:
            return areas.mean()
        return safe_divide((areas * self.label_weights).sum(), self.label_weights.sum())

    def _strips(self) -> jax.Array:
        x, y = self._points()
        return (x[:-1] - x[1:]) * _HEIGHTS[self.summation_method](y[:-1], y[1:])

    def _points(self) -> tuple[jax.Array, jax.Array]:
        """The curve, from the threshold below all predictions to the one above."""
        if self.curve == "ROC":
            return self.rate("fallout"), self.rate("recall")
        if self.curve == "PR":
            return self.rate("recall"), self.rate("precision")
        hits, missed, added = (
            getattr(self, outcome).value
            for outcome in ("true_positives", "false_negatives", "false_positives")
        )
        odds = safe_divide(hits + missed, added + self.true_negatives.value)
        recall_gain = jnp.where(hits == 0, 0, 1 - odds * safe_divide(missed, hits))
        precision_gain = jnp.where(hits == 0, 1, 1 - odds * safe_divide(added, hits))
        return jnp.maximum(recall_gain, 0), precision_gain

    def _interpolated_pr(self) -> jax.Array:
        """Strips under the PR curve where true positives, not precision, lie on straight lines between the points."""
        hits = self.true_positives.value
        positives = hits + self.false_positives.value
        gained = hits[:-1] - hits[1:]
        slope = safe_divide(gained, jnp.maximum(positives[:-1] - positives[1:], 0))
        intercept = hits[1:] - slope * positives[1:]
        both = (positives[:-1] > 0) & (positives[1:] > 0)
        ratio = jnp.where(both, safe_divide(positives[:-1], positives[1:]), 1)
        labelled = hits[1:] + self.false_negatives.value[1:]
        return safe_divide(slope * (gained + intercept * jnp.log(ratio)), labelled)


def _one_of(what: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ArgumentError(
            f"AUC has no {what} '{value}'.{nearest(value, tuple(known))}", do=f"use one of {', '.join(known)}"
        )
    return value
