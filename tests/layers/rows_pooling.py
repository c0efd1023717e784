"""Rows for the pooling layers."""

from layers.cases import Case

_SIDES = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}

ROWS = [
    *(
        Case(f"{kind}Pooling{rank}D", {"pool_size": 2}, (2, *sides, 3))
        for kind in ("Max", "Average")
        for rank, sides in _SIDES.items()
    ),
    *(
        Case(
            f"{kind}Pooling2D",
            {"pool_size": (3, 2), "strides": (2, 1), "padding": "same"},
            (2, 6, 5, 3),
            "same",
        )
        for kind in ("Max", "Average")
    ),
    *(
        Case(
            f"{kind}Pooling2D",
            {"pool_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"},
            (2, 3, 6, 5),
            "channels first",
        )
        for kind in ("Max", "Average")
    ),
    *(
        Case(f"Global{kind}Pooling{rank}D", {}, (2, *sides, 3))
        for kind in ("Max", "Average")
        for rank, sides in _SIDES.items()
    ),
    *(
        Case(
            f"Global{kind}Pooling2D",
            {"keepdims": True, "data_format": "channels_first"},
            (2, 3, 6, 5),
            "channels first",
        )
        for kind in ("Max", "Average")
    ),
    *(
        Case(f"Adaptive{kind}Pooling{rank}D", {"output_size": 3}, (2, *sides, 2))
        for kind in ("Max", "Average")
        for rank, sides in _SIDES.items()
    ),
    Case(
        "AdaptiveAveragePooling2D",
        {"output_size": (4, 2), "data_format": "channels_first"},
        (2, 3, 6, 5),
        "channels first",
    ),
]
