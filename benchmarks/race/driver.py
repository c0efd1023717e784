"""Starts a process for each contestant, warms all of them, and lets them run one epoch at a time, in shuffled turns."""

import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks import machine
from benchmarks.race.agreement import compare_losses, compare_outputs
from benchmarks.race.contestants import Contestant
from benchmarks.race.workloads import Workload

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600
"""Seconds after which a contestant that doesn't answer is given up: compiling may take minutes."""
GRACE = 20
"""Seconds that a contestant has to end by itself."""
CLEARED = ("JAX_COMPILATION_CACHE_DIR", "KERAS_BACKEND", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Variables no contestant inherits, so that each has its framework's own defaults and compiles for itself."""
DISTURBED = 0.05
"""Part of the machine that others may use during a turn before it counts as disturbed."""


PAUSE = 1.0
"""Seconds between a disturbed turn and the next attempt."""


@dataclass(slots=True)
class Patience:
    """Seconds that may still be spent on taking disturbed turns again.

    Args:
        seconds: What is left.
    """

    seconds: float = 0.0

    def allows(self, foreign: float, spent: float) -> bool:
        """Whether a turn that took `spent` seconds is to be taken again, after a pause, since others disturbed it."""
        if foreign <= DISTURBED or self.seconds <= 0:
            return False
        self.seconds -= spent + PAUSE
        time.sleep(PAUSE)
        return True


class Failed(Exception):
    """A contestant broke off; the text is its traceback."""


class Absent(Exception):
    """A contestant can't run on this machine; the text says why."""


@dataclass(slots=True)
class Course:
    """What a contestant did on one workload in one mode: a number for each round.

    Args:
        wall: Seconds of each epoch.
        cpu: CPU seconds, user and system, of each epoch.
        faults: Page faults in each epoch.
        foreign: Part of the machine's cores that others used during each epoch.
        resting: Part of one core that it used since its epoch before, while others ran.
        losses: Mean loss of each epoch, the first, untimed one included.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)
    resting: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Process:
    """One contestant's process, asked by lines."""

    def __init__(self, contestant: Contestant, workload: Workload, folder: Path) -> None:
        self.contestant = contestant
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
        caches = {
            name: str(folder / contestant.name.partition("@")[0])
            for name in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "KERAS_HOME")
        }
        quiet = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.race.child", contestant.name, workload.name),
                *(str(workload.batch), str(workload.steps)),
            ],
            cwd=ROOT,
            env={**environment, **caches, **quiet, **contestant.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def tell(self, line: str) -> None:
        """Send a line that is not answered."""
        assert self._process.stdin is not None
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._fail("its process ended")

    def ask(self, line: str | None = None) -> dict[str, Any]:
        """Send a line, if given, and wait for the answer.

        Raises:
            Absent: The contestant can't run here.
            Failed: It broke off, or does not answer.
        """
        if line is not None:
            self.tell(line)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        text = self._process.stdout.readline() if ready else ""
        if not text:
            self._fail("its process ended" if ready else f"no answer for {PATIENCE} seconds")
        answer = json.loads(text)
        if "unavailable" in answer:
            raise Absent(answer["unavailable"])
        if "error" in answer:
            raise Failed(f"{self.contestant.name}:\n{answer['error']}")
        return answer

    def close(self) -> None:
        """End the process: it goes by itself when its input ends, so that it can end its own helpers."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(GRACE)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _fail(self, what: str) -> None:
        self._log.seek(0)
        raise Failed(
            f"{self.contestant.name}: {what}\n{self._log.read()[-4000:].decode(errors='replace')}"
        ) from None


def race(
    workload: Workload,
    contestants: Sequence[Contestant],
    *,
    modes: Sequence[str] = ("train", "predict"),
    rounds: int = 7,
    patience: Patience | None = None,
    say: Callable[[str], None] = print,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Race contestants on one workload.

    Args:
        workload: What to train.
        contestants: Who takes part; results are compared with the first's.
        modes: `train`, `predict` or both.
        rounds: Timed epochs of each.
        patience: Allows disturbed turns to be taken again; its seconds are used up.
        say: Told what happens.

    Returns:
        A flat record for each contestant and mode, and a sentence for everything that went wrong.
    """
    processes: dict[str, Process] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            facts, records, problems = _start(workload, contestants, modes, Path(folder), processes, say)
            if processes:
                raced, wrong = _race(workload, processes, facts, modes, rounds, patience or Patience(), say)
                records, problems = [*records, *raced], [*problems, *wrong]
        finally:
            for process in processes.values():
                process.close()
    return records, problems


def _start(
    workload: Workload,
    contestants: Sequence[Contestant],
    modes: Sequence[str],
    folder: Path,
    processes: dict[str, Process],
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Start and build all at once, since one does not fill the cores while it compiles.

    `processes` gets those that run, in the order of the contestants, and has each from its start: so the caller can
    close them whatever happens here.

    Returns:
        What each that runs says of itself, a record for each that doesn't, and a sentence for each that failed.
    """

    def start(contestant: Contestant) -> dict[str, Any]:
        say(f"{workload.name}: {contestant.name} starts")
        process = processes[contestant.name] = Process(contestant, workload, folder)
        return process.ask() | process.ask("build")

    with ThreadPoolExecutor(machine.cores()) as starting:
        answers = {contestant.name: starting.submit(start, contestant) for contestant in contestants}
    facts: dict[str, dict[str, Any]] = {}
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    for name, answer in answers.items():
        process = processes.pop(name)
        processes[name] = process  # behind those that were asked for before it
        try:
            facts[name] = answer.result()
        except (Absent, Failed) as reason:
            processes.pop(name).close()
            if isinstance(reason, Failed):
                problems.append(f"{workload.name}: {reason}")
            absent = str(reason) if isinstance(reason, Absent) else "it failed"
            records += [
                {"workload": workload.name, "mode": mode, "contestant": name, "absent": absent}
                for mode in modes
            ]
    return facts, records, problems


def _race(
    workload: Workload,
    processes: dict[str, Process],
    facts: dict[str, dict[str, Any]],
    modes: Sequence[str],
    rounds: int,
    patience: Patience,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Let those that run take their turns in each mode, and hold what they computed against the first's."""
    problems = compare_outputs({name: facts[name].pop("outputs") for name in processes})
    courses = {mode: _run(workload, processes, mode, rounds, patience, say) for mode in modes}
    if "train" in modes:
        losses = {name: course.losses for name, course in courses["train"].items()}
        problems += [f"{workload.name}: {one}" for one in compare_losses(losses, workload.tolerance)]
    for name, process in processes.items():
        facts[name] |= process.ask("finish")
    records = [
        _record(workload, mode, name, course, facts[name])
        for mode in modes
        for name, course in courses[mode].items()
    ]
    return records, problems


def _run(
    workload: Workload,
    processes: dict[str, Process],
    mode: str,
    rounds: int,
    patience: Patience,
    say: Callable[[str], None],
) -> dict[str, Course]:
    """One untimed epoch of each, then `rounds` in which all take their turn."""
    courses = {name: Course() for name in processes}
    for name, process in processes.items():
        process.tell(mode)
        answer = process.ask("go")
        if mode == "train":
            courses[name].losses.append(answer["loss"])
    shuffler = random.Random(workload.name + mode)
    order = list(processes)
    say(f"{workload.name}: {rounds} rounds of {mode}")
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            _take_turn(processes[name], courses[name], patience)
    for process in processes.values():
        process.tell("stop")
    return courses


def _take_turn(process: Process, course: Course, patience: Patience) -> None:
    """One epoch, again while others disturb it; every epoch counts as training, the last one is timed."""
    while True:
        busy = machine.busy_seconds()
        answer = process.ask("go")
        others = machine.busy_seconds() - busy - answer["cpu"]
        foreign = max(0.0, others / (answer["wall"] * machine.cores()))
        if answer["loss"] is not None:
            course.losses.append(answer["loss"])
        if not patience.allows(foreign, answer["wall"]):
            break
    course.wall.append(answer["wall"])
    course.cpu.append(answer["cpu"])
    course.faults.append(answer["faults"])
    course.resting.append(answer["resting"])
    course.foreign.append(foreign)


def _record(
    workload: Workload, mode: str, name: str, course: Course, facts: dict[str, Any]
) -> dict[str, Any]:
    first = "first_step" if mode == "train" else "first_prediction"
    return {
        **{"workload": workload.name, "mode": mode, "contestant": name},
        **{"batch": workload.batch, "steps": workload.steps},
        "wall": _rounded(course.wall),
        "cpu": _rounded(course.cpu),
        "faults": course.faults,
        "foreign": _rounded(course.foreign),
        "resting": _rounded(course.resting),
        "losses": _rounded(course.losses),
        "first_cpu": _rounded([facts[first]])[0],
        "imported": _rounded([facts["imported"]])[0],
        "peak": facts["peak"],
    }


def _rounded(values: Sequence[float]) -> list[float]:
    """Five digits are more than a clock gives."""
    return [float(f"{value:.5g}") for value in values]
