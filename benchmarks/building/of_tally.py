"""The models of `benchmarks/build.py` in tally."""

from typing import Any

import tally
from benchmarks.building.sizes import EXPERTS, GPT3, Sizes
from tally import applications, layers, ops
from tally.models.verbs.summary import (
    summary,
)  # rooms load on first use, and the peers load all of theirs at once
from tally.report import plain


class Expert(layers.Layer):
    """A pair of layers, wide and narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)

    def call(self, x: Any) -> Any:
        """Widen and narrow."""
        return self.narrow(self.wide(x))


class Mixture(layers.Layer):
    """Experts as layers, each weighed by a gate."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.gate = layers.Dense(experts, activation="softmax", use_bias=False)
        self.experts = [Expert(width) for _ in range(experts)]

    def call(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        gates = ops.split(self.gate(x), len(self.experts), axis=-1)
        return sum(expert(x) * gate for expert, gate in zip(self.experts, gates, strict=True))


class Stacked(layers.Layer):
    """The same experts, their weights in one array each."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.width, self.experts = width, experts
        self.gate = layers.Dense(experts, activation="softmax", use_bias=False)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        experts, width = self.experts, self.width
        self.wide = self.add_weight(name="wide", shape=(experts, width, 4 * width))
        self.wide_bias = self.add_weight(name="wide_bias", shape=(experts, 4 * width), initializer="zeros")
        self.narrow = self.add_weight(name="narrow", shape=(experts, 4 * width, width))
        self.narrow_bias = self.add_weight(name="narrow_bias", shape=(experts, width), initializer="zeros")

    def call(self, x: Any) -> Any:
        """The weighed sum of what the experts say."""
        hidden = ops.gelu(ops.einsum("btd,edf->btef", x, self.wide) + self.wide_bias)
        made = ops.einsum("btef,efd->bted", hidden, self.narrow) + self.narrow_bias
        return ops.einsum("bted,bte->btd", made, self.gate(x))


class Block(layers.Layer):
    """A block of a decoder."""

    def __init__(self, sizes: Sizes, thinks: layers.Layer) -> None:
        super().__init__()
        self.before_attention, self.before_thinking = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(sizes.heads, sizes.width // sizes.heads)
        self.thinks = thinks

    def call(self, x: Any) -> Any:
        """Attend, then think, each added to what came in."""
        y = self.before_attention(x)
        x = x + self.attention(y, y, use_causal_mask=True)
        return x + self.thinks(self.before_thinking(x))


class Decoder(tally.Model):
    """A language model whose output layer is its embedding."""

    def __init__(self, sizes: Sizes, kind: str = "") -> None:
        super().__init__()
        self.words, self.places = (
            layers.Embedding(sizes.words, sizes.width),
            layers.Embedding(sizes.length, sizes.width),
        )
        self.blocks = [Block(sizes, _thinks(sizes, kind)) for _ in range(sizes.blocks)]
        self.last = layers.LayerNormalization()

    def call(self, tokens: Any) -> Any:
        """Logits of the next words."""
        x = self.words(tokens) + self.places(ops.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return ops.matmul(self.last(x), ops.transpose(self.words.embeddings))


def _thinks(sizes: Sizes, kind: str) -> layers.Layer:
    if not sizes.experts:
        return Expert(sizes.width)
    return {"stacked": Stacked, "each": Mixture}[kind](sizes.width, sizes.experts)


def _built(sizes: Sizes, kind: str = "") -> tally.Model:
    model = Decoder(sizes, kind)
    model(tally.Input((sizes.length,), dtype="int32"))
    return model


def resnet50() -> Any:
    """ResNet-50 of the library itself."""
    return applications.ResNet50(weights=None)


def gpt3() -> Any:
    """GPT-3's shape."""
    return _built(GPT3)


def stacked_experts() -> Any:
    """A trillion parameters in stacked experts."""
    return _built(EXPERTS, "stacked")


def single_experts() -> Any:
    """A trillion parameters in experts that are layers."""
    return _built(EXPERTS, "each")


def account(model: Any) -> tuple[int, str]:
    """Parameters that learn, and the text of the summary."""
    made = summary(model, print_fn=lambda text: None)
    return made.ledger.trainable, plain.render(made.document, 100)
