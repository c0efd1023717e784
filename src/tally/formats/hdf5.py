"""HDF5 files: the arrays in their groups, with shapes, types, places, and the attributes of both.

Nothing outside of the file is followed: arrays kept in other files, virtual arrays and external links are refused.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tally.formats import hdf5_blocks as at
from tally.formats.errors import BadFileError
from tally.formats.hdf5_blocks import SIGNATURE, Blocks, Message
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Span, Tensor
from tally.formats.window import Window, opened

_SLACK = 2**20
"""Bytes that any array may claim, however little of it is stored."""
_MOST_CHUNKS = 100_000
"""Chunks that are counted for what an array takes; where there are more, it is taken to be stored in full."""
_MOST_TEXTS = 1_000_000
_SOFT = 1
_EXTERNAL_LINK = 64
_FILTERS = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32015: "zstd",
}


@dataclass(frozen=True, slots=True)
class Type:
    """The type of an element.

    Args:
        name: As a ledger names it; `""` where it is no number, `"opaque"` where an attribute has to say.
        size: Its bytes.
        order: The order of these.
        text: `"fixed"` or `"loose"` for texts of one length, or of any.
    """

    name: str
    size: int
    order: Literal["<", ">"] = "<"
    text: Literal["", "fixed", "loose"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An array in the file.

    Args:
        path: Its place, such as `"layers/dense/vars/0"`.
        shape: Its dimensions.
        dtype: The type of an element; `""` where these are no numbers.
        nbytes: The bytes of its elements.
        stored: The bytes it takes.
        start: The first of these, where they lie in one piece.
        order: The order of bytes in an element.
        filters: What they went through.
        attributes: What is said of it.
        first: The path of the array whose other name this is.
        file: The file, where a model lies in several.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    stored: int
    start: int | None = None
    order: Literal["<", ">"] = "<"
    filters: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    first: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """All that is in a file, by path.

    Args:
        groups: The attributes of each group; `""` is the outermost.
        arrays: The arrays.
        notes: Sentences about what was passed over.
    """

    groups: dict[str, dict[str, Any]]
    arrays: dict[str, Stored]
    notes: tuple[str, ...]

    def under(self, path: str) -> Iterator[Stored]:
        """Yield the arrays in a group and in those inside it."""
        start = f"{path}/" if path else ""
        return (array for name, array in self.arrays.items() if name.startswith(start))


def matches(path: Path) -> bool:
    """Tell whether a file is HDF5, by its first bytes."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            return window.size > 8 and window.take(8) == SIGNATURE
    except BadFileError:
        return False


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays an HDF5 file holds; what wrote it is not asked, see `keras` for that.

    Args:
        path: The file.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or leads out of itself, or claims far more than it stores.
    """
    with opened(path) as window:
        tree = read_tree(window, limits)
    tensors = [
        as_tensor(one, one.path.replace("/vars/", "/"), path) for one in tree.arrays.values() if one.dtype
    ]
    skipped = [one.path for one in tree.arrays.values() if not one.dtype]
    notes = list(tree.notes)
    if skipped:
        notes.append(f"{len(skipped):,} of its arrays hold no numbers, such as {skipped[0][:80]!r}.")
    return Contents(
        format="HDF5",
        tensors=checked(tensors, path, limits),
        metadata=tree.groups.get("", {}),
        files=(path,),
        notes=tuple(notes),
    )


def as_tensor(array: Stored, name: str, path: Path) -> Tensor:
    """Give an array of a file under a name of the account."""
    span = None
    if array.start is not None:
        span = Span(file=array.file or path, start=array.start, nbytes=array.nbytes, order=array.order)
    packed = f"Stored packed ({', '.join(array.filters)})."
    return Tensor(
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        stored=array.stored,
        span=span,
        notes=(packed,) if array.filters else (),
    )


def read_tree(window: Window, limits: Limits = LIMITS) -> Tree:
    """Read the groups and arrays of an HDF5 file.

    Args:
        window: The file, or the part of another that is one.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or leads out of itself, or claims far more than it stores.
    """
    return _Reader(window, limits).run()


class _Reader:
    """One way through the groups of a file, each once."""

    def __init__(self, window: Window, limits: Limits) -> None:
        self.window, self.limits = window, limits
        self.blocks = Blocks(window, limits)
        self.groups: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, Stored] = {}
        self.seen: dict[int, str] = {}
        self.notes: list[str] = []
        self.soft = 0
        self.chunks = _MOST_CHUNKS
        self.uncounted = 0
        self.texts: dict[tuple[int, int], str] = {}
        self.collections: dict[int, dict[int, Window]] = {}

    def run(self) -> Tree:
        """Read all objects, each before those inside it."""
        waiting = [("", self.blocks.root, 0)]
        while waiting:
            path, address, depth = waiting.pop()
            if len(path) > self.limits.name or depth > self.limits.depth:
                raise self.window.bad(
                    f"has groups in groups that are too deep: {path[:200]!r}", at=self.window.start
                )
            if len(self.groups) + len(self.arrays) > 2 * self.limits.tensors:
                raise self.window.bad(
                    f"has more than {2 * self.limits.tensors:,} objects", at=self.window.start
                )
            inside = self.object(path, address)
            waiting += [
                (f"{path}/{name}" if path else name, child, depth + 1) for name, child in reversed(inside)
            ]
        if self.soft:
            self.notes.append(f"{self.soft:,} soft link{'s were' if self.soft > 1 else ' was'} not followed.")
        if self.uncounted:
            self.notes.append(
                f"What the chunks of {self.uncounted:,} arrays take was not counted: taken as not packed."
            )
        return Tree(self.groups, self.arrays, tuple(self.notes))

    def object(self, path: str, address: int) -> list[tuple[str, int]]:
        """Take a group or an array, and return what is in a group."""
        if address in self.seen:
            first = self.arrays.get(self.seen[address])
            if first is not None:
                self.arrays[path] = Stored(
                    path=path,
                    shape=first.shape,
                    dtype=first.dtype,
                    nbytes=first.nbytes,
                    stored=first.stored,
                    start=first.start,
                    order=first.order,
                    filters=first.filters,
                    first=first.path,
                )
            else:
                self.notes.append(f"{path[:80]!r} is another name of the group {self.seen[address][:80]!r}.")
            return []
        self.seen[address] = path
        messages: dict[int, Message] = {}
        attributes: dict[str, Any] = {}
        inside: list[tuple[str, int]] = []
        for message in self.blocks.messages(address):
            if message.kind == at.ATTRIBUTE:
                self.attribute(message.body, message.flags, attributes)
            elif message.kind == at.LINK:
                self.link(message.body, inside)
            else:
                messages.setdefault(message.kind, message)
        self.more_attributes(messages.get(at.ATTRIBUTE_INFO), attributes)
        if at.LAYOUT in messages or at.TYPE in messages:
            if at.LAYOUT in messages:
                self.arrays[path] = self.array(path, messages, attributes)
            return []
        if at.SYMBOLS in messages:
            for name, child in self.blocks.symbols(messages[at.SYMBOLS].body):
                self.found(name, child, inside)
        self.more_links(messages.get(at.LINK_INFO), inside)
        names = [name for name, _ in inside]
        if len(set(names)) != len(names):
            raise self.window.bad(f"the group {path[:80]!r} names something twice", at=self.window.start)
        self.groups[path] = attributes
        return inside

    # -- links -----------------------------------------------------------------------------------------------------
    def found(self, name: str, address: int | None, inside: list[tuple[str, int]]) -> None:
        """Take one link of a group."""
        if address is None:
            self.soft += 1
        elif not name or "/" in name:
            raise self.window.bad(f"has something of the name {name[:80]!r}", at=self.window.start)
        else:
            inside.append((name, address))

    def link(self, body: Window, inside: list[tuple[str, int]]) -> None:
        """Read a link of the newer kind."""
        version, flags = struct.unpack("<BB", body.take(2, "a link"))
        if version != 1:
            raise body.bad(f"has a link of version {version}")
        kind = body.number("B") if flags & 8 else 0
        body.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0), "a link")
        length = self.blocks.whole(body, 1 << (flags & 3))
        name = self.blocks.decoded(body.take(length, "a name"), body)
        if kind == _EXTERNAL_LINK:
            raise body.bad(f"{name[:80]!r} is a link to another file", do="don't trust this file")
        if kind not in (0, _SOFT):
            raise body.bad(f"{name[:80]!r} is a link of kind {kind}")
        self.found(name, None if kind == _SOFT else self.blocks.address(body), inside)

    def more_links(self, info: Message | None, inside: list[tuple[str, int]]) -> None:
        """Read the links of a group with many."""
        if info is None:
            return
        body = info.body
        _, flags = struct.unpack("<BB", body.take(2, "the links"))
        body.skip(8 if flags & 1 else 0, "the links")
        heap, tree = self.blocks.address(body), self.blocks.address(body)
        if heap is not None and tree is not None:
            for one in self.blocks.dense(heap, tree, 4):
                self.link(one, inside)

    # -- attributes ------------------------------------------------------------------------------------------------
    def more_attributes(self, info: Message | None, found: dict[str, Any]) -> None:
        """Read the attributes of an object with many, or with large ones."""
        if info is None:
            return
        body = info.body
        _, flags = struct.unpack("<BB", body.take(2, "the attributes"))
        body.skip(2 if flags & 1 else 0, "the attributes")
        heap, tree = self.blocks.address(body), self.blocks.address(body)
        if heap is not None and tree is not None:
            for one in self.blocks.dense(heap, tree, 0):
                self.attribute(one, 0, found)

    def attribute(self, body: Window, flags: int, found: dict[str, Any]) -> None:
        """Read one attribute; what is neither a text nor a number stands as None."""
        if flags & at.SHARED:
            raise body.bad("has an attribute that lies elsewhere")
        version, marks = struct.unpack("<BB", body.take(2, "an attribute"))
        if not 1 <= version <= 3:
            raise body.bad(f"has an attribute of version {version}")
        sizes = struct.unpack("<3H", body.take(6, "an attribute"))
        body.skip(1 if version == 3 else 0, "an attribute")
        parts: list[Window] = []
        for size in sizes:
            parts.append(body.part(size, "", "an attribute"))
            if version == 1:
                body.skip(min(-size % 8, body.left))
        name = self.blocks.decoded(parts[0].take(sizes[0]).rstrip(b"\0"), parts[0])
        if marks & 3 or not name:
            found[name] = None  # its type has a name of its own; no framework writes that
            return
        found[name] = self.value(body, self.kind(parts[1]), self.space(parts[2]))

    def value(self, body: Window, kind: Type, shape: tuple[int, ...] | None) -> Any:
        """The value of an attribute: a text, a number, or a list of these."""
        count = math.prod(shape or ())
        if shape is None or len(shape) > 1 or count > _MOST_TEXTS or count * kind.size > body.left:
            return None
        if kind.text == "fixed":
            made: list[Any] = [self.fixed(body.take(kind.size), body) for _ in range(count)]
        elif kind.text == "loose":
            made = [self.loose(body) for _ in range(count)]
        elif kind.name in _CODES and not shape:
            return struct.unpack(kind.order + _CODES[kind.name], body.take(kind.size))[0]
        else:
            return None if count else []
        return made if shape else made[0]

    def fixed(self, raw: bytes, body: Window) -> str:
        """A text in a field of fixed length, filled up with zeros."""
        return self.blocks.decoded(raw.rstrip(b"\0"), body)

    def loose(self, body: Window) -> str:
        """A text that lies in a heap of texts; each is read once, however many refer to it."""
        length = body.number("<L")
        place, index = self.blocks.address(body), body.number("<L")
        if place is None or not place or not length:
            return ""
        if (place, index) not in self.texts:
            block = self.collection(place).get(index)
            if block is None or block.left < length:
                raise body.bad("refers to a text that isn't there")
            self.texts[place, index] = self.fixed(block.take(length), block)
        return self.texts[place, index]

    def collection(self, place: int) -> dict[int, Window]:
        """The objects in a heap of texts."""
        if place not in self.collections:
            blocks, found = self.blocks, dict[int, Window]()
            head = blocks.signed(place, b"GCOL", 8 + blocks.length, "a heap of texts")
            head.skip(4)
            size = blocks.count(head)
            block = blocks.at(place, size, "a heap of texts")
            block.skip(8 + blocks.length, "a heap of texts")
            while block.left >= 8 + blocks.length:
                index = block.number("<H")
                block.skip(6)
                length = blocks.count(block)
                if index == 0:
                    break
                found[index] = block.part(length, "", "a text")
                block.skip(min(-length % 8, block.left))
            self.collections[place] = found
        return self.collections[place]

    # -- arrays ----------------------------------------------------------------------------------------------------
    def array(self, path: str, messages: dict[int, Message], attributes: dict[str, Any]) -> Stored:
        """Describe an array, after what it claims is found to be there."""
        where = f"array {path[:200]!r}"
        if at.EXTERNAL in messages:
            raise self.bad(where, "is kept in another file")
        missing = {at.SPACE, at.TYPE} - messages.keys()
        if missing:
            raise self.bad(where, "has no shape or no type")
        kind, shape = self.element(messages[at.TYPE], attributes), self.space(messages[at.SPACE].body)
        if shape is None:
            shape, kind = (0,), Type("", 1)
        if len(shape) > self.limits.rank:
            raise self.bad(where, f"has {len(shape):,} dimensions, more than {self.limits.rank}")
        if math.prod(shape) > self.limits.elements:
            raise self.bad(where, f"has the shape {shape}, more than {self.limits.elements:,} elements")
        nbytes = math.prod(shape) * kind.size
        filters = self.filters(messages[at.FILTERS].body) if at.FILTERS in messages else ()
        stored, start = self.layout(messages[at.LAYOUT].body, nbytes, bool(filters), where)
        if start is not None and stored < nbytes:
            raise self.bad(where, f"claims {nbytes:,} bytes in a place of {stored:,}")
        if nbytes > stored * self.limits.ratio + _SLACK:
            raise self.bad(
                where, f"claims {nbytes:,} bytes, but stores {stored:,}: it is made to fill the memory"
            )
        return Stored(
            path=path,
            shape=shape,
            dtype=kind.name,
            nbytes=nbytes,
            stored=min(stored, nbytes) if start is not None else stored,
            start=start,
            order=kind.order,
            filters=filters,
            attributes=attributes,
        )

    def bad(self, place: str, reason: str) -> BadFileError:
        """The error that names an array."""
        return BadFileError(self.window.file, reason, place=place, do="don't trust this file")

    def element(self, message: Message, attributes: dict[str, Any]) -> Type:
        """The type of an array's elements; that of bytes without a type may be in an attribute, as Keras writes it."""
        if message.flags & at.SHARED:
            return Type("", 1)
        kind = self.kind(message.body)
        if kind.name != "opaque":
            return kind
        named = attributes.get("dtype")
        fits = isinstance(named, str) and _NAMED.get(named) == kind.size
        return Type(str(named) if fits else "", kind.size)

    def kind(self, body: Window) -> Type:
        """Read a type."""
        head, bits, _, size = struct.unpack("<BBHL", body.take(8, "a type"))
        cls, order = head & 15, ">" if bits & 1 else "<"
        if cls == 0 and size in (1, 2, 4, 8):
            return Type(f"{'' if bits & 8 else 'u'}int{size * 8}", size, order)
        if cls == 1 and size in (1, 2, 4, 8) and not bits & 64:
            exponent = body.take(6, "a type")[5]
            return Type("bfloat16" if (size, exponent) == (2, 8) else f"float{size * 8}", size, order)
        if cls == 3:
            return Type("", size, text="fixed")
        if cls == 5:
            return Type("opaque", size)
        if cls == 6 and size in (8, 16) and (bits, body.take(min(body.left, 2))) == (2, b"r\0"):
            return Type(f"complex{size * 8}", size)
        if cls == 8 and size == 1:
            return Type("bool", 1)
        if cls == 9 and bits & 15 == 1:
            return Type("", size, text="loose" if size == 8 + self.blocks.offset else "")
        return Type("", size)

    def space(self, body: Window) -> tuple[int, ...] | None:
        """Read a shape; None where there is not one element, not even of none."""
        version, rank, _ = struct.unpack("<3B", body.take(3, "a shape"))
        if version == 1:
            body.skip(5, "a shape")
        elif version == 2:
            if body.number("B") == 2:
                return None
        else:
            raise body.bad(f"has a shape of version {version}")
        if rank > self.limits.rank:
            raise body.bad(f"has a shape of {rank} dimensions")
        return tuple(self.blocks.count(body) for _ in range(rank))

    def filters(self, body: Window) -> tuple[str, ...]:
        """Read what the bytes of an array went through."""
        version, count = struct.unpack("<BB", body.take(2, "the filters"))
        body.skip(6 if version == 1 else 0, "the filters")
        names: list[str] = []
        for _ in range(count):
            number = body.number("<H")
            length = body.number("<H") if version == 1 or number >= 256 else 0
            _, values = struct.unpack("<HH", body.take(4, "the filters"))
            padded = length + -length % 8 if version == 1 else length
            odd = 4 if version == 1 and values % 2 else 0
            body.skip(min(padded + 4 * values + odd, body.left))
            names.append(_FILTERS.get(number, f"filter {number}"))
        return tuple(names)

    def layout(self, body: Window, nbytes: int, packed: bool, where: str) -> tuple[int, int | None]:
        """How many bytes an array takes, and the first one, where they lie in one piece as they are."""
        version, cls = struct.unpack("<BB", body.take(2, "a layout"))
        if version not in (3, 4, 5):
            raise self.bad(where, f"has a layout of version {version}")
        if cls == 0:
            size = body.number("<H")
            begin = body.part(size, "", "an array").start
            return size, begin
        if cls == 1:
            place, size = self.blocks.address(body), self.blocks.count(body)
            if place is None:
                return 0, None
            block = self.place(place, size, where)
            return size, block
        if cls == 3:
            raise self.bad(where, "is put together from other files")
        if cls != 2:
            raise self.bad(where, f"has a layout of kind {cls}")
        if version == 3:
            rank = body.number("B")
            place = self.blocks.address(body)
            return (self.chunked(place, rank), None) if place is not None else (0, None)
        return self.newer_chunks(body, nbytes), None

    def place(self, address: int, size: int, where: str) -> int:
        """The first byte of a piece of the file, which has to lie inside."""
        start = self.blocks.base + address
        if start + size > self.window.size:
            raise self.bad(
                where, f"lies at byte {start:,} with {size:,} bytes, outside of {self.window.size:,}"
            )
        return self.window.start + start

    def chunked(self, tree: int, rank: int) -> int:
        """The bytes of all chunks of an array."""
        total = 0
        for key, _ in self.blocks.branches(tree, 1, 8 + 8 * rank):
            total += struct.unpack("<L", key[:4])[0]
            self.chunks -= 1
            if self.chunks < 0:
                self.uncounted += 1
                return self.blocks.size
        return min(total, self.blocks.size)

    def newer_chunks(self, body: Window, nbytes: int) -> int:
        """The same for the newer indexes; of all but the simplest, no more than the file has."""
        flags, rank, width = struct.unpack("<3B", body.take(3, "a layout"))
        sides = [self.blocks.whole(body, width) for _ in range(min(rank, 65))]
        if body.number("B") == 1:
            size = self.blocks.count(body) if flags & 2 else math.prod(sides)
            return min(size, self.blocks.size)
        self.uncounted += 1
        return min(nbytes, self.blocks.size)


_CODES = {
    **{"int8": "b", "int16": "h", "int32": "i", "int64": "q"},
    **{"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q"},
    **{"float16": "e", "float32": "f", "float64": "d", "bool": "?"},
}
_NAMED = {
    "bfloat16": 2,
    **{
        f"float8_{kind}": 1
        for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m4", "e4m3")
    },
    **{"int4": 1, "uint4": 1, "int2": 1, "uint2": 1, "float8_e8m0fnu": 1},
}
"""Types that Keras stores as bytes and names in an attribute, with the bytes of an element."""
