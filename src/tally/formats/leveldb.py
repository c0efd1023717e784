"""LevelDB's sorted table, in which TensorFlow keeps the index of a checkpoint: keys and values in checked blocks."""

from collections.abc import Iterator

from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window

MAGIC = 0xDB4775248B80FB57
"""The last eight bytes of a table."""
_FOOTER = 48
_TRAILER = 5
_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    found: list[int] = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (_POLYNOMIAL if rest & 1 else 0)
        found.append(rest)
    return tuple(found)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    rest = 0xFFFFFFFF
    for byte in data:
        rest = rest >> 8 ^ _CRC[(rest ^ byte) & 255]
    return rest ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return a checksum in the form in which a table stores it, so that one of other checksums isn't mistaken.

    Example:
        >>> hex(masked(0xE3069283))
        '0xc78ab0e5'
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_table(window: Window) -> bool:
    """Tell whether a file ends as a table does."""
    if window.size < _FOOTER:
        return False
    window.go_to(window.size - 8)
    return window.number("<Q") == MAGIC


def entries(window: Window, limits: Limits = LIMITS) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table, in the order of the keys.

    Args:
        window: The file.
        limits: How large it may be, and how many entries it may have.

    Raises:
        BadFileError: It is no table, a block is broken, or its keys aren't sorted.
    """
    if not is_table(window):
        raise window.bad("doesn't end as a table does", at=window.start)
    if window.size > limits.header:
        raise window.bad(f"has {window.size:,} bytes, more than {limits.header:,}", at=window.start)
    window.go_to(window.size - _FOOTER)
    footer = window.take(_FOOTER - 8, "the footer")
    at = 0
    for _ in range(2):  # what blocks are called, which nothing here needs
        _, at = _varint(window, footer, at)
    handle = footer[at:]
    before, end, count = b"", 0, 0
    for _, place in _block(window, handle, limits):
        start, _ = _varint(window, place, 0)
        if start < end:
            raise window.bad("has blocks that overlap", at=window.start + start)
        for key, value in _block(window, place, limits):
            count += 1
            if count > limits.tensors:
                raise window.bad(f"has more than {limits.tensors:,} entries", at=window.start)
            if key <= before and count > 1:
                raise window.bad(f"has the key {key[:40]!r} out of order", at=window.start + start)
            before = key
            yield key, value
        size, _ = _varint(window, place, _varint(window, place, 0)[1])
        end = start + size + _TRAILER


def _block(window: Window, handle: bytes, limits: Limits) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block; each key gives only what differs from the key before it."""
    data = _unpacked(window, handle, limits)
    if len(data) < 4:
        raise window.bad("has a block without an end", at=window.start)
    restarts = int.from_bytes(data[-4:], "little")
    end = len(data) - 4 - 4 * restarts
    if restarts < 0 or end < 0:
        raise window.bad(
            f"has a block that claims {restarts:,} restarts in {len(data):,} bytes", at=window.start
        )
    at, key = 0, b""
    while at < end:
        shared, at = _varint(window, data, at)
        fresh, at = _varint(window, data, at)
        size, at = _varint(window, data, at)
        if shared > len(key) or fresh > limits.name or at + fresh + size > end:
            raise window.bad("has a block with an entry that doesn't fit", at=window.start)
        key = key[:shared] + data[at : at + fresh]
        if len(key) > limits.name:
            raise window.bad(f"has a key of {len(key):,} bytes", at=window.start)
        at += fresh
        yield key, data[at : at + size]
        at += size


def _unpacked(window: Window, handle: bytes, limits: Limits) -> bytes:
    """Read a block, check its sum, and unpack it."""
    start, at = _varint(window, handle, 0)
    size, _ = _varint(window, handle, at)
    window.go_to(min(start, window.size + 1), "a block")
    data = window.take(size + 1, "a block")
    stored = window.number("<I", "the checksum of a block")
    if masked(crc32c(data)) != stored:
        raise window.bad("has a block whose checksum isn't right", at=window.start + start)
    if data[-1] == 0:
        return data[:-1]
    if data[-1] != 1:
        raise window.bad(f"has a block packed in the unknown way {data[-1]}", at=window.start + start)
    return _snappy(window, data[:-1], limits)


def _snappy(window: Window, data: bytes, limits: Limits) -> bytes:
    """Unpack what Snappy packed: runs of bytes, and copies of what came before."""
    size, at = _varint(window, data, 0)
    if size > limits.header or size > limits.ratio * len(data):
        raise window.bad(f"has a block that unpacks to {size:,} bytes", at=window.start)
    found = bytearray()
    while at < len(data) and len(found) <= size:
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            length, wide = (tag >> 2) + 1, max((tag >> 2) - 59, 0)
            if wide:
                length = int.from_bytes(data[at : at + wide], "little") + 1
            at += wide
            found += data[at : at + length]
            at += length
            continue
        wide = (1, 2, 4)[(tag & 3) - 1]
        back, length = int.from_bytes(data[at : at + wide], "little"), (tag >> 2) + 1
        if wide == 1:
            back, length = back | tag >> 5 << 8, (tag >> 2 & 7) + 4
        at += wide
        if not 0 < back <= len(found):
            raise window.bad("has a packed block that copies what isn't there", at=window.start)
        first = len(found) - back
        piece = found[first : first + min(back, length)]
        found += (piece * (length // len(piece) + 1))[:length]
    if len(found) != size or at != len(data):
        raise window.bad("has a packed block of another size than it claims", at=window.start)
    return bytes(found)


def _varint(window: Window, data: bytes, at: int) -> tuple[int, int]:
    """Read a number in steps of seven bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise window.bad("has a number that doesn't end", at=window.start)
