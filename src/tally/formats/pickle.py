"""A pickle read as data: what it would import becomes a name, what it would call a record; nothing runs.

A pickle is a program for a small machine with a stack. This is that machine with its arms tied: it builds Python's own
numbers, texts, tuples and lists, and for everything else one of the inert records below. A function in a pickle is its
name, an object is the call that would have made it. So a file that was made to take over who unpickles it is as safe to
read here as any other, and shows what it wanted.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tally.formats.limits import LIMITS, Limits
from tally.formats.window import Window

_STEPS_A_TENSOR = 5
"""Steps that a pickle may have for each array that a file may name: 10 million with the usual limits."""
_DIGITS = 1_000
"""Digits, and bytes, of one number; converting is not linear in them."""
_BLOCK = 2**16
_NUMBER = re.compile(rb"K.|M..|J....", re.DOTALL)
_NUMBERS = re.compile(rb"(?:K.|M..|J....)+", re.DOTALL)
"""Whole numbers of one, two and four bytes, each behind the letter of its step."""


@dataclass(frozen=True, slots=True)
class Name:
    """What would have been imported.

    Example:
        >>> str(Name("os", "system"))
        'os.system'
    """

    module: str
    attribute: str

    def __str__(self) -> str:
        """The name as a program would write it."""
        return f"{self.module}.{self.attribute}"


class Dict:
    """A dictionary as its pairs, in order; keys may be anything, and none is ever hashed but texts.

    Hashing what a file holds could take for ever (numbers chosen to collide) or the whole stack (tuples in tuples).

    Example:
        >>> Dict([("lr", 0.1), (("a", 1), 2)]).get("lr")
        0.1
    """

    __slots__ = ("_by_text", "pairs")

    def __init__(self, pairs: list[tuple[Any, Any]] | None = None) -> None:
        self.pairs: list[tuple[Any, Any]] = [] if pairs is None else pairs
        self._by_text: tuple[int, dict[str, Any]] = (-1, {})

    def get(self, key: str, default: Any = None) -> Any:
        """Return the last value given under a text."""
        if self._by_text[0] != len(self.pairs):
            self._by_text = (
                len(self.pairs),
                {name: value for name, value in self.pairs if isinstance(name, str)},
            )
        return self._by_text[1].get(key, default)

    def __contains__(self, key: str) -> bool:
        """Whether there is a value under a text."""
        return self.get(key, self) is not self


class Set(list[Any]):
    """A set as its items, in order; they needn't differ."""

    __slots__ = ()


class Call:
    """An object, as the call that would have made it and what would have been done to it.

    Args:
        function: What would have been called: nearly always a `Name`.
        arguments: With what.
    """

    __slots__ = ("arguments", "entries", "function", "items", "state")

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function: Any = function
        self.arguments = arguments
        self.state: Any = None
        """What its attributes would have been set from."""
        self.items: list[Any] = []
        """What would have been appended to it."""
        self.entries = Dict()
        """What would have been stored in it under keys."""

    @property
    def name(self) -> str:
        """The full name of the function or class, `""` where it is none."""
        return str(self.function) if isinstance(self.function, Name) else ""

    @property
    def first(self) -> Any:
        """The first argument, None where there is none."""
        return self.arguments[0] if self.arguments else None


@dataclass(frozen=True, slots=True)
class Persistent:
    """Something that lies outside of the pickle, known by what the pickle calls it."""

    id: Any


def items_of(value: Any) -> tuple[Any, ...] | None:
    """Return what a list or a tuple holds, None for anything else.

    Example:
        >>> items_of([1, 2]), items_of("12")
        ((1, 2), None)
    """
    return tuple(cast("list[Any]", value)) if isinstance(value, list | tuple) else None


