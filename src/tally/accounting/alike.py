"""Which layers are the same but for their names, so that a block that comes twelve times is explained once."""

from collections import defaultdict
from collections.abc import Sequence

from tally.accounting.ledger import Entry, Ledger, Owner

_FEWEST = 3
"""As many single layers side by side are gathered; of layers that hold layers, two are enough."""


def likenesses(ledger: Ledger) -> dict[str, str]:
    """Map each layer that repeats another to the first of its kind: same class, sizes, options, weights, insides.

    Only layers that stand side by side are compared. Where a block repeats another, the layers inside it repeat
    those of the other.

    Example:
        >>> layers = [tally.layers.Dense(4, name=name) for name in ("a", "b", "c")]
        >>> likenesses(tally.account(tally.Sequential([tally.Input((4,)), *layers])))
        {'b': 'a', 'c': 'a'}
    """
    forms = _forms(ledger)
    found: dict[str, str] = {}
    for holder in ("", *(owner.path for owner in ledger.owners if owner.path)):
        alike: dict[int, list[Owner]] = defaultdict(list)
        for layer in ledger.children(holder):
            alike[forms[layer.path]].append(layer)
        for layers in alike.values():
            first, *others = layers
            if others and len(layers) >= (2 if ledger.children(first.path) else _FEWEST):
                for other in others:
                    _pair(ledger, first, other, found)
    return found


def _pair(ledger: Ledger, first: Owner, other: Owner, found: dict[str, str]) -> None:
    """Note for a layer and all inside it what they repeat; a block inside the first may itself repeat another."""
    found[other.path] = first.path
    for one, two in zip(ledger.children(first.path), ledger.children(other.path), strict=True):
        _pair(ledger, one, two, found)


def _forms(ledger: Ledger) -> dict[str, int]:
    """Number each layer by what it is, from the innermost outwards: equal numbers mean equal layers."""
    numbers: dict[str, int] = {}
    forms: dict[str, int] = {}
    for owner in reversed(ledger.owners):  # a layer stands before those inside it
        inside = [
            (layer.path.removeprefix(f"{owner.path}/"), forms[layer.path])
            for layer in ledger.children(owner.path)
            if layer.path in forms
        ]
        form = repr((_of_owner(owner), _of_entries(owner.path, ledger.owned_by(owner.path)), inside))
        forms[owner.path] = numbers.setdefault(form, len(numbers))
    return forms


def _of_owner(owner: Owner) -> tuple[object, ...]:
    shapes = (owner.input_shapes, owner.output_shapes)
    said = (owner.notes, owner.constants, owner.shared_with)
    return (owner.type, owner.module, owner.status, owner.options, *shapes, *said)


def _of_entries(path: str, entries: Sequence[Entry]) -> list[tuple[object, ...]]:
    return [
        (
            *(entry.name, entry.shape, entry.axes, entry.dtype, entry.state, entry.shared_with, entry.note),
            *(_steps_up(path, entry.frozen_by), entry.frozen_at),
        )
        for entry in entries
    ]


def _steps_up(path: str, frozen_by: str | None) -> object:
    """How far above its layer the switch of a frozen weight is: the same in each block that holds its own."""
    if frozen_by and f"{path}/".startswith(f"{frozen_by}/"):
        return path.count("/") - frozen_by.count("/")
    return frozen_by
