"""Rows for the activation layers."""

from layers.cases import Case

ROWS = [
    Case("Activation", {"activation": "gelu"}),
    Case("Activation", {"activation": "softmax"}, note="softmax"),
    Case("ReLU"),
    Case("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, note="options"),
    Case("LeakyReLU", {"negative_slope": 0.2}),
    Case("PReLU", {}, (2, 4, 3)),
    Case("PReLU", {"shared_axes": [1, 2], "alpha_regularizer": "l2"}, (2, 4, 4, 3), "shared"),
    Case("ELU", {"alpha": 0.5}),
    Case("Softmax", {}, (2, 4, 3)),
    Case("Softmax", {"axis": [1, 2]}, (2, 4, 3), "two axes"),
]
