"""Files to load, looked through before the libraries that read them see them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tally.core.errors import SavingError
from tally.formats.errors import BadFileError
from tally.formats.hdf5 import Tree, read_tree
from tally.formats.window import Window, opened
from tally.formats.zip import directory
from tally.saving.files import check_numbers, find_group, step_into

if TYPE_CHECKING:
    import h5py


class DamagedFileError(SavingError, BadFileError):
    """A file that is to be loaded is broken or hostile: a `SavingError` and a `BadFileError` in one.

    Args:
        error: What its reader found.
    """

    def __init__(self, error: BadFileError) -> None:
        BadFileError.__init__(self, error.file, error.reason, place=error.place, do=error.do)
        self.what, self.where, self.code = str(error).split("\n")[0], error.place, None

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it pass between processes, with its parts."""
        return type(self), (BadFileError(self.file, self.reason, place=self.place, do=self.do),)


@contextmanager
def telling_damage() -> Iterator[None]:
    """Let the error of a file that is broken be a `SavingError`, too, which loading is documented to raise."""
    try:
        yield
    except SavingError:
        raise
    except BadFileError as error:
        raise DamagedFileError(error) from error


def check_archive(path: Path) -> None:
    """Look through a zip's structure before anything is unpacked.

    Args:
        path: The archive.

    Raises:
        DamagedFileError: It is broken, names something twice, or unpacks to far more than it stores.
    """
    with telling_damage(), opened(path) as window:
        directory(window)


@contextmanager
def opened_hdf5(source: Any, path: Path) -> "Iterator[tuple[h5py.File, Tree]]":
    """An HDF5 file to read, which the HDF5 library sees only after its structure was found to be sound.

    That library may crash, follow links out of the file, or allocate what a few bytes claim.

    Args:
        source: The file, or a stream of its bytes.
        path: Its name, for messages.

    Raises:
        DamagedFileError: It is broken, leads out of itself, or claims far more than it stores.
    """
    import h5py

    with telling_damage():
        if isinstance(source, (str, Path)):
            with opened(Path(source)) as window:
                tree = read_tree(window)
        else:
            tree = read_tree(Window(source, path, 0, source.seek(0, io.SEEK_END), "the weights"))
            source.seek(0)
    with h5py.File(source, "r") as file:
        yield file, tree


def array_at(file: "h5py.File", path: str, source: Any) -> "h5py.Dataset":
    """An array by its path, looked at but not read.

    Raises:
        SavingError: There is none, or it is a link, holds no numbers, or claims far more than is stored.
    """
    import h5py

    above, _, name = path.rpartition("/")
    group = find_group(file, above, source) if above else file
    found = step_into(group, name, source) if group is not None and name in group else None
    if not isinstance(found, h5py.Dataset):
        raise SavingError(f"{source} names the array '{path}', which isn't there.")
    check_numbers(found, path, source)
    return found
