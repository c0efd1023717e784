"""Small helpers beside models: labels and vectors, files from the net, seeds, names of custom objects."""

import gc
import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from contextlib import suppress
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import registry
from tally.core.dtype import floatx, standardize_dtype
from tally.core.errors import ArgumentError, DataError
from tally.core.naming import reset_names
from tally.core.random import set_random_seed
from tally.core.registry import (
    custom_object_scope,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from tally.core.symbol import KerasTensor

if TYPE_CHECKING:
    from tally.callbacks.progress import Progbar
    from tally.training.data import PyDataset
    from tally.training.data import PyDataset as Sequence

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "is_keras_tensor",
    "normalize",
    "pack_x_y_sample_weight",
    "register_keras_serializable",
    "set_random_seed",
    "standardize_dtype",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

CustomObjectScope = custom_object_scope

_ELSEWHERE = {
    "PyDataset": ("tally.training.data", "PyDataset"),
    "Sequence": ("tally.training.data", "PyDataset"),
    "Progbar": ("tally.callbacks.progress", "Progbar"),
}
"""What Keras users look for here but rooms above this one define."""


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        module, thing = _ELSEWHERE[name]
        return getattr(import_module(module), thing)
    raise AttributeError(f"module 'tally.utils' has no attribute '{name}'")


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Write classes as vectors with a 1 in the place of the class.

    Args:
        x: Classes from 0, of any shape; a last axis of size 1 is dropped.
        num_classes: Length of the vectors; one more than the largest class by default.

    Returns:
        An array of the shape of `x` and an axis of classes behind: JAX for JAX arrays, NumPy otherwise.

    Raises:
        ArgumentError: A class is not below `num_classes`, or negative.

    Example:
        >>> to_categorical([0, 2])
        array([[1., 0., 0.],
               [0., 0., 1.]])

    Source: `keras.utils.to_categorical`.
    """
    classes = np.asarray(x).astype("int64")
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    largest = int(classes.max(initial=-1))
    num_classes = num_classes or largest + 1
    if largest >= num_classes or classes.min(initial=0) < 0:
        raise ArgumentError(
            f"The classes range from {classes.min()} to {largest}, but there are {num_classes}.",
            do=f"pass num_classes={largest + 1}, or shift the classes",
        )
    vectors = np.zeros((*classes.shape, num_classes))
    np.put_along_axis(vectors, classes[..., None], 1, axis=-1)
    return jnp.asarray(vectors, floatx()) if isinstance(x, jax.Array) else vectors


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Divide vectors by their length; a vector of zeros stays.

    Args:
        x: An array.
        axis: The axis along which the vectors lie.
        order: Which norm is the length: 2 for Euclid's, 1 for the sum of absolute values.

    Returns:
        An array of the same shape: JAX for JAX arrays, NumPy otherwise.

    Source: `keras.utils.normalize`.
    """
    library: Any = jnp if isinstance(x, jax.Array) else np
    length = library.linalg.norm(x, order, axis, keepdims=True)
    return x / library.where(length == 0, 1, length)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Arrange a batch as `fit` takes it: `x`, `(x, y)` or `(x, y, sample_weight)`."""
    if y is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Take a batch apart into `(x, y, sample_weight)`, None standing for what it doesn't have.

    Raises:
        DataError: It has more than three parts, or none.
    """
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise DataError(f"A batch has {len(parts)} parts.", do="give x, (x, y) or (x, y, sample_weight)")
    x, y, sample_weight = (*parts, None, None)[:3]
    return x, y, sample_weight


def is_keras_tensor(x: Any) -> bool:
    """Whether something is a symbolic tensor, as `Input` makes it."""
    return isinstance(x, KerasTensor)


def get_custom_objects() -> dict[str, Any]:
    """The dict of names that files may use for your own classes and functions; write into it to add some."""
    return registry._registered


def clear_session(free_memory: bool = True) -> None:
    """Count default names from the start again.

    Args:
        free_memory: Whether to also forget compiled functions and collect garbage.
    """
    reset_names()
    if free_memory:
        jax.clear_caches()
        gc.collect()


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

    What is downloaded has a temporary name until its hash has been checked, so that a file under its own
    name is whole.

    Args:
        fname: Name of the file; that in the address by default.
        origin: The address: http, https or file.
        untar: Another name for `extract`.
        md5_hash: Another name for `file_hash`.
        file_hash: The SHA-256, or MD5, in hexadecimal that the file must have.
        cache_subdir: Directory within `cache_dir`.
        hash_algorithm: `"sha256"`, `"md5"`, or `"auto"` to tell by the length.
        extract: Whether to unpack a tar or zip archive and give the path to the directory.
        archive_format: `"tar"`, `"zip"`, `"auto"` for both, or None to unpack nothing.
        cache_dir: Where downloads are kept: `$TALLY_HOME`, or `~/.tally`, by default.
        force_download: Whether to download it even if it is there.
        size_limit: Number of bytes that neither the file nor what is unpacked may exceed.

    Raises:
        ArgumentError: The address or the name can't be used.
        DataError: The file could not be downloaded, is too large, or is not the expected one.

    Example:
        >>> with open("iris.csv", "w") as file:
        ...     print("5.1,3.5,1.4,0.2,setosa", file=file)
        >>> address = Path("iris.csv").absolute().as_uri()  # or https://..., with a file_hash
        >>> tally.utils.get_file(origin=address, cache_dir="downloads")
        'downloads/datasets/iris.csv'

    Source: `keras.utils.get_file`.
    """
    address = urllib.parse.urlsplit(origin or "")
    if address.scheme not in ("http", "https", "file"):
        raise ArgumentError(
            f"get_file can't download from origin={origin!r}.", do="pass an http, https or file address"
        )
    assert origin is not None
    name = os.fspath(fname) if fname else os.path.basename(address.path)
    if not name or name in (".", "..") or Path(name).name != name:
        raise ArgumentError(
            f"get_file can't name a file {name!r}.",
            do="pass a plain name as fname, and directories as cache_dir",
        )
    file_hash = file_hash or md5_hash
    directory = Path(cache_dir or os.environ.get("TALLY_HOME") or "~/.tally").expanduser() / cache_subdir
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    if force_download or not path.exists() or not _has_hash(path, file_hash, hash_algorithm):
        _download(origin, path, file_hash, hash_algorithm, size_limit)
    if not (extract or untar) or not archive_format:
        return str(path)
    return str(_unpack(path, archive_format, size_limit, anew=force_download))


def _has_hash(path: Path, expected: str | None, algorithm: str) -> bool:
    if expected is None:
        return True
    if algorithm == "auto":
        algorithm = "md5" if len(expected) == 32 else "sha256"
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == expected.lower()


def _download(origin: str, path: Path, expected: str | None, algorithm: str, size_limit: int) -> None:
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file, urllib.request.urlopen(origin, timeout=60) as response:
            announced = response.headers.get("Content-Length")
            size = _copy(response, file, origin, size_limit)
        if announced is not None and size != int(announced):
            raise DataError(f"{origin} broke off after {size:,} of {int(announced):,} bytes.", do="try again")
        if not _has_hash(Path(aside), expected, algorithm):
            raise DataError(
                f"{origin} is not the expected file: its hash is not {expected}.",
                do="check the address and the hash; the file may have been replaced",
            )
        os.replace(aside, path)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{origin} could not be downloaded: {error}.", do="check the address and the network"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)


def _copy(response: Any, file: Any, origin: str, size_limit: int) -> int:
    size = 0
    while chunk := response.read(2**20):
        size += len(chunk)
        if size > size_limit:
            raise DataError(
                f"{origin} has more than {size_limit:,} bytes.",
                do="pass a larger size_limit if that is right",
            )
        file.write(chunk)
    return size


def _unpack(path: Path, formats: str | list[str], size_limit: int, *, anew: bool) -> Path:
    """Unpack an archive beside itself, as a whole or not at all."""
    known = ["tar", "zip"] if formats == "auto" else [formats] if isinstance(formats, str) else formats
    target = path.with_name(f"{path.name.split('.')[0]}_extracted")
    if target.exists() and not anew and target.stat().st_mtime >= path.stat().st_mtime:
        return target
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        if "tar" in known and tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                _check_size(path, sum(member.size for member in archive), size_limit)
                archive.extractall(aside, filter="data")
        elif "zip" in known and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_size(path, sum(member.file_size for member in archive.infolist()), size_limit)
                archive.extractall(aside)
        else:
            raise DataError(
                f"{path.name} is no archive of the kind {' or '.join(known)}.", do="pass extract=False"
            )
        os.utime(aside)  # an archive may set its own directory's time
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} can't be unpacked: {error}.", do="download it again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _check_size(path: Path, size: int, size_limit: int) -> None:
    if size > size_limit:
        raise DataError(
            f"{path.name} unpacks to {size:,} bytes.", do="pass a larger size_limit if that is right"
        )
