"""The models as pure functions of JAX, with optax: what somebody writes who needs nothing but the step."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.gpu_models.sizes import DECAY, MOMENTUM, RATES, Gpt, Mnist, ResNet, Task, Vit

Weights = dict[str, jax.Array]
"""Every weight by its path."""


class Maker:
    """Draws weights under their paths, from the distributions that Keras's layers draw from."""

    def __init__(self) -> None:
        self.weights: Weights = {}

    def kernel(self, path: str, *shape: int, taken: int | None = None, made: int | None = None) -> None:
        """A kernel of Glorot's uniform distribution.

        Args:
            path: Its path.
            *shape: Its sizes.
            taken: How many inputs one output sums over; by default all sizes but the last.
            made: How many outputs one input reaches; by default the last size, times a convolution's places.
        """
        places = math.prod(shape[:-2])
        taken, made = taken or places * shape[-2], made or places * shape[-1]
        key = jax.random.fold_in(jax.random.key(0), len(self.weights))
        limit = math.sqrt(6 / (taken + made))
        self.weights[path] = jax.random.uniform(key, shape, jnp.float32, -limit, limit)

    def normal(self, path: str, *shape: int) -> None:
        """A table drawn from a normal distribution with a deviation of 0.02."""
        key = jax.random.fold_in(jax.random.key(0), len(self.weights))
        self.weights[path] = 0.02 * jax.random.normal(key, shape)

    def zeros(self, path: str, *shape: int) -> None:
        """Zeros."""
        self.weights[path] = jnp.zeros(shape)

    def ones(self, path: str, *shape: int) -> None:
        """Ones."""
        self.weights[path] = jnp.ones(shape)

    def dense(self, path: str, taken: int, made: int) -> None:
        """A kernel and a bias."""
        self.kernel(f"{path}/kernel", taken, made)
        self.zeros(f"{path}/bias", made)

    def scale(self, path: str, size: int) -> None:
        """`gamma` and `beta`."""
        self.ones(f"{path}/gamma", size)
        self.zeros(f"{path}/beta", size)


def dense(weights: Weights, path: str, x: jax.Array) -> jax.Array:
    """A product and a bias, in the dtype of what comes in."""
    return x @ weights[f"{path}/kernel"].astype(x.dtype) + weights[f"{path}/bias"].astype(x.dtype)


def convolve(x: jax.Array, kernel: jax.Array, strides: int = 1, padding: Any = "SAME") -> jax.Array:
    """A convolution of images whose channels come last."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (strides, strides), padding, dimension_numbers=numbers
    )


def pool(x: jax.Array, size: int, strides: int, padding: int = 0) -> jax.Array:
    """The maximum of each window."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, strides, strides, 1), around)


# -- mnist -------------------------------------------------------------------------------------------------------------
def make_mnist(sizes: Mnist) -> tuple[Weights, Weights]:
    """Weights, and no statistics."""
    maker, channels = Maker(), 1
    for number, filters in enumerate(sizes.filters):
        maker.kernel(f"convolution{number}/kernel", 3, 3, channels, filters)
        maker.zeros(f"convolution{number}/bias", filters)
        channels = filters
    side = ((sizes.side - 2) // 2 - 2) // 2
    maker.dense("head", side**2 * channels, sizes.classes)
    return maker.weights, {}


def mnist(sizes: Mnist, weights: Weights, state: Weights, x: jax.Array, key: jax.Array) -> Any:
    """Logits and new statistics."""
    x = x.astype(jnp.float32) / 255
    for number in range(len(sizes.filters)):
        path = f"convolution{number}"
        x = convolve(x, weights[f"{path}/kernel"], padding="VALID") + weights[f"{path}/bias"]
        x = pool(jax.nn.relu(x), 2, 2)
    x = x.reshape(len(x), -1)
    x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0)
    return dense(weights, "head", x), state


# -- resnet ------------------------------------------------------------------------------------------------------------
def _places(sizes: ResNet) -> list[tuple[str, int, int, int]]:
    """Path, input channels, inner filters and stride of each block."""
    rows, channels = [], sizes.filters
    for stage, blocks in enumerate(sizes.stages):
        inner = sizes.filters * 2**stage
        for block in range(blocks):
            rows.append((f"stage{stage}/block{block}", channels, inner, 2 if stage and not block else 1))
            channels = 4 * inner
    return rows


