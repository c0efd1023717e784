"""Losses: numbers that training makes small."""

from collections.abc import Mapping
from typing import Any

from tally.core import registry
from tally.core.errors import ArgumentError
from tally.core.reading import Reading
from tally.core.registry import publish
from tally.losses.base import Loss, LossFunctionWrapper
from tally.losses.embedding import Circle, circle
from tally.losses.hinge import CategoricalHinge, Hinge, SquaredHinge, categorical_hinge, hinge, squared_hinge
from tally.losses.probabilistic import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from tally.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    cosine_similarity,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from tally.losses.segmentation import Dice, Tversky, dice, tversky
from tally.losses.sequence import CTC, ctc

_ALIASES = {
    "binary_crossentropy": ("bce", "BCE"),
    "kl_divergence": ("kld", "KLD"),
    "mean_absolute_error": ("mae", "MAE"),
    "mean_absolute_percentage_error": ("mape", "MAPE"),
    "mean_squared_error": ("mse", "MSE"),
    "mean_squared_logarithmic_error": ("msle", "MSLE"),
}
"""Functions -> short names they also go by."""
_FUNCTIONS = (
    *(
        binary_crossentropy,
        binary_focal_crossentropy,
        categorical_crossentropy,
        categorical_focal_crossentropy,
    ),
    *(categorical_generalized_cross_entropy, sparse_categorical_crossentropy, kl_divergence, poisson),
    *(
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_squared_error,
        mean_squared_logarithmic_error,
    ),
    *(
        cosine_similarity,
        huber,
        log_cosh,
        hinge,
        squared_hinge,
        categorical_hinge,
        dice,
        tversky,
        circle,
        ctc,
    ),
)
for _function in _FUNCTIONS:
    publish(_function, _function.__name__, *_ALIASES.get(_function.__name__, ()), family="losses")


def get(identifier: Any) -> Any:
    """A loss from a name, a config, a class, a function or a loss; None stays None.

    Args:
        identifier: For instance `"mse"`, `"MeanSquaredError"` or `{"class_name": "Huber", "config": {}}`.

    Raises:
        ArgumentError: The name is unknown, or the thing can't be called.

    Example:
        >>> tally.losses.get("mse").__name__
        'mean_squared_error'
    """
    found = registry.resolve("losses", identifier)
    if found is not None and not callable(found):
        raise ArgumentError(
            f"{identifier!r} is no loss.",
            do="pass a name such as 'mse', a Loss, or a function (y_true, y_pred)",
        )
    return found


def serialize(loss: Any) -> Any:
    """The configuration of a loss, or a function's name."""
    return registry.serialize(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """A loss from what `serialize` gave.

    Args:
        name: The configuration, or a name.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes none; `place` says where in it.
    """
    with registry.custom_object_scope(custom_objects or {}), Reading(name):
        return get(name)


__all__ = [
    "CTC",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunctionWrapper",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "circle",
    "cosine_similarity",
    "ctc",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]
