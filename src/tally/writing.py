"""Writing files that are whole or not there: beside their place first, then moved there in one stroke.

Imports nothing but Python, so that every room may write by it.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

try:
    import fcntl
except ImportError:  # Windows, where a file that is open can't be deleted anyway
    fcntl = None

_UNFINISHED = ".tally.part"
"""How the names of unfinished files end; they begin with a dot and the name they will have."""


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; when the block succeeds, it becomes `path`, else what was there stays.

    A process that is killed leaves the old file or the new one. What it may leave beside is locked by nobody, and the
    next one to write into that folder deletes it.

    Args:
        path: The file. A link is followed to the file it means.

    Raises:
        OSError: It can't be written there. Nothing is left beside it.

    Example:
        >>> with replaced("notes.txt") as part:
        ...     _ = part.write_text("complete")
        >>> Path("notes.txt").read_text()
        'complete'
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():  # a terminal, a pipe: there is nothing to keep whole
        yield path
        return
    _sweep(path.parent)
    part, handle = cast("tuple[Path, int | None]", _begin(path))
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.chmod(_mode(path))
        if fcntl is None and handle is not None:
            os.close(handle)
            handle = None
        os.replace(part, path)
        keep_names(path.parent)
    finally:
        part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Write a text in UTF-8, whole or not at all.

    Args:
        path: The file.
        text: All that it will hold.

    Raises:
        OSError: It can't be written there. What was there stays.

    Example:
        >>> write_text("notes.txt", "one\n")
        >>> Path("notes.txt").read_text()
        'one\n'
    """
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def is_being_written(path: str | os.PathLike[str], besides: Path | None = None) -> bool:
    """Tell whether a living process is about to replace a file; what dead ones left in its folder is deleted.

    Where nobody can tell, as on a file system without locks, it is taken to be so.

    Args:
        path: The file.
        besides: What `replaced` gave to the one who asks, which doesn't count.

    Example:
        >>> with replaced("notes.txt") as part:
        ...     _ = part.write_text("more")
        ...     is_being_written("notes.txt"), is_being_written("notes.txt", part)
        (True, False)
    """
    path = Path(path).resolve()
    _sweep(path.parent)
    with os.scandir(path.parent) as found:
        names = [one.name for one in found if one.name.endswith(_UNFINISHED)]
    return any(n.startswith(_beginning(path)) and (besides is None or n != besides.name) for n in names)


def keep_names(folder: Path) -> None:
    """Let the names in a folder survive a power cut; where a folder can't be opened, the system sees to that.

    Args:
        folder: The folder, after files in it were renamed or deleted.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _beginning(path: Path) -> str:
    return f".{path.name[:60]}."


def _begin(path: Path) -> tuple[Path, int]:
    """A new file beside another, and a handle that keeps it locked for as long as this process lives."""
    while True:
        part = path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}{_UNFINISHED}")
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if fcntl is None:
            return part, handle
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return part, handle
        os.close(handle)  # taken for a dead process's in the moment before it was locked


def _sweep(folder: Path) -> None:
    """Delete unfinished files in a folder that no living process writes."""
    with suppress(OSError), os.scandir(folder) as found:
        for one in found:
            if one.name.startswith(".") and one.name.endswith(_UNFINISHED):
                with suppress(OSError):
                    _delete_if_left(one.path)


def _delete_if_left(part: str) -> None:
    if fcntl is None:
        os.unlink(part)
        return
    handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(part)
    finally:
        os.close(handle)


def _mode(path: Path) -> int:
    """What the finished file may be used for: as the one before, or as new files may."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
