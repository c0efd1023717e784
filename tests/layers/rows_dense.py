"""Rows for the dense layers and the embedding."""

from layers.cases import Case

ROWS = [
    Case("Dense", {"units": 4}, (2, 3)),
    Case("Dense", {"units": 4, "use_bias": False, "activation": "relu"}, (2, 5, 3), "sequence"),
    Case(
        "Dense",
        {"units": 2, "kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"},
        (2, 3),
        "regularised",
    ),
    Case(
        "Dense",
        {"units": 2, "kernel_constraint": "max_norm", "kernel_initializer": "he_normal"},
        (2, 3),
        "options",
    ),
    Case("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 4, "bias_axes": "c"}, (2, 3)),
    Case("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 5)}, (2, 4, 3), "heads"),
    Case(
        "EinsumDense",
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 5), "bias_axes": "de", "activation": "tanh"},
        (2, 4, 3),
        "heads with bias",
    ),
    Case(
        "EinsumDense",
        {"equation": "...x,xy->...y", "output_shape": 4, "bias_axes": "y"},
        (2, 5, 3),
        "dots before",
    ),
    Case(
        "EinsumDense",
        {"equation": "ab...,bc->ac...", "output_shape": 4, "bias_axes": "c"},
        (2, 3, 5),
        "dots after",
    ),
    Case("Embedding", {"input_dim": 6, "output_dim": 4}, (2, 3), integers=6),
    Case("Embedding", {"input_dim": 6, "output_dim": 4, "mask_zero": True}, (2, 3), "masked", integers=6),
]
