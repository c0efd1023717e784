"""Rows for the layers that hold another layer."""

from typing import Any

from layers.cases import Case

SEQUENCE = (2, 5, 3)


def _lstm(**more: Any) -> Any:
    def make(library: Any) -> dict[str, Any]:
        options = {name: value for name, value in more.items() if name != "merge_mode"}
        merge = {"merge_mode": more["merge_mode"]} if "merge_mode" in more else {}
        return {"layer": library.layers.LSTM(4, name="lstm", **options), **merge}

    return make


ROWS = [
    Case("TimeDistributed", lambda library: {"layer": library.layers.Dense(4, name="inner")}, SEQUENCE),
    Case(
        "TimeDistributed",
        lambda library: {"layer": library.layers.BatchNormalization(name="inner")},
        SEQUENCE,
        "statistics",
        phases=(False, True),
    ),
    Case("Bidirectional", _lstm(), SEQUENCE),
    Case("Bidirectional", _lstm(return_sequences=True, return_state=True), SEQUENCE, "all"),
    *(
        Case("Bidirectional", _lstm(return_sequences=True, merge_mode=mode), SEQUENCE, str(mode))
        for mode in ("sum", "ave", "mul", None)
    ),
]
