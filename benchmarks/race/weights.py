"""Initial weights, drawn once in numpy and handed to every contestant, named and laid out as Keras does."""

import math

import numpy as np

Weights = dict[str, np.ndarray]


class Drawer:
    """Draws the weights of a model layer by layer; `weights` holds them by path.

    Biases and offsets are not zero, so that a contestant which loads them wrongly computes something else.

    Example:
        >>> drawer = Drawer(seed=0)
        >>> drawer.dense("head", 4, 8)
        >>> {path: array.shape for path, array in drawer.weights.items()}
        {'head/kernel': (4, 8), 'head/bias': (8,)}
    """

    def __init__(self, seed: int) -> None:
        self.weights: Weights = {}
        self._random = np.random.default_rng(seed)

    def dense(self, name: str, inputs: int, units: int, *, bias: bool = True) -> None:
        """A matrix from inputs to units."""
        self._kernel(f"{name}/kernel", (inputs, units), inputs, units)
        self._bias(f"{name}/bias", (units,), bias)

    def convolution(self, name: str, size: int, inputs: int, filters: int, *, bias: bool = True) -> None:
        """Kernels of `size` by `size` pixels."""
        window = size * size
        self._kernel(f"{name}/kernel", (size, size, inputs, filters), window * inputs, window * filters)
        self._bias(f"{name}/bias", (filters,), bias)

    def depthwise(self, name: str, size: int, channels: int) -> None:
        """One kernel a channel, without bias."""
        self._kernel(f"{name}/kernel", (size, size, channels, 1), size * size, size * size)

    def separable(self, name: str, size: int, inputs: int, filters: int) -> None:
        """One kernel a channel, then a matrix from channels to filters, without bias."""
        self._kernel(f"{name}/depthwise_kernel", (size, size, inputs, 1), size * size, size * size)
        self._kernel(f"{name}/pointwise_kernel", (1, 1, inputs, filters), inputs, filters)

    def batch_normalization(self, name: str, channels: int) -> None:
        """Scale, offset, and the running mean and variance."""
        self.layer_normalization(name, channels)
        self.weights[f"{name}/moving_mean"] = np.zeros(channels, np.float32)
        self.weights[f"{name}/moving_variance"] = np.ones(channels, np.float32)

    def layer_normalization(self, name: str, channels: int) -> None:
        """Scale and offset."""
        self.weights[f"{name}/gamma"] = 1 + self._normal((channels,), 0.02)
        self.weights[f"{name}/beta"] = self._normal((channels,), 0.02)

    def embedding(self, name: str, rows: int, width: int) -> None:
        """A row a word or position."""
        self.weights[f"{name}/embeddings"] = self._normal((rows, width), 0.05)

    def attention(self, name: str, width: int, heads: int) -> None:
        """Query, key, value and output projections of `heads` heads that share the width."""
        for part in ("query", "key", "value"):
            self._kernel(f"{name}/{part}/kernel", (width, heads, width // heads), width, width)
            self._bias(f"{name}/{part}/bias", (heads, width // heads))
        self._kernel(f"{name}/attention_output/kernel", (heads, width // heads, width), width, width)
        self._bias(f"{name}/attention_output/bias", (width,))

    def lstm(self, name: str, inputs: int, units: int) -> None:
        """Kernels of the four gates side by side: input, forget, candidate, output."""
        self._kernel(f"{name}/lstm_cell/kernel", (inputs, 4 * units), inputs, 4 * units)
        self._kernel(f"{name}/lstm_cell/recurrent_kernel", (units, 4 * units), units, 4 * units)
        self._bias(f"{name}/lstm_cell/bias", (4 * units,))

    def _kernel(self, path: str, shape: tuple[int, ...], inputs: int, outputs: int) -> None:
        limit = math.sqrt(6 / (inputs + outputs))
        self.weights[path] = self._random.uniform(-limit, limit, shape).astype(np.float32)

    def _bias(self, path: str, shape: tuple[int, ...], wanted: bool = True) -> None:
        if wanted:
            self.weights[path] = self._normal(shape, 0.02)

    def _normal(self, shape: tuple[int, ...], spread: float) -> np.ndarray:
        return (spread * self._random.standard_normal(shape)).astype(np.float32)
