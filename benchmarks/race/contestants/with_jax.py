"""JAX and optax alone: weights in a dict, the model a function, one jitted step that gives its state's memory away."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.race.contestants import loops
from benchmarks.race.gate import Gate
from benchmarks.race.weights import Weights
from benchmarks.race.workloads import (
    BLOCKS,
    CIFAR_FILTERS,
    EPSILON,
    LEARNING_RATE,
    LENGTH,
    MOBILE_BLOCKS,
    Data,
    Workload,
)

Arrays = dict[str, jax.Array]
Forward = Callable[[Arrays, Arrays, jax.Array, jax.Array | None], tuple[jax.Array, Arrays]]
"""From weights, running statistics, inputs and, while training, a key, to outputs and new statistics."""


class Racer:
    """A function of weights, with a jitted step."""

    def __init__(self, workload: Workload, data: Data, weights: Weights) -> None:
        self._batch, self._data = workload.batch, data
        forward, optimizer = FORWARDS[workload.name], optax.adam(LEARNING_RATE, eps=EPSILON)
        self._parameters = {
            path: jnp.asarray(array) for path, array in weights.items() if "/moving_" not in path
        }
        self._statistics = {path: jnp.asarray(array) for path, array in weights.items() if "/moving_" in path}
        self._slots = optimizer.init(self._parameters)
        self._key = jax.random.key(0)

        @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
        def step(parameters: Arrays, statistics: Arrays, slots: Any, key: jax.Array, x: Any, y: Any) -> Any:
            key, drawn = jax.random.split(key)

            def loss_of(parameters: Arrays) -> Any:
                logits, new = forward(parameters, statistics, x, drawn)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

            (loss, new), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
            updates, slots = optimizer.update(gradients, slots)
            return optax.apply_updates(parameters, updates), new, slots, key, loss

        @jax.jit
        def answer(parameters: Arrays, statistics: Arrays, x: Any) -> jax.Array:
            logits, _ = forward(parameters, statistics, x, None)
            return jax.nn.softmax(logits) if workload.name == "mnist" else logits

        self._jitted_step, self._jitted_answer = step, answer

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the model predicts for one batch."""
        return np.asarray(self._answer(inputs))

    def first_step(self) -> None:
        """One step on the first batch, compilation included."""
        inputs, targets = self._data
        float(self._step(inputs[: self._batch], targets[: self._batch]))

    def train(self, gate: Gate) -> None:
        """Epochs as long as the gate opens."""
        loops.train(gate, self._data, self._batch, self._step)

    def predict(self, gate: Gate) -> None:
        """The whole data, batch by batch and back in numpy, as long as the gate opens."""
        loops.predict(gate, self._data[0], self._batch, self._answer)

    def _step(self, x: np.ndarray, y: np.ndarray) -> jax.Array:
        self._parameters, self._statistics, self._slots, self._key, loss = self._jitted_step(
            self._parameters, self._statistics, self._slots, self._key, x, y
        )
        return loss

    def _answer(self, x: np.ndarray) -> jax.Array:
        return self._jitted_answer(self._parameters, self._statistics, x)


# -- what the models are made of -------------------------------------------------------------------------------------


