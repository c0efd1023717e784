"""GGUF: keys with values, the arrays' names, shapes and types, then blocks of quantised numbers."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from tally.formats.beside import beside
from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Role, Span, Tensor
from tally.formats.window import Window, opened

MAGIC = b"GGUF"
_RANK = 4
"""Dimensions that the format has."""
_ALIGNMENT = 32
"""Bytes that the data begin at multiples of, unless the file says otherwise."""
_KEPT_NUMBERS = 128
"""Of a list; what layers have one each of, and no vocabulary."""
_KEPT_LETTERS = 16_384
"""Bytes of a text that is kept."""

_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("float32", 1, 4),
    1: ("float16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 40),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("int8", 1, 1),
    25: ("int16", 1, 2),
    26: ("int32", 1, 4),
    27: ("int64", 1, 8),
    28: ("float64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bfloat16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
    40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
}
"""Each type of element: its name, the elements in a block, and the bytes of one."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""The form of each kind of number in the keys' values."""
_BOOL, _TEXT, _LIST = 7, 8, 9
_TABLES_OF_ANGLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def matches(path: Path) -> bool:
    """Tell whether a file begins as GGUF does."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            return window.take(4) == MAGIC
    except BadFileError:
        return path.suffix == ".gguf"


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays a file holds, or all the files of a model that was split.

    Args:
        path: The file; of several, any.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or one of several files is missing.
    """
    parts = [_read_one(path, limits)]
    others = _others(path, parts[0].metadata, limits)
    parts = [_read_one(other, limits) if other is not None else parts[0] for other in others] or parts
    tensors = [tensor for part in parts for tensor in part.tensors]
    metadata = parts[0].metadata
    return Contents(
        format=parts[0].format,
        tensors=checked(tensors, path, limits),
        metadata=metadata,
        files=tuple(file for part in parts for file in part.files),
        notes=tuple(_notes(tensors, len(parts))),
    )


def _notes(tensors: list[Tensor], files: int) -> Iterator[str]:
    names = {tensor.name for tensor in tensors}
    if files > 1:
        yield f"{files:,} files together."
    if "token_embd.weight" in names and "output.weight" not in names:
        yield "The output layer uses the table 'token_embd.weight' again, so the file has no array for it."


def _others(path: Path, metadata: Any, limits: Limits) -> list[Path | None]:
    """All files of a model that was split, in order, None for this one; nothing where it wasn't."""
    count = metadata.get("split.count")
    if type(count) is not int or count < 2:
        return []
    named = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if named is None or int(named[3]) != count or count > limits.files:
        raise BadFileError(
            path, f"is one of {count:,} files, but its name doesn't say which", do="rename it back"
        )
    found: list[Path | None] = []
    for number in range(1, count + 1):
        name = f"{named[1]}-{number:05}-of-{count:05}.gguf"
        if name == path.name:
            found.append(None)
        elif (other := beside(path, name, "split.count")) is not None:
            found.append(other[0])
        else:
            reason = f"is one of {count:,} files, and {name!r} isn't there"
            raise BadFileError(path, reason, do="fetch all files of the model into one folder")
    return found


def _read_one(path: Path, limits: Limits) -> Contents:
    with opened(path) as window:
        return _File(window, path, limits).contents()


@dataclass(frozen=True, slots=True)
class _Listed:
    """An array as the header names it."""

    tensor: Tensor
    offset: int
    at: int


