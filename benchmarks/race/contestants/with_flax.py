"""Flax NNX and optax: modules with references, an `nnx.jit` step bound to its model by `nnx.cached_partial`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

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


class Racer:
    """An NNX module, its optimizer and a compiled step."""

    def __init__(self, workload: Workload, data: Data, weights: Weights) -> None:
        self._batch, self._data = workload.batch, data
        model = MODULES[workload.name](nnx.Rngs(0))
        load(model, weights)
        optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE, eps=EPSILON), wrt=nnx.Param)
        model.train()

        def loss_of(model: Any, x: Any, y: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        @nnx.jit
        def step(model: Any, optimizer: Any, x: Any, y: Any) -> jax.Array:
            loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
            optimizer.update(model, gradients)
            return loss

        @nnx.jit
        def answer(model: Any, x: Any) -> jax.Array:
            logits = model(x)
            return jax.nn.softmax(logits) if workload.name == "mnist" else logits

        still = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
        self._step = nnx.cached_partial(step, model, optimizer)
        self._answer = nnx.cached_partial(answer, still)

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


# -- modules; the attributes bear the names of the weights -----------------------------------------------------------


def _conv(rngs: nnx.Rngs, inputs: int, filters: int, size: int, **options: Any) -> nnx.Conv:
    return nnx.Conv(inputs, filters, (size, size), rngs=rngs, **options)


def _normalization(rngs: nnx.Rngs, channels: int) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.99, epsilon=1e-3, rngs=rngs)


_half = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))


class Mnist(nnx.Module):
    """The convnet for digits."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = _conv(rngs, 1, 32, 3, padding="VALID")
        self.conv2 = _conv(rngs, 32, 64, 3, padding="VALID")
        self.dropout, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(1600, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        x = _half(nnx.relu(self.conv1(x)))
        x = _half(nnx.relu(self.conv2(x)))
        return self.head(self.dropout(x.reshape(len(x), -1)))


class Cifar(nnx.Module):
    """Convolutions with batch normalisation."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        for number, (inputs, filters) in enumerate(CIFAR_FILTERS, 1):
            setattr(self, f"conv{number}", _conv(rngs, inputs, filters, 3, use_bias=False))
            setattr(self, f"norm{number}", _normalization(rngs, filters))
        self.head = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        for number in range(1, len(CIFAR_FILTERS) + 1):
            x = nnx.relu(getattr(self, f"norm{number}")(getattr(self, f"conv{number}")(x)))
            if number in (2, 4):
                x = _half(x)
        return self.head(x.mean((1, 2)))


class _SeparableConv(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, inputs: int, filters: int) -> None:
        self.depthwise = _conv(rngs, inputs, inputs, 3, feature_group_count=inputs, use_bias=False)
        self.pointwise = _conv(rngs, inputs, filters, 1, use_bias=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))


class Separable(nnx.Module):
    """The Xception block."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.separable1, self.separable2 = (_SeparableConv(rngs, 64, 64) for _ in range(2))
        self.norm1, self.norm2 = (_normalization(rngs, 64) for _ in range(2))
        self.shortcut = _conv(rngs, 64, 64, 1, strides=2)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        y = nnx.relu(self.norm1(self.separable1(x)))
        y = nnx.relu(self.norm2(self.separable2(y)))
        y = nnx.max_pool(y, (3, 3), (2, 2), padding="SAME") + self.shortcut(x)
        return self.head(y.mean((1, 2)))


class Mobilenet(nnx.Module):
    """Two inverted residuals."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        for number, (inputs, wide, outputs, stride) in enumerate(MOBILE_BLOCKS, 1):
            setattr(self, f"expand{number}", _conv(rngs, inputs, wide, 1, use_bias=False))
            setattr(self, f"expand_norm{number}", _normalization(rngs, wide))
            depthwise = _conv(rngs, wide, wide, 3, strides=stride, feature_group_count=wide, use_bias=False)
            setattr(self, f"depthwise{number}", depthwise)
            setattr(self, f"depthwise_norm{number}", _normalization(rngs, wide))
            setattr(self, f"project{number}", _conv(rngs, wide, outputs, 1, use_bias=False))
            setattr(self, f"project_norm{number}", _normalization(rngs, outputs))
        self.head = nnx.Linear(MOBILE_BLOCKS[-1][2], 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        for number, (inputs, _, outputs, stride) in enumerate(MOBILE_BLOCKS, 1):
            y = nnx.relu6(getattr(self, f"expand_norm{number}")(getattr(self, f"expand{number}")(x)))
            y = nnx.relu6(getattr(self, f"depthwise_norm{number}")(getattr(self, f"depthwise{number}")(y)))
            y = getattr(self, f"project_norm{number}")(getattr(self, f"project{number}")(y))
            x = x + y if stride == 1 and inputs == outputs else y
        return self.head(x.mean((1, 2)))


class Mlp(nnx.Module):
    """Dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden1, self.hidden2 = nnx.Linear(784, 512, rngs=rngs), nnx.Linear(512, 512, rngs=rngs)
        self.head = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        return self.head(nnx.relu(self.hidden2(nnx.relu(self.hidden1(x)))))


class _Embed(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.token, self.position = nnx.Embed(WORDS, WIDTH, rngs=rngs), nnx.Embed(LENGTH, WIDTH, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.token(tokens) + self.position(jnp.arange(LENGTH))


class Transformer(nnx.Module):
    """The language model."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = _Embed(rngs)
        for number in range(1, BLOCKS + 1):
            setattr(self, f"before_attention{number}", nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs))
            attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            setattr(self, f"attention{number}", attention)
            setattr(self, f"before_dense{number}", nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs))
            setattr(self, f"wide{number}", nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs))
            setattr(self, f"narrow{number}", nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs))
        self.before_head = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(WIDTH, WORDS, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits at every place."""
        x, mask = self.embed(tokens), nnx.make_causal_mask(tokens)
        for number in range(1, BLOCKS + 1):
            y = getattr(self, f"before_attention{number}")(x)
            x = x + getattr(self, f"attention{number}")(y, mask=mask)
            y = getattr(self, f"wide{number}")(getattr(self, f"before_dense{number}")(x))
            x = x + getattr(self, f"narrow{number}")(nnx.gelu(y, approximate=False))
        return self.head(self.before_head(x))


class Lstm(nnx.Module):
    """A recurrent layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(32, 64, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        return self.head(self.lstm(x)[:, -1])


class Tiny(nnx.Module):
    """One dense layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.head = nnx.Linear(4, 8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of a batch."""
        return self.head(x)


MODULES: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
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

_NAMES = {
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
    "embeddings": "embedding",
    "depthwise_kernel": "depthwise/kernel",
    "pointwise_kernel": "pointwise/kernel",
    "attention_output/kernel": "out/kernel",
    "attention_output/bias": "out/bias",
    "lstm_cell/kernel": "cell/dense_i/kernel",
    "lstm_cell/recurrent_kernel": "cell/dense_h/kernel",
    "lstm_cell/bias": "cell/dense_h/bias",
}


def load(model: nnx.Module, weights: Weights) -> None:
    """Fill a module with weights in Keras's layout, which is Flax's but for depthwise kernels.

    Args:
        model: Its attributes bear the names of the layers.
        weights: Arrays by path.

    Raises:
        ValueError: A weight has another shape than its place.
    """
    for path, array in weights.items():
        layer, _, name = path.partition("/")
        last = name.rpartition("/")[2]
        name = _NAMES.get(name, name.removesuffix(last) + _NAMES.get(last, last))
        variable: Any = model
        for part in (layer, *name.split("/")):
            variable = getattr(variable, part)
        turned = array.transpose(0, 1, 3, 2) if "depthwise" in path and array.ndim == 4 else array
        if variable.shape != turned.shape:
            raise ValueError(f"{path}: {turned.shape} where {variable.shape} is.")
        variable[...] = jnp.asarray(turned)
