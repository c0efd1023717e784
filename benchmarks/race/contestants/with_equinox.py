"""Equinox and optax: modules for one example under `vmap`, `filter_jit` steps, layouts as PyTorch's."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.race.contestants import loops
from benchmarks.race.gate import Gate
from benchmarks.race.weights import Weights
from benchmarks.race.workloads import (
    BLOCKS,
    CIFAR_FILTERS,
    EPSILON,
    HEADS,
    LEARNING_RATE,
    LENGTH,
    MOBILE_BLOCKS,
    WIDTH,
    WORDS,
    Data,
    Workload,
)

_KEY = jax.random.key(0)


class Racer:
    """An Equinox module, its state and a compiled step."""

    def __init__(self, workload: Workload, data: Data, weights: Weights) -> None:
        self._batch = workload.batch
        inputs, targets = data
        self._data = (_first_channels(inputs), targets)
        model, state = eqx.nn.make_with_state(MODULES[workload.name])()
        self._model, self._state = load(model, state, weights)
        optimizer = optax.adam(LEARNING_RATE, eps=EPSILON)
        self._slots = optimizer.init(eqx.filter(self._model, eqx.is_inexact_array))
        self._key = jax.random.key(0)

        def batched(model: Any, state: Any, x: Any, keys: Any) -> Any:
            return jax.vmap(
                model, axis_name="batch", in_axes=(0, None, None if keys is None else 0), out_axes=(0, None)
            )(x, state, keys)

        def loss_of(model: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
            logits, state = batched(model, state, x, jax.random.split(key, len(x)))
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state

        @eqx.filter_jit(donate="all")
        def step(model: Any, state: Any, slots: Any, key: Any, x: Any, y: Any) -> Any:
            key, drawn = jax.random.split(key)
            (loss, state), gradients = eqx.filter_value_and_grad(loss_of, has_aux=True)(
                model, state, x, y, drawn
            )
            updates, slots = optimizer.update(gradients, slots)
            return eqx.apply_updates(model, updates), state, slots, key, loss

        @eqx.filter_jit
        def answer(model: Any, state: Any, x: Any) -> Any:
            logits, _ = batched(eqx.nn.inference_mode(model), state, x, None)
            return jax.nn.softmax(logits) if workload.name == "mnist" else logits

        self._jitted_step, self._jitted_answer = step, answer

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the model predicts for one batch."""
        return np.asarray(self._answer(_first_channels(inputs)))

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
        self._model, self._state, self._slots, self._key, loss = self._jitted_step(
            self._model, self._state, self._slots, self._key, x, y
        )
        return loss

    def _answer(self, x: np.ndarray) -> jax.Array:
        return self._jitted_answer(self._model, self._state, x)


def _first_channels(array: np.ndarray) -> np.ndarray:
    """Images with their channels first, as Equinox's convolutions take them."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


# -- modules; the attributes bear the names of the weights, layers with numbers are lists ----------------------------


def _conv(inputs: int, filters: int, size: int, **options: Any) -> eqx.nn.Conv2d:
    return eqx.nn.Conv2d(inputs, filters, size, key=_KEY, **options)


def _linear(inputs: int, units: int, **options: Any) -> eqx.nn.Linear:
    return eqx.nn.Linear(inputs, units, key=_KEY, **options)


def _normalization(channels: int) -> eqx.nn.BatchNorm:
    return eqx.nn.BatchNorm(channels, axis_name="batch", eps=1e-3, momentum=0.99, mode="batch")


class Mnist(eqx.Module):
    """The convnet for digits."""

    conv: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.conv = [_conv(1, 32, 3), _conv(32, 64, 3)]
        self.pool, self.dropout = eqx.nn.MaxPool2d(2, 2), eqx.nn.Dropout(0.5)
        self.head = _linear(1600, 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one image."""
        for conv in self.conv:
            x = self.pool(jax.nn.relu(conv(x)))
        x = self.dropout(x.transpose(1, 2, 0).reshape(-1), key=key)
        return self.head(x), state


