"""A file that another one names: it has to lie in the same folder or below, and be what it seems to be."""

import os
import stat
from pathlib import Path

from tally.formats.errors import BadFileError

_INSIDE = "put the file itself into the folder, and name it by its place in there"


def beside(file: Path, name: str, place: str) -> tuple[Path, int] | None:
    """Return the path and the size of a file that `file` names; None where there is none.

    Nothing is opened. A name that leads out of the folder, through a link or to a file that somebody else put there
    is refused before anything else is done with it.

    Args:
        file: The file that names another; where it is a folder, that folder.
        name: What it says, with `/` between folders.
        place: Where it says so, for the error.

    Raises:
        BadFileError: The name leads elsewhere, or to something that is no plain file.

    Example:
        >>> beside(Path("model.onnx"), "../other.bin", "tensor 'w'")
        Traceback (most recent call last):
        ...
        tally.formats.errors.BadFileError: model.onnx, tensor 'w': names the file '../other.bin', outside of its folder.
          do: put the file itself into the folder, and name it by its place in there
    """
    shown = repr(name[:200])
    parts = name.split("/")
    while "." in parts:
        parts.remove(".")
    if not parts or len(parts) > 100 or not all(parts) or ".." in parts or set(name) & set("\\:\0"):
        raise BadFileError(file, f"names the file {shown}, outside of its folder", place=place, do=_INSIDE)
    path = file if file.is_dir() else file.parent
    status = None
    for number, part in enumerate(parts, 1):
        path = path / part
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BadFileError(file, f"names the file {shown}: {error}", place=place) from None
        if stat.S_ISLNK(status.st_mode):
            raise BadFileError(file, f"names {shown}, which goes through a link", place=place, do=_INSIDE)
        if not (stat.S_ISREG(status.st_mode) if number == len(parts) else stat.S_ISDIR(status.st_mode)):
            raise BadFileError(file, f"names {shown}, which is no file", place=place)
    assert status is not None
    if status.st_nlink > 1 and status.st_uid != os.stat(file).st_uid:
        raise BadFileError(
            file, f"names {shown}, which is also a file of somebody else", place=place, do=_INSIDE
        )
    return path, status.st_size
