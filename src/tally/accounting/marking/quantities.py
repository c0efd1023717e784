"""Every quantity of a ledger that has a name: what it is, and how it comes about."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from tally.accounting.dialect import dialect
from tally.accounting.explain import Explanation, explain
from tally.accounting.formula import Formula, closed_form, product_in_words, sum_of_parts, sum_of_products
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, Shape, State, bits
from tally.accounting.marking.asking import Kind, Quantity
from tally.accounting.naming import inside, owner_at
from tally.accounting.window import output_arithmetic
from tally.accounting.words import instead, listed, plural

STATES: dict[Kind, tuple[State, ...]] = {
    "parameters": COUNTED,
    "trainable": ("trainable",),
    "non_trainable": ("frozen", "state"),
    "frozen": ("frozen",),
    "state": ("state",),
    "seeds": ("seed",),
    "optimizer": ("optimizer",),
    "untracked": ("untracked",),
}
"""The sums of weights by what training does with them."""

NOUNS: dict[Kind, str] = {
    "parameters": "parameters",
    "trainable": "trainable parameters",
    "non_trainable": "non-trainable parameters",
    "frozen": "frozen parameters",
    "state": "state parameters",
    "seeds": "random state numbers",
    "optimizer": "optimizer numbers",
    "untracked": "untracked numbers",
}
"""What they are called."""


LONGEST_SUM = 160
"""Characters of a formula that are shown; `explain` shows the sum of a model with a hundred layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A quantity of a ledger.

    Args:
        quantity: Which one.
        says: It in words: `"It has 320 parameters"`.
        number: As a number; None where it can't be told.
        sizes: As a shape, the batch first in inputs and outputs; None where it has none.
        numbers: How it comes about, in numbers: `"32 × (1·3·3 + 1) = 320"`.
        symbols: The same in symbols, where there are some.
        reason: Why it is so, or why it can't be told, in words.
        expected: For a layer that isn't built, the formula of its count with the input left open.
    """

    quantity: Quantity
    says: str
    number: int | None
    sizes: Shape | None = None
    numbers: str = ""
    symbols: str = ""
    reason: str = ""
    expected: str = ""

    @property
    def sentence(self) -> str:
        """It in words, with how it comes about."""
        numbers = self.numbers if len(self.numbers) <= LONGEST_SUM else "the sum of many layers"
        why = "; ".join(filter(None, (numbers, self.reason)))
        return f"{self.says}{': ' if why else ''}{why}."


@dataclass(frozen=True)
class Quantities:
    """The quantities of one ledger, each found when asked for.

    Args:
        ledger: The model's ledger.

    Example:
        >>> from tally.accounting.marking.asking import locate
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> ledger = tally.account(model)
        >>> Quantities(ledger).fact(locate(ledger, "conv2d")).sentence
        'It has 320 parameters: 32 × (1·3·3 + 1) = 320.'
        >>> Quantities(ledger).fact(locate(ledger, "conv2d.output")).sizes
        (None, 26, 26, 32)
    """

    ledger: Ledger

    @cached_property
    def _explanation(self) -> Explanation:
        return explain(self.ledger)

    @cached_property
    def _formulas(self) -> dict[str, Formula | None]:
        return {"": self._explanation.formula} | {
            owner.path: owner.formula for owner in self._explanation.owners
        }

    def owner(self, path: str) -> Owner:
        """The layer at a path."""
        return owner_at(self.ledger, path)

    def fact(self, quantity: Quantity) -> Fact:
        """Find a quantity, with how it comes about."""
        if quantity.kind in STATES:
            return _sum(self, quantity)
        return _FACTS[quantity.kind](self, quantity)

    def entries(self, path: str, kind: Kind = "parameters") -> list[Entry]:
        """The weights that make up a sum, with those of the layers inside."""
        return [entry for entry in self.ledger.under(path) if entry.state in STATES[kind]]

    def count(self, path: str, kind: Kind = "parameters") -> int:
        """How many numbers they hold, those counted elsewhere left out."""
        return sum(entry.count for entry in self.entries(path, kind))

    def waiting(self, path: str) -> list[Owner]:
        """The layers at a path and below that are not built."""
        return [
            owner
            for owner in inside(self.ledger, path)
            if owner.status == "unbuilt"
            and not any(child.status == "unbuilt" for child in self.ledger.children(owner.path))
        ]

    def formula(self, path: str, kind: Kind = "parameters") -> Formula | None:
        """How a sum comes about: of one layer's weights in closed form, of several layers as their sum."""
        counted = [entry for entry in self.entries(path, kind) if entry.count]
        if counted == [entry for entry in self.entries(path) if entry.count]:
            whole = self._formulas.get(path)
            bearing = [child for child in self.ledger.children(path) if self.count(child.path, kind)]
            alone = whole is not None and "=" not in whole.numbers and len(bearing) == 1
            return self.formula(bearing[0].path, kind) if alone else whole
        if not counted or kind == "optimizer":
            return None
        if len({entry.owner for entry in counted}) == 1:
            if any(entry.shape and not any(entry.axes) for entry in counted):
                return sum_of_products(counted, self.owner(counted[0].owner))
            return closed_form(counted)
        own = sum(entry.count for entry in counted if entry.owner == path)
        inner = [
            (child.path.removeprefix(f"{path}/"), child.type, self.count(child.path, kind))
            for child in self.ledger.children(path)
        ]
        return sum_of_parts([("own weights", "own weights", own), *inner])

    def expected(self, path: str) -> str:
        """The formula that the count of an unbuilt layer will follow; empty where it isn't known."""
        return next((owner.expected or "" for owner in self._explanation.owners if owner.path == path), "")


