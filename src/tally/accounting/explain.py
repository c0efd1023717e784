"""Why every number in a ledger is what it is: a formula, the weights one by one, and the reasons in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tally.accounting.formula import Formula, closed_form, product_in_words, sum_of_parts, sum_of_products
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, State
from tally.accounting.reasons import Remark, reasons
from tally.accounting.window import each_side

Entries: TypeAlias = Sequence[Entry]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A whole ledger explained.

    Args:
        name: The model's name.
        formula: The total as the sum of the outermost layers.
        owners: Each layer's explanation, in the ledger's order.
    """

    name: str
    formula: Formula
    owners: tuple[OwnerExplanation, ...]

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


def explain(ledger: Ledger) -> Explanation:
    """Explain every layer of a ledger.

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
    return Explanation(
        name=ledger.name,
        formula=sum_of_parts(_parts(ledger, "")),
        owners=tuple(_explain_owner(ledger, owner) for owner in ledger.owners),
    )


def _explain_owner(ledger: Ledger, owner: Owner) -> OwnerExplanation:
    entries = ledger.owned_by(owner.path)
    return OwnerExplanation(
        path=owner.path,
        name=owner.name,
        type=owner.type,
        count=_total(ledger.under(owner.path)),
        formula=_formula(ledger, owner, _counted(ledger, owner)),
        expected=_expected(owner) if owner.status == "unbuilt" and not entries else None,
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
        remarks=reasons(owner, ledger),
        origin=owner.origin,
    )


def _parts(ledger: Ledger, path: str) -> Iterator[tuple[str, str, int]]:
    """Give the name, kind and count of each layer directly inside one, after what it owns itself."""
    yield "own weights", "own weights", _total(ledger.owned_by(path))
    for child in ledger.children(path):
        yield child.path.removeprefix(f"{path}/"), child.type, _total(ledger.under(child.path))


def _counted(ledger: Ledger, owner: Owner) -> list[Entry]:
    own = ledger.owned_by(owner.path)
    return [entry for entry in own if entry.state in COUNTED and entry.shared_with is None]


def _total(entries: Entries) -> int:
    return sum(entry.count for entry in entries if entry.state in COUNTED)


def _formula(ledger: Ledger, owner: Owner, counted: list[Entry]) -> Formula | None:
    if ledger.children(owner.path):
        bearing = [child for child in ledger.children(owner.path) if _total(ledger.under(child.path))]
        if len(bearing) == 1 and not counted:  # a wrapper's count is that of what it wraps
            return _formula(ledger, bearing[0], _counted(ledger, bearing[0]))
        return sum_of_parts(_parts(ledger, owner.path)) if bearing or counted else None
    if not counted:
        return None
    if any(entry.shape and not any(entry.axes) for entry in counted):
        return sum_of_products(counted, owner)
    return closed_form(counted)


def _expected(owner: Owner) -> str | None:
    """Give the formula of a layer that isn't built, with its options put in and only its input left open."""
    bias = " + 1" if owner.option("use_bias", True) else ""
    kernel, filters, units = owner.option("kernel_size"), owner.option("filters"), owner.option("units")
    if kernel is not None and filters is not None and "Separable" not in owner.type:
        sides = "·".join(f"{side:,}" for side in each_side(kernel, 1))
        groups = owner.option("groups", 1)
        channels = "input channels" if groups == 1 else f"input channels / {groups:,}"
        return f"{filters:,} × ({channels} · {sides}{bias})"
    if owner.type == "Dense" and units is not None:
        return f"{units:,} × (features + 1)" if bias else f"{units:,} × features"
    return None
