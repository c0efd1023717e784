"""What `flax.serialization.to_bytes` writes: msgpack, with arrays as extensions that hold shape, type and bytes."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Role, Span, Tensor
from tally.formats.window import Window, opened

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
"""The extensions that Flax has."""
_CHUNKED = "__msgpack_chunked_array__"
_TYPE = re.compile(r"(bool|u?int\d{1,2}|b?float\d{1,3}(_\w{1,12})?|complex\d{2,3})")


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in the file, or pieces of one in a row."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    nbytes: int
    in_pieces: bool = False


Value: TypeAlias = "dict[str, Value] | _Array | int | str | bool | float | None"


def matches(path: Path) -> bool:
    """Tell whether a file is one map of names from its first byte to its last; msgpack has no other mark."""
    if not path.is_file():
        return False
    if path.suffix == ".msgpack":
        return True
    try:
        with opened(path) as window:
            return _has_array(_Walk(window, LIMITS).whole())
    except BadFileError:
        return False


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays a file holds, their data skipped.

    Args:
        path: The file.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from flax.serialization import to_bytes
        >>> path = Path(tempfile.mkdtemp()) / "tiny.msgpack"
        >>> _ = path.write_bytes(to_bytes({"params": {"Dense_0": {"kernel": np.zeros((10, 5), "float32")}}}))
        >>> [(tensor.name, tensor.shape) for tensor in read(path).tensors]
        [('params/Dense_0/kernel', (10, 5))]
    """
    with opened(path) as window:
        whole = _Walk(window, limits).whole()
    tensors = [_tensor(name, array, path) for name, array in _named(whole)]
    return Contents(format="Flax msgpack", tensors=checked(tensors, path, limits), files=(path,))


def _has_array(value: Value) -> bool:
    waiting: list[Value] = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, _Array):
            return True
        if isinstance(here, dict):
            waiting.extend(here.values())
    return False


def _named(whole: Value) -> list[tuple[str, _Array]]:
    """All arrays with their names, the parts of which a slash divides."""
    found: list[tuple[str, _Array]] = []
    waiting: list[tuple[str, Value]] = [("", whole)]
    while waiting:
        name, here = waiting.pop()
        if isinstance(here, _Array):
            found.append((name, here))
        elif isinstance(here, dict):
            inside = [(f"{name}/{key}" if name else key, value) for key, value in here.items()]
            waiting.extend(reversed(inside))
    return found


def _tensor(name: str, array: _Array, path: Path) -> Tensor:
    first, _, rest = name.partition("/")
    role: Role = "weight"
    if rest and first in ("opt_state", "optimizer", "optimizer_state"):
        role = "optimizer"
    elif not rest and first in ("step", "count", "epoch"):
        role = "optimizer"  # how far the training is
    elif re.search(r"(^|/)(rngs?|prng_key|dropout_rng|rng_state)(/|$)", name):
        role = "seed"
    span = Span(file=path, start=array.start, nbytes=array.nbytes)
    return Tensor(
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        stored=array.nbytes,
        role=role,
        span=None if array.in_pieces else span,
    )


