"""Attention of several heads, on NVIDIA GPUs by cuDNN's kernel, which never holds the scores of all pairs of places."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

_LEAST = 64
"""The shortest sequence for cuDNN's kernel, which works on tiles; the scores of a shorter one take little memory."""


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array | None = None,
    causal: bool = False,
    flash: bool | None = None,
) -> jax.Array:
    """Means of the values, weighted by how well the keys fit the queries; scores and weights are float32.

    Args:
        query: `(batch, queries, heads, size)`.
        key: `(batch, keys, heads, size)`; fewer heads are shared by groups of the query's heads.
        value: Of the shape of `key`.
        mask: True where a query may look, broadcast to `(batch, heads, queries, keys)`.
        causal: Whether a query sees no later keys.
        flash: True takes cuDNN's kernel or fails, False never takes it. None takes it in programs for an NVIDIA GPU
            that has it, where there is no `mask` and `suits` says yes.

    Example:
        >>> query = jnp.ones((2, 5, 4, 8))
        >>> attend(query, query, query, causal=True).shape
        (2, 5, 4, 8)

    Source: Vaswani et al. (2017), arXiv 1706.03762; Dao et al. (2022), arXiv 2205.14135 for the kernel's way;
        `jax.nn.dot_product_attention`.
    """
    by_scores = functools.partial(jax.nn.dot_product_attention, mask=mask, is_causal=causal)
    by_kernel = functools.partial(by_scores, implementation="cudnn")
    if flash:
        return by_kernel(query, key, value)
    if flash is None and mask is None and suits(query, key) and has_kernel():
        return lax.platform_dependent(query, key, value, cuda=by_kernel, default=by_scores)
    return by_scores(query, key, value)


def suits(query: jax.Array, key: jax.Array) -> bool:
    """Whether cuDNN's kernel takes arrays of these shapes on all GPUs it runs on, and is worth taking.

    It takes bfloat16 and float16, and heads of up to 128 whose size is a multiple of 8.

    Example:
        >>> places = jnp.ones((2, 197, 12, 64), "bfloat16")
        >>> suits(places, places), suits(places.astype("float32"), places)
        (True, False)
    """
    sizes = (*query.shape, *key.shape)
    return (
        query.dtype == key.dtype
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and all(isinstance(size, int) for size in sizes)  # while a model is built, some are symbols
        and min(query.shape[1], key.shape[1]) >= _LEAST
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 128
    )


@functools.cache
def has_kernel() -> bool:
    """Whether JAX finds cuDNN and every GPU here can run its kernel: Ampere and what came after."""
    example = jax.ShapeDtypeStruct((1, _LEAST, 1, 8), "bfloat16")
    by_kernel = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        devices = jax.local_devices(backend="cuda")
        jax.eval_shape(by_kernel, example, example, example)
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    return all(float(getattr(device, "compute_capability", 0)) >= 8 for device in devices)