def it(known: Quantities, path: str, *, own: bool = False) -> str:
    """How a sentence begins: with `It`, or `The model` where that is meant; `Its` and `The model's` if `own`."""
    whole = not path and bool(known.ledger.children("")) and "layer" not in known.ledger.source
    return ("The model's" if whole else "Its") if own else ("The model" if whole else "It")


def weightless(known: Quantities, owner: Owner) -> str:
    """Why a layer has no parameters of its own, in words; empty where nothing is known.

    Example:
        >>> weightless(Quantities(Ledger(name="m")), Owner(path="pool", type="MaxPooling2D"))
        'it takes the largest value in each window'
    """
    if owner.shared_with is not None:
        return f"it is '{owner.shared_with}' used again, which counts them"
    shared = [str(entry.shared_with) for entry in known.entries(owner.path) if entry.shared_with is not None]
    if shared:
        return f"it uses {listed([repr(path) for path in shared])}, counted there"
    if lost := [entry.name for entry in known.entries(owner.path, "untracked")]:
        act, are = ("acts as a weight", "is none") if len(lost) == 1 else ("act as weights", "are none")
        return f"{listed(lost)} {act} but {are}, so nothing counts, trains or saves {_them(lost)}"
    if owner.type == "Lambda":
        return "it applies a function, and a function owns nothing that could be learned"
    if owner.module == "tally.ops":
        return "an operation only computes"
    does = instead(owner.type) if owner.builtin else None
    return f"it {does}" if does else ""


def is_bias(entry: Entry) -> bool:
    """Whether a weight is a bias, by its name."""
    return entry.name == "bias" or entry.name.endswith("_bias")


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def values_of(shape: Shape) -> int | None:
    """How many numbers one example has in a shape with the batch first; None where a size is open.

    Example:
        >>> values_of((None, 26, 26, 32)), values_of((None, None, 8))
        (21632, None)
    """
    known = [size for size in shape[1:] if size is not None]
    return math.prod(known) if shape and len(known) == len(shape) - 1 else None


def written(shape: Sequence[int | None]) -> str:
    """Write a shape as Python does, with a question mark for an open size.

    Example:
        >>> written((1600,)), written((None, 8))
        ('(1600,)', '(?, 8)')
    """
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def product(sizes: Sequence[int | None]) -> str:
    """Write sizes as a product.

    Example:
        >>> product((26, 26, 32))
        '26 × 26 × 32'
    """
    return " × ".join("?" if size is None else f"{size:,}" for size in sizes) or "1"


def _sum(known: Quantities, quantity: Quantity) -> Fact:
    path, kind = quantity.path, quantity.kind
    waiting = known.waiting(path)
    number = known.count(path, kind)
    if waiting and kind not in ("seeds", "optimizer", "untracked"):
        return _not_yet(known, quantity, waiting, number)
    formula = known.formula(path, kind)
    return Fact(
        quantity=quantity,
        says=_holds(known, quantity, number),
        number=number,
        numbers=formula.numbers if formula and "=" in formula.numbers else "",
        symbols=formula.symbols if formula and "=" in formula.numbers else "",
        reason=_whereabouts(known, quantity) if number else _none(known, quantity),
    )


def _holds(known: Quantities, quantity: Quantity, number: int) -> str:
    if quantity.kind == "optimizer":
        return f"{it(known, quantity.path, own=True)} optimizer keeps {_several(number, 'numbers')}"
    return f"{it(known, quantity.path)} has {_several(number, NOUNS[quantity.kind])}"


def _several(number: int, nouns: str) -> str:
    noun = nouns
    if number == 1:
        for many, one in (
            ("parameters", "parameter"),
            ("numbers", "number"),
            ("biases", "bias"),
            ("weights", "weight"),
        ):
            noun = noun.replace(many, one)
    return f"{number:,} {noun}" if number else f"no {noun}"


