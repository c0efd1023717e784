"""Protobuf's wire format, walked without a schema."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.messages import field, varint

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.protobuf import Message, Table
from tally.formats.window import Window


class Counted(io.BytesIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


def message(data: bytes, limits: Limits | None = None) -> Message:
    return Message(Window(io.BytesIO(data), "m.pb", 0, len(data)), limits=limits or Limits())


def table(data: bytes) -> Table:
    return message(data).table()


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**29 - 1))
def test_a_number_comes_back(value: int, number: int) -> None:
    assert table(field(number, value)).integer(number) == value


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9))
def test_a_list_is_the_same_packed_and_one_by_one(values: list[int]) -> None:
    assert table(field(3, values)).integers(3) == values
    assert table(b"".join(field(3, value) for value in values)).integers(3) == values


def test_of_a_field_given_twice_the_last_counts() -> None:
    assert table(field(1, 5) + field(1, 6)).integer(1) == 6
    assert table(field(2, "a") + field(2, "b")).text(2) == "b"


def test_what_is_missing_has_a_default() -> None:
    empty = table(b"")
    assert (empty.integer(1, 7), empty.text(1), empty.real(1, 0.5), empty.messages(1)) == (7, "", 0.5, [])
    assert empty.table_of(1) is None


def test_fixed_numbers_are_read() -> None:
    data = varint(1 << 3 | 5) + b"\0\0\x80\x3f" + varint(2 << 3 | 1) + bytes([9, 0, 0, 0, 0, 0, 0, 0])
    assert (table(data).real(1), table(data).integer(2)) == (1.0, 9)


def test_data_is_passed_over_unread() -> None:
    data = field(1, bytes(5_000_000)) + field(2, field(3, 4))
    stream = Counted(data)
    held = Message(Window(stream, "m.pb", 0, len(data))).table()
    inner = held.table_of(2)
    assert inner is not None
    assert inner.integer(3) == 4
    assert stream.taken < 100


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80", "ends inside a number"),
        (b"\x08", "ends inside a number"),
        (b"\xff" * 11, "more than ten bytes"),
        (field(1, b"abc")[:-1], "claims 3 bytes, where 2 are left"),
        (b"\x0a\xff\xff\xff\xff\x7f", "claims 34,359,738,367 bytes, where 0 are left"),
        (b"\x00\x01", "of the number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0d\x01\x02", "ends inside field 1"),
    ],
)
def test_a_broken_field_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        table(data)


@pytest.mark.parametrize("ask", [lambda one: one.integer(1), lambda one: one.real(1)])
def test_a_message_is_no_number(ask) -> None:
    with pytest.raises(BadFileError, match="field 1 is no number"):
        ask(table(field(1, b"abcd")))


def test_a_number_is_no_message() -> None:
    with pytest.raises(BadFileError, match="field 1 is a number"):
        table(field(1, 4)).text(1)


def test_a_text_has_to_be_utf_8() -> None:
    with pytest.raises(BadFileError, match="byte 3: field 1 is not utf-8"):
        table(field(1, b"a\xff")).text(1)


def test_nesting_has_an_end() -> None:
    data = b""
    for _ in range(200):
        data = field(1, data)
    inner = message(data)
    for _ in range(101):
        (_, inner), *_ = inner.fields()
        assert isinstance(inner, Message)
    with pytest.raises(BadFileError, match="nested more than 100 deep"):
        inner.table()


def test_structure_is_read_up_to_a_limit() -> None:
    with pytest.raises(BadFileError, match="more than 1,000 bytes beside its data"):
        message(field(1, 1) * 600, Limits(header=1_000)).table()


def test_fields_are_read_up_to_a_limit() -> None:
    with pytest.raises(BadFileError, match="more than 10 fields"):
        message(field(1, 1) * 11, Limits(tensors=10)).table()


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_refused(data: bytes) -> None:
    try:
        held = table(data)
        for number in range(1, 6):
            held.integers(number)
    except BadFileError:
        pass
