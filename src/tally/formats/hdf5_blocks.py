"""How an HDF5 file is put together: its superblock, object headers, trees and heaps, each read within bounds.

This is not the HDF5 library, which can be made to crash by a file with a few bits turned (97 of 1,500 such files did
that to version 1.14.6). It knows what groups, attributes and arrays need, and reads every block at most a few times:
a file whose blocks lie over each other or lead in circles is refused when more was read than it has bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins, unless a block of the user's stands before it."""

SPACE, LINK_INFO, TYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B
ATTRIBUTE, _CONTINUED, SYMBOLS, ATTRIBUTE_INFO = 0x0C, 0x10, 0x11, 0x15
"""The kinds of messages in an object's header that are looked at."""
SHARED = 2
"""The flag of a message that lies elsewhere."""

_AGAIN = 8
"""How many times as much may be read as the file has bytes; honest files are below 2."""
_DEEPEST_TREE = 32


@dataclass(frozen=True, slots=True)
class Message:
    """One fact about an object.

    Args:
        kind: What it says.
        flags: Whether it is shared, and others.
        body: Its bytes.
    """

    kind: int
    flags: int
    body: Window


class Blocks:
    """The blocks of one file, found by their addresses.

    Args:
        window: The whole file, or the part of another that is one.
        limits: How much of it is read.

    Raises:
        BadFileError: It doesn't begin as such a file does, or is cut off.
    """

    def __init__(self, window: Window, limits: Limits = LIMITS) -> None:
        self._window = window
        self._left = min(_AGAIN * window.size + 2**20, limits.header)
        self._heaps: dict[int, Window] = {}
        self.base, self.root = 0, 0
        self.offset, self.length = 8, 8
        self._begin()

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self._window.size

    def at(self, address: int, count: int, what: str) -> Window:
        """Give the bytes of a block, so many from its address.

        Raises:
            BadFileError: It lies outside of the file, or too much was read already.
        """
        window = self._window
        window.go_to(self.base + address, what)
        self._left -= count
        if self._left < 0:
            raise window.bad("its blocks lie over each other, or there are too many of them")
        return window.part(count, "", what)

    def signed(self, address: int, sign: bytes, count: int, what: str) -> Window:
        """Give the bytes of a block that begins with a signature, behind that."""
        block = self.at(address, count, what)
        if block.take(len(sign), what) != sign:
            raise block.bad(f"{what} doesn't begin here", at=block.start)
        return block

    def address(self, block: Window) -> int | None:
        """Read an address; None where there is none."""
        found = self.whole(block, self.offset)
        return None if found == (1 << 8 * self.offset) - 1 else found

    def count(self, block: Window) -> int:
        """Read a length."""
        return self.whole(block, self.length)

    def whole(self, block: Window, size: int) -> int:
        """Read a whole number of so many bytes."""
        return int.from_bytes(block.take(size, "a number"), "little")

    def _begin(self) -> None:
        """Find the superblock: at the start, or at 512 bytes and their doubles."""
        window, place = self._window, 0
        while True:
            if place + 8 > window.size or place > 2**20:
                raise window.bad("has no signature of HDF5", at=window.start)
            window.go_to(place)
            if window.take(8) == SIGNATURE:
                break
            place = place * 2 or 512
        version = window.number("B", "the superblock")
        if version in (0, 1):
            self._sizes(window, 4)
            window.skip(9 if version == 0 else 13, "the superblock")
            base, _, end, _, _ = (self.address(window) for _ in range(5))
        elif version in (2, 3):
            self._sizes(window, 0)
            window.skip(1, "the superblock")
            base, _, end = (self.address(window) for _ in range(3))
        else:
            raise window.bad(f"has a superblock of version {version}")
        root = self.address(window)
        if base is None or end is None or root is None or base > place:
            raise window.bad("the superblock says nothing of where the file begins")
        if end > window.size:
            raise window.bad(
                f"is cut off: it should have {end:,} bytes, and has {window.size:,}", do="fetch it again"
            )
        self.base, self.root = base, root

    def _sizes(self, window: Window, before: int) -> None:
        window.skip(before, "the superblock")
        self.offset, self.length = window.number("B"), window.number("B")
        if self.offset not in (2, 4, 8) or self.length not in (2, 4, 8):
            raise window.bad(f"has addresses of {self.offset} bytes and lengths of {self.length}")

    # -- object headers --------------------------------------------------------------------------------------------
    def messages(self, address: int) -> Iterator[Message]:
        """Read the messages in the header of an object."""
        start = self.at(address, min(16, max(self.size - self.base - address, 0)), "an object's header")
        if start.take(4) == b"OHDR":
            yield from self._new_header(address)
        else:
            start.at = start.start
            version, _, count, _, size = struct.unpack("<BBHLL", start.take(12, "an object's header"))
            if version != 1:
                raise start.bad(f"has an object's header of version {version}", at=start.start)
            yield from self._old_header(address + 16, size, count)

    def _old_header(self, address: int, size: int, count: int) -> Iterator[Message]:
        parts, seen = [(address, size)], set[int]()
        while parts:
            place, size = parts.pop(0)
            if place in seen:
                raise self._window.bad("an object's header continues in itself")
            seen.add(place)
            block = self.at(place, size, "an object's header")
            while block.left >= 8 and count > 0:
                kind, length, flags = struct.unpack("<HHB3x", block.take(8))
                body = block.part(length, "", "a message")
                count -= 1
                yield from self._one(kind, flags, body, parts)

    def _new_header(self, address: int) -> Iterator[Message]:
        start = self.at(address, min(64, self.size - self.base - address), "an object's header")
        start.skip(4)
        version, flags = start.number("B"), start.number("B")
        if version != 2:
            raise start.bad(f"has an object's header of version {version}", at=start.start)
        start.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0), "an object's header")
        size = self.whole(start, 1 << (flags & 3))
        parts, seen = [(address + start.at - start.start, size)], set[int]()
        head = 4 + (2 if flags & 4 else 0)
        while parts:
            place, size = parts.pop(0)
            if place in seen:
                raise self._window.bad("an object's header continues in itself")
            block = self.at(place, size, "an object's header")
            if seen:
                if size < 8 or block.take(4) != b"OCHK":
                    raise block.bad("an object's header doesn't continue here", at=block.start)
                block.end -= 4  # a checksum
            seen.add(place)
            while block.left >= head:
                kind, length, marks = struct.unpack("<BHB", block.take(4))
                block.skip(head - 4)
                yield from self._one(kind, marks, block.part(length, "", "a message"), parts)

    def _one(self, kind: int, flags: int, body: Window, parts: list[tuple[int, int]]) -> Iterator[Message]:
        """A message, or where the header goes on."""
        if kind == _CONTINUED:
            place, size = self.address(body), self.count(body)
            if place is not None:
                parts.append((place, size))
        else:
            yield Message(kind, flags, body)

    # -- the older trees and heaps ---------------------------------------------------------------------------------
    def symbols(self, body: Window) -> Iterator[tuple[str, int | None]]:
        """The names in a group and where each object's header is; None for a soft link."""
        tree, heap = self.address(body), self.address(body)
        if tree is None or heap is None:
            return
        names = self._heap(heap)
        entry = 2 * self.offset + 24
        for node in self._leaves(tree):
            block = self.signed(node, b"SNOD", 8, "a symbol table")
            count = struct.unpack("<BxH", block.take(4))[1]
            block = self.at(node + 8, count * entry, "a symbol table")
            for _ in range(count):
                name = self._word(names, self.whole(block, self.offset))
                address = self.address(block)
                soft = struct.unpack("<L", block.take(4))[0] == 2
                block.skip(20)
                yield name, None if soft else address

    def _heap(self, address: int) -> Window:
        if address not in self._heaps:
            block = self.signed(address, b"HEAP", 8 + 2 * self.length + self.offset, "a heap of names")
            block.skip(4)
            size, _, place = self.count(block), self.count(block), self.address(block)
            self._heaps[address] = self.at(place or 0, size if place is not None else 0, "a heap of names")
        return self._heaps[address]

    def _word(self, heap: Window, place: int) -> str:
        """A text that ends with a zero, at a place in a heap."""
        heap.go_to(place, "a name")
        found = b""
        while b"\0" not in found:
            if not heap.left:
                raise heap.bad("a name has no end")
            found += heap.take(min(heap.left, 64 + len(found)))
        raw = found.split(b"\0")[0]
        self._left -= len(raw)
        return self.decoded(raw, heap)

    def decoded(self, raw: bytes, block: Window) -> str:
        """A text in a block.

        Raises:
            BadFileError: It is none.
        """
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise block.bad(f"a text is not utf-8: {error.reason}") from None

    def _leaves(self, address: int) -> Iterator[int]:
        """The nodes that an old tree of names leads to."""
        for _, child in self.branches(address, 0, self.length):
            yield child

    def branches(self, address: int, kind: int, key: int) -> Iterator[tuple[bytes, int]]:
        """The lowest keys and children of an old tree, in order."""
        above: list[tuple[int, int | None]] = [(address, None)]
        while above:
            place, level = above.pop()
            head = 8 + 2 * self.offset
            block = self.signed(place, b"TREE", head, "a tree")
            found, here, count = struct.unpack("<BBH", block.take(4))
            if found != kind or (level is not None and here != level) or here > _DEEPEST_TREE:
                raise block.bad("a tree leads to something that isn't a part of it", at=block.start)
            block = self.at(place + head, count * (key + self.offset), "a tree")
            pairs: list[tuple[bytes, int]] = []
            for _ in range(count):
                name, child = block.take(key), self.address(block)
                if child is not None:
                    pairs.append((name, child))
            if here:
                above += [(child, here - 1) for _, child in reversed(pairs)]
            else:
                yield from pairs

    # -- the newer ones --------------------------------------------------------------------------------------------
    def dense(self, heap: int, tree: int, skip: int) -> Iterator[Window]:
        """The messages that a group or object keeps in a fractal heap, as many as its index lists.

        Args:
            heap: The address of the heap.
            tree: The address of the index of names.
            skip: Bytes of a record before the identity of the message.
        """
        held = _Fractal(self, heap)
        for record in self.records(tree):
            record.skip(skip, "a record")
            yield held.object(record.part(held.identity, "", "a record"))

    def records(self, address: int) -> Iterator[Window]:
        """The records of a newer tree."""
        head = self.signed(address, b"BTHD", 22 + self.offset + self.length, "a tree")
        _, _, size, record, depth, _, _ = struct.unpack("<BBLHHBB", head.take(12))
        root, count = self.address(head), head.number("<H")
        if depth > _DEEPEST_TREE or not record or size < 10 + record:
            raise head.bad("has a tree that can't be", at=head.start)
        # How many bytes a number of records takes follows from how many fit into a node.
        leaf = (size - 10) // record
        totals, widths = [leaf], [0]
        for level in range(depth):
            pointer = self.offset + _width(leaf) + widths[level]
            most = (size - 10 - pointer) // (record + pointer)
            totals.append((most + 1) * totals[level] + most)
            widths.append(_width(totals[-1]))
        below = [(root, count, depth)] if root is not None else []
        while below:
            place, count, level = below.pop()
            block = self.signed(place, b"BTIN" if level else b"BTLF", size, "a tree")
            block.skip(2)
            for _ in range(count):
                yield block.part(record, "", "a record")
            for _ in range(count + 1 if level else 0):
                child, held = self.address(block), self.whole(block, _width(leaf))
                block.skip(widths[level - 1])
                if child is not None:
                    below.append((child, held, level - 1))


