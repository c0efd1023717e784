"""A difference of two ledgers as data: what happened to which layer, and what that did to the figures."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from tally.accounting.ledger import COUNTED, Entry

Kind: TypeAlias = Literal[
    "added",
    "removed",
    "replaced",
    "renamed",
    "moved",
    "built",
    "resized",
    "retyped",
    "reconfigured",
    "rewired",
    "reshaped",
    "shared",
    "unshared",
    "frozen",
    "unfrozen",
    "reclassed",
]
Motion: TypeAlias = Literal["equal", "moved", "not drawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Three figures of some weights, or a difference of them.

    Args:
        total: What they add to the total.
        trainable: How much of that training changes.
        nbytes: The bytes of that; None where the type of an element doesn't say its size.
    """

    total: int = 0
    trainable: int = 0
    nbytes: int | None = 0

    def __add__(self, other: "Amount") -> "Amount":
        known = self.nbytes is not None and other.nbytes is not None
        return Amount(
            total=self.total + other.total,
            trainable=self.trainable + other.trainable,
            nbytes=(self.nbytes or 0) + (other.nbytes or 0) if known else None,
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return self + Amount(
            total=-other.total,
            trainable=-other.trainable,
            nbytes=None if other.nbytes is None else -other.nbytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One property before and after, such as the size of an axis.

    Args:
        name: What it is: an axis, an option, a weight that was added or removed, or `"dtype"`, `"class"`, `"place"`,
            `"shape"`, `"input"`, `"output"`, `"fed by"`, `"after"`, `"shared with"`, `"state"`.
        before: Its value before; None where it wasn't there.
        after: Its value after.
        weights: The names of the weights that have it, where it is one of a weight.
    """

    name: str
    before: Any
    after: Any
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that happened to one layer, or to one weight of it.

    Args:
        kind: What happened. `added`, `removed`; `replaced` by a layer of another class; `renamed`, and `moved` into
            another layer or behind another; `built`, which had no weights yet; `resized`; `retyped`: another dtype;
            `reconfigured`: other options; `rewired`: fed by other layers; `reshaped`: another input or output of the
            model; `shared` and `unshared`; `frozen` and `unfrozen`; `reclassed`: from one state to another.
        path: Where it is after; where it was, for what was removed.
        was: Where it was before, if that is another path.
        type: The class of the layer; `""` for a weight alone.
        layers: How many layers it is about, those inside the one named included.
        weights: The paths of the weights it is about.
        steps: What was changed, from what to what.
        where: The line that did it, if known.
        amount: What it does to the total, to what is trainable, and to the bytes.
    """

    kind: Kind
    path: str
    was: str | None = None
    type: str = ""
    layers: int = 1
    weights: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    where: str | None = None
    amount: Amount = field(default_factory=Amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How far the values of one weight moved.

    Args:
        path: Its path after.
        was: Its path before.
        state: Whether they are `equal`, have `moved`, or were `not drawn` yet, so that there is nothing to compare.
        relative: The norm of the difference as a share of the norm before; None where that is zero, or
            one of the two isn't finite.
        largest: The largest difference of two numbers; None where one isn't finite.
        changed: How many numbers are others.
        count: How many numbers there are.
    """

    path: str
    was: str
    state: Motion
    relative: float | None = None
    largest: float | None = None
    changed: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What makes two ledgers differ. The amounts of the changes add up to `after - before`.

    Args:
        names: The names of the models before and after.
        before: The figures of the ledger before.
        after: Those of the ledger after.
        optimizer: The numbers that optimizers keep, before and after; they are not part of a change.
        changes: What happened, in the order of the layers.
        layers: How many layers there are after.
        pairs: The weights that are the same in shape and dtype: their paths before and after.
        values: How far the values of these moved; None where they were not compared.
    """

    names: tuple[str, str]
    before: Amount
    after: Amount
    optimizer: tuple[int, int] = (0, 0)
    changes: tuple[Change, ...] = ()
    layers: int = 0
    pairs: tuple[tuple[str, str], ...] = ()
    values: tuple[Movement, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is different, as far as it was compared."""
        return not self.changes and not self.moved

    @property
    def moved(self) -> tuple[Movement, ...]:
        """The weights whose values are others: those that aren't finite, then by how far they moved."""
        moved = [one for one in self.values or () if one.state == "moved"]
        return tuple(sorted(moved, key=lambda one: (one.largest is not None, -(one.relative or 0.0))))

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the difference as JSON, its keys always in the same order."""
        head = {"schema_version": 1, "kind": "diff", "same": self.is_empty}
        body = {
            "names": self.names,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "optimizer": self.optimizer,
            "changes": [asdict(change) for change in self.changes],
            "values": None if self.values is None else [asdict(one) for one in self.values],
        }
        return json.dumps({**head, **body}, indent=indent, ensure_ascii=False, default=str)

    def __repr__(self) -> str:
        if self.is_empty:
            return f"<Difference: none, {self.after.total:,} parameters>"
        total = self.after.total - self.before.total
        return f"<Difference: {len(self.changes):,} changes, {total:+,} parameters>"


def amount(entry: Entry | None) -> Amount:
    """Return the figures of one weight; of none, zeros."""
    if entry is None or entry.state not in COUNTED:
        return Amount()
    try:
        nbytes = entry.nbytes
    except ValueError:  # a type such as "string"
        nbytes = None
    return Amount(
        total=entry.count, trainable=entry.count if entry.state == "trainable" else 0, nbytes=nbytes
    )


def total(amounts: Iterable[Amount]) -> Amount:
    """Add amounts up."""
    return sum(amounts, Amount())
