"""The folder where downloads are kept, and the one function that asks it for a file."""

import hashlib
import os
import re
import urllib.parse
import warnings
from dataclasses import dataclass
from pathlib import Path

from tally.core.errors import ArgumentError, DataError
from tally.downloads.archives import unpack
from tally.downloads.fetching import Source, fetch

_LENGTHS = {"md5": 32, "sha256": 64}
"""Digits of a hash, by which `"auto"` tells them apart."""


@dataclass(frozen=True, slots=True)
class Pin:
    """The hash that a file must have.

    Args:
        algorithm: `"sha256"` or `"md5"`.
        digits: In hexadecimal, small letters.
    """

    algorithm: str
    digits: str

    def of(self, path: Path) -> str:
        """The hash that a file has."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest()


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | list[str] | None = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    size_limit: int = 64 * 2**30,
) -> str:
    """Download a file once, check it, and give the path to it.

    A file under its own name is whole: until its hash has been checked it has another one. What breaks off is
    resumed, in this call or in the next. A file that is there stays until the one that replaces it is whole.

    Args:
        fname: Name of the file; that in the address by default. With `extract`, a name without a dot is that of the
            folder.
        origin: The address: http, https or file. A name and a password in it are sent to that server alone, and are
            neither shown nor kept.
        untar: Unpack a tar archive; another name for `extract=True, archive_format="tar"`.
        md5_hash: Another name for `file_hash`, which is an MD5; not looked at where `file_hash` is given.
        file_hash: The SHA-256, or MD5, in hexadecimal that the file must have.
        cache_subdir: Directory within `cache_dir`.
        hash_algorithm: `"sha256"`, `"md5"`, or `"auto"` to tell by the length.
        extract: Whether to unpack a tar or zip archive and give the path to the directory.
        archive_format: `"tar"`, `"zip"`, `"auto"` for both, or None to unpack nothing, with a warning.
        cache_dir: Where downloads are kept: `$TALLY_HOME`, or `~/.tally`, by default.
        force_download: Whether to download it even if it is there.
        size_limit: Number of bytes that neither the file nor what is unpacked may exceed.

    Raises:
        ArgumentError: The address, the name or the hash can't be used.
        DataError: The file could not be downloaded, is too large, or is not the expected one.
        BadFileError: The archive is broken, or would write outside of its folder, or is a bomb.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("iris.csv").write_text("5.1,3.5,1.4,0.2,setosa")
        >>> address = Path("iris.csv").absolute().as_uri()  # or https://..., with a file_hash
        >>> tally.utils.get_file(origin=address, cache_dir="downloads")
        'downloads/datasets/iris.csv'

    Source: `keras.utils.get_file`.
    """
    source = Source.of(origin)
    name, folder_name = _names(fname, source, unpacked=extract or untar)
    if file_hash is None and md5_hash is not None:
        file_hash, hash_algorithm = md5_hash, "md5"
    pin = _pin(file_hash, hash_algorithm)
    kinds = _kinds("tar" if untar else archive_format)
    path = _folder(cache_dir, cache_subdir) / name
    if force_download or not _is_there(path, pin):
        fetch(source, path, pin, size_limit)
    if not (extract or untar):
        return str(path)
    folder = path.with_name(folder_name)
    if not kinds:
        warnings.warn(f"{path} is not unpacked: archive_format is {archive_format!r}.", stacklevel=2)
        return str(folder)
    return str(_unpacked(path, folder, kinds, size_limit, anew=force_download))


def _unpacked(path: Path, folder: Path, kinds: tuple[str, ...], size_limit: int, *, anew: bool) -> Path:
    """Unpack an archive, and say of a full or closed disk what to do."""
    try:
        return unpack(path, folder, kinds, size_limit, anew=anew)
    except OSError as error:
        raise DataError(
            f"{path} could not be unpacked to {folder}: {error.strerror or error}.",
            do="make room, or pass a folder that can be written to as cache_dir",
        ) from error


def _is_there(path: Path, pin: Pin | None) -> bool:
    """Whether a path is a file already, and the right one."""
    try:
        if path.exists() and not path.is_file():
            raise ArgumentError(
                f"get_file can't name a file {str(path)!r}: it is a folder or a device.",
                do="pass another fname",
            )
        return path.exists() and (pin is None or pin.of(path) == pin.digits)
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror or error}.", do="pass another fname, or cache_dir"
        ) from error


def _names(fname: str | os.PathLike[str] | None, source: Source, *, unpacked: bool) -> tuple[str, str]:
    """What the file is called, and the folder that it is unpacked into, as Keras calls them."""
    name = os.fspath(fname) if fname else urllib.parse.urlsplit(source.address).path.rpartition("/")[2]
    if not name or name in (".", "..") or Path(name).name != name or set(name) & set("\\\0"):
        raise ArgumentError(
            f"get_file can't name a file {name!r}.",
            do="pass a plain name as fname, and directories as cache_dir",
        )
    if not unpacked:
        return name, name
    if fname and "." in name:
        return name, f"{name.partition('.')[0]}_extracted"
    return f"{name}_archive", name


def _pin(digits: str | None, algorithm: str) -> Pin | None:
    if algorithm not in ("auto", *_LENGTHS):
        raise ArgumentError(
            f"get_file doesn't know the hash_algorithm {algorithm!r}.", do='pass "sha256", "md5" or "auto"'
        )
    if digits is None:
        return None
    known = {length: name for name, length in _LENGTHS.items()}
    found = known.get(len(digits)) if re.fullmatch("[0-9a-fA-F]*", digits) else None
    if found is None or algorithm not in ("auto", found):
        raise ArgumentError(
            f"get_file can't compare a file with {digits!r}: that is no {algorithm.replace('auto', 'hash')}.",
            do="pass the 64 hexadecimal digits of its SHA-256 as file_hash, or the 32 of its MD5",
        )
    return Pin(found, digits.lower())


def _kinds(formats: str | list[str] | None) -> tuple[str, ...]:
    kinds = (
        ("tar", "zip")
        if formats == "auto"
        else (formats,)
        if isinstance(formats, str)
        else tuple(formats or ())
    )
    if not set(kinds) <= {"tar", "zip"}:
        raise ArgumentError(
            f"get_file can't unpack archive_format={formats!r}.", do='pass "tar", "zip" or "auto"'
        )
    return kinds


def _folder(cache_dir: str | os.PathLike[str] | None, within: str) -> Path:
    folder = Path(cache_dir or os.environ.get("TALLY_HOME") or "~/.tally") / within
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # or nobody knows where the home is
        raise DataError(
            f"Downloads can't be kept in {folder}: {str(getattr(error, 'strerror', None) or error).rstrip('.')}.",
            do="pass a folder that can be written to as cache_dir, or set TALLY_HOME",
        ) from error
    return folder
