"""Rows for the preprocessing layers."""

from layers.cases import Case

IMAGES = (2, 8, 6, 3)

ROWS = [
    Case("Rescaling", {"scale": 0.5, "offset": 1.0}),
    Case("Normalization", {"mean": [1.0, 2.0, 3.0], "variance": [1.0, 4.0, 9.0]}),
    Case("Normalization", {"axis": None, "mean": 2.0, "variance": 4.0, "invert": True}, note="undone"),
    Case("Resizing", {"height": 4, "width": 5}, IMAGES),
    Case(
        "Resizing",
        {"height": 4, "width": 4, "crop_to_aspect_ratio": True, "interpolation": "bicubic"},
        IMAGES,
        "cropped",
    ),
    Case(
        "Resizing",
        {"height": 4, "width": 4, "pad_to_aspect_ratio": True, "fill_value": 1.0},
        IMAGES,
        "padded",
    ),
    Case("CenterCrop", {"height": 4, "width": 3}, IMAGES),
    Case("CenterCrop", {"height": 12, "width": 3}, IMAGES, "too small"),
    Case("CategoryEncoding", {"num_tokens": 5}, (2, 3), integers=5),
    Case("CategoryEncoding", {"num_tokens": 5, "output_mode": "one_hot"}, (2, 3), "one hot", integers=5),
    Case("CategoryEncoding", {"num_tokens": 5, "output_mode": "count"}, (2, 3), "count", integers=5),
    Case("Discretization", {"bin_boundaries": [-0.5, 0.0, 1.0]}),
]
