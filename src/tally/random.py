"""Random arrays; `seed` is an integer (equal each time), a `SeedGenerator` (its next) or None (new ones)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import is_floating, standardize_dtype
from tally.core.errors import ArgumentError, ShapeError
from tally.core.random import SeedGenerator, draw_key
from tally.core.symbol import op
from tally.core.variable import as_array

Seed = int | SeedGenerator | jax.Array | None


def normal(
    shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Seed = None
) -> jax.Array:
    """Draw from a normal distribution.

    Args:
        shape: Sizes of the result.
        mean: Centre of the distribution.
        stddev: Its standard deviation.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.
    """
    return jax.random.normal(draw_key(seed), tuple(shape), standardize_dtype(dtype)) * stddev + mean


def truncated_normal(
    shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Seed = None
) -> jax.Array:
    """Draw from a normal distribution that is cut off two `stddev` away from the mean.

    Args:
        shape: Sizes of the result.
        mean: Centre of the distribution.
        stddev: Its standard deviation before it is cut off.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.
    """
    drawn = jax.random.truncated_normal(draw_key(seed), -2.0, 2.0, tuple(shape), standardize_dtype(dtype))
    return drawn * stddev + mean


def uniform(
    shape: Sequence[int], minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Seed = None
) -> jax.Array:
    """Draw numbers between two bounds with equal chance.

    Args:
        shape: Sizes of the result.
        minval: Smallest value.
        maxval: Upper bound, itself never drawn.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.

    Raises:
        ArgumentError: The dtype isn't a floating one.
    """
    dtype = standardize_dtype(dtype)
    if not is_floating(dtype):
        raise ArgumentError(f"uniform draws floating numbers, not {dtype}.", do="use randint")
    return jax.random.uniform(draw_key(seed), tuple(shape), dtype, minval, maxval)


def randint(
    shape: Sequence[int], minval: Any, maxval: Any, dtype: Any = "int32", seed: Seed = None
) -> jax.Array:
    """Draw whole numbers between two bounds with equal chance.

    Args:
        shape: Sizes of the result.
        minval: Smallest value.
        maxval: Upper bound, itself never drawn.
        dtype: Integer dtype of the result.
        seed: Integer, `SeedGenerator` or None.

    Raises:
        ArgumentError: The dtype isn't an integer one.
    """
    dtype = standardize_dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ArgumentError(f"randint draws whole numbers, not {dtype}.", do="use uniform")
    return jax.random.randint(draw_key(seed), tuple(shape), minval, maxval, dtype)


def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Seed = None) -> jax.Array:
    """Draw from a gamma distribution of scale 1.

    Args:
        shape: Sizes of the result.
        alpha: Shape parameter; a number or an array that broadcasts.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.
    """
    dtype = standardize_dtype(dtype)
    return jax.random.gamma(draw_key(seed), as_array(alpha, dtype), tuple(shape), dtype)


def beta(shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Seed = None) -> jax.Array:
    """Draw from a beta distribution.

    Args:
        shape: Sizes of the result.
        alpha: First shape parameter; a number or an array that broadcasts.
        beta: Second shape parameter.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.
    """
    return jax.random.beta(
        draw_key(seed), as_array(alpha), as_array(beta), tuple(shape), standardize_dtype(dtype)
    )


def binomial(
    shape: Sequence[int], counts: Any, probabilities: Any, dtype: Any = None, seed: Seed = None
) -> jax.Array:
    """Draw how many of `counts` trials succeed.

    Args:
        shape: Sizes of the result.
        counts: Numbers of trials; a number or an array that broadcasts.
        probabilities: Chance that a trial succeeds.
        dtype: Floating dtype of the result; `floatx()` unless given.
        seed: Integer, `SeedGenerator` or None.
    """
    dtype = standardize_dtype(dtype)
    return jax.random.binomial(
        draw_key(seed), as_array(counts, dtype), as_array(probabilities, dtype), tuple(shape), dtype
    )


@op
def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Seed = None) -> jax.Array:
    """Draw classes by their logits.

    Args:
        logits: (batch, classes), unnormalised log probabilities.
        num_samples: How many to draw per row.
        dtype: Dtype of the result.
        seed: Integer, `SeedGenerator` or None.

    Returns:
        (batch, num_samples), indices of classes.

    Raises:
        ShapeError: The logits haven't two dimensions.
    """
    logits = as_array(logits)
    if logits.ndim != 2:
        raise ShapeError(f"categorical takes logits of shape (batch, classes), but was given {logits.shape}.")
    drawn = jax.random.categorical(draw_key(seed), logits[:, None, :], shape=(logits.shape[0], num_samples))
    return drawn.astype(standardize_dtype(dtype))


@op
def dropout(
    inputs: Any, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Seed = None
) -> jax.Array:
    """Set a share of the values to zero and scale the others up, so that the expected sum stays.

    Args:
        inputs: Any floating array.
        rate: Share to set to zero, from 0 to 1.
        noise_shape: Shape of the mask; an axis of size 1 shares one mask, None is the input's size.
        seed: Integer, `SeedGenerator` or None.

    Source: Srivastava et al., 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting.
    """
    inputs = as_array(inputs)
    if rate <= 0:
        return inputs
    if rate >= 1:
        return jnp.zeros_like(inputs)
    sizes = noise_shape or (None,) * inputs.ndim
    mask_shape = tuple(own if size is None else size for size, own in zip(sizes, inputs.shape, strict=True))
    kept = jax.random.bernoulli(draw_key(seed), 1 - rate, mask_shape)
    return jnp.where(kept, inputs / (1 - rate), 0).astype(inputs.dtype)


@op
def shuffle(x: Any, axis: int = 0, seed: Seed = None) -> jax.Array:
    """Reorder the values along an axis, each line of values in an order of its own.

    Args:
        x: Any array.
        axis: The axis.
        seed: Integer, `SeedGenerator` or None.
    """
    return jax.random.permutation(draw_key(seed), as_array(x), axis, independent=True)