def told(value: Any) -> str:
    """Say what a value is in a few words; what contains others is not written out, for it may have no end.

    Example:
        >>> told(Name("os", "system")), told([[]]), told(7)
        ('os.system', 'a list', '7')
    """
    if isinstance(value, str | Name):
        return str(value)[:80]
    return str(value)[:80] if isinstance(value, int | float) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle holds.

    Args:
        value: The object.
        names: All that would have been imported, in order of appearance.
        end: The byte behind it, counted from the start of the window it was read from.
    """

    value: Any
    names: tuple[Name, ...]
    end: int


def read_pickle(
    window: Window, limits: Limits = LIMITS, persistent: Callable[[Any], Any] = Persistent
) -> Pickled:
    """Read the pickle that begins at the window's place, and go on behind it.

    Args:
        window: Where it lies.
        limits: How many bytes and steps it may have.
        persistent: What stands for an object that the pickle only gives the identity of.

    Raises:
        BadFileError: It is broken, or longer than the limits, or does what no pickle does.

    Example:
        >>> import io, pickle
        >>> data = pickle.dumps({"rate": 0.5, "run": print})
        >>> found = read_pickle(Window(io.BytesIO(data), "x.pkl", 0, len(data)))
        >>> found.value.get("rate"), [str(name) for name in found.names]
        (0.5, ['builtins.print'])
    """
    machine = _Machine(_Source(window, limits.header), persistent, limits.tensors * _STEPS_A_TENSOR)
    value = machine.run()
    window.at = machine.source.place
    return Pickled(value, tuple(machine.names), window.at - window.start)


class _Source:
    """Bytes of a window, fetched in blocks: a pickle is read byte by byte, and a file is slow at that."""

    def __init__(self, window: Window, most: int) -> None:
        self.window, self.left = window, most
        self._block, self._at = b"", 0

    @property
    def place(self) -> int:
        """The byte of the file that comes next."""
        return self.window.at - len(self._block) + self._at

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            BadFileError: There are fewer, or the pickle is longer than it may be.
        """
        end = self._at + count
        if end > len(self._block):
            self._fetch(end - len(self._block))
            end = self._at + count
        found = self._block[self._at : end]
        self._at = end
        return found

    def numbers(self) -> list[bytes]:
        """The steps that put small numbers on the stack, from the one begun on; none where it isn't here as a whole."""
        found = _NUMBERS.match(self._block, self._at - 1, self._at - 1 + _BLOCK)
        if found is None:
            return []
        self._at = found.end()
        return _NUMBER.findall(found[0])

    def line(self) -> bytes:
        """The bytes up to the end of a line, without it."""
        searched = self._at
        while (end := self._block.find(b"\n", searched)) < 0:
            kept = len(self._block) - self._at
            self._fetch(1)
            searched = self._at + kept
        found = self._block[self._at : end]
        self._at = end + 1
        return found

    def _fetch(self, missing: int) -> None:
        """Add to the block so many bytes at least, and drop what was read of it."""
        window = self.window
        if missing > window.left:
            raise window.bad(
                f"the pickle ends in the middle; {missing:,} bytes more were promised", at=self.place
            )
        # Twice what is kept, so that a long line is not copied once for each block.
        kept = self._block[self._at :]
        count = min(max(missing, _BLOCK, len(kept)), window.left, self.left)
        self.left -= count
        if count < missing:
            raise window.bad("the pickle is longer than a file's structure may be", at=self.place)
        self._block, self._at = kept + window.take(count, "the pickle"), 0

    def bad(self, reason: str) -> Exception:
        """The error for what was read last."""
        return self.window.bad(reason, at=self.place)


