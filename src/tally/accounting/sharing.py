"""Who has weights of its own and who shares them: per channel, position, step, token; and what does not enter."""

import math
from collections.abc import Iterator, Sequence

from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner
from tally.accounting.remark import Entries, Reason, Remark
from tally.accounting.window import output_arithmetic
from tally.accounting.words import POSITIONS, ROLES, each, listed, plural, sentence, singular, the


def _convolution(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    kernels = [
        entry
        for entry in entries
        if entry.state in COUNTED
        and any(name.startswith("kernel ") for name in entry.axes)
        and "broadcast" not in entry.axes  # the lengths that a weight norm keeps beside a kernel
    ]
    for entry in kernels:
        if entry.name.startswith("lora_"):
            continue
        sizes = dict(zip(entry.axes, entry.shape, strict=True))
        if "filters" not in sizes:
            yield Remark(kind="weights", text=_each_channel(sizes))
        elif "depthwise channels" in sizes:
            yield Remark(kind="weights", text=_pointwise(sizes["filters"], sizes["depthwise channels"]))
        else:
            yield Remark(kind="weights", text=_each_filter(sizes, owner.option("groups", 1)))
    if sides := list(dict.fromkeys(side for entry in kernels for side in _sides(entry.axes))):
        yield Remark(
            kind="absent",
            text=f"The {listed(sides)} of the input and the batch size do not enter: "
            "the same weights serve them all.",
        )


def _pointwise(filters: int, channels: int) -> str:
    """Say what comes after a kernel for each channel: the filters that mix what it gives."""
    if channels == 1:
        return f"Then {each(filters, 'filter')} weighs the one channel this gives, with one weight."
    return f"Then {each(filters, 'filter')} mixes the {channels:,} channels this gives, with one weight for each."


def _sides(axes: Sequence[str]) -> list[str]:
    return [name.removeprefix("kernel ") for name in axes if name.startswith("kernel ")]


def _window(sizes: dict[str, int]) -> tuple[str, str, str]:
    """Say a kernel's weights, several such kernels, and what they slide over."""
    sides = _sides(tuple(sizes))
    lengths = [sizes[f"kernel {side}"] for side in sides]
    places = POSITIONS.get(sides[0], "every position")
    if math.prod(lengths) == 1:
        return "weight", "weights", places
    if len(lengths) == 1:
        return plural(lengths[0], "weight"), f"kernels of length {lengths[0]:,}", places
    window = "×".join(f"{length:,}" for length in lengths)
    return f"{window} weights", f"{window} kernels", places


def _each_channel(sizes: dict[str, int]) -> str:
    weights, _, places = _window(sizes)
    several = sizes.get("depth multiplier", 1)
    own = f"one kernel of {weights}" if several == 1 else f"{several:,} kernels of {weights}"
    own = own if weights != "weight" else plural(several, "weight")
    who = sentence(each(sizes["input channels"], "input channel"))
    if sizes["input channels"] == 1:
        return f"{who} has {own}; {places} shares {'it' if own == '1 weight' else 'the same weights'}."
    return f"{who} has {own} of its own; channels are not mixed here, and {places} shares the same weights."


def _each_filter(sizes: dict[str, int], groups: int) -> str:
    weights, kernels, places = _window(sizes)
    filters = sizes["filters"]
    channels = next(size for name, size in sizes.items() if name.startswith("input channels"))
    who = sentence(each(filters, "filter"))
    group = f" of its group ({channels * groups:,} channels in {groups:,} groups)" if groups > 1 else ""
    if channels == 1:
        them = "it" if weights == "weight" else "them"
        return f"{who} has its own {weights} for the one input channel{group}; {places} shares {them}."
    return (
        f"{who} has its own {weights} for each of the {channels:,} input channels{group}, "
        f"{filters * channels:,} separate {kernels} in all: "
        f"they are not shared between channels, but {places} shares them."
    )


def _matrix(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    kernel = next((entry for entry in entries if sorted(entry.axes) == ["features", "units"]), None)
    if kernel is None or any(entry.name == "recurrent_kernel" for entry in entries):
        return
    sizes = dict(zip(kernel.axes, kernel.shape, strict=True))  # PyTorch puts the units first
    features, units = sizes["features"], sizes["units"]
    bias = ", and one bias" if any(entry.name == "bias" for entry in entries) else ""
    yield Remark(
        kind="weights",
        text=f"{sentence(each(units, 'unit'))} has its own weight for {each(features, 'feature')}{bias}.",
    )
    flat = _flattened(ledger, owner)
    if flat is not None:
        what = {3: "sequence", 4: "image", 5: "volume"}.get(len(flat.input_shapes[0]), "input")
        product = output_arithmetic(flat)[0].partition(" values")[0]
        text = f"The batch size does not enter. The size of the {what} does, through '{flat.path}': "
        yield Remark(kind="absent", text=f"{text}{product} features.")
    elif any(len(shape) > 2 for shape in owner.input_shapes):
        text = "Only the last axis of the input enters: every position along the others shares the weights."
        yield Remark(kind="absent", text=text)
    else:
        yield Remark(
            kind="absent", text="The batch size does not enter; only the last axis of the input does."
        )


def _projection(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    """A kernel of many axes: those that the bias has, too, are what it makes, the others what it reads."""
    if owner.type != "EinsumDense" or not owner.builtin or not entries:
        return
    kernel, *others = entries
    bias = next((entry for entry in others if entry.name == "bias"), None)
    sized = list(zip(kernel.axes, kernel.shape, strict=True))
    made = bias.axes if bias is not None else [name for name in kernel.axes if name.startswith("units")]
    read = [name for name in kernel.axes if name not in made]
    if made and read:
        own = ", and one bias" if bias is not None else ""
        outputs, inputs = (
            _each_of([(name, size) for name, size in sized if name in names]) for names in (made, read)
        )
        text = f"{sentence(outputs)} it makes has its own weight for {inputs} it reads{own}."
        yield Remark(kind="weights", text=text)
    yield Remark(
        kind="absent",
        text="The batch size and the number of positions do not enter: all share the weights.",
    )


def _each_of(axes: Sequence[tuple[str, int]]) -> str:
    """Say each of the values along some axes: `each of the 8 features`, `each of the 8 values (2 heads × 4 size)`."""
    product = " × ".join(f"{size:,} {singular(name) if size == 1 else name}" for name, size in axes)
    if len(axes) > 1:
        return f"{each(math.prod(size for _, size in axes), 'value')} ({product})"
    name, size = axes[0]
    return f"the one {singular(name)}" if size == 1 else f"each of the {product}"


def _flattened(ledger: Ledger, owner: Owner) -> Owner | None:
    """Find the Flatten whose values reach this layer in their number, behind dropout and the like at most."""
    if not owner.input_shapes:  # of a file that says no sizes
        return None
    for other in ledger.preceding(owner.path):
        if other.output_shapes != owner.input_shapes or (
            owner.inputs and not {other.path, other.name} & set(owner.inputs)
        ):
            return None
        if any(entry.state in COUNTED for entry in ledger.owned_by(other.path)):
            return None
        if other.type == "Flatten" and output_arithmetic(other):
            return other
        owner = other
    return None


def _adapted(_: Owner, entries: Entries, __: Ledger) -> Iterator[Remark]:
    pair = [entry for entry in entries if entry.name.startswith("lora_")]
    if pair:
        whole = pair[0].name.removeprefix("lora_").removesuffix("_a")
        yield Remark(
            kind="weights",
            text=f"{listed([entry.name for entry in pair])} learn in place of {whole}: their product, "
            f"of rank {pair[-1].shape[0]:,}, is added to it.",
        )


def _normalisation(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    """What is learned of a normalisation; the statistics of BatchNormalization speak for themselves as state."""
    if not owner.builtin or not owner.type.endswith(("Normalization", "Norm")):
        return
    roles = [(entry, ROLES[entry.name]) for entry in entries if entry.name in ROLES]
    if owner.type == "Normalization" and entries:
        text = (
            "The mean and the variance are those of the data adapt() was given; count is how much that was."
        )
        yield Remark(kind="weights", text=text)
    if not roles:
        return
    text = (
        f"{listed([f'{entry.name} {does}' for entry, does in roles])} {_each(roles[0][0])} after normalising."
    )
    if not any(entry.state == "state" for entry in entries):
        text += " The statistics are taken anew from each input, so none are kept."
    yield Remark(kind="weights", text=text)
    positions = any(len(shape) - 1 > len(roles[0][0].shape) for shape in owner.input_shapes)
    where = "The batch size and the positions do not enter: all share" if positions else "All examples share"
    yield Remark(kind="absent", text=f"{where} these weights.")


def _slopes(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    if owner.type != "PReLU" or not entries or not owner.builtin:
        return
    slopes = entries[0]
    whole = next(
        (shape[1:] for shape in owner.input_shapes if len(shape) == len(slopes.shape) + 1), slopes.shape
    )
    axes = zip(slopes.axes, slopes.shape, whole, strict=True)
    shared = [name for name, size, values in axes if size == 1 != values and name]
    along = f", shared along {listed(shared)}" if shared else ""
    yield Remark(
        kind="weights",
        text=f"{slopes.name} is the slope for negative values: one for {_each(slopes)}{along}.",
    )


def _scores(owner: Owner, entries: Entries, _: Ledger) -> Iterator[Remark]:
    if owner.builtin and entries and owner.type in ("Attention", "AdditiveAttention"):
        names = listed([entry.name for entry in entries])
        what = f", {_each(entries[0])} by itself" if entries[0].shape else ""
        weigh = "weighs" if len(entries) == 1 else "weigh"
        text = f"{names} {weigh} the scores of queries and keys{what}; the scores follow from the data."
        yield Remark(kind="weights", text=text)


def _each(entry: Entry) -> str:
    """Say what a weight has one number for: `each of the 3 channels`."""
    axes = [(name, size) for name, size in zip(entry.axes, entry.shape, strict=True) if size != 1]
    if entry.size == 1:
        return f"the one {singular(entry.axes[-1])}"
    if len(axes) == 1:
        name, size = axes[0]
        return f"each of the {size:,} {name if name.endswith('s') else f'places along {name}'}"
    return f"each of the {plural(entry.size, 'place')} ({' × '.join(entry.axes)})"


def _recurrence(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    weights = {entry.name: entry for entry in entries}
    kernel, recurrent = weights.get("kernel"), weights.get("recurrent_kernel")
    if kernel is None or recurrent is None or len(recurrent.shape) != 2:
        return
    units, gates = recurrent.shape[0], recurrent.shape[1] // recurrent.shape[0]
    sums = weights["bias"].size // recurrent.shape[1] if "bias" in weights else 0
    bias = f", and has {'a bias' if sums == 1 else f'{sums} biases'}" if sums else ""
    who = sentence(each(units, "unit"))
    names = f" ({_GATES[owner.type]})" if owner.type in _GATES and owner.builtin else ""
    who = f"{who} has {gates:,} gates{names}. Each gate" if gates > 1 else who
    yield Remark(
        kind="weights",
        text=f"{who} weighs {the(kernel.shape[0], 'feature')} of a step and "
        f"{the(units, 'output')} of the step before{bias}.",
    )
    yield Remark(
        kind="absent",
        text="The length of the sequence and the batch size do not enter: every step uses the same weights.",
    )


_GATES = {
    "LSTMCell": "input, forget, candidate and output",
    "GRUCell": "update, reset and candidate",
}


def _table(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.type != "Embedding" or not entries or len(entries[0].shape) != 2:
        return
    tokens, width = entries[0].shape
    yield Remark(
        kind="weights",
        text=f"One row of {plural(width, 'number')} for {each(tokens, 'token')}; "
        "a token's row is looked up, nothing is multiplied.",
    )
    yield Remark(
        kind="absent",
        text="The length of the sequence and the batch size do not enter: every position looks up in one table.",
    )


SHARING: tuple[Reason, ...] = (
    _convolution,
    _matrix,
    _projection,
    _adapted,
    _normalisation,
    _slopes,
    _scores,
    _recurrence,
    _table,
)
"""Each finds the reasons of one family of layers, and nothing for another."""
