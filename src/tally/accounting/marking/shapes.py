"""What a wrong shape is instead: another order, a missing axis, another padding, the shape of something else."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tally.accounting.ledger import Entry, Owner, Shape
from tally.accounting.marking.quantities import Fact, Quantities, product, written
from tally.accounting.marking.sliding import other_outputs
from tally.accounting.window import SIDES, spatial
from tally.accounting.words import listed, singular

_PYTORCH = {
    4: ("filters", "input channels", "kernel height", "kernel width"),
    3: ("filters", "input channels", "kernel length"),
    2: ("units", "features"),
}


def say_what_shape_it_is(known: Quantities, fact: Fact, sizes: Shape) -> tuple[str, ...]:
    """Say what a wrong shape is; nothing where it is none of the usual.

    Args:
        known: The quantities of the ledger.
        fact: What was asked for, as it is.
        sizes: What was said instead.

    Example:
        >>> from tally.accounting.marking.asking import locate
        >>> model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3)])
        >>> known = Quantities(tally.account(model))
        >>> fact = known.fact(locate(known.ledger, "dense.kernel"))
        >>> say_what_shape_it_is(known, fact, (3, 4))
        ("(3, 4) is in PyTorch's order, units × features; here it is features × units.",)
    """
    rules = _RULES.get(fact.quantity.kind, (_of_something,))
    for rule in rules:
        for sentence in rule(known, fact, sizes):
            return (sentence,)
    return ()


def _batch(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    true = fact.sizes
    if true and len(sizes) == len(true) and sizes[1:] == true[1:]:
        size = f"is {true[0]}" if true[0] is not None else "may be of any size"
        yield f"All is right but the batch, which {size} and is no part of the shape of one example."


def _without_batch(fact: Fact, sizes: Shape) -> Shape:
    """One example's part of a shape that was given with its batch."""
    true = fact.sizes
    batched = true and len(sizes) == len(true) and sizes[0] in (None, 1, true[0])
    return sizes[1:] if batched else sizes


