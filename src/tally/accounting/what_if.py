"""The same layer made otherwise, side by side: parameters, multiply-adds, output, and what it does to the model."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tally.accounting.explain import explain
from tally.accounting.formula import Formula, sum_of_formulas
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, Shape
from tally.accounting.words import inside, plural
from tally.accounting.work import total_multiply_adds

WHAT_IF_VERSION = 1
"""Of the data that `WhatIf.to_json` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another layer of the model that comes to another count.

    Args:
        path: Its path.
        type: Its class.
        before: Its own parameters in the model as it is.
        after: The same with the variant in place; None where the layer is gone.
        formula: How the new count comes about, in numbers.
    """

    path: str
    type: str
    before: int
    after: int | None
    formula: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A layer made in one way.

    Args:
        name: What it is called, such as `"separable"` or `"filters=64"`.
        what: What it is, in words; empty where the name says all.
        layers: What it is built of, one class after the other.
        parameters: How many it has; None where it can't be built.
        formula: How they come about; None where it has none or can't be built.
        multiply_adds: For one example; None where that can't be told.
        output_shapes: The batch first.
        total: The model's parameters with it in place; None where there is no model, or it can't be built.
        changes: The other layers of the model whose counts change.
        problem: Why it can't be built.
        note: What else the reader should know: why the model can't be built with it, or isn't there to be.
    """

    name: str
    what: str
    layers: tuple[str, ...] = ()
    parameters: int | None = None
    formula: Formula | None = None
    multiply_adds: int | None = None
    output_shapes: tuple[Shape, ...] = ()
    total: int | None = None
    changes: tuple[Change, ...] = ()
    problem: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WhatIf:
    """A layer as it is, and what it might be instead.

    Args:
        name: The model's name, or the layer's own where it stands alone.
        path: The layer's place in the model; `""` where it stands alone.
        type: Its class.
        input_shapes: What it reads, the batch first.
        variants: The layer as it is, then what it might be.
    """

    name: str
    path: str
    type: str
    input_shapes: tuple[Shape, ...]
    variants: tuple[Variant, ...]

    def __repr__(self) -> str:
        """One line: the table has been shown already."""
        of = f"{self.path!r} in {self.name!r}" if self.path else repr(self.name)
        return f"<WhatIf of {of}: {plural(len(self.variants) - 1, 'variant')} of {self.type}>"

    @property
    def as_it_is(self) -> Variant:
        """The layer as it is."""
        return self.variants[0]

    def __getitem__(self, name: str) -> Variant:
        """Return the variant of a name.

        Raises:
            KeyError: There is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)

    def ratio(self, variant: Variant) -> float | None:
        """A variant's parameters for each of the layer's own; None where either has none to compare."""
        whole = self.as_it_is.parameters
        return variant.parameters / whole if whole and variant.parameters is not None else None

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the comparison as JSON under a versioned schema, its keys always in the same order."""
        document: dict[str, Any] = {"schema_version": WHAT_IF_VERSION, "kind": "what-if", **asdict(self)}
        document["variants"] = [
            {**asdict(variant), "ratio": self.ratio(variant)} for variant in self.variants
        ]
        return json.dumps(document, indent=indent, ensure_ascii=False)


def weigh(name: str, what: str, alone: Ledger) -> Variant:
    """Take the figures of a variant from the ledger of what was built.

    Args:
        name: What it is called.
        what: What it is, in words.
        alone: The ledger of the layer, or of the layers that stand in its place, built for its input.

    Example:
        >>> layer = tally.layers.Conv2D(10, 4)
        >>> _ = layer(tally.Input((32, 32, 3)))
        >>> variant = weigh("as it is", "", tally.account(layer))
        >>> variant.parameters, variant.multiply_adds, variant.output_shapes
        (490, 403680, ((None, 29, 29, 10),))
    """
    top = alone.owners[0]
    parts = [owner for owner in alone.children("") if owner.type != "InputLayer"]
    stacked = top.type in ("Functional", "Sequential") and top.builtin
    return Variant(
        name=name,
        what=what,
        layers=tuple(owner.type for owner in parts) if stacked else (top.type,),
        parameters=alone.total,
        formula=_formula(alone, [owner.path for owner in parts] if stacked else [""]),
        multiply_adds=total_multiply_adds(alone),
        output_shapes=top.output_shapes,
    )


