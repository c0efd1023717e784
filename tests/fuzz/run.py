"""Runs the work in processes of its own, one target after the other, and puts what they say into a table."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.targets import Target, targets
from tests.fuzz.work import Score, broken, keep

ROOT = Path(__file__).parents[2]
FAILURES = ROOT / "build" / "fuzz"
_RESTARTS = 20
"""Processes that a target may kill before it is given up."""


def run(target: Target, seed: int, inputs: int, seconds: float, failures: Path = FAILURES) -> Score:
    """Read so many files that follow from a number, and go on behind one that kills the process.

    Args:
        target: What is fuzzed.
        seed: Another number gives other files.
        inputs: How many.
        seconds: After which to stop in any case.
        failures: Where files that fail are kept.
    """
    whole, start = Score(target.name), 0
    for _ in range(_RESTARTS):
        task = {"target": target.name, "seed": seed, "start": start, "stop": inputs, "seconds": seconds}
        score, number, died = _process({**task, "failures": str(failures)})
        _add(whole, score)
        if not died:
            break
        spoiled, changes = broken(target, seed, number)
        file = keep(failures, target, number, spoiled, changes)
        whole.failures.append({"what": f"died: {died}", "number": number, "file": str(file)})
        whole.tried += number - start + 1
        start = number + 1
    return whole


def _process(task: dict[str, Any]) -> tuple[Score | None, int, str]:
    """What a process says; or the file at which it died, and what it said then."""
    with tempfile.NamedTemporaryFile() as progress:
        progress.write(b"%-12d" % -1)
        progress.flush()
        command = [sys.executable, "-m", "tests.fuzz.work", json.dumps({**task, "progress": progress.name})]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False
        )
        number = int(Path(progress.name).read_bytes())
    if done.returncode == 0:
        return Score(**json.loads(done.stdout.splitlines()[-1])), number, ""
    if number < 0:
        raise RuntimeError(f"The process that reads can't start: {done.stderr.strip()[-1000:]}")
    return None, number, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"


def _environment() -> dict[str, str]:
    paths = (str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0"}


def _add(whole: Score, part: Score | None) -> None:
    if part is not None:
        whole.tried, whole.accepted = whole.tried + part.tried, whole.accepted + part.accepted
        whole.refused += part.refused
        whole.slowest, whole.grown = max(whole.slowest, part.slowest), max(whole.grown, part.grown)
        whole.failures += part.failures


def chosen(words: Sequence[str]) -> list[Target]:
    """The targets of these names, or all.

    Raises:
        SystemExit: There is none of a name.
    """
    known = targets()
    unknown = [word for word in words if word not in known]
    if unknown:
        raise SystemExit(f"There is no reader {unknown[0]!r}; choose from {', '.join(known)}.")
    return [known[word] for word in words] or list(known.values())


def table(scores: Sequence[Score]) -> Iterator[str]:
    """The lines of the table, and below them what failed."""
    heads = ("reader", "inputs", "accepted", "refused", "failed", "slowest", "memory")
    yield "{:14}{:>11}{:>11}{:>11}{:>8}{:>10}{:>10}".format(*heads)
    for one in scores:
        yield (
            f"{one.name:14}{one.tried:11,}{one.accepted:11,}{one.refused:11,}"
            f"{one.tried - one.accepted - one.refused:8,}{one.slowest * 1000:7,.0f} ms{one.grown / 2**20:7,.1f} MB"
        )
    yield f"{'all':14}{sum(one.tried for one in scores):11,}"
    for one in scores:
        for failure in one.failures:
            yield f"\n{one.name}, input {failure['number']:,}: {failure['what']}\n  kept as {failure['file']}"
