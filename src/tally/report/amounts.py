"""What a layer holds, or a layer with all that is inside it: the figures behind a row, which can be added."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tally.accounting.ledger import COUNTED, Entry, Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Scalars that are used here and counted elsewhere.

    Args:
        size: How many.
        home: The path of the entry that counts them.
        where: The path of the layer to name.
    """

    size: int
    home: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Figures that can be added.

    Args:
        trainable: Parameters that training changes.
        frozen: Parameters that were switched off.
        state: Statistics and other numbers no gradient changes.
        nbytes: Bytes of these three.
        untracked: Arrays that act as weights without being any.
        dtypes: Types of the elements that are counted, each once.
        learns: Whether there is a trainable weight, counted here or not.
        rests: Whether there is a frozen one.
        guests: What is counted elsewhere.
    """

    trainable: int = 0
    frozen: int = 0
    state: int = 0
    nbytes: int = 0
    untracked: int = 0
    dtypes: tuple[str, ...] = ()
    learns: bool = False
    rests: bool = False
    guests: tuple[Guest, ...] = ()

    @property
    def params(self) -> int:
        """What it adds to the total."""
        return self.trainable + self.frozen + self.state


def amount_of(owner: Owner, entries: Sequence[Entry]) -> Amount:
    """Sum up what one layer holds itself."""
    counts = dict.fromkeys(COUNTED, 0)
    for entry in entries:
        if entry.state in counts:
            counts[entry.state] += entry.count
    counted = [entry for entry in entries if entry.state in COUNTED]
    states = {entry.state for entry in entries}
    return Amount(
        **counts,
        nbytes=sum(entry.nbytes for entry in counted),
        untracked=sum(entry.state == "untracked" for entry in entries),
        dtypes=tuple(dict.fromkeys(entry.dtype for entry in counted)),
        learns="trainable" in states,
        rests="frozen" in states,
        guests=tuple(_guest(owner, entry) for entry in counted if entry.shared_with is not None),
    )


def _guest(owner: Owner, entry: Entry) -> Guest:
    home = entry.shared_with or ""
    return Guest(
        size=entry.size, home=home, where=owner.shared_with or home.rpartition("/")[0] or "the model"
    )


def add(amounts: Iterable[Amount]) -> Amount:
    """Sum up several amounts."""
    parts = list(amounts)
    return Amount(
        trainable=sum(part.trainable for part in parts),
        frozen=sum(part.frozen for part in parts),
        state=sum(part.state for part in parts),
        nbytes=sum(part.nbytes for part in parts),
        untracked=sum(part.untracked for part in parts),
        dtypes=tuple(dict.fromkeys(dtype for part in parts for dtype in part.dtypes)),
        learns=any(part.learns for part in parts),
        rests=any(part.rests for part in parts),
        guests=tuple(guest for part in parts for guest in part.guests),
    )
