"""FlatBuffers, read table by table."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.flat import build

from tally.formats.errors import BadFileError
from tally.formats.flatbuffer import Flat, Table
from tally.formats.limits import Limits
from tally.formats.window import Window


def root(data: bytes, limits: Limits | None = None) -> Table:
    return Flat(Window(io.BytesIO(data), "m.bin", 0, len(data)), limits or Limits()).root()


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 20))
def test_a_number_comes_back(value: int, field: int) -> None:
    table = root(build({field: ("<i", value)}))
    assert table.number(field, "<i") == value
    assert table.number(field + 1, "<i", 7) == 7


@given(st.lists(st.integers(-128, 127), max_size=30), st.text(max_size=9))
def test_vectors_texts_and_tables_come_back(values: list[int], text: str) -> None:
    table = root(build({0: ("<b", values), 1: text, 2: {0: ("<H", 3)}, 3: [{0: ("<H", 4)}, {}]}))
    assert table.numbers(0, "<b", 100) == tuple(values)
    assert table.text(1, 100) == text
    inner = table.table(2)
    assert inner is not None
    assert inner.number(0, "<H") == 3
    assert [one.number(0, "<H") for one in table.tables(3, 100)] == [4, 0]


def test_a_vector_of_data_is_told_by_its_place() -> None:
    data = build({0: b"abc" * 1_000})
    start, count = root(data, Limits(header=200)).vector(0, 1, 10_000)
    assert data[start : start + count] == b"abc" * 1_000


def test_what_is_missing_is_empty() -> None:
    table = root(build({}))
    assert (table.text(4, 9), table.numbers(4, "<i", 9), table.tables(4, 9), table.table(4)) == (
        "",
        (),
        [],
        None,
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "claims 4 bytes, where 0 are left"),
        (struct.pack("<I", 100) + bytes(8), "begins 100 bytes on, outside"),
        (struct.pack("<I", 0) + bytes(8), "begins 0 bytes on, outside"),
        (struct.pack("<Ii", 4, -1_000), "record lies outside"),
        (struct.pack("<Ii", 4, 1_000), "record lies outside"),
        (struct.pack("<IHHi", 8, 3, 4, 4), "record claims 3 bytes"),
        (struct.pack("<IHHi", 8, 4, 2, 4), "fields outside of itself"),
        (struct.pack("<IHHHHi", 12, 6, 6, 60_000, 0, 8), "fields outside of itself"),
    ],
)
def test_a_table_outside_of_the_file_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        root(data)


def test_a_number_cut_off_by_its_table_is_refused() -> None:
    with pytest.raises(BadFileError, match="field 0 of a table is cut off"):
        root(build({0: ("<H", 1)})).number(0, "<Q")


def test_a_vector_longer_than_the_file_is_refused() -> None:
    data = bytearray(build({0: ("<i", [1, 2])}))
    data[data.index(struct.pack("<III", 2, 1, 2))] = 3
    table = root(bytes(data))
    with pytest.raises(BadFileError, match="a vector claims 3 elements"):
        table.numbers(0, "<i", 100)


def test_a_vector_past_its_limit_is_refused() -> None:
    table = root(build({0: ("<i", [1] * 9)}))
    with pytest.raises(BadFileError, match="a vector claims 9 elements"):
        table.numbers(0, "<i", 8)


def test_a_text_has_to_be_utf_8() -> None:
    with pytest.raises(BadFileError, match="not utf-8"):
        root(build({0: b"\xff"})).text(0, 9)


def test_the_same_part_is_not_read_for_ever() -> None:
    table = root(build({0: ("<i", [0] * 10_000), 1: ("<i", [0] * 9)}))
    for _ in range(5):  # four times the file, and 64 KiB that a small one may need
        table.numbers(0, "<i", 10_000)
    with pytest.raises(BadFileError, match="again and again"):
        table.numbers(0, "<i", 10_000)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    try:
        table = root(data)
        table.numbers(0, "<i", 100)
        table.text(1, 100)
        table.tables(2, 100)
    except BadFileError:
        pass
