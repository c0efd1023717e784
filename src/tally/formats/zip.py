"""The directory of a zip file, believed only where both of its copies agree; for every format that is a zip inside.

A zip names each member twice: in a directory at its end and in front of the member's bytes. Files made to fool a reader
say different things there, let members overlap, or name one twice. Here all of that is refused before a member is read.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window

MAGIC = b"PK\x03\x04"
"""How a zip begins that has at least one member."""

_DIRECTORY, _END, _END64, _LOCATOR = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_FULL16, _FULL32 = 2**16 - 1, 2**32 - 1
_ENCRYPTED, _SIZES_FOLLOW, _STRONG, _UTF8, _MASKED = 1, 1 << 3, 1 << 6, 1 << 11, 1 << 13
_STORED, DEFLATED = 0, 8
_UNIX, _DARWIN = 3, 19
_PIECE = 2**20
_SLACK = 2**20
"""Bytes that any member may unpack to, however little it is stored in."""
_DENSEST = 200
"""How many times its stored size a member may have that is held in memory; text and pickles stay far below it, while
zeros of an array, which nobody reads here, come near the 1,032 of the method."""
_BOMB = "don't trust this file; it looks made to fill the memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in a zip.

    Args:
        name: Its name.
        start: The first of its stored bytes, counted from the start of the zip's window.
        stored: How many are stored.
        size: How many they unpack to.
        method: How they are packed: 0 not at all, 8 deflated.
        checksum: The CRC-32 of what they unpack to.
    """

    name: str
    start: int
    stored: int
    size: int
    method: int
    checksum: int

    @property
    def packed(self) -> bool:
        """Whether the bytes have to be unpacked."""
        return self.method != _STORED


class Archive:
    """The members of a zip; made by `directory`.

    Example:
        >>> import io, zipfile
        >>> file = io.BytesIO()
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("a.txt", "hello")
        >>> found = directory(Window(file, "x.zip", 0, file.tell()))
        >>> found.names, found.read("a.txt"), found.window("a.txt").size
        (('a.txt',), b'hello', 5)
    """

    def __init__(self, window: Window, members: Mapping[str, Member], limits: Limits) -> None:
        self._window, self._members, self._limits = window, members, limits

    @property
    def file(self) -> str | os.PathLike[str]:
        """The file that it is."""
        return self._window.file

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all members, folders included, in the directory's order."""
        return tuple(self._members)

    def __contains__(self, name: object) -> bool:
        """Whether there is a member of this name."""
        return name in self._members

    def __getitem__(self, name: str) -> Member:
        """Return a member.

        Raises:
            BadFileError: There is none of this name.
        """
        if name not in self._members:
            raise BadFileError(self._window.file, f"has no member {name!r}")
        return self._members[name]

    def window(self, name: str) -> Window:
        """Give a window on the bytes of a member that is stored as it is.

        Raises:
            BadFileError: There is no such member, or it is packed.
        """
        member = self[name]
        if member.packed:
            raise BadFileError(
                self._window.file,
                "is packed, so its bytes have no place in the file",
                place=f"member {name!r}",
            )
        return self._stored(member)

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return all bytes of a member, unpacked and compared with its checksum.

        Args:
            name: The member.
            most: How many bytes it may have; the limit on headers unless given.

        Raises:
            BadFileError: There is no such member, or it is too large, or its bytes aren't what the directory says.
        """
        member = self[name]
        most = self._limits.header if most is None else most
        place = f"member {name!r}"
        if member.size > most:
            reason = f"claims {member.size:,} bytes, more than {most:,}"
            raise BadFileError(self._window.file, reason, place=place)
        if member.size > member.stored * _DENSEST + _SLACK:
            reason = f"claims to unpack from {member.stored:,} to {member.size:,} bytes"
            raise BadFileError(self._window.file, reason, place=place, do=_BOMB)
        found = self._unpacked(member, member.size + 1)
        self._compare(member, len(found), zlib.crc32(found))
        return found

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a member piece by piece, for one that is too large to be held.

        Raises:
            BadFileError: There is no such member, or its bytes aren't what the directory says; that is known only
                after the last piece.
        """
        member = self[name]
        size, checksum = 0, 0
        for piece in self._pieces(member, member.size + 1):
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
            yield piece
        self._compare(member, size, checksum)

    def beginning(self, name: str, count: int) -> bytes:
        """Return the first bytes of a member, at most so many, unpacked; no more of it is read.

        Raises:
            BadFileError: There is no such member, or it can't be unpacked.
        """
        return self._unpacked(self[name], count)

    def _stored(self, member: Member) -> Window:
        self._window.go_to(member.start)
        return self._window.part(member.stored, f"member {member.name!r}")

    def _compare(self, member: Member, size: int, checksum: int) -> None:
        place = f"member {member.name!r}"
        if size != member.size:
            reason = f"unpacks to {'more' if size > member.size else 'fewer'} than {member.size:,} bytes"
            raise BadFileError(self._window.file, reason, place=place)
        if checksum != member.checksum:
            raise BadFileError(self._window.file, "isn't what its checksum says", place=place)

    def _unpacked(self, member: Member, count: int) -> bytes:
        return b"".join(self._pieces(member, count))

    def _pieces(self, member: Member, count: int) -> Iterator[bytes]:
        """The first bytes of a member; a mebibyte at most at a time."""
        window = self._stored(member)
        if not member.packed:
            left = min(count, window.size)
            while left:
                yield window.take(min(left, _PIECE))
                left -= min(left, _PIECE)
            return
        if member.method != DEFLATED:
            raise window.bad(f"is packed by method {member.method}, which isn't read here", do="pack it anew")
        unpack, left = zlib.decompressobj(-15), count
        while left and window.left and not unpack.eof:
            packed, is_more = window.take(min(window.left, 2**16)), True
            try:
                while is_more and left and not unpack.eof:
                    piece = unpack.decompress(packed, most := min(left, _PIECE))
                    left -= len(piece)
                    packed = unpack.unconsumed_tail
                    # The last bytes taken in may stand for many more.
                    is_more = bool(packed) or len(piece) == most
                    yield piece
            except zlib.error as error:
                raise window.bad(f"can't be unpacked: {error}") from None


