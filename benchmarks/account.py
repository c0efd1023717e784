"""Prints what an account costs: seconds for ResNet-50 and for a decoder of a trillion parameters, and peak memory.

Run it as `python -m benchmarks.account [--json FILE]`. Each model is measured in a process of its own; seconds are the
least of five repeats, after import and building.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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


def measure(name: str) -> dict[str, Any]:
    """Make one model and account for it.

    Returns:
        A record: the model, its parameters, seconds to build, to account and to write a summary, peak memory in bytes.
    """
    began = time.perf_counter()
    model = {"resnet50": resnet50, "decoder": decoder}[name]()
    built = time.perf_counter() - began
    accounted = min(seconds(tally.account, model) for _ in range(REPEATS))
    summarised = min(seconds(model.summary, print_fn=lambda _: None) for _ in range(REPEATS))
    return {
        **{"model": name, "parameters": model.account().total, "build_seconds": built},
        **{"account_seconds": accounted, "summary_seconds": summarised},
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def seconds(function, *args, **kwargs) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - began


def main() -> None:
    """Print a row for each model, and keep the records if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the records")
    parser.add_argument(
        "--only", choices=("resnet50", "decoder"), help="print one record, measured in this process"
    )
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only)))
        return
    print(
        f"{'model':<10}{'parameters':>20}{'build s':>9}{'account s':>10}{'summary s':>10}{'peak MB':>9}",
        flush=True,
    )
    records = []
    for name in ("resnet50", "decoder"):
        command = [sys.executable, __file__, "--only", name]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        records.append(record := json.loads(told.splitlines()[-1]))
        _, parameters, built, accounted, summarised, memory = record.values()
        print(
            f"{name:<10}{parameters:>20,}{built:>9.2f}{accounted:>10.3f}{summarised:>10.3f}{memory / 1e6:>9,.0f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
