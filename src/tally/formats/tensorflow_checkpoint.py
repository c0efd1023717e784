"""A TensorFlow checkpoint by its index: which variables it holds, their names, and which are an optimizer's."""

import io
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tally.formats.beside import beside
from tally.formats.errors import BadFileError
from tally.formats.leveldb import entries
from tally.formats.limits import Limits
from tally.formats.protobuf import Message
from tally.formats.tensor import Role, Span, Tensor
from tally.formats.tensorflow_types import FRACTIONS, TYPES, read_shape
from tally.formats.window import Window, opened

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/"
_SLOT = "/.OPTIMIZER_SLOT/"
_SLOTS = re.compile(
    r"/(Adam|AdamW|LazyAdam|Momentum|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|Nadam|AdaMax|LAMB)(_\d+)?$"
)
"""How the first optimizers called what they keep for a variable."""
_POWERS = re.compile(r"(^|/)beta[12]_power(_\d+)?$")
_COUNTERS = ("save_counter", "global_step", "step", "iteration", "iterations", "epoch", "counter")
_OF_METRICS = (
    "total",
    "count",
    "accumulator",
    "true_positives",
    "true_negatives",
    "false_positives",
    "false_negatives",
    "total_confusion_matrix",
)
"""What metrics keep."""
_STATISTICS = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
_SEEDS = ("seed_generator_state", "_state_var")


@dataclass(frozen=True, slots=True)
class Saved:
    """One entry of an index.

    Args:
        key: What the checkpoint calls it.
        shape: Its dimensions.
        dtype: The type of an element.
        stored: The bytes it takes.
        span: Where they lie, if in one piece.
        parts: Into how many pieces it is split; 0 if it isn't.
        crc: The checksum of its data.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    stored: int
    span: Span | None
    parts: int
    crc: int


@dataclass(frozen=True, slots=True)
class Object:
    """One object of the graph of objects that a checkpoint was made from.

    Args:
        children: The objects it holds, by name.
        slots: The numbers of the objects that an optimizer keeps for others.
        keys: What the checkpoint calls its values, and the full name each had in the program.
    """

    children: tuple[tuple[str, int], ...] = ()
    slots: tuple[int, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SavedObject:
    """One object of the graph of objects that a SavedModel has of its own.

    Args:
        children: The objects it holds, by name.
        trainable: Of a variable, whether it is trainable.
    """

    children: tuple[tuple[str, int], ...] = ()
    trainable: bool | None = None


@dataclass(slots=True)
class Checkpoint:
    """All that an index says.

    Args:
        saved: Its variables.
        objects: The objects it was made from; none for one that was saved by names.
        files: What was looked at.
        notes: Sentences for the reader of the account.
        full: The full names in the program of the tensors that were made of it, by the tensors' own.
    """

    saved: list[Saved] = field(default_factory=list[Saved])
    objects: list[Object] = field(default_factory=list[Object])
    files: dict[Path, None] = field(default_factory=dict[Path, None])
    notes: list[str] = field(default_factory=list[str])
    full: dict[str, str] = field(default_factory=dict[str, str])


def read_index(path: Path, limits: Limits) -> Checkpoint:
    """Read the index of a checkpoint and the graph of its objects.

    Raises:
        BadFileError: It is broken, or the files of its data are shorter than it says.
    """
    found = Checkpoint(files={path: None})
    with opened(path) as window:
        pairs = entries(window, limits)
        first = next(pairs, None)
        if first is None or first[0] != b"":
            raise BadFileError(path, "has no header")
        shards, order = _header(path, first[1], limits)
        for key, value in pairs:
            if key.startswith(b"\0"):
                continue  # a part of a variable that has an entry of its own for all of it
            saved = _saved(path, key, value, shards, order, found, limits)
            if saved.key == _GRAPH:
                found.objects = _objects(path, saved, limits)
            else:
                found.saved.append(saved)
    return found


def _header(path: Path, value: bytes, limits: Limits) -> tuple[int, str]:
    table = _message(path, value, "the header", limits).table()
    shards = table.integer(1)
    if not 0 < shards <= limits.files:
        raise BadFileError(path, f"claims {shards:,} files of data", place="the header")
    return shards, ">" if table.integer(2) else "<"


def _message(path: Path, value: bytes, what: str, limits: Limits) -> Message:
    return Message(Window(io.BytesIO(value), path, 0, len(value), what), limits=limits)


def _saved(
    path: Path, key: bytes, value: bytes, shards: int, order: str, found: Checkpoint, limits: Limits
) -> Saved:
    """Read one entry, and hold it against the file that its data is in."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise BadFileError(path, f"has the key {key[:40]!r}, which is not utf-8") from None
    place = f"entry {name[:80]!r}"
    table = _message(path, value, place, limits).table()
    dtype, bits = TYPES.get(table.integer(1) % 100, ("", 0))
    shape = read_shape(table.table_of(2))
    if not dtype or shape is None or len(shape) > limits.rank or any(size < 0 for size in shape):
        reason = f"has the type {table.integer(1)} and the shape {shape if shape is None else shape[:8]}"
        raise BadFileError(path, reason, place=place)
    size, parts = table.integer(5), len(table.messages(7))
    needed = math.prod(shape) * bits // 8
    crc = table.integer(6)
    if parts:
        return Saved(name, shape, dtype, needed, None, parts, crc)
    if bits and size != needed:
        reason = f"has {size:,} bytes, where its shape {shape[:8]} needs {needed:,}"
        raise BadFileError(path, reason, place=place)
    shard, start = table.integer(3), table.integer(4)
    if not 0 <= shard < shards or start < 0 or size < 0:
        raise BadFileError(path, f"lies at byte {start:,} of file {shard:,} of {shards:,}", place=place)
    span = _span(path, f".data-{shard:05d}-of-{shards:05d}", start, size, place, found)
    if span is not None and order == ">":
        span = Span(file=span.file, start=start, nbytes=size, order=">")
    return Saved(name, shape, dtype, size, span, 0, crc)


