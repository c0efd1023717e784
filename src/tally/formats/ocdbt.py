"""TensorStore's OCDBT store: a tree of keys in which checkpoints keep many arrays in few files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tally.formats.beside import beside
from tally.formats.errors import BadFileError
from tally.formats.leveldb import crc32c
from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window, opened
from tally.formats.zstandard import PackedError, unpack

MANIFEST = "manifest.ocdbt"
_MANIFEST_MAGIC, _NODE_MAGIC = 0x0CDB3A2A, 0x0CDB20DE
_HIGHEST = 32
"""Levels of a tree; each holds at least twice as many keys as the one above."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One value of a store.

    Args:
        key: Its name.
        size: How many bytes it has.
        inline: The bytes, where they lie beside the key.
        file: The file they lie in otherwise.
        start: Where in it.
    """

    key: str
    size: int
    inline: bytes | None
    file: str = ""
    start: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node of the tree lies."""

    file: str
    start: int
    size: int


class _Body:
    """The bytes of a node or a manifest, with a place to read on from."""

    def __init__(self, data: bytes, file: Path, what: str) -> None:
        self.data, self.file, self.what, self.at = data, file, what, 0

    def bad(self, reason: str) -> BadFileError:
        return BadFileError(self.file, reason, place=f"{self.what}, byte {self.at:,}")

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if count < 0 or len(found) != count:
            raise self.bad(f"claims {count:,} bytes, where {len(self.data) - self.at:,} are left")
        self.at += count
        return found

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise self.bad("has a number of more than ten bytes")

    def numbers(self, count: int) -> list[int]:
        if count > len(self.data) - self.at:
            raise self.bad(f"claims {count:,} numbers")
        return [self.number() for _ in range(count)]

    def pieces(self, starts: list[int], ends: list[int], longest: int) -> list[bytes]:
        """Read texts, each of which gives only what differs from the one before it."""
        found: list[bytes] = []
        for shared, length in zip([0, *starts], ends, strict=False):
            before = found[-1] if found else b""
            if shared > len(before) or shared + length > longest:
                raise self.bad("has a name that doesn't fit")
            found.append(before[:shared] + self.take(length))
        return found