class _File:
    """One file while it is read."""

    def __init__(self, window: Window, path: Path, limits: Limits) -> None:
        self.window, self.path, self.limits = window, path, limits
        self.order: Literal["<", ">"] = "<"

    def contents(self) -> Contents:
        """Read the keys and the arrays' descriptions."""
        window = self.window
        if window.take(4, "the first bytes") != MAGIC:
            raise window.bad("is no GGUF", at=0)
        version = self._number("I", "the version")
        if version & 0xFFFF == 0:  # written where the largest byte comes first
            self.order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (2, 3):
            raise window.bad(f"is of version {version}, which isn't known", at=4, do="convert the model anew")
        arrays, keys = self._number("Q", "the number of arrays"), self._number("Q", "the number of keys")
        if arrays > self.limits.tensors or arrays * 24 > window.left:
            raise window.bad(f"claims {arrays:,} arrays, where {window.left:,} bytes are left", at=8)
        if keys * 12 > window.left:
            raise window.bad(f"claims {keys:,} keys, where {window.left:,} bytes are left", at=16)
        metadata = self._keys(keys)
        listed = [self._array() for _ in range(arrays)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
            raise window.bad(f"aligns its data to {str(alignment)[:40]!r} bytes, which can't be")
        return Contents(
            format=f"GGUF v{version}",
            tensors=tuple(self._placed(listed, alignment)),
            metadata=metadata,
            files=(self.path,),
        )

    def _number(self, form: str, what: str) -> Any:
        return self.window.number(self.order + form, what)

    def _text(self, what: str, most: int) -> str:
        length = self._number("Q", f"the length of {what}")
        if length > most:
            raise self.window.bad(f"{what} claims {length:,} bytes, more than {most:,}")
        return self.window.text(length, what)

    # -- keys ------------------------------------------------------------------------------------------------------
    def _keys(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: set[str] = set()
        for _ in range(count):
            at = self.window.at
            key = self._text("a key", 65_535)
            if key in seen:
                raise self.window.bad(f"names the key {key[:80]!r} twice", at=at)
            seen.add(key)
            kind = self._number("I", "the kind of a value")
            if kind == _LIST:
                length, kept = self._list(1)
                found[key] = kept if kept is not None else f"a list of {length:,}"
            elif kind == _TEXT:
                found[key] = self._long_text()
            else:
                found[key] = self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        if kind not in _NUMBERS:
            raise self.window.bad(f"has a value of the kind {kind}, which isn't known", at=self.window.at - 4)
        number = self._number(_NUMBERS[kind], "a value")
        return bool(number) if kind == _BOOL else number

    def _long_text(self) -> str:
        length = self._number("Q", "the length of a text")
        if length > _KEPT_LETTERS:
            self.window.skip(length, "a text")
            return f"a text of {length:,} bytes"
        return self.window.text(length, "a text")

    def _list(self, depth: int) -> tuple[int, Any]:
        """A list's length and, of a short one of numbers, what is in it."""
        window = self.window
        if depth > self.limits.depth:
            raise window.bad(f"nests lists more than {self.limits.depth} levels deep")
        kind, length = self._number("I", "the kind of a list"), self._number("Q", "the length of a list")
        if kind == _TEXT:
            if length * 8 > window.left:
                raise window.bad(f"a list claims {length:,} texts, where {window.left:,} bytes are left")
            self._skip_texts(length)
            return length, None
        if kind == _LIST:
            if length * 12 > window.left:
                raise window.bad(f"a list claims {length:,} lists, where {window.left:,} bytes are left")
            for _ in range(length):
                self._list(depth + 1)
            return length, None
        if kind not in _NUMBERS:
            raise window.bad(f"has a list of the kind {kind}, which isn't known", at=window.at - 12)
        if length <= _KEPT_NUMBERS:
            return length, tuple(self._value(kind) for _ in range(length))
        window.skip(length * _WIDTHS[kind], "a list")
        return length, None

    def _skip_texts(self, count: int) -> None:
        """Go on behind so many texts: a vocabulary has a hundred thousand, so they are read a large piece at a time."""
        window = self.window
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        while count:
            begin = window.at
            piece = window.take(min(window.left, 2**18))
            at = 0
            while count and at + 8 <= len(piece):
                at += 8 + int.from_bytes(piece[at : at + 8], order)
                count -= 1
            window.at = begin
            if not at:
                raise window.bad(f"a list claims {count:,} more texts than there are")
            window.skip(at, "a text")

    # -- arrays ----------------------------------------------------------------------------------------------------
    def _array(self) -> _Listed:
        window = self.window
        at = window.at
        name = self._text("the name of an array", self.limits.name)
        place = f"tensor {name[:80]!r}"
        rank = self._number("I", "the number of dimensions")
        if rank > _RANK:
            raise BadFileError(self.path, f"has {rank:,} dimensions, more than {_RANK}", place=place)
        sizes = [self._number("Q", "a dimension") for _ in range(rank)]
        kind = self._number("I", "a type")
        offset = self._number("Q", "an offset")
        if kind not in _TYPES:
            raise BadFileError(self.path, f"has the type {kind}, which isn't known", place=place)
        dtype, block, width = _TYPES[kind]
        if block > 1 and (not sizes or sizes[0] % block):
            reason = (
                f"has rows of {sizes[0] if sizes else 1:,} elements, no multiple of {block} as {dtype} needs"
            )
            raise BadFileError(self.path, reason, place=place)
        if math.prod(sizes) > self.limits.elements:
            reason = f"has the shape {tuple(reversed(sizes))}, more than {self.limits.elements:,} elements"
            raise BadFileError(self.path, reason, place=place)
        role: Role = "fixed" if name in _TABLES_OF_ANGLES else "weight"
        stored = math.prod(sizes) // block * width
        note = f"{dtype.upper()}: {block} parameters in {width} bytes, {width * 8 / block:g} bits for each."
        tensor = Tensor(
            name=name,
            shape=tuple(reversed(sizes)),
            dtype=dtype,
            stored=stored,
            role=role,
            notes=(note,) if block > 1 else (),
        )
        return _Listed(tensor, offset, at)

    def _placed(self, listed: list[_Listed], alignment: int) -> Iterator[Tensor]:
        """Each array with the place of its bytes; none may reach into another or behind the end."""
        window = self.window
        start = window.start + -(-(window.at - window.start) // alignment) * alignment
        room = window.end - start
        for one in listed:
            place = f"tensor {one.tensor.name[:80]!r}"
            if one.offset % alignment:
                raise BadFileError(
                    self.path, f"begins at byte {one.offset:,}, no multiple of {alignment}", place=place
                )
            if one.offset + one.tensor.stored > max(room, 0):
                reason = f"claims bytes up to {one.offset + one.tensor.stored:,} of {max(room, 0):,}"
                raise BadFileError(self.path, reason, place=place, do="fetch the file again")
        spans = sorted((one.offset, one.offset + one.tensor.stored, one.tensor.name) for one in listed)
        for (_, end, before), (begin, _, name) in pairwise(span for span in spans if span[0] < span[1]):
            if begin < end:
                raise BadFileError(self.path, f"overlaps {before[:80]!r}", place=f"tensor {name[:80]!r}")
        for one in listed:
            span = Span(file=self.path, start=start + one.offset, nbytes=one.tensor.stored, order=self.order)
            yield replace(one.tensor, span=span)


_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The bytes of each kind of number."""
