"""The arrays of an ONNX model: what type and shape each claims, and whether the bytes it stores can be that."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tally.formats.beside import beside
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.protobuf import Message
from tally.formats.tensor import Span

_TYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
    24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
    27: ("float6_e2m3fn", 6),
    28: ("float6_e3m2fn", 6),
}
"""The number of each type of element, its name and its bits."""

_LISTS: dict[int, tuple[str, ...]] = {
    4: ("float32", "complex64"),
    6: ("string",),
    7: ("int64",),
    10: ("float64", "complex128"),
    11: ("uint32", "uint64"),
}
"""Which types a list of numbers may hold; the list 5 holds all that are left."""
_WIDTHS = {4: 4, 10: 8}
"""Bytes of a number in a list, where they are fixed; others are varints of one to ten bytes."""
_COMPLEX = ("complex64", "complex128")


@dataclass(frozen=True, slots=True)
class Array:
    """One array as the file claims it.

    Args:
        name: What the graph that holds it calls it.
        shape: Its dimensions.
        dtype: The type of an element.
        stored: The bytes it takes.
        span: Where they lie, where they are a plain array.
        constant: Whether an operator holds it, not the list of initializers.
        notes: Sentences for the reader of the account.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: int
    span: Span | None = None
    constant: bool = False
    notes: tuple[str, ...] = ()


class Holder(Protocol):
    """The model that an array belongs to: which file, which limits, and the other files that it led to."""

    path: Path
    limits: Limits
    files: dict[Path, None]
    absent: dict[str, None]


class _Fields:
    """What the fields of an array add up to, in one pass and without its data."""

    def __init__(self, message: Message) -> None:
        self.name, self.kind, self.location = "", 0, 0
        self.shape: list[int] = []
        self.raw: Message | None = None
        self.lists: dict[int, tuple[int, int]] = {}
        self.only: Message | None = None
        self.external: list[Message] = []
        for number, value in message.fields():
            if isinstance(value, Message):
                self._add_message(number, value)
            else:
                self._add_number(number, value)

    def _add_message(self, number: int, value: Message) -> None:
        if number == 8:
            self.name = value.text(what="the name of an array")
        elif number == 1:
            self.shape.extend(value.integers(longest=10_000))
        elif number == 9:
            self.raw = value
        elif number == 13:
            self.external.append(value)
        elif number == 3:
            raise value.bad("is a segment of an array, which can't be put together")
        elif number in _LISTS or number == 5:
            count, size = self.lists.get(number, (0, 0))
            self.only = value if not size else None
            self.lists[number] = (count + (number == 6), size + value.size)

    def _add_number(self, number: int, value: int) -> None:
        if number == 1:
            self.shape.append(value - 2**64 if value >= 2**63 else value)
        elif number == 2:
            self.kind = value
        elif number == 14:
            self.location = value
        elif number in _LISTS or number == 5:  # an old writer put each number into a field of its own
            count, size = self.lists.get(number, (0, 0))
            self.lists[number], self.only = (count + 1, size + _WIDTHS.get(number, 1)), None


