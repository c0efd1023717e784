"""Files that are whole or not there: written beside their place and moved in one stroke; read within limits."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tally.core.errors import SavingError

if TYPE_CHECKING:
    import h5py  # imported by what uses it: most programs neither save nor load

MAX_TEXT = 256 * 2**20
"""Bytes that a configuration may have; the largest known ones take a few."""
MAX_RATIO = 200
"""How many times its stored size a member of an archive may unpack to."""


@contextmanager
def replace_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write to; when the block succeeds it becomes `path`, else what was there stays.

    Raises:
        SavingError: There is a file and `overwrite` is false, or the folder doesn't exist.
    """
    path = path.resolve()  # through a link to the file it means
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


def read_member(archive: zipfile.ZipFile, name: str, *, limit: int | None = None) -> bytes:
    """A member of an archive, unpacked.

    Args:
        archive: An open archive.
        name: The member.
        limit: Bytes it may have; any number that its stored size explains unless given.

    Raises:
        SavingError: It is missing, too large, or unpacks to far more than it is stored in.
    """
    if name not in archive.namelist():
        raise SavingError(f"{archive.filename} holds no {name}, so it is no .keras file.")
    info = archive.getinfo(name)
    too_large = limit is not None and info.file_size > limit
    if too_large or info.file_size > max(info.compress_size, 1) * MAX_RATIO + 2**20:
        raise SavingError(
            f"{name} in {archive.filename} claims {info.file_size:,} bytes, stored in {info.compress_size:,}.",
            do="don't trust this file; it looks made to fill the memory",
        )
    return archive.read(name)


def extract_folder(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    """Unpack the members below a name into a folder.

    Raises:
        SavingError: A member's name leads out of the folder.
    """
    for member in archive.namelist():
        if not member.startswith(f"{name}/") or member.endswith("/"):
            continue
        target = (folder / member.removeprefix(f"{name}/")).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise SavingError(
                f"{archive.filename} holds '{member}', which leads out of its folder.",
                do="don't trust this file",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_member(archive, member))


def find_group(file: "h5py.File", path: str, source: Any) -> "h5py.Group | None":
    """A group by its path, followed step by step so that no link leads out of the file; None when there is none.

    Raises:
        SavingError: A link is on the way.
    """
    import h5py

    here: Any = file
    for part in path.split("/"):
        if part not in here:
            return None
        here = _step(here, part, source)
        if not isinstance(here, h5py.Group):
            return None
    return here


def numbers_in(file: "h5py.File", path: str, source: Any) -> "dict[str, h5py.Dataset]":
    """The arrays in a group, looked at but not read; none when there is no such group.

    Raises:
        SavingError: One is a link, lies in another file, holds no numbers, or claims far more than is stored.
    """
    import h5py

    group = find_group(file, path, source)
    found = {} if group is None else {str(name): _step(group, str(name), source) for name in group}
    arrays = {name: thing for name, thing in found.items() if isinstance(thing, h5py.Dataset)}
    for name, dataset in arrays.items():
        problem = _distrust(dataset)
        if problem:
            raise SavingError(f"The array '{path}/{name}' in {source} {problem}.", do="don't trust this file")
    return arrays


def _step(group: Any, name: str, source: Any) -> Any:
    """A member of a group, unless it is a link to somewhere else."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise SavingError(
            f"'{group.name.rstrip('/')}/{name}' in {source} is a link to somewhere else.",
            do="don't trust this file",
        )
    return group[name]


def _distrust(dataset: "h5py.Dataset") -> str | None:
    """What is wrong with an array whose values can't be plain numbers of this file."""
    if dataset.external or dataset.is_virtual:
        return "is stored in another file"
    dtype = dataset.dtype
    marked = dtype.kind == "V" and dtype.names is None and dtype.subdtype is None and "dtype" in dataset.attrs
    if dtype.kind not in "biufc" and not marked:
        return f"holds {dtype}, no numbers"
    stored = dataset.id.get_storage_size()
    if dataset.shape is None or dataset.nbytes > max(stored, 1) * MAX_RATIO + 2**20:
        return f"claims {dataset.nbytes if dataset.shape is not None else 0:,} bytes, stored in {stored:,}"
    return None
