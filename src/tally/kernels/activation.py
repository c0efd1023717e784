"""The rectifier, written so that XLA's CPU compiler doesn't compute it again wherever its result is read."""

import jax
import jax.numpy as jnp
from jax import lax


def rectify(x: jax.Array) -> jax.Array:
    """Replace what is below zero by zero; NaN stays NaN, and the gradient at zero is zero.

    As a choice between two arrays rather than the larger of an array and a constant: XLA repeats an operation on one
    array inside everything that reads its result, such as the transposition that a convolution's gradient begins with,
    and with it all operations before, such as a normalisation. What reads two arrays it computes once and keeps.

    Args:
        x: Any numbers.

    Source: Nair and Hinton (2010), Rectified linear units improve restricted Boltzmann machines.
    """
    return lax.select(x <= 0, jnp.zeros_like(x), x)