def _other_end(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    owner, asked = known.owner(fact.quantity.path), fact.quantity.kind
    other, shapes = ("input", owner.input_shapes) if asked == "output" else ("output", owner.output_shapes)
    for shape in shapes:
        if _without_batch(fact, sizes) == shape[1:] or sizes == shape:
            yield f"{written(sizes)} is its {other}, not its {asked}."


def _channels(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """Channels missing, or on the wrong side."""
    owner, one, given = known.owner(fact.quantity.path), (fact.sizes or ())[1:], _without_batch(fact, sizes)
    first = owner.option("data_format") == "channels_first"
    if len(one) < 2:
        return
    places, channels = (one[1:], one[0]) if first else (one[:-1], one[-1])
    if given == places:
        yield f"{written(given)} leaves out the {_count(channels)} channels."
    swapped = (*places, channels) if first else (channels, *places)
    if given == swapped:
        here = "first" if first else "last"
        yield f"{written(given)} has the channels {'last' if first else 'first'}; here they come {here}."


def _count(size: int | None) -> str:
    return "any number" if size is None else f"{size:,}"


def _windows(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """Another padding or stride; its channels may be missing."""
    owner, given = known.owner(fact.quantity.path), _without_batch(fact, sizes)
    if fact.quantity.kind != "output":
        return
    for shape, says in other_outputs(owner):
        text = says.format(noun="its output")
        if given == shape:
            yield f"{written(given)} {text}."
        elif given == spatial(owner, (None, *shape)):
            channels = shape[0] if owner.option("data_format") == "channels_first" else shape[-1]
            yield f"{written(given)} {text}; and its {_count(channels)} channels are missing."


def _order(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    one, given = _true(fact), _given(fact, sizes)
    if given != one and Counter(given) == Counter(one):
        axes = _axes(known, fact)
        named = f": {' × '.join(axes)}" if axes else ""
        yield f"{written(given)} has the right sizes in another order; here it is {written(one)}{named}."


def _one_off(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """At least half of the sizes right."""
    one, given, axes = _true(fact), _given(fact, sizes), _axes(known, fact)
    off = [place for place, pair in enumerate(zip(one, given, strict=False)) if pair[0] != pair[1]]
    if len(one) != len(given) or not 0 < len(off) <= len(one) / 2 or not axes:
        return
    wrong = [f"the {axes[place]} ({_count(one[place])}, not {_count(given[place])})" for place in off]
    yield f"All is right but {listed(wrong)}."


def _thousands(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """A size written with its thousands separated, which makes two sizes of it."""
    for place in range(len(sizes) - 1):
        one, other = sizes[place : place + 2]
        if one is not None and other is not None and other < 1000:
            joined = (*sizes[:place], one * 1000 + other, *sizes[place + 2 :])
            if _given(fact, joined) == _true(fact):
                yield f"In a shape a comma stands between two sizes: write {written(joined)}."


def _as_many(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    given = _given(fact, sizes)
    if None not in given and fact.number is not None and len(given):
        whole = [size for size in given if size is not None]
        count = 1
        for size in whole:
            count *= size
        if count == fact.number:
            yield f"{written(given)} has as many values, {product(whole)} = {count:,}, but another shape."


def _elsewhere(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """The output of another layer."""
    given = _given(fact, sizes)
    if len(given) < 2:
        return
    for owner in known.ledger.owners:
        if owner.path not in ("", fact.quantity.path) and given in [
            shape[1:] for shape in owner.output_shapes
        ]:
            yield f"{written(given)} is the output of '{owner.path}'."


def _pytorch(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    entry = _entry(known, fact)
    order = _PYTORCH.get(len(sizes), ())
    if entry is None or set(order) != set(entry.axes):
        return
    lengths = dict(zip(entry.axes, entry.shape, strict=True))
    if sizes == tuple(lengths[axis] for axis in order):
        here = " × ".join(entry.axes)
        yield f"{written(sizes)} is in PyTorch's order, {' × '.join(order)}; here it is {here}."


def _axis_missing(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    entry = _entry(known, fact)
    if entry is None or len(sizes) != len(entry.shape) - 1:
        return
    for place, name in enumerate(entry.axes):
        if sizes == entry.shape[:place] + entry.shape[place + 1 :]:
            size = entry.shape[place]
            noun = singular(name) if size == 1 else name
            yield f"An axis is missing, {size:,} {noun}." if name else "An axis is missing."


def _with_bias(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    entry = _entry(known, fact)
    if entry is not None and len(entry.shape) == 2 and sizes == (entry.shape[0] + 1, entry.shape[1]):
        yield f"{written(sizes)} has a row for the biases, which are a weight of their own."


def _of_something(known: Quantities, fact: Fact, sizes: Shape) -> Iterator[str]:
    """The shape of another weight of the layer, or of its input or output."""
    owner = known.owner(fact.quantity.path)
    for entry in known.entries(owner.path):
        if entry.shape == sizes and entry.path != fact.quantity.name:
            yield f"{written(sizes)} is the shape of its {entry.name}."
    for what, shapes in (("output", owner.output_shapes), ("input", owner.input_shapes)):
        if any(sizes in (shape, shape[1:]) for shape in shapes):
            yield f"{written(sizes)} is the shape of its {what}."


def _true(fact: Fact) -> Shape:
    sizes = fact.sizes or ()
    return sizes[1:] if fact.quantity.kind in ("input", "output") else sizes


def _given(fact: Fact, sizes: Shape) -> Shape:
    return _without_batch(fact, sizes) if fact.quantity.kind in ("input", "output") else sizes


def _axes(known: Quantities, fact: Fact) -> Sequence[str]:
    """The names of the axes of a weight, or of one example's part of an input or output."""
    entry = _entry(known, fact)
    if entry is not None:
        return entry.axes if all(entry.axes) else ()
    owner, rank = known.owner(fact.quantity.path), len(_true(fact)) - 1
    if rank not in SIDES or fact.quantity.kind == "option" or (rank == 1 and not _is_sequence(owner)):
        return ()
    return (
        ("channels", *SIDES[rank])
        if owner.option("data_format") == "channels_first"
        else (*SIDES[rank], "channels")
    )


def _is_sequence(owner: Owner) -> bool:
    return owner.option("kernel_size") is not None or owner.option("pool_size") is not None


def _entry(known: Quantities, fact: Fact) -> Entry | None:
    found = (entry for entry in known.ledger.entries if entry.path == fact.quantity.name)
    return next(found, None) if fact.quantity.kind == "weight" else None


_Rule = Callable[[Quantities, Fact, Shape], Iterator[str]]
_ENDS: tuple[_Rule, ...] = (
    _batch,
    _thousands,
    _other_end,
    _channels,
    _windows,
    _order,
    _as_many,
    _one_off,
    _elsewhere,
    _of_something,
)
_RULES: dict[str, tuple[_Rule, ...]] = {
    "input": _ENDS,
    "output": _ENDS,
    "weight": (_thousands, _of_something, _pytorch, _order, _axis_missing, _with_bias, _one_off, _as_many),
}
