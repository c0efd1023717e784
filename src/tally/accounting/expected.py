"""What a layer that isn't built will count: its formula with its options put in and only its input left open."""

from collections.abc import Callable
from typing import Any, cast

from tally.accounting.ledger import Owner
from tally.accounting.window import each_side
from tally.accounting.words import stem


def expected(owner: Owner) -> str | None:
    """Give the formula of a layer that isn't built; None where its options don't tell it.

    Example:
        >>> expected(Owner(path="c", type="Conv2D", options=(("filters", 8), ("kernel_size", (3, 3)))))
        '8 × (input channels · 3·3 + 1)'
    """
    if not owner.builtin:
        return None
    form = _FORMS.get(stem(owner.type.removesuffix("Transpose")))
    return None if form is None else form(owner)


def _bias(owner: Owner) -> str:
    return " + 1" if owner.option("use_bias", True) else ""


def _window(owner: Owner) -> str:
    return "·".join(f"{side:,}" for side in each_side(owner.option("kernel_size"), 1))


def _convolution(owner: Owner) -> str | None:
    filters, groups = owner.option("filters"), owner.option("groups", 1)
    if filters is None or owner.option("kernel_size") is None:
        return None
    seen = (
        f"input channels · {_window(owner)}"
        if groups == 1
        else f"{_window(owner)} · input channels / {groups:,}"
    )
    return f"{filters:,} × ({seen}{_bias(owner)})"


def _depthwise(owner: Owner) -> str | None:
    if owner.option("kernel_size") is None:
        return None
    return f"input channels × {owner.option('depth_multiplier', 1):,} × ({_window(owner)}{_bias(owner)})"


def _separable(owner: Owner) -> str | None:
    filters, several = owner.option("filters"), owner.option("depth_multiplier", 1)
    if filters is None or owner.option("kernel_size") is None:
        return None
    seen = "input channels" if several == 1 else f"input channels · {several:,}"
    return f"{seen} · {_window(owner)} + {filters:,} × ({seen}{_bias(owner)})"


def _dense(owner: Owner) -> str | None:
    units = owner.option("units")
    if units is None:
        return None
    return f"{units:,} × (features + 1)" if _bias(owner) else f"{units:,} × features"


def _table(owner: Owner) -> str | None:
    rows, width = owner.option("input_dim"), owner.option("output_dim")
    return None if None in (rows, width) else f"{rows:,} × {width:,} = {rows * width:,}"


def _recurrent(gates: int) -> Callable[[Owner], str | None]:
    def form(owner: Owner) -> str | None:
        units = owner.option("units")
        if units is None:
            return None
        twice = gates == 3 and owner.option("reset_after", True)
        bias = " + 2" if twice and _bias(owner) else _bias(owner)
        return f"{f'{gates} × ' if gates > 1 else ''}{units:,} × (features + {units:,}{bias})"

    return form


def _normalisation(kept: int) -> Callable[[Owner], str | None]:
    """Scale, shift and what is kept besides, one of each for every channel of the axis it normalises."""

    def form(owner: Owner) -> str | None:
        axis: Any = owner.option("axis", -1)
        if isinstance(axis, tuple) and len(cast("tuple[Any, ...]", axis)) > 1:
            return None
        own = kept + sum(bool(owner.option(name, True)) for name in ("scale", "center"))
        return {0: None, 1: "channels"}.get(own, f"{own} × channels")

    return form


_FORMS: dict[str, Callable[[Owner], str | None]] = {
    "Conv": _convolution,
    "DepthwiseConv": _depthwise,
    "SeparableConv": _separable,
    "Dense": _dense,
    "Embedding": _table,
    **dict.fromkeys(("LSTM", "LSTMCell"), _recurrent(4)),
    **dict.fromkeys(("GRU", "GRUCell"), _recurrent(3)),
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), _recurrent(1)),
    "BatchNormalization": _normalisation(2),
    "LayerNormalization": _normalisation(0),
    "GroupNormalization": _normalisation(0),
}
