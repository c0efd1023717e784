"""Prediction in parts of a batch beside that of the whole: milliseconds for blocks of depthwise convolutions.

Run it as `python -m benchmarks.cutting [--rounds N] [--json FILE]`. Both run in turns, compiled; medians of all rounds.
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
    """A batch, how many examples a part of it has, and the two ways to predict on it."""
    workload = WORKLOADS[name]
    model, x = MODELS[name](tally), workload.data()[0][: workload.batch]
    model.materialize()
    values = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    parts: list[int | None] = []

    def whole(x: Any) -> Any:
        return model.stateless_call(values, others, x, training=False)[0]

    def in_parts(x: Any) -> Any:
        parts.append(part_of(model, x))
        return whole(x) if parts[0] is None else compute_in_parts(whole, x, parts[0])

    ways = {
        name: jax.jit(with_finished_convolutions(way))
        for name, way in (("in parts", in_parts), ("whole", whole))
    }
    difference = float(abs(np.subtract(*(way(x) for way in ways.values()))).max())
    assert difference < 1e-4, difference
    return x, parts[0], ways


def measure(rounds: int) -> list[dict[str, Any]]:
    """One flat record for each block.

    Args:
        rounds: Turns of each.
    """
    records = []
    for name in ("separable", "mobilenet"):
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
        ratios = [b / a for a, b in zip(wall["in parts"], wall["whole"], strict=True)]
        records.append(
            {
                **{"block": name, "batch": len(x), "part": part},
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
    print(f"{'':12}{'batch':>6}{'part':>6}{'in parts':>12}{'whole':>12}{'faster':>9}{'CPU':>12}{'whole':>12}")
    for one in records:
        print(
            f"{one['block']:12}{one['batch']:>6}{one['part'] or '':>6}{one['in parts_ms']:>9.1f} ms"
            f"{one['whole_ms']:>9.1f} ms{one['times_faster']:>8.2f}×{one['in parts_cpu_ms']:>9.1f} ms"
            f"{one['whole_cpu_ms']:>9.1f} ms"
        )
    if options.json:
        options.json.write_text(json.dumps(records))


if __name__ == "__main__":
    main()
