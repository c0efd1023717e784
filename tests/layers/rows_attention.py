"""Rows for the attention layers that take a list; those with heads have tests of their own."""

from layers.cases import Case

ROWS = [
    Case("Attention", {}, [(2, 4, 3), (2, 5, 3)]),
    Case(
        "Attention", {"use_scale": True, "score_mode": "concat"}, [(2, 4, 3), (2, 5, 3), (2, 5, 3)], "concat"
    ),
    Case("AdditiveAttention", {}, [(2, 4, 3), (2, 5, 3)]),
    Case("AdditiveAttention", {"use_scale": False}, [(2, 4, 3), (2, 5, 3)], "no scale"),
]
