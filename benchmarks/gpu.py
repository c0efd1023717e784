"""Trains four models on one NVIDIA GPU with tally and its peers, in turns, and prints one table.

    python benchmarks/gpu.py                       everything; about an hour
    python benchmarks/gpu.py --quick               the same models with fewer rounds, ended after 7.5 minutes
    python benchmarks/gpu.py --models gpt --only tally,jax
    python benchmarks/gpu.py --dry                 tiny sizes on the CPU: shows that it runs, measures nothing

Each contestant has a process of its own. Its data lie on the device before the clock starts (TensorFlow's pipeline
prefetches them); two passes warm it up, and then a round is one pass, in turns with tally where both fit the memory.
Utilisation (MFU) is 3 x the FLOPs of a forward pass, matrix products and convolutions alone, by the step's time and
the device's peak in bfloat16, or in TF32 for float32. "tally is 1.100x" says that tally took 1/1.1 of the time.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # found as a package however this file is started

from benchmarks import machine
from benchmarks.gpu_models.peaks import describe_gpu
from benchmarks.gpu_models.process import ENVIRONMENT, Process
from benchmarks.gpu_models.results import Row, compute, draw
from benchmarks.gpu_models.sizes import Task, tasks
from benchmarks.gpu_models.worker import ENTRIES, takes_part

ROUNDS = {"full": 5, "quick": 3, "dry": 2}
MINUTES = {"full": 120.0, "quick": 7.5, "dry": 30.0}
"""By scale, when everything is ended."""
_NO_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory", "OOM")


class Benchmark:
    """One run: which contestants train which tasks, and what came of it.

    Args:
        scale: `"full"`, `"quick"` or `"dry"`.
        names: The contestants.
        chosen: The tasks.
        minutes: When everything is ended.
        file: Where the results are kept as JSON; written anew after each contestant.
    """

    def __init__(
        self, scale: str, names: list[str], chosen: list[Task], minutes: float, file: Path | None
    ) -> None:
        self.scale, self.names, self.tasks, self.file = scale, names, chosen, file
        self.end = time.monotonic() + 60 * minutes
        self.gpu = None if scale == "dry" else describe_gpu()
        self.loaded: dict[str, Any] = {}
        self.rows: list[Row] = []

    @property
    def device(self) -> str:
        """The device's name."""
        return str(self.gpu["name"]) if self.gpu else "CPU"

    def run(self) -> None:
        """Measure every task; each has its share of the time that is left."""
        for number, task in enumerate(self.tasks):
            now = time.monotonic()
            deadline = now + (self.end - now) / (len(self.tasks) - number)
            _Race(self, task, deadline).run()

    def add(self, row: Row, task: Task) -> None:
        """Keep a row, and write the file with what there is so far."""
        self.rows.append(row)
        if self.gpu:
            self.loaded[task.name] = describe_gpu()
        figures = compute(row, task, self.device)
        told = row.left_out if figures is None else f"{1e3 * figures.step_seconds:.3f} ms a step"
        print(f"{task.title}, {row.title}: {told}", file=sys.stderr, flush=True)
        if self.file is not None:
            self.file.write_text(json.dumps(self.as_data(), indent=1), encoding="utf-8")

    def as_data(self) -> dict[str, Any]:
        """Everything, as plain data."""
        by_name = {task.name: task for task in self.tasks}
        figures = [compute(row, by_name[row.task], self.device) for row in self.rows]
        return {
            "scale": self.scale,
            "machine": machine.describe(),
            "gpu": self.gpu,
            "gpu_after": self.loaded,
            "environment": ENVIRONMENT,
            "tasks": [
                {**asdict(task), "multiply_adds": task.model.multiply_adds(), "flops": task.flops}
                for task in self.tasks
            ],
            "rows": [
                {**asdict(row), "figures": None if one is None else asdict(one)}
                for row, one in zip(self.rows, figures, strict=True)
            ],
        }

    def draw(self) -> str:
        """What is printed at the end."""
        told = f"{self.device}, no measurement" if self.scale == "dry" else self.device
        if self.gpu:
            clocks = f"{self.gpu['clocks.sm']:.0f} of {self.gpu['clocks.max.sm']:.0f} MHz at rest"
            told += f", driver {self.gpu['driver_version']}, {clocks}"
        versions: dict[str, str] = {}
        for row in self.rows:
            versions.update(row.versions)
        sizes = ", ".join(
            f"{t.title}: {t.steps} steps of {t.batch} a round, {t.policy}, {t.optimizer}" for t in self.tasks
        )
        lines = [
            told,
            ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
            sizes,
            "",
        ]
        lines.append(draw(self.rows, self.tasks, self.device))
        if any(row.beside and not row.in_turns for row in self.rows):
            lines.append("* not in turns with tally: the two together didn't fit the memory")
        return "\n".join(lines)


