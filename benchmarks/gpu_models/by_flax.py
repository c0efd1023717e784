"""The models as Flax NNX modules."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.gpu_models.sizes import Gpt, Mnist, ResNet, Task, Vit

BFLOAT = {"dtype": jnp.bfloat16, "param_dtype": jnp.float32}
GLOROT = {"kernel_init": nnx.initializers.glorot_uniform()}
NORMAL = nnx.initializers.normal(0.02)


def make_model(task: Task) -> Any:
    """The model of a task."""
    kinds = {Mnist: Digits, ResNet: Residual, Vit: Vision, Gpt: Language}
    return kinds[type(task.model)](task.model, nnx.Rngs(0))


class Digits(nnx.Module):
    """The convolutional network for digits."""

    def __init__(self, sizes: Mnist, rngs: nnx.Rngs) -> None:
        one, two = sizes.filters
        side = ((sizes.side - 2) // 2 - 2) // 2
        self.first = nnx.Conv(1, one, (3, 3), padding="VALID", rngs=rngs, **GLOROT)
        self.second = nnx.Conv(one, two, (3, 3), padding="VALID", rngs=rngs, **GLOROT)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(side**2 * two, sizes.classes, rngs=rngs, **GLOROT)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = x.astype(jnp.float32) / 255
        for convolution in (self.first, self.second):
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), strides=(2, 2))
        return self.head(self.dropout(x.reshape(len(x), -1)))


class Convolution(nnx.Module):
    """A convolution and its normalisation."""

    def __init__(self, taken: int, made: int, size: int, strides: int, rngs: nnx.Rngs) -> None:
        around = [(size // 2, size // 2)] * 2
        self.convolution = nnx.Conv(
            *(taken, made, (size, size), (strides, strides)),
            padding=around,
            use_bias=False,
            rngs=rngs,
            **BFLOAT,
            **GLOROT,
        )
        self.normalization = nnx.BatchNorm(made, momentum=0.9, epsilon=1e-5, rngs=rngs, **BFLOAT)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The normalised result."""
        return self.normalization(self.convolution(x))


class Bottleneck(nnx.Module):
    """Narrow, convolve, widen, and add the input, itself convolved where the shape changes."""

    def __init__(self, channels: int, inner: int, strides: int, *, first: bool, rngs: nnx.Rngs) -> None:
        self.shortcut = Convolution(channels, 4 * inner, 1, strides, rngs) if first else None
        self.narrow = Convolution(channels, inner, 1, 1, rngs)
        self.middle = Convolution(inner, inner, 3, strides, rngs)
        self.wide = Convolution(inner, 4 * inner, 1, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The sum."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return nnx.relu(self.wide(nnx.relu(self.middle(nnx.relu(self.narrow(x))))) + shortcut)


class Residual(nnx.Module):
    """ResNet."""

    def __init__(self, sizes: ResNet, rngs: nnx.Rngs) -> None:
        channels, blocks = sizes.filters, []
        self.stem = Convolution(3, channels, 7, 2, rngs)
        for stage, count in enumerate(sizes.stages):
            inner = sizes.filters * 2**stage
            for number in range(count):
                strides = 2 if stage and not number else 1
                blocks.append(Bottleneck(channels, inner, strides, first=number == 0, rngs=rngs))
                channels = 4 * inner
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(channels, sizes.classes, rngs=rngs, **BFLOAT, **GLOROT)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = nnx.relu(self.stem(x.astype(jnp.bfloat16) * jnp.bfloat16(1 / 127.5) - 1))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, (1, 2)))


class Block(nnx.Module):
    """A transformer's block."""

    def __init__(self, sizes: Vit | Gpt, epsilon: float, rngs: nnx.Rngs) -> None:
        width, self.causal = sizes.width, isinstance(sizes, Gpt)
        self.before_attention = nnx.LayerNorm(width, epsilon=epsilon, rngs=rngs, **BFLOAT)
        self.attention = nnx.MultiHeadAttention(
            sizes.heads, width, decode=False, attention_fn=self._attend, rngs=rngs, **BFLOAT, **GLOROT
        )
        self.before_dense = nnx.LayerNorm(width, epsilon=epsilon, rngs=rngs, **BFLOAT)
        self.wide = nnx.Linear(width, 4 * width, rngs=rngs, **BFLOAT, **GLOROT)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs, **BFLOAT, **GLOROT)

    def _attend(self, query: jax.Array, key: jax.Array, value: jax.Array, **options: Any) -> jax.Array:
        """JAX's own attention, which knows cuDNN's kernel, in the place of Flax's."""
        del options
        kernel = "cudnn" if jax.default_backend() == "gpu" else None
        return jax.nn.dot_product_attention(query, key, value, is_causal=self.causal, implementation=kernel)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Attention and two dense layers, each added to what it was given."""
        x = x + self.attention(self.before_attention(x))
        return x + self.narrow(nnx.gelu(self.wide(self.before_dense(x)), approximate=self.causal))


class Vision(nnx.Module):
    """A vision transformer."""

    def __init__(self, sizes: Vit, rngs: nnx.Rngs) -> None:
        patch, width = (sizes.patch, sizes.patch), sizes.width
        self.patches = nnx.Conv(3, width, patch, patch, padding="VALID", rngs=rngs, **BFLOAT, **GLOROT)
        self.token = nnx.Param(jnp.zeros((1, 1, width)))
        self.places = nnx.Param(NORMAL(rngs.params(), (1, sizes.places, width)))
        self.blocks = nnx.List([Block(sizes, 1e-6, rngs) for _ in range(sizes.depth)])
        self.last = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs, **BFLOAT)
        self.head = nnx.Linear(width, sizes.classes, rngs=rngs, **BFLOAT, **GLOROT)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = self.patches(x.astype(jnp.bfloat16) * jnp.bfloat16(1 / 127.5) - 1)
        x = x.reshape(len(x), -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.places[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x)[:, 0])


class Language(nnx.Module):
    """GPT-2."""

    def __init__(self, sizes: Gpt, rngs: nnx.Rngs) -> None:
        width = sizes.width
        self.words = nnx.Embed(sizes.words, width, embedding_init=NORMAL, rngs=rngs, **BFLOAT)
        self.places = nnx.Embed(sizes.length, width, embedding_init=NORMAL, rngs=rngs, **BFLOAT)
        self.blocks = nnx.List([Block(sizes, 1e-5, rngs) for _ in range(sizes.depth)])
        self.last = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs, **BFLOAT)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = self.words(x) + self.places(jnp.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.words.attend(self.last(x))
