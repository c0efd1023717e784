"""Pooling in sliding windows, and the formulations that XLA's CPU compiler turns into faster programs.

The gradient of max-pooling goes to the first largest value of each window. Accelerators have an operation for that;
on a CPU it would become four index arrays and a scatter, so there it is written as comparisons of slices.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tally.kernels.linear import Arrays, LinearMap, is_placed
from tally.kernels.native import pooling as native


def pool(
    x: jax.Array, mode: str, windows: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> jax.Array:
    """The largest value or the sum in every window: all sliding pooling runs through here.

    Args:
        x: Any array.
        mode: `"max"` or `"sum"`.
        windows: Size of the window on each axis of `x`.
        strides: Steps of the window on each axis.
        padding: `"valid"` or `"same"`.

    Source: `jax.lax.reduce_window`.
    """
    pads = lax.padtype_to_pads(x.shape, windows, strides, padding.upper())
    window = Window(windows, strides, tuple((int(low), int(high)) for low, high in pads), x.shape)
    is_special = (
        x.dtype in (jnp.float32, jnp.float64) and math.prod(windows) <= _MOST_TAPS and not is_placed(x)
    )
    if mode == "sum":
        return _Sum(window)((), (x,))[0] if is_special else window.sum(x)
    return _largest(x, window) if is_special else window.largest(x)


_MOST_TAPS = 64
"""Window places up to which a program with one term for each of them is worth having."""


@dataclass(frozen=True)
class Window:
    """Where windows lie in an array.

    Args:
        sizes: Size of the window on each axis.
        strides: Steps of the window on each axis.
        pads: What is added before and after each axis.
        shape: The array's shape.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """How many windows there are on each axis."""
        return tuple(
            (side + low + high - size) // stride + 1
            for side, (low, high), size, stride in zip(
                self.shape, self.pads, self.sizes, self.strides, strict=True
            )
        )

    def largest(self, x: jax.Array) -> jax.Array:
        """The largest value of each window, as the plain operation."""
        least = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
        return lax.reduce_window(x, np.asarray(least, x.dtype), lax.max, self.sizes, self.strides, self.pads)

    def sum(self, x: jax.Array) -> jax.Array:
        """The sum of each window, as the plain operation."""
        return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, self.sizes, self.strides, self.pads)

    def padded(self, x: jax.Array, fill: float) -> jax.Array:
        """The array with its margins."""
        return lax.pad(x, jnp.array(fill, x.dtype), [(low, high, 0) for low, high in self.pads])

    def taps(self, x: jax.Array, fill: float) -> list[jax.Array]:
        """What each place in the window sees, in row-major order: arrays of the output's shape."""
        x = self.padded(x, fill)
        return [
            x[
                tuple(
                    slice(start, start + (out - 1) * stride + 1, stride)
                    for start, out, stride in zip(place, self.out_shape, self.strides, strict=True)
                )
            ]
            for place in self.places()
        ]

    def places(self) -> Iterator[tuple[int, ...]]:
        """The places in the window, in row-major order."""
        return itertools.product(*map(range, self.sizes))

    def is_tiling(self) -> bool:
        """Whether windows lie side by side without margins."""
        return self.sizes == self.strides and not any(map(any, self.pads))


def window_of(equation: Any) -> Window | None:
    """The windows of an equation that finds their largest values, in single precision; None for any other."""
    if equation.primitive.name != "reduce_window_max":
        return None
    params, kind = equation.params, equation.invars[0].aval.dtype
    has_gaps = max(*params["base_dilation"], *params["window_dilation"]) > 1
    if has_gaps or kind != jnp.float32 or math.prod(params["window_dimensions"]) > _MOST_TAPS:
        return None
    return Window(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        equation.invars[0].aval.shape,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: jax.Array, window: Window) -> jax.Array:
    """As it is called when nothing is differentiated; XLA fuses this operation with the convolution before it."""
    return window.largest(x)


