"""Losses between quantities: squared, absolute and relative differences, and angles."""

from typing import Any

import jax
import jax.numpy as jnp

from tally import ops
from tally.core.dtype import epsilon
from tally.losses.base import LossFunctionWrapper, _Optionless, mean_of, prepare


def mean_squared_error(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean of the squared differences over the last axis."""
    y_true, y_pred = prepare(y_true, y_pred, "mean_squared_error")
    return mean_of(jnp.square(y_true - y_pred))


def mean_absolute_error(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean of the absolute differences over the last axis."""
    y_true, y_pred = prepare(y_true, y_pred, "mean_absolute_error")
    return mean_of(jnp.abs(y_true - y_pred))


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of the absolute differences in percent of the label."""
    y_true, y_pred = prepare(y_true, y_pred, "mean_absolute_percentage_error")
    return 100 * mean_of(jnp.abs((y_true - y_pred) / jnp.maximum(jnp.abs(y_true), epsilon())))


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of the squared differences of `log(1 + x)`; negative values count as 0."""
    y_true, y_pred = prepare(y_true, y_pred, "mean_squared_logarithmic_error")
    logarithms = (jnp.log(jnp.maximum(x, epsilon()) + 1) for x in (y_true, y_pred))
    return mean_of(jnp.square(jnp.subtract(*logarithms)))


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> jax.Array:
    """Mean over the last axis of half the square of small differences, and a straight line beyond `delta`."""
    y_true, y_pred = prepare(y_true, y_pred, "huber")
    difference = jnp.abs(y_true - y_pred)
    near = jnp.minimum(difference, delta)
    return mean_of(near * (difference - near / 2))


def log_cosh(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of the logarithm of the hyperbolic cosine of the differences."""
    y_true, y_pred = prepare(y_true, y_pred, "log_cosh")
    difference = y_pred - y_true
    return mean_of(jnp.logaddexp(difference, -difference) - jnp.log(2).astype(difference.dtype))


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> jax.Array:
    """Minus the cosine of the angle: -1 in one direction, 0 at a right angle, 1 in opposite directions."""
    y_true, y_pred = (ops.normalize(x, axis) for x in prepare(y_true, y_pred, "cosine_similarity"))
    return -jnp.sum(y_true * y_pred, axis=axis)


class MeanSquaredError(_Optionless):
    """Mean squared difference of labels and predictions.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., features)

    Example:
        >>> float(tally.losses.MeanSquaredError()(np.zeros((2, 2)), np.array([[1.0, 1.0], [2.0, 2.0]])))
        2.5

    Source: `keras.losses.MeanSquaredError`.
    """

    function = staticmethod(mean_squared_error)


class MeanAbsoluteError(_Optionless):
    """Mean absolute difference of labels and predictions.

    Args:
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.MeanAbsoluteError`.
    """

    function = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(_Optionless):
    """Mean absolute difference in percent of the label.

    Args:
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.MeanAbsolutePercentageError`.
    """

    function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(_Optionless):
    """Mean squared difference of `log(1 + x)`: for quantities over many orders of magnitude.

    Args:
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.MeanSquaredLogarithmicError`.
    """

    function = staticmethod(mean_squared_logarithmic_error)


class LogCosh(_Optionless):
    """Logarithm of the hyperbolic cosine: nearly a square near 0, nearly a straight line far off.

    Args:
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.LogCosh`.
    """

    function = staticmethod(log_cosh)


class Huber(LossFunctionWrapper):
    """Half the square of small differences, a straight line beyond `delta`: outliers pull less.

    Args:
        delta: The difference at which the square turns into a line.
        reduction, name, dtype: As `Loss` takes them.

    Source: Huber, Robust Estimation of a Location Parameter, 1964; `keras.losses.Huber`.
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(huber, reduction, name, dtype, delta=delta)


class CosineSimilarity(LossFunctionWrapper):
    """Minus the cosine of the angle between labels and predictions.

    Args:
        axis: The axis along which values are one vector.
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.CosineSimilarity`.
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)
