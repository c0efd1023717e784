"""The rectifier, written so that XLA's CPU compiler doesn't compute it again wherever its result is read."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def rectify(x: jax.Array) -> jax.Array:
    """Replace what is below zero by zero; NaN stays NaN, and the gradient at zero is zero.

    Where a gradient is taken it is a choice between two arrays, not the larger of an array and a constant: XLA repeats
    an operation on one array inside everything that reads its result, such as the transposition that a convolution's
    gradient begins with, and with it all operations before, such as a normalisation. What reads two arrays it computes
    once and keeps. Without a gradient the larger of the two is what its library takes into a convolution.

    Args:
        x: Any numbers.

    Source: Nair and Hinton (2010), Rectified linear units improve restricted Boltzmann machines.
    """
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@rectify.defjvp
def _rectify_and_tangent(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    is_off = x <= 0
    return lax.select(is_off, jnp.zeros_like(x), x), lax.select(is_off, jnp.zeros_like(tangent), tangent)
