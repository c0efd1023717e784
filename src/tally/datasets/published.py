"""The files of the data sets that are downloaded: where they lie, what they hash to, and what is said without them."""

import os
from dataclasses import dataclass
from pathlib import Path

from tally.core.errors import DataError
from tally.downloads import get_file

KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
"""Where Keras keeps copies of most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A file that everybody may download.

    Args:
        title: What the data set is called.
        address: Where the file lies.
        pin: Its SHA-256 in hexadecimal, or its MD5 where nobody has published more.
        size: How many bytes it has; of an archive, how many all that is in it may have.
    """

    title: str
    address: str
    pin: str
    size: int

    def fetch(self, name: str, subdir: str = "datasets") -> Path:
        """Give the path to the file, which is downloaded if it isn't there.

        Args:
            name: What it is called in the folder of downloads.
            subdir: That folder, seen from `$TALLY_HOME`.

        Raises:
            DataError: It isn't there and can't be downloaded, or is another one.
        """
        return self._get(name, name, subdir, extract=False)

    def unpack(self, folder: str) -> Path:
        """Give the path to the folder that the archive is unpacked into.

        Args:
            folder: What it is called; the archive beside it has `_archive` behind that.

        Raises:
            DataError: The archive isn't there and can't be downloaded, or is another one.
            BadFileError: It is broken, or would write outside of the folder.
        """
        return self._get(folder, f"{folder}_archive", "datasets", extract=True)

    def _get(self, name: str, kept: str, subdir: str, *, extract: bool) -> Path:
        try:
            found = get_file(
                name,
                self.address,
                file_hash=self.pin,
                cache_subdir=subdir,
                extract=extract,
                size_limit=self.size,
            )
        except DataError as error:
            home = os.environ.get("TALLY_HOME") or "~/.tally"
            raise DataError(
                f"{self.title} is not on this machine and could not be downloaded.",
                where=error.what,
                do=f"bring {self.address} here as {home}/{subdir}/{kept}, "
                "or take tally.datasets.digits, which needs no network",
            ) from error
        return Path(found)