def _width(most: int) -> int:
    """How many bytes a number takes that may be so large."""
    return (max(most, 1).bit_length() - 1) // 8 + 1


class _Fractal:
    """A fractal heap: objects in blocks of growing size, found by their offset in all blocks together."""

    def __init__(self, blocks: Blocks, address: int) -> None:
        self._blocks = blocks
        length, offset = blocks.length, blocks.offset
        block = blocks.signed(address, b"FRHP", 22 + 12 * length + 3 * offset, "a heap of messages")
        _, self.identity, filters, self._flags, self._managed = struct.unpack("<BHHBL", block.take(10))
        block.skip(length)
        self._huge = blocks.address(block)
        block.skip(9 * length + offset, "a heap of messages")
        width = block.number("<H")
        first, largest = blocks.count(block), blocks.count(block)
        self._bits, _ = block.number("<H"), block.number("<H")
        self._root, self._rows = blocks.address(block), block.number("<H")
        if filters:
            raise block.bad("has a heap of messages that are packed")
        powers = all(0 < one < 2**62 and one & (one - 1) == 0 for one in (width, first, largest))
        if not powers or largest < first or self._bits > 64 or self.identity < 2 or self.identity > 64:
            raise block.bad("has a heap of messages that can't be")
        self._width, self._first, self._largest = width, first, largest

    def object(self, identity: Window) -> Window:
        """The bytes of the object that an identity means."""
        kind = (identity.number("B") >> 4) & 3
        if kind == 2:
            raise identity.bad("has a message inside its own record")
        if kind == 1:
            return self._large(identity)
        offset = self._blocks.whole(identity, (self._bits + 7) // 8)
        size = self._blocks.whole(identity, min(_width(self._largest), _width(self._managed)))
        return self._blocks.at(self._place(offset, size, identity), size, "a message")

    def _large(self, identity: Window) -> Window:
        """An object that lies outside of the heap, by its number."""
        number = identity.take(min(identity.left, self._blocks.length))
        for record in self._blocks.records(self._huge) if self._huge is not None else ():
            place, size = self._blocks.address(record), self._blocks.count(record)
            if place is not None and record.take(record.left)[: len(number)] == number:
                return self._blocks.at(place, size, "a message")
        raise identity.bad("names a message that isn't there")

    def _place(self, offset: int, size: int, identity: Window) -> int:
        """The address of an offset."""
        root, rows = self._root, self._rows
        if root is None:
            raise identity.bad("names a message in an empty heap")
        if not rows:
            return self._within(root, offset, size, self._first, identity)
        direct = self._largest.bit_length() - self._first.bit_length() + 2
        for _ in range(_DEEPEST_TREE):
            row, column, length, begin = self._cell(offset)
            if row >= rows:
                break
            head = 5 + self._blocks.offset + (self._bits + 7) // 8
            self._blocks.signed(root, b"FHIB", head, "a heap of messages")
            at = root + head + (row * self._width + column) * self._blocks.offset
            child = self._blocks.address(self._blocks.at(at, self._blocks.offset, "a heap of messages"))
            if child is None:
                break
            root, offset = child, offset - begin
            if row < direct:
                return self._within(root, offset, size, length, identity)
            rows = length.bit_length() - (self._first * self._width).bit_length() + 1
        raise identity.bad("names a message outside of its heap")

    def _cell(self, offset: int) -> tuple[int, int, int, int]:
        """The row and the column of the block that holds an offset, its length, and the offset it begins with."""
        line = self._first * self._width
        if offset < line:
            column = offset // self._first
            return 0, column, self._first, column * self._first
        row = (offset // line).bit_length()
        length, begin = self._first << (row - 1), line << (row - 1)
        column = (offset - begin) // length
        return row, column, length, begin + column * length

    def _within(self, address: int, offset: int, size: int, length: int, identity: Window) -> int:
        if offset + size > length:
            raise identity.bad("names a message that reaches out of its block")
        self._blocks.signed(address, b"FHDB", 5, "a heap of messages")
        return address + offset
