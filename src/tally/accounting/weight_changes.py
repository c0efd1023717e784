"""What happens to one weight, from one ledger to another: its size, its type, where it is counted, its state.

What each of the four does to the figures is found with the ones before it done, in this order, so that they add up.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from tally.accounting.difference import Amount, Step, amount
from tally.accounting.ledger import Entry
from tally.accounting.pairing import has_turned

WeightPair: TypeAlias = tuple[Entry | None, Entry | None]


def resize(old: Entry | None, new: Entry | None) -> Amount:
    """What another size does to the figures; nothing for a weight that is on one side only."""
    if old is None or new is None:
        return Amount()
    return amount(_with_size(old, new)) - amount(old)


def retype(old: Entry, new: Entry) -> Amount:
    """What another dtype does, once the size is the new one."""
    sized = _with_size(old, new)
    return amount(replace(sized, dtype=new.dtype)) - amount(sized)


def reshare(old: Entry, new: Entry) -> Amount:
    """What it does to be counted elsewhere, or no longer, once size and dtype are the new ones."""
    typed = replace(_with_size(old, new), dtype=new.dtype)
    return amount(replace(typed, shared_with=new.shared_with)) - amount(typed)


def reclass(old: Entry, new: Entry) -> Amount:
    """What another state does, once all else is new."""
    return amount(new) - amount(replace(new, state=old.state))


def _with_size(old: Entry, new: Entry) -> Entry:
    return replace(old, shape=new.shape, axes=new.axes)


def presence(entry: Entry, is_new: bool) -> Step:
    """Tell a weight that is on one side only, by its shape."""
    old, new = (None, entry.shape) if is_new else (entry.shape, None)
    return Step(name=entry.name, before=old, after=new, weights=(entry.name,))


def size_steps(old: Entry | None, new: Entry | None) -> list[Step]:
    """Tell the axes of a weight that have another size, by their names."""
    if old is None or new is None or old.shape == new.shape or has_turned(old, new):
        return []
    if len(old.shape) != len(new.shape):
        return [Step(name="shape", before=old.shape, after=new.shape, weights=(new.name,))]
    return [
        Step(name=name or f"axis {place}", before=one, after=other, weights=(new.name,))
        for place, (name, one, other) in enumerate(zip(new.axes, old.shape, new.shape, strict=True))
        if one != other
    ]


def merged(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Put equal steps of several weights together."""
    found: dict[Any, Step] = {}
    for step in steps:
        key = (step.name, repr(step.before), repr(step.after))
        known = found.get(key)
        found[key] = step if known is None else replace(known, weights=(*known.weights, *step.weights))
    return tuple(found.values())
