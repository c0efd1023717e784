"""Why a layer has no weights, what it does instead, and which numbers in it are fixed rather than learned."""

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

from tally.accounting.dialect import dialect
from tally.accounting.ledger import Ledger, Owner
from tally.accounting.remark import Entries, Reason, Remark
from tally.accounting.window import each_side, spatial
from tally.accounting.words import instead, listed, stem


def _weightless(owner: Owner, entries: Entries, ledger: Ledger) -> Iterator[Remark]:
    if owner.status != "no weights" or any(entry.state != "seed" for entry in ledger.under(owner.path)):
        return
    does = instead(owner.type) if owner.builtin else None
    if owner.type == "Lambda":
        text = "No weights: it applies the function it was given, and a function owns nothing that could be trained."
    elif owner.module == "tally.ops":
        text = "No weights: an operation only computes, it holds nothing."
    elif does is not None:
        text = f"No weights, nothing to learn: it {does}."
    else:
        text = f"No weights: {dialect(ledger.source).none}."
    yield Remark(kind="none", text=text)
    # Of a layer that somebody else wrote for another library, only what is stored was looked at.
    looked_into = owner.builtin or ledger.source.startswith("tally")
    fixed = _fixed(owner) if looked_into else None
    if fixed is not None:
        yield Remark(kind="constant", text=fixed)


def _fixed(owner: Owner) -> str | None:
    """Say what is fixed in a layer that learns nothing; None where its constants, said next, are that."""
    if owner.constants or implied(owner):
        return None
    if owner.type == "Lambda":
        return "Fixed: the function. No number or array was found in it or captured by it."
    if not owner.builtin:
        return "No array was found among its attributes: what it gives follows from its input and its code."
    if owner.module == "tally.ops":
        return "Fixed: the operation; it was given no number of its own."
    say = _FIXED.get(stem(owner.type), _numbers())
    return say(owner) or "Fixed: what it was made with; it keeps no number of its own."


def _constants(owner: Owner, _: Entries, __: Ledger) -> Iterator[Remark]:
    constants = owner.constants or implied(owner)
    for what, count, value, stored in constants:
        kept = (
            "stored but not learned, so not counted"
            if stored
            else "not stored and not learned, so not counted"
        )
        numbers = f"{what}, {_shown(value)}" if count == 1 and value is not None else f"{what}, {count:,}"
        each = f" of {_fraction(value)}" if value is not None and count != 1 else ""
        yield Remark(
            kind="constant", text=f"Fixed {'number' if count == 1 else 'numbers'}: {numbers}{each}; {kept}."
        )
    if constants and owner.option("pool_size") is not None and owner.option("padding") == "same":
        yield Remark(
            kind="constant",
            text="Where a window hangs over the border, the mean is over the values inside: "
            "fewer and larger weights.",
        )


def implied(owner: Owner) -> tuple[tuple[str, int, Any, bool], ...]:
    """The weights a mean implies: 1/n for each of the n values it is taken of."""
    sizes: tuple[Any, ...] = ()
    if owner.type.startswith("AveragePooling") and owner.option("pool_size") is not None:
        rank = int(owner.type[-2]) if owner.type[-2:-1].isdigit() else 1
        sizes, what = (
            each_side(owner.option("pool_size"), rank),
            "the implied weights of the mean in each window",
        )
    elif owner.type.startswith("GlobalAveragePooling") and owner.input_shapes:
        sizes, what = (
            spatial(owner, owner.input_shapes[0]),
            "the implied weights of the mean over all positions",
        )
    elif owner.type == "Average" and owner.input_shapes:
        sizes, what = (len(owner.input_shapes),), "the implied weights of the mean of the inputs"
    else:
        return ()
    if not sizes or None in sizes:
        return ()
    number = math.prod(sizes)
    return ((what, number, f"1/{number:,}", False),)


def _fraction(value: Any) -> str:
    """Write 0.1111 as the fraction it is, and other numbers without what their type adds."""
    if isinstance(value, float) and 0 < value < 1 and abs(1 / value - round(1 / value)) < 1e-6 / value:
        return f"1/{round(1 / value):,}"
    return f"{value:,g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    """Write a number as it was probably typed: 0.5 and not 1/2, but 1/255 and not 0.00392157."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, cast("tuple[Any, ...]", value)))
    short = f"{value:,g}" if isinstance(value, float) else str(value)
    return short if len(short) < 6 else _fraction(value)