def _convolution(
    w: Arrays, name: str, x: jax.Array, *, strides: int = 1, padding: str = "SAME", kernel: str = "kernel"
) -> jax.Array:
    y = lax.conv_general_dilated(
        x, w[f"{name}/{kernel}"], (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + w[f"{name}/bias"] if f"{name}/bias" in w else y


def _depthwise(w: Arrays, name: str, x: jax.Array, *, strides: int = 1, kernel: str = "kernel") -> jax.Array:
    channels = x.shape[-1]
    return lax.conv_general_dilated(
        x,
        w[f"{name}/{kernel}"].reshape(3, 3, 1, channels),
        (strides, strides),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def _max_pool(x: jax.Array, size: int, strides: int, padding: str = "VALID") -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, strides, strides, 1), padding)


def _dense(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    y = x @ w[f"{name}/kernel"]
    return y + w[f"{name}/bias"] if f"{name}/bias" in w else y


class _Normalizer:
    """Batch normalisation with the batch's statistics while training, and the running ones collected in `new`."""

    def __init__(self, w: Arrays, statistics: Arrays, training: bool) -> None:
        self._w, self._statistics, self._training = w, statistics, training
        self.new = dict(statistics)

    def __call__(self, name: str, x: jax.Array) -> jax.Array:
        mean, variance = (self._statistics[f"{name}/moving_{what}"] for what in ("mean", "variance"))
        if self._training:
            batch_mean, batch_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            self.new[f"{name}/moving_mean"] = 0.99 * mean + 0.01 * batch_mean
            self.new[f"{name}/moving_variance"] = 0.99 * variance + 0.01 * batch_variance
            mean, variance = batch_mean, batch_variance
        scale = self._w[f"{name}/gamma"] * lax.rsqrt(variance + 1e-3)
        return (x - mean) * scale + self._w[f"{name}/beta"]


def _layer_normalization(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    y = jax.nn.standardize(x, epsilon=1e-5)
    return y * w[f"{name}/gamma"] + w[f"{name}/beta"]


def _attention(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    q, k, v = (
        jnp.einsum("blw,whd->blhd", x, w[f"{name}/{part}/kernel"]) + w[f"{name}/{part}/bias"]
        for part in ("query", "key", "value")
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    output = f"{name}/attention_output"
    return jnp.einsum("blhd,hdw->blw", y, w[f"{output}/kernel"]) + w[f"{output}/bias"]


# -- models ----------------------------------------------------------------------------------------------------------


def _mnist(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    x = _max_pool(jax.nn.relu(_convolution(w, "conv1", x, padding="VALID")), 2, 2)
    x = _max_pool(jax.nn.relu(_convolution(w, "conv2", x, padding="VALID")), 2, 2)
    x = x.reshape(len(x), -1)
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0)
    return _dense(w, "head", x), s


def _cifar(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    normalize = _Normalizer(w, s, key is not None)
    for number in range(1, len(CIFAR_FILTERS) + 1):
        x = jax.nn.relu(normalize(f"norm{number}", _convolution(w, f"conv{number}", x)))
        if number in (2, 4):
            x = _max_pool(x, 2, 2)
    return _dense(w, "head", x.mean((1, 2))), normalize.new


def _separable(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    normalize, y = _Normalizer(w, s, key is not None), x
    for number in (1, 2):
        y = _depthwise(w, f"separable{number}", y, kernel="depthwise_kernel")
        y = _convolution(w, f"separable{number}", y, kernel="pointwise_kernel")
        y = jax.nn.relu(normalize(f"norm{number}", y))
    y = _max_pool(y, 3, 2, "SAME") + _convolution(w, "shortcut", x, strides=2)
    return _dense(w, "head", y.mean((1, 2))), normalize.new


def _mobilenet(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    normalize = _Normalizer(w, s, key is not None)
    for number, (inputs, _, outputs, stride) in enumerate(MOBILE_BLOCKS, 1):
        y = jax.nn.relu6(normalize(f"expand_norm{number}", _convolution(w, f"expand{number}", x)))
        y = _depthwise(w, f"depthwise{number}", y, strides=stride)
        y = jax.nn.relu6(normalize(f"depthwise_norm{number}", y))
        y = normalize(f"project_norm{number}", _convolution(w, f"project{number}", y))
        x = x + y if stride == 1 and inputs == outputs else y
    return _dense(w, "head", x.mean((1, 2))), normalize.new


def _mlp(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    for name in ("hidden1", "hidden2"):
        x = jax.nn.relu(_dense(w, name, x))
    return _dense(w, "head", x), s


def _transformer(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    x = w["embed/token/embeddings"][x] + w["embed/position/embeddings"][jnp.arange(LENGTH)]
    for number in range(1, BLOCKS + 1):
        y = _layer_normalization(w, f"before_attention{number}", x)
        x = x + _attention(w, f"attention{number}", y)
        y = _dense(w, f"wide{number}", _layer_normalization(w, f"before_dense{number}", x))
        x = x + _dense(w, f"narrow{number}", jax.nn.gelu(y, approximate=False))
    return _dense(w, "head", _layer_normalization(w, "before_head", x)), s


def _lstm(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    recurrent, bias = w["lstm/lstm_cell/recurrent_kernel"], w["lstm/lstm_cell/bias"]
    units = recurrent.shape[0]

    def cell(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(x + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    zeros = jnp.zeros((len(x), units), x.dtype)
    gates = x.swapaxes(0, 1) @ w["lstm/lstm_cell/kernel"] + bias
    (h, _), _ = lax.scan(cell, (zeros, zeros), gates)
    return _dense(w, "head", h), s


def _tiny(w: Arrays, s: Arrays, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, Arrays]:
    return _dense(w, "head", x), s


FORWARDS: dict[str, Forward] = {
    "mnist": _mnist,
    "cifar": _cifar,
    "separable": _separable,
    "mobilenet": _mobilenet,
    "mlp": _mlp,
    "transformer": _transformer,
    "lstm": _lstm,
    "tiny": _tiny,
}
