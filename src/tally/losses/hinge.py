"""Losses that ask for a margin between right and wrong, as support vector machines do."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.losses.base import _Optionless, mean_of, prepare


def hinge(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of what `y_true * y_pred` lacks of 1; labels are -1 and 1, or 0 and 1."""
    return mean_of(_shortfall(y_true, y_pred, "hinge"))


def squared_hinge(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of the square of what `y_true * y_pred` lacks of 1."""
    return mean_of(jnp.square(_shortfall(y_true, y_pred, "squared_hinge")))


def _shortfall(y_true: Any, y_pred: Any, who: str) -> jax.Array:
    y_true, y_pred = prepare(y_true, y_pred, who)
    is_binary = jnp.all((y_true == 0) | (y_true == 1))
    return jnp.maximum(1 - jnp.where(is_binary, 2 * y_true - 1, y_true) * y_pred, 0)


def categorical_hinge(y_true: Any, y_pred: Any) -> jax.Array:
    """What the right class's score lacks of the best wrong one's plus 1; labels are one-hot."""
    y_true, y_pred = prepare(y_true, y_pred, "categorical_hinge")
    right = (y_true * y_pred).sum(axis=-1)
    wrong = ((1 - y_true) * y_pred).max(axis=-1)
    return jnp.maximum(wrong - right + 1, 0)


class Hinge(_Optionless):
    """What the product of label and prediction lacks of 1.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch, ..., outputs), -1 and 1; labels that are all 0 or 1 are read as -1 and 1.
        y_pred: The same shape, scores around 0.

    Source: `keras.losses.Hinge`.
    """

    function = staticmethod(hinge)


class SquaredHinge(_Optionless):
    """The square of what the product of label and prediction lacks of 1.

    Args:
        reduction, name, dtype: As `Loss` takes them.

    Source: `keras.losses.SquaredHinge`.
    """

    function = staticmethod(squared_hinge)


class CategoricalHinge(_Optionless):
    """What the right class's score lacks of the best wrong one's plus 1.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch, ..., classes), one-hot
        y_pred: (batch, ..., classes), scores

    Source: `keras.losses.CategoricalHinge`.
    """

    function = staticmethod(categorical_hinge)
