"""Unpacking tar and zip archives that nobody vouches for: into their folder and nowhere else, as a whole or not at all.

Refused are names that lead out of the folder, links of both kinds, devices and pipes, names that come twice, and more
than a limit in number, in bytes, or in bytes for each byte stored.
"""

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.window import opened
from tally.formats.zip import directory

_MOST_FILES = 1_000_000
_LIMITS = Limits(tensors=_MOST_FILES, header=256 * 2**20, ratio=200)
_SLACK = 2**20
"""Bytes that anything may unpack to, however little is stored."""
_PIECE = 2**20
_DEEPEST = 50
_DONT = "don't trust this file"
_PACKINGS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""How a tar begins that was packed, and what unpacks it."""
_BROKEN = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile),
    *(ValueError, OverflowError, RecursionError, IndexError, KeyError, MemoryError),
)
"""What Python's reader of tar files raises for a broken one."""

Piece = tuple[str, Iterator[bytes] | None]
"""A member: its name, and its bytes in pieces, or None for a folder."""


def unpack(path: Path, folder: Path, kinds: tuple[str, ...], size_limit: int, *, anew: bool = False) -> Path:
    """Unpack an archive into a folder, which appears as a whole or not at all.

    Args:
        path: The archive.
        folder: Where its members will be; if it is there and newer than the archive, it is taken for these.
        kinds: `"tar"`, `"zip"` or both: what it may be.
        size_limit: Bytes that all members together may have.
        anew: Whether to unpack it even if the folder is there.

    Raises:
        BadFileError: It is broken or hostile, or none of these kinds, or there is a file where the folder would be.
        OSError: The folder can't be written to, or the disk is full.

    Example:
        >>> import zipfile
        >>> with zipfile.ZipFile("a.zip", "w") as archive:
        ...     archive.writestr("a.txt", "hello")
        >>> [file.name for file in unpack(Path("a.zip"), Path("a"), ("zip",), 1000).iterdir()]
        ['a.txt']
    """
    if not anew and _is_newer(folder, path):
        return folder
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadFileError(
            path,
            f"would be unpacked to {folder}, which is a file or a link",
            do="pass another fname, or delete that",
        )
    aside = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        _write(path, aside, kinds, size_limit)
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)
        os.utime(aside)
        _put(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _is_newer(folder: Path, archive: Path) -> bool:
    return folder.is_dir() and folder.stat().st_mtime >= archive.stat().st_mtime


def _put(aside: Path, folder: Path) -> None:
    """Give a folder its name; what had it before is deleted after that."""
    for _ in range(100):
        old = Path(f"{aside}.old")
        try:
            if folder.is_dir() and not folder.is_symlink():
                os.rename(folder, old)
            os.rename(aside, folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)
    raise BadFileError(folder, "is written again and again by others")


def _write(path: Path, folder: Path, kinds: tuple[str, ...], size_limit: int) -> None:
    left, seen = size_limit, set[str]()
    for name, pieces in _members(path, kinds, size_limit):
        target = folder.joinpath(*_parts(name, path))
        known = target.relative_to(folder).as_posix()
        if known in seen:
            raise BadFileError(path, "is named twice", place=f"member {name[:200]!r}", do=_DONT)
        seen.add(known)
        if len(seen) > _MOST_FILES:
            raise BadFileError(path, f"has more than {_MOST_FILES:,} members", do=_DONT)
        try:
            (target if pieces is None else target.parent).mkdir(parents=True, exist_ok=True)
            if pieces is not None:
                with target.open("xb") as file:
                    left -= _fill(file, pieces, left, path, size_limit)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise BadFileError(
                path, "is a file and a folder at once", place=f"member {name[:200]!r}"
            ) from None


def _fill(file: BinaryIO, pieces: Iterator[bytes], left: int, path: Path, size_limit: int) -> int:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > left:
            raise _too_large(path, size_limit)
        file.write(piece)
    return size


def _too_large(path: Path, size_limit: int, size: int | None = None) -> BadFileError:
    much = f"{size:,} bytes" if size is not None else f"more than {size_limit:,} bytes"
    return BadFileError(path, f"unpacks to {much}", do="pass a larger size_limit if that is right")


def _parts(name: str, path: Path) -> list[str]:
    """The folders of a name and the file in them."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    outside = name.startswith("/") or ".." in parts or set(name) & set("\\\0") or name[1:2] == ":"
    if outside or len(parts) > _DEEPEST or any(len(os.fsencode(part)) > 255 for part in parts):
        why = (
            "leads out of the folder it would be unpacked into"
            if outside
            else "is too deep or too long a name"
        )
        raise BadFileError(path, why, place=f"member {name[:200]!r}", do=_DONT)
    return parts


def _members(path: Path, kinds: tuple[str, ...], size_limit: int) -> Iterator[Piece]:
    with opened(path) as window:
        start = window.take(min(window.size, 512))
        window.go_to(0)
        if start.startswith(b"PK") and "zip" in kinds:
            archive = directory(window, _LIMITS)
            claimed = sum(archive[name].size for name in archive.names)
            if claimed > size_limit:
                raise _too_large(path, size_limit, claimed)
            for name in archive.names:
                yield name, None if name.endswith("/") else archive.pieces(name)
            return
    packing = next((unpacks for mark, unpacks in _PACKINGS.items() if start.startswith(mark)), None)
    if "tar" not in kinds or not (packing or start[257:262] == b"ustar"):
        raise BadFileError(path, f"is no archive of the kind {' or '.join(kinds)}", do="pass extract=False")
    yield from _tar(path, packing, size_limit)


def _tar(path: Path, packing: Any, size_limit: int) -> Iterator[Piece]:
    most = min(size_limit + _SLACK + 512 * 2 * _MOST_FILES, path.stat().st_size * _LIMITS.ratio + _SLACK)
    at = -1
    with (
        _understood(path),
        path.open("rb") as stored,
        packing(stored) if packing else nullcontext(stored) as plain,
    ):
        careful: Any = _Careful(io.BufferedReader(_Metered(plain, path, most), _PIECE), path)
        with tarfile.open(fileobj=careful, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if member.offset <= at:  # a size below zero leads back
                    raise BadFileError(
                        path, "leads back to an earlier member", place=f"byte {member.offset:,}"
                    )
                at = member.offset
                vars(archive)["members"].clear()  # it keeps all of them, which only fill the memory
                yield member.name, _content(archive, member, path, size_limit)


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Say in one kind of error that a tar is broken, however Python's reader noticed."""
    try:
        yield
    except BadFileError:
        raise
    except _BROKEN as error:
        reason = str(error)[:200] or type(error).__name__
        raise BadFileError(path, f"can't be unpacked: {reason}", do="download it again") from None


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, size_limit: int
) -> Iterator[bytes] | None:
    place = f"member {member.name[:200]!r}"
    if member.isdir():
        return None
    if not member.isreg() or member.issparse():
        raise BadFileError(path, f"is {_other(member)}, no file", place=place, do=_DONT)
    if not 0 <= member.size <= size_limit:
        if member.size > size_limit:
            raise _too_large(path, size_limit, member.size)
        raise BadFileError(path, f"claims {member.size:,} bytes", place=place, do=_DONT)
    return _pieces(archive, member, path)