def _formula(alone: Ledger, paths: Iterable[str]) -> Formula | None:
    """Add up the closed formulas of layers one after the other."""
    explained = explain(alone)
    formulas = [explained[path].formula for path in paths]
    known = [formula for formula in formulas if formula is not None]
    return sum_of_formulas(known) if known else None


def in_place(variant: Variant, path: str, before: Ledger, after: Ledger | None) -> Variant:
    """Say what a variant does to its model.

    Args:
        variant: What stands in place of the layer at `path`.
        path: The layer's place.
        before: The model as it is.
        after: The model built with it; None where what follows sees the same shapes, so that only the layer's own
            parameters change.
    """
    if after is None:
        own = sum(entry.count for entry in before.under(path) if entry.state in COUNTED)
        total = before.total - own + (variant.parameters or 0)
        return replace(variant, total=total)
    return replace(variant, total=after.total, changes=tuple(_changes(path, before, after)))


def _changes(path: str, before: Ledger, after: Ledger) -> Iterator[Change]:
    """Every layer outside the changed one that comes to another number of weights than it did."""
    left = {owner.path for owner in after.owners}
    explained = {owner.path: owner for owner in explain(after).owners}
    for owner in _units(before, ""):
        if f"{owner.path}/".startswith(f"{path}/") or f"{path}/".startswith(f"{owner.path}/"):
            continue  # the layer, what is inside it, and what it is inside of
        old = sum(entry.count for entry in before.under(owner.path) if entry.state in COUNTED)
        new = explained[owner.path].count if owner.path in left else None
        if old != new and (old or new):
            formula = explained[owner.path].formula if new else None
            numbers = formula.numbers if formula is not None else ""
            yield Change(path=owner.path, type=owner.type, before=old, after=new, formula=numbers)


def _units(ledger: Ledger, path: str) -> Iterator[Owner]:
    """The layers that count by a formula of their own: what an LSTM is made of is the LSTM's affair."""
    for owner in ledger.children(path):
        if not ledger.children(owner.path) or (owner.builtin and inside(owner.type)):
            yield owner
        else:
            yield from _units(ledger, owner.path)


def read_shape(owner: Owner, entries: Iterable[Entry]) -> Shape | None:
    """Tell from a layer's weights alone what it reads, the batch first and open sizes as None.

    Args:
        owner: The layer, of which no input was seen: the account of a file of weights knows none.
        entries: Its weights, with their axes named.

    Returns:
        The shape; None where no weight says how much goes in, as in a normalisation or a layer of unknown kind.

    Example:
        >>> kernel = Entry(path="d/kernel", owner="d", shape=(10, 5), axes=("features", "units"))
        >>> read_shape(Owner(path="d", type="Dense"), [kernel])
        (None, 10)
    """
    for entry in entries:
        sizes = dict(zip(entry.axes, entry.shape, strict=True))
        if owner.type == "Dense" and {"features", "units"} == set(sizes):
            return (None, sizes["features"])
        if owner.type == "Embedding" and "tokens" in sizes:
            return (None, None)
        sides = [None for name in sizes if name.startswith("kernel ")]
        channels = next((name for name in sizes if name.startswith("input channels")), None)
        if sides and channels is not None:
            read = sizes[channels] * (owner.option("groups", 1) if "per group" in channels else 1)
            first = owner.option("data_format") == "channels_first"
            return (None, read, *sides) if first else (None, *sides, read)
    return None


def stands_apart(ledger: Ledger, path: str) -> bool:
    """Tell whether no weight of the layer is used elsewhere in the model, and it uses none of another.

    Only then does exchanging it leave all other counts as they are wherever the shapes are the same.
    """
    inside = {entry.path for entry in ledger.under(path)}
    return all(
        entry.shared_with is None or (entry.path in inside) == (entry.shared_with in inside)
        for entry in ledger.entries
    ) and not any(
        owner.shared_with == path or (owner.path == path and owner.shared_with) for owner in ledger.owners
    )
