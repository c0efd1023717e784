"""Each operation of the kernels room against the plain operation, with its gradient: `python benchmarks/kernels.py`.

Both run in turns in one process, as a training step is compiled; times are medians of processor time and of the wall
clock over all rounds, in milliseconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tally import layers
from tally.core import process
from tally.kernels.activation import rectify
from tally.kernels.convolution import convolve, convolve_transposed
from tally.kernels.normalization import normalize_batch
from tally.kernels.pooling import pool

Case = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]


def _convolution(size: int, strides: int, groups: int, filters: int, shape: tuple[int, ...]) -> Case:
    def ours(x: Any, kernel: Any) -> Any:
        steps = (strides, strides)
        return convolve(x, kernel, strides=steps, padding="same", dilation=(1, 1), groups=groups)

    def plain(x: Any, kernel: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        steps = (strides, strides)
        return lax.conv_general_dilated(
            x, kernel, steps, "SAME", dimension_numbers=layout, feature_group_count=groups
        )

    return ours, plain, (shape, (size, size, shape[-1] // groups, filters))


def _transposed(size: int, stride: int, filters: int, shape: tuple[int, ...]) -> Case:
    pads = ((size - 1, size - 1),) * 2

    def ours(x: Any, kernel: Any) -> Any:
        return convolve_transposed(x, kernel, strides=(stride, stride), padding=pads, dilation=(1, 1))

    def plain(x: Any, kernel: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_transpose(
            x, kernel, (stride, stride), pads, dimension_numbers=layout, transpose_kernel=True
        )

    return ours, plain, (shape, (size, size, filters, shape[-1]))


def _pooling(size: int, stride: int, mode: str, padding: str, shape: tuple[int, ...]) -> Case:
    windows, strides = (1, size, size, 1), (1, stride, stride, 1)
    start, combine = (-np.inf, lax.max) if mode == "max" else (0.0, lax.add)

    def ours(x: Any) -> Any:
        return pool(x, mode, windows, strides, padding)

    def plain(x: Any) -> Any:
        return lax.reduce_window(x, np.float32(start), combine, windows, strides, padding.upper())

    return ours, plain, (shape,)


def _normalization(shape: tuple[int, ...]) -> Case:
    def ours(x: Any, gamma: Any, beta: Any) -> Any:
        return normalize_batch(x, gamma, beta, axis=-1, epsilon=1e-3)[0]

    def plain(x: Any, gamma: Any, beta: Any) -> Any:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + 1e-3) * gamma + beta

    return ours, plain, (shape, shape[-1:], shape[-1:])


def _block(filters: int, shape: tuple[int, ...]) -> Case:
    """Two dense convolutions with what stands between: the rectifier's form decides what is computed twice."""

    def slide(x: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def ours(x: Any, first: Any, second: Any, gamma: Any) -> Any:
        return slide(rectify(normalize_batch(slide(x, first), gamma, None, axis=-1, epsilon=1e-3)[0]), second)

    def plain(x: Any, first: Any, second: Any, gamma: Any) -> Any:
        y = slide(x, first)
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        return slide(jax.nn.relu((y - mean) * lax.rsqrt(variance + 1e-3) * gamma), second)

    return ours, plain, (shape, (3, 3, shape[-1], filters), (3, 3, filters, filters), (filters,))


def _recurrent(units: int, shape: tuple[int, ...]) -> Case:
    """A loop over steps: the usual form multiplies all inputs before it, and JAX adds up its gradients in it."""
    layer = layers.LSTM(units)
    layer.build(shape)
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def ours(x: Any, *weights: Any) -> Any:
        return layer.stateless_call([0.1 * weight for weight in weights], fixed, x, training=True)[0]

    def plain(x: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        kernel, recurrent_kernel, bias = (
            0.1 * kernel,
            0.1 * recurrent_kernel,
            0.1 * bias,
        )  # no gate is saturated

        def step(state: Any, z: Any) -> Any:
            h, carry = state
            entering, kept, candidate, shown = jnp.split(z + h @ recurrent_kernel, 4, -1)
            carry = jax.nn.sigmoid(kept) * carry + jax.nn.sigmoid(entering) * jnp.tanh(candidate)
            return (jax.nn.sigmoid(shown) * jnp.tanh(carry), carry), None

        zeros = jnp.zeros((len(x), units))
        return lax.scan(step, (zeros, zeros), jnp.swapaxes(x @ kernel + bias, 0, 1))[0][0]

    return ours, plain, (shape, *(variable.shape for variable in layer.trainable_variables))


CASES: dict[str, Case] = {
    "convolution 3×3, 3 to 32": _convolution(3, 1, 1, 32, (64, 32, 32, 3)),
    "convolution 3×3, 32 to 32": _convolution(3, 1, 1, 32, (64, 32, 32, 32)),
    "convolution 3×3, 128 to 128": _convolution(3, 1, 1, 128, (64, 8, 8, 128)),
    "convolution 3×3, stride 2": _convolution(3, 2, 1, 128, (64, 16, 16, 64)),
    "grouped 3×3, 8 groups": _convolution(3, 1, 8, 64, (64, 16, 16, 64)),
    "convolution, BN, ReLU": _block(32, (64, 32, 32, 32)),
    "depthwise 3×3": _convolution(3, 1, 64, 64, (64, 32, 32, 64)),
    "depthwise 3×3, stride 2": _convolution(3, 2, 64, 64, (64, 32, 32, 64)),
    "pointwise": _convolution(1, 1, 1, 64, (64, 32, 32, 64)),
    "pointwise, stride 2": _convolution(1, 2, 1, 128, (64, 32, 32, 64)),
    "transposed 4×4, stride 2": _transposed(4, 2, 64, (64, 7, 7, 128)),
    "max-pooling 2×2": _pooling(2, 2, "max", "valid", (128, 26, 26, 32)),
    "max-pooling 3×3, stride 2": _pooling(3, 2, "max", "same", (64, 32, 32, 64)),
    "average pooling 2×2": _pooling(2, 2, "sum", "valid", (128, 26, 26, 32)),
    "batch normalisation": _normalization((64, 32, 32, 64)),
    "LSTM of 64, 50 steps": _recurrent(64, (32, 50, 32)),
    "LSTM of 256, 100 steps": _recurrent(256, (32, 100, 128)),
}


def measure(rounds: int) -> list[dict[str, Any]]:
    """One record for each operation."""
    process.prepare()
    return [_measured(name, *case, rounds=rounds) for name, case in CASES.items()]


def _measured(
    name: str, ours: Any, plain: Any, shapes: tuple[tuple[int, ...], ...], *, rounds: int
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]
    out = jax.eval_shape(ours, *arrays)
    cotangent = jnp.asarray(random.normal(size=out.shape), jnp.float32)

    options = process.compiler_options(is_training=True, largest_kernel=1)

    def trained(function: Any) -> Any:
        def both(cotangent: Any, *arrays: Any) -> Any:
            y, back = jax.vjp(function, *arrays)
            return y, back(cotangent)

        return jax.jit(both, compiler_options=options or None)

    contestants = {"tally": trained(ours), "plain": trained(plain)}
    results = {who: jax.block_until_ready(run(cotangent, *arrays)) for who, run in contestants.items()}
    pairs = zip(*map(jax.tree.leaves, results.values()), strict=True)
    difference = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
    spent: dict[str, list[tuple[float, float]]] = {who: [] for who in contestants}
    for _ in range(rounds):
        for who, run in contestants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            jax.block_until_ready(run(cotangent, *arrays))
            spent[who].append((1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)))
    record: dict[str, Any] = {"operation": name, "largest difference": difference}
    for who, times in spent.items():
        cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
        record |= {f"{who}, CPU ms": round(cpu, 2), f"{who}, wall ms": round(wall, 2)}
    ratios = [theirs[1] / mine[1] for mine, theirs in zip(spent["tally"], spent["plain"], strict=True)]
    return record | {"times faster": round(statistics.median(ratios), 2)}


def main() -> None:
    """Print the table; with `--json` write the records, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json")
    options = parser.parse_args()
    records = measure(options.rounds)
    print(f"{'forward and backward':28}{'tally':>10}{'plain':>10}{'faster':>9}   largest difference")
    for one in records:
        print(
            f"{one['operation']:28}{one['tally, wall ms']:>7} ms{one['plain, wall ms']:>7} ms"
            f"{one['times faster']:>8}×   {one['largest difference']:.0e}"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(records))


if __name__ == "__main__":
    main()
