"""Watches what a block of code does to the machine: the commands it runs, where it connects, what it opens."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "subprocess.Popen",
        "pty.spawn",
    ),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "ftplib.connect"),
    *(
        "pickle.find_class",
        "ctypes.dlopen",
        "webbrowser.open",
    ),
)


@dataclass
class Deeds:
    """What was done.

    Args:
        harm: Events that no reading of a file needs.
        opened: The paths that were opened.
    """

    harm: list[str] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)


_watching: list[Deeds] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    for deeds in _watching:
        if event in _FORBIDDEN:
            deeds.harm.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = arguments[0]
            deeds.opened.add(str(Path(path.decode(errors="replace") if isinstance(path, bytes) else path)))


sys.addaudithook(_note)  # for good, as Python has it; it does nothing while nobody watches


@contextmanager
def watched() -> Iterator[Deeds]:
    """Collect what the block does."""
    deeds = Deeds()
    _watching.append(deeds)
    try:
        yield deeds
    finally:
        _watching.remove(deeds)


MARK = "TALLY_WAS_HERE"
"""Where a payload would have left its mark: the name of a file."""


@contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """Hold that the block does no harm: nothing is run, fetched or changed, no mark left, the secret not opened.

    Args:
        folder: Where all of it happens, and where the file `secret` lies.
    """
    before = _surroundings()
    with watched() as deeds:
        yield
    assert _surroundings() == before
    assert deeds.harm == []
    assert str(folder / "secret") not in {os.path.realpath(path) for path in deeds.opened}
    assert not list(folder.rglob(MARK))


def _surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
