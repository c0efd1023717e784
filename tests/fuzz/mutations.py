"""Ways to break a file: without knowing what is in it, by the numbers in it, and by its parts where these are known."""

import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

MOST = 100_000
"""Bytes that no broken file exceeds: what is slow or large then isn't so because of its size."""
NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 9, 31, 64, 127, 128, 255, 256, 1_000, 65_535, 65_536, 10**6),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
TEXTS = (
    *(
        "",
        "/",
        ".",
        "..",
        "a/../b",
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\x",
        "a\0b",
        "é",
        "\ud800",
        "\x1b[31m",
    ),
    *("model", "F32", "float32", "NaN", "-1", "__class__", "builtins", "function", "x" * 5_000, "a/" * 500),
)
Change = Callable[[bytearray, random.Random, Sequence[bytes]], bytes]


def mutated(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """The file with one to three things in it changed.

    Args:
        data: The file.
        chance: Where all that is drawn comes from.
        others: Files to take pieces from.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = _structured(data, chance, others) if chance.random() < 0.5 else _plain(data, chance, others)
    return data[:MOST]


def _structured(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A change that the format of the file allows for, so that it reaches what lies behind the outermost checks."""
    if data.startswith(b"PK"):
        return _zip(data, chance, others)
    if data[:1] in (b"{", b"["):
        return _json(data, chance)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data):
        return _safetensors(data, chance)
    return _plain(data, chance, others)


