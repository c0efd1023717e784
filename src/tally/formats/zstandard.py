"""Zstandard's packed frames, unpacked within bounds: checkpoints pack the lists of their arrays this way."""

from collections.abc import Callable
from typing import TypeAlias

Rows: TypeAlias = list[tuple[int, int, int]]
"""The states of a decoder: a symbol, the bits to read for the next state, and what to add them to."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST_BLOCK = 2**17
_LITERAL_BASES = (*range(16), 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, *(2**power for power in range(7, 17)))
_LITERAL_BITS = (*[0] * 16, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, *range(7, 17))
_MATCH_BASES = (
    *range(3, 35), 35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, *(2**power + 3 for power in range(7, 17)),
)  # fmt: skip
_MATCH_BITS = (*[0] * 32, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, *range(7, 17))
_USUAL_LITERALS = (4, 3, *[2] * 11, 1, 1, 1, *[2] * 9, 3, 2, *[1] * 5, *[-1] * 4)
_USUAL_MATCHES = (1, 4, 3, *[2] * 6, *[1] * 37, *[-1] * 7)
_USUAL_OFFSETS = (*[1] * 6, 2, 2, 2, *[1] * 15, *[-1] * 5)


class PackedError(ValueError):
    """The bytes are no frame that can be unpacked."""


def unpack(data: bytes, longest: int) -> bytes:
    """Return what a frame holds.

    Args:
        data: One frame, and nothing behind it.
        longest: How many bytes it may hold.

    Raises:
        PackedError: It is broken, holds more, or needs a dictionary.

    Example:
        >>> unpack(bytes.fromhex("28b52ffd2003190000616263"), 100)
        b'abc'
    """
    try:
        return _Frame(data, longest).unpacked()
    except IndexError:
        raise PackedError("ends too early") from None


class _Frame:
    """One frame while it is unpacked."""

    def __init__(self, data: bytes, longest: int) -> None:
        if data[:4] != _MAGIC:
            raise PackedError("doesn't begin as a frame does")
        self._data, self._longest = data, longest
        self._found = bytearray()
        self._offsets: list[int] = [1, 4, 8]
        self._huffman: list[tuple[int, int]] = []
        self._tables: list[Rows] = [[], [], []]

    def unpacked(self) -> bytes:
        """Unpack block after block."""
        at, size, is_checked = self._header()
        last = False
        while not last:
            head = int.from_bytes(self._slice(at, 3), "little")
            last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
            at += 3
            if kind == 1:
                self._add(self._slice(at, 1) * self._room(length))
                at += 1
                continue
            block = self._slice(at, length)
            at += length
            if kind == 0:
                self._add(block)
            elif kind == 2 and length <= _LARGEST_BLOCK:
                self._unpack_block(block)
            else:
                raise PackedError("has a block of an unknown kind")
        if at + 4 * is_checked != len(self._data) or (size is not None and size != len(self._found)):
            raise PackedError("has another size than it claims")
        return bytes(self._found)

    def _header(self) -> tuple[int, int | None, bool]:
        """Read how large the frame says it is, and whether a checksum follows it."""
        flags = self._data[4]
        single, at = bool(flags & 32), 5
        if flags & 3 or flags & 8:
            raise PackedError("needs a dictionary")
        at += 0 if single else 1
        width = (1 if single else 0, 2, 4, 8)[flags >> 6]
        size = int.from_bytes(self._slice(at, width), "little") + (256 if width == 2 else 0)
        if width and size > self._longest:
            raise PackedError(f"claims {size:,} bytes, more than {self._longest:,}")
        return at + width, size if width else None, bool(flags & 4)

    def _slice(self, at: int, count: int) -> bytes:
        found = self._data[at : at + count]
        if len(found) != count:
            raise PackedError("ends too early")
        return found

    def _room(self, count: int) -> int:
        if len(self._found) + count > self._longest:
            raise PackedError(f"holds more than {self._longest:,} bytes")
        return count

    def _add(self, piece: bytes) -> None:
        self._room(len(piece))
        self._found += piece

    def _unpack_block(self, block: bytes) -> None:
        literals, at = self._literals(block)
        count, at = _sequence_count(block, at)
        if not count:
            if at != len(block):
                raise PackedError("has bytes behind a block's literals")
            self._add(literals)
            return
        modes = block[at]
        at += 1
        if modes & 3:
            raise PackedError("has a block of an unknown kind")
        kinds = (
            (_USUAL_LITERALS, 6, 9, 35),
            (_USUAL_OFFSETS, 5, 8, 31),
            (_USUAL_MATCHES, 6, 9, 52),
        )
        for number, (usual, log, largest, symbols) in enumerate(kinds):
            mode = modes >> (6 - 2 * number) & 3
            if mode == 0:
                self._tables[number] = _rows(usual, log)
            elif mode == 1:
                if block[at] > symbols:
                    raise PackedError("has a code that isn't one")
                self._tables[number] = [(block[at], 0, 0)]
                at += 1
            elif mode == 2:
                shares, log, at = _shares(block, at, largest, symbols)
                self._tables[number] = _rows(shares, log)
            elif not self._tables[number]:
                raise PackedError("repeats a table that wasn't there")
        self._run(_Backward(block[at:]), count, literals)

    def _run(self, bits: "_Backward", count: int, literals: bytes) -> None:
        """Put literals and copies of what came before one behind the other."""
        tables = self._tables
        states = [bits.read(_width(table)) for table in tables]
        used = 0
        for number in range(count):
            rows = [table[state] for table, state in zip(tables, states, strict=True)]
            power = rows[1][0]
            value = (1 << power) + bits.read(power)
            match = _MATCH_BASES[rows[2][0]] + bits.read(_MATCH_BITS[rows[2][0]])
            fresh = _LITERAL_BASES[rows[0][0]] + bits.read(_LITERAL_BITS[rows[0][0]])
            back = self._offset(value, fresh)
            if used + fresh > len(literals):
                raise PackedError("takes more literals than there are")
            self._add(literals[used : used + fresh])
            used += fresh
            self._copy(back, match)
            if number < count - 1:
                for place in (0, 2, 1):
                    _, width, base = rows[place]
                    states[place] = base + bits.read(width)
        if bits.left:
            raise PackedError("has bits behind a block's sequences")
        self._add(literals[used:])

    def _offset(self, value: int, fresh: int) -> int:
        """Return how far back a copy begins; small values name one of the last three."""
        known = self._offsets
        if value > 3:
            self._offsets = [value - 3, known[0], known[1]]
            return value - 3
        index = value - 1 + (fresh == 0)
        if index == 3:
            back = known[0] - 1
            self._offsets = [back, known[0], known[1]]
            return back
        back = known[index]
        self._offsets = [back, *(known[:index]), *(known[index + 1 :])]
        return back

    def _copy(self, back: int, length: int) -> None:
        if not 0 < back <= len(self._found):
            raise PackedError("copies what isn't there")
        self._room(length)
        first = len(self._found) - back
        piece = self._found[first : first + min(back, length)]
        self._found += (piece * (length // len(piece) + 1))[:length]

    def _literals(self, block: bytes) -> tuple[bytes, int]:
        """Read the bytes of a block that are no copies."""
        kind, form = block[0] & 3, block[0] >> 2 & 3
        if kind < 2:
            wide = (1, 2, 1, 3)[form]
            size = int.from_bytes(block[:wide], "little") >> (3 if wide == 1 else 4)
            packed = size if kind == 0 else 1
            found = block[wide : wide + packed]
            if len(found) != packed or size > _LARGEST_BLOCK:
                raise PackedError("has literals that don't fit")
            return found if kind == 0 else found * size, wide + packed
        wide, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
        head = int.from_bytes(block[:wide], "little") >> 4
        size, packed = head & (1 << bits) - 1, head >> bits & (1 << bits) - 1
        body = block[wide : wide + packed]
        if len(body) != packed or size > _LARGEST_BLOCK:
            raise PackedError("has literals that don't fit")
        at = 0
        if kind == 2:
            self._huffman, at = _codes(body)
        elif not self._huffman:
            raise PackedError("repeats a table that wasn't there")
        return self._decoded(body[at:], size, 1 if form == 0 else 4), wide + packed

    def _decoded(self, body: bytes, size: int, streams: int) -> bytes:
        """Decode literals, in one stream or in four."""
        if streams == 1:
            return _decode(body, size, self._huffman)
        lengths = [int.from_bytes(body[place : place + 2], "little") for place in (0, 2, 4)]
        each, at, found = (size + 3) // 4, 6, b""
        for number in range(4):
            length = lengths[number] if number < 3 else len(body) - at
            count = each if number < 3 else size - 3 * each
            if length <= 0 or count < 0 or at + length > len(body):
                raise PackedError("has literals that don't fit")
            found += _decode(body[at : at + length], count, self._huffman)
            at += length
        return found


class _Backward:
    """Bits that are read from the last to the first; the highest one set only marks where they begin."""

    __slots__ = ("_data", "left")

    def __init__(self, data: bytes) -> None:
        if not data or not data[-1]:
            raise PackedError("has bits that don't begin")
        self._data = data
        self.left = 8 * len(data) - 9 + data[-1].bit_length()

    def read(self, count: int) -> int:
        """Read so many bits."""
        self.left -= count
        if self.left < 0:
            raise PackedError("has too few bits")
        return self._at(self.left, count)

    def peek(self, count: int) -> int:
        """Look at so many bits, zeros where there are fewer."""
        if self.left >= count:
            return self._at(self.left - count, count)
        return self._at(0, self.left) << (count - self.left)

    def _at(self, start: int, count: int) -> int:
        first = start >> 3
        piece = int.from_bytes(self._data[first : (start + count + 7) >> 3], "little")
        return piece >> (start & 7) & (1 << count) - 1


def _sequence_count(block: bytes, at: int) -> tuple[int, int]:
    first = block[at]
    if first < 128:
        return first, at + 1
    if first < 255:
        return (first - 128 << 8) + block[at + 1], at + 2
    return block[at + 1] + (block[at + 2] << 8) + 0x7F00, at + 3


def _width(table: Rows) -> int:
    return len(table).bit_length() - 1


def _rows(shares: tuple[int, ...] | list[int], log: int) -> Rows:
    """Spread symbols over the states of a decoder, each as often as its share says."""
    size = 1 << log
    symbols, following = [0] * size, [abs(share) for share in shares]
    high = size - 1
    for symbol, share in enumerate(shares):
        if share == -1:
            symbols[high] = symbol
            high -= 1
    at, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, share in enumerate(shares):
        for _ in range(max(share, 0)):
            symbols[at] = symbol
            at = at + step & size - 1
            while at > high:
                at = at + step & size - 1
    rows: Rows = []
    for symbol in symbols:
        state = following[symbol]
        following[symbol] += 1
        width = log - state.bit_length() + 1
        rows.append((symbol, width, (state << width) - size))
    return rows


def _shares(data: bytes, at: int, largest: int, symbols: int) -> tuple[list[int], int, int]:
    """Read how often each symbol comes, and where that ends."""
    bits = int.from_bytes(data[at : at + 600], "little")  # no table is described by more bytes
    log, place = (bits & 15) + 5, 4
    if log > largest:
        raise PackedError("has a table that is too large")
    left, threshold, width = (1 << log) + 1, 1 << log, log + 1
    shares: list[int] = []
    while left > 1:
        if len(shares) > symbols:
            raise PackedError("has too many symbols")
        most = 2 * threshold - 1 - left
        value = bits >> place & 2 * threshold - 1
        low = value & threshold - 1
        if low < most:
            value, place = low, place + width - 1
        else:
            value, place = value - (most if value >= threshold else 0), place + width
        shares.append(value - 1)
        left -= abs(value - 1)
        if value == 1:
            repeat = 3
            while repeat == 3:
                repeat = bits >> place & 3
                place += 2
                shares.extend([0] * repeat)
                if len(shares) > symbols + 1:
                    raise PackedError("has too many symbols")
        while left < threshold and threshold > 1:
            width, threshold = width - 1, threshold >> 1
    end = at + (place + 7 >> 3)
    if left != 1 or end > len(data) or len(shares) > symbols + 1:
        raise PackedError("has a table that doesn't add up")
    return shares, log, end


def _codes(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Read a Huffman table: for each pattern of bits the symbol, and how many of the bits are its code."""
    head = data[0]
    if head < 128:
        weights, at = _packed_weights(data[1 : 1 + head]), 1 + head
    else:
        count = head - 127
        at = 1 + (count + 1 >> 1)
        weights = [data[1 + (n >> 1)] >> (0 if n & 1 else 4) & 15 for n in range(count)]
    if at > len(data) or len(weights) > 255 or max(weights, default=0) > 12:
        raise PackedError("has a code that doesn't add up")
    total = sum(1 << weight - 1 for weight in weights if weight)
    if not total:
        raise PackedError("has a code without symbols")
    log = total.bit_length()
    rest = (1 << log) - total
    if log > 11 or rest & rest - 1:
        raise PackedError("has a code that doesn't add up")
    weights.append(rest.bit_length())
    codes: list[tuple[int, int]] = []
    for weight in range(1, log + 1):
        for symbol, own in enumerate(weights):
            if own == weight:
                codes.extend([(symbol, log + 1 - weight)] * (1 << weight - 1))
    return codes, at


def _packed_weights(data: bytes) -> list[int]:
    """Decode the weights of a Huffman table, which two decoders take in turn."""
    shares, log, at = _shares(data, 0, 6, 12)
    rows, bits = _rows(shares, log), _Backward(data[at:])
    states = [bits.read(log), bits.read(log)]
    found: list[int] = []
    while len(found) < 256:
        for turn in (0, 1):
            symbol, width, base = rows[states[turn]]
            found.append(symbol)
            if bits.left < width:
                found.append(rows[states[1 - turn]][0])
                return found
            states[turn] = base + bits.read(width)
    raise PackedError("has too many symbols")


def _decode(data: bytes, count: int, codes: list[tuple[int, int]]) -> bytes:
    """Decode one stream of literals."""
    log, bits, found = len(codes).bit_length() - 1, _Backward(data), bytearray()
    peek: Callable[[int], int] = bits.peek
    for _ in range(count):
        symbol, width = codes[peek(log)]
        found.append(symbol)
        bits.left -= width
        if bits.left < 0:
            raise PackedError("has too few bits")
    if bits.left:
        raise PackedError("has bits behind its literals")
    return bytes(found)