def make_resnet(sizes: ResNet) -> tuple[Weights, Weights]:
    """Weights and moving statistics."""
    maker, moving = Maker(), Maker()

    def add(path: str, size: int, taken: int, made: int) -> None:
        maker.kernel(f"{path}/kernel", size, size, taken, made)
        maker.scale(path, made)
        moving.zeros(f"{path}/mean", made)
        moving.ones(f"{path}/variance", made)

    add("stem", 7, 3, sizes.filters)
    for path, channels, inner, _ in _places(sizes):
        if path.endswith("block0"):
            add(f"{path}/shortcut", 1, channels, 4 * inner)
        add(f"{path}/narrow", 1, channels, inner)
        add(f"{path}/middle", 3, inner, inner)
        add(f"{path}/wide", 1, inner, 4 * inner)
    maker.dense("head", 4 * sizes.filters * 2 ** (len(sizes.stages) - 1), sizes.classes)
    return maker.weights, moving.weights


def normalize_batch(weights: Weights, state: Weights, new: Weights, path: str, x: jax.Array) -> jax.Array:
    """Normalise over the batch; statistics in float32, in one reading of the input."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, (0, 1, 2))
    variance = jnp.maximum(jnp.mean(jnp.square(wide), (0, 1, 2)) - jnp.square(mean), 0)
    for name, value in (("mean", mean), ("variance", variance)):
        new[f"{path}/{name}"] = 0.9 * state[f"{path}/{name}"] + 0.1 * value
    factor = lax.rsqrt(variance + 1e-5) * weights[f"{path}/gamma"]
    return (wide * factor + (weights[f"{path}/beta"] - mean * factor)).astype(x.dtype)


def resnet(sizes: ResNet, weights: Weights, state: Weights, x: jax.Array, key: jax.Array) -> Any:
    """Logits and new statistics."""
    del key
    new: Weights = {}

    def step(path: str, x: jax.Array, strides: int = 1) -> jax.Array:
        kernel = weights[f"{path}/kernel"]
        around = kernel.shape[0] // 2
        y = convolve(x, kernel, strides, ((around, around), (around, around)))
        return normalize_batch(weights, state, new, path, y)

    x = x.astype(jnp.bfloat16) * jnp.bfloat16(1 / 127.5) - 1
    x = pool(jax.nn.relu(step("stem", x, 2)), 3, 2, padding=1)
    for path, _, _, strides in _places(sizes):
        shortcut = step(f"{path}/shortcut", x, strides) if path.endswith("block0") else x
        y = jax.nn.relu(step(f"{path}/narrow", x))
        y = jax.nn.relu(step(f"{path}/middle", y, strides))
        x = jax.nn.relu(step(f"{path}/wide", y) + shortcut)
    return dense(weights, "head", jnp.mean(x, (1, 2))), new


# -- transformers ------------------------------------------------------------------------------------------------------
def add_block(maker: Maker, path: str, sizes: Vit | Gpt) -> None:
    """The weights of one block."""
    width, heads = sizes.width, sizes.heads
    for name in ("before_attention", "before_dense"):
        maker.scale(f"{path}/{name}", width)
    for name in ("query", "key", "value"):
        maker.kernel(f"{path}/{name}/kernel", width, heads, width // heads, taken=width, made=width)
        maker.zeros(f"{path}/{name}/bias", heads, width // heads)
    maker.kernel(f"{path}/output/kernel", heads, width // heads, width, taken=width, made=width)
    maker.zeros(f"{path}/output/bias", width)
    maker.dense(f"{path}/wide", width, 4 * width)
    maker.dense(f"{path}/narrow", 4 * width, width)


def normalize(weights: Weights, path: str, x: jax.Array, epsilon: float) -> jax.Array:
    """Normalise each place; statistics in float32."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, -1, keepdims=True)
    variance = jnp.maximum(jnp.mean(jnp.square(wide), -1, keepdims=True) - jnp.square(mean), 0)
    factor = lax.rsqrt(variance + epsilon) * weights[f"{path}/gamma"]
    return ((wide - mean) * factor + weights[f"{path}/beta"]).astype(x.dtype)


def attend(weights: Weights, path: str, x: jax.Array, *, causal: bool) -> jax.Array:
    """Attention of a sequence to itself, by cuDNN's kernel where there is a GPU."""

    def project(name: str) -> jax.Array:
        kernel, bias = (weights[f"{path}/{name}/{part}"].astype(x.dtype) for part in ("kernel", "bias"))
        return jnp.einsum("bpw,whs->bphs", x, kernel) + bias

    kernel = "cudnn" if jax.default_backend() == "gpu" else None
    attended = jax.nn.dot_product_attention(
        project("query"), project("key"), project("value"), is_causal=causal, implementation=kernel
    )
    kernel, bias = (weights[f"{path}/output/{part}"].astype(x.dtype) for part in ("kernel", "bias"))
    return jnp.einsum("bphs,hsw->bpw", attended, kernel) + bias


