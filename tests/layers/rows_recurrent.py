"""Rows for the recurrent layers."""

from typing import Any

from layers.cases import Case

SEQUENCE = (2, 5, 3)
ALL = {"units": 4, "return_sequences": True}


def _stack(library: Any) -> dict[str, Any]:
    cells = [library.layers.LSTMCell(4, name="low"), library.layers.GRUCell(3, name="high")]
    return {"cell": library.layers.StackedRNNCells(cells, name="stack"), "return_sequences": True}


ROWS = [
    *(Case(name, {"units": 4}, SEQUENCE) for name in ("SimpleRNN", "LSTM", "GRU")),
    *(Case(name, {**ALL, "return_state": True}, SEQUENCE, "all") for name in ("SimpleRNN", "LSTM", "GRU")),
    Case("LSTM", {**ALL, "go_backwards": True, "unit_forget_bias": False}, SEQUENCE, "backwards"),
    Case(
        "LSTM", {"units": 4, "use_bias": False, "recurrent_activation": "hard_sigmoid"}, SEQUENCE, "no bias"
    ),
    Case("LSTM", {"units": 4, "unroll": True, "kernel_regularizer": "l2"}, SEQUENCE, "unrolled"),
    Case("GRU", {**ALL, "reset_after": False}, SEQUENCE, "reset before"),
    Case("RNN", _stack, SEQUENCE, "stack"),
]