class Cifar(eqx.Module):
    """Convolutions with batch normalisation."""

    conv: list[eqx.nn.Conv2d]
    norm: list[eqx.nn.BatchNorm]
    pool: eqx.nn.MaxPool2d
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.conv = [
            _conv(inputs, filters, 3, padding=1, use_bias=False) for inputs, filters in CIFAR_FILTERS
        ]
        self.norm = [_normalization(filters) for _, filters in CIFAR_FILTERS]
        self.pool, self.head = eqx.nn.MaxPool2d(2, 2), _linear(128, 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one image."""
        for number, (conv, norm) in enumerate(zip(self.conv, self.norm, strict=True), 1):
            x, state = norm(conv(x), state)
            x = jax.nn.relu(x)
            if number in (2, 4):
                x = self.pool(x)
        return self.head(x.mean((1, 2))), state


class Separable(eqx.Module):
    """The Xception block."""

    depthwise: list[eqx.nn.Conv2d]
    pointwise: list[eqx.nn.Conv2d]
    norm: list[eqx.nn.BatchNorm]
    pool: eqx.nn.MaxPool2d
    shortcut: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.depthwise = [_conv(64, 64, 3, padding=1, groups=64, use_bias=False) for _ in range(2)]
        self.pointwise = [_conv(64, 64, 1, use_bias=False) for _ in range(2)]
        self.norm = [_normalization(64) for _ in range(2)]
        self.pool = eqx.nn.MaxPool2d(3, 2, padding=((0, 1), (0, 1)))
        self.shortcut, self.head = _conv(64, 64, 1, stride=2), _linear(64, 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one image."""
        y = x
        for depthwise, pointwise, norm in zip(self.depthwise, self.pointwise, self.norm, strict=True):
            y, state = norm(pointwise(depthwise(y)), state)
            y = jax.nn.relu(y)
        y = self.pool(y) + self.shortcut(x)
        return self.head(y.mean((1, 2))), state


class Mobilenet(eqx.Module):
    """Two inverted residuals."""

    expand: list[eqx.nn.Conv2d]
    expand_norm: list[eqx.nn.BatchNorm]
    depthwise: list[eqx.nn.Conv2d]
    depthwise_norm: list[eqx.nn.BatchNorm]
    project: list[eqx.nn.Conv2d]
    project_norm: list[eqx.nn.BatchNorm]
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.expand = [_conv(inputs, wide, 1, use_bias=False) for inputs, wide, _, _ in MOBILE_BLOCKS]
        self.expand_norm = [_normalization(wide) for _, wide, _, _ in MOBILE_BLOCKS]
        self.depthwise = [
            _conv(wide, wide, 3, stride=stride, padding="SAME", groups=wide, use_bias=False)
            for _, wide, _, stride in MOBILE_BLOCKS
        ]
        self.depthwise_norm = [_normalization(wide) for _, wide, _, _ in MOBILE_BLOCKS]
        self.project = [_conv(wide, filters, 1, use_bias=False) for _, wide, filters, _ in MOBILE_BLOCKS]
        self.project_norm = [_normalization(filters) for _, _, filters, _ in MOBILE_BLOCKS]
        self.head = _linear(MOBILE_BLOCKS[-1][2], 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one image."""
        for number, (inputs, _, outputs, stride) in enumerate(MOBILE_BLOCKS):
            y, state = self.expand_norm[number](self.expand[number](x), state)
            y, state = self.depthwise_norm[number](self.depthwise[number](jax.nn.relu6(y)), state)
            y, state = self.project_norm[number](self.project[number](jax.nn.relu6(y)), state)
            x = x + y if stride == 1 and inputs == outputs else y
        return self.head(x.mean((1, 2))), state


class Mlp(eqx.Module):
    """Dense layers."""

    hidden: list[eqx.nn.Linear]
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.hidden, self.head = [_linear(784, 512), _linear(512, 512)], _linear(512, 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one example."""
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return self.head(x), state


class Transformer(eqx.Module):
    """The language model."""

    token: eqx.nn.Embedding
    position: eqx.nn.Embedding
    before_attention: list[eqx.nn.LayerNorm]
    attention: list[eqx.nn.MultiheadAttention]
    before_dense: list[eqx.nn.LayerNorm]
    wide: list[eqx.nn.Linear]
    narrow: list[eqx.nn.Linear]
    before_head: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self) -> None:
        biases = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
        self.token = eqx.nn.Embedding(WORDS, WIDTH, key=_KEY)
        self.position = eqx.nn.Embedding(LENGTH, WIDTH, key=_KEY)
        self.before_attention = [eqx.nn.LayerNorm(WIDTH) for _ in range(BLOCKS)]
        self.attention = [eqx.nn.MultiheadAttention(HEADS, WIDTH, key=_KEY, **biases) for _ in range(BLOCKS)]
        self.before_dense = [eqx.nn.LayerNorm(WIDTH) for _ in range(BLOCKS)]
        self.wide = [_linear(WIDTH, 4 * WIDTH) for _ in range(BLOCKS)]
        self.narrow = [_linear(4 * WIDTH, WIDTH) for _ in range(BLOCKS)]
        self.before_head, self.head = eqx.nn.LayerNorm(WIDTH), _linear(WIDTH, WORDS, use_bias=False)

    def __call__(self, tokens: jax.Array, state: Any, key: Any) -> Any:
        """Logits at every place of one sequence."""
        x = jax.vmap(self.token)(tokens) + jax.vmap(self.position)(jnp.arange(LENGTH))
        mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
        for number in range(BLOCKS):
            y = jax.vmap(self.before_attention[number])(x)
            x = x + self.attention[number](y, y, y, mask=mask)
            y = jax.vmap(self.wide[number])(jax.vmap(self.before_dense[number])(x))
            x = x + jax.vmap(self.narrow[number])(jax.nn.gelu(y, approximate=False))
        return jax.vmap(self.head)(jax.vmap(self.before_head)(x)), state


class Lstm(eqx.Module):
    """A recurrent layer."""

    cell: eqx.nn.LSTMCell
    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.cell, self.head = eqx.nn.LSTMCell(32, 64, key=_KEY), _linear(64, 10)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one sequence."""
        zeros = jnp.zeros(self.cell.hidden_size)
        (h, _), _ = jax.lax.scan(lambda carry, x: (self.cell(x, carry), None), (zeros, zeros), x)
        return self.head(h), state


class Tiny(eqx.Module):
    """One dense layer."""

    head: eqx.nn.Linear

    def __init__(self) -> None:
        self.head = _linear(4, 8)

    def __call__(self, x: jax.Array, state: Any, key: Any) -> Any:
        """Logits of one example."""
        return self.head(x), state


MODULES: dict[str, Callable[[], Any]] = {
    "mnist": Mnist,
    "cifar": Cifar,
    "separable": Separable,
    "mobilenet": Mobilenet,
    "mlp": Mlp,
    "transformer": Transformer,
    "lstm": Lstm,
    "tiny": Tiny,
}


# -- weights ---------------------------------------------------------------------------------------------------------

_PROJECTIONS = {
    "query": "query_proj",
    "key": "key_proj",
    "value": "value_proj",
    "attention_output": "output_proj",
}


def load(model: Any, state: Any, weights: Weights) -> tuple[Any, Any]:
    """A module with the given weights, and its state with their running statistics.

    Args:
        model: Its attributes bear the names of the layers.
        state: As `eqx.nn.make_with_state` gave it.
        weights: Arrays by path, in Keras's layout.

    Raises:
        ValueError: A weight has another shape than its place.
    """
    for path, array in weights.items():
        layer, _, name = path.partition("/")
        module = _find(layer, name, model)
        if name.startswith("moving_"):
            mean, variance = state.get(module.batch_state_index)
            new = (array, variance) if name == "moving_mean" else (mean, array)
            state = state.set(module.batch_state_index, tuple(jnp.asarray(part) for part in new))
            continue
        attribute, value = _placed(name, array, getattr(module, "weight", None))
        if getattr(module, attribute).shape != value.shape:
            raise ValueError(f"{path}: {value.shape} where {getattr(module, attribute).shape} is.")

        def place(tree: Any, layer: str = layer, name: str = name, attribute: str = attribute) -> Any:
            return getattr(_find(layer, name, tree), attribute)

        model = eqx.tree_at(place, model, jnp.asarray(value))
    return model, state


def _find(layer: str, name: str, model: Any) -> Any:
    """The module that a weight belongs to: `conv3/kernel` is in `model.conv[2]`."""
    if layer == "embed":
        return getattr(model, name.partition("/")[0])
    if layer == "lstm":
        return model.cell
    word, number = layer.rstrip("0123456789"), layer.lstrip("abcdefghijklmnopqrstuvwxyz_")
    if word == "separable":
        word = name.removesuffix("_kernel")
    module = getattr(model, word)
    if number:
        module = module[int(number) - 1]
    if word == "attention":
        return getattr(module, _PROJECTIONS[name.partition("/")[0]])
    return module


def _placed(name: str, array: np.ndarray, weight: Any) -> tuple[str, np.ndarray]:
    """The attribute that a weight goes to, and its values in Equinox's layout: what is summed over comes last."""
    last = name.rpartition("/")[2]
    if last in ("gamma", "embeddings"):
        return "weight", array
    if last == "beta":
        return "bias", array
    if last == "bias":
        conv = weight is not None and weight.ndim == 4
        return "bias", array.reshape(-1, 1, 1) if conv else array.reshape(-1)
    if name.startswith("lstm_cell"):
        return ("weight_hh" if last == "recurrent_kernel" else "weight_ih"), array.T
    if array.ndim == 4:
        depthwise = weight.shape[1] == 1 and array.shape[3] == 1
        return "weight", array.transpose(2, 3, 0, 1) if depthwise else array.transpose(3, 2, 0, 1)
    return "weight", array.reshape(-1, weight.shape[0]).T if array.ndim == 3 else array.T
