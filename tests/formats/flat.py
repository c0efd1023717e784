"""A writer of FlatBuffers, as short as tests need it: a table is a dict of its fields, and points forwards only."""

import struct
from typing import Any


def build(root: dict[int, Any], magic: bytes = b"TFL3") -> bytes:
    """Numbers are pairs of a form and a value, vectors of numbers a form and a list; lists hold tables."""
    data = bytearray(struct.pack("<I4s", 0, magic))
    _point(data, 0, _put(data, root))
    return bytes(data)


def _point(data: bytearray, at: int, to: int) -> None:
    struct.pack_into("<I", data, at, to - at)


def _put(data: bytearray, value: Any) -> int:
    """Write a value behind all others, and what it points to behind it; return where it begins."""
    at = len(data)
    if isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        data += struct.pack("<I", len(text)) + text
    elif isinstance(value, tuple):
        form, numbers = value
        data += struct.pack("<I", len(numbers)) + struct.pack(f"<{len(numbers)}{form[-1]}", *numbers)
    elif isinstance(value, list):
        data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for place, one in enumerate(value):
            _point(data, at + 4 + 4 * place, _put(data, one))
    else:
        return _put_table(data, value)
    return at


def _put_table(data: bytearray, fields: dict[int, Any]) -> int:
    places, body = [0] * (max(fields, default=-1) + 1), bytearray(4)
    for number, value in fields.items():
        places[number] = len(body)
        is_number = isinstance(value, tuple) and not isinstance(value[1], list)
        body += struct.pack(value[0], value[1]) if is_number else bytes(4)
    record = len(data)
    data += struct.pack(f"<{len(places) + 2}H", 4 + 2 * len(places), len(body), *places)
    at = len(data)
    struct.pack_into("<i", body, 0, at - record)
    data += body
    for number, value in fields.items():
        if not isinstance(value, tuple) or isinstance(value[1], list):
            _point(data, at + places[number], _put(data, value))
    return at
