"""Finds the one factor that is wrong in a calculation which is right otherwise."""

from collections.abc import Iterator

from tally.accounting.marking.arithmetic import Expression
from tally.accounting.marking.quantities import Fact, Quantities, is_bias
from tally.accounting.words import singular


def say_which_factor(known: Quantities, fact: Fact, working: Expression) -> str:
    """Say which number of a calculation should be which size of the layer; empty where that isn't the mistake.

    Example:
        >>> from tally.accounting.marking.arithmetic import read_expression
        >>> from tally.accounting.marking.asking import locate
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> known = Quantities(tally.account(model))
        >>> fact = known.fact(locate(known.ledger, "conv2d"))
        >>> say_which_factor(known, fact, read_expression("32 × (28·3·3 + 1)"))
        'All is right but one number: 1 input channel instead of 28.'
    """
    if fact.number is None:
        return ""
    sizes = dict(_sizes(known, fact))
    for name, size in sizes.items():
        for place, number in enumerate(working.numbers):
            if number != size and working.replace(place, size) == fact.number:
                return f"All is right but one number: {_named(name, size)} instead of {number:,}."
    return ""


def _named(name: str, size: int) -> str:
    """Write a size with its name: `32 filters`, `a kernel height of 3`."""
    if name.startswith("kernel "):
        return f"a {name} of {size:,}"
    return f"{size:,} {singular(name) if size == 1 else name}"


def _sizes(known: Quantities, fact: Fact) -> Iterator[tuple[str, int]]:
    """The sizes that a formula for this layer is made of."""
    quantity = fact.quantity
    if quantity.kind in ("input", "output"):
        for place, size in enumerate((fact.sizes or ())[1:]):
            if size is not None:
                yield f"values along axis {place + 1}", size
        return
    biased = False
    for entry in known.entries(quantity.path):
        biased = biased or is_bias(entry)
        for name, size in zip(entry.axes, entry.shape, strict=True):
            if name:
                yield name, size
    if biased:
        yield "bias for each of them", 1
