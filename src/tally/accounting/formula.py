"""Closed formulas for a number of parameters, found from the names of the weights' axes."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from tally.accounting.ledger import Entry, Owner
from tally.accounting.matching import named_axes
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


Part: TypeAlias = Literal["symbol", "size"]


class Factor(NamedTuple):
    """One dimension in a product.

    Args:
        symbol: How it is called in a formula.
        size: How long it is.
        noun: How it is called in words.
        number: How its size is written, where not as the number it is: `4/2`.
    """

    symbol: str
    size: int
    noun: str = ""
    number: str = ""

    def written(self, part: Part) -> str:
        """The factor as it stands in a formula."""
        return self.symbol if part == "symbol" else self.number or f"{self.size:,}"


Product: TypeAlias = tuple[Factor, ...]


def closed_form(entries: Sequence[Entry], owner: Owner | None = None) -> Formula:
    """Count some weights by one formula, with the axes they share factored out.

    Args:
        entries: The weights, their axes named.
        owner: The layer they belong to; its `groups` are written as the division they are.

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
    groups = _groups(_products(entries, 1 if owner is None else owner.option("groups", 1)))
    alone = len(groups) == 1
    value = sum(entry.size for entry in entries)
    symbols = " + ".join(_render(group, "symbol", alone) for group in groups)
    numbers = " + ".join(_render(group, "size", alone) for group in groups)
    return Formula(symbols=symbols, numbers=equation(numbers, value), value=value)


def _sum_of_scalars(entries: Sequence[Entry]) -> Formula:
    numbers = " + ".join("1" for _ in entries)
    return Formula(
        symbols=" + ".join(entry.name for entry in entries),
        numbers=equation(numbers, len(entries)),
        value=len(entries),
    )


def sum_of_products(entries: Sequence[Entry], owner: Owner) -> Formula:
    """Count weights of which some axes have no names: one product each, with sizes recognised where they can be.

    Nothing is factored out here: that two dimensions are equal doesn't say that they are the same thing.
    """
    products = [_factors(named_axes(entry, owner)) for entry in entries]
    products = _told_apart(products, [entry.name for entry in entries])
    value = sum(entry.size for entry in entries)
    numbers = " + ".join(_times(product, "size", "·") for product in products)
    if len(products) > 1 and any(len(product) > 1 for product in products):
        numbers += " = " + " + ".join(f"{entry.size:,}" for entry in entries)
    named = any(not factor.symbol[:1].isdigit() for product in products for factor in product)
    symbols = " + ".join(_times(product, "symbol", " · ") for product in products) if named else ""
    return Formula(symbols=symbols, numbers=equation(numbers, value), value=value)


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
    several = Counter(kind for (kind, _), names in gathered.items() if names[1:])
    symbols = [
        names[0] if not names[1:] else f"{len(names):,} × {kind if several[kind] == 1 else names[0]}"
        for (kind, _), names in gathered.items()
    ]
    numbers = [
        f"{f'{len(names):,} × ' if names[1:] else ''}{count:,}" for (_, count), names in gathered.items()
    ]
    value = sum(count * len(names) for (_, count), names in gathered.items())
    return Formula(
        symbols=" + ".join(symbols), numbers=equation(" + ".join(numbers) or "0", value), value=value
    )


def sum_of_formulas(formulas: Sequence[Formula]) -> Formula:
    """Write formulas that count one thing together as their sum; what comes several times is gathered.

    Example:
        >>> first = Formula(symbols="3 × channels", numbers="3 × 8 = 24", value=24)
        >>> second = Formula(symbols="units × (features + 1)", numbers="10 × (8 + 1) = 90", value=90)
        >>> sum_of_formulas([first, second]).numbers
        '3·8 + 10 × (8 + 1) = 114'
        >>> sum_of_formulas([first, first]).symbols
        '2 × 3 × channels'
    """
    value = sum(formula.value for formula in formulas)
    several = Counter((formula.symbols, formula.numbers.partition(" = ")[0]) for formula in formulas)
    tight = len(several) > 1
    symbols = [_several(symbols, times, " · " if tight else "") for (symbols, _), times in several.items()]
    numbers = [_several(numbers, times, "·" if tight else "") for (_, numbers), times in several.items()]
    return Formula(
        symbols=" + ".join(symbols) if all(symbols) else "",
        numbers=equation(" + ".join(numbers), value),
        value=value,
    )