def block(weights: Weights, path: str, x: jax.Array, *, causal: bool, epsilon: float) -> jax.Array:
    """One block: attention, then two dense layers, each added to what it was given."""
    x = x + attend(weights, path, normalize(weights, f"{path}/before_attention", x, epsilon), causal=causal)
    y = dense(weights, f"{path}/wide", normalize(weights, f"{path}/before_dense", x, epsilon))
    return x + dense(weights, f"{path}/narrow", jax.nn.gelu(y, approximate=causal))


def make_vit(sizes: Vit) -> tuple[Weights, Weights]:
    """Weights, and no statistics."""
    maker = Maker()
    maker.kernel("patches/kernel", sizes.patch, sizes.patch, 3, sizes.width)
    maker.zeros("patches/bias", sizes.width)
    maker.zeros("token", 1, 1, sizes.width)
    maker.normal("places", 1, sizes.places, sizes.width)
    for number in range(sizes.depth):
        add_block(maker, f"block{number}", sizes)
    maker.scale("last", sizes.width)
    maker.dense("head", sizes.width, sizes.classes)
    return maker.weights, {}


def vit(sizes: Vit, weights: Weights, state: Weights, x: jax.Array, key: jax.Array) -> Any:
    """Logits and new statistics."""
    del key
    x = x.astype(jnp.bfloat16) * jnp.bfloat16(1 / 127.5) - 1
    x = convolve(x, weights["patches/kernel"], sizes.patch, "VALID") + weights["patches/bias"].astype(x.dtype)
    x = x.reshape(len(x), -1, sizes.width)
    token = jnp.broadcast_to(weights["token"].astype(x.dtype), (len(x), 1, sizes.width))
    x = jnp.concatenate([token, x], axis=1) + weights["places"].astype(x.dtype)
    for number in range(sizes.depth):
        x = block(weights, f"block{number}", x, causal=False, epsilon=1e-6)
    x = normalize(weights, "last", x, 1e-6)
    return dense(weights, "head", x[:, 0]), state


def make_gpt(sizes: Gpt) -> tuple[Weights, Weights]:
    """Weights, and no statistics."""
    maker = Maker()
    maker.normal("words", sizes.words, sizes.width)
    maker.normal("places", sizes.length, sizes.width)
    for number in range(sizes.depth):
        add_block(maker, f"block{number}", sizes)
    maker.scale("last", sizes.width)
    return maker.weights, {}


def gpt(sizes: Gpt, weights: Weights, state: Weights, x: jax.Array, key: jax.Array) -> Any:
    """Logits and new statistics."""
    del key
    words = weights["words"].astype(jnp.bfloat16)
    x = words[x] + weights["places"].astype(jnp.bfloat16)
    for number in range(sizes.depth):
        x = block(weights, f"block{number}", x, causal=True, epsilon=1e-5)
    return normalize(weights, "last", x, 1e-5) @ words.T, state


# -- the step ----------------------------------------------------------------------------------------------------------
MODELS: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = {
    Mnist: (make_mnist, mnist),
    ResNet: (make_resnet, resnet),
    Vit: (make_vit, vit),
    Gpt: (make_gpt, gpt),
}
"""Kind of model -> what draws its weights and its statistics, and its forward pass."""


def transformation(task: Task) -> optax.GradientTransformation:
    """The task's optimizer, from optax."""
    rate = RATES[task.optimizer]
    return {
        "sgd": lambda: optax.sgd(rate, MOMENTUM),
        "adam": lambda: optax.adam(rate, eps=1e-7),
        "adamw": lambda: optax.adamw(rate, eps=1e-7, weight_decay=DECAY),
    }[task.optimizer]()


def cost(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy; logits of half precision are widened first."""
    logits = logits.astype(jnp.float32)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def make_step(task: Task) -> tuple[Any, Callable[..., Any]]:
    """The values that training starts from, and the pure step `(values, batch) -> (values, loss)`."""
    make, forward = MODELS[type(task.model)]
    optimizer = transformation(task)
    weights, state = jax.jit(lambda: make(task.model))()

    def step(values: Any, batch: Any) -> Any:
        weights, state, slots, count = values
        x, y = batch

        def objective(weights: Weights) -> Any:
            key = jax.random.fold_in(jax.random.key(0), count)
            logits, new = forward(task.model, weights, state, x, key)
            return cost(logits, y), new

        (loss, state), gradients = jax.value_and_grad(objective, has_aux=True)(weights)
        updates, slots = optimizer.update(gradients, slots, weights)
        return (optax.apply_updates(weights, updates), state, slots, count + 1), loss

    return (weights, state, jax.jit(optimizer.init)(weights), jnp.int32(0)), step