def _whereabouts(known: Quantities, quantity: Quantity) -> str:
    """Which layer has all that a model has of something, where one has."""
    if quantity.path or quantity.kind == "optimizer":
        return ""
    bearing = [child for child in known.ledger.children("") if known.count(child.path, quantity.kind)]
    own = any(entry.owner == "" and entry.count for entry in known.entries("", quantity.kind))
    return f"all in '{bearing[0].path}'" if len(bearing) == 1 and not own else ""


def _none(known: Quantities, quantity: Quantity) -> str:
    """Why a sum is nothing."""
    if not known.count(quantity.path):
        asked = quantity.kind in ("parameters", "trainable", "non_trainable", "frozen", "state")
        return weightless(known, known.owner(quantity.path)) if asked else ""
    if quantity.kind not in ("trainable", "non_trainable", "frozen", "state"):
        return ""
    states = {state: known.count(quantity.path, state) for state in ("trainable", "frozen", "state")}
    what = [
        f"{'all ' if not rest else ''}{count:,} {'is' if count == 1 else 'are'} {state}"
        for state, count in states.items()
        if count
        for rest in [known.count(quantity.path) - count]
    ]
    return listed(what)


def _not_yet(known: Quantities, quantity: Quantity, waiting: Sequence[Owner], number: int) -> Fact:
    """What is known of a sum before every layer is built: that it is no less than what is there."""
    own = len(waiting) == 1 and waiting[0].path == quantity.path
    who = "it" if own else listed([f"'{owner.path}'" for owner in waiting])
    least = f"; so far there are {number:,}" if number else ""
    return Fact(
        quantity=quantity,
        says="This can't be told yet",
        number=None,
        reason=f"{who} {'is' if len(waiting) == 1 else 'are'} {dialect(known.ledger.source).waiting}{least}",
        expected=known.expected(quantity.path)
        if own and quantity.kind in ("parameters", "trainable")
        else "",
    )


def _bytes(known: Quantities, quantity: Quantity) -> Fact:
    entries = [entry for entry in known.entries(quantity.path) if entry.count]
    waiting = known.waiting(quantity.path)
    if waiting:
        return _not_yet(known, quantity, waiting, sum(entry.nbytes for entry in entries))
    return _bytes_of(quantity, f"{it(known, quantity.path)} takes", entries)


def _bytes_of(quantity: Quantity, begins: str, entries: Sequence[Entry]) -> Fact:
    counts = Counter[str]()
    for entry in entries:
        counts[entry.dtype] += entry.count
    number = sum(entry.nbytes for entry in entries)
    terms = [f"{count:,} × {_width(dtype)}" for dtype, count in counts.items()]
    numbers = f"{' + '.join(terms)} = {number:,}" if terms else ""
    types = f"{listed([f'{_width(dtype)} for each {dtype}' for dtype in counts])}" if counts else ""
    says = f"{begins} {plural(number, 'byte')}"
    return Fact(quantity=quantity, says=says, number=number, numbers=numbers, reason=types)


def _width(dtype: str) -> str:
    """The bytes of an element, or the fraction of one."""
    whole, rest = divmod(bits(dtype), 8)
    return f"{bits(dtype)}/8" if rest else f"{whole}"


def _multiply_adds(known: Quantities, quantity: Quantity) -> Fact:
    from tally.accounting.work import multiply_adds

    owners = list(inside(known.ledger, quantity.path))
    counts = {owner.path: multiply_adds(known.ledger, owner.path) for owner in owners}
    unknown = [path for path, count in counts.items() if count is None]
    if unknown:
        reason = f"they are unknown for {listed([repr(path) for path in unknown])}"
        says = f"{it(known, quantity.path, own=True)} multiply-adds can't be told"
        return Fact(quantity=quantity, says=says, number=None, reason=reason)
    number = sum(count for count in counts.values() if count is not None)
    return Fact(
        quantity=quantity,
        says=f"{it(known, quantity.path)} takes {plural(number, 'multiply-add')} for one example",
        number=number,
        numbers=_places(known, known.owner(quantity.path), number),
    )


def _places(known: Quantities, owner: Owner, number: int) -> str:
    """Write multiply-adds as the places of the output times the weights of a kernel, where they are that."""
    kernels = [entry for entry in known.ledger.owned_by(owner.path) if len(entry.shape) > 1]
    shape = owner.output_shapes[0] if owner.output_shapes else ()
    if len(kernels) != 1 or values_of(shape) is None or number == 0 or number % kernels[0].size:
        return ""
    sizes = shape[2:] if owner.option("data_format") == "channels_first" else shape[1:-1]
    times = math.prod(cast("tuple[int, ...]", sizes))
    if times * kernels[0].size != number or not sizes:
        return ""
    return f"{product(sizes)} places × {kernels[0].size:,} weights of the kernel = {number:,}"


