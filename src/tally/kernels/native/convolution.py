"""Calls of the convolutions in C: which geometries they compute, and how their numbers lie."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.kernels.native import library

if TYPE_CHECKING:
    from tally.kernels.convolution import Geometry
    from tally.kernels.finishing import Finish


def computes(g: "Geometry", dtype: Any) -> bool:
    """Whether a convolution, or one of its gradients, is computed in C in the program that is being lowered.

    Args:
        g: The convolution, of one or two sides; with strides its kernel must not be dilated.
        dtype: Of both arguments; float32 alone is.
    """
    return (
        dtype == jnp.float32
        and not g.is_left_to_xla
        and len(g.strides) <= 2
        and not (g.is_depthwise() and g.multiplier > 1)
        and (max(g.strides) == 1 or max(g.dilation) == 1)
        and library.is_wanted()
        and math.prod((*g.x_shape, *g.kernel_shape, *g.out_sides)) > 0
    )


def output(g: "Geometry", x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of `x`, `(batch, *sides, channels)`, with `kernel`."""
    return library.call("output", (g.x_shape[0], *g.out_sides, g.kernel_shape[-1]), [x, kernel], _numbers(g))


def finished(
    g: "Geometry", x: jax.Array, kernel: jax.Array, scale: jax.Array, shift: jax.Array, finish: "Finish"
) -> Any:
    """The convolution with what comes right after it.

    Args:
        g: The convolution, of two sides.
        x: `(batch, *sides, channels)`.
        kernel: `(*sides, channels / groups, filters)`.
        scale: `(filters,)`.
        shift: `(filters,)`.
        finish: The bounds, and whether it pools.
    """
    sides = [side // 2 for side in g.out_sides] if finish.pools else g.out_sides
    bounds = np.array([finish.low, finish.high], np.float32)
    shape = (g.x_shape[0], *sides, g.kernel_shape[-1])
    return library.call("finished", shape, [x, kernel, scale, shift, bounds], _numbers(g, pools=finish.pools))


def input_cotangent(g: "Geometry", ct: jax.Array, kernel: jax.Array) -> jax.Array:
    """The cotangent of the input, channels last, for that of the output."""
    return library.call("input", (g.x_shape[0], *g.sides, g.channels), [ct, kernel], _numbers(g))


def kernel_cotangent(g: "Geometry", x: jax.Array, ct: jax.Array) -> jax.Array:
    """The cotangent of the kernel for that of the output."""
    return library.call("kernel", g.kernel_shape, [x, ct], _numbers(g))


def _numbers(g: "Geometry", *, pools: bool = False) -> list[int]:
    """The geometry in the order of the structure in C; a single side is the columns of one row."""
    missing = 2 - len(g.strides)
    ones, zeros = (1,) * missing, (0,) * missing
    starts = [low for low, _ in g.pads]
    return [
        g.x_shape[0],
        *(*ones, *g.sides, g.channels),
        *(*ones, *g.out_sides, g.kernel_shape[-1]),
        *(*ones, *g.sizes),
        *(*ones, *g.strides),
        *(*ones, *g.dilation),
        *(*zeros, *starts),
        g.groups,
        pools,
    ]