def _several(text: str, times: int, dot: str) -> str:
    """Multiply what is written, in parentheses where it is a sum; a plain product beside others is set tightly."""
    text = text.replace(" × ", dot) if dot and "(" not in text else text
    if times == 1 or not text:
        return text
    depth, is_sum = 0, False
    for char in text:
        depth += (char == "(") - (char == ")")
        is_sum |= char == "+" and not depth
    return f"{times:,} × ({text})" if is_sum else f"{times:,} × {text}"


def product_in_words(entry: Entry, owner: Owner) -> str:
    """Say one weight as the product of its axes.

    Example:
        >>> kernel = Entry(path="d/kernel", owner="d", shape=(1600, 10), axes=("features", "units"))
        >>> product_in_words(kernel, Owner(path="d", type="Dense"))
        '1,600 features × 10 units = 16,000'
    """
    words = [
        f"{factor.size:,} {singular(factor.noun) if factor.size == 1 else factor.noun}".rstrip()
        for factor in _factors(named_axes(entry, owner))
    ]
    return equation(" × ".join(words) or "a single number", entry.size)


def one_meaning(entries: Iterable[Entry]) -> bool:
    """Tell whether each name of an axis stands for one size in all these weights, and each axis has a name.

    Example:
        >>> key = Entry(path="k", owner="", shape=(4, 2), axes=("features", "units"))
        >>> value = Entry(path="v", owner="", shape=(6, 2), axes=("features", "units"))
        >>> one_meaning([key, value]), one_meaning([key, key])
        (False, True)
    """
    products = [_factors(entry) for entry in entries]
    return all(factor.noun for product in products for factor in product) and not _ambiguous(products)


def equation(numbers: str, value: int) -> str:
    """Write `numbers = value`, or the value alone where that is all there is."""
    return numbers if numbers == f"{value:,}" else f"{numbers} = {value:,}"


def _products(entries: Sequence[Entry], groups: int) -> list[Product]:
    products = [_divided(_factors(_without_point(entry)), groups) for entry in entries]
    return _told_apart(_multiplied(products), [entry.name for entry in entries])


def _without_point(entry: Entry) -> Entry:
    """Leave out the sides of a 1×1 kernel that mixes what a depthwise one made: their names are that one's."""
    if "depthwise channels" not in entry.axes:
        return entry
    pairs = zip(entry.axes, entry.shape, strict=True)
    kept = [(name, size) for name, size in pairs if size != 1 or not name.startswith("kernel ")]
    return replace(entry, axes=tuple(name for name, _ in kept), shape=tuple(size for _, size in kept))


def _divided(product: Product, groups: int) -> Product:
    """Write the channels that a filter of a group sees as what they are: the input's, shared by the groups."""
    end = " per group"
    return tuple(
        Factor(
            f"{factor.symbol.removesuffix(end)} / groups",
            factor.size,
            factor.noun,
            f"{factor.size * groups:,}/{groups:,}",
        )
        if groups > 1 and factor.symbol.endswith(end)
        else factor
        for factor in product
    )


def _multiplied(products: list[Product]) -> list[Product]:
    """Write the output channels of a depthwise kernel as the product they are, so that they can be factored out."""
    made = [
        tuple(factor for factor in product if factor.symbol in ("input channels", "depth multiplier"))
        for product in products
    ]
    pair = next((found for found in made if len(found) == 2), None)
    if pair is None:
        return products
    size = pair[0].size * pair[1].size
    return [
        tuple(
            part
            for factor in product
            for part in (pair if (factor.symbol, factor.size) == ("output channels", size) else (factor,))
        )
        for product in products
    ]


