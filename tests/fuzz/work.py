"""The process that reads broken files within limits on time and memory; its one argument is its task as JSON.

Each file follows from a number alone, so that one which kills this process can be made again by the one that waits.
"""

import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Seed, Target, targets

import tally

SECONDS = 1.0
"""Of this process's own time that one file may take; a machine that is busy with other things changes nothing."""
WITH_ENGINE = 5
"""How many times as much it may take where JAX is asked for something the first time."""
WAITING = 30.0
"""Seconds after which a file counts as one that is waited for without end, such as a pipe."""
GROWTH = 50 * 2**20
"""Bytes by which the memory of the process may grow for one file."""
ROOM = {False: 2**29, True: 2**33}
"""Bytes of addresses that are left to it once all is imported; with JAX more, which asks for much and uses little."""
_TRIES = 200
_LIBRARY = str(Path(tally.__file__).parent)


class OverdueError(BaseException):
    """A file takes too long; no reader may catch it."""


@dataclass
class Score:
    """What came of the files of one target.

    Args:
        name: The target.
        tried: How many were read.
        accepted: How many gave an account.
        refused: How many gave the error that is an answer.
        slowest: Seconds of the slowest.
        grown: Bytes by which memory grew at most for one.
        failures: What failed, once for each place in the code: `{"what", "number", "file"}`.
    """

    name: str
    tried: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    grown: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)


def broken(target: Target, seed: int, number: int) -> tuple[Seed, dict[str, bytes | None]]:
    """A file of the target and what is changed in it, None for what is taken away; the same for the same numbers."""
    chance = random.Random(f"{seed} {target.name} {number}")
    whole = chance.choice(target.seeds)
    if number < len(target.seeds):  # first of all the files as they are
        return target.seeds[number], {}
    name = chance.choice(list(whole.files))
    if len(whole.files) > 1 and chance.random() < 0.05:
        return whole, {name: chance.choice((None, whole.files[chance.choice(list(whole.files))]))}
    return whole, {name: mutated(whole.files[name], chance, list(whole.files.values()))}


class Workshop:
    """A folder with all whole files, in which one at a time is broken and mended again."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder, self.target = folder, target
        for place, seed in enumerate(target.seeds):
            for name, data in seed.files.items():
                self.path(place, name).parent.mkdir(parents=True, exist_ok=True)
                self.path(place, name).write_bytes(data)

    def path(self, place: int, name: str) -> Path:
        return self.folder / str(place) / name

    def read(self, seed: Seed, changes: dict[str, bytes | None]) -> str:
        """Read a seed with changes; `"accepted"`, `"refused"`, or what went wrong."""
        place = self.target.seeds.index(seed)
        for name, data in changes.items():
            self.path(place, name).unlink() if data is None else self.path(place, name).write_bytes(data)
        try:
            return _attempt(self.target, self.path(place, seed.entry))
        finally:
            for name in changes:
                self.path(place, name).write_bytes(seed.files[name])


def _attempt(target: Target, path: Path) -> str:
    before = _peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS * (WITH_ENGINE if target.engine else 1))
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        target.read(path)
        answer = "accepted"
    except OverdueError as error:
        answer = f"hang: {_where(error)}"
    except Exception as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        refused = isinstance(error, target.refusals) and "AssertionError" not in type(error).__name__
        answer = (
            "refused" if refused else f"crash: {type(error).__name__}: {str(error)[:200]!r} {_where(error)}"
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = _peak() - before
    return f"memory: grew by {grown:,} bytes; {answer}" if grown > GROWTH else answer


def _where(error: BaseException) -> str:
    """The innermost line of this library in the traceback, which tells failures apart."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != __file__]
    ours = [one for one in frames if one.filename.startswith(_LIBRARY)]
    last = (ours or frames)[-1]
    return f"at {Path(last.filename).name}:{last.lineno}"


