"""NumPy's files: an array with a header that says its shape, `.npy`, or several of them in a zip, `.npz`."""

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Span, Tensor
from tally.formats.window import Window, opened
from tally.formats.zip import DEFLATED, Archive, directory
from tally.formats.zip import MAGIC as ZIP

MAGIC = b"\x93NUMPY"
_LONGEST = 65_536
"""Bytes of a header; a few hundred are usual."""


def matches(path: Path) -> bool:
    """Tell whether a file is NumPy's, by its first bytes and, of a zip, the names in it."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            start = window.take(min(window.size, len(MAGIC)))
            if start == MAGIC:
                return True
            if not start.startswith(ZIP) and not (path.suffix == ".npz" and start.startswith(b"PK")):
                return False
            names = directory(window, labels=True).names
            return path.suffix == ".npz" or (bool(names) and all(name.endswith(".npy") for name in names))
    except BadFileError:
        return path.suffix in (".npz", ".npy")


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays a file holds; of an array of objects, which may run code, nothing is read.

    Args:
        path: The file.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or holds an array of objects.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, kernel=np.zeros((10, 5), "float32"))
        >>> [(tensor.name, tensor.shape) for tensor in read(path).tensors]
        [('kernel', (10, 5))]
    """
    with opened(path) as window:
        start = window.take(min(window.size, len(MAGIC)))
        window.go_to(0)
        if start == MAGIC:
            tensors = [_array(window, path.stem, limits)]
            return Contents(format="NumPy, npy", tensors=checked(tensors, path, limits), files=(path,))
        archive = directory(window, limits, labels=True)
        tensors = [_member(archive, name, path, limits) for name in archive.names if not name.endswith("/")]
        return Contents(format="NumPy, npz", tensors=checked(tensors, path, limits), files=(path,))


def _member(archive: Archive, name: str, path: Path, limits: Limits) -> Tensor:
    member = archive[name]
    place = f"member {name[:80]!r}"
    if not name.endswith(".npy"):
        raise BadFileError(path, "is no array: its name doesn't end in .npy", place=place)
    label = name.removesuffix(".npy")
    if not member.packed:
        return _array(archive.window(name), label, limits)
    start = archive.beginning(name, _LONGEST + 12)
    tensor, header = _described(Window(io.BytesIO(start), path, 0, len(start), place), label, limits)
    if header + tensor.stored != member.size:
        reason = f"has {member.size - header:,} bytes of data, where its shape asks for {tensor.stored:,}"
        raise BadFileError(path, reason, place=place)
    if tensor.span is None or member.method != DEFLATED:
        return replace(tensor, span=None)
    packed = {"start": member.start, "nbytes": member.stored, "filters": ("deflate",), "inside": header}
    return replace(tensor, span=replace(tensor.span, **packed))  # the header is packed with the data


def _array(window: Window, name: str, limits: Limits) -> Tensor:
    """An array whose bytes lie in the file as they are."""
    tensor, _ = _described(window, name, limits)
    if window.left != tensor.stored:
        raise window.bad(f"has {window.left:,} bytes of data, where its shape asks for {tensor.stored:,}")
    return tensor


def header(window: Window) -> tuple[str, bool, tuple[int, ...]]:
    """Read what stands before an array: the type of its elements, whether its first axis is the closest, its shape.

    Raises:
        BadFileError: It is no such header.
    """
    begin = window.at
    if window.take(len(MAGIC), "the first bytes") != MAGIC:
        raise window.bad("is no array of NumPy", at=begin)
    major, _ = window.take(2, "the version")
    if major not in (1, 2, 3):
        raise window.bad(f"is of version {major}, which isn't known", at=begin + 6)
    length = window.number("<H" if major == 1 else "<I", "the length of the header")
    if length > _LONGEST:
        raise window.bad(f"claims a header of {length:,} bytes, more than {_LONGEST:,}")
    at = window.at
    text = window.text(length, "the header", "utf-8" if major == 3 else "latin-1")
    found = _HEADER.fullmatch(" ".join(text.split()))
    if found is None:
        raise window.bad("has a header that isn't a plain type, an order and a shape", at=at)
    shape = tuple(int(size) for size in re.findall(r"\d+", found["shape"]))
    return found["descr"], found["fortran"] == "True", shape


def _described(window: Window, name: str, limits: Limits) -> tuple[Tensor, int]:
    """An array from its header, and the bytes of that."""
    begin = at = window.at
    described, first_closest, shape = header(window)
    order, kind, width = _element(described, window, at)
    if len(shape) > limits.rank:
        raise window.bad(f"has {len(shape):,} dimensions, more than {limits.rank}", at=at)
    if any(size > limits.elements for size in shape):
        reason = f"has the shape {str(shape)[:80]}, with a length of more than {limits.elements:,}"
        raise window.bad(reason, at=at)
    size = math.prod(shape) * width
    strides = _first_closest(shape) if first_closest and len(shape) > 1 else None
    taken_for_bfloat16 = kind == "V" and width == 2
    tensor = Tensor(
        name=name,
        shape=shape,
        dtype="bfloat16" if taken_for_bfloat16 else f"{_KINDS[kind]}{width * 8 if kind != 'b' else ''}",
        stored=size,
        role="weight" if kind in _NUMBERS or taken_for_bfloat16 else "other",
        span=Span(file=Path(window.file), start=window.at, nbytes=size, order=order, strides=strides),
        notes=(_RAW,) if taken_for_bfloat16 else (),
    )
    return tensor, window.at - begin


_HEADER = re.compile(
    r"""\{ ?'descr' ?: ?'(?P<descr>[^'\\]{1,40})' ?, ?'fortran_order' ?: ?(?P<fortran>True|False) ?, ?"""
    r"""'shape' ?: ?\((?P<shape> ?(?:\d{1,19}L? ?, ?)*(?:\d{1,19}L?)? ?)\) ?,? ?\}"""
)
_TYPE = re.compile(r"(?P<order>[<>|=]?)(?P<kind>[biufcVSUMm])(?P<width>\d{1,9})(?:\[\w+\])?")
_KINDS = {
    "b": "bool",
    "i": "int",
    "u": "uint",
    "f": "float",
    "c": "complex",
    "V": "raw",
    "S": "bytes",
    "U": "text",
    "M": "datetime",
    "m": "timedelta",
}
"""What NumPy's letters stand for."""
_NUMBERS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 12, 16), "c": (8, 16, 24, 32)}
"""The bytes that a number of each kind may have."""
_RAW = "Stored as pairs of bytes and taken for bfloat16: NumPy has no name for that type."


def _element(described: str, window: Window, at: int) -> tuple[Literal["<", ">"], str, int]:
    """The order of an element's bytes, its kind, and how many they are."""
    found = _TYPE.fullmatch(described)
    if found is None or (found["kind"] in _NUMBERS and int(found["width"]) not in _NUMBERS[found["kind"]]):
        objects = "O" in described
        why = "can't be read without running what is in them" if objects else "aren't known"
        raise window.bad(f"has elements of type {described!r}, which {why}", at=at)
    width = int(found["width"]) * (4 if found["kind"] == "U" else 1)
    return (">" if found["order"] == ">" else "<"), found["kind"], width


def _first_closest(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements between neighbours where the first axis is the closest."""
    strides = [1]
    for size in shape[:-1]:
        strides.append(strides[-1] * size)
    return tuple(strides)
