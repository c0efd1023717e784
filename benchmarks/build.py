"""What building and accounting for large models costs beside the peers: seconds, peak memory, and parameters found.

`python -m benchmarks.build [MODEL ...] [--only CONTESTANT ...] [--rounds N] [--json FILE]`. Each contestant makes each
model in a process of its own, in turns. Building ends with every weight's shape known; the account with the text of a
summary. Seconds are the processor's, the least of all rounds; ratios are over tally's. No model but ResNet-50 fits into
the memory of a usual machine, so a contestant that draws the weights is stopped at a limit.
"""

import argparse
import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MODELS = ("resnet50", "gpt3", "stacked_experts", "single_experts")
CONTESTANTS = {
    "tally": "of_tally",
    "keras": "of_keras",
    "keras-abstract": "of_keras_abstract",
    "flax": "of_flax",
    "torchinfo": "of_torchinfo",
    "torch-meta": "of_torch",
}
"""Name -> the module of its models."""

NOTES = {
    "keras-abstract": "inside keras.StatelessScope, where weights have shapes and are not drawn",
    "flax": "nnx.tabulate under jax.eval_shape",
    "torchinfo": "on the device meta",
    "torch-meta": "PyTorch alone, on the device meta: the text is its repr, without the shapes of outputs",
}
LIMIT = 8 << 30
"""Bytes of memory that a contestant may take."""
PATIENCE = 120
"""Seconds of the processor after which a contestant is stopped; by the clock, five times as many."""
LONG = 20
"""Seconds of the processor above which once is enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table for each model, and keep the records if asked.

    Returns:
        1 if two contestants found different numbers of parameters, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all unless given"
    )
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="CONTESTANT"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the records")
    options = parser.parse_args(arguments)
    records: list[dict[str, Any]] = []
    for model in options.models or MODELS:
        found = race(model, options.only, options.rounds)
        print_table(model, found)
        records += found
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if all(record["agrees"] for record in records) else 1


def race(model: str, contestants: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """The best of some rounds of each contestant, as flat records.

    Args:
        model: Name of the model.
        contestants: Names of the contestants.
        rounds: How often each is measured, in turns; one that fails or takes long is not tried again.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, made in runs.items():
            if not made or (made[-1]["failed"] is None and made[-1]["total_s"] < LONG):
                made.append(_measure(name, model))
    records = [_best(name, model, made) for name, made in runs.items()]
    counts = [record["parameters"] for record in records if record["failed"] is None]
    for record in records:
        record["agrees"] = record["failed"] is not None or record["parameters"] == counts[0]
    return records


def _best(name: str, model: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of all rounds: the least seconds and memory of those that went well, or the failure."""
    record = {"benchmark": "build", "model": model, "contestant": name, "rounds": len(runs), **runs[-1]}
    if record["failed"] is None:
        for what in ("build_s", "account_s", "total_s", "wall_s", "import_s", "peak_bytes"):
            record[what] = min(run[what] for run in runs)
    return record


def _measure(name: str, model: str) -> dict[str, Any]:
    """What a process of its own says of one contestant and one model."""
    command = [sys.executable, "-m", "benchmarks.build", "--child", name, model]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=5 * PATIENCE, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return _failure(f"not done in {5 * PATIENCE} s")
    if done.returncode == -signal.SIGXCPU:
        return _failure(f"not done in {PATIENCE} s of the processor")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        said = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return _failure(said[-1][:200] if said else f"ended with {done.returncode}")
    return json.loads(lines[-1])


def _failure(why: str) -> dict[str, Any]:
    return {
        "failed": why,
        "parameters": None,
        "build_s": None,
        "account_s": None,
        "total_s": None,
        "peak_bytes": None,
    }


def serve(name: str, model: str) -> None:
    """Be one contestant: make one model, account for it, and print what it took as a line of JSON."""
    began = time.process_time()
    module: Any = importlib.import_module(f"benchmarks.building.{CONTESTANTS[name]}")
    imported = time.process_time() - began
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 5))

    def measure() -> None:
        print(json.dumps({"import_s": imported, **_timed(module, model)}), flush=True)

    around: Callable[[Callable[[], None]], None] = getattr(module, "around", lambda function: function())
    around(measure)


def _timed(module: Any, model: str) -> dict[str, Any]:
    wall, began = time.perf_counter(), time.process_time()
    made = getattr(module, model)()
    built = time.process_time()
    parameters, text = module.account(made)
    done = time.process_time()
    wall = time.perf_counter() - wall
    record = {
        "failed": None,
        "parameters": parameters,
        "build_s": built - began,
        "account_s": done - built,
        "total_s": done - began,
        "wall_s": wall,
        "characters": len(text),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    try:
        getattr(module, "check", lambda made: None)(made)
    except Exception as error:
        record["failed"] = f"its weights could not be drawn: {str(error).splitlines()[0][:120]}"
    return record


def print_table(model: str, records: list[dict[str, Any]]) -> None:
    """Print what each contestant took for one model, and ratios over the first."""
    found = {record["parameters"] for record in records if record["parameters"]}
    print(f"\n{model}: {' or '.join(f'{count:,}' for count in sorted(found))} parameters that learn")
    print(f"{'':<16}{'build s':>10}{'account s':>11}{'both s':>9}{'ratio':>8}{'peak MB':>10}")
    ours = records[0]["total_s"]
    for record in records:
        if record["failed"] is not None:
            print(f"{record['contestant']:<16}  failed: {record['failed']}")
            continue
        ratio = f"{record['total_s'] / ours:.1f}" if ours else ""
        print(
            f"{record['contestant']:<16}{record['build_s']:>10.2f}{record['account_s']:>11.2f}"
            f"{record['total_s']:>9.2f}{ratio:>8}{record['peak_bytes'] / 1e6:>10,.0f}"
            f"{'' if record['agrees'] else '  finds ' + format(record['parameters'], ',')}"
        )
    for record in records:
        if record["contestant"] in NOTES:
            print(f"  {record['contestant']}: {NOTES[record['contestant']]}")


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(*sys.argv[sys.argv.index("--child") + 1 :])
    else:
        sys.exit(main())
