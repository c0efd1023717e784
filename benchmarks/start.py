"""Prints what a program waits for: imports, commands, the first training step, and the weights of a large model.

`python -m benchmarks.start` runs each program several times in processes of its own, in turns, and prints the least CPU
time, the median, and the least wall time. Bytecode is compiled before, as after an installation. What a program takes
after another one, for instance after `import jax`, stands beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ROUNDS = 5
PATIENCE = 600
"""Seconds that one run may take."""

MODEL = """
model = {lib}.Sequential([{lib}.Input((4,)), {lib}.layers.Dense(3)])
model.compile("adam")
"""
CONVNET = """
import numpy as np
layers = {lib}.layers
model = {lib}.Sequential([
    {lib}.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
    layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5),
    layers.Dense(10, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.train_on_batch(np.zeros((64, 28, 28, 1), "float32"), np.zeros(64, "int32"))
"""
FLAX = """
import jax, optax
from flax import nnx
model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
"""
TORCH = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 3))
torch.optim.Adam(model.parameters())
"""
RESNET = "import tally\nmodel = tally.applications.ResNet50(weights=None)\n"
DRAWN = "import jax\nmodel.materialize()\njax.block_until_ready([weight.value for weight in model.weights])\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One program.

    Args:
        group: What it stands beside.
        name: What it does.
        command: Arguments for Python; `LEDGER` stands for the ledger of a ResNet-50.
        after: A program that is run before it in the same process, so that what is left can be told.
        over: Or the name of the case in its group that it is compared with.
        cache: `"off"`, `"cold"` for an empty folder of compiled programs in each run, or `"warm"` for a full one.
    """

    group: str
    name: str
    command: tuple[str, ...]
    after: str | None = None
    over: str | None = None
    cache: str = "off"


def _code(text: str) -> tuple[str, ...]:
    return ("-c", text)


TALLY = ("-c", "import sys; from tally.cli.main import main; sys.exit(main())")
USE, STEP = ("import {lib}" + code for code in (MODEL, CONVNET))
CASES = (
    Case("import", "Python alone", _code("pass")),
    Case("import", "jax", _code("import jax")),
    Case("import", "tally, a model compiled", _code(USE.format(lib="tally")), "import jax"),
    Case("import", "Keras on JAX, a model compiled", _code(USE.format(lib="keras")), "import jax"),
    Case("import", "Flax NNX and optax, a model and its optimizer", _code(FLAX), "import jax"),
    Case("import", "PyTorch, a model and its optimizer", _code(TORCH)),
    Case("command", "Python alone", _code("pass")),
    Case("command", "tally --help", (*TALLY, "--help"), over="Python alone"),
    Case(
        "command",
        "tally summary, of a ResNet-50's ledger",
        (*TALLY, "summary", "LEDGER"),
        over="Python alone",
    ),
    Case(
        "command",
        "tally explain, of a ResNet-50's ledger",
        (*TALLY, "explain", "LEDGER"),
        over="Python alone",
    ),
    Case("first step", "tally, no cache", _code(STEP.format(lib="tally")), "import jax"),
    Case("first step", "tally, cache empty", _code(STEP.format(lib="tally")), "import jax", cache="cold"),
    Case("first step", "tally, cache filled", _code(STEP.format(lib="tally")), "import jax", cache="warm"),
    Case("first step", "Keras on JAX", _code(STEP.format(lib="keras")), "import jax"),
    Case("ResNet-50", "tally, built", _code(RESNET), "import jax"),
    Case("ResNet-50", "tally, weights drawn", _code(DRAWN), RESNET),
    Case("ResNet-50", "tally, weights drawn, cache filled", _code(DRAWN), RESNET, cache="warm"),
    Case(
        "ResNet-50",
        "Keras on JAX, built, which draws the weights",
        _code("import keras\nkeras.applications.ResNet50(weights=None)"),
        "import jax",
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took, in seconds: of all its threads, of these after what was run before, and on the clock."""

    cpu: float
    own: float | None
    wall: float


def measure(cases: tuple[Case, ...], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Run each case once unmeasured and then in turns.

    Args:
        cases: What to run.
        rounds: How often.
        folder: For bytecode, compiled programs and a ledger.

    Returns:
        A flat record for each case.
    """
    ledger = _write_ledger(folder)
    found: dict[Case, list[Run]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            taken = run(case, folder, ledger, number)
            if number:
                found[case].append(taken)
    return [_record(case, found) for case in cases]


def run(case: Case, folder: Path, ledger: Path, number: int) -> Run:
    """Run a case once, in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, *(str(ledger) if word == "LEDGER" else word for word in _told(case))]
    place = (
        "0" if case.cache == "off" else str(folder / f"programs-{number if case.cache == 'cold' else 'kept'}")
    )
    began, before = time.perf_counter(), _children()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=_environment(folder) | {"TALLY_COMPILE_CACHE": place},
        check=False,
    )
    cpu, wall = _children() - before, time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{case.name}: {done.stderr.strip().splitlines()[-1:]}")
    return Run(cpu, float(done.stdout.split()[-1]) if case.after else None, wall)


def _told(case: Case) -> tuple[str, ...]:
    """What Python is told to run."""
    if case.after is None:
        return case.command
    clock = "time.process_time()"
    return "-c", f"{case.after}\nimport time\nbegan = {clock}\n{case.command[1]}\nprint({clock} - began)"


def _children() -> float:
    """CPU seconds of all processes that were started from here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _environment(folder: Path) -> dict[str, str]:
    """The user's own, without what would keep bytecode or compiled programs from being kept here."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    given = {
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "KERAS_BACKEND": "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return {**kept, **given}


def _write_ledger(folder: Path) -> Path:
    path = folder / "resnet50.json"
    code = f"{RESNET}open({str(path)!r}, 'w').write(tally.account(model).to_json())"
    subprocess.run([sys.executable, "-c", code], env=_environment(folder), check=True)
    return path


def _record(case: Case, found: dict[Case, list[Run]]) -> dict[str, Any]:
    runs = found[case]
    cpu = min(run.cpu for run in runs)
    own = [run.own for run in runs if run.own is not None]
    bases = [other for other in found if case.over and (other.group, other.name) == (case.group, case.over)]
    over = min(own) if own else cpu - min(run.cpu for run in found[bases[0]]) if bases else None
    return {
        "benchmark": "start",
        "group": case.group,
        "contestant": case.name,
        "rounds": len(runs),
        "cpu_s": round(cpu, 4),
        "cpu_median_s": round(statistics.median(run.cpu for run in runs), 4),
        "wall_s": round(min(run.wall for run in runs), 4),
        "own_cpu_s": None if over is None else round(over, 4),
        "after": _named(case),
    }


def _named(case: Case) -> str | None:
    """What came before the part that is the case's own."""
    return case.over if case.after is None else "the model is built" if case.after == RESNET else case.after


def table(records: list[dict[str, Any]]) -> list[str]:
    """The lines of a table in milliseconds, a group of rows after the other."""
    shown: Callable[[float | None], str] = lambda seconds: "" if seconds is None else f"{1000 * seconds:,.0f}"
    lines, group = [], None
    for record in records:
        if record["group"] != group:
            group = record["group"]
            lines += ["", f"{group + ', ms':<52}{'CPU':>8}{'median':>8}{'wall':>8}{'own':>8}  after"]
        figures = (record[key] for key in ("cpu_s", "cpu_median_s", "wall_s", "own_cpu_s"))
        beside = f"  {record['after']}" if record["after"] else ""
        lines.append(
            f"  {record['contestant']:<50}" + "".join(f"{shown(one):>8}" for one in figures) + beside
        )
    return lines


def main() -> None:
    """Measure, print a table, and keep the figures if asked."""
    groups = list(dict.fromkeys(case.group for case in CASES))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each program is run")
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", help=", ".join(groups))
    parser.add_argument("--json", type=Path, help="a file for the records")
    options = parser.parse_args()
    cases = tuple(case for case in CASES if not options.only or case.group in options.only)
    with tempfile.TemporaryDirectory() as folder:
        records = measure(cases, options.rounds, Path(folder))
    print("\n".join(table(records)))
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
