"""LevelDB's sorted table, as TensorFlow writes the index of a checkpoint."""

import contextlib
import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.messages import varint

from tally.formats.errors import BadFileError
from tally.formats.leveldb import MAGIC, crc32c, entries, masked
from tally.formats.limits import Limits
from tally.formats.window import Window


def block(pairs: Iterable[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    body, before = b"", b""
    for key, value in pairs:
        shared = 0
        while shared < min(len(before), len(key)) and before[shared] == key[shared]:
            shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return body + bytes(4) + (1).to_bytes(4, "little")


def closed(body: bytes, kind: int = 0) -> bytes:
    data = body + bytes([kind])
    return data + masked(crc32c(data)).to_bytes(4, "little")


def handle(start: int, body: bytes) -> bytes:
    return varint(start) + varint(len(body))


def footer(start: int, index: bytes) -> bytes:
    return (varint(0) * 2 + handle(start, index)).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def table(*blocks: bytes, kind: int = 0) -> bytes:
    data, places = b"", []
    for number, body in enumerate(blocks):
        places.append((bytes([number + 1]), handle(len(data), body)))
        data += closed(body, kind)
    index = block(places)
    return data + closed(index) + footer(len(data), index)


def read(data: bytes, limits: Limits | None = None) -> list[tuple[bytes, bytes]]:
    return list(entries(Window(io.BytesIO(data), "t.index", 0, len(data)), limits or Limits()))


@given(st.dictionaries(st.binary(max_size=9), st.binary(max_size=9), min_size=1, max_size=30))
def test_keys_and_values_come_back(pairs: dict[bytes, bytes]) -> None:
    ordered = sorted(pairs.items())
    half = len(ordered) // 2
    blocks = [block(part) for part in (ordered[:half], ordered[half:]) if part]
    assert read(table(*blocks)) == ordered


def test_a_packed_block_is_unpacked() -> None:
    body = block([(b"a", b"x" * 70), (b"b", b"y")])
    place = body.index(b"x")
    # A literal up to the first x, a copy of 64 of the last one, one of 5, a literal of the rest.
    packed = varint(len(body)) + bytes([(place << 2)]) + body[: place + 1] + bytes([63 << 2 | 2, 1, 0])
    packed += bytes([1 << 2 | 1, 1]) + bytes([(len(body) - place - 71) << 2]) + body[place + 70 :]
    assert read(table(packed, kind=1)) == [(b"a", b"x" * 70), (b"b", b"y")]


GOOD = block([(b"a", b"1"), (b"b", b"2")])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "doesn't end as a table does"),
        (bytes(100), "doesn't end as a table does"),
        (table(GOOD)[:3] + b"\xff" + table(GOOD)[4:], "checksum isn't right"),
        (table(block([(b"b", b""), (b"a", b"")])), "the key b'a' out of order"),
        (table(block([(b"a", b"")] * 2)), "the key b'a' out of order"),
        (table(GOOD, GOOD), "the key b'a' out of order"),
        (table(GOOD, kind=2), "packed in the unknown way 2"),
        (table(b"\xff\xff\xff\xff\x0f" + GOOD, kind=1), "unpacks to 4,294,967,295 bytes"),
        (table(varint(5) + b"\x01\x09", kind=1), "copies what isn't there"),
        (table(varint(5) + b"\x00a", kind=1), "another size than it claims"),
        (table(varint(9) + b"\x00\x09\x00abc" + bytes(4) + b"\x01\0\0\0"), "an entry that doesn't fit"),
        (
            table(varint(0) + b"\x00\x09\x00abc" + bytes(4) + b"\xff\xff\xff\xff"),
            "claims 4,294,967,295 restarts",
        ),
        (table(b"\x80" * 20 + bytes(4) + b"\x01\0\0\0"), "a number that doesn't end"),
        (table(b"ab"), "a block without an end"),
        (footer(2**62, GOOD), "outside of"),
    ],
)
def test_a_broken_table_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read(data)


def test_blocks_that_overlap_are_refused() -> None:
    index = block([(b"a", handle(0, GOOD)), (b"b", handle(0, GOOD))])
    data = closed(GOOD)
    with pytest.raises(BadFileError, match="blocks that overlap"):
        read(data + closed(index) + footer(len(data), index))


def test_entries_are_read_up_to_a_limit() -> None:
    with pytest.raises(BadFileError, match="more than 1 entries"):
        read(table(GOOD), Limits(tensors=1))
    with pytest.raises(BadFileError, match="more than 50"):
        read(table(GOOD), Limits(header=50))


@given(st.binary(max_size=60))
def test_any_block_is_read_or_refused(body: bytes) -> None:
    for kind in (0, 1):
        with contextlib.suppress(BadFileError):
            assert isinstance(read(table(body, kind=kind)), list)
