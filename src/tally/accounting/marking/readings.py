"""What a wrong number is instead: another quantity of the layer, of another layer, of the model, or a slip."""

from itertools import pairwise

from tally.accounting.formula import closed_form
from tally.accounting.ledger import Entry, Owner
from tally.accounting.marking.asking import Kind, Quantity
from tally.accounting.marking.mistakes import offer_mistakes
from tally.accounting.marking.quantities import (
    LONGEST_SUM,
    NOUNS,
    STATES,
    Fact,
    Quantities,
    is_bias,
    product,
    values_of,
)
from tally.accounting.marking.search import Rank, Search
from tally.accounting.marking.sliding import other_outputs
from tally.accounting.marking.statements import Given
from tally.accounting.words import listed

_SUMS: tuple[Kind, ...] = ("parameters", "trainable", "non_trainable", "frozen", "state", "untracked")


def say_what_it_is(known: Quantities, fact: Fact, given: Given) -> tuple[str, ...]:
    """Say what quantity of the model a wrong number is; nothing where it is none.

    Args:
        known: The quantities of the ledger.
        fact: What was asked for, as it is.
        given: What was said instead.

    Example:
        >>> from tally.accounting.marking.asking import locate
        >>> from tally.accounting.marking.statements import read_value
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> known = Quantities(tally.account(model))
        >>> fact = known.fact(locate(known.ledger, "conv2d"))
        >>> say_what_it_is(known, fact, read_value("21632")[0])
        ('21,632 is the number of its output values, 26 × 26 × 32, not its parameters.',)
    """
    search = Search(known, fact, given)
    owner = known.owner(search.path)
    _offer_own(search, owner)
    _offer_sizes(search, owner)
    _offer_windows(search, owner)
    offer_mistakes(search)
    _offer_sums(search)
    _offer_elsewhere(search)
    _offer_slips(search)
    return search.best()


def _offer_own(search: Search, owner: Owner) -> None:
    """The quantities of the layer itself."""
    known, path = search.known, owner.path
    for kind in _SUMS:
        _offer_sum(search, path, kind)
    _offer_weights(search, path)
    instead = f", not {search.noun}" if search.fact.quantity.kind in STATES else ""
    ends = {"output": owner.output_shapes, "input": owner.input_shapes}
    if set(owner.output_shapes) == set(owner.input_shapes):
        ends = {"input values and of its output": owner.output_shapes}
    for what, shapes in ends.items():
        for shape in dict.fromkeys(shapes):
            size = f", {product(shape[1:])}" if len(shape) > 2 else ""
            says = f"is the number of its {what} values{size}{instead}"
            search.offer(Rank.DIRECT, values_of(shape), says)
    _offer_fact(search, path, "bytes", "is the number of bytes that its parameters take")
    _offer_fact(search, path, "multiply_adds", "is the number of its multiply-adds for one example")
    shared = sum(entry.size for entry in known.entries(path) if entry.shared_with is not None)
    homes = listed(_homes(known, path))
    if shared:
        search.offer(Rank.DIRECT, shared, f"is what it uses, but these are counted at {homes}")
        own = known.count(path)
        both = shared + own if own else None
        search.offer(Rank.DIRECT, both, f"counts what is shared each time; {shared:,} are counted at {homes}")


def _homes(known: Quantities, path: str) -> list[str]:
    """Where the shared weights of a layer are counted."""
    homes = [str(entry.shared_with) for entry in known.entries(path) if entry.shared_with is not None]
    owners = {entry.path: entry.owner for entry in known.ledger.entries}
    return list(dict.fromkeys(repr(owners.get(home) or home) for home in homes))


def _offer_sum(search: Search, path: str, kind: Kind) -> None:
    known = search.known
    number = known.count(path, kind)
    every = known.count(path)
    if kind != "parameters" and (number == every or (number == 0 and (kind != "trainable" or not every))):
        return
    if kind == "parameters" and number == 0:
        return

    def says() -> str:
        if kind == "untracked":
            names = listed([entry.name for entry in known.entries(path, kind)])
            how = _formula(known, path, kind)
            return f"is the number of values in {names}{f', {how}' if how else ''}"
        how = _formula(known, path, kind)
        every = "all its" if kind == "parameters" and search.fact.quantity.kind in _SUMS[1:] else "its"
        return f"is the number of {every} {NOUNS[kind]}{f', {how}' if how else ''}"

    search.offer(Rank.DIRECT, number, says)


