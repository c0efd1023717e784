"""Metrics: figures collected over batches."""

from collections.abc import Mapping
from typing import Any

from tally.core import registry
from tally.core.errors import ArgumentError
from tally.core.reading import Reading
from tally.core.registry import publish
from tally.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from tally.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from tally.metrics.auc import AUC
from tally.metrics.base import Mean, MeanMetricWrapper, Metric, Sum
from tally.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from tally.metrics.fscore import F1Score, FBetaScore
from tally.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from tally.metrics.of_losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from tally.metrics.regression import (
    ConcordanceCorrelation,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
    concordance_correlation,
    pearson_correlation,
)

_ALIASES = {
    BinaryCrossentropy: ("bce", "BCE"),
    MeanSquaredError: ("mse", "MSE"),
    MeanAbsoluteError: ("mae", "MAE"),
    MeanAbsolutePercentageError: ("mape", "MAPE"),
    MeanSquaredLogarithmicError: ("msle", "MSLE"),
}
for _metric, _names in _ALIASES.items():
    publish(_metric, *_names, family="metrics")
# A family of their own: a file can name these functions, but a name such as "binary_accuracy" asks for the class.
for _function in (
    *(binary_accuracy, categorical_accuracy, sparse_categorical_accuracy, top_k_categorical_accuracy),
    *(sparse_top_k_categorical_accuracy, pearson_correlation, concordance_correlation),
):
    publish(_function, family="metric functions")


def get(identifier: Any) -> Any:
    """A metric from a name, a config, a class, a function or a metric; None stays None.

    Args:
        identifier: For instance `"mse"`, `"AUC"` or `{"class_name": "AUC", "config": {"curve": "PR"}}`.

    Raises:
        ArgumentError: The name is unknown, or the thing can't be called.

    Example:
        >>> tally.metrics.get("mse").name
        'mean_squared_error'
    """
    found = registry.resolve("metrics", identifier)
    if found is not None and not callable(found):
        raise ArgumentError(
            f"{identifier!r} is no metric.",
            do="pass a name such as 'mse', a Metric, or a function (y_true, y_pred)",
        )
    return found


def serialize(metric: Any) -> Any:
    """The configuration of a metric, or a function's name."""
    return registry.serialize(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """A metric from what `serialize` gave.

    Args:
        config: The configuration, or a name.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes none; `place` says where in it.
    """
    with registry.custom_object_scope(custom_objects or {}), Reading(config):
        return get(config)


__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "concordance_correlation",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pearson_correlation",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]
