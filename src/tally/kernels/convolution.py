"""Convolution of every kind, and the formulations that XLA's CPU compiler turns into faster programs.

On a CPU most are computed in C (`native`). Where they can't be, a dense one is the plain `lax` operation, as everywhere
else, and three kinds are not:

- of size 1: a matrix product, which saves the copies that a convolution makes of its input;
- depthwise: sums of shifted products, about 20 times faster than the grouped convolution there;
- transposed: the gradient of a strided convolution, so that its own gradients are those of one, too, and no convolution
  over an input that was pulled apart, for which XLA has no fast program.

All three directions of such a convolution (output, cotangent of the input, cotangent of the kernel) are linear in each
argument, so that each direction's derivatives are the other two.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tally.kernels.linear import Arrays, LinearMap, is_placed
from tally.kernels.native import convolution as native
from tally.kernels.native import library

Pads = tuple[tuple[int, int], ...]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    groups: int = 1,
    channels_first: bool = False,
) -> jax.Array:
    """Slide a kernel over an input: every convolution of the library runs through here.

    Args:
        x: `(batch, *sides, channels)`, or `(batch, channels, *sides)` with `channels_first`.
        kernel: `(*sides, channels / groups, filters)`, in whose dtype is computed.
        strides: Steps of the kernel on each side.
        padding: `"valid"`, `"same"`, or a pair (before, after) for each side.
        dilation: Distance between neighbouring kernel elements on each side.
        groups: Number of parts the channels are split into, each with filters of its own.
        channels_first: Where the channels of `x` and of the result are.

    Source: `jax.lax.conv_general_dilated`.
    """
    x = x.astype(kernel.dtype)
    x_sides = x.shape[2:] if channels_first else x.shape[1:-1]
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel.shape, dilation, strict=False))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x_sides, reach, strides, padding.upper())
    geometry = Geometry(
        strides=strides,
        pads=tuple((int(low), int(high)) for low, high in padding),
        dilation=dilation,
        groups=groups,
        channels_first=channels_first,
        x_shape=x.shape,
        kernel_shape=kernel.shape,
    )
    if geometry.is_special(x.dtype) and not is_placed(x):
        (y,) = _Output(geometry)((kernel,), (x,))
        return y
    return geometry.slide(x, kernel)


def convolve_transposed(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    channels_first: bool = False,
) -> jax.Array:
    """Spread an input out by a kernel: what a convolution with these strides does to a gradient.

    Args:
        x: `(batch, *sides, channels)`, or `(batch, channels, *sides)` with `channels_first`.
        kernel: `(*sides, filters, channels)`, in whose dtype is computed.
        strides: How far apart neighbouring inputs land in the output.
        padding: For each side, what surrounds the inputs that were pulled apart before the kernel slides over them.
        dilation: Distance between neighbouring kernel elements on each side.
        channels_first: Where the channels of `x` and of the result are.

    Source: `jax.lax.conv_transpose` with `transpose_kernel=True`.
    """
    x = x.astype(kernel.dtype)
    reaches = [(size - 1) * step for size, step in zip(kernel.shape, dilation, strict=False)]
    sides = tuple(
        (side - 1) * stride + 1 + low + high - reach
        for side, stride, (low, high), reach in zip(
            x.shape[2:] if channels_first else x.shape[1:-1], strides, padding, reaches, strict=True
        )
    )
    filters = kernel.shape[-2]
    forward = Geometry(
        strides=strides,
        pads=tuple((reach - low, reach - high) for reach, (low, high) in zip(reaches, padding, strict=True)),
        dilation=dilation,
        groups=1,
        channels_first=channels_first,
        x_shape=(x.shape[0], filters, *sides) if channels_first else (x.shape[0], *sides, filters),
        kernel_shape=kernel.shape,
    )
    if x.dtype in (jnp.float32, jnp.float64) and not is_placed(x):
        return _Input(forward)((kernel,), (x,))[0]
    return _plain_input(forward, x, kernel)


@dataclass(frozen=True)
class Geometry:
    """Where a convolution's kernel goes, with the shapes of both arguments.

    Args:
        strides: Steps of the kernel on each side.
        pads: Zeros before and after each side; fewer than none cuts.
        dilation: Distance between neighbouring kernel elements on each side.
        groups: Number of parts the channels are split into.
        channels_first: Where the channels are.
        x_shape: Shape of the input.
        kernel_shape: Shape of the kernel, `(*sides, channels / groups, filters)`.
        is_left_to_xla: Whether it isn't computed in C even where it could be.
    """

    strides: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int
    channels_first: bool
    x_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    is_left_to_xla: bool = field(default_factory=library.is_held_back)

    @property
    def channels(self) -> int:
        """How many channels the input has."""
        return self.x_shape[1 if self.channels_first else -1]

    @property
    def multiplier(self) -> int:
        """How many filters a depthwise convolution has for each channel."""
        return self.kernel_shape[-1] // self.groups

    @property
    def sizes(self) -> tuple[int, ...]:
        """The kernel's sides."""
        return self.kernel_shape[:-2]

    @property
    def sides(self) -> tuple[int, ...]:
        """The input's sides."""
        return self.x_shape[2:] if self.channels_first else self.x_shape[1:-1]

    @property
    def out_sides(self) -> tuple[int, ...]:
        """The output's sides."""
        return tuple(
            (side + low + high - (size - 1) * step - 1) // stride + 1
            for side, (low, high), size, step, stride in zip(
                self.sides, self.pads, self.sizes, self.dilation, self.strides, strict=True
            )
        )

    def is_pointwise(self) -> bool:
        """Whether the kernel sees one position at a time and no padding."""
        return self.groups == 1 and math.prod(self.sizes) == 1 and not any(map(any, self.pads))

    def is_depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return self.groups == self.channels > 1 and math.prod(self.sizes) <= _MOST_TAPS

    def is_special(self, dtype: Any) -> bool:
        """Whether the plain operation is not the fastest everywhere."""
        if dtype == jnp.float64:
            return self.is_pointwise() or self.is_depthwise()
        return dtype == jnp.float32 and (len(self.strides) <= 2 or self.is_pointwise() or self.is_depthwise())

    def slide(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution as the plain operation."""
        space = "DHW"[-len(self.strides) :]
        layout = f"NC{space}" if self.channels_first else f"N{space}C"
        return lax.conv_general_dilated(
            x,
            kernel,
            self.strides,
            self.pads,
            rhs_dilation=self.dilation,
            dimension_numbers=(layout, f"{space}IO", layout),
            feature_group_count=self.groups,
        )

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each place in the kernel, with the slices of the padded input's sides that it meets."""
        for place in itertools.product(*map(range, self.sizes)):
            starts = [i * step for i, step in zip(place, self.dilation, strict=True)]
            yield (
                place,
                tuple(
                    slice(start, start + (out - 1) * stride + 1, stride)
                    for start, out, stride in zip(starts, self.out_sides, self.strides, strict=True)
                ),
            )


_MOST_TAPS = 49
"""Kernel places up to which a program with one term for each of them is worth having: 7 by 7."""


@dataclass(frozen=True)
class _Direction(LinearMap):
    """One of a convolution's arguments to one of its others, with the third as the residual."""

    geometry: Geometry

    def apply_on_cpu(self, residuals: Arrays, values: Arrays) -> Arrays:
        (held,), (value,) = residuals, values
        return (self._fast(held, value),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        raise NotImplementedError


@dataclass(frozen=True)
class _Output(_Direction):
    """Input to output, for a kernel."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (self.geometry.slide(values[0], residuals[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return output(self.geometry, value, held)

    def transposed(self) -> LinearMap:
        return _Input(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _OutputOfKernel(self.geometry)(values, tangents)


@dataclass(frozen=True)
class _OutputOfKernel(_Direction):
    """Kernel to output, for an input."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (self.geometry.slide(residuals[0], values[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return output(self.geometry, held, value)

    def transposed(self) -> LinearMap:
        return _Kernel(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _Output(self.geometry)(values, tangents)


@dataclass(frozen=True)
class _Input(_Direction):
    """Cotangent of the output to that of the input, for a kernel."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (_plain_input(self.geometry, values[0], residuals[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return _input(self.geometry, value, held)

    def transposed(self) -> LinearMap:
        return _Output(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _InputOfKernel(self.geometry)(values, tangents)


@dataclass(frozen=True)
class _InputOfKernel(_Direction):
    """Kernel to cotangent of the input, for a cotangent of the output."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (_plain_input(self.geometry, residuals[0], values[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return _input(self.geometry, held, value)

    def transposed(self) -> LinearMap:
        return _KernelOfInput(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _Input(self.geometry)(values, tangents)


@dataclass(frozen=True)
class _Kernel(_Direction):
    """Cotangent of the output to that of the kernel, for an input."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (_plain_kernel(self.geometry, residuals[0], values[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return _kernel(self.geometry, held, value)

    def transposed(self) -> LinearMap:
        return _OutputOfKernel(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _KernelOfInput(self.geometry)(values, tangents)


@dataclass(frozen=True)
class _KernelOfInput(_Direction):
    """Input to cotangent of the kernel, for a cotangent of the output."""

    def apply(self, residuals: Arrays, values: Arrays) -> Arrays:
        return (_plain_kernel(self.geometry, values[0], residuals[0]),)

    def _fast(self, held: jax.Array, value: jax.Array) -> jax.Array:
        return _kernel(self.geometry, value, held)

    def transposed(self) -> LinearMap:
        return _InputOfKernel(self.geometry)

    def differentiate(self, residuals: Arrays, tangents: Arrays, values: Arrays) -> Arrays:
        return _Kernel(self.geometry)(values, tangents)


def geometry_of(map: Any) -> Geometry | None:
    """Where the kernel goes of a map from input to output for a kernel; None for any other."""
    return map.geometry if isinstance(map, _Output) else None


# -- the plain directions ----------------------------------------------------------------------------------------------
def _plain_input(g: Geometry, ct: jax.Array, kernel: jax.Array) -> jax.Array:
    transpose = jax.linear_transpose(lambda x: g.slide(x, kernel), jax.ShapeDtypeStruct(g.x_shape, ct.dtype))
    return transpose(ct)[0]


def _plain_kernel(g: Geometry, x: jax.Array, ct: jax.Array) -> jax.Array:
    transpose = jax.linear_transpose(lambda w: g.slide(x, w), jax.ShapeDtypeStruct(g.kernel_shape, ct.dtype))
    return transpose(ct)[0]


# -- on a CPU ----------------------------------------------------------------------------------------------------------
def _channels_last(g: Geometry, x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, 1, -1) if g.channels_first else x


def _as_given(g: Geometry, x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, -1, 1) if g.channels_first else x


def output(g: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution as a CPU computes it fastest."""
    is_native = native.computes(g, x.dtype)
    if not (is_native or g.is_pointwise() or g.is_depthwise()):
        return g.slide(x, kernel)
    x = _channels_last(g, x)
    if is_native:
        y = native.output(g, x, kernel)
    elif g.is_pointwise():
        x = _strided(g, x)
        y = (x.reshape(-1, g.channels) @ kernel.reshape(kernel.shape[-2:])).reshape(*x.shape[:-1], -1)
    else:
        weights, x = _by_channel(g, kernel), _one_per_multiple(g, _padded(g, x))
        y = functools.reduce(jnp.add, [x[:, *slices] * weights[place] for place, slices in g.taps()])
        y = y.reshape(-1, *g.out_sides, kernel.shape[-1])
    return _as_given(g, y)


def _input(g: Geometry, ct: jax.Array, kernel: jax.Array) -> jax.Array:
    is_native = native.computes(g, ct.dtype)
    if not (is_native or g.is_pointwise() or g.is_depthwise()):
        return _plain_input(g, ct, kernel)
    ct = _channels_last(g, ct)
    if is_native:
        return _as_given(g, native.input_cotangent(g, ct, kernel))
    if g.is_pointwise():
        dx = ct.reshape(-1, ct.shape[-1]) @ kernel.reshape(kernel.shape[-2:]).T
        dx = dx.reshape(*ct.shape[:-1], g.channels)
        if max(g.strides) > 1:
            ends = [
                (0, side - (out - 1) * stride - 1, stride - 1)
                for side, out, stride in zip(g.sides, g.out_sides, g.strides, strict=True)
            ]
            dx = lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
        return _as_given(g, dx)
    # Pull the cotangent apart by the strides, surround it with zeros, and slide the reversed kernel over it.
    weights = _by_channel(g, kernel)
    reaches = [(size - 1) * step for size, step in zip(g.sizes, g.dilation, strict=True)]
    ends = [
        (reach - low, side + low - (out - 1) * stride - 1, stride - 1)
        for reach, (low, _), side, out, stride in zip(
            reaches, g.pads, g.sides, g.out_sides, g.strides, strict=True
        )
    ]
    ct = lax.pad(ct, jnp.zeros((), ct.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    ct = _multiples(g, ct)
    terms = []
    for place, _ in g.taps():
        starts = [reach - i * step for reach, i, step in zip(reaches, place, g.dilation, strict=True)]
        slices = [slice(start, start + side) for start, side in zip(starts, g.sides, strict=True)]
        term = ct[:, *slices] * weights[place]
        terms.append(term if g.multiplier == 1 else term.sum(-1))
    return _as_given(g, functools.reduce(jnp.add, terms))


def _kernel(g: Geometry, x: jax.Array, ct: jax.Array) -> jax.Array:
    is_native = native.computes(g, x.dtype)
    if not (is_native or g.is_pointwise() or g.is_depthwise()):
        return _plain_kernel(g, x, ct)
    x, ct = _channels_last(g, x), _channels_last(g, ct)
    if is_native:
        return native.kernel_cotangent(g, x, ct)
    if g.is_pointwise():
        rows, ct_rows = (array.reshape(-1, array.shape[-1]) for array in (_strided(g, x), ct))
        return (rows.T @ ct_rows).reshape(g.kernel_shape)
    x, ct = _one_per_multiple(g, _padded(g, x)), _multiples(g, ct)

    # Two images at a time, one for each core at least, so that the sums of products stay in the processor's cache
    # until they are added up once.
    together = 2 if x.shape[0] % 2 == 0 else 1
    groups = tuple(array.reshape(-1, together, *array.shape[1:]) for array in (x, ct))

    def add(sums: Arrays, images: Arrays) -> tuple[Arrays, None]:
        some, their_ct = images
        return tuple(
            total + some[:, *slices] * their_ct for total, (_, slices) in zip(sums, g.taps(), strict=True)
        ), None

    zero = jnp.zeros_like(groups[1][0])
    sums, _ = lax.scan(add, (zero,) * math.prod(g.sizes), groups)
    over = tuple(range(1 + len(g.sizes)))
    return jnp.stack([total.sum(over) for total in sums]).reshape(g.kernel_shape)


def _strided(g: Geometry, x: jax.Array) -> jax.Array:
    return x[:, *(slice(None, None, stride) for stride in g.strides)]


def _padded(g: Geometry, x: jax.Array) -> jax.Array:
    return lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in g.pads), (0, 0, 0)]
    )


def _by_channel(g: Geometry, kernel: jax.Array) -> jax.Array:
    """The kernel as `(*sides, channels)`, with a last axis for the filters of one channel where there are several."""
    return _multiples(g, kernel.reshape(*g.sizes, -1))


def _multiples(g: Geometry, x: jax.Array) -> jax.Array:
    """Split the filters into channels and the filters of each, unless each channel has one."""
    return x if g.multiplier == 1 else x.reshape(*x.shape[:-1], g.channels, g.multiplier)


def _one_per_multiple(g: Geometry, x: jax.Array) -> jax.Array:
    """Make room to combine each channel with all its filters."""
    return x if g.multiplier == 1 else x[..., None]
