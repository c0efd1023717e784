"""Closed formulas for a number of parameters, found from the names of the weights' axes."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tally.accounting.ledger import Entry, Owner
from tally.accounting.words import singular


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A count, once in symbols and once in numbers.

    Args:
        symbols: Such as `"units × (features + 1)"`; empty where nothing has a name.
        numbers: Such as `"10 × (1,600 + 1) = 16,010"`.
        value: What it comes to.
    """

    symbols: str
    numbers: str
    value: int


class Factor(NamedTuple):
    """One dimension in a product: its symbol in a formula, how long it is, and its noun in words."""

    symbol: str
    size: int
    noun: str = ""


Product = tuple[Factor, ...]


def closed_form(entries: Sequence[Entry]) -> Formula:
    """Count some weights by one formula, with the axes they share factored out.

    Example:
        >>> axes = ("kernel height", "kernel width", "input channels", "filters")
        >>> kernel = Entry(path="c/kernel", owner="c", shape=(4, 4, 3, 10), axes=axes)
        >>> bias = Entry(path="c/bias", owner="c", shape=(10,), axes=("filters",))
        >>> closed_form([kernel, bias]).symbols
        'filters × (input channels · kernel height · kernel width + 1)'
        >>> closed_form([kernel, bias]).numbers
        '10 × (3·4·4 + 1) = 490'
    """
    if not any(entry.shape for entry in entries):
        return _sum_of_scalars(entries)
    groups = _groups([_factors(entry) for entry in entries])
    alone = len(groups) == 1
    value = sum(entry.size for entry in entries)
    symbols = " + ".join(_render(group, "symbol", alone) for group in groups)
    numbers = " + ".join(_render(group, "size", alone) for group in groups)
    return Formula(symbols=symbols, numbers=_equation(numbers, value), value=value)


def _sum_of_scalars(entries: Sequence[Entry]) -> Formula:
    numbers = " + ".join("1" for _ in entries)
    return Formula(
        symbols=" + ".join(entry.name for entry in entries),
        numbers=_equation(numbers, len(entries)),
        value=len(entries),
    )


def sum_of_products(entries: Sequence[Entry], owner: Owner) -> Formula:
    """Count weights whose axes have no names: one product each, with dimensions recognised where they can be.

    Nothing is factored out here: that two dimensions are equal doesn't say that they are the same thing.
    """
    products = [_recognised(entry, owner) for entry in entries]
    value = sum(entry.size for entry in entries)
    numbers = " + ".join(_times(product, "size", "·") for product in products)
    if len(products) > 1 and any(len(product) > 1 for product in products):
        numbers += " = " + " + ".join(f"{entry.size:,}" for entry in entries)
    named = any(not factor.symbol[:1].isdigit() for product in products for factor in product)
    symbols = " + ".join(_times(product, "symbol", " · ") for product in products) if named else ""
    return Formula(symbols=symbols, numbers=_equation(numbers, value), value=value)


def sum_of_parts(parts: Iterable[tuple[str, str, int]]) -> Formula:
    """Add up parts, each with its name, its kind and its count; equal ones of a kind are gathered.

    Example:
        >>> parts = [("embedding", "Embedding", 100), ("blocks/0", "Block", 40), ("blocks/1", "Block", 40)]
        >>> sum_of_parts(parts).symbols, sum_of_parts(parts).numbers
        ('embedding + 2 × Block', '100 + 2 × 40 = 180')
    """
    gathered: dict[tuple[str, int], list[str]] = {}
    for name, kind, count in parts:
        if count:
            gathered.setdefault((kind, count), []).append(name)
    symbols = [
        names[0] if len(names) == 1 else f"{len(names):,} × {kind}" for (kind, _), names in gathered.items()
    ]
    numbers = [
        f"{f'{len(names):,} × ' if names[1:] else ''}{count:,}" for (_, count), names in gathered.items()
    ]
    value = sum(count * len(names) for (_, count), names in gathered.items())
    return Formula(
        symbols=" + ".join(symbols), numbers=_equation(" + ".join(numbers) or "0", value), value=value
    )