def _numbers(*names: str) -> Callable[[Owner], str | None]:
    """Name the numbers that were chosen when the layer was made."""

    def say(owner: Owner) -> str | None:
        chosen = [f"{name} {_shown(owner.option(name))}" for name in names if owner.option(name) is not None]
        return f"Fixed: {listed(chosen)}, chosen when it was made and not learned." if chosen else None

    return say


def _sentence(text: str) -> Callable[[Owner], str]:
    return lambda _: text


def _function(owner: Owner) -> str:
    name = owner.option("activation")
    if name in (None, "<lambda>"):
        return "Fixed: the function. No number or array was found in it or captured by it."
    return f"Fixed: the function {name}; it holds nothing to be learned."


def _window(owner: Owner) -> str | None:
    size = owner.option("pool_size")
    if size is None:
        return None
    sides = each_side(size, 1)
    strides = each_side(owner.option("strides") or size, len(sides))
    steps = listed(list(dict.fromkeys(map(str, strides))))
    length = "" if len(sides) > 1 else "length "
    window = f"a window of {length}{'×'.join(map(str, sides))}, moved by {steps}"
    return f"Fixed: {window}. It chooses values and weighs none."


def _kept(owner: Owner) -> str | None:
    rate = owner.option("rate")
    if rate is None:
        return None
    if not 0 < rate < 1:
        return f"Fixed: the rate {_shown(rate)}; {'nothing' if rate == 0 else 'everything'} is dropped."
    return (
        f"Fixed: the rate {rate:g}. While training, a value is kept with probability {1 - rate:g} and "
        f"multiplied by 1/(1 − {rate:g}) = {1 / (1 - rate):.4g}."
    )


_MOVED = _sentence("Nothing in it weighs a value: fixed is only where each value goes.")
_FIXED: dict[str, Callable[[Owner], str | None]] = {
    **dict.fromkeys(
        (
            "CenterCrop",
            "Concatenate",
            "Cropping",
            "Flatten",
            "Identity",
            "Permute",
            "RepeatVector",
            "Reshape",
        ),
        _MOVED,
    ),
    **dict.fromkeys(("Dropout", "SpatialDropout"), _kept),
    **dict.fromkeys(("AlphaDropout", "GaussianDropout"), _numbers("rate")),
    **dict.fromkeys(
        ("AdditiveAttention", "Attention", "Dot", "Maximum", "Minimum", "Multiply"),
        _sentence(
            "Fixed: the operation alone. Its inputs act on each other, and no number of its own enters."
        ),
    ),
    **dict.fromkeys(
        ("AdaptiveMaxPooling", "GlobalMaxPooling"),
        _sentence("Nothing in it weighs a value: the largest is chosen."),
    ),
    "Activation": _function,
    "ActivityRegularization": _numbers("l1", "l2"),
    **dict.fromkeys(
        ("AdaptiveAveragePooling", "Average", "AveragePooling", "GlobalAveragePooling"),
        _sentence("Fixed: the implied weights of a mean, 1/n for n values; not stored, so not counted."),
    ),
    "Add": _sentence("Fixed: every input counts once, as if its weight were 1."),
    "CategoryEncoding": _numbers("num_tokens"),
    "Discretization": _numbers("bin_boundaries"),
    "ELU": _numbers("alpha"),
    "GaussianNoise": _numbers("stddev"),
    "Hashing": _numbers("num_bins"),
    "InputLayer": _sentence("Fixed: its shape and type; what comes in is up to the data."),
    "LeakyReLU": _numbers("negative_slope"),
    "Masking": _numbers("mask_value"),
    "MaxPooling": _window,
    "Normalization": _numbers("mean", "variance"),
    "ReLU": _numbers("negative_slope", "max_value", "threshold"),
    "Rescaling": _numbers("scale", "offset"),
    "Resizing": _numbers("height", "width"),
    "Softmax": _sentence("Fixed: the function; each share follows from the values alone."),
    "Subtract": _sentence("Fixed: the inputs count as if their weights were 1 and −1."),
    "UnitNormalization": _sentence(
        "Fixed: the length, 1; by what a vector is divided follows from it alone."
    ),
    "UpSampling": _sentence(
        "Fixed: how values are repeated or interpolated; the weights of that follow from the size alone."
    ),
    "ZeroPadding": _sentence("Fixed: the zeros it adds; they weigh nothing and are not counted."),
}
"""What is fixed in each kind of layer that learns nothing."""

WEIGHTLESS: tuple[Reason, ...] = (_weightless, _constants)
