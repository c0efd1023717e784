"""Layers that hold layers, recognised by the names of those inside: attention, and the cells Flax builds of layers."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tally.readers.hints import Hints
from tally.readers.leaves import Layer

Inside = Mapping[str, Layer]


def recognise_block(inside: Inside, own: Layer | None, hints: Hints) -> Layer | None:
    """Tell what some layers make together; None where that isn't known.

    Args:
        inside: The layers inside, by their names.
        own: What the arrays that it holds itself were recognised as.
        hints: What the file says of the whole model.

    Example:
        >>> def dense(units): return Layer(type="Dense", options=(("units", units),))
        >>> found = recognise_block({"q_proj": dense(64), "k_proj": dense(16), "v_proj": dense(16)}, None, Hints())
        >>> found.type
        'GroupedQueryAttention'
    """
    if own is not None:
        return own if own.known else None
    return next((layer for rule in _RULES if (layer := rule(inside, hints)) is not None), None)


_QUERIES = r"q_proj|query|to_q|wq|q_lin|attn_q|query_dense|q|query_proj|linear_q"
_KEYS = r"k_proj|key|to_k|wk|k_lin|attn_k|key_dense|k|key_proj|linear_k"
_TOGETHER = r"c_attn|qkv|qkv_proj|query_key_value|wqkv|attn_qkv|in_proj|to_qkv"
_PARTS = (
    rf"{_QUERIES}|{_KEYS}|{_TOGETHER}|v_proj|value|to_v|wv|v_lin|attn_v|value_dense|v|value_proj|linear_v|o_proj|out|"
    r"to_out|wo|out_lin|attn_output|output_dense|o|out_proj|linear_out|c_proj|dense|proj|output|attention_output"
)
_LINEAR = ("Dense", "EinsumDense")


def _attention(inside: Inside, hints: Hints) -> Layer | None:
    """Projections of queries and keys, apart or in one matrix, and nothing that isn't part of an attention."""
    if any(
        layer.type in _LINEAR and not re.fullmatch(_PARTS, name.lower()) for name, layer in inside.items()
    ):
        return None
    query, key = (_linear(inside, pattern) for pattern in (_QUERIES, _KEYS))
    if query is not None and key is not None:
        fewer = _units(key) < _units(query)
        kind = "GroupedQueryAttention" if fewer else "MultiHeadAttention"
        return Layer(type=kind, options=_heads(hints, fewer))
    if _linear(inside, _TOGETHER) is not None:
        return Layer(type="MultiHeadAttention", options=_heads(hints, False))
    return None


def _linear(inside: Inside, pattern: str) -> Layer | None:
    for name, layer in inside.items():
        if layer.type in _LINEAR and re.fullmatch(pattern, name.lower()):
            return layer
    return None


def _units(layer: Layer) -> int:
    units: Any = dict(layer.options).get("units", 0)
    return units


def _heads(hints: Hints, fewer: bool) -> tuple[tuple[str, Any], ...]:
    if fewer:
        known = {"num_query_heads": hints.heads, "num_key_value_heads": hints.key_heads}
    else:
        known = {"num_heads": hints.heads}
    return tuple((name, count) for name, count in known.items() if count is not None)


def _cell(inside: Inside, _: Hints) -> Layer | None:
    """Flax makes a recurrent cell of a linear layer for each gate."""
    named = {name.rstrip("_") for name in inside}  # `if_` and `in_`, where Python has the word
    for kind, names in _CELLS.items():
        if named == names and all(layer.type == "Dense" for layer in inside.values()):
            return Layer(type=kind)
    return None


_CELLS = {
    "LSTMCell": {"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"},
    "GRUCell": {"ir", "iz", "in", "hr", "hz", "hn"},
    "SimpleRNNCell": {"i", "h"},
}

_RULES: tuple[Callable[[Inside, Hints], Layer | None], ...] = (_attention, _cell)
