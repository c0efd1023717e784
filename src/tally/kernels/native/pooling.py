"""Calls of max-pooling in C: which windows it computes, and how its numbers lie."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tally.kernels.native import library

if TYPE_CHECKING:
    from tally.kernels.pooling import Window


def computes(window: "Window", dtype: Any) -> bool:
    """Whether a program that is being lowered calls C for the largest of such windows, and back.

    Windows that lie side by side are left to XLA, which reads each number once and computes what is around as well.

    Args:
        window: Over `(batch, *sides, channels)` with one or two sides.
        dtype: Of the array; float32 alone is.
    """
    ends = [(numbers[0], numbers[-1]) for numbers in (window.sizes, window.strides, window.pads)]
    return (
        dtype == jnp.float32
        and len(window.sizes) in (3, 4)
        and ends == [(1, 1), (1, 1), ((0, 0), (0, 0))]
        and not window.is_tiling()
        and math.prod((*window.shape, *window.out_shape)) > 0
        and library.is_wanted()
    )


def largest(window: "Window", x: jax.Array) -> jax.Array:
    """The largest value of each window of an array."""
    return library.call("largest", window.out_shape, [x], _numbers(window))


def handed_to_first(window: "Window", x: jax.Array, y: jax.Array, ct: jax.Array) -> jax.Array:
    """A number for each window, at the first place of the array that holds the window's largest value.

    Args:
        window: Where windows lie.
        x: The array.
        y: The largest value of each window.
        ct: The numbers.
    """
    return library.call("first", window.shape, [x, y, ct], _numbers(window))


def _numbers(window: "Window") -> list[int]:
    """The windows in the order of the structure in C; a single side is the columns of one row."""
    missing = 4 - len(window.sizes)
    ones, zeros = (1,) * missing, (0,) * missing
    channels = window.shape[-1]
    return [
        window.shape[0],
        *(*ones, *window.shape[1:-1], channels),
        *(*ones, *window.out_shape[1:-1], channels),
        *(*ones, *window.sizes[1:-1]),
        *(*ones, *window.strides[1:-1]),
        *(1, 1),
        *(*zeros, *(low for low, _ in window.pads[1:-1])),
        *(channels, False),
    ]