def directory(window: Window, limits: Limits = LIMITS, *, labels: bool = False) -> Archive:
    """Read the directory of a zip.

    Args:
        window: The whole zip.
        limits: What it may claim.
        labels: Names of members only label them, as those of arrays do; so they needn't be paths within a folder.

    Raises:
        BadFileError: It is broken, or says two things at once, or has members that are encrypted, links, or devices,
            or lie outside of a folder it would be unpacked into.
    """
    at, count, size = _end(window)
    if size > limits.header:
        raise window.bad(
            f"a directory of {size:,} bytes is more than {limits.header:,}", at=window.start + at
        )
    if count > limits.tensors:
        raise window.bad(f"names {count:,} members, more than {limits.tensors:,}", at=window.start + at)
    window.go_to(at, "the directory")
    listing = window.part(size, "", "the directory")
    members: dict[str, Member] = {}
    spans: list[tuple[int, int, str]] = []
    for _ in range(count):
        member, local, flags = _listed(listing, labels)
        if member.name in members:
            raise listing.bad(f"the directory names {member.name!r} twice")
        members[member.name] = _placed(window, member, local, flags, at, limits)
        spans.append((local, members[member.name].start + member.stored, member.name))
    if listing.left:
        raise listing.bad(f"the directory has {listing.left:,} bytes more than its {count:,} members take")
    _apart(window, spans)
    return Archive(window, members, limits)


def _end(window: Window) -> tuple[int, int, int]:
    """Where the directory begins, how many members it names, and its bytes: from the record that ends the file."""
    reach = min(window.size, 22 + _FULL16)
    window.go_to(window.size - reach)
    tail = window.take(reach)
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < 22:
        raise window.bad("is no zip, or its end is missing: there is no directory", do="fetch the file again")
    place = window.size - reach + found
    disk, first, here, count, size, at, comment = struct.unpack("<4H2LH", tail[found + 4 : found + 22])
    if found + 22 + comment != len(tail):
        raise window.bad(
            "the end of the directory isn't the end of the file", at=window.start + place, do="fetch it again"
        )
    if place >= 20:
        window.go_to(place - 20)
        if window.take(4) == _LOCATOR:
            place, (disk, first, here, count, size, at) = _end64(
                window, place, (disk, first, here, count, size, at)
            )
    if disk or first or here != count:
        raise window.bad("is one of several parts of a zip", at=window.start + place)
    if at + size != place:
        raise window.bad(
            f"the directory is said to lie at byte {at:,} with {size:,} bytes, but ends at byte {place:,}",
            at=window.start + place,
        )
    if count > size // 46:
        raise window.bad(f"names {count:,} members in {size:,} bytes", at=window.start + place)
    return at, count, size


def _end64(
    window: Window, end: int, short: tuple[int, ...]
) -> tuple[int, tuple[int, int, int, int, int, int]]:
    """The same record with 64 bits for each number, which large zips have before the short one."""
    disk, place, disks = struct.unpack("<LQL", window.take(16))
    if disk or disks > 1 or place + 56 + 20 > end:
        raise window.bad("the long end of the directory isn't in this file", at=window.start + end - 20)
    window.go_to(place)
    if window.take(4) != _END64 or window.number("<Q") != end - 20 - place - 12:
        raise window.bad("has no long end of the directory here", at=window.start + place)
    window.skip(4)
    long = struct.unpack("<2L4Q", window.take(40))
    for one, other in zip(short, long, strict=True):
        if one not in (other, _FULL16, _FULL32):
            raise window.bad("the two ends of the directory disagree", at=window.start + place)
    return place, long


