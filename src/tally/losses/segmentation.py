"""Losses that compare regions by their overlap."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon
from tally.losses.base import LossFunctionWrapper, prepare

Axes = int | Sequence[int] | None


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Axes = None) -> jax.Array:
    """1 minus the overlap in parts of the overlap, `alpha` times what was missed and `beta` times what was added."""
    y_true, y_pred = prepare(y_true, y_pred, "tversky")
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    overlap = jnp.sum(y_true * y_pred, axis=axes)
    missed = jnp.sum(y_true * (1 - y_pred), axis=axes)
    added = jnp.sum((1 - y_true) * y_pred, axis=axes)
    return 1 - overlap / (overlap + alpha * missed + beta * added + epsilon())


def dice(y_true: Any, y_pred: Any, axis: Axes = None) -> jax.Array:
    """1 minus twice the overlap in parts of both regions together."""
    y_true, y_pred = prepare(y_true, y_pred, "dice")
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    both = y_true.sum(axis=axes) + y_pred.sum(axis=axes)
    return 1 - 2 * jnp.sum(y_true * y_pred, axis=axes) / (both + epsilon())


class Dice(LossFunctionWrapper):
    """1 minus the Dice coefficient of labelled and predicted region.

    Args:
        axis: Axes that are summed over; None sums over everything, the batch included.
        reduction, name, dtype: As `Loss` takes them.

    Source: Milletari et al., V-Net, 2016; `keras.losses.Dice`.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: Axes = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """1 minus the Tversky index, which weighs what was missed and what was added differently.

    Args:
        alpha: Weight of what was labelled and not predicted.
        beta: Weight of what was predicted and not labelled.
        axis: Axes that are summed over; None sums over everything, the batch included.
        reduction, name, dtype: As `Loss` takes them.

    Source: Salehi et al., Tversky loss function for image segmentation, 2017; `keras.losses.Tversky`.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: Axes = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
