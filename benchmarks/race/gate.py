"""The contestant's side of the race: it waits for its turn, is timed over one epoch, and answers in lines of JSON."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO


class Gate:
    """Lets a contestant run one epoch at a time.

    A contestant with a loop of its own writes `while gate.wait(): gate.begin(); ...; gate.end(loss)`; one whose
    framework has the loop calls the same three from its callbacks.

    Args:
        read: Where the driver's lines come from.
        write: Where answers go.
    """

    def __init__(self, read: TextIO, write: TextIO) -> None:
        self._read, self._write = read, write
        self._wall = self._cpu = 0.0
        self._faults = 0
        self._rested = (time.process_time(), time.perf_counter())

    def receive(self) -> str:
        """The driver's next line, without its end; empty when the driver is gone."""
        return self._read.readline().strip()

    def answer(self, **facts: Any) -> None:
        """Send facts to the driver as one line."""
        print(json.dumps(facts), file=self._write, flush=True)

    def wait(self) -> bool:
        """Sleep until the driver wants another epoch (True) or no more of this kind (False)."""
        self._rested = (time.process_time(), time.perf_counter())
        return self.receive() == "go"

    def begin(self) -> None:
        """Start the clocks."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._faults = usage.ru_minflt + usage.ru_majflt
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self, loss: float | None = None) -> None:
        """Stop the clocks and answer: seconds, CPU seconds, page faults, part of a core used while waiting, loss."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_then, wall_then = self._rested
        rested = (self._cpu - cpu_then) / (self._wall - wall_then)
        faults = usage.ru_minflt + usage.ru_majflt - self._faults
        self.answer(
            wall=wall, cpu=cpu, faults=faults, resting=rested, loss=None if loss is None else float(loss)
        )


def open_gate() -> Gate:
    """The gate on this process's pipes; what libraries print goes to the standard error output instead."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return Gate(sys.stdin, os.fdopen(kept, "w"))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """The CPU seconds that a call takes, those of processes that it waits for included, and its result."""
    began = _cpu_seconds()
    result = function()
    return _cpu_seconds() - began, result


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def peak_memory() -> int:
    """Most bytes this process had in memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
