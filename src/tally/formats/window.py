"""A file, or a part of one, read piece by piece; no piece is larger than what is there."""

import os
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tally.formats.errors import BadFileError


class Window:
    """A stretch of an open file, with a place to read on from.

    Every read is checked against the stretch before a byte is allocated, so a length that a file claims can't take
    more memory than the file has bytes.

    Args:
        stream: A file opened for reading bytes, or anything that seeks.
        file: Its name, for errors.
        start: The first byte of the stretch.
        end: The byte after its last.
        within: What the stretch is, for errors, such as `"member 'data.pkl'"`.

    Example:
        >>> import io
        >>> window = Window(io.BytesIO(bytes([2, 0, 7])), "x.bin", 0, 3)
        >>> window.number("<H"), window.left
        (2, 1)
    """

    def __init__(
        self, stream: BinaryIO, file: str | os.PathLike[str], start: int, end: int, within: str = ""
    ) -> None:
        self._stream, self.file, self.start, self.end, self.within = stream, file, start, end, within
        self.at = start

    @property
    def size(self) -> int:
        """How many bytes the stretch has."""
        return self.end - self.start

    @property
    def left(self) -> int:
        """How many bytes follow the place."""
        return self.end - self.at

    def take(self, count: int, what: str = "the next part") -> bytes:
        """Read so many bytes and go on behind them.

        Args:
            count: How many.
            what: What they are, for the error.

        Raises:
            BadFileError: There are fewer.
        """
        self.skip(count, what)
        self._stream.seek(self.at - count)
        found = self._stream.read(count)
        if len(found) != count:  # it was cut off while it was read
            raise self.bad(f"ends inside {what}", at=self.at - count)
        return found

    def skip(self, count: int, what: str = "the next part") -> None:
        """Go on behind so many bytes, unread.

        Raises:
            BadFileError: There are fewer.
        """
        if not 0 <= count <= self.left:
            raise self.bad(f"{what} claims {count:,} bytes, where {self.left:,} are left")
        self.at += count

    def go_to(self, offset: int, what: str = "the next part") -> None:
        """Go to a byte, counted from the start of the stretch.

        Raises:
            BadFileError: It lies outside.
        """
        if not 0 <= offset <= self.size:
            raise self.bad(f"{what} begins at byte {offset:,}, outside of {self.size:,}")
        self.at = self.start + offset

    def number(self, form: str, what: str = "a number") -> Any:
        """Read one number in a form of `struct`, such as `"<Q"`.

        Raises:
            BadFileError: Too few bytes are left.
        """
        return struct.unpack(form, self.take(struct.calcsize(form), what))[0]

    def text(self, count: int, what: str = "a text", encoding: str = "utf-8") -> str:
        """Read text of so many bytes.

        Raises:
            BadFileError: There are fewer, or they are no text.
        """
        at = self.at
        try:
            return self.take(count, what).decode(encoding)
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not {encoding}: {error.reason}", at=at + error.start) from None

    def part(self, count: int, within: str, what: str = "the next part") -> "Window":
        """Give a window on the next bytes alone, and go on behind them.

        Raises:
            BadFileError: There are fewer.
        """
        self.skip(count, what)
        return Window(self._stream, self.file, self.at - count, self.at, within)

    def bad(self, reason: str, *, at: int | None = None, do: str = "") -> BadFileError:
        """Make the error that names this file and this place; `at` is a byte of the file."""
        byte = f"byte {(self.at if at is None else at) - (self.start if self.within else 0):,}"
        place = f"{self.within}, {byte}" if self.within else byte
        return BadFileError(self.file, reason, place=place, do=do)


@contextmanager
def opened(path: Path) -> Generator[Window]:
    """Open a file for the length of a block; a pipe, a device or a folder is none.

    Raises:
        BadFileError: There is no such file, or it can't be read.
    """
    try:
        # Not waiting: opening a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadFileError(path, f"can't be opened: {reason}") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise BadFileError(path, "is no file")
    with open(handle, "rb") as stream:
        try:
            yield Window(stream, path, 0, status.st_size)
        except OSError as error:
            raise BadFileError(path, f"can't be read: {error.strerror or error}") from None