def _arrays(known: Quantities, quantity: Quantity) -> Fact:
    entries, waiting = known.entries(quantity.path), known.waiting(quantity.path)
    if waiting:
        return _not_yet(known, quantity, waiting, len(entries))
    return Fact(
        quantity=quantity,
        says=f"{it(known, quantity.path)} has {plural(len(entries), 'array')} of weights",
        number=len(entries),
        reason=listed(list(dict.fromkeys(entry.name for entry in entries))),
    )


def _without_biases(known: Quantities, quantity: Quantity) -> Fact:
    waiting = known.waiting(quantity.path)
    entries = [entry for entry in known.entries(quantity.path) if entry.count and not is_bias(entry)]
    number = sum(entry.count for entry in entries)
    if waiting:
        return _not_yet(known, quantity, waiting, number)
    one = len({entry.owner for entry in entries}) == 1 and all(all(entry.axes) for entry in entries)
    rest = known.count(quantity.path) - number
    return Fact(
        quantity=quantity,
        says=f"{it(known, quantity.path)} has {_several(number, 'weights')}",
        number=number,
        numbers=closed_form(entries).numbers if one else "",
        reason=f"and {_several(rest, 'biases')}" if rest else "",
    )


def _layers(known: Quantities, quantity: Quantity) -> Fact:
    """The layers directly inside; an operation such as `x + 1` is no layer to who wrote it."""
    layers = [owner for owner in known.ledger.children(quantity.path) if owner.module != "tally.ops"]
    return Fact(
        quantity=quantity,
        says=f"{it(known, quantity.path)} has {plural(len(layers), 'layer')}",
        number=len(layers),
        reason=listed([owner.path.rpartition("/")[2] for owner in layers]),
    )


def _end(known: Quantities, quantity: Quantity) -> Fact:
    owner, kind = known.owner(quantity.path), quantity.kind
    shapes = owner.input_shapes if kind == "input" else owner.output_shapes
    its = it(known, quantity.path, own=True)
    if not shapes:
        says = f"{its} {kind} can't be told yet"
        return Fact(quantity=quantity, says=says, number=None, reason="it has not been called on an input")
    shape = shapes[int(quantity.name)]
    number = values_of(shape)
    several = number is not None and len(shape) > 2
    return Fact(
        quantity=quantity,
        says=f"{its} {kind} is {written(shape[1:])}",
        number=number,
        sizes=shape,
        numbers=f"{product(shape[1:])} = {number:,} values" if several else "",
        reason="; ".join(output_arithmetic(owner)) if kind == "output" and owner.type != "Flatten" else "",
    )


def _weight(known: Quantities, quantity: Quantity) -> Fact:
    its = it(known, quantity.path, own=True)
    entry = next((entry for entry in known.ledger.entries if entry.path == quantity.name), None)
    if entry is None:
        return _no_weight(known, quantity)
    if quantity.part == "bytes":
        return _bytes_of(quantity, f"{its} {entry.name} takes", [entry])
    words = product_in_words(entry, known.owner(entry.owner))
    return Fact(
        quantity=quantity,
        says=f"{its} {entry.name} is {written(entry.shape)}",
        number=entry.size,
        sizes=entry.shape,
        numbers=words,
    )


def _no_weight(known: Quantities, quantity: Quantity) -> Fact:
    """A weight that a layer has not, or not yet."""
    owner, name = known.owner(quantity.path), quantity.name
    if owner.status == "unbuilt" and owner.option("use_bias", True):
        says = f"{it(known, quantity.path, own=True)} {name} can't be told yet"
        return Fact(
            quantity=quantity, says=says, number=None, reason=f"it is {dialect(known.ledger.source).waiting}"
        )
    switched = owner.option("use_bias") is False and name == "bias"
    return Fact(
        quantity=quantity,
        says=f"{it(known, quantity.path)} has no {name}",
        number=0,
        reason="it was made with use_bias=False" if switched else weightless(known, owner),
    )


def _option(known: Quantities, quantity: Quantity) -> Fact:
    value: Any = known.owner(quantity.path).option(quantity.name)
    return Fact(
        quantity=quantity,
        says=f"It was made with {quantity.name}={value}",
        number=value if isinstance(value, int) and not isinstance(value, bool) else None,
        sizes=cast("tuple[int, ...]", value) if isinstance(value, tuple) else None,
    )


_FACTS: dict[Kind, Callable[[Quantities, Quantity], Fact]] = {
    "bytes": _bytes,
    "multiply_adds": _multiply_adds,
    "weights": _arrays,
    "without_biases": _without_biases,
    "layers": _layers,
    "input": _end,
    "output": _end,
    "weight": _weight,
    "option": _option,
}
