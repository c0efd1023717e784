"""Protobuf's wire format, walked field by field: no schema, no library, and nothing read that is skipped."""

import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window

_KEPT = 65_536
"""Messages up to this size are read in one piece, larger ones field by field: their data is passed over."""
_HEAD = 20
"""Bytes that the number of a field and its length or value take at most: two varints of ten."""
_FIXED = {1: 8, 5: 4}


class _Spent:
    """How many bytes of structure a file has taken so far."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


class Message:
    """A stretch of a file that holds fields, each a number and a value.

    Args:
        window: The file.
        start: The first byte of the stretch, of the file.
        end: The byte after its last.
        limits: How deep messages may be nested, and how many bytes of them are read.

    Example:
        >>> import io
        >>> message = Message(Window(io.BytesIO(bytes([8, 150, 1, 18, 1, 65])), "x.pb", 0, 6))
        >>> table = message.table()
        >>> table.integer(1), table.text(2)
        (150, 'A')
    """

    __slots__ = ("_data", "_data_at", "_depth", "_limits", "_spent", "_window", "end", "start")

    def __init__(
        self, window: Window, start: int | None = None, end: int | None = None, limits: Limits = LIMITS
    ) -> None:
        self.start = window.start if start is None else start
        self.end = window.end if end is None else end
        self._window, self._limits, self._spent, self._depth = window, limits, _Spent(), 0
        self._data: bytes | None = None
        self._data_at = 0

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.start

    def _inner(self, start: int, end: int) -> "Message":
        """Make the message of a stretch of this one; what was read already is not read again."""
        inner = Message.__new__(Message)
        inner.start, inner.end = start, end
        inner._window, inner._limits, inner._spent = self._window, self._limits, self._spent
        inner._data, inner._data_at = self._data, self._data_at
        inner._depth = self._depth + 1
        return inner

    def _read(self, start: int, count: int) -> bytes:
        self._spent.total += count
        if self._spent.total > self._limits.header:
            raise self.bad(f"has more than {self._limits.header:,} bytes beside its data", at=start)
        self._window.at = start
        return self._window.take(count, "a field")

    def raw(self, longest: int = _KEPT, what: str = "a value") -> bytes:
        """Return its bytes.

        Raises:
            BadFileError: There are more than `longest`.
        """
        if self.size > longest:
            raise self.bad(f"{what} claims {self.size:,} bytes, more than {longest:,}")
        if self._data is not None:
            return self._data[self.start - self._data_at : self.end - self._data_at]
        return self._read(self.start, self.size)

    def text(self, longest: int = _KEPT, what: str = "a text") -> str:
        """Return it as text.

        Raises:
            BadFileError: It is longer than `longest`, or no UTF-8.
        """
        try:
            return self.raw(longest, what).decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not utf-8: {error.reason}", at=self.start + error.start) from None

    def integers(self, longest: int = 1_000_000) -> list[int]:
        """Return it as packed varints, each a signed number of 64 bits.

        Raises:
            BadFileError: It has more than `longest` bytes, or ends inside a number.
        """
        data, found, at = self.raw(longest, "a list"), list[int](), 0
        while at < len(data):
            value, at = self._varint(data, at, len(data), self.start)
            found.append(_signed(value))
        return found

    def fields(self) -> Iterator[tuple[int, "int | Message"]]:
        """Yield each field's number and its value: the bits of a number, or a message that nobody has read yet.

        Raises:
            BadFileError: A field is cut off, has no number, or is nested too deep.
        """
        if self._depth > self._limits.depth:
            raise self.bad(f"is nested more than {self._limits.depth} deep")
        if self._data is None and self.size <= _KEPT:
            self._data, self._data_at = self._read(self.start, self.size), self.start
        at = self.start
        while at < self.end:
            if self._data is None:
                head = self._read(at, min(_HEAD, self.end - at))
                number, value, at = self._field(head, at, at)
            else:
                number, value, at = self._field(self._data, at, self._data_at)
            yield number, value

    def _field(self, data: bytes, at: int, base: int) -> "tuple[int, int | Message, int]":
        """Read the field at a byte of the file, from bytes that begin at `base`."""
        place, stop = at - base, min(len(data), self.end - base)
        tag, place = self._varint(data, place, stop, base)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise self.bad(f"has a field of the number {number}", at=at)
        if wire == 0:
            value, place = self._varint(data, place, stop, base)
            return number, value, base + place
        if wire == 2:
            length, place = self._varint(data, place, stop, base)
            start = base + place
            if length > self.end - start:
                left = self.end - start
                raise self.bad(f"field {number} claims {length:,} bytes, where {left:,} are left", at=at)
            return number, self._inner(start, start + length), start + length
        if wire not in _FIXED:
            raise self.bad(f"field {number} has the wire type {wire}, which is none", at=at)
        width = _FIXED[wire]
        if place + width > stop:
            raise self.bad(f"ends inside field {number}", at=at)
        return number, int.from_bytes(data[place : place + width], "little"), base + place + width

    def _varint(self, data: bytes, at: int, end: int, base: int) -> tuple[int, int]:
        """Read a number in steps of seven bits, and where it ends."""
        value = shift = 0
        first = at
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
            shift += 7
            if shift > 63:
                raise self.bad("has a number of more than ten bytes", at=base + first)
        raise self.bad("ends inside a number", at=base + first)

    def table(self) -> "Table":
        """Sort its fields by number.

        Raises:
            BadFileError: A field is broken, or there are more than two million of them.
        """
        return Table(self, self._limits)

    def bad(self, reason: str, *, at: int | None = None) -> BadFileError:
        """Make the error that names the file and a byte of it."""
        return self._window.bad(reason, at=self.start if at is None else at)


Value: TypeAlias = int | Message


class Table:
    """The fields of one message by their numbers; asking for a number of another kind than the file has is an error.

    Args:
        message: The message.
        limits: How many fields it may have.

    Example:
        >>> import io
        >>> table = Table(Message(Window(io.BytesIO(bytes([8, 1, 8, 2])), "x.pb", 0, 4)))
        >>> table.integer(1), table.integers(1), table.integer(5, -1)
        (2, [1, 2], -1)
    """

    __slots__ = ("_fields", "message")

    def __init__(self, message: Message, limits: Limits = LIMITS) -> None:
        self.message = message
        self._fields: dict[int, list[Value]] = defaultdict(list)
        for count, (number, value) in enumerate(message.fields()):
            if count >= limits.tensors:
                raise message.bad(f"has more than {limits.tensors:,} fields")
            self._fields[number].append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def integer(self, number: int, default: int = 0) -> int:
        """Return a field as a signed number; of several, the last."""
        value = self._last(number)
        if value is None:
            return default
        if isinstance(value, Message):
            raise value.bad(f"field {number} is no number")
        return _signed(value)

    def real(self, number: int, default: float = 0.0) -> float:
        """Return a field of 32 bits as the fraction that they are."""
        value = self._last(number)
        if value is None:
            return default
        if isinstance(value, Message) or value >= 2**32:
            raise self.message.bad(f"field {number} is no number of 32 bits")
        return struct.unpack("<f", value.to_bytes(4, "little"))[0]

    def message_of(self, number: int) -> Message | None:
        """Return a field as a message; of several, the last."""
        found = self.messages(number)
        return found[-1] if found else None

    def table_of(self, number: int) -> "Table | None":
        """Return the fields of a field."""
        found = self.message_of(number)
        return found.table() if found is not None else None

    def text(self, number: int, default: str = "") -> str:
        """Return a field as text."""
        found = self.message_of(number)
        return default if found is None else found.text(what=f"field {number}")

    def texts(self, number: int) -> list[str]:
        """Return all fields of a number as texts."""
        return [found.text(what=f"field {number}") for found in self.messages(number)]

    def values(self, number: int) -> "list[Value]":
        """Return all fields of a number, numbers as their bits."""
        return self._fields.get(number, [])

    def messages(self, number: int) -> list[Message]:
        """Return all fields of a number as messages."""
        return [self._checked(number, value) for value in self._fields.get(number, ())]

    def integers(self, number: int, longest: int = 1_000_000) -> list[int]:
        """Return a list of signed numbers, packed or one by one."""
        found: list[int] = []
        for value in self._fields.get(number, ()):
            if isinstance(value, Message):
                found.extend(value.integers(longest))
            else:
                found.append(_signed(value))
        return found

    def _last(self, number: int) -> Value | None:
        found = self._fields.get(number)
        return found[-1] if found else None

    def _checked(self, number: int, value: Value) -> Message:
        if isinstance(value, Message):
            return value
        raise self.message.bad(f"field {number} is a number, where a message belongs")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
