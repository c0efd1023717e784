"""What came so far of a download: a file beside the one it will be, and a note by which to go on."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tally.writing import keep_names

try:
    import fcntl
except ImportError:  # Windows: every process downloads its own
    fcntl = None


@dataclass
class Part:
    """A download that isn't whole yet.

    Args:
        path: Where it is.
        file: It, open for writing.
        note: Where it is written what it is a part of; None where nobody will go on with it.
        origin: The SHA-256 of the address it comes from: an address may hold a password.
        mark: What the server calls this version of the file: its ETag or date, `""` where it says neither.
    """

    path: Path
    file: BinaryIO
    note: Path | None
    origin: str
    mark: str = ""

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return os.fstat(self.file.fileno()).st_size

    def begin(self, mark: str) -> None:
        """Start from nothing, with a version that the server calls so."""
        self.file.seek(0)
        self.file.truncate()
        self.mark = mark
        if self.note is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(self.note, flags, 0o600), "w", encoding="utf-8") as note:
                json.dump({"origin": self.origin, "mark": mark}, note)

    def finish(self, path: Path) -> None:
        """Give it its name; after this the file is there for good."""
        self.file.flush()
        os.fsync(self.file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        self.path.chmod(0o666 & ~umask)
        if fcntl is None:
            self.file.close()
        self._forget()
        os.replace(self.path, path)
        keep_names(path.parent)

    def drop(self) -> None:
        """Forget it."""
        self._forget()
        self.path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Delete the note, before the part: as soon as that has gone, another process may begin one, with its note."""
        if self.note is not None:
            self.note.unlink(missing_ok=True)


@contextmanager
def part_of(path: Path, origin: str) -> Iterator[Part]:
    """Open what is there of a file, or a new one; no other process writes to it at the same time.

    Args:
        path: The file that it will be.
        origin: The address; what came from another one is thrown away.
    """
    origin = hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()
    place, note = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.part.json")
    file = _claimed(place)
    if file is None:  # another process is at it, and this one doesn't wait for it
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "r+b") as own:
            part = Part(Path(name), own, None, origin)
            try:
                yield part
            finally:
                part.drop()
        return
    with file:
        part = Part(place, file, note, origin)
        said = _said(note)
        if said.get("origin") == origin and isinstance(said.get("mark"), str):
            part.mark = str(said["mark"])
        else:
            part.begin("")
        yield part


def _claimed(place: Path) -> BinaryIO | None:
    """The file, locked; None where another process has it, or where no locks are."""
    if fcntl is None:
        return None
    while True:
        file = os.fdopen(os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.lstat(place)):
                return file
        file.close()  # it was given its name between the two lines: what is open here is a whole file


def _said(note: Path) -> dict[str, object]:
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
