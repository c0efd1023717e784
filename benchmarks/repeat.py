"""What depth costs: time to trace and compile a train step, and its memory, of blocks written out and of one loop.

Run it as `python -m benchmarks.repeat [--depths 1 2 4 ...] [--only NAME ...] [--json FILE]`. The step is that of a
small transformer with Adam. Tracing and compiling are CPU seconds of this process, a step is the least of a few turns.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import tally
from tally import layers

WIDTH, HEADS, STEPS, WORDS, BATCH = 64, 4, 32, 100, 8
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
TURNS = 10


class Contest(NamedTuple):
    """A train step that is ready to be traced.

    Args:
        step: Of the values and a batch of words; gives the new values.
        values: What it changes: weights and the optimizer's averages.
    """

    step: Callable[..., Any]
    values: Any


def block() -> tally.Model:
    """One block of a transformer, as a model of its own."""
    inputs = x = tally.Input((STEPS, WIDTH))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y, use_causal_mask=True)])
    y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
    return tally.Model(inputs, layers.Add()([x, layers.Dropout(0.1)(layers.Dense(WIDTH)(y))]))


def language_model(*blocks: Any) -> tally.Model:
    """Words in, the next word out."""
    parts = [layers.Embedding(WORDS, WIDTH), *blocks, layers.LayerNormalization(), layers.Dense(WORDS)]
    return tally.Sequential([tally.Input((STEPS,), dtype="int32"), *parts])


def of_model(model: tally.Model) -> Contest:
    """The train step of a model of tally."""
    optimizer = tally.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    model.materialize()
    tally.core.variable.materialize(optimizer.variables)

    def step(values: Any, words: jax.Array) -> Any:
        weights, state, slots = values

        def weigh(weights: Any) -> Any:
            logits, new = model.stateless_call(weights, state, words, training=True)
            return cross_entropy(logits, words), new

        gradients, state = jax.grad(weigh, has_aux=True)(weights)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return weights, state, slots

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    return Contest(step, tuple([variable.raw for variable in group] for group in groups))


def written_out(depth: int) -> Contest:
    """The blocks one after another, as Keras users write them."""
    return of_model(language_model(*(block() for _ in range(depth))))


def repeated(depth: int) -> Contest:
    """The blocks as one layer."""
    return of_model(language_model(layers.Repeat(block, depth)))


def rematerialised(depth: int) -> Contest:
    """The same, with the inside of each block computed again in the backward pass."""
    return of_model(language_model(layers.Repeat(block, depth, remat=True)))


def stacked_each_step(depth: int) -> Contest:
    """The same loop, but over arrays that each block holds by itself and that every step stacks anew."""
    whole = of_model(language_model(layers.Repeat(block, depth)))
    optimizer = tally.optimizers.Adam(1e-3)
    model = language_model(layers.Repeat(block, depth))
    is_stacked = [
        variable.shape[:1] == (depth,) and bool(variable.lead) for variable in model.trainable_variables
    ]
    weights, state, _ = whole.values
    apart = [list(w) if stacked else [w] for w, stacked in zip(weights, is_stacked, strict=True)]
    flat = [tally.Variable(array) for group in apart for array in group]
    optimizer.build(flat)
    tally.core.variable.materialize(optimizer.variables)
    structure = jax.tree.structure(apart)

    def step(values: Any, words: jax.Array) -> Any:
        arrays, state, slots = values

        def weigh(arrays: Any) -> Any:
            groups = jax.tree.unflatten(structure, arrays)
            joined = [jnp.stack(g) if s else g[0] for g, s in zip(groups, is_stacked, strict=True)]
            logits, new = model.stateless_call(joined, state, words, training=True)
            return cross_entropy(logits, words), new

        gradients, state = jax.grad(weigh, has_aux=True)(arrays)
        arrays, slots = optimizer.stateless_apply(slots, gradients, arrays)
        return arrays, state, slots

    return Contest(step, ([v.raw for v in flat], state, [v.raw for v in optimizer.variables]))


def cross_entropy(logits: jax.Array, words: jax.Array) -> jax.Array:
    """The mean surprise at the words."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), words[..., None], -1))


