"""Rows for the convolutions."""

from layers.cases import Case

_SIDES = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}


def _inputs(rank: int, channels: int, first: bool = False) -> tuple[int, ...]:
    return (2, channels, *_SIDES[rank]) if first else (2, *_SIDES[rank], channels)


ROWS = [
    *(Case(f"Conv{rank}D", {"filters": 3, "kernel_size": 2}, _inputs(rank, 2)) for rank in _SIDES),
    *(
        Case(
            f"Conv{rank}D",
            {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2},
            _inputs(rank, 2),
            "same",
        )
        for rank in _SIDES
    ),
    Case(
        "Conv1D",
        {"filters": 3, "kernel_size": 2, "padding": "causal", "dilation_rate": 2},
        (2, 7, 2),
        "causal",
    ),
    Case(
        "Conv2D",
        {"filters": 4, "kernel_size": (2, 3), "groups": 2, "activation": "relu"},
        (2, 6, 5, 4),
        "groups",
    ),
    Case(
        "Conv2D",
        {"filters": 2, "kernel_size": 2, "dilation_rate": (2, 1), "padding": "same"},
        (2, 6, 5, 2),
        "dilated",
    ),
    Case(
        "Conv2D",
        {"filters": 2, "kernel_size": (3, 2), "strides": (1, 2), "use_bias": False},
        (2, 6, 5, 2),
        "strided",
    ),
    Case(
        "Conv2D",
        {
            "filters": 2,
            "kernel_size": 2,
            "kernel_regularizer": "l2",
            "bias_regularizer": "l1",
            "activity_regularizer": "l1",
            "kernel_constraint": "non_neg",
            "kernel_initializer": "he_normal",
        },
        (2, 4, 4, 2),
        "options",
    ),
    *(
        Case(
            f"Conv{rank}D",
            {"filters": 3, "kernel_size": 2, "data_format": "channels_first"},
            _inputs(rank, 2, first=True),
            "channels first",
        )
        for rank in (1, 2)
    ),
    *(
        Case(f"Conv{rank}DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2}, _inputs(rank, 2))
        for rank in _SIDES
    ),
    Case(
        "Conv2DTranspose",
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"},
        (2, 3, 4, 2),
        "same",
    ),
    Case("Conv2DTranspose", {"filters": 2, "kernel_size": (2, 1), "strides": 3}, (2, 3, 4, 2), "gaps"),
    Case("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "dilation_rate": 2}, (2, 3, 4, 2), "dilated"),
    Case(
        "Conv2DTranspose",
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
        (2, 3, 4, 2),
        "output padding",
    ),
    Case(
        "Conv2DTranspose",
        {"filters": 2, "kernel_size": 2, "strides": 2, "data_format": "channels_first", "use_bias": False},
        (2, 2, 3, 4),
        "channels first",
    ),
    *(
        Case(f"DepthwiseConv{rank}D", {"kernel_size": 2, "depth_multiplier": 2}, _inputs(rank, 3))
        for rank in (1, 2)
    ),
    Case(
        "DepthwiseConv2D",
        {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        (2, 6, 5, 3),
        "same",
    ),
    Case(
        "DepthwiseConv2D", {"kernel_size": 2, "data_format": "channels_first"}, (2, 3, 6, 5), "channels first"
    ),
    *(
        Case(
            f"SeparableConv{rank}D", {"filters": 4, "kernel_size": 2, "depth_multiplier": 2}, _inputs(rank, 3)
        )
        for rank in (1, 2)
    ),
    Case(
        "SeparableConv2D",
        {
            "filters": 4,
            "kernel_size": 3,
            "dilation_rate": 2,
            "padding": "same",
            "pointwise_regularizer": "l2",
        },
        (2, 6, 5, 3),
        "dilated",
    ),
    Case(
        "SeparableConv2D",
        {"filters": 4, "kernel_size": 2, "strides": 2, "data_format": "channels_first"},
        (2, 3, 6, 5),
        "channels first",
    ),
]