def _offer_weights(search: Search, path: str) -> None:
    """One weight alone, and all but the biases."""
    entries = [entry for entry in search.known.entries(path) if not entry.shared_with]
    bare = [entry for entry in entries if not is_bias(entry)]
    if bare and len(bare) < len(entries):
        search.offer(
            Rank.DIRECT,
            sum(entry.size for entry in bare),
            lambda: f"is the number of its weights without the biases{_how(bare)}",
        )
        biases = sum(entry.size for entry in entries if is_bias(entry))
        search.offer(Rank.DIRECT, biases, "is the number of its biases alone")
    alike: dict[int, list[Entry]] = {}
    for entry in search.known.ledger.owned_by(path):
        if entry in entries and not (is_bias(entry) or [entry] == bare):
            alike.setdefault(entry.size, []).append(entry)
    for size, same in alike.items():
        whose = f"each of {listed([entry.name for entry in same])}" if same[1:] else f"its {same[0].name}"
        search.offer(Rank.DIRECT, size, f"is the number of values in {whose}{_how(same[:1])}")
    for entry in search.known.ledger.owned_by(path):
        if entry.state == "seed":
            search.offer(Rank.SIZE, entry.size, "is its random state, which is no parameter")


def _how(entries: list[Entry]) -> str:
    """The product or sum that gives a count, where there is one to show."""
    if len({entry.owner for entry in entries}) > 1 or not all(all(entry.axes) for entry in entries):
        return ""
    numbers = closed_form(entries).numbers
    return f", {numbers.partition(' = ')[0]}" if "=" in numbers else ""


def _offer_fact(search: Search, path: str, kind: Kind, says: str) -> None:
    fact = search.known.fact(Quantity(path, kind))
    how = fact.numbers.partition(" = ")[0]
    search.offer(Rank.SIZE, fact.number or None, f"{says}{f', {how}' if how else ''}")


def _offer_sizes(search: Search, owner: Owner) -> None:
    """Single sizes and what one filter or unit has."""
    known, entries = search.known, search.known.ledger.owned_by(owner.path)
    for what, shapes in (("output", owner.output_shapes), ("input", owner.input_shapes)):
        for shape in shapes[:1]:
            places = _places(owner, shape)
            if len(places) > 1:
                says = f"is the number of places in its {what}, {product(places)}"
                search.offer(Rank.SIZE, values_of((None, *places)), says)
    counted = [entry for entry in entries if entry.state in STATES["parameters"]]
    for entry in counted:
        pairs = list(zip(entry.axes, entry.shape, strict=True))
        for name, size in pairs:
            search.offer(
                Rank.SIZE, size, f"is the number of {name}" if name.endswith("s") else f"is its {name}"
            )
        _offer_one_filter(search, entry, counted)
        _offer_kernels(search, entry)
    search.offer(Rank.SIZE, len(known.entries(owner.path)), "is the number of its arrays of weights")
    layers = known.ledger.children(owner.path)
    if layers:
        bearing = [layer for layer in layers if known.count(layer.path)]
        if search.fact.quantity.kind == "layers":
            real = [layer for layer in layers if layer.type != "InputLayer" and layer.module != "tally.ops"]
            search.offer(Rank.SIZE, len(bearing), "is the number of those that have parameters")
            search.offer(Rank.SIZE, len(real), "is their number without the inputs")