class _Machine:
    """The stack, the memo and the names of one pickle; each step is a method, found by its byte."""

    def __init__(self, source: _Source, persistent: Callable[[Any], Any], most: int) -> None:
        self.source, self.persistent, self.most = source, persistent, most
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[Name, None] = {}

    def run(self) -> Any:
        """Take steps until the pickle ends, and return what is left."""
        source, steps = self.source, {code: step.__get__(self) for code, step in _STEPS.items()}
        most = self.most
        while self.most > 0:
            self.most -= 1
            at = source.place
            code = source.take(1)
            if code == b".":
                break
            step = steps.get(code)
            if step is None:
                raise source.window.bad(f"the pickle has a step {code!r}, which there isn't", at=at)
            try:
                step()
            except IndexError:  # one of the stacks is empty
                raise source.window.bad(
                    f"the pickle takes more from its stack than it put there ({code!r})", at=at
                ) from None
        else:
            raise source.bad(f"the pickle has more than {most:,} steps")
        if self.below or len(self.stack) != 1:
            raise source.bad(f"the pickle ends with {len(self.stack)} things on its stack instead of one")
        return self.stack[0]

    def marked(self) -> list[Any]:
        """What lies above the last mark, taken off."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def push(self, value: Any) -> None:
        """Put one thing on the stack as it is by now."""
        self.stack.append(value)

    def number(self, form: str) -> Any:
        """The next number, in a form of `struct`."""
        return struct.unpack(form, self.source.take(struct.calcsize(form)))[0]

    def small(self, form: str) -> None:
        """A number, and all that follow it: lists of them are what large pickles are made of."""
        steps = self.source.numbers()
        if not steps:
            self.stack.append(self.number(form))
            return
        self.most -= len(steps) - 1
        self.stack += [
            step[1] if len(step) == 2 else int.from_bytes(step[1:], "little", signed=len(step) == 5)
            for step in steps
        ]

    def word(self) -> str:
        """The rest of the line."""
        return self.decoded(self.source.line())

    def decoded(self, data: bytes, encoding: str = "utf-8") -> str:
        """A text of the pickle; halves of surrogate pairs are let through, as Python's own reader does."""
        try:
            return data.decode(encoding, "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.source.bad(f"a text of the pickle is not {encoding}: {error.reason}") from None

    def named(self, module: Any, attribute: Any) -> None:
        """Put a name on the stack instead of what it stands for."""
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise self.source.bad("the pickle imports something that isn't named by texts")
        name = Name(module, attribute)
        self.names[name] = None
        self.stack.append(name)

    def called(self, function: Any, arguments: Any) -> None:
        """Put the record of a call on the stack."""
        if not isinstance(arguments, tuple):
            raise self.source.bad("the pickle calls something with what are no arguments")
        self.stack.append(Call(function, cast("tuple[Any, ...]", arguments)))

    def paired(self, items: list[Any]) -> list[tuple[Any, Any]]:
        """Items as pairs of key and value."""
        if len(items) % 2:
            raise self.source.bad("the pickle has a key without a value")
        return list(zip(items[::2], items[1::2], strict=True))

    def fill(self, pairs: list[tuple[Any, Any]]) -> None:
        """Store pairs in what lies on the stack."""
        target = self.stack[-1]
        if isinstance(target, Call):
            target.entries.pairs.extend(pairs)
        elif isinstance(target, Dict):
            target.pairs.extend(pairs)
        else:
            raise self.source.bad(f"the pickle stores under a key in a {type(target).__name__}")

    def extend(self, items: list[Any], kind: type[list[Any]]) -> None:
        """Append to what lies on the stack."""
        target = self.stack[-1]
        if isinstance(target, Call):
            target.items.extend(items)
        elif type(target) is kind:
            target.extend(items)
        else:
            raise self.source.bad(f"the pickle appends to a {type(target).__name__}")

    def keep(self, key: int) -> None:
        """Remember what lies on the stack."""
        if not 0 <= key < 2**32:
            raise self.source.bad(f"the pickle remembers something as number {key}")
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        """Put on the stack what was remembered."""
        if key not in self.memo:
            raise self.source.bad(f"the pickle recalls number {key:,}, which it never kept")
        self.stack.append(self.memo[key])

    def build(self) -> None:
        """Set the state of what lies on the stack."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Call):
            raise self.source.bad(f"the pickle sets attributes of a {type(target).__name__}")
        target.state = state

    def decimal(self, text: bytes) -> int:
        """A number written in digits."""
        if not re.fullmatch(rb"[+-]?\d{1,1000}", text.strip()):
            raise self.source.bad(f"the pickle has {text[:20]!r} for a number")
        return int(text)

    def integer(self) -> None:
        """A number, or a truth, in digits."""
        text = self.source.line()
        self.stack.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else self.decimal(text))

    def binary(self, form: str) -> None:
        """A number of any length, as bytes."""
        count = self.number(form)
        if not 0 <= count <= _DIGITS:
            raise self.source.bad(f"the pickle has a number of {count:,} bytes")
        self.stack.append(int.from_bytes(self.source.take(count), "little", signed=True))

    def real(self) -> None:
        """A number with a fraction, in digits."""
        text = self.source.line()
        try:
            self.stack.append(float(text[:_DIGITS]))
        except ValueError:
            raise self.source.bad(f"the pickle has {text[:20]!r} for a number") from None

    def data(self, form: str) -> bytes:
        """Bytes after their number."""
        count = self.number(form)
        if count < 0:
            raise self.source.bad(f"the pickle has {count:,} bytes")
        return self.source.take(count)

    def quoted(self) -> None:
        """A text in quotes, as the oldest pickles write it."""
        text = self.source.line().strip()
        if len(text) < 2 or text[:1] not in (b"'", b'"') or text[:1] != text[-1:]:
            raise self.source.bad("the pickle has a text without quotes around it")
        plain = re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", _unescaped, text[1:-1], flags=re.DOTALL)
        self.stack.append(plain.decode("latin-1"))

    def escaped(self) -> None:
        """A text with escapes of its own kind."""
        text = re.sub(
            rb"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})",
            lambda found: chr(min(int(found[1][1:], 16), 0x10FFFF)).encode("utf-8", "surrogatepass"),
            self.source.line().decode("latin-1").encode("utf-8"),
        )
        self.stack.append(self.decoded(text))

    def top(self, count: int) -> None:
        """A tuple of the last things."""
        if len(self.stack) < count:
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def drop(self) -> None:
        """Take one thing off, or a mark that has nothing above it."""
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.below.pop()

    def mark(self) -> None:
        """Begin to gather."""
        self.below.append(self.stack)
        self.stack = []

    def make(self, keywords: bool) -> None:
        """An object made by its class's own maker."""
        named = self.stack.pop() if keywords else None
        arguments, cls = self.stack.pop(), self.stack.pop()
        self.called(cls, arguments)
        if keywords:
            if not isinstance(named, Dict):
                raise self.source.bad("the pickle calls something with what are no named arguments")
            self.stack[-1].entries.pairs.extend(named.pairs)

    def instance(self, named: bool) -> None:
        """An object of the oldest kind: a class, and all above the mark as its arguments."""
        if named:
            self.named(self.word(), self.word())
            cls = self.stack.pop()
            items = self.marked()
        else:
            items = self.marked()
            cls = items.pop(0)
        self.called(cls, tuple(items))

    def version(self) -> None:
        """The protocol."""
        found = self.number("B")
        if found > 5:
            raise self.source.bad(f"the pickle is of protocol {found}; 5 is the last that is known")

    def one(self) -> tuple[Any, Any]:
        """The last two things, taken off."""
        value, key = self.stack.pop(), self.stack.pop()
        return key, value

    def reduce(self) -> None:
        """A call of what lies below its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.called(function, arguments)

    def outside(self) -> None:
        """Bytes that were to come beside the pickle."""
        raise self.source.bad("the pickle needs bytes that lie outside of it")


def _unescaped(found: "re.Match[bytes]") -> bytes:
    what = found[1]
    if len(what) == 3:
        return bytes([int(what[1:], 16)])
    return {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\", b"'": b"'", b'"': b'"'}.get(what, found[0])


def _frame(machine: _Machine) -> None:
    """Frames only tell how much to read ahead; the end must be there, though."""
    size = machine.number("<Q")
    if size > machine.source.window.end - machine.source.place:
        raise machine.source.bad(f"the pickle has a frame of {size:,} bytes, more than are left")


def _pushed(what: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.push(what(machine))

    return step


_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    # the stack and the memo
    b"(": _Machine.mark,
    b"0": _Machine.drop,
    b"1": _Machine.marked,
    b"2": lambda m: m.stack.append(m.stack[-1]),
    b"p": lambda m: m.keep(m.decimal(m.source.line())),
    b"q": lambda m: m.keep(m.number("B")),
    b"r": lambda m: m.keep(m.number("<I")),
    b"\x94": lambda m: m.keep(len(m.memo)),
    b"g": lambda m: m.recall(m.decimal(m.source.line())),
    b"h": lambda m: m.recall(m.number("B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"\x80": _Machine.version,
    b"\x95": _frame,
    # numbers and truths
    b"N": _pushed(lambda m: None),
    b"\x88": _pushed(lambda m: True),
    b"\x89": _pushed(lambda m: False),
    b"I": _Machine.integer,
    b"L": lambda m: m.stack.append(m.decimal(m.source.line().rstrip(b"L"))),
    b"F": _Machine.real,
    b"J": lambda m: m.small("<i"),
    b"K": lambda m: m.small("B"),
    b"M": lambda m: m.small("<H"),
    b"G": _pushed(lambda m: m.number(">d")),
    b"\x8a": lambda m: m.binary("B"),
    b"\x8b": lambda m: m.binary("<i"),
    # texts and bytes
    b"S": _Machine.quoted,
    b"V": _Machine.escaped,
    b"T": _pushed(lambda m: m.data("<i").decode("latin-1")),
    b"U": _pushed(lambda m: m.data("B").decode("latin-1")),
    b"X": _pushed(lambda m: m.decoded(m.data("<I"))),
    b"\x8c": _pushed(lambda m: m.decoded(m.data("B"))),
    b"\x8d": _pushed(lambda m: m.decoded(m.data("<Q"))),
    b"B": _pushed(lambda m: m.data("<I")),
    b"C": _pushed(lambda m: m.data("B")),
    b"\x8e": _pushed(lambda m: m.data("<Q")),
    b"\x96": _pushed(lambda m: m.data("<Q")),
    b"\x97": _Machine.outside,
    b"\x98": _Machine.outside,
    # containers
    b")": _pushed(lambda m: ()),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": lambda m: m.top(1),
    b"\x86": lambda m: m.top(2),
    b"\x87": lambda m: m.top(3),
    b"]": _pushed(lambda m: []),
    b"l": lambda m: m.push(m.marked()),
    b"a": lambda m: m.extend([m.stack.pop()], list),
    b"e": lambda m: m.extend(m.marked(), list),
    b"}": _pushed(lambda m: Dict()),
    b"d": lambda m: m.push(Dict(m.paired(m.marked()))),
    b"s": lambda m: m.fill([m.one()]),
    b"u": lambda m: m.fill(m.paired(m.marked())),
    b"\x8f": _pushed(lambda m: Set()),
    b"\x90": lambda m: m.extend(m.marked(), Set),
    b"\x91": lambda m: m.push(Set(m.marked())),
    # what would be imported, called, and set
    b"c": lambda m: m.named(m.word(), m.word()),
    b"\x93": lambda m: m.named(*m.one()),
    b"\x82": lambda m: m.named("copyreg", f"extension {m.number('B')}"),
    b"\x83": lambda m: m.named("copyreg", f"extension {m.number('<H')}"),
    b"\x84": lambda m: m.named("copyreg", f"extension {m.number('<i')}"),
    b"R": _Machine.reduce,
    b"\x81": lambda m: m.make(False),
    b"\x92": lambda m: m.make(True),
    b"i": lambda m: m.instance(True),
    b"o": lambda m: m.instance(False),
    b"b": _Machine.build,
    b"P": _pushed(lambda m: m.persistent(m.word())),
    b"Q": _pushed(lambda m: m.persistent(m.stack.pop())),
}
"""What each byte of a pickle does, protocols 0 to 5."""
