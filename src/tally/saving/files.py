"""Files that are whole or not there: written beside their place and moved in one stroke; read within limits."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tally.core.errors import SavingError

MAX_TEXT = 256 * 2**20
"""Bytes that a configuration may have; the largest known ones take a few."""
MAX_RATIO = 1000
"""How many times its stored size a member of an archive may unpack to."""


@contextmanager
def replace_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write to; when the block succeeds it becomes `path`, else what was there stays.

    Raises:
        SavingError: There is a file and `overwrite` is false, or the folder doesn't exist.
    """
    if path.exists() and not overwrite:
        raise SavingError(
            f"There is a file at {path} already.", do="choose another name, or pass overwrite=True"
        )
    if not path.parent.is_dir():
        raise SavingError(f"There is no folder {path.parent}.", do="make it first")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        if path.exists():
            part.chmod(path.stat().st_mode & 0o777)
        else:
            umask = os.umask(0)
            os.umask(umask)
            part.chmod(0o666 & ~umask)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_member(archive: zipfile.ZipFile, name: str, *, limit: int | None = MAX_TEXT) -> bytes:
    """A member of an archive, unpacked.

    Raises:
        SavingError: It is missing, too large, or unpacks to far more than it is stored in.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise SavingError(f"{archive.filename} holds no {name}, so it is no .keras file.") from None
    too_large = limit is not None and info.file_size > limit
    if too_large or info.file_size > max(info.compress_size, 1) * MAX_RATIO + 2**20:
        raise SavingError(
            f"{name} in {archive.filename} claims {info.file_size:,} bytes, stored in {info.compress_size:,}.",
            do="don't trust this file; it looks made to fill the memory",
        )
    return archive.read(name)


def check_h5(thing: Any, name: str) -> None:
    """Refuse what can make an HDF5 file read other files or unpack to any size.

    Raises:
        SavingError: The dataset is a link to elsewhere, is stored outside, or is virtual.
    """
    if getattr(thing, "external", None) or getattr(thing, "is_virtual", False):
        raise SavingError(
            f"'{name}' in {thing.file.filename} is stored in another file.", do="don't trust this file"
        )