def _kind(answer: str) -> str:
    """What makes two failures one: their kind and their line."""
    start, _, place = answer.partition(": ")
    return f"{start} {place.split(':')[0]} {answer.rpartition(' at ')[2]}" if start == "crash" else start


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def minimised(
    shop: Workshop, seed: Seed, changes: dict[str, bytes | None], answer: str
) -> dict[str, bytes | None]:
    """The same failure by a shorter file, as far as two hundred tries lead."""
    (name, data), *_ = changes.items()
    tries, step = 0, len(data or b"") // 2
    while data and step >= 1 and tries < _TRIES:
        at = 0
        while at < len(data) and tries < _TRIES:
            shorter = data[:at] + data[at + step :]
            tries += 1
            if _kind(shop.read(seed, {name: shorter})) == _kind(answer):
                data = shorter
            else:
                at += step
        step //= 2
    return {name: data}


def work(task: dict[str, Any], progress: Path) -> Score:
    """Read files `start` to `stop` of a target, or as many as there is time for.

    Args:
        task: `target`, `seed`, `start`, `stop`, `seconds`, and the folder `failures`.
        progress: Where the number of the file at hand is written.
    """
    target = targets()[task["target"]]
    score, until, seen = Score(target.name), time.monotonic() + task["seconds"], set[str]()
    with tempfile.TemporaryDirectory() as folder, progress.open("r+b", buffering=0) as note:
        shop = Workshop(Path(folder), target)
        for number in range(task["start"], task["stop"]):
            if time.monotonic() > until:
                break
            note.seek(0)
            note.write(b"%-12d" % number)
            seed, changes = broken(target, task["seed"], number)
            before, began = _peak(), time.process_time()
            answer = shop.read(seed, changes)
            score.slowest = max(score.slowest, time.process_time() - began)
            score.grown = max(
                score.grown, _peak() - before if number > task["start"] + len(target.seeds) else 0
            )
            score.tried += 1
            if answer in ("accepted", "refused"):
                score.accepted += answer == "accepted"
                score.refused += answer == "refused"
            elif _kind(answer) not in seen:
                seen.add(_kind(answer))
                memory = answer.startswith("memory")  # has grown already, and won't again
                least = changes if memory or not changes else minimised(shop, seed, changes, answer)
                file = keep(Path(task["failures"]), target, number, seed, least)
                score.failures.append({"what": answer, "number": number, "file": str(file)})
    return score


def keep(folder: Path, target: Target, number: int, seed: Seed, changes: dict[str, bytes | None]) -> Path:
    """Write what failed, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in changes.items():
        path = folder / f"{target.name.replace(' ', '-')}-{number}-{seed.name}-{Path(name).name}"
        path.write_bytes(data or b"")
        return path
    return folder / seed.name


def _confine(engine: bool) -> None:
    """Limit what this process may take, and hear the clock."""
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + ROOM[engine]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for clock in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(clock, _overdue)


def _overdue(*_: object) -> None:
    raise OverdueError


def _without_checksums() -> None:
    """Take every checksum of a block for right, as else almost nothing of what is broken would be read."""
    from tally.formats import leveldb, ocdbt

    leveldb.masked = lambda crc: _AnyNumber()  # pyright: ignore
    ocdbt.crc32c = lambda data: _AnyNumber()  # pyright: ignore


class _AnyNumber(int):
    """Equal to every number."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def main(arguments: Sequence[str]) -> None:
    task = json.loads(arguments[0])
    warnings.simplefilter("ignore")
    target = targets()[task["target"]]
    _without_checksums()
    for seed in target.seeds[:1]:  # once without limits, so that all is imported
        with tempfile.TemporaryDirectory() as folder:
            Workshop(Path(folder), target)
            with suppress(Exception):  # what is wrong, the first file will say
                target.read(Path(folder) / "0" / seed.entry)
    _confine(target.engine)
    print(json.dumps(asdict(work(task, Path(task["progress"])))))


if __name__ == "__main__":
    main(sys.argv[1:])
