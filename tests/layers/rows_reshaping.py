"""Rows for the layers that move, cut, pad or repeat values."""

from layers.cases import Case

ROWS = [
    Case("Flatten", {}, (2, 3, 4)),
    Case("Flatten", {"data_format": "channels_first"}, (2, 3, 4, 5), "channels first"),
    Case("Flatten", {}, (2,), "nothing to flatten"),
    Case("Reshape", {"target_shape": (4, 3)}, (2, 12)),
    Case("Reshape", {"target_shape": (-1, 2)}, (2, 3, 4), "open size"),
    Case("Permute", {"dims": (3, 1, 2)}, (2, 3, 4, 5)),
    Case("RepeatVector", {"n": 3}, (2, 4)),
    Case("ZeroPadding1D", {"padding": (2, 0)}, (2, 3, 2)),
    Case("ZeroPadding1D", {"padding": 1, "data_format": "channels_first"}, (2, 3, 2), "channels first"),
    Case("ZeroPadding2D", {}, (2, 3, 4, 2)),
    Case("ZeroPadding2D", {"padding": (1, 2)}, (2, 3, 4, 2), "two numbers"),
    Case(
        "ZeroPadding2D",
        {"padding": ((0, 1), (2, 3)), "data_format": "channels_first"},
        (2, 2, 3, 4),
        "channels first",
    ),
    Case("ZeroPadding3D", {"padding": 2}, (2, 3, 2, 1, 2)),
    Case("Cropping1D", {}, (2, 5, 2)),
    Case("Cropping2D", {}, (2, 5, 4, 2)),
    Case(
        "Cropping2D",
        {"cropping": ((0, 1), (2, 1)), "data_format": "channels_first"},
        (2, 2, 5, 4),
        "channels first",
    ),
    Case("Cropping3D", {}, (2, 3, 4, 5, 2)),
    Case("UpSampling1D", {"size": 3}, (2, 3, 2)),
    Case("UpSampling2D", {}, (2, 3, 4, 2)),
    Case("UpSampling2D", {"size": (2, 3), "data_format": "channels_first"}, (2, 2, 3, 4), "channels first"),
    *(
        Case("UpSampling2D", {"size": (2, 3), "interpolation": word}, (2, 3, 4, 2), word)
        for word in ("bilinear", "bicubic", "lanczos3", "lanczos5")
    ),
    Case("UpSampling3D", {"size": (1, 2, 3)}, (2, 2, 3, 2, 2)),
]