def _span(index: Path, ending: str, start: int, size: int, place: str, found: Checkpoint) -> Span | None:
    """Find the bytes of an entry in a file of data, which need not be there."""
    name = index.name.removesuffix(".index") + ending
    held = beside(index, name, place)
    if held is None:
        note = f"The data lies in {name!r}, which isn't beside it."
        if note not in found.notes[:3]:
            found.notes.append(note)
        return None
    path, length = held
    if start + size > length:
        reason = f"claims the bytes {start:,} to {start + size:,} of {name!r}, which has {length:,}"
        raise BadFileError(index, reason, place=place)
    found.files.setdefault(path)
    return Span(file=path, start=start, nbytes=size)


def _objects(path: Path, saved: Saved, limits: Limits) -> list[Object]:
    """Read the graph of objects, which lies in the data as one text."""
    if saved.span is None or saved.dtype != "string" or saved.shape != ():
        return []
    with opened(saved.span.file) as window:
        window.go_to(saved.span.start, "the graph of objects")
        text = window.part(saved.span.nbytes, "the graph of objects")
        length = shift = 0
        while shift < 64:
            byte = text.number("<B", "a length")
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        text.skip(4, "a checksum")
        if length != text.left:
            raise text.bad(f"claims {length:,} bytes, where {text.left:,} are left")
        message = Message(text, text.at, text.end, limits)
        return [
            _object(part) for number, part in message.fields() if number == 1 and isinstance(part, Message)
        ]


def _object(message: Message) -> Object:
    children: list[tuple[str, int]] = []
    slots: list[int] = []
    keys: list[tuple[str, str]] = []
    for number, part in message.fields():
        if not isinstance(part, Message):
            continue
        if number == 1:
            table = part.table()
            children.append((table.text(2), table.integer(1)))
        elif number == 2:
            table = part.table()
            keys.append((table.text(3), table.text(2)))
        elif number == 3:
            slots.append(part.table().integer(3))
    return Object(tuple(children), tuple(slots), tuple(keys))


def tensors(
    checkpoint: Checkpoint, trainable: Mapping[str, bool], saved: Sequence[SavedObject] = ()
) -> list[Tensor]:
    """Name the variables of a checkpoint, and tell what each is to the model.

    Args:
        checkpoint: What the index says.
        trainable: Which variables a graph calls trainable, by their full names.
        saved: The objects that a SavedModel has, which tell of variables whose names are not their own.
    """
    switches = dict(_switches(checkpoint.objects, saved))
    full = {key: name for one in checkpoint.objects for key, name in one.keys}
    of_optimizer = set(_keys_of_optimizer(checkpoint.objects))
    names = _names([one.key for one in checkpoint.saved], full)
    known: dict[tuple[str, tuple[int, ...], str, int], str] = {}
    found: list[Tensor] = []
    twice = 0
    bases = set(names.values())
    # A list of a model's own goes before the second copy of it that an export keeps.
    ordered = sorted(checkpoint.saved, key=lambda one: one.key.startswith("_all_variables/"))
    for one in ordered:
        name, program = names[one.key], full.get(one.key, "")
        role, notes = _role(
            one, name, program, trainable, switches, lambda slot: slot in bases, one.key in of_optimizer
        )
        if "/" in program:
            first = known.setdefault((program, one.shape, one.dtype, one.crc), name)
            if first != name and one.key.startswith("_all_variables/"):
                twice += 1
                continue
        if one.parts:
            notes = (*notes, f"It is split into {one.parts:,} parts.")
        checkpoint.full[name] = program or name
        found.append(
            Tensor(
                name=name,
                shape=one.shape,
                dtype=one.dtype,
                stored=one.stored,
                role=role,
                span=one.span,
                notes=notes,
            )
        )
    if twice:
        checkpoint.notes.append(
            f"{twice:,} variables are kept twice, for the model and for its serving function."
        )
    return found


