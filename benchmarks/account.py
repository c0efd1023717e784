"""Prints what an account costs: seconds for ResNet-50 and for a decoder of a trillion parameters, and peak memory.

Each model is measured in a process of its own; seconds are the least of five repeats, after import and building.
"""

import resource
import subprocess
import sys
import time

import tally
from tally import layers

REPEATS = 5


class Block(layers.Layer):
    """One block of a decoder, as a user writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_dense = layers.LayerNormalization(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.wide, self.narrow = layers.Dense(4 * width, activation="gelu"), layers.Dense(width)

    def call(self, x):  # noqa: D102
        y = self.before_attention(x)
        x = x + self.attention(y, y, use_causal_mask=True)
        return x + self.narrow(self.wide(self.before_dense(x)))


class Decoder(tally.Model):
    """A language model of many blocks."""

    def __init__(self, words: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.embedding = layers.Embedding(words, width)
        self.blocks = [Block(width, heads) for _ in range(blocks)]
        self.head = layers.Dense(words, use_bias=False)

    def call(self, tokens):  # noqa: D102
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def resnet50() -> tally.Model:
    """ResNet-50 without weights."""
    return tally.applications.ResNet50(weights=None)


def decoder() -> tally.Model:
    """A decoder of 200 blocks and a trillion parameters, built for sequences of 2,048 tokens."""
    model = Decoder(words=50_000, width=20_480, heads=160, blocks=200)
    model(tally.Input((2048,), dtype="int32"))
    return model


def measure(name: str) -> None:
    """Print one row of the table."""
    began = time.perf_counter()
    model = {"resnet50": resnet50, "decoder": decoder}[name]()
    built = time.perf_counter() - began
    accounted = min(seconds(tally.account, model) for _ in range(REPEATS))
    summarised = min(seconds(model.summary, print_fn=lambda _: None) for _ in range(REPEATS))
    total, memory = model.account().total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<10}{total:>20,}{built:>9.2f}{accounted:>10.3f}{summarised:>10.3f}{memory:>9,.0f}")


def seconds(function, *args, **kwargs) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - began


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        print(
            f"{'model':<10}{'parameters':>20}{'build s':>9}{'account s':>10}{'summary s':>10}{'peak MB':>9}",
            flush=True,
        )
        for one in ("resnet50", "decoder"):
            subprocess.run([sys.executable, __file__, one], check=True)
