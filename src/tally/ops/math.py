"""Segments, order statistics, Fourier transforms and special functions."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tally.core.errors import ArgumentError
from tally.ops.definition import Array, Value, float_op, op

# -- element by element, and over axes ---------------------------------------------------------------------------------
erf = float_op(lax.erf, "x")
erfc = float_op(lax.erfc, "x")
erfinv = float_op(lax.erf_inv, "x", "erfinv")
logsumexp = float_op(jax.nn.logsumexp, "x; axis=None, keepdims=False")
rsqrt = float_op(lax.rsqrt, "x")
logdet = float_op(
    lambda x: 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(x), axis1=-2, axis2=-1)), -1),
    "x",
    "logdet",
)
view_as_complex = op(lambda x: lax.complex(x[..., 0], x[..., 1]), "x", "view_as_complex")
view_as_real = op(lambda x: jnp.stack([jnp.real(x), jnp.imag(x)], axis=-1), "x", "view_as_real")


@op
def top_k(x: Array, k: int, sorted: bool = True) -> tuple[Array, Array]:
    """The `k` largest values along the last axis and their indices."""
    values, indices = lax.top_k(x, k)
    return values, indices


@op
def in_top_k(targets: Array, predictions: Array, k: int) -> Array:
    """Whether each target's prediction is among the `k` highest of its row; ties count as in."""
    own = jnp.take_along_axis(predictions, targets[:, None], axis=-1)
    above = jnp.sum(predictions > own, axis=-1)
    return jnp.logical_and(above < k, jnp.isfinite(own[:, 0]))


@float_op
def cdist(x: Array, y: Array) -> Array:
    """Euclidean distances between the rows of `x` and the rows of `y`."""
    return jnp.linalg.norm(x[..., :, None, :] - y[..., None, :, :], axis=-1)


# -- segments ----------------------------------------------------------------------------------------------------------
_SEGMENTS = "data, segment_ids; num_segments=None, sorted=False"


def _segment(reduce: Any, name: str) -> Any:
    return op(
        lambda data, ids, num_segments, sorted: reduce(data, ids, num_segments, indices_are_sorted=sorted),
        _SEGMENTS,
        name,
    )


segment_max = _segment(jax.ops.segment_max, "segment_max")
segment_min = _segment(jax.ops.segment_min, "segment_min")
segment_prod = _segment(jax.ops.segment_prod, "segment_prod")
segment_sum = _segment(jax.ops.segment_sum, "segment_sum")


# -- Fourier transforms ------------------------------------------------------------------------------------------------
# A complex tensor is a pair (real part, imaginary part), as in Keras.
def _join(x: Any) -> Array:
    real, imaginary = (jnp.asarray(part) for part in x)
    return lax.complex(real, imaginary)


def _part(z: Array) -> tuple[Array, Array]:
    return jnp.real(z), jnp.imag(z)


def _complex_op(transform: Any, name: str) -> Any:
    def compute(x: Value) -> tuple[Array, Array]:
        return _part(transform(_join(x)))

    compute.__doc__ = f"Compute `{name}` of a pair of real and imaginary part."
    return op(compute, name=name)


fft = _complex_op(jnp.fft.fft, "fft")
fft2 = _complex_op(jnp.fft.fft2, "fft2")
ifft2 = _complex_op(jnp.fft.ifft2, "ifft2")
rfft = float_op(lambda x, fft_length: _part(jnp.fft.rfft(x, fft_length)), "x; fft_length=None", "rfft")


@op
def irfft(x: Value, fft_length: int | None = None) -> Array:
    """The real signal whose Fourier transform, a pair of real and imaginary part, is given."""
    return jnp.fft.irfft(_join(x), fft_length)


@op
def extract_sequences(x: Array, sequence_length: int, sequence_stride: int) -> Array:
    """Overlapping windows along the last axis.

    Shapes:
        input: (..., time)
        output: (..., number of windows, sequence_length)
    """
    count = (x.shape[-1] - sequence_length) // sequence_stride + 1
    places = jnp.arange(count)[:, None] * sequence_stride + jnp.arange(sequence_length)
    return jnp.take(x, places, axis=-1)


def _window(window: Any, length: int, fft_length: int, dtype: Any) -> Array:
    """The window's values in the middle of `fft_length` places: `"hann"`, `"hamming"`, None for ones, or values."""
    if isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ArgumentError(
                f"'{window}' is not a window.", do="use 'hann', 'hamming', None or the values themselves"
            )
        # A periodic window is a symmetric one, one longer, without its last value.
        values = {"hann": jnp.hanning, "hamming": jnp.hamming}[window](length + 1)[:-1]
    else:
        values = jnp.ones(length) if window is None else jnp.asarray(window)
    before = (fft_length - length) // 2
    return jnp.pad(values.astype(dtype), (before, fft_length - length - before))


@float_op
def stft(
    x: Array,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Any = "hann",
    center: bool = True,
) -> tuple[Array, Array]:
    """The short-time Fourier transform.

    Shapes:
        input: (..., time)
        output: real and imaginary part, each (..., number of windows, fft_length // 2 + 1)
    """
    values = _window(window, sequence_length, fft_length, x.dtype)
    if center:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2, fft_length // 2)], mode="reflect")
    return _part(jnp.fft.rfft(extract_sequences(x, fft_length, sequence_stride) * values, fft_length))


@op
def istft(
    x: Value,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Any = "hann",
    center: bool = True,
) -> Array:
    """The signal whose short-time Fourier transform is given: windows added up where they overlap, and divided out."""
    frames = jnp.fft.irfft(_join(x), fft_length)
    values = _window(window, sequence_length, fft_length, frames.dtype)
    count = frames.shape[-2]
    total = fft_length + sequence_stride * (count - 1)
    places = jnp.arange(count)[:, None] * sequence_stride + jnp.arange(fft_length)
    signal = jnp.zeros((*frames.shape[:-2], total), frames.dtype).at[..., places].add(frames * values)
    weight = jnp.zeros(total, frames.dtype).at[places].add(jnp.square(values))
    signal = signal / jnp.where(weight > 1e-11, weight, 1)
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else total - start
    return signal[..., start:end]