def _switches(objects: Sequence[Object], saved: Sequence[SavedObject]) -> Iterator[tuple[str, bool]]:
    """Yield the keys of the variables of a SavedModel, with whether they are trainable.

    The two graphs of objects number these differently; what stands at the same place is the same object.
    """
    waiting = deque([(0, 0)] if objects and saved else [])
    seen = {0}
    held: dict[int, dict[str, int]] = {}
    while waiting:
        number, other = waiting.popleft()
        if (trainable := saved[other].trainable) is not None:
            yield from ((key, trainable) for key, _ in objects[number].keys)
        if other not in held:
            held[other] = dict(saved[other].children)
        for name, inside in objects[number].children:
            there = held[other].get(name, -1)
            if inside not in seen and 0 <= inside < len(objects) and 0 <= there < len(saved):
                seen.add(inside)
                waiting.append((inside, there))


def readable(key: str) -> str:
    """Return the name of a variable from the key that a checkpoint gives it.

    Example:
        >>> readable("layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE")
        'layer_with_weights-0/kernel'
        >>> readable("a/kernel/.OPTIMIZER_SLOT/opt/m/.ATTRIBUTES/VARIABLE_VALUE")
        'opt/a/kernel/m'
    """
    name, _, attribute = key.partition(_VALUE)
    if _SLOT in name:
        name, _, slot = name.partition(_SLOT)
        optimizer, _, kind = slot.rpartition("/")
        name = f"{optimizer}/{name}/{kind}"
    name = name.replace(".S", "/")  # how a slash inside a name is written
    return name if attribute in ("", "VARIABLE_VALUE") else f"{name}/{attribute}"


def _names(keys: list[str], full: dict[str, str]) -> dict[str, str]:
    """Name each key by its variable's full name, where that is one of its own, or else by its place."""
    program = {key: full.get(key, "").removesuffix(":0") for key in keys}
    own = Counter(name for key, name in program.items() if not key.startswith("_all_variables/"))
    names: dict[str, str] = {}
    for key in keys:
        name = program[key]
        usable = "/" in name and own[name] == 1 and not key.startswith("_all_variables/") and _SLOT not in key
        names[key] = name if usable else readable(key)
    taken = Counter(names.values())
    return {key: name if taken[name] == 1 else key for key, name in names.items()}


def _role(
    one: Saved,
    name: str,
    program: str,
    trainable: Mapping[str, bool],
    switches: Mapping[str, bool],
    is_variable: Callable[[str], bool],
    of_optimizer: bool,
) -> tuple[Role, tuple[str, ...]]:
    """Tell what a variable is to the model."""
    last = (program or name).rpartition("/")[2].partition(":")[0]
    slot = _SLOTS.search(name)
    if (
        of_optimizer
        or _SLOT in one.key
        or _POWERS.search(name)
        or (slot and is_variable(name[: slot.start()]))
    ):
        return "optimizer", ()
    if last in _SEEDS:
        return "seed", ()
    if one.dtype not in ("string",) and last in _STATISTICS:
        return "state", ()
    if not one.dtype.startswith(FRACTIONS) or last in _COUNTERS or _is_of_metric(one.key):
        return "other", ()
    by_place = switches.get(one.key) if "/" not in program else None
    if by_place is False or (by_place is None and trainable.get(program or name) is False):
        return "state", ("The file says that it isn't trainable.",)
    return "weight", ()


def _is_of_metric(key: str) -> bool:
    parts = readable(key).split("/")
    return "keras_api/metrics" in key or (parts[-1] in _OF_METRICS and "metrics" in parts[:-1])


def _keys_of_optimizer(objects: list[Object]) -> Iterator[str]:
    """Yield the keys of values that only an optimizer holds."""
    slots = {number for one in objects for number in one.slots}
    others = _reached(objects, {0}, lambda name: "optimizer" not in name.lower()) - slots
    optimizers = {number for one in objects for name, number in one.children if "optimizer" in name.lower()}
    held = {
        number
        for optimizer in optimizers
        if 0 <= optimizer < len(objects)
        for name, number in objects[optimizer].children
        if name == "_trainable_variables"
    }
    others |= _reached(objects, held, lambda name: True)
    kept = _reached(objects, optimizers, lambda name: True) | slots
    for number in kept - others:
        if 0 <= number < len(objects):
            yield from (key for key, _ in objects[number].keys)


def _reached(objects: list[Object], first: set[int], follows: Callable[[str], bool]) -> set[int]:
    """Return the objects that can be reached from some, by names that may be followed."""
    found = {number for number in first if 0 <= number < len(objects)}
    waiting = deque(found)
    while waiting:
        for name, number in objects[waiting.popleft()].children:
            if number not in found and 0 <= number < len(objects) and follows(name):
                found.add(number)
                waiting.append(number)
    return found
