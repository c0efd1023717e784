"""What `predict` makes of a convnet beside the same model as its layers say it: milliseconds for a batch.

Run it as `python -m benchmarks.cutting [--rounds N] [--json FILE]`. Three forms run in turns, compiled: as `predict`
computes it; without parts of a batch; and also without making one operation of a convolution and what follows it.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import tally
from benchmarks.race.contestants.with_fit import MODELS
from benchmarks.race.workloads import WORKLOADS
from tally.kernels.finishing import with_finished_convolutions
from tally.training.cutting import compute_in_parts, part_of

TURN = 5
"""Batches in a turn."""


def contest(name: str) -> tuple[np.ndarray, int | None, dict[str, Callable[[Any], Any]]]:
    """A batch, how many examples a part of it has, and the three ways to predict on it."""
    workload = WORKLOADS[name]
    model, x = MODELS[name](tally), workload.data()[0][: workload.batch]
    model.materialize()
    values = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    parts: list[int | None] = []

    def by_layers(x: Any) -> Any:
        return model.stateless_call(values, others, x, training=False)[0]

    def in_parts(x: Any) -> Any:
        parts.append(part_of(model, x))
        return by_layers(x) if parts[0] is None else compute_in_parts(by_layers, x, parts[0])

    ways = {
        "predict": jax.jit(with_finished_convolutions(in_parts)),
        "whole": jax.jit(with_finished_convolutions(by_layers)),
        "by layers": jax.jit(by_layers),
    }
    found = [np.asarray(way(x)) for way in ways.values()]
    difference = max(float(abs(one - found[-1]).max()) for one in found)
    assert difference < 1e-4, difference
    return x, parts[0], ways


def measure(rounds: int) -> list[dict[str, Any]]:
    """One flat record for each model.

    Args:
        rounds: Turns of each form.
    """
    records = []
    for name in ("mnist", "cifar", "separable", "mobilenet"):
        x, part, ways = contest(name)
        wall, cpu = ({way: list[float]() for way in ways} for _ in range(2))
        shuffler = random.Random(0)
        for _ in range(rounds):
            for way in shuffler.sample(list(ways), len(ways)):
                began, spent = time.perf_counter(), time.process_time()
                for _ in range(TURN):
                    np.asarray(ways[way](x))
                wall[way].append((time.perf_counter() - began) / TURN)
                cpu[way].append((time.process_time() - spent) / TURN)
        ratios = [b / a for a, b in zip(wall["predict"], wall["by layers"], strict=True)]
        records.append(
            {
                **{"model": name, "batch": len(x), "part": part},
                **{f"{way}_ms": 1e3 * statistics.median(wall[way]) for way in ways},
                **{f"{way}_cpu_ms": 1e3 * statistics.median(cpu[way]) for way in ways},
                "times_faster": statistics.median(ratios),
            }
        )
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with `--json` write the records, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    records = measure(options.rounds)
    print(
        f"{'ms, and of the processor':26}{'part':>6}{'predict':>16}{'whole':>16}{'by layers':>16}{'faster':>9}"
    )
    for one in records:
        times = (
            f"{one[f'{way}_ms']:8.1f} {one[f'{way}_cpu_ms']:5.1f}"
            for way in ("predict", "whole", "by layers")
        )
        label = f"{one['model']}, batch of {one['batch']}"
        print(
            f"{label:26}{one['part'] or '':>6}",
            *(f"{text:>15}" for text in times),
            f"{one['times_faster']:>7.2f}×",
        )
    if options.json:
        options.json.write_text(json.dumps(records))


if __name__ == "__main__":
    main()
