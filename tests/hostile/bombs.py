"""Zips that are built by hand, because no library writes them: what overlaps, swells or contradicts itself."""

import struct
import zlib


def local(name: bytes, data: bytes, method: int, size: int, checksum: int, flags: int = 0) -> bytes:
    """A member as it stands in front of its bytes."""
    numbers = struct.pack("<3HL3L2H", 20, flags, method, 0, checksum, len(data), size, len(name), 0)
    return b"PK\x03\x04" + numbers + name + data


def listed(
    name: bytes, stored: int, method: int, size: int, checksum: int, place: int, flags: int = 0
) -> bytes:
    """The same member as the directory has it."""
    numbers = struct.pack("<4HL3L", 20, 20, flags, method, 0, checksum, stored, size)
    return b"PK\x01\x02" + numbers + struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, place) + name


def end(count: int, size: int, place: int) -> bytes:
    """What ends the file."""
    return b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, count, count, size, place, 0)


def overlapping(count: int, name: bytes = b"a%d") -> bytes:
    """Every name of the directory leads to the same member, as many times as one likes."""
    data = zlib.compress(bytes(100_000))[2:-4]
    checksum = zlib.crc32(bytes(100_000))
    names = [b"a" + str(n).encode() for n in range(count)]
    body = local(names[0], data, 8, 100_000, checksum)
    directory = b"".join(listed(one, len(data), 8, 100_000, checksum, 0) for one in names)
    return body + directory + end(count, len(directory), len(body))


def quoted(count: int) -> bytes:
    """Each member's packed bytes quote the next member's header as data and go on into it, so all share one kernel."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(100_000)) + kernel.flush()
    data, size, checksum_of = packed, 100_000, bytes(100_000)
    bodies = local(b"m%03d" % (count - 1), data, 8, size, zlib.crc32(checksum_of))
    members = [(b"m%03d" % (count - 1), len(data), size, zlib.crc32(checksum_of))]
    for number in reversed(range(count - 1)):
        header = bodies[: 30 + 4]
        quote = b"\0" + struct.pack(
            "<2H", len(header), len(header) ^ 0xFFFF
        )  # a block that is stored as it is
        data, size, checksum_of = quote + header + data, size + len(header), header + checksum_of
        name = b"m%03d" % number
        members.append((name, len(data), size, zlib.crc32(checksum_of)))
        bodies = local(name, quote, 8, size, zlib.crc32(checksum_of))[: 30 + 4] + quote + bodies
    members.reverse()
    places = [number * (34 + 5) for number in range(count)]
    # The header says how many bytes are packed: all that follow.
    whole = bytearray(bodies)
    for place, (_, stored, _, _) in zip(places, members, strict=True):
        whole[place + 18 : place + 22] = struct.pack("<L", stored)
    directory = b"".join(
        listed(name, stored, 8, size, checksum, place)
        for place, (name, stored, size, checksum) in zip(places, members, strict=True)
    )
    return bytes(whole) + directory + end(count, len(directory), len(whole))