def _ambiguous(products: Iterable[Product]) -> set[str]:
    """The symbols that stand for more than one size."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for product in products:
        for factor in product:
            sizes[factor.symbol].add(factor.size)
    return {symbol for symbol, found in sizes.items() if len(found) > 1}


def _told_apart(products: list[Product], names: Sequence[str]) -> list[Product]:
    """Say whose axis is meant where one name stands for several sizes: `features of key`."""
    unclear = _ambiguous(products)
    return [
        tuple(
            factor._replace(symbol=f"{factor.symbol} of {name}") if factor.symbol in unclear else factor
            for factor in product
        )
        for product, name in zip(products, names, strict=True)
    ]


def _factors(entry: Entry) -> Product:
    """Split a weight into factors: `2 biases·4 gates·units` is 2, 4 and units; `broadcast` of size 1 is none."""
    found: list[Factor] = []
    for name, size in zip(entry.axes, entry.shape, strict=True):
        if name == "broadcast" and size == 1:
            continue
        numbers, name, size = _split(name, size)
        found += numbers
        if name.startswith("("):  # a size that may be one of several things is called by its number
            found.append(Factor(f"{size:,}", size, name))
        else:
            found.append(Factor(name or f"{size:,}", size, name))
    return tuple(found)


def _split(name: str, size: int) -> tuple[list[Factor], str, int]:
    """The numbers in the name of an axis, such as that of gates, what is left of the name, and its size."""
    *several, last = re.split(r"\s*[·×*]\s*", name)
    found: list[Factor] = []
    rest = size
    for one in several:
        counted = re.fullmatch(r"([1-9]\d{0,8})\s*(.*)", one)
        if counted is None or rest % int(counted[1]):
            return [], name, size
        rest //= int(counted[1])
        found.append(Factor(counted[1], int(counted[1]), counted[2]))
    return found, last, rest


def _groups(products: Sequence[Product]) -> list[list[Product]]:
    """Gather products which share an axis that one of them ends in: the axis of what the layer makes.

    Sharing any other axis is a coincidence of the inside (a depthwise and a pointwise kernel both meet
    the input channels), and factoring it out would hide how the layer works.
    """
    lasts = list(dict.fromkeys(product[-1:] for product in products))
    if any(last and all(last[0] in product for product in products) for last in lasts):
        return [list(products)]
    return [[product for product in products if product[-1:] == last] for last in lasts]


def _render(group: Sequence[Product], part: Part, alone: bool) -> str:
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
    front = ([f"{times:,}"] if times > 1 else []) + [factor.written(part) for factor in common]
    if set(rests) == {()}:
        return " × ".join(front)
    inner = " + ".join(_term(rest, count // times, part) for rest, count in rests.items())
    return " × ".join([*front, f"({inner})"])


def _without(product: Product, shared: Counter[Factor]) -> Product:
    """Take the shared factors out; say input channels before the sides of a kernel, as books do, a quotient last."""
    left, rest = Counter(shared), list[Factor]()
    for factor in reversed(product):
        if left[factor]:
            left[factor] -= 1
        else:
            rest.insert(0, factor)
    return tuple(sorted(rest, key=_rank))


def _rank(factor: Factor) -> int:
    return 2 if factor.number else 1 if factor.symbol.startswith("kernel ") else 0


def _term(rest: Product, count: int, part: Part) -> str:
    dot = "·" if part == "size" else " · "
    several = (Factor(f"{count:,}", count),) if count > 1 or not rest else ()
    return _times((*several, *rest), part, dot)


def _times(product: Product, part: Part, sign: str) -> str:
    return sign.join(factor.written(part) for factor in product) or "1"