def product_in_words(entry: Entry, owner: Owner) -> str:
    """Say one weight as the product of its axes.

    Example:
        >>> kernel = Entry(path="d/kernel", owner="d", shape=(1600, 10), axes=("features", "units"))
        >>> product_in_words(kernel, Owner(path="d", type="Dense"))
        '1,600 features × 10 units = 16,000'
    """
    words = [
        f"{size:,} {singular(noun) if size == 1 else noun}".rstrip()
        for _, size, noun in _recognised(entry, owner)
    ]
    return _equation(" × ".join(words) or "a single number", entry.size)


def _equation(numbers: str, value: int) -> str:
    return numbers if numbers == f"{value:,}" else f"{numbers} = {value:,}"


def _factors(entry: Entry) -> Product:
    """Split a weight into factors: `4 gates·units` is the two factors 4 and units, `broadcast` of size 1 is none."""
    found: list[Factor] = []
    for name, size in zip(entry.axes, entry.shape, strict=True):
        if name == "broadcast" and size == 1:
            continue
        several = re.fullmatch(r"(\d+)\s*([^·×*]*?)\s*[·×*]\s*(.+)", name)
        if several and size % int(several[1]) == 0:
            times = int(several[1])
            found += [Factor(str(times), times, several[2]), Factor(several[3], size // times, several[3])]
        else:
            found.append(Factor(name or f"{size:,}", size, name))
    return tuple(found)


def _recognised(entry: Entry, owner: Owner) -> Product:
    """Name unnamed dimensions after an equal option of the owner or an equal axis of its input."""
    options = {value: name for name, value in reversed(owner.options) if type(value) is int and value > 1}
    inputs: dict[int, str] = {}
    for shape in owner.input_shapes[:1]:
        last = len(shape) - 1
        for axis, size in enumerate(shape):
            if axis and size is not None and size > 1:
                inputs[size] = "input features" if axis == last else f"input axis {axis}"
    found: list[Factor] = []
    for place, factor in enumerate(_factors(entry)):
        # A weight ends in what its layer makes and begins with what it reads: that tells equal sizes apart.
        first, second = (options, inputs) if place == len(entry.shape) - 1 else (inputs, options)
        unnamed = not any(entry.axes)
        guess = first.get(factor.size) or second.get(factor.size) if unnamed else None
        found.append(Factor(guess, factor.size, guess) if guess else factor)
    return tuple(found)


def _groups(products: Sequence[Product]) -> list[list[Product]]:
    """Gather products which share an axis that one of them ends in: the axis of what the layer makes.

    Sharing any other axis is a coincidence of the inside (a depthwise and a pointwise kernel both meet
    the input channels), and factoring it out would hide how the layer works.
    """
    lasts = list(dict.fromkeys(product[-1:] for product in products))
    if any(last and all(last[0] in product for product in products) for last in lasts):
        return [list(products)]
    return [[product for product in products if product[-1:] == last] for last in lasts]


def _render(group: Sequence[Product], part: str, alone: bool) -> str:
    """Write a group as `times × common × (rest + rest + 1)`."""
    if len(group) == 1:
        return _times(group[0], part, " × " if alone else "·" if part == "size" else " · ")
    shortest = min(group, key=len)
    shared = Counter(shortest)
    for product in group:
        shared &= Counter(product)
    common = tuple(factor for factor in dict.fromkeys(shortest) for _ in range(shared[factor]))
    rests = Counter(_without(product, shared) for product in group)
    times = math.gcd(*rests.values())
    front = ([f"{times:,}"] if times > 1 else []) + [_times((factor,), part, "") for factor in common]
    if set(rests) == {()}:
        return " × ".join(front)
    inner = " + ".join(_term(rest, count // times, part) for rest, count in rests.items())
    return " × ".join([*front, f"({inner})"])


def _without(product: Product, shared: Counter[Factor]) -> Product:
    """Take the shared factors out; say input channels before the sides of a kernel, as books do."""
    left, rest = Counter(shared), list[Factor]()
    for factor in reversed(product):
        if left[factor]:
            left[factor] -= 1
        else:
            rest.insert(0, factor)
    return tuple(sorted(rest, key=lambda factor: factor.symbol.startswith("kernel ")))


def _term(rest: Product, count: int, part: str) -> str:
    dot = "·" if part == "size" else " · "
    several = (Factor(f"{count:,}", count),) if count > 1 or not rest else ()
    return _times((*several, *rest), part, dot)


def _times(product: Product, part: str, sign: str) -> str:
    return sign.join(factor.symbol if part == "symbol" else f"{factor.size:,}" for factor in product) or "1"
