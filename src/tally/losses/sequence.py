"""Losses between sequences of different lengths."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.errors import ShapeError
from tally.core.variable import as_array
from tally.losses.base import _Optionless, called_with


def ctc(y_true: Any, y_pred: Any) -> jax.Array:
    """Connectionist temporal classification: minus the logarithm of the probability of all alignments.

    Args:
        y_true: Class numbers from 1, filled up with 0 behind, (batch, length of the labels).
        y_pred: Logits; class 0 is the blank, (batch, length, classes).

    Returns:
        (batch,)

    Raises:
        ShapeError: Labels have not two or predictions not three dimensions.
    """
    import optax  # here, because importing it takes longer than all losses do

    labels, logits = as_array(y_true, "int32"), as_array(y_pred)
    if (labels.ndim, logits.ndim) != (2, 3):
        raise ShapeError(
            f"ctc takes labels of shape (batch, length) and logits of shape (batch, length, classes), but was given "
            f"{labels.shape} and {logits.shape}.",
            where=called_with(labels, logits),
            do="give one row of class numbers per sample, filled up with 0, and logits for each time step",
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    lengths = (labels != 0).sum(axis=1, keepdims=True)
    is_filling = jnp.arange(labels.shape[1]) >= lengths
    return optax.ctc_loss(logits, jnp.zeros(logits.shape[:2]), labels, is_filling.astype(logits.dtype))


class CTC(_Optionless):
    """Connectionist temporal classification: labels for a sequence without saying which step is which.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch, length of the labels), class numbers from 1, filled up with 0
        y_pred: (batch, length, classes), logits; class 0 is the blank

    Source: Graves et al., Connectionist Temporal Classification, 2006; `keras.losses.CTC`; `optax.ctc_loss`.
    """

    takes_class_numbers = True
    function = staticmethod(ctc)
