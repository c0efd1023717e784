"""A model in several files that change in one stroke: the new ones count from the moment that one file names them.

The order is what keeps every moment whole. New files get names that no file has. When all are on the disk, the index
is replaced by one rename, and that is the moment at which the new set stands for the old. Only then are the old set's
files deleted. A process that is killed before leaves the old set, and new files that nothing names; one that is killed
after leaves the new set, and old files that nothing names. The next save deletes both.
"""

import math
import os
import re
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

from tally.core.errors import SavingError
from tally.formats.errors import BadFileError
from tally.saving.files import replace_file
from tally.writing import is_being_written, keep_names

WRITE = "tally.write"
"""Under which each of several files and their index say that they were written together."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

Item = TypeVar("Item")


class FileSet(ABC):
    """What the forms of several files share; a subclass says how files are named and known again.

    Args:
        index: The file that names the others, which lie beside it.
    """

    named_so: ClassVar[str]
    """How the files' names are made of `stem`, `tag`, `number` and `count`."""
    known_by: ClassVar[str]
    """The same as a regular expression."""
    between: ClassVar[str]
    """What stands behind a tag."""
    first: ClassVar[int]
    """The number of the first file."""
    kept: frozenset[str] = frozenset()
    """Names that are never deleted."""

    def __init__(self, index: Path) -> None:
        self.index, self.folder = index, index.parent
        self.pattern = re.compile(self.known_by.format(stem=re.escape(self.stem)))

    @property
    @abstractmethod
    def stem(self) -> str:
        """What all names begin with."""

    @abstractmethod
    def listed(self) -> Iterable[str]:
        """The names that the index has; raises `BadFileError` if it is broken."""

    @abstractmethod
    def token_of(self, path: Path) -> str | None:
        """The word by which a file says with which others it was written; None if this library didn't write it.

        Raises:
            BadFileError: It is no such file.
        """

    @abstractmethod
    def before(self) -> None:
        """Do what the form needs done before the new index stands."""

    @abstractmethod
    def after(self, names: Sequence[str], old: Container[str]) -> None:
        """Do what the form needs done once it stands: it has these names in place of the old ones."""

    def write(
        self,
        count: int,
        write_file: Callable[[int, Path, str], None],
        write_index: Callable[[Path, Sequence[str], str], None],
        *,
        overwrite: bool,
    ) -> None:
        """Write a new set of files in place of the one that is there.

        Args:
            count: How many files.
            write_file: Called with the place of a file among them, where to write it, and a word to write into it.
            write_index: Called with where to write the index, the files' names, and that word.
            overwrite: Whether an index that is there may be replaced.

        Raises:
            SavingError: They can't be written; then the old set is as it was, and nothing new is left.
        """
        token = secrets.token_hex(8)
        names: list[str] = []
        try:
            with replace_file(self.index, overwrite=overwrite) as part:
                self.clear(part=part)
                old = self._named() or set()
                wanted = self._free(count, token[:8], is_alone=not is_being_written(self.index, part))
                for place, name in enumerate(wanted):
                    with replace_file(self.folder / name, overwrite=False) as file:
                        write_file(place, file, token)
                    names.append(name)
                write_index(part, wanted, token)
                self.before()
        except BaseException:
            if (named := self._named()) is not None:
                # It names them where the interruption came behind the last step.
                for name in set(names) - named:
                    (self.folder / name).unlink(missing_ok=True)
            raise
        self.after(names, old)
        self.clear(old)

    def clear(self, old: Container[str] = (), part: Path | None = None) -> None:
        """Delete what is no more part of the set: files of the set before, and those that a killed save left.

        Of the files that only look like leftovers, those stay that this library didn't write, and while another
        process is writing, all stay.

        Args:
            old: Names that an index had which is no more there.
            part: What is to become the index, where this process is writing one.
        """
        found = {one.name for one in os.scandir(self.folder) if self.pattern.fullmatch(one.name)}
        is_written = is_being_written(self.index, part)
        if (named := self._named()) is None:
            return
        for name in found - named - self.kept:
            if name in old or (not is_written and self.is_left(name)):
                with suppress(OSError):  # the next save tries again
                    (self.folder / name).unlink()

    def remove(self) -> None:
        """Delete the whole set, the index first, so that it never names what isn't there."""
        old = self._named() or set()
        self.index.unlink(missing_ok=True)
        keep_names(self.folder)
        self.clear(old)

    def _named(self) -> set[str] | None:
        """What the index names; None if it can't be read, so that nobody knows."""
        try:
            return set(self.listed()) if self.index.exists() else set()
        except (BadFileError, OSError):
            return None

    def is_left(self, name: str) -> bool:
        """Whether a file that the index doesn't name was written by this library for a set of this name."""
        path = self.folder / name
        match = self.pattern.fullmatch(name)
        try:
            token = self.token_of(path) if stat.S_ISREG(path.lstat().st_mode) else None
        except (BadFileError, OSError):
            return False
        return token is not None and match is not None and token.startswith(match["tag"] or "")

    def _free(self, count: int, tag: str, *, is_alone: bool) -> list[str]:
        """Names that no file has: plain ones where nobody else may take them meanwhile, else with a tag."""
        numbers = range(self.first, self.first + count)
        for middle in ("", tag + self.between):
            names = [self.named_so.format(stem=self.stem, tag=middle, number=n, count=count) for n in numbers]
            if is_alone and not any(os.path.lexists(self.folder / name) for name in names):
                break
        return names


def share_out(items: Sequence[Item], size_of: Callable[[Item], int], most: float) -> list[list[Item]]:
    """Parts in order, each as full as it may be; what is larger than that alone has a part of its own.

    Example:
        >>> share_out([3, 3, 9, 1], int, 6)
        [[3, 3], [9], [1]]
    """
    parts: list[list[Item]] = [[]]
    room = most
    for item in items:
        size = size_of(item)
        if parts[-1] and size > room:
            parts.append([])
            room = most
        parts[-1].append(item)
        room -= size
    return parts


def bytes_in(size: int | float | str | None, unit: str = "") -> float:
    """How many bytes the most of one file are; without end for None.

    Args:
        size: A number, or a text such as `"5GB"`.
        unit: What a number alone is in.

    Raises:
        SavingError: It is no size.

    Example:
        >>> bytes_in("2KB"), bytes_in(0.5, "GiB")
        (2000.0, 536870912.0)
    """
    if size is None:
        return math.inf
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*([A-Za-z]*)\s*", str(size))
    if found is None or found[2].upper() not in _UNITS or float(found[1]) <= 0:
        raise SavingError(
            f"max_shard_size can't be {size!r}.", do="pass a number of bytes, or '5GB' or '500MB'"
        )
    return float(found[1]) * _UNITS[(found[2] or unit).upper()]
