"""GGUF: files written byte by byte as the format says, and every way to break one."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from formats.harm import flips, survives, truncations
from tally.formats import gguf
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents

Key = tuple[str, int, bytes]


def text(value: str, order: str = "<") -> bytes:
    data = value.encode()
    return struct.pack(f"{order}Q", len(data)) + data


def number(key: str, value: int) -> Key:
    return key, 4, struct.pack("<I", value)


def array(name: str, shape: tuple[int, ...], kind: int, offset: int, order: str = "<") -> bytes:
    sizes = struct.pack(f"{order}{len(shape)}Q", *reversed(shape))
    return (
        text(name, order)
        + struct.pack(f"{order}I", len(shape))
        + sizes
        + struct.pack(f"{order}IQ", kind, offset)
    )


def file_of(
    keys: Sequence[Key] = (),
    arrays: Sequence[bytes] = (),
    data: int = 0,
    version: int = 3,
    align: int = 32,
    order: str = "<",
) -> bytes:
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, len(arrays), len(keys))
    for key, kind, value in keys:
        head += text(key, order) + struct.pack(f"{order}I", kind) + value
    head += b"".join(arrays)
    return head + bytes(-len(head) % align) + bytes(data)


KEYS: list[Key] = [
    ("general.architecture", 8, text("llama")),
    number("llama.attention.head_count", 8),
    ("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
    ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text("a") + text("") + text("ü")),
    ("llama.sizes", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
    ("nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ2B", 0, 2, 7, 8)),
    ("flag", 7, b"\1"),
]
ARRAYS = [array("token_embd.weight", (64, 256), 12, 0), array("output_norm.weight", (256,), 0, 9216)]
SMALL = file_of(KEYS, ARRAYS, 9216 + 1024)


def read(data: bytes, tmp_path: Path) -> Contents:
    found = survives(gguf.read, data, tmp_path, "m.gguf")
    assert isinstance(found, Contents), found
    return found


def test_names_shapes_types_and_keys_are_read(tmp_path):
    found = read(SMALL, tmp_path)
    table, norm = found.tensors
    assert (table.name, table.shape, table.dtype, table.stored) == (
        "token_embd.weight",
        (64, 256),
        "q4_k",
        9216,
    )
    assert table.notes == ("Q4_K: 256 parameters in 144 bytes, 4.5 bits for each.",)
    assert (norm.shape, norm.dtype, norm.stored, norm.notes) == ((256,), "float32", 1024, ())
    assert norm.span.start == len(SMALL) - 1024
    assert found.metadata["llama.attention.head_count"] == 8
    assert found.metadata["llama.sizes"] == (1, -2, 3)
    assert found.metadata["tokenizer.ggml.tokens"] == "a list of 3"
    assert found.metadata["flag"] is True
    assert "uses the table 'token_embd.weight' again" in found.notes[0]


@pytest.mark.parametrize(
    ("kind", "dtype", "block", "width"),
    [
        (2, "q4_0", 32, 18),
        (8, "q8_0", 32, 34),
        (14, "q6_k", 256, 210),
        (16, "iq2_xxs", 256, 66),
        (39, "mxfp4", 32, 17),
    ],
)
def test_blocks_have_their_sizes(tmp_path, kind, dtype, block, width):
    tensor = read(file_of([], [array("w", (4, 512), kind, 0)], 4 * 512 // block * width), tmp_path).tensors[0]
    assert (tensor.dtype, tensor.size, tensor.stored) == (dtype, 2048, 2048 // block * width)


def test_a_file_from_the_other_kind_of_machine_is_read(tmp_path):
    data = file_of([], [array("w", (2, 3), 0, 0, ">")], 24, order=">")
    tensor = read(data, tmp_path).tensors[0]
    assert (tensor.shape, tensor.span.order) == ((2, 3), ">")


def test_another_alignment_is_kept(tmp_path):
    arrays = [array("a", (3,), 24, 0), array("b", (3,), 24, 64)]
    a, b = read(file_of([number("general.alignment", 64)], arrays, 67, align=64), tmp_path).tensors
    assert b.span.start - a.span.start == 64


_LONG = struct.pack("<Q", 2**62)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GGUF", "claims 4 bytes, where 0 are left"),
        (file_of(version=1), "is of version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), "claims 1,099,511,627,776 arrays"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9,223,372,036,854,775,808 keys"),
        (file_of([number("a", 1), number("a", 2)]), "names the key 'a' twice"),
        (file_of([("a", 13, b"")]), "of the kind 13"),
        (file_of([("a", 8, _LONG)]), "claims 4,611,686,018,427,387,904 bytes"),
        (file_of([("a", 9, struct.pack("<I", 8) + _LONG)]), "claims 4,611,686,018,427,387,904 texts"),
        (file_of([("a", 9, struct.pack("<I", 9) + _LONG)]), "claims 4,611,686,018,427,387,904 lists"),
        (file_of([("a", 9, struct.pack("<I", 6) + _LONG)]), "a list claims"),
        (file_of([("a", 9, struct.pack("<IQ", 9, 1) * 200)]), "nests lists more than 100 levels deep"),
        (file_of([("a", 9, struct.pack("<IQ", 8, 2) + struct.pack("<QQ", 2**60, 0))]), "a text claims"),
        (file_of([("a", 8, struct.pack("<Q", 1) + b"\xff")]), "is not utf-8"),
        (file_of([number("general.alignment", 3)]), "aligns its data to '3' bytes"),
        (file_of([], [array("w", (1,) * 5, 0, 0)], 4), "has 5 dimensions"),
        (file_of([], [array("w", (2**32, 2**32), 0, 0)], 4), "more than 9,223,372,036,854,775,807 elements"),
        (file_of([], [array("w", (33,), 2, 0)], 64), "no multiple of 32"),
        (file_of([], [array("w", (3,), 99, 0)], 64), "the type 99"),
        (file_of([], [array("w", (3,), 24, 1)], 64), "no multiple of 32"),
        (file_of([], [array("w", (3,), 24, 64)], 64), "claims bytes up to 67 of 64"),
        (file_of([], [array("w", (40,), 24, 0), array("v", (4,), 24, 32)], 64), "overlaps 'w'"),
        (file_of([], [array("w", (4,), 24, 0), array("w", (4,), 24, 32)], 64), "is named twice"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, reason):
    found = survives(gguf.read, data, tmp_path, "m.gguf")
    assert isinstance(found, BadFileError)
    assert reason in str(found)


def test_harm_never_does_more_than_be_refused(tmp_path):
    small = file_of(KEYS, [array("w", (2, 32), 2, 0)], 36)
    for data in truncations(small):
        assert isinstance(survives(gguf.read, data, tmp_path), BadFileError)
    for data in flips(small, seed=3, count=400):
        survives(gguf.read, data, tmp_path)


def test_a_vocabulary_is_passed_over_in_large_pieces(tmp_path, monkeypatch):
    tokens = b"".join(text("x" * (place % 300)) for place in range(20_000))
    data = file_of([("tokens", 9, struct.pack("<IQ", 8, 20_000) + tokens), number("after", 7)])
    reads = 0
    take = gguf.Window.take

    def counted(self: Any, *arguments: Any) -> bytes:
        nonlocal reads
        reads += 1
        return take(self, *arguments)

    monkeypatch.setattr(gguf.Window, "take", counted)
    assert read(data, tmp_path).metadata["after"] == 7
    assert reads < 60


def part(number_: int, count: int, name: str) -> bytes:
    keys = [("split.count", 2, struct.pack("<H", count)), ("split.no", 2, struct.pack("<H", number_ - 1))]
    return file_of(keys, [array(name, (4,), 0, 0)], 16)


def test_the_parts_of_a_model_are_read_as_one(tmp_path):
    for place in (1, 2):
        (tmp_path / f"m-0000{place}-of-00002.gguf").write_bytes(part(place, 2, f"w{place}"))
    found = gguf.read(tmp_path / "m-00002-of-00002.gguf")
    assert [tensor.name for tensor in found.tensors] == ["w1", "w2"]
    assert found.notes == ("2 files together.",)
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(BadFileError, match=r"'m-00001-of-00002.gguf' isn't there"):
        gguf.read(tmp_path / "m-00002-of-00002.gguf")
    (tmp_path / "other.gguf").write_bytes(part(1, 2, "w"))
    with pytest.raises(BadFileError, match="its name doesn't say which"):
        gguf.read(tmp_path / "other.gguf")


def test_limits_hold(tmp_path):
    (tmp_path / "m.gguf").write_bytes(SMALL)
    with pytest.raises(BadFileError, match="claims 2 arrays"):
        gguf.read(tmp_path / "m.gguf", Limits(tensors=1))
