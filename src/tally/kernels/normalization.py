"""Batch normalisation with its gradient in closed form, two sums over the batch instead of autodiff's five."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from tally.kernels.linear import Arrays, LinearMap


def normalize_batch(
    x: jax.Array, gamma: jax.Array | None, beta: jax.Array | None, *, axis: int, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bring each channel to mean 0 and variance 1 over all other axes, then scale and shift it.

    Args:
        x: Any floating array.
        gamma: `(channels,)` factors, or None for 1.
        beta: `(channels,)` shifts, or None for 0.
        axis: Which axis of `x` has the channels.
        epsilon: Added to the variance.

    Returns:
        The result, and each channel's mean and variance, which are taken in two passes: the difference of the mean
        square and the squared mean would lose digits.

    Source: Ioffe and Szegedy (2015), arXiv 1502.03167.
    """
    channels = x.shape[axis]
    gamma = jnp.ones(channels, x.dtype) if gamma is None else gamma.astype(x.dtype)
    beta = jnp.zeros(channels, x.dtype) if beta is None else beta.astype(x.dtype)
    return _normalize(x, gamma, beta, axis % x.ndim, epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalize(x: jax.Array, gamma: jax.Array, beta: jax.Array, axis: int, epsilon: float) -> Arrays:
    others = tuple(i for i in range(x.ndim) if i != axis)
    mean = jnp.mean(x, others)
    variance = jnp.mean(jnp.square(x - _along(mean, axis, x)), others)
    factor = lax.rsqrt(variance + epsilon) * gamma
    y = x * _along(factor, axis, x) + _along(beta - mean * factor, axis, x)
    return y, mean, variance


@_normalize.defjvp
def _normalize_and_tangent(
    axis: int, epsilon: float, primals: Arrays, tangents: Arrays
) -> tuple[Arrays, Arrays]:
    x, gamma, beta = primals
    y, mean, variance = _normalize(x, gamma, beta, axis, epsilon)
    held = (x, gamma, mean, lax.rsqrt(variance + epsilon))
    return (y, mean, variance), _Change(axis)(held, tangents)


def _along(values: jax.Array, axis: int, x: jax.Array) -> jax.Array:
    """One value per channel, to be combined with the whole array."""
    return lax.broadcast_in_dim(values, x.shape, (axis,))


@dataclass(frozen=True)
class _Change(LinearMap):
    """How result, mean and variance change with input, gamma and beta.

    The residuals are the input, gamma, the mean, and one over the deviation.
    """

    axis: int

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        x, gamma, mean, over_deviation = residuals
        tx, tgamma, tbeta = values
        others = tuple(i for i in range(x.ndim) if i != self.axis)
        centred = x - _along(mean, self.axis, x)
        tmean, half = jnp.mean(tx, others), jnp.mean(centred * tx, others)
        a = gamma * over_deviation
        slope = tgamma * over_deviation - a * half * jnp.square(over_deviation)
        ty = _along(a, self.axis, x) * tx + centred * _along(slope, self.axis, x)
        return ty + _along(tbeta - a * tmean, self.axis, x), tmean, 2 * half

    def transposed(self) -> LinearMap:
        return _Gradient(self.axis)


@dataclass(frozen=True)
class _Gradient(LinearMap):
    """The transpose of that change: what cotangents of result, mean and variance make of input, gamma and beta."""

    axis: int

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        x, gamma, mean, over_deviation = residuals
        ct, ct_mean, ct_variance = values
        others = tuple(i for i in range(x.ndim) if i != self.axis)
        count = math.prod(x.shape[i] for i in others)
        centred = x - _along(mean, self.axis, x)
        dbeta = jnp.sum(ct, others)
        dgamma = jnp.sum(ct * centred, others) * over_deviation
        a = gamma * over_deviation
        slope = (2 * ct_variance - a * dgamma * over_deviation) / count
        shift = (ct_mean - a * dbeta) / count
        dx = (
            _along(a, self.axis, x) * ct + centred * _along(slope, self.axis, x) + _along(shift, self.axis, x)
        )
        return dx, dgamma, dbeta

    def transposed(self) -> LinearMap:
        return _Change(self.axis)
