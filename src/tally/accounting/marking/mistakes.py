"""What a count would be if the layer were another: the usual mistakes of counting, each with its formula."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tally.accounting.formula import closed_form
from tally.accounting.ledger import Entry, Owner
from tally.accounting.marking.quantities import STATES, is_bias, product, values_of
from tally.accounting.marking.search import Rank, Search
from tally.accounting.words import each, singular, the

_KERNELS = (1, 2, 3, 4, 5, 7, 9, 11)
_COLOURS = {1: "one channel, as grey images have", 3: "3 channels, as colour images have", 4: "4 channels"}
_GATES = {1: "one gate, as a SimpleRNN", 3: "3 gates, as a GRU", 4: "4 gates, as an LSTM"}


class Mistake(NamedTuple):
    """A layer with something about it changed.

    Args:
        rank: How plausible it is that this was meant.
        condition: What would have to be so: `"if its kernel were 5 × 5"`.
        sizes: The new sizes of axes, by their names.
    """

    rank: Rank
    condition: str
    sizes: Mapping[str, int]


def offer_mistakes(search: Search, *, far: bool = True) -> None:
    """Offer the counts that usual mistakes lead to.

    Args:
        search: The search for what a number is.
        far: Whether to look at other layers, other kernels and what training keeps, too.
    """
    if search.fact.quantity.kind == "bytes":
        _offer_types(search)
    if search.fact.quantity.kind == "multiply_adds" and search.fact.number is not None:
        search.offer(Rank.MISTAKE, 2 * search.fact.number, "counts a multiplication and an addition as two")
    entries = _asked(search)
    if far:
        _offer_multiples(search)
    if not entries:
        return
    owner = search.known.owner(entries[0].owner)
    for mistake in _mistakes(search, owner, entries, far):
        _offer(search, mistake, entries)
    _offer_biases(search, entries)
    if any(name.startswith("kernel ") for entry in entries for name in entry.axes):
        _offer_convolutions(search, owner, entries)


def _asked(search: Search) -> list[Entry]:
    """The weights that were to be counted, if one layer has them all and their axes have names."""
    quantity = search.fact.quantity
    if quantity.kind == "weight":
        entries = [entry for entry in search.known.ledger.entries if entry.path == quantity.name]
    elif quantity.kind in ("parameters", "trainable"):
        entries = [entry for entry in search.known.entries(quantity.path, quantity.kind) if entry.count]
    else:
        return []
    one = len({entry.owner for entry in entries}) == 1
    return entries if one and all(all(entry.axes) for entry in entries) else []


def _mistakes(search: Search, owner: Owner, entries: Sequence[Entry], far: bool) -> Iterator[Mistake]:
    sizes = {name: size for entry in entries for name, size in zip(entry.axes, entry.shape, strict=True)}
    yield from _of_channels(search, owner, sizes, far)
    if not far:
        return
    yield from _of_kernels(owner, sizes)
    yield from _of_gates(sizes)
    if "tokens" in sizes:
        for by, says in ((1, "more"), (-1, "less")):
            yield Mistake(Rank.MISTAKE, f"if it had one token {says}", {"tokens": sizes["tokens"] + by})
    yield from _of_others(search, owner, sizes)


def _of_channels(search: Search, owner: Owner, sizes: Mapping[str, int], far: bool) -> Iterator[Mistake]:
    """Channels shared, of another image, or without groups."""
    name = next((name for name in sizes if name.startswith("input channels")), None)
    if name is None:
        return
    channels, groups = sizes[name], owner.option("groups", 1)
    if groups > 1:
        yield Mistake(
            Rank.MISTAKE, f"if it had no groups, of which it has {groups:,}", {name: channels * groups}
        )
    if channels > 1 and "filters" in sizes:
        says = f"if its {channels:,} input channels shared one kernel"
        yield Mistake(Rank.MISTAKE, says, {name: 1})
    first = _first_channels(search)
    if far and first not in (None, channels):
        says = f"if it read the {first} of the model's input instead of {channels:,} channels"
        yield Mistake(Rank.MISTAKE, says, {name: first or 0})
    for number, says in _COLOURS.items():
        if number != channels and (number < 4 or channels < 4):
            yield Mistake(Rank.MISTAKE, f"if its input had {says}", {name: number})


def _first_channels(search: Search) -> int | None:
    """The channels of what the model is given."""
    shapes = [
        shape for owner in search.known.ledger.owners for shape in owner.input_shapes or owner.output_shapes
    ]
    return shapes[0][-1] if shapes and len(shapes[0]) > 2 else None


def _of_kernels(owner: Owner, sizes: Mapping[str, int]) -> Iterator[Mistake]:
    """A kernel of another size, or as large as the image."""
    sides = [name for name in sizes if name.startswith("kernel ")]
    if not sides:
        return
    for size in _KERNELS:
        if any(sizes[side] != size for side in sides):
            window = " × ".join(str(size) for _ in sides)
            says = (
                f"if its kernel were {window}" if len(sides) > 1 else f"if its kernel had a length of {size}"
            )
            yield Mistake(Rank.MISTAKE, says, dict.fromkeys(sides, size))
    for what, shapes in (("input", owner.input_shapes), ("output", owner.output_shapes)):
        places = _places(owner, shapes[0]) if shapes else ()
        if len(places) == len(sides) and None not in places:
            whole = [size for size in places if size is not None]
            says = f"if its kernel were as large as its {what}, {product(whole)}"
            yield Mistake(Rank.MISTAKE, says, dict(zip(sides, whole, strict=True)))


def _places(owner: Owner, shape: Sequence[int | None]) -> Sequence[int | None]:
    return shape[2:] if owner.option("data_format") == "channels_first" else shape[1:-1]


def _of_gates(sizes: Mapping[str, int]) -> Iterator[Mistake]:
    """Another number of gates or of biases in a recurrent layer."""
    name = next((name for name in sizes if re.match(r"\d+ gates·", name)), None)
    if name is None and {"units", "features"} <= sizes.keys() and "biases" not in sizes:
        return
    if name is not None:
        gates = int(name.split()[0])
        for number, says in _GATES.items():
            if number != gates:
                yield Mistake(Rank.MISTAKE, f"if it had {says} has", {name: sizes[name] // gates * number})
    if sizes.get("biases", 1) > 1:
        yield Mistake(Rank.MISTAKE, "if each gate had one bias, not two", {"biases": 1})


def _of_others(search: Search, owner: Owner, sizes: Mapping[str, int]) -> Iterator[Mistake]:
    """A layer that read what another layer gives, or was as wide as another."""
    channels = next((name for name in sizes if name.startswith("input channels")), None)
    for other in search.known.ledger.owners:
        if not other.path or other.path == owner.path:
            continue
        for shape, whose in _ends(other):
            values, last = values_of(shape), shape[-1] if len(shape) > 1 else None
            if channels and last and len(shape) > 2:
                says = f"if it read the {last:,} channels {whose}"
                yield Mistake(Rank.FAR_MISTAKE, says, {channels: last})
            if "features" in sizes and "units" in sizes and values:
                rank = Rank.MISTAKE if len(shape) > 2 else Rank.FAR_MISTAKE
                says = f"if it read the {product(shape[1:])} values {whose}"
                yield Mistake(rank, says, {"features": values})
                if last and last != values:
                    says = f"if it read only the {last:,} channels {whose}"
                    yield Mistake(Rank.FAR_MISTAKE, says, {"features": last})
        for name in ("filters", "units"):
            number = other.option(name)
            if name in sizes and isinstance(number, int) and number != sizes[name]:
                yield Mistake(
                    Rank.FAR_MISTAKE, f"if it had {number:,} {name}, as '{other.path}' has", {name: number}
                )


def _ends(owner: Owner) -> Iterator[tuple[tuple[int | None, ...], str]]:
    for shape in dict.fromkeys(owner.output_shapes):
        yield shape, f"that '{owner.path}' gives"
    for shape in dict.fromkeys(owner.input_shapes):
        yield shape, f"that '{owner.path}' reads"


def _offer(search: Search, mistake: Mistake, entries: Sequence[Entry]) -> None:
    """Offer the count of changed weights, with their biases and without."""
    changed = [_changed(entry, mistake.sizes) for entry in entries]
    bare = [entry for entry in changed if not is_bias(entry)]
    owner, condition = entries[0].owner, mistake.condition
    if owner != search.path:
        condition = condition.replace("if ", f"if in '{owner}' ", 1)
    for kept, more in ((changed, ""), (bare, " and there were no biases")):
        if kept and (not more or len(kept) < len(changed)):
            says = f"would be {search.noun} {condition}{more}"
            count = sum(entry.size for entry in kept)
            search.offer(mistake.rank, count, lambda kept=kept, says=says: f"{says}: {_numbers(kept)}")


def _changed(entry: Entry, sizes: Mapping[str, int]) -> Entry:
    if "depthwise channels" in entry.axes:  # the 1×1 kernel of a separable convolution stays one
        sizes = {name: size for name, size in sizes.items() if not name.startswith("kernel ")}
    shape = tuple(sizes.get(name, size) for name, size in zip(entry.axes, entry.shape, strict=True))
    axes = tuple(_with_gates(name, sizes, size) for name, size in zip(entry.axes, entry.shape, strict=True))
    return replace(entry, shape=shape, axes=axes)


def _with_gates(name: str, sizes: Mapping[str, int], before: int) -> str:
    """The name of an axis after its number of gates has changed: `3 gates·units`."""
    match = re.match(r"(\d+) gates·(.*)", name)
    if match is None or name not in sizes:
        return name
    gates = sizes[name] * int(match[1]) // before
    return f"{gates} gates·{match[2]}" if gates > 1 else match[2]


def _numbers(entries: Sequence[Entry]) -> str:
    return closed_form(entries).numbers.partition(" = ")[0]


def _offer_biases(search: Search, entries: Sequence[Entry]) -> None:
    """Biases counted twice, once in all, or for something else."""
    biases = [entry for entry in entries if is_bias(entry)]
    rest = sum(entry.size for entry in entries) - sum(entry.size for entry in biases)
    kernel = next((entry for entry in entries if len(entry.shape) > 1 and not is_bias(entry)), None)
    if kernel is None:
        return
    sizes = dict(zip(kernel.axes, kernel.shape, strict=True))
    if not biases:
        wide = next((name for name in ("filters", "units") if name in sizes), None)
        if wide and search.fact.quantity.kind != "weight":
            says = f"would be {search.noun} with a bias for {each(sizes[wide], singular(wide))}; it has none"
            search.offer(Rank.MISTAKE, rest + sizes[wide], says)
        return
    many = sum(entry.size for entry in biases)
    wide = next((name for name in reversed(kernel.axes) if name in biases[0].axes), "outputs")
    wide = "gates" if "gates" in wide else wide
    noun = search.noun
    search.offer(
        Rank.MISTAKE,
        rest + 1,
        f"would be {noun} if all {wide} shared one bias: {rest:,} + 1; each has its own",
    )
    search.offer(
        Rank.MISTAKE, rest + 2 * many, f"would be {noun} if each bias counted twice: {rest:,} + 2 × {many:,}"
    )
    channels = next((size for name, size in sizes.items() if name.startswith("input channels")), 1)
    if channels > 1:
        says = f"would be {noun} if each of its {channels * many:,} kernels had a bias: {rest:,} + {channels * many:,}"
        search.offer(Rank.MISTAKE, rest + channels * many, says)
    if "features" in sizes and "units" in sizes:
        features = sizes["features"]
        says = (
            f"would be {noun} with a bias for {each(features, 'feature')}, not of {the(many, singular(wide))}"
        )
        search.offer(Rank.MISTAKE, rest + features, says)


def _offer_convolutions(search: Search, owner: Owner, entries: Sequence[Entry]) -> None:
    """What a layer that shares no weights between places would have, or another kind of convolution."""
    count = sum(entry.size for entry in entries)
    after = owner.output_shapes[0] if owner.output_shapes else ()
    before = owner.input_shapes[0] if owner.input_shapes else ()
    places = _places(owner, after)
    if len(places) and None not in places:
        times = math.prod(size for size in places if size is not None)
        says = f"would be {search.noun} if every place of its output had weights of its own"
        search.offer(Rank.MISTAKE, times * count, f"{says}: {product(places)} × {count:,}")
        biases = sum(entry.size for entry in entries if is_bias(entry))
        if biases:
            bare = count - biases
            more = f"{says} and there were no biases: {product(places)} × {bare:,}"
            search.offer(Rank.MISTAKE, times * bare, more)
    read, made = values_of(before) if before else None, values_of(after) if after else None
    if read and made:
        says = f"would be {search.noun} if it were a Dense from {read:,} values to {made:,}"
        search.offer(Rank.MISTAKE, read * made + made, f"{says}: {made:,} × ({read:,} + 1)")
        search.offer(Rank.MISTAKE, read * made, f"{says} without biases: {read:,} × {made:,}")
    _offer_separated(search, entries)


def _offer_separated(search: Search, entries: Sequence[Entry]) -> None:
    """The count of the same layer as a depthwise or a separable convolution, or the other way round."""
    kernel = next((entry for entry in entries if "input channels" in entry.axes), None)
    if kernel is None:
        return
    sizes = dict(zip(kernel.axes, kernel.shape, strict=True))
    window = [size for name, size in sizes.items() if name.startswith("kernel ")]
    side, channels = "·".join(str(size) for size in window), sizes["input channels"]
    area = math.prod(window)
    noun = search.noun
    if "filters" in sizes and channels > 1:
        filters = sizes["filters"]
        says = f"would be {noun} if it were separable: {side}·{channels} + {channels}·{filters} + {filters}"
        search.offer(Rank.MISTAKE, area * channels + channels * filters + filters, says)
        says = f"would be {noun} if it were depthwise: {channels} × ({side} + 1)"
        search.offer(Rank.MISTAKE, channels * (area + 1), says)
        return
    pointwise = next((entry for entry in entries if "filters" in entry.axes and len(entry.shape) > 1), None)
    filters = pointwise.shape[pointwise.axes.index("filters")] if pointwise else channels
    says = f"would be {noun} if it mixed the channels, as an ordinary convolution does"
    search.offer(
        Rank.MISTAKE, filters * (channels * area + 1), f"{says}: {filters} × ({channels}·{side} + 1)"
    )


def _offer_multiples(search: Search) -> None:
    """What training needs besides the weights."""
    number = search.fact.number
    if search.fact.quantity.kind not in STATES or number is None:
        return
    for times, says in (
        (2, "is twice {}, as for weights and their gradients, or with the momentum of SGD"),
        (3, "is three times {}, as for weights and the two moments that Adam keeps"),
        (4, "is four times {}, as for weights, gradients and the two moments that Adam keeps"),
    ):
        search.offer(Rank.FAR_MISTAKE, number * times, says.format(search.noun))


def _offer_types(search: Search) -> None:
    """Bytes of another type, or in other units."""
    count = search.known.count(search.path)
    for width, dtype in ((1, "int8"), (2, "float16"), (4, "float32"), (8, "float64")):
        says = f"would be its bytes in {dtype}: {count:,} × {width}"
        search.offer(Rank.MISTAKE, count * width, says)