class Store:
    """A store in a folder.

    Args:
        folder: The folder of its manifest.
        limits: How many values it may have, and how many bytes of structure.
    """

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.folder, self._limits = folder, limits
        self.files: dict[Path, None] = {}
        self._left = limits.header
        self._count = 0
        self._seen: set[_Place] = set()

    def values(self) -> Iterator[Stored]:
        """Yield every key, in order; no value is read that doesn't lie beside its key.

        Raises:
            BadFileError: The manifest or a node is broken, or names a file outside of the folder.
        """
        root = self._root()
        if root is not None:
            yield from self._below(root, b"", _HIGHEST)

    def read(self, value: Stored, longest: int = 2**20) -> bytes:
        """Return the bytes of a value.

        Raises:
            BadFileError: It has more than `longest`, or its file is too short.
        """
        if value.size > longest:
            reason = f"has {value.size:,} bytes, more than {longest:,}"
            raise BadFileError(self.folder, reason, place=f"key {value.key[:80]!r}")
        if value.inline is not None:
            return value.inline
        with opened(self._file(value.file)) as window:
            window.go_to(value.start, "a value")
            return window.take(value.size, "a value")

    def _file(self, name: str) -> Path:
        held = beside(self.folder, name, "a name in the store")
        if held is None:
            raise BadFileError(self.folder / name, "isn't there, though the store needs it")
        self.files.setdefault(held[0])
        if len(self.files) > self._limits.files:
            raise BadFileError(self.folder, f"is split into more than {self._limits.files:,} files")
        return held[0]

    def _body(self, window: Window, magic: int, what: str) -> _Body:
        """Read a node or a manifest, check its sum, and unpack it."""
        start, size = window.at, window.left
        if window.number(">I", what) != magic:
            raise window.bad(f"{what} doesn't begin as one does", at=start)
        if window.number("<Q", what) != size or size < 18:
            raise window.bad(f"{what} has another size than it claims", at=start)
        self._left -= size
        if self._left < 0:
            raise window.bad(f"has more than {self._limits.header:,} bytes of structure", at=start)
        window.at = start
        data = window.take(size, what)
        if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise window.bad(f"{what} has a checksum that isn't right", at=start)
        body = _Body(data[12:-4], Path(window.file), what)
        version, packed = body.number(), body.number()
        if version or packed > 1:
            raise window.bad(f"{what} is of the unknown version {version}, packed as {packed}", at=start)
        if not packed:
            return body
        try:
            rest = unpack(data[12 + body.at : -4], min(self._left, max(2**16, self._limits.ratio * size)))
        except PackedError as error:
            raise window.bad(f"{what} can't be unpacked: it {error}", at=start) from None
        self._left -= len(rest)
        return _Body(rest, Path(window.file), what)

    def _root(self) -> _Place | None:
        """Return where the newest tree begins; None where the store is empty."""
        path = self._file(MANIFEST)
        with opened(path) as window:
            body = self._body(window, _MANIFEST_MAGIC, "the manifest")
        body.take(16)
        if body.number():
            raise BadFileError(path, "numbers its versions in files of their own, which isn't read")
        body.numbers(2)
        body.take(1)
        if body.number():
            body.take(4)
        files = self._files(body)
        count = body.number()
        body.numbers(count)
        heights = body.take(count)
        places = self._places(body, files, count)
        if not places or max(heights) > _HIGHEST:
            return None
        return places[-1] if places[-1].size < 2**63 else None

    def _files(self, body: _Body) -> list[str]:
        """Read the names of the files that a node or a manifest points into."""
        count = body.number()
        if count > min(self._limits.files, len(body.data)):
            raise body.bad(f"claims {count:,} files")
        starts = body.numbers(max(count - 1, 0))
        ends = body.numbers(count)
        body.numbers(count)  # which part of each name is a folder
        return [self._text(body, name) for name in body.pieces(starts, ends, self._limits.name)]

    def _places(self, body: _Body, files: list[str], count: int) -> list[_Place]:
        """Read where nodes lie: a column of files, one of starts, one of sizes."""
        numbers, starts, sizes = body.numbers(count), body.numbers(count), body.numbers(count)
        if any(number >= len(files) for number in numbers):
            raise body.bad("points into a file that it doesn't name")
        return [_Place(files[n], start, size) for n, start, size in zip(numbers, starts, sizes, strict=True)]

    def _text(self, body: _Body, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise body.bad(f"has the name {name[:40]!r}, which is not utf-8") from None

    def _below(self, place: _Place, before: bytes, highest: int) -> Iterator[Stored]:
        """Yield the values of a node and of those below it; `before` is what all its keys begin with."""
        if place in self._seen:
            raise BadFileError(
                self.folder, "points to one node twice", place=f"byte {place.start:,} of {place.file}"
            )
        self._seen.add(place)
        with opened(self._file(place.file)) as window:
            window.go_to(place.start, "a node")
            part = window.part(place.size, "", "a node")
            body = self._body(part, _NODE_MAGIC, "a node")
        (height,) = body.take(1)
        if height > highest:
            raise body.bad(f"has {height} levels below one that has {highest}")
        files = self._files(body)
        count = body.number()
        self._count += count
        if self._count > 8 * self._limits.tensors:
            raise body.bad(f"has more than {8 * self._limits.tensors:,} keys")
        starts, ends = body.numbers(max(count - 1, 0)), body.numbers(count)
        common = body.numbers(count) if height else []
        keys = [before + key for key in body.pieces(starts, ends, self._limits.name)]
        if any(len(key) > self._limits.name for key in keys):
            raise body.bad("has a name that doesn't fit")
        if not height:
            yield from self._leaves(body, files, keys)
            return
        for key, length, below in zip(keys, common, self._places(body, files, count), strict=True):
            yield from self._below(below, key[: len(before) + length], height - 1)

    def _leaves(self, body: _Body, files: list[str], keys: list[bytes]) -> Iterator[Stored]:
        sizes, kinds = body.numbers(len(keys)), body.take(len(keys))
        outside = sum(1 for kind in kinds if kind)
        numbers, starts = iter(body.numbers(outside)), iter(body.numbers(outside))
        for key, size, kind in zip(keys, sizes, kinds, strict=True):
            name = self._text(body, key)
            if not kind:
                yield Stored(name, size, body.take(size))
                continue
            number = next(numbers)
            if number >= len(files):
                raise body.bad("points into a file that it doesn't name")
            yield Stored(name, size, None, files[number], next(starts))