def read_array(message: Message, model: Holder) -> Array:
    """Read what an array claims, and hold that against the bytes that are there.

    Raises:
        BadFileError: Its type is unknown, its shape impossible, or its bytes are not as many as its elements need.
    """
    fields = _Fields(message)
    shape = tuple(fields.shape)
    place = f"tensor {fields.name[:80]!r}"
    if fields.kind not in _TYPES:
        raise BadFileError(model.path, f"has elements of the unknown type {fields.kind}", place=place)
    dtype, bits = _TYPES[fields.kind]
    _check(shape, model, place)
    size = math.prod(shape)
    if size > model.limits.elements:
        raise BadFileError(model.path, f"claims {size:,} scalars", place=place)
    needed = -(-size * bits // 8)
    if fields.location == 1:
        span = _outside(fields.external, needed, model, place)
        return Array(fields.name, shape, dtype, needed, span)
    if fields.raw is not None:
        return Array(fields.name, shape, dtype, *_inside(fields.raw, needed, dtype, model, place))
    return Array(fields.name, shape, dtype, *_listed(fields, size, dtype, bits, model, place))


def _check(shape: tuple[int, ...], model: Holder, place: str) -> None:
    if len(shape) > model.limits.rank:
        reason = f"has {len(shape):,} dimensions, more than {model.limits.rank}"
        raise BadFileError(model.path, reason, place=place)
    if any(size < 0 for size in shape):
        reason = f"has the shape {shape[:8]}, with a length below zero"
        raise BadFileError(model.path, reason, place=place)


def read_sparse(message: Message, model: Holder) -> Array:
    """Read an array of which only the values that aren't zero are stored, each with its place.

    Raises:
        BadFileError: One of its parts is missing or broken, or it has more values than places.
    """
    table = message.table()
    values, places = table.message_of(1), table.message_of(2)
    if values is None or places is None:
        raise message.bad("is a sparse array without values or places")
    kept, indices, shape = (
        read_array(values, model),
        read_array(places, model),
        tuple(table.integers(3, 10_000)),
    )
    place = f"tensor {kept.name[:80]!r}"
    _check(shape, model, place)
    count, size = math.prod(kept.shape), math.prod(shape)
    fits = indices.shape in ((count,), (count, len(shape))) and indices.dtype == "int64"
    if len(kept.shape) != 1 or count > size or not fits:
        raise BadFileError(
            model.path,
            f"has {count:,} values with places of the shape {indices.shape} in {shape}",
            place=place,
        )
    said = f"It is sparse: {count:,} of {size:,} values are stored, each with its place."
    return Array(kept.name, shape, kept.dtype, kept.stored + indices.stored, notes=(said,))


def _inside(raw: Message, needed: int, dtype: str, model: Holder, place: str) -> tuple[int, Span]:
    """Hold the plain bytes of an array against what its elements need."""
    if raw.size != needed or dtype == "string":
        reason = f"stores {raw.size:,} bytes, where its elements need {needed:,}"
        raise BadFileError(model.path, reason, place=place)
    return raw.size, Span(file=model.path, start=raw.start, nbytes=raw.size)


def _listed(
    fields: _Fields, size: int, dtype: str, bits: int, model: Holder, place: str
) -> tuple[int, Span | None]:
    """Hold the numbers of an array, stored as a list, against how many its elements need."""
    number = next((field for field, types in _LISTS.items() if dtype in types), 5)
    count, stored = fields.lists.get(number, (0, 0))
    needed = size * (2 if dtype in _COMPLEX else 1)
    if bits in (2, 4):
        needed = -(-size * bits // 8)
    width = _WIDTHS.get(number)
    if number == 6 or count:  # one by one
        fits = count == needed
    elif width is not None:
        fits = stored == needed * width
    else:
        fits = needed <= stored <= 10 * needed
    if not fits:
        shown = f"{count:,} values" if count else f"{stored:,} bytes"
        raise BadFileError(model.path, f"stores {shown}, where it has {size:,} elements", place=place)
    if width is None or fields.only is None:
        return stored, None
    return stored, Span(file=model.path, start=fields.only.start, nbytes=stored)


def _outside(external: list[Message], needed: int, model: Holder, place: str) -> Span | None:
    """Find the bytes of an array that lie in another file, without opening it."""
    said = {part.text(1): part.text(2) for part in map(Message.table, external)}
    location = said.get("location", "")
    found = beside(model.path, location, place)
    start, length = (_count(said.get(key), key, model.path, place) for key in ("offset", "length"))
    start = start or 0
    if length is not None and length != needed:
        reason = f"claims {length:,} bytes of {location!r}, where its elements need {needed:,}"
        raise BadFileError(model.path, reason, place=place)
    if found is None:
        model.absent.setdefault(location)
        return None
    path, size = found
    if start + needed > size:
        reason = f"claims the bytes {start:,} to {start + needed:,} of {location!r}, which has {size:,}"
        raise BadFileError(model.path, reason, place=place)
    model.files.setdefault(path)
    if len(model.files) > model.limits.files:
        raise BadFileError(model.path, f"is split into more than {model.limits.files:,} files")
    return Span(file=path, start=start, nbytes=needed)


def _count(text: str | None, what: str, file: Path, place: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadFileError(file, f"has the {what} {text[:40]!r}", place=place)
    return int(text)