class _Walk:
    """One way through the file; what is long is skipped."""

    def __init__(self, window: Window, limits: Limits) -> None:
        self.window, self.limits, self.made = window, limits, 0

    def whole(self) -> dict[str, Value]:
        """Read the one map that the file is."""
        first: int = self.window.number("B", "a value")
        if first >> 4 != 0x8 and first not in (0xDE, 0xDF):
            raise self.window.bad("is no map of names", at=0)
        self.window.go_to(0)
        found = self.value(0)
        assert isinstance(found, dict | _Array)
        if isinstance(found, _Array):
            raise self.window.bad("is an array in pieces, without a name", at=0)
        if self.window.left:
            raise self.window.bad(f"has {self.window.left:,} bytes behind its end")
        return found

    def value(self, depth: int) -> Value:
        """Read the next value."""
        if depth > self.limits.depth:
            raise self.window.bad(f"nests maps more than {self.limits.depth} levels deep")
        at = self.window.at
        mark: int = self.window.number("B", "a value")
        if mark <= 0x7F or mark >= 0xE0:
            return mark if mark <= 0x7F else mark - 256
        if mark <= 0x8F:
            return self._map(mark & 15, depth)
        if mark <= 0x9F:
            return self._list(mark & 15, depth)
        if mark <= 0xBF:
            return self._text(mark & 31)
        return self._long(mark, depth, at)

    def _long(self, mark: int, depth: int, at: int) -> Value:
        window = self.window
        if mark in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[mark]
        if mark in _NUMBERS:
            number: int | float = window.number(f">{_NUMBERS[mark]}")
            return number
        if mark in _LENGTHS:
            what, form = _LENGTHS[mark]
            length: int = window.number(f">{form}", f"the length of a {what}")
            if what == "map":
                return self._map(length, depth)
            if what == "list":
                return self._list(length, depth)
            if what == "text":
                return self._text(length)
            if what == "extension":
                return self._extension(length)
            window.skip(length, "some bytes")
            return None
        if mark in _FIXED:
            return self._extension(_FIXED[mark])
        raise window.bad("is no value of msgpack", at=at)

    def _text(self, length: int) -> str:
        if length > self.limits.name:
            self.window.skip(length, "a text")
            return ""
        return self.window.text(length, "a text")

    def _counted(self, count: int, least: int, what: str) -> None:
        self.made += count
        if count * least > self.window.left:
            raise self.window.bad(
                f"a {what} claims {count:,} parts, where {self.window.left:,} bytes are left"
            )
        if self.made > 4 * self.limits.tensors:
            raise self.window.bad(f"has more than {4 * self.limits.tensors:,} values")

    def _map(self, count: int, depth: int) -> Value:
        self._counted(count, 2, "map")
        found: dict[str, Value] = {}
        for _ in range(count):
            at = self.window.at
            key = self.value(depth + 1)
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise self.window.bad("has a key that is no name", at=at)
            if str(key) in found:
                raise self.window.bad(f"names {str(key)[:80]!r} twice", at=at)
            found[str(key)] = self.value(depth + 1)
        return self._joined(found) if found.get(_CHUNKED) is True else found

    def _list(self, count: int, depth: int) -> Value:
        self._counted(count, 1, "list")
        return {str(place): self.value(depth + 1) for place in range(count)}

    def _extension(self, length: int) -> Value:
        window = self.window
        kind: int = window.number("b", "the kind of an extension")
        inner = window.part(length, "", "an extension")
        if kind == _COMPLEX:
            return None
        if kind not in (_ARRAY, _SCALAR):
            raise window.bad(f"has an extension of the kind {kind}, which Flax doesn't write")
        return _Walk(inner, self.limits).array()

    def array(self) -> _Array:
        """Read an array: a list of its shape, its type's name, and its bytes."""
        window = self.window
        at = window.at
        if window.number("B", "an array") != 0x93:
            raise window.bad("is no array: shape, type and bytes", at=at)
        shape = self.value(0)
        sizes = list(shape.values()) if isinstance(shape, dict) else []
        if not isinstance(shape, dict) or not all(type(size) is int and size >= 0 for size in sizes):
            raise window.bad("has an array without a shape", at=at)
        if len(sizes) > self.limits.rank:
            raise window.bad(f"has an array of {len(sizes):,} dimensions", at=at)
        dtype = self.value(0)
        if not isinstance(dtype, str) or _TYPE.fullmatch(dtype) is None:
            raise window.bad(f"has an array of the type {str(dtype)[:40]!r}, which isn't known", at=at)
        mark: int = window.number("B", "the bytes of an array")
        if mark not in _BYTES:
            raise window.bad("has an array without bytes", at=window.at - 1)
        nbytes: int = window.number(f">{_BYTES[mark]}", "the length of an array")
        dimensions = cast("list[int]", sizes)
        wanted = math.prod(dimensions) * _bytes_of(dtype)
        if nbytes != wanted or nbytes != window.left:
            raise window.bad(
                f"has {min(nbytes, window.left):,} bytes for an array that takes {wanted:,}", at=at
            )
        return _Array(tuple(dimensions), dtype, window.at, nbytes)

    def _joined(self, found: Mapping[str, Value]) -> _Array:
        """An array that was too long for one piece of msgpack."""
        shape, chunks = found.get("shape"), found.get("chunks")
        sizes: list[Any] = list(shape.values()) if isinstance(shape, dict) else []
        pieces: list[Any] = list(chunks.values()) if isinstance(chunks, dict) else []
        if not pieces or not all(isinstance(piece, _Array) for piece in pieces):
            raise self.window.bad("has an array in pieces that are none")
        if not all(type(size) is int and 0 <= size <= self.limits.elements for size in sizes):
            raise self.window.bad("has an array in pieces without a shape")
        arrays = cast("list[_Array]", pieces)
        nbytes = sum(piece.nbytes for piece in arrays)
        same = {piece.dtype for piece in arrays}
        if (
            len(sizes) > self.limits.rank
            or len(same) > 1
            or nbytes != math.prod(sizes) * _bytes_of(arrays[0].dtype)
        ):
            raise self.window.bad("has an array in pieces that don't make up its shape")
        return _Array(tuple(sizes), arrays[0].dtype, arrays[0].start, nbytes, in_pieces=True)


def _bytes_of(dtype: str) -> int:
    """The bytes of an element; those smaller than a byte take one each in memory, and so in the file."""
    width = re.search(r"\d+", dtype)
    return max(int(width[0]) // 8, 1) if width is not None else 1


_NUMBERS = {
    0xCA: "f",
    0xCB: "d",
    0xCC: "B",
    0xCD: "H",
    0xCE: "I",
    0xCF: "Q",
    0xD0: "b",
    0xD1: "h",
    0xD2: "i",
    0xD3: "q",
}
_LENGTHS = {
    0xC4: ("row of bytes", "B"),
    0xC5: ("row of bytes", "H"),
    0xC6: ("row of bytes", "I"),
    0xC7: ("extension", "B"),
    0xC8: ("extension", "H"),
    0xC9: ("extension", "I"),
    0xD9: ("text", "B"),
    0xDA: ("text", "H"),
    0xDB: ("text", "I"),
    0xDC: ("list", "H"),
    0xDD: ("list", "I"),
    0xDE: ("map", "H"),
    0xDF: ("map", "I"),
}
_FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_BYTES = {0xC4: "B", 0xC5: "H", 0xC6: "I"}
