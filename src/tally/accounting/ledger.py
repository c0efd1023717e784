"""The ledger: every parameter array of a model, and every layer that owns some, as frozen data."""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from tally.accounting.schema import read_document, thaw, write_document

State: TypeAlias = Literal["trainable", "frozen", "state", "seed", "optimizer", "fixed", "untracked"]
Status: TypeAlias = Literal["built", "unbuilt", "no weights"]
Shape: TypeAlias = tuple[int | None, ...]

SCHEMA_VERSION = 1
STATES: tuple[State, ...] = get_args(State)
COUNTED: tuple[State, ...] = ("trainable", "frozen", "state")
"""The states that make up the total; all others have figures of their own."""


@functools.cache
def bits(dtype: str) -> int:
    """Return how many bits one element takes, read from the name of its type.

    Raises:
        ValueError: The name says no size.

    Example:
        >>> bits("bfloat16"), bits("int4"), bits("float8_e4m3fn"), bits("bool")
        (16, 4, 8, 8)
    """
    if dtype == "bool":
        return 8
    size = re.search(r"\d+", dtype)
    if size is None:
        raise ValueError(
            f"The size of an element of type {dtype!r} is unknown: its name holds no number of bits."
        )
    return int(size[0])


def learns(dtype: str) -> bool:
    """Tell whether a gradient can change numbers of a type: real ones of 16 bits or more.

    Example:
        >>> learns("bfloat16"), learns("q4_k"), learns("float8_e4m3fn")
        (True, False, False)
    """
    return re.fullmatch(r"b?float(16|32|64)|complex\d+", dtype) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One parameter array as every view sees it.

    Args:
        path: Its place in the model, such as `"blocks/0/kernel"`; unique in a ledger.
        owner: The path of the layer that owns it; `""` is the model itself.
        shape: Its dimensions.
        name: What its owner calls it, such as `"kernel"`; the last part of the path if not given.
        axes: A name for each dimension; `""` where there is none. Left out, no axis is named.
        dtype: The type of an element, such as `"float32"`.
        state: What training does with it.
        origin: The line that made it, such as `"train.py:12"`.
        frozen_by: The path of the layer whose `trainable` is off, for a frozen entry.
        frozen_at: The line that switched it off.
        shared_with: The path of the entry that already counts these scalars.
        note: What is wrong with it and what to do, for an untracked entry that is no array made in a call.
        stored: The bytes it takes where they are not those of its elements: packed, in blocks that have a scale.

    Raises:
        ValueError: `axes` doesn't name each dimension once, or `state` is not a state.

    Example:
        >>> kernel = Entry(path="dense/kernel", owner="dense", shape=(1600, 10))
        >>> kernel.count, kernel.nbytes
        (16000, 64000)
    """

    path: str
    owner: str
    shape: tuple[int, ...]
    name: str = ""
    axes: tuple[str, ...] = ()
    dtype: str = "float32"
    state: State = "trainable"
    origin: str | None = None
    frozen_by: str | None = None
    frozen_at: str | None = None
    shared_with: str | None = None
    note: str | None = None
    stored: int | None = None

    def __post_init__(self) -> None:
        """Fill in what was left out, and refuse what can't be an entry."""
        axes = self.axes or ("",) * len(self.shape)
        if len(axes) != len(self.shape):
            raise ValueError(
                f"{self.path!r} has {len(self.shape)} dimensions, but {len(axes)} names of axes: {axes}."
            )
        if self.state not in STATES:
            raise ValueError(
                f"{self.path!r} is in the state {self.state!r}, which is none of {', '.join(STATES)}."
            )
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "name", self.name or self.path.rpartition("/")[2])

    @property
    def size(self) -> int:
        """How many scalars the array holds."""
        return math.prod(self.shape)

    @property
    def count(self) -> int:
        """How many scalars it adds to a sum: none if another entry already counts them."""
        return 0 if self.shared_with is not None else self.size

    @property
    def nbytes(self) -> int:
        """The bytes its counted scalars take, packed where an element is smaller than a byte."""
        if self.stored is not None:
            return self.stored if self.shared_with is None else 0
        return -(-self.count * bits(self.dtype) // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One layer, or the model, with what is needed to explain its numbers.

    Args:
        path: Its place in the model; `""` is the model itself.
        name: Its name as Keras knows it; default names count in the process, so the same code run again may give
            another, while its path stays.
        type: The name of its class.
        module: The module of its class.
        builtin: Whether tally (or the library it came from) wrote the class, rather than the user.
        status: Whether its weights exist: `"built"`, `"unbuilt"`, or `"no weights"` by nature.
        input_shapes: The shape of each input with the batch first, None for what is open; empty if unknown.
        output_shapes: The same of each output.
        options: Pairs of name and value that enter a formula: `("kernel_size", (3, 3))`.
        origin: The line that made it.
        shared_with: The path of the row that lists this same layer first.
        inputs: The paths or names of the owners that feed it.
        notes: Sentences for the reader.
        constants: Fixed numbers that act as weights: what they are, how many, their value (None
            where they differ), whether they are stored.
        multiply_adds: For one example, without biases and without the layers inside; None where it wasn't
            found by following a call (see `tally.accounting.work`).

    Example:
        >>> Owner(path="flatten", type="Flatten", status="no weights").name
        'flatten'
    """

    path: str
    type: str
    name: str = ""
    module: str = ""
    builtin: bool = True
    status: Status = "built"
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    origin: str | None = None
    shared_with: str | None = None
    inputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    constants: tuple[tuple[str, int, Any, bool], ...] = ()
    multiply_adds: int | None = None

    def __post_init__(self) -> None:
        """Take the last part of the path where no name is given."""
        object.__setattr__(self, "name", self.name or self.path.rpartition("/")[2])

    def option(self, name: str, default: Any = None) -> Any:
        """Return the value of an option, or `default` where the owner has none of that name."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True, slots=True)
class _Index:
    """Who owns and holds what, found once so that no view searches the ledger for each of its rows."""

    owners: dict[str, Owner]
    places: dict[str, int]
    entries: dict[str, tuple[Entry, ...]]
    children: dict[str, tuple[Owner, ...]]

    @classmethod
    def of(cls, ledger: "Ledger") -> "_Index":
        owners = {owner.path: owner for owner in ledger.owners}
        entries: dict[str, list[Entry]] = defaultdict(list)
        for entry in ledger.entries:
            entries[entry.owner].append(entry)
        children: dict[str, list[Owner]] = defaultdict(list)
        for path, owner in owners.items():
            if path:
                children[_parent(path, owners)].append(owner)
        return cls(
            owners=owners,
            places={path: place for place, path in enumerate(owners)},
            entries={path: tuple(held) for path, held in entries.items()},
            children={path: tuple(inside) for path, inside in children.items()},
        )


def _parent(path: str, owners: dict[str, Owner]) -> str:
    """Find the nearest owner above a path; a container such as the `blocks` of `blocks/0` is none."""
    above = path.rpartition("/")[0]
    while above and above not in owners:
        above = above.rpartition("/")[0]
    return above


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All parameters of a model, counted once; every view draws from this.

    The paths of owners and entries are by place: the same code gives the same paths in any process, however often it
    ran. Only `name` (of the ledger and of owners) follows Keras's counting of default names.

    Args:
        name: The model's name.
        source: Where the ledger was read from, such as `"tally model"`.
        owners: The layers in order, each before those inside it; nesting follows from the paths.
        entries: The parameter arrays.

    Raises:
        ValueError: Two owners or two entries have one path, or an entry's owner is not listed.

    Example:
        >>> ledger = Ledger(
        ...     name="tiny",
        ...     owners=(Owner(path="dense", type="Dense"),),
        ...     entries=(
        ...         Entry(path="dense/kernel", owner="dense", shape=(10, 5)),
        ...         Entry(path="dense/bias", owner="dense", shape=(5,), state="frozen"),
        ...     ),
        ... )
        >>> ledger.total, ledger.trainable, ledger.non_trainable
        (55, 50, 5)
    """

    name: str
    source: str = "tally model"
    owners: tuple[Owner, ...] = ()
    entries: tuple[Entry, ...] = ()
    _index: _Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what would be counted twice or nowhere."""
        for what, paths in (
            ("owner", [o.path for o in self.owners]),
            ("entry", [e.path for e in self.entries]),
        ):
            if len(set(paths)) != len(paths):
                twice = next(path for path in paths if paths.count(path) > 1)
                raise ValueError(
                    f"The {what} {twice!r} is listed twice; list it once, or share it under another path."
                )
        known = {owner.path for owner in self.owners}
        for entry in self.entries:
            if entry.owner not in known:
                raise ValueError(
                    f"The entry {entry.path!r} is owned by {entry.owner!r}, which is not in the ledger."
                )
        object.__setattr__(self, "_index", _Index.of(self))

    @property
    def by_state(self) -> dict[State, int]:
        """The number of scalars in each state, every state named."""
        return {state: sum(e.count for e in self.entries if e.state == state) for state in STATES}

    @property
    def total(self) -> int:
        """All parameters: trainable, frozen and state; no seed and nothing the optimizer keeps."""
        return sum(entry.count for entry in self.counted)

    @property
    def trainable(self) -> int:
        """The parameters that training changes by gradients."""
        return self.by_state["trainable"]

    @property
    def non_trainable(self) -> int:
        """The parameters no gradient changes: frozen ones and state such as moving statistics."""
        states = self.by_state
        return states["frozen"] + states["state"]

    @property
    def seeds(self) -> int:
        """The scalars of random generators' states, never part of the total."""
        return self.by_state["seed"]

    @property
    def optimizer(self) -> int:
        """The scalars an optimizer keeps beside the parameters, never part of the total."""
        return self.by_state["optimizer"]

    @property
    def counted(self) -> tuple[Entry, ...]:
        """The entries that make up the total."""
        return tuple(entry for entry in self.entries if entry.state in COUNTED)

    @property
    def nbytes(self) -> int:
        """The bytes of the total."""
        return sum(entry.nbytes for entry in self.counted)

    @property
    def bytes_by_dtype(self) -> dict[str, int]:
        """The bytes of the total, for each type of element in order of first appearance."""
        sums: dict[str, int] = defaultdict(int)
        for entry in self.counted:
            sums[entry.dtype] += entry.nbytes
        return {dtype: size for dtype, size in sums.items() if size}

    def owner(self, path: str) -> Owner:
        """Return the owner at a path.

        Raises:
            KeyError: There is none.
        """
        return self._index.owners[path]

    def preceding(self, path: str) -> Iterator[Owner]:
        """Yield the owners listed before the one at `path`, the nearest first."""
        return (self.owners[place] for place in range(self._index.places[path] - 1, -1, -1))

    def owned_by(self, path: str) -> tuple[Entry, ...]:
        """Return the entries which the owner at `path` holds itself, not those of layers inside it."""
        return self._index.entries.get(path, ())

    def children(self, path: str = "") -> tuple[Owner, ...]:
        """Return the owners directly inside the one at `path`; `""` gives the outermost layers."""
        return self._index.children.get(path, ())

    def parent(self, path: str) -> Owner:
        """Return the nearest owner around the one at a path.

        Raises:
            KeyError: There is none.
        """
        return self.owner(_parent(path, self._index.owners))

    def under(self, path: str = "") -> tuple[Entry, ...]:
        """Return every entry owned at `path` or anywhere below it, in the ledger's order of owners."""
        found = list(self.owned_by(path))
        for child in self.children(path):
            found.extend(self.under(child.path))
        return tuple(found)

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the ledger as JSON under a versioned schema, its keys always in the same order.

        Raises:
            ValueError: An option or a constant holds something else than numbers, words and tuples of them.
        """
        rows = {"owners": [_row(owner) for owner in self.owners], "entries": [_row(e) for e in self.entries]}
        head = {"schema_version": SCHEMA_VERSION, "kind": "ledger", "name": self.name, "source": self.source}
        return write_document(head, rows, indent)

    @classmethod
    def from_json(cls, text: str) -> "Ledger":
        """Read what `to_json` wrote, or anything else that keeps to `tally.accounting.schema`.

        Raises:
            ValueError: The text is not a ledger, or one of another schema; with the place and the reason.
        """
        document = read_document(text, SCHEMA_VERSION)
        owners, entries = (
            _rows(Owner, document["owners"], "owners"),
            _rows(Entry, document["entries"], "entries"),
        )
        known = {entry.path for entry in entries}
        for place, entry in enumerate(entries):
            if entry.shared_with is not None and entry.shared_with not in known:
                raise ValueError(
                    f"This is no ledger: entries[{place}] is shared with {entry.shared_with!r}, which is not in it."
                )
        return cls(name=document["name"], source=document["source"], owners=owners, entries=entries)


_DEEPEST = 100
"""Layers inside layers in a ledger that is read; no model comes near it."""


def _row(one: Owner | Entry) -> dict[str, Any]:
    return {column.name: getattr(one, column.name) for column in fields(one)}


def _rows(kind: Callable[..., Any], rows: list[dict[str, Any]], what: str) -> tuple[Any, ...]:
    """Make owners or entries of what was read, and name the row that can't be one."""
    made: dict[str, Any] = {}
    for place, row in enumerate(rows):
        path: str = row["path"]
        try:
            if path in made:
                raise ValueError(f"the path {path!r} is listed twice.")
            if path.count("/") >= _DEEPEST:
                raise ValueError(f"the path {path[:40]!r}… has more than {_DEEPEST} parts.")
            made[path] = kind(**{name: thaw(value) for name, value in row.items()})
        except ValueError as error:
            raise ValueError(f"This is no ledger: in {what}[{place}], {error}") from None
    return tuple(made.values())