def _plain(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    return chance.choice(_PLAIN)(bytearray(data), chance, others) if data else b"\0" * chance.randint(1, 9)


def _stretch(data: bytearray, chance: random.Random, longest: int = 64) -> tuple[int, int]:
    """A piece of the file, short ones more often than long ones."""
    start = chance.randrange(len(data))
    length = min(longest, 1 << chance.randrange(12))
    return start, min(len(data), start + chance.randint(1, length))


def _flip(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _overwrite(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start, end = _stretch(data, chance, 16)
    data[start:end] = chance.choice((b"\0", b"\xff", b"\x80", chance.randbytes(1))) * (end - start)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def _remove(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start, end = _stretch(data, chance, 2_048)
    return bytes(data[:start] + data[end:])


def _repeat(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A piece again and again: deep nesting, long lists, names twice."""
    start, end = _stretch(data, chance)
    times = chance.choice((1, 2, 10, 1_000, 20_000))
    return bytes(data[:start] + bytes(data[start:end]) * min(times, MOST // (end - start)) + data[end:])


def _insert(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start = chance.randrange(len(data) + 1)
    return bytes(data[:start] + chance.randbytes(chance.randint(1, 16)) + data[start:])


def _splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """The beginning of this file, then the end of another; or a piece of another in its midst."""
    other = chance.choice(others) or b"\0"
    start, end = _stretch(bytearray(other), chance, 2_048)
    at = chance.randrange(len(data))
    if chance.random() < 0.3:
        return bytes(data[:at] + other[start:])
    return bytes(data[:at] + other[start:end] + data[at + (end - start) * chance.randrange(2) :])


def _field(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Another number where a length, a count or an offset seems to stand, in its own order of bytes or the other."""
    for _ in range(200):
        width, order = chance.choice((1, 2, 4, 4, 8, 8)), chance.choice(("little", "little", "big"))
        if width > len(data):
            continue
        at = chance.randrange(len(data) - width + 1)
        value = int.from_bytes(data[at : at + width], order)
        if 0 < value <= 2 * len(data):
            other = chance.random()
            new = _near(value, len(data), chance) if other < 0.9 else value
            written = order if other < 0.9 else {"little": "big", "big": "little"}[order]
            data[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, written)
            return bytes(data)
    return _flip(data, chance, others)


def _near(value: int, size: int, chance: random.Random) -> int:
    if chance.random() < 0.5:
        return chance.choice(NUMBERS)
    return chance.choice(
        (-value, value - 1, value + 1, value * 2, value // 2, size, size - value, size + 1, -1, 1 - size)
    )


def _varint(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Another number in the form that protocol buffers write, in place of a byte that may be a short one."""
    value, written = chance.choice(NUMBERS), bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    at = chance.randrange(len(data))
    return bytes(data[:at] + written + bytes([value]) + data[at + 1 :])


def _digits(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Another number where one is written in digits."""
    found = list(re.finditer(rb"\d{1,19}", bytes(data)))[:5_000]
    if not found:
        return _field(data, chance, others)
    spot = chance.choice(found)
    new = chance.choice(
        (*map(str, NUMBERS), "-1", "-0", "1e400", "NaN", "1.5", "9" * 5_000, '"', "null", "[]")
    )
    return bytes(data[: spot.start()] + new.encode() + data[spot.end() :])


def _name(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Other letters where a name seems to stand: none of UTF-8, or those of another name in the file."""
    found = list(re.finditer(rb"[A-Za-z_./]{3,40}", bytes(data)))[:5_000]
    if not found:
        return _flip(data, chance, others)
    spot, other = chance.choice(found), chance.choice(found)
    length = spot.end() - spot.start()
    new = chance.choice(
        (b"\xff" * length, b"\0" * length, (other.group() * length)[:length], b"../" * length)
    )
    return bytes(data[: spot.start()] + new[:length] + data[spot.end() :])


_PLAIN: tuple[Change, ...] = (
    *(_flip, _flip, _overwrite, _cut, _remove, _repeat, _insert, _splice),
    *(_field, _field, _field, _field, _varint, _digits, _name),
)


def _safetensors(data: bytes, chance: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + length], chance)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _json(data: bytes, chance: random.Random) -> bytes:
    """A document in which one value, name or pair is another; at times one that Python's writer wouldn't write."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _plain(data, chance, [data or b"\0"])
    places = list(_places(document))
    if not places:
        return b"[" * chance.choice((200, MOST))
    holder, key = chance.choice(places)
    way = chance.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.3:
        other_holder, other_key = chance.choice(places)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
    elif way < 0.4 and isinstance(holder, dict):
        holder[chance.choice(TEXTS)] = holder.pop(key)
    elif way < 0.5 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * chance.choice((1, 70, 2_000))
    elif way < 0.6:
        return _raw(document, holder, key, chance)
    else:
        holder[key] = _value(chance)
    return json.dumps(document).encode()


def _places(document: Any) -> Any:
    """Where a value stands: `(its list or object, its number or name)` for each, without recursion."""
    level = [document]
    while level:
        holder = level.pop()
        keys = (
            list(holder)
            if isinstance(holder, dict)
            else range(len(holder))
            if isinstance(holder, list)
            else ()
        )
        for key in keys:
            yield holder, key
            level.append(holder[key])


def _value(chance: random.Random) -> Any:
    return chance.choice(
        (
            *(chance.choice(NUMBERS), -chance.choice(NUMBERS), 1.5, float("nan"), float("inf"), 10**400),
            *(chance.choice(TEXTS), chance.choice(TEXTS), None, True, [], {}, [[]], {"a": {}}),
            *(
                [chance.choice(NUMBERS)] * chance.choice((1, 2, 70)),
                [None],
                {"class_name": "x", "config": {}},
            ),
        )
    )


def _raw(document: Any, holder: Any, key: Any, chance: random.Random) -> bytes:
    """The document with text in a value's place: nested without end, named twice, of digits without end."""
    mark = "\x01here\x01"
    holder[key] = mark
    deep = chance.choice((90, 101, 2_000, 40_000))
    raw = chance.choice(
        (
            *('{"a":1,"a":2}', "[" * deep + "]" * deep, '{"a":' * (deep // 2) + "1" + "}" * (deep // 2)),
            *(
                "9" * deep,
                "-" + "9" * deep,
                "1e999",
                "[" * deep,
                '"\\ud800"',
                '"\\u0000"',
                "1" + "0" * 300 + ".5",
            ),
        )
    )
    return json.dumps(document).replace(json.dumps(mark), raw).encode()


def _zip(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A zip that is whole, so that its members are read, but one of these is broken, doubled, misnamed, or a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()[:200]]
    except Exception:  # it was broken before
        return _plain(data, chance, others)
    if not members:
        return _plain(data, chance, others)
    way, at = chance.random(), chance.randrange(len(members))
    name, held = members[at]
    if way < 0.7:
        members[at] = name, mutated(held, chance, [content for _, content in members])
    elif way < 0.75:
        members.append((name, held))
    elif way < 0.8:
        members[at] = chance.choice(TEXTS[:-2]).replace("\ud800", "\xff") or "-", held
    elif way < 0.85:
        del members[at]
    elif way < 0.9:
        members[at] = name, b"\0" * chance.choice((10**6, 3 * 10**6))
    elif way < 0.95:
        members[at] = members[chance.randrange(len(members))][0], held
    else:
        members[at] = name, _links(held, chance)
    return _zipped(members, chance)


def _links(held: bytes, chance: random.Random) -> bytes:
    """A member that is an archive itself."""
    return _zipped([("inner", held), ("config.json", held)], chance)


def _zipped(members: Sequence[tuple[str, bytes]], chance: random.Random) -> bytes:
    made = io.BytesIO()
    packed = chance.random() < 0.3 or any(len(held) > MOST // 2 for _, held in members)
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", 8 if packed else 0) as archive:
        warnings.simplefilter("ignore")  # of a name twice, which is meant
        for name, held in members:
            info = zipfile.ZipInfo(name or "-", (1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o120777 if chance.random() < 0.01 else 0o100644) << 16
            archive.writestr(info, held, 8 if packed else 0)
    return made.getvalue()
