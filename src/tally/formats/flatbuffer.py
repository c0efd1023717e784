"""FlatBuffers, read table by table: every offset is checked, and a vector of data is told by its place alone."""

import struct
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window


class Flat:
    """A file of tables that point to each other.

    Tables may be pointed to from many places, so a small file can describe an endless structure. All that is read
    together is therefore bound to four times the size of the file.

    Args:
        window: The file.
        limits: How many bytes of structure are read.

    Example:
        >>> import io
        >>> data = struct.pack("<IHHHxxiH", 12, 6, 6, 4, 8, 7)
        >>> Flat(Window(io.BytesIO(data), "x.bin", 0, len(data))).root().number(0, "<H")
        7
    """

    def __init__(self, window: Window, limits: Limits = LIMITS) -> None:
        self._window, self.limits = window, limits
        self._left = min(limits.header, 4 * window.size + 65_536)
        self._shapes: dict[int, tuple[int, ...]] = {}

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return self._window.size

    def root(self) -> "Table":
        """Return the table that the file begins with.

        Raises:
            BadFileError: It lies outside of the file.
        """
        return Table(self, self.follow(0, "the first table"))

    def take(self, at: int, count: int, what: str) -> bytes:
        """Read bytes at a place.

        Raises:
            BadFileError: They lie outside, or more was read than such a file can need.
        """
        self._left -= count
        if self._left < 0:
            raise self.bad("points to the same parts again and again", at)
        self._window.go_to(at, what)
        return self._window.take(count, what)

    def follow(self, at: int, what: str) -> int:
        """Return the place that an offset points to."""
        (step,) = struct.unpack("<I", self.take(at, 4, what))
        if not 0 < step <= self.size - at - 4:
            raise self.bad(f"{what} begins {step:,} bytes on, outside of the file", at)
        return at + step

    def shape(self, at: int) -> tuple[int, ...]:
        """Return where the fields of a table lie, from the record that all tables of its kind share."""
        if at not in self._shapes:
            (size,) = struct.unpack("<H", self.take(at, 2, "a table's record"))
            if size < 4 or size % 2:
                raise self.bad(f"a table's record claims {size} bytes", at)
            body = self.take(at + 2, size - 2, "a table's record")
            self._shapes[at] = struct.unpack(f"<{len(body) // 2}H", body)
        return self._shapes[at]

    def bad(self, reason: str, at: int) -> BadFileError:
        """Make the error that names the file and a byte of it."""
        return self._window.bad(reason, at=self._window.start + at)


class Table:
    """One table; its fields are asked for by their numbers, which begin at 0.

    Args:
        flat: The file.
        at: Where the table begins.
    """

    __slots__ = ("_at", "_body", "_flat", "_places")

    def __init__(self, flat: Flat, at: int) -> None:
        self._flat, self._at = flat, at
        (back,) = struct.unpack("<i", flat.take(at, 4, "a table"))
        record = at - back
        if not 0 <= record <= flat.size - 4:
            raise flat.bad("a table's record lies outside of the file", at)
        size, *places = flat.shape(record)
        if size < 4 or any(place and not 4 <= place < size for place in places):
            raise flat.bad("a table has fields outside of itself", at)
        self._places = places
        self._body = flat.take(at + 4, size - 4, "a table")

    def has(self, field: int) -> bool:
        """Tell whether a field is there."""
        return field < len(self._places) and self._places[field] != 0

    def number(self, field: int, form: str, default: Any = 0) -> Any:
        """Return a number in a form of `struct`.

        Raises:
            BadFileError: It is cut off by the end of the table.
        """
        if not self.has(field):
            return default
        start = self._places[field] - 4
        body = self._body[start : start + struct.calcsize(form)]
        if len(body) != struct.calcsize(form):
            raise self._flat.bad(f"field {field} of a table is cut off", self._at)
        return struct.unpack(form, body)[0]

    def place(self, field: int) -> int | None:
        """Return the place that a field points to."""
        if not self.has(field):
            return None
        return self._flat.follow(self._at + self._places[field], f"field {field} of a table")

    def table(self, field: int) -> "Table | None":
        """Return the table that a field points to."""
        place = self.place(field)
        return None if place is None else Table(self._flat, place)

    def vector(self, field: int, width: int, longest: int) -> tuple[int, int]:
        """Return where the elements of a vector lie, and how many there are; none of them is read.

        Raises:
            BadFileError: There are more than `longest`, or more than the file has bytes for.
        """
        place = self.place(field)
        if place is None:
            return 0, 0
        (count,) = struct.unpack("<I", self._flat.take(place, 4, "a vector"))
        if count > longest or count * width > self._flat.size - place - 4:
            raise self._flat.bad(f"a vector claims {count:,} elements", place)
        return place + 4, count

    def numbers(self, field: int, form: str, longest: int) -> tuple[Any, ...]:
        """Return a vector of numbers, each in a form of `struct`."""
        width = struct.calcsize(form)
        start, count = self.vector(field, width, longest)
        return struct.unpack(f"<{count}{form[-1]}", self._flat.take(start, count * width, "a vector"))

    def tables(self, field: int, longest: int) -> list["Table"]:
        """Return a vector of tables."""
        start, count = self.vector(field, 4, longest)
        return [
            Table(self._flat, self._flat.follow(start + 4 * number, "a table")) for number in range(count)
        ]

    def text(self, field: int, longest: int) -> str:
        """Return a text.

        Raises:
            BadFileError: It is longer than `longest` bytes, or no UTF-8.
        """
        start, count = self.vector(field, 1, longest)
        try:
            return self._flat.take(start, count, "a text").decode()
        except UnicodeDecodeError as error:
            raise self._flat.bad(f"a text is not utf-8: {error.reason}", start) from None