class _Race:
    """All contestants on one task."""

    def __init__(self, benchmark: Benchmark, task: Task, deadline: float) -> None:
        self.benchmark, self.task, self.deadline = benchmark, task, deadline
        self.rounds = ROUNDS[benchmark.scale]
        self.first: tuple[Process, Row] | None = None

    def run(self) -> None:
        """Begin with tally, which stays beside each of the others as long as the memory allows."""
        names = [name for name in self.benchmark.names if takes_part(ENTRIES[name], self.task)]
        try:
            if "tally" in names:
                names.remove("tally")
                self._run_first()
            for name in names:
                self._run_peer(name)
        finally:
            self._close_first()

    def _open(self, name: str) -> tuple[Process, Row]:
        row = Row(self.task.name, name, ENTRIES[name].title)
        process = Process(name, self.task.name, self.benchmark.scale, self.deadline)
        row.take(process.answer())
        return process, row

    def _run_first(self) -> None:
        process, row = self._open("tally")
        for _ in range(self.rounds):
            if row.left_out is None:
                row.take(process.run())
        self.benchmark.add(row, self.task)
        self.first = process, row
        self.own = list(row.seconds)
        if row.left_out is not None or not self._fits(row):
            self._close_first()

    def _fits(self, row: Row) -> bool:
        """Whether another one that needs as much memory, and a fifth more, fits beside tally."""
        told = describe_gpu() if self.benchmark.gpu else None
        if told is None or row.peak_bytes is None or told["memory.free"] is None:
            return True
        return told["memory.free"] > 1.2 * row.peak_bytes

    def _close_first(self) -> None:
        if self.first is not None:
            self.first[0].close()
            self.first = None

    def _run_peer(self, name: str) -> None:
        process, row = self._open(name)
        if self.first is not None and any(word in (row.left_out or "") for word in _NO_MEMORY):
            process.close()
            self._close_first()
            process, row = self._open(name)
        try:
            for number in range(self.rounds):
                if row.left_out is None:
                    self._run_round(process, row, number)
        finally:
            process.close()
        if not row.in_turns:
            row.beside = list(getattr(self, "own", []))
        self.benchmark.add(row, self.task)

    def _run_round(self, process: Process, row: Row, number: int) -> None:
        """One pass of both, now the one and now the other first."""
        if self.first is None:
            row.take(process.run())
            return
        ours, own = self.first
        order = [(ours, own), (process, row)]
        for one, its in order if number % 2 == 0 else reversed(order):
            if not its.take(one.run()):
                row.left_out = row.left_out or "tally, beside it, came to its end"
                return
        row.beside.append(own.seconds[-1])
        row.in_turns = True


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where there is no GPU."""
    options = _parse(arguments)
    scale = "dry" if options.dry else "quick" if options.quick else "full"
    chosen = [task for task in tasks(scale) if task.name in options.models]
    benchmark = Benchmark(scale, options.only, chosen, options.minutes or MINUTES[scale], options.json)
    if benchmark.gpu is None and not options.dry:
        print("There is no NVIDIA GPU here: nvidia-smi tells of none. --dry runs tiny sizes on the CPU.")
        return 1
    benchmark.run()
    print(benchmark.draw())
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    models = [task.name for task in tasks()]

    def several(known: list[str]) -> Any:
        def read(text: str) -> list[str]:
            asked = text.split(",")
            unknown = sorted(set(asked) - set(known))
            if unknown:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(known)}")
            return [name for name in known if name in asked]

        return read

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=several(models), default=models, help=f"of {','.join(models)}")
    parser.add_argument(
        "--only",
        type=several(list(ENTRIES)),
        default=list(ENTRIES),
        help=f"contestants, of {','.join(ENTRIES)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds; ends after 7.5 minutes")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU, to see that it runs")
    parser.add_argument("--minutes", type=float, help="when everything is ended")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