def _listed(listing: Window, labels: bool) -> tuple[Member, int, int]:
    """The next member of the directory, with the place of its other copy and its flags."""
    at = listing.at
    if listing.take(4, "a member of the directory") != _DIRECTORY:
        raise listing.bad("the directory names no member here", at=at)
    (made, _, flags, method, _, checksum, stored, size, named, extra, comment, disk, _, mode, local) = (
        struct.unpack("<4HL3L5HLL", listing.take(42, "a member of the directory"))
    )
    name = _name(listing, named, flags, labels)
    stored, size, local, disk = _long(listing, extra, (size, stored, local, disk))
    listing.skip(comment, "a comment")
    if disk:
        raise listing.bad(f"{name!r} lies in another part of the zip", at=at)
    if flags & (_ENCRYPTED | _STRONG | _MASKED):
        raise listing.bad(f"{name!r} is encrypted", at=at, do="decrypt it first")
    kind = (mode >> 16) & 0o170000
    if made >> 8 in (_UNIX, _DARWIN) and kind not in (0, 0o100000, 0o040000):
        raise listing.bad(f"{name!r} is a {'link' if kind == 0o120000 else 'device'}, no file", at=at)
    member = Member(name=name, start=0, stored=stored, size=size, method=method, checksum=checksum)
    return member, local, flags


def _name(window: Window, length: int, flags: int, labels: bool) -> str:
    at = window.at
    name = window.text(length, "a member's name", "utf-8" if flags & _UTF8 else "cp437")
    if not name or "\0" in name:
        raise window.bad("a member has no name, or one with a zero byte", at=at)
    outside = name.startswith("/") or "\\" in name or ".." in name.split("/") or re.match("[A-Za-z]:/", name)
    if outside and not labels:
        raise window.bad(f"{name!r} leads out of the folder it would be unpacked into", at=at)
    return name


def _long(window: Window, length: int, short: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """`(stored, size, place, disk)` of a member; those that don't fit in 32 bits stand in an extra field."""
    fulls = (_FULL32, _FULL32, _FULL32, _FULL16)
    longs = dict(_extras(window.part(length, "", "the extra fields"))).get(1)
    found = list(short)
    for place, (value, full) in enumerate(zip(short, fulls, strict=True)):
        if value == full and longs is not None:
            found[place] = longs.number("<L" if full == _FULL16 else "<Q", "a member's size")
    size, stored, local, disk = found
    return stored, size, local, disk


def _extras(window: Window) -> Iterator[tuple[int, Window]]:
    while window.left >= 4:
        kind, length = struct.unpack("<2H", window.take(4))
        yield kind, window.part(length, "", "an extra field")


def _placed(window: Window, member: Member, local: int, flags: int, end: int, limits: Limits) -> Member:
    """A member with the place of its bytes, after the copy in front of them says the same."""
    name = member.name
    if local + 30 > end:
        raise window.bad(
            f"{name!r} is said to begin at byte {local:,}, behind the members", at=window.start + end
        )
    window.go_to(local)
    if window.take(4) != MAGIC:
        raise window.bad(f"{name!r} doesn't begin here", at=window.start + local)
    _, here, method, _, checksum, stored, size, named, extra = struct.unpack("<3HL3L2H", window.take(26))
    if (
        _name(window, named, here, True) != name
        or method != member.method
        or (here ^ flags) & (_ENCRYPTED | _STRONG)
    ):
        raise window.bad(f"{name!r} is something else than the directory says", at=window.start + local)
    stored, size, _, _ = _long(window, extra, (size, stored, 0, 0))
    told = (member.stored, member.size, member.checksum)
    if (stored, size, checksum) != told and not (here & _SIZES_FOLLOW and not (stored or size or checksum)):
        raise window.bad(f"{name!r} has other sizes here than in the directory", at=window.start + local)
    start = window.at - window.start
    if start + member.stored > end:
        raise window.bad(f"{name!r} claims {member.stored:,} bytes, which reach into the directory")
    if not member.packed and member.size != member.stored:
        raise window.bad(f"{name!r} is stored as it is, but with another size")
    if member.size > member.stored * limits.ratio + _SLACK:
        raise window.bad(
            f"{name!r} claims to unpack from {member.stored:,} to {member.size:,} bytes",
            do=_BOMB,
        )
    return Member(
        name=name,
        start=start,
        stored=member.stored,
        size=member.size,
        method=method,
        checksum=member.checksum,
    )


def _apart(window: Window, spans: list[tuple[int, int, str]]) -> None:
    """Refuse members of which one lies in another."""
    spans.sort()
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            raise window.bad(f"{one!r} and {other!r} overlap", at=window.start + start)
