"""The models of `benchmarks/build.py` in Flax NNX, made and tabulated abstractly."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.building.sizes import EPSILON, EXPERTS, GPT3, STAGES, Sizes


class Expert(nnx.Module):
    """A pair of layers, wide and narrow."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.wide, self.narrow = (
            nnx.Linear(width, 4 * width, rngs=rngs),
            nnx.Linear(4 * width, width, rngs=rngs),
        )

    def __call__(self, x: Any) -> Any:
        """Widen and narrow."""
        return self.narrow(nnx.gelu(self.wide(x)))


class Mixture(nnx.Module):
    """Experts as modules, each weighed by a gate."""

    def __init__(self, width: int, experts: int, rngs: nnx.Rngs) -> None:
        self.gate = nnx.Linear(width, experts, use_bias=False, rngs=rngs)
        self.experts = nnx.List([Expert(width, rngs) for _ in range(experts)])

    def __call__(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        gates = jnp.split(nnx.softmax(self.gate(x)), len(self.experts), axis=-1)
        return sum(expert(x) * gate for expert, gate in zip(self.experts, gates, strict=True))


class Stacked(nnx.Module):
    """The same experts, their weights in one array each."""

    def __init__(self, width: int, experts: int, rngs: nnx.Rngs) -> None:
        self.gate = nnx.Linear(width, experts, use_bias=False, rngs=rngs)
        draw = nnx.initializers.glorot_uniform()
        self.wide = nnx.Param(draw(rngs.params(), (experts, width, 4 * width)))
        self.wide_bias = nnx.Param(jnp.zeros((experts, 4 * width)))
        self.narrow = nnx.Param(draw(rngs.params(), (experts, 4 * width, width)))
        self.narrow_bias = nnx.Param(jnp.zeros((experts, width)))

    def __call__(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        hidden = nnx.gelu(jnp.einsum("btd,edf->btef", x, self.wide[...]) + self.wide_bias[...])
        made = jnp.einsum("btef,efd->bted", hidden, self.narrow[...]) + self.narrow_bias[...]
        return jnp.einsum("bted,bte->btd", made, nnx.softmax(self.gate(x)))


class Block(nnx.Module):
    """A block of a decoder."""

    def __init__(self, sizes: Sizes, thinks: nnx.Module, rngs: nnx.Rngs) -> None:
        width = sizes.width
        self.before_attention = nnx.LayerNorm(width, rngs=rngs)
        self.before_thinking = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(sizes.heads, width, decode=False, rngs=rngs)
        self.thinks = thinks

    def __call__(self, x: Any) -> Any:
        """Attend, then think, each added to what came in."""
        mask = nnx.make_causal_mask(x[..., 0])
        x = x + self.attention(self.before_attention(x), mask=mask)
        return x + self.thinks(self.before_thinking(x))


class Decoder(nnx.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self, sizes: Sizes, kind: str, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(sizes.words, sizes.width, rngs=rngs)
        self.places = nnx.Embed(sizes.length, sizes.width, rngs=rngs)
        self.blocks = nnx.List([Block(sizes, _thinks(sizes, kind, rngs), rngs) for _ in range(sizes.blocks)])
        self.last = nnx.LayerNorm(sizes.width, rngs=rngs)

    def __call__(self, tokens: Any) -> Any:
        """Logits of the next words."""
        x = self.words(tokens) + self.places(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.words.attend(self.last(x))


def _thinks(sizes: Sizes, kind: str, rngs: nnx.Rngs) -> nnx.Module:
    if not sizes.experts:
        return Expert(sizes.width, rngs)
    return {"stacked": Stacked, "each": Mixture}[kind](sizes.width, sizes.experts, rngs)


class Convolution(nnx.Module):
    """A convolution and its normalisation."""

    def __init__(self, inside: int, outside: int, size: int, strides: int, rngs: nnx.Rngs) -> None:
        padding: Any = "SAME" if size == 3 else ((size // 2,) * 2,) * 2
        self.convolve = nnx.Conv(inside, outside, (size, size), strides=strides, padding=padding, rngs=rngs)
        self.normalise = nnx.BatchNorm(outside, epsilon=EPSILON, use_running_average=True, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Convolve and normalise."""
        return self.normalise(self.convolve(x))


class Bottleneck(nnx.Module):
    """Narrow, convolve, widen, and add the input, itself convolved where the shape changes."""

    def __init__(self, inside: int, filters: int, strides: int, widens: bool, rngs: nnx.Rngs) -> None:
        self.shortcut = Convolution(inside, 4 * filters, 1, strides, rngs) if widens else None
        self.narrow = Convolution(inside, filters, 1, strides, rngs)
        self.convolve = Convolution(filters, filters, 3, 1, rngs)
        self.widen = Convolution(filters, 4 * filters, 1, 1, rngs)

    def __call__(self, x: Any) -> Any:
        """Add what is computed to what came in."""
        y = self.widen(nnx.relu(self.convolve(nnx.relu(self.narrow(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nnx.Module):
    """ResNet-50 with the biases that Keras gives its convolutions."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = Convolution(3, 64, 7, 2, rngs)
        blocks, inside = [], 64
        for stage, (count, filters) in enumerate(STAGES):
            for block in range(count):
                strides = 2 if block == 0 and stage > 0 else 1
                blocks.append(Bottleneck(inside, filters, strides, block == 0, rngs))
                inside = 4 * filters
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inside, 1000, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Probabilities of the classes."""
        x = nnx.max_pool(nnx.relu(self.first(x)), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return nnx.softmax(self.head(x.mean((1, 2))))


def around(function: Callable[[], Any]) -> None:
    """Run a function abstractly, as `nnx.eval_shape` does: arrays have shapes and no values."""
    jax.eval_shape(lambda: (function(), 0)[1])


def _made(sizes: Sizes, kind: str = "") -> Any:
    return Decoder(sizes, kind, nnx.Rngs(0)), jnp.zeros((1, sizes.length), jnp.int32)


def resnet50() -> Any:
    """ResNet-50."""
    return ResNet50(nnx.Rngs(0)), jnp.zeros((1, 224, 224, 3))


def gpt3() -> Any:
    """GPT-3's shape."""
    return _made(GPT3)


def stacked_experts() -> Any:
    """A trillion parameters in stacked experts."""
    return _made(EXPERTS, "stacked")


def single_experts() -> Any:
    """A trillion parameters in experts that are modules."""
    return _made(EXPERTS, "each")


def account(made: Any) -> tuple[int, str]:
    """Parameters that learn, and the table."""
    model, given = made
    text = nnx.tabulate(model, given, console_kwargs={"width": 160, "force_terminal": False})
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))), text
