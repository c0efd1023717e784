"""Zstandard's frames, held against what Orbax's store packed: its nodes use every kind of block."""

import contextlib
import random
import zipfile
from pathlib import Path

import pytest

from tally.formats.zstandard import PackedError, unpack

DATA = Path(__file__).parent / "data"
START = bytes.fromhex("28b52ffd")


def frame(*blocks: tuple[int, bytes, int], size: int = 3) -> bytes:
    data = START + bytes([0x20, size])
    for number, (kind, body, length) in enumerate(blocks):
        data += ((number == len(blocks) - 1) | kind << 1 | length << 3).to_bytes(3, "little") + body
    return data


@pytest.fixture(scope="module")
def nodes() -> list[bytes]:
    """The packed bodies of all nodes in the store of a checkpoint."""
    with zipfile.ZipFile(DATA / "orbax.zip") as archive:
        files = [archive.read(name) for name in archive.namelist() if "/d/" in name]
    return [data[14:-4] for data in files if data[:4] == b"\x0c\xdb\x20\xde" and data[13] == 1]


def test_nodes_are_unpacked(nodes: list[bytes]) -> None:
    found = [unpack(node, 10**6) for node in nodes]
    assert any(b"params.layer_7.kernel/.zarray" in one or b'"zarr_format":2' in one for one in found)
    assert max(map(len, found)) > 5_000


def test_plain_and_repeated_blocks_are_unpacked() -> None:
    assert unpack(frame((0, b"abc", 3)), 10) == b"abc"
    assert unpack(frame((1, b"a", 2), (0, b"b", 1)), 10) == b"aab"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "doesn't begin as a frame does"),
        (START, "ends too early"),
        (START + b"\x21\x03\x01", "needs a dictionary"),
        (frame((0, b"abc", 3), size=4), "has another size than it claims"),
        (frame((0, b"abc", 3)) + b"x", "has another size than it claims"),
        (frame((0, b"abc", 4)), "ends too early"),
        (frame((3, b"abc", 3)), "a block of an unknown kind"),
        (frame((2, b"", 0)), "ends too early"),
        (frame((1, b"a", 2**20)), "holds more than 100 bytes"),
        (frame((0, b"abc", 3), size=200), "claims 200 bytes, more than 100"),
        (frame((2, bytes([3, 0, 0, 0]), 4)), "repeats a table that wasn't there"),
    ],
)
def test_a_broken_frame_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PackedError, match=says):
        unpack(data, 100)


def test_a_frame_that_unpacks_to_more_is_refused(nodes: list[bytes]) -> None:
    largest = max(nodes, key=len)
    with pytest.raises(PackedError, match="more than 1,000 bytes"):
        unpack(largest, 1_000)


def test_broken_frames_unpack_or_are_refused(nodes: list[bytes]) -> None:
    chance = random.Random(5)
    for _ in range(150):
        broken = bytearray(chance.choice(nodes))
        broken[chance.randrange(4, len(broken))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(PackedError):
            assert len(unpack(bytes(broken), 20_000)) <= 20_000
