"""Arrays of downloaded files, read as data: those of NumPy, and those in pickles, of which nothing is run."""

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.npz import header
from tally.formats.pickle import Call, items_of, read_pickle, told
from tally.formats.window import Window, opened
from tally.formats.zip import directory

_LIMITS = Limits(header=256 * 2**20, tensors=4_000_000)
"""A fifth of a gigabyte, and 20 million steps of one pickle: CIFAR-100 has 154 MB, the reviews 6 million steps."""
_DEEPEST = 4
_NUMBERS = ("|u1", "|i1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")
"""Elements of NumPy's own arrays, as it calls them."""
_DONT = "don't trust this file"
_MADE = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_ENCODED = "_codecs.encode"
_NAMES = (*_MADE, "numpy.ndarray", "numpy.dtype", _ENCODED)
"""All that an array in a pickle names: what makes it, its class, its elements, and bytes as Python 3 writes them."""


def read_npz(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Read arrays out of a zip of them; one of Python objects, which is a pickle, becomes the list of what it holds.

    Args:
        path: The file.
        names: Which arrays.

    Raises:
        BadFileError: One of them is missing, or the file is broken, or one names anything but an array.

    Example:
        >>> np.savez("a.npz", x=np.arange(3), y=np.array([[1], [2, 3]], object))
        >>> read_npz(Path("a.npz"), ["x", "y"])
        {'x': array([0, 1, 2]), 'y': [[1], [2, 3]]}
    """
    with opened(path) as window:
        archive = directory(window, _LIMITS, labels=True)
        return {name: _member(archive.read(f"{name}.npy"), path, name) for name in names}


def read_pickled(path: Path) -> Any:
    """Read a file that is a pickle of plain things and arrays; `as_array` makes arrays of those.

    Args:
        path: The file.

    Raises:
        BadFileError: It is broken, or names anything but an array.
    """
    with opened(path) as window:
        return _unpickled(window)


def as_array(value: Any, file: Path, place: str) -> Any:
    """Make of an array in a pickle the array, uint8, or the list of what it holds if that is Python objects.

    Args:
        value: What `read_pickled` found.
        file: The file, for the error.
        place: Where in the file.

    Raises:
        BadFileError: It is no array, or has other elements, or fewer than its shape asks for.
    """

    def bad(reason: str) -> BadFileError:
        return BadFileError(file, reason, place=place, do=_DONT)

    if not isinstance(value, Call) or value.name not in _MADE:
        raise bad(f"is {told(value)} instead of an array")
    state = items_of(value.state) or ()
    if len(state) != 5:
        raise bad("is an array without a state")
    _, shape, dtype, is_turned, data = state
    sizes = items_of(shape) or ()
    if len(sizes) > _DEEPEST or not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
        raise bad("is an array with no usable shape")
    kind = _bytes(dtype.first) if isinstance(dtype, Call) and dtype.name == "numpy.dtype" else None
    if kind in (b"O8", b"O4", b"O", b"|O"):
        if not isinstance(data, list) or sizes != (len(data),):
            raise bad(f"is an array of the shape {sizes} without as many objects")
        return data
    raw = _bytes(data)
    if kind not in (b"u1", b"|u1") or raw is None:
        raise bad("is an array of elements that aren't read here")
    if len(raw) != math.prod(sizes):
        raise bad(f"has {len(raw):,} bytes of data, where the shape {sizes} asks for {math.prod(sizes):,}")
    return np.frombuffer(raw, np.uint8).reshape(sizes, order="F" if is_turned is True else "C")


def _unpickled(window: Window) -> Any:
    found = read_pickle(window, _LIMITS)
    for name in found.names:
        if str(name) not in _NAMES:
            raise window.bad(f"would import {name}, which no array needs; it was not run", do=_DONT)
    if window.left:
        raise window.bad(f"has {window.left:,} bytes behind the pickle", do=_DONT)
    return found.value


def _bytes(value: Any) -> bytes | None:
    """Bytes as the three kinds of pickles have them: Python 2's texts, Python 3's bytes, and those in a text."""
    if (
        isinstance(value, Call)
        and value.name == _ENCODED
        and value.arguments[1:] in (("latin1",), ("latin-1",))
    ):
        value = value.first
    if not isinstance(value, str):
        return value if isinstance(value, bytes) else None
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _member(data: bytes, path: Path, name: str) -> Any:
    """One array in NumPy's form."""
    place = f"member '{name}.npy'"
    window = Window(io.BytesIO(data), path, 0, len(data), place)
    kind, is_turned, shape = header(window)
    if kind in ("O", "|O"):
        return as_array(_unpickled(window), path, place)
    if kind not in _NUMBERS:
        raise window.bad(f"has elements of type {kind!r}, which aren't read here")
    dtype = np.dtype(kind)
    if len(shape) > _DEEPEST or math.prod(shape) * dtype.itemsize != window.left:
        raise window.bad(
            f"has {window.left:,} bytes of data, where the shape {str(shape)[:80]} asks for others"
        )
    found = np.frombuffer(data, dtype, offset=window.at).reshape(shape, order="F" if is_turned else "C")
    return found.copy()
