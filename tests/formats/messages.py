"""A writer of protobuf's wire format, as short as tests need it."""

from collections.abc import Iterable


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def field(number: int, value: int | str | bytes | Iterable[int]) -> bytes:
    """A number as a varint; a text, a message or a list of numbers with its length before it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    data = data if isinstance(data, bytes) else b"".join(map(varint, data))
    return varint(number << 3 | 2) + varint(len(data)) + data