def of_flax(depth: int) -> Contest:
    """Flax NNX as its guide to scan over layers has it, with optax."""
    import optax
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first, self.second = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            self.up, self.down = (
                nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs),
                nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs),
            )
            self.dropout = nnx.Dropout(0.1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            y = self.first(x)
            x = x + self.attention(y, mask=nnx.make_causal_mask(x[..., 0]))
            return x + self.dropout(self.down(nnx.gelu(self.up(self.second(x)))))

    class Network(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            @nnx.split_rngs(splits=depth)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def make(rngs: Any) -> Any:
                return Block(rngs)

            self.words, self.blocks = nnx.Embed(WORDS, WIDTH, rngs=rngs), make(rngs)
            self.norm, self.head = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, WORDS, rngs=rngs)

        def __call__(self, words: jax.Array) -> jax.Array:
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def run(x: Any, one: Any) -> Any:
                return one(x)

            return self.head(self.norm(run(self.words(words), self.blocks)))

    graph, weights, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
    rule = optax.adam(1e-3)

    def step(values: Any, words: jax.Array) -> Any:
        weights, rest, slots = values

        def weigh(weights: Any) -> Any:
            network = nnx.merge(graph, weights, rest, copy=True)
            loss = cross_entropy(network(words), words)
            return loss, nnx.split(network, nnx.Param, ...)[2]

        gradients, rest = jax.grad(weigh, has_aux=True)(weights)
        moves, slots = rule.update(gradients, slots, weights)
        return optax.apply_updates(weights, moves), rest, slots

    return Contest(step, (weights, rest, rule.init(weights)))


CONTESTANTS: dict[str, Callable[[int], Contest]] = {
    "written out": written_out,
    "Repeat": repeated,
    "Repeat, remat": rematerialised,
    "stacked each step": stacked_each_step,
    "flax nnx.scan": of_flax,
}


SELDOM = ("Repeat, remat", "stacked each step", "flax nnx.scan")
"""Measured at every third depth, the largest among them, for the sake of time, unless asked for by name."""
LONG = 16
"""From here on it takes minutes to compile a step that stacks its weights: left out unless asked for by name."""


def measure(name: str, depth: int) -> dict[str, Any]:
    """Trace, compile and run a step.

    Returns:
        A record: `blocks`, `how`, CPU seconds to `build`, `trace` and `compile`, the `step` in milliseconds, and the
        bytes it needs beside its arguments (`temporary`) and in all (`peak`), as the compiler says.
    """
    words = jnp.asarray(np.random.default_rng(0).integers(0, WORDS, (BATCH, STEPS)), "int32")
    gc.collect()
    contest, built = _timed(lambda: CONTESTANTS[name](depth))
    lowered, traced = _timed(lambda: jax.jit(contest.step, donate_argnums=0).lower(contest.values, words))
    compiled, spent = _timed(lowered.compile)
    memory: Any = compiled.memory_analysis()
    own = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "blocks": depth,
        "how": name,
        "build_seconds": round(built, 2),
        "trace_seconds": round(traced, 2),
        "compile_seconds": round(spent, 2),
        "step_milliseconds": round(min(_turns(compiled, contest.values, words)) * 1e3, 1),
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": own + memory.temp_size_in_bytes,
    }


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return run(), time.process_time() - began


def _turns(step: Any, values: Any, words: jax.Array) -> Iterator[float]:
    for _ in range(TURNS):
        began = time.perf_counter()
        values = jax.block_until_ready(step(values, words))
        yield time.perf_counter() - began


def _usual(left: int, depth: int) -> list[str]:
    """Who is measured at a depth, given how many depths come after it."""
    found = [name for name in CONTESTANTS if (left % 3 == 0 and depth > 1) or name not in SELDOM]
    return [name for name in found if depth <= LONG or name != "stacked each step"]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeat", description=__doc__)
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS, metavar="BLOCKS")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here, too")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_compilation_cache", False)  # what was compiled before would look free
    heads = ("blocks", "how", "build s", "trace s", "compile s", "step ms", "temporary MB", "peak MB")
    print("{:>6}  {:<18} {:>8} {:>8} {:>10} {:>8} {:>13} {:>8}".format(*heads))
    records = []
    for left, depth in zip(reversed(range(len(options.depths))), options.depths, strict=True):
        for name in options.only or _usual(left, depth):
            record = measure(name, depth)
            records.append(record)
            *first, temporary, peak = record.values()
            line = "{:>6}  {:<18} {:>8} {:>8} {:>10} {:>8} {:>13.1f} {:>8.1f}"
            print(line.format(*first, temporary / 1e6, peak / 1e6), flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
