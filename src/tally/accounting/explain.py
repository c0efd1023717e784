"""Why every number in a ledger is what it is: a formula, the weights one by one, and the reasons in words."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tally.accounting.alike import likenesses
from tally.accounting.expected import expected
from tally.accounting.formula import (
    Formula,
    closed_form,
    one_meaning,
    product_in_words,
    sum_of_formulas,
    sum_of_parts,
    sum_of_products,
)
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State
from tally.accounting.place import locate
from tally.accounting.reasons import reasons
from tally.accounting.remark import Remark
from tally.accounting.shapes import Sources, sources
from tally.accounting.words import inside, plural

EXPLANATION_VERSION = 1
"""Of the data that `Explanation.to_json` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightExplanation:
    """One parameter array as the product of its axes.

    Args:
        path: The path of its entry.
        name: What its owner calls it.
        product: Such as `"1,600 features × 10 units = 16,000"`.
        state: What training does with it.
        count: What it adds to the sum.
    """

    path: str
    name: str
    product: str
    state: State
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerExplanation:
    """Why one layer has as many parameters as it has.

    Args:
        path: The path of the layer; `""` is the model itself.
        name: Its name.
        type: Its class.
        count: All its parameters, those of the layers inside it included.
        formula: How the count comes about; None where the layer has none.
        expected: What the count will be by as much as can be told of a layer that isn't built.
        weights: Its own parameter arrays, without what random generators and optimizers keep.
        remarks: The reasons in words.
        origin: The line that made it.
        like: The path of the first layer that is the same but for its name; None if it is the first itself.
    """

    path: str
    name: str
    type: str
    count: int
    formula: Formula | None
    expected: str | None
    weights: tuple[WeightExplanation, ...]
    remarks: tuple[Remark, ...]
    origin: str | None
    like: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation:
    """A whole ledger, or one layer of it, explained.

    Args:
        name: The model's name.
        formula: The total as the sum of the outermost layers, or that of the one layer.
        owners: Each layer's explanation, in the ledger's order.
        layer: The path of the layer that alone was asked for; None where all are explained.
        source: Where the ledger was read from.
    """

    name: str
    formula: Formula
    owners: tuple[OwnerExplanation, ...]
    layer: str | None = None
    source: str = "tally model"

    def __repr__(self) -> str:
        """One line: the text has been shown already."""
        of = f"{self.layer!r} in {self.name!r}" if self.layer else repr(self.name)
        return (
            f"<Explanation of {of}: {plural(self.total, 'parameter')}, {plural(len(self.owners), 'layer')}>"
        )

    @property
    def total(self) -> int:
        """The number of parameters."""
        return self.formula.value

    def __getitem__(self, path: str) -> OwnerExplanation:
        """Return the explanation of the layer at a path.

        Raises:
            KeyError: There is none.
        """
        for owner in self.owners:
            if owner.path == path:
                return owner
        raise KeyError(path)

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the explanation as JSON under a versioned schema, its keys always in the same order."""
        document: dict[str, Any] = {
            "schema_version": EXPLANATION_VERSION,
            "kind": "explanation",
            "name": self.name,
            "layer": self.layer,
            "total": self.total,
            "formula": asdict(self.formula),
            "layers": [asdict(owner) for owner in self.owners],
        }
        return json.dumps(document, indent=indent, ensure_ascii=False)


def explain(ledger: Ledger, layer: str | None = None) -> Explanation:
    """Explain every layer of a ledger, or one and the layers inside it.

    Args:
        ledger: What to explain.
        layer: The path of a layer, its name, or the end of its path where that is enough.

    Raises:
        ValueError: There is no such layer, or there are several.

    Example:
        >>> axes = ("kernel height", "kernel width", "input channels", "filters")
        >>> ledger = Ledger(
        ...     name="tiny",
        ...     owners=(Owner(path="conv2d", type="Conv2D"),),
        ...     entries=(
        ...         Entry(path="conv2d/kernel", owner="conv2d", shape=(3, 3, 1, 32), axes=axes),
        ...         Entry(path="conv2d/bias", owner="conv2d", shape=(32,), axes=("filters",)),
        ...     ),
        ... )
        >>> explain(ledger)["conv2d"].formula.numbers
        '32 × (1·3·3 + 1) = 320'
    """
    place = "" if layer is None else locate(ledger, layer)
    book = _Book(ledger, _counts(ledger), sources(ledger), likenesses(ledger))
    chosen = [owner for owner in ledger.owners if not place or f"{owner.path}/".startswith(f"{place}/")]
    owners = tuple(_explain_owner(book, owner) for owner in chosen)
    if not place:
        whole = sum_of_parts(_parts(book, ""))
        return Explanation(name=ledger.name, formula=whole, owners=owners, source=ledger.source)
    nothing = Formula(symbols="", numbers="0", value=0)
    one = owners[0].formula or nothing
    return Explanation(name=ledger.name, formula=one, owners=owners, layer=place, source=ledger.source)


@dataclass(frozen=True, slots=True)
class _Book:
    """A ledger with what was found out about it once for all its layers."""

    ledger: Ledger
    counts: Mapping[str, int]
    came: Sources
    alike: Mapping[str, str]


def _counts(ledger: Ledger) -> dict[str, int]:
    """The parameters of each layer, those inside it included."""
    counts: dict[str, int] = {}
    for owner in reversed(ledger.owners):  # a layer stands before those inside it
        inner = sum(counts[layer.path] for layer in ledger.children(owner.path) if owner.path)
        counts[owner.path] = _total(ledger.owned_by(owner.path)) + inner
    counts[""] = ledger.total
    return counts


def _explain_owner(book: _Book, owner: Owner) -> OwnerExplanation:
    ledger = book.ledger
    entries = ledger.owned_by(owner.path)
    return OwnerExplanation(
        path=owner.path,
        name=owner.name,
        type=owner.type,
        count=book.counts[owner.path],
        formula=_formula(book, owner),
        expected=expected(owner) if owner.status == "unbuilt" and not _counted(ledger, owner) else None,
        weights=tuple(
            WeightExplanation(
                path=entry.path,
                name=entry.name,
                product=product_in_words(entry, owner),
                state=entry.state,
                count=entry.count,
            )
            for entry in entries
            if entry.state not in ("seed", "optimizer")
        ),
        remarks=reasons(owner, ledger, book.came),
        origin=owner.origin,
        like=book.alike.get(owner.path),
    )


def _parts(book: _Book, path: str) -> Iterator[tuple[str, str, int]]:
    """Give the name, kind and count of each layer directly inside one, after what it owns itself."""
    yield "own weights", "own weights", _total(book.ledger.owned_by(path))
    for child in book.ledger.children(path):
        yield child.path.removeprefix(f"{path}/"), child.type, book.counts[child.path]


def _counted(ledger: Ledger, owner: Owner) -> list[Entry]:
    own = ledger.owned_by(owner.path)
    return [entry for entry in own if entry.state in COUNTED and entry.shared_with is None]


def _total(entries: Sequence[Entry]) -> int:
    return sum(entry.count for entry in entries if entry.state in COUNTED)


def _formula(book: _Book, owner: Owner) -> Formula | None:
    counted = _counted(book.ledger, owner)
    if not book.ledger.children(owner.path):
        return _own_formula(counted, owner) if counted else None
    bearing = [child for child in book.ledger.children(owner.path) if book.counts[child.path]]
    if len(bearing) == 1 and not counted:  # a wrapper's count is that of what it wraps
        return _formula(book, bearing[0])
    if not bearing and not counted:
        return None
    if owner.builtin and inside(owner.type):
        whole = [entry for entry in book.ledger.under(owner.path) if entry.count and entry.state in COUNTED]
        if one_meaning(whole):
            own = [_own_formula(counted, owner)] if counted else []
            inner = [_formula(book, child) for child in bearing]
            return sum_of_formulas([*own, *(formula for formula in inner if formula is not None)])
        return sum_of_parts((name, name, count) for name, _, count in _parts(book, owner.path))
    return sum_of_parts(_parts(book, owner.path))


def _own_formula(counted: Sequence[Entry], owner: Owner) -> Formula:
    if any(entry.shape and not all(entry.axes) for entry in counted):
        return sum_of_products(counted, owner)
    return closed_form(counted, owner)
