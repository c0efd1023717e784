"""Files that are whole or not there: written beside their place and moved in one stroke; read within limits."""

import errno
import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tally.core.errors import SavingError
from tally.core.layer import Layer
from tally.core.reading import Reading
from tally.core.registry import deserialize
from tally.writing import replaced

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
        SavingError: There is a file and `overwrite` is false, the folder doesn't exist, or the disk is full.
    """
    path = path.resolve()  # through a link to the file it means
    if path.exists() and not overwrite:
        raise SavingError(
            f"There is a file at {path} already.", do="choose another name, or pass overwrite=True"
        )
    if path.is_dir():
        raise SavingError(f"{path} is a folder.", do="name a file in it")
    if not path.parent.is_dir():
        raise SavingError(f"There is no folder {path.parent}.", do="make it first")
    had = "; the file that was there is as it was" if path.exists() else ""
    try:
        with replaced(path) as part:
            yield part
    except OSError as error:
        raise SavingError(
            f"{path} could not be written: {error.strerror or error}.",
            where=f"{_free(path.parent)} bytes are free in {path.parent}{had}",
            do=_REMEDIES.get(error.errno or 0, "save to another folder"),
        ) from error


_FULL = "make room there, or save to a folder on another disk"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or save to another file system",
    errno.EACCES: "save to a folder that you may write to",
    errno.EROFS: "save to a folder that you may write to",
}


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,}"
    except OSError:
        return "an unknown number of"


class _Written(io.FileIO):
    """A file for the HDF5 library, which may crash when a write fails: it is told that all went well until the end."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or nothing more once that has failed."""
        left = memoryview(data).cast("B")
        while left and self.failed is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failed = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


@contextmanager
def written_hdf5(part: Path) -> "Iterator[h5py.File]":
    """An HDF5 file to write.

    Args:
        part: Where; a file that `replace_file` gave.

    Raises:
        OSError: The disk is full.
    """
    import h5py

    with _Written(part, "w+") as raw:
        with h5py.File(raw, "w") as file:
            yield file
        if raw.failed is not None:
            raise raw.failed


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


def made_model(config: Any) -> Any:
    """The model, or the layer, that a configuration describes.

    Args:
        config: What `serialize` gave.

    Raises:
        SavingError: It describes something else, or nothing.
    """
    with Reading(config):
        made = deserialize(config)
        if not isinstance(made, Layer):
            raise SavingError(f"The configuration describes a {type(made).__name__}, and no model.")
    return made


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
        here = step_into(here, part, source)
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
    found = {} if group is None else {str(name): step_into(group, str(name), source) for name in group}
    arrays = {name: thing for name, thing in found.items() if isinstance(thing, h5py.Dataset)}
    for name, dataset in arrays.items():
        check_numbers(dataset, f"{path}/{name}", source)
    return arrays


def check_numbers(dataset: "h5py.Dataset", path: str, source: Any) -> None:
    """See to it that the values of an array are plain numbers of its file.

    Raises:
        SavingError: It lies in another file, holds no numbers, or claims far more than is stored.
    """
    try:
        problem = _distrust(dataset)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        problem = f"is damaged: {error}"
    if problem:
        raise SavingError(f"The array '{path}' in {source} {problem}.", do="don't trust this file")


def step_into(group: Any, name: str, source: Any) -> Any:
    """A member of a group, unless it is a link to somewhere else."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise SavingError(
            f"'{group.name.rstrip('/')}/{name}' in {source} is a link to somewhere else.",
            do="don't trust this file",
        )
    try:
        return group[name]
    except (KeyError, ValueError, TypeError) as error:  # what h5py says of a header that was overwritten
        raise SavingError(
            f"'{name}' in {source} is damaged: {error}", do="copy or download it again"
        ) from error


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