@_largest.defjvp
def _largest_and_tangent(window: Window, primals: Arrays, tangents: Arrays) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    y = _by_slices(x, window)
    return y, _First(window)((x, y), (tangent,))[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _by_slices(x: jax.Array, window: Window) -> jax.Array:
    """As it is called in training, where the window's input is kept and comparisons fuse with what made it."""
    return Largest(window)((x,), ())[0]


_by_slices.defjvp(_largest_and_tangent)


@dataclass(frozen=True)
class Largest(LinearMap):
    """The largest value of each window, of the residual; there is nothing it is linear in."""

    window: Window

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:  # noqa: D102 - as for any map
        return (self.window.largest(residuals[0]),)

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:  # noqa: D102
        (x,) = residuals
        if native.computes(self.window, x.dtype):
            return (native.largest(self.window, x),)
        return (functools.reduce(jnp.maximum, self.window.taps(x, -np.inf)),)


@dataclass(frozen=True)
class _First(LinearMap):
    """The value at each window's first largest element; the residuals are the array and the largest values."""

    window: Window

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (jax.jvp(self.window.largest, residuals[:1], values)[1],)

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        x, y = residuals
        first = _places_of_first(self.window, x, y)
        taps = self.window.taps(values[0], 0)
        return (functools.reduce(jnp.add, [jnp.where(first == i, tap, 0) for i, tap in enumerate(taps)]),)

    def transposed(self) -> LinearMap:
        return _ToFirst(self.window)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        # Which element is the first moves by jumps.
        return (jnp.zeros(self.window.out_shape, values[0].dtype),)


@dataclass(frozen=True)
class _ToFirst(LinearMap):
    """Hands a number for each window to its first largest element."""

    window: Window

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return jax.vjp(self.window.largest, residuals[0])[1](values[0])

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        x, y = residuals
        if native.computes(self.window, x.dtype):
            return (native.handed_to_first(self.window, x, y, values[0]),)
        first = _places_of_first(self.window, x, y)
        return (_handed_out(self.window, values[0], first),)

    def transposed(self) -> LinearMap:
        return _First(self.window)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return (jnp.zeros_like(residuals[0]),)


@dataclass(frozen=True)
class _Sum(LinearMap):
    """The sum of each window."""

    window: Window

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (self.window.sum(values[0]),)

    def transposed(self) -> LinearMap:
        return _Spread(self.window)


@dataclass(frozen=True)
class _Spread(LinearMap):
    """Hands a number for each window to all its elements."""

    window: Window

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        x = jax.ShapeDtypeStruct(self.window.shape, values[0].dtype)
        return tuple(jax.linear_transpose(self.window.sum, x)(values[0]))

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (_handed_out(self.window, values[0], None),)

    def transposed(self) -> LinearMap:
        return _Sum(self.window)


def _places_of_first(window: Window, x: jax.Array, y: jax.Array) -> jax.Array:
    """Which place in each window holds the first largest value; the last place where none does, for NaN."""
    last, *others = reversed(list(enumerate(window.taps(x, -np.inf))))
    first = jnp.full(y.shape, last[0], jnp.int8)
    for i, tap in others:
        first = jnp.where(tap == y, jnp.int8(i), first)
    return first


def _handed_out(window: Window, values: jax.Array, first: jax.Array | None) -> jax.Array:
    """The array that gets each window's value at its `first` place, or everywhere."""
    if window.is_tiling():
        return _handed_to_tiles(window, values, first)
    return _handed_by_phase(window, values, first)


def _handed_to_tiles(window: Window, values: jax.Array, first: jax.Array | None) -> jax.Array:
    """One pass over the result, each element of which lies in one window at most."""
    rank = len(window.sizes)
    pairs = [number for out, size in zip(values.shape, window.sizes, strict=True) for number in (out, size)]

    def enlarged(array: jax.Array) -> jax.Array:
        return lax.broadcast_in_dim(array, pairs, range(0, 2 * rank, 2))

    made = enlarged(values)
    if first is not None:
        places = np.arange(math.prod(window.sizes), dtype=np.int8).reshape(window.sizes)
        place = lax.broadcast_in_dim(places, pairs, range(1, 2 * rank, 2))
        made = jnp.where(enlarged(first) == place, made, 0)
    made = made.reshape([out * size for out, size in zip(values.shape, window.sizes, strict=True)])
    rest = [(0, side - has, 0) for side, has in zip(window.shape, made.shape, strict=True)]
    return lax.pad(made, jnp.zeros((), made.dtype), rest)


def _handed_by_phase(window: Window, values: jax.Array, first: jax.Array | None) -> jax.Array:
    """Elements at the same offset from the strides gather from the windows over them: no scatter.

    An element at `stride * q + r` of the padded array lies in window `q - m` at place `r + stride * m`, for each `m`
    that keeps the place in the window.
    """
    sides = [side + low + high for side, (low, high) in zip(window.shape, window.pads, strict=True)]
    counts = [-(-side // stride) for side, stride in zip(sides, window.strides, strict=True)]
    before = [(size - 1) // stride for size, stride in zip(window.sizes, window.strides, strict=True)]
    margins = [
        (back, max(0, count - out), 0)
        for back, count, out in zip(before, counts, window.out_shape, strict=True)
    ]
    values = lax.pad(values, jnp.zeros((), values.dtype), margins)
    if first is not None:
        first = lax.pad(first, jnp.int8(-1), margins)
    number = {place: i for i, place in enumerate(window.places())}

    def gathered(phase: tuple[int, ...]) -> jax.Array:
        total = jnp.zeros(counts, values.dtype)
        choices = [
            range(r, size, stride)
            for r, size, stride in zip(phase, window.sizes, window.strides, strict=True)
        ]
        for place in itertools.product(*choices):
            starts = [
                back - i // stride for back, i, stride in zip(before, place, window.strides, strict=True)
            ]
            where = tuple(slice(start, start + count) for start, count in zip(starts, counts, strict=True))
            mine = values[where]
            if first is not None:
                mine = jnp.where(first[where] == number[place], mine, 0)
            total = total + mine
        return total

    phases = jnp.stack([gathered(phase) for phase in itertools.product(*map(range, window.strides))])
    rank = len(window.strides)
    made = phases.reshape(*window.strides, *counts)
    made = made.transpose([axis for i in range(rank) for axis in (rank + i, i)])
    made = made.reshape([count * stride for count, stride in zip(counts, window.strides, strict=True)])
    enough = [(0, max(0, side - has), 0) for side, has in zip(sides, made.shape, strict=True)]
    made = lax.pad(made, jnp.zeros((), made.dtype), enough)
    return made[
        tuple(slice(low, low + side) for (low, _), side in zip(window.pads, window.shape, strict=True))
    ]