def _other(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    return "full of holes" if member.issparse() else "a device"


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    stream: Any = archive.extractfile(member)
    left = member.size
    while left:
        with _understood(path):
            piece = stream.read(min(left, _PIECE))
        if not piece:
            raise BadFileError(path, "ends inside of it", place=f"member {member.name[:200]!r}")
        left -= len(piece)
        yield piece


class _Metered(io.RawIOBase):
    """The bytes of a tar, unpacked, up to as many as the file can honestly unpack to."""

    def __init__(self, stream: Any, path: Path, most: int) -> None:
        self._stream, self._path, self._most = stream, path, most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; of a packed file all before it is unpacked, a piece at a time."""
        self._check(offset if whence == 0 else self._most + 1)
        return self._stream.seek(offset)

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        self._check(self._stream.tell())
        buffer[: len(found)] = found
        return len(found)

    def _check(self, place: int) -> None:
        if not 0 <= place <= self._most:
            raise BadFileError(
                self._path,
                f"unpacks to more than {self._most:,} bytes",
                do="don't trust this file; it looks made to fill the disk",
            )


class _Careful:
    """Refuses to read much at once, as a header would that claims to be huge: all of it would be held in memory."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path = stream, path

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            raise BadFileError(
                self._path, f"has a header of {size:,} bytes", place=f"byte {self.tell():,}", do=_DONT
            )
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
