"""Means of losses: what a loss is on average over an epoch, without weights of the training."""

from typing import Any

import jax

from tally import losses
from tally.metrics.base import MeanMetricWrapper, _Optionless


def _cosine(y_true: Any, y_pred: Any, axis: int = -1) -> jax.Array:
    return -losses.cosine_similarity(y_true, y_pred, axis)


class MeanSquaredError(_Optionless):
    """Mean squared difference of labels and predictions.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.MeanSquaredError`.
    """

    function = staticmethod(losses.mean_squared_error)


class MeanAbsoluteError(_Optionless):
    """Mean absolute difference of labels and predictions.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.MeanAbsoluteError`.
    """

    function = staticmethod(losses.mean_absolute_error)


class MeanAbsolutePercentageError(_Optionless):
    """Mean absolute difference in percent of the label.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.MeanAbsolutePercentageError`.
    """

    function = staticmethod(losses.mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(_Optionless):
    """Mean squared difference of `log(1 + x)`.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.MeanSquaredLogarithmicError`.
    """

    function = staticmethod(losses.mean_squared_logarithmic_error)


class LogCoshError(MeanMetricWrapper):
    """Mean logarithm of the hyperbolic cosine of the differences.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.LogCoshError`.
    """

    def __init__(self, name: str = "logcosh", dtype: Any = None) -> None:
        super().__init__(losses.log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """Mean cosine of the angle between labels and predictions; here 1 is alike, unlike the loss of this name.

    Args:
        name, dtype: As `Metric` takes them.
        axis: The axis along which values are one vector.

    Source: `keras.metrics.CosineSimilarity`.
    """

    direction = "up"

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(_cosine, name, dtype, axis=axis)


class KLDivergence(_Optionless):
    """Mean Kullback-Leibler divergence from the labels' distribution to the predicted one.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.KLDivergence`.
    """

    function = staticmethod(losses.kl_divergence)


class Poisson(_Optionless):
    """Mean Poisson loss.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.Poisson`.
    """

    function = staticmethod(losses.poisson)


class Hinge(_Optionless):
    """Mean hinge loss; labels are -1 and 1, or 0 and 1.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.Hinge`.
    """

    function = staticmethod(losses.hinge)


class SquaredHinge(_Optionless):
    """Mean squared hinge loss; labels are -1 and 1, or 0 and 1.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.SquaredHinge`.
    """

    function = staticmethod(losses.squared_hinge)


class CategoricalHinge(_Optionless):
    """Mean categorical hinge loss; labels are one-hot.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.CategoricalHinge`.
    """

    function = staticmethod(losses.categorical_hinge)


class BinaryCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of independent yes-or-no answers.

    Args:
        name, dtype: As `Metric` takes them.
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: How far labels are drawn to 0.5, from 0 to 1.

    Source: `keras.metrics.BinaryCrossentropy`.
    """

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **options)


class CategoricalCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of one answer out of several, labels one-hot.

    Args:
        name, dtype: As `Metric` takes them.
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: Share of each label that is spread over all classes, from 0 to 1.
        axis: The axis of the classes.

    Source: `keras.metrics.CategoricalCrossentropy`.
    """

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **options)


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of one answer out of several, labels class numbers.

    Args:
        name, dtype: As `Metric` takes them.
        from_logits: Whether predictions are logits; probabilities otherwise.
        ignore_class: A class number whose positions don't count. (Keras 3.15 counts them as a loss of 0 unless sample
            weights are given.)
        axis: The axis of the classes.

    Source: `keras.metrics.SparseCategoricalCrossentropy`.
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **options)