def _places(owner: Owner, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return shape[2:] if owner.option("data_format") == "channels_first" else shape[1:-1]


def _offer_one_filter(search: Search, entry: Entry, counted: list[Entry]) -> None:
    """What one filter or unit has of a layer's weights."""
    last = next((name for name in ("filters", "units") if name in entry.axes), None)
    if last is None or len(entry.shape) < 2:
        return
    many = entry.shape[entry.axes.index(last)]
    bias = any(is_bias(other) for other in counted)
    if many < 2:
        return
    one = entry.size // many
    rest = product([size for name, size in zip(entry.axes, entry.shape, strict=True) if name != last])
    says = f"is what each of its {many:,} {last} has: {rest}"
    if bias:
        search.offer(Rank.SIZE, one + 1, f"{says} + 1")
    search.offer(Rank.SIZE, one, f"{says}, without the bias" if bias else says)


def _offer_kernels(search: Search, entry: Entry) -> None:
    """How many separate kernels a convolution has."""
    sizes = dict(zip(entry.axes, entry.shape, strict=True))
    channels = next((size for name, size in sizes.items() if name.startswith("input channels")), 1)
    if "filters" in sizes and channels > 1 and any(name.startswith("kernel ") for name in sizes):
        window = "×".join(str(size) for name, size in sizes.items() if name.startswith("kernel "))
        says = f"is the number of its {window} kernels, {channels:,} input channels × {sizes['filters']:,} filters"
        search.offer(Rank.SIZE, channels * sizes["filters"], says)


def _offer_windows(search: Search, owner: Owner) -> None:
    """The output values of another padding or stride."""
    if search.fact.quantity.kind != "output":
        return
    for shape, says in other_outputs(owner):
        number = values_of((None, *shape))
        search.offer(
            Rank.MISTAKE, number, f"{says.format(noun='the number of its output values')}: {product(shape)}"
        )


def _offer_elsewhere(search: Search) -> None:
    """What other layers have, and the whole model."""
    known = search.known
    for owner in known.ledger.owners:
        if owner.path in (search.path, ""):
            continue
        number = known.count(owner.path)
        search.offer(Rank.ELSEWHERE, number, lambda path=owner.path: _has(known, path))
        for shape in owner.output_shapes[:1]:
            size = f", {product(shape[1:])}" if len(shape) > 2 else ""
            search.offer(
                Rank.ELSEWHERE, values_of(shape), f"is the number of output values of '{owner.path}'{size}"
            )
    if search.path:
        for kind in _SUMS[:3]:
            search.offer(
                Rank.SUM, known.count("", kind), f"is the number of {NOUNS[kind]} of the whole model"
            )


def _has(known: Quantities, path: str) -> str:
    how = _formula(known, path)
    return f"is what '{path}' has{f': {how}' if how else ''}"


def _formula(known: Quantities, path: str, kind: Kind = "parameters") -> str:
    """The product or sum that gives a count, if it isn't a long one."""
    formula = known.formula(path, kind)
    numbers, equals, _ = formula.numbers.partition(" = ") if formula else ("", "", "")
    return numbers if equals and len(numbers) <= LONGEST_SUM else ""


def _offer_sums(search: Search) -> None:
    """A sum over layers that has one too few, one mistaken, or something that doesn't belong to it."""
    known, quantity = search.known, search.fact.quantity
    layers = known.ledger.children(search.path)
    number = search.fact.number
    if quantity.kind not in ("parameters", "trainable") or not layers or number is None:
        return
    besides: dict[Kind, str] = {"seeds": "random state", "optimizer": "what the optimizer keeps"}
    for kind, says in besides.items():
        extra = sum(entry.size for entry in known.entries("", kind))
        if extra and not search.path:
            search.offer(Rank.MISTAKE, number + extra, f"is {search.noun} with {says}, {extra:,}")
    if not search.path:
        outputs = [values_of(shape) for owner in layers for shape in owner.output_shapes[:1]]
        total = sum(size for size in outputs if size is not None)
        search.offer(Rank.MISTAKE, total, "is the sum of the output values of all layers")
    for layer in layers:
        part = known.count(layer.path, quantity.kind)
        if part:
            search.offer(
                Rank.MISTAKE, number - part, f"is {search.noun} without '{layer.path}', which has {part:,}"
            )
            search.offer(
                Rank.FAR_MISTAKE, number + part, f"is {search.noun} with '{layer.path}' counted twice"
            )
        _offer_mistaken_part(search, layer, part)


def _offer_mistaken_part(search: Search, layer: Owner, part: int) -> None:
    """A sum in which one layer has a wrong number, where that is a quantity of the layer."""
    number, given = search.fact.number, search.given.number
    if number is None or given is None or search.given.within or given - number + part < 10:
        return
    wrong = given - number + part
    fact = search.known.fact(Quantity(layer.path, "parameters"))
    inner = Search(search.known, fact, Given(text="", number=wrong))
    _offer_own(inner, layer)
    if not layer.type.startswith("Input"):
        offer_mistakes(inner, far=False)
    for sentence in inner.best()[:1]:
        right = f"not {part:,}" if part else "not none"
        search.offer(
            Rank.FAR_MISTAKE,
            given,
            f"would be {search.noun} if '{layer.path}' had {wrong:,}, {right}: {sentence.rstrip('.')}",
        )


def _offer_slips(search: Search) -> None:
    """Slips of the pen: digits exchanged, a nought too many, one off."""
    number, given = search.fact.number, search.given.number
    if number is None or given is None or given < 100 or number < 10:
        return
    for place, (one, other) in enumerate(pairwise(str(number))):
        digits = str(number)
        exchanged = f"{digits[:place]}{other}{one}{digits[place + 2 :]}"
        if one != other:
            says = f"is {number:,} with two digits exchanged, the {one} and the {other}"
            search.offer(Rank.SLIP, int(exchanged), says)
    search.offer(Rank.SLIP, number * 10, "is ten times what it is")
    if number % 10 == 0:
        search.offer(Rank.SLIP, number // 10, "is a tenth of what it is")
    search.offer(Rank.SLIP, number + 1, "is one too many")
    search.offer(Rank.SLIP, number - 1, "is one too few")
