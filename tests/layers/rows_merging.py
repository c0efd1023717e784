"""Rows for the merging layers."""

from layers.cases import Case

TWO = [(2, 4, 3), (2, 4, 3)]

ROWS = [
    *(Case(name, {}, TWO) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")),
    Case("Add", {}, [(2, 4, 3), (2, 3), (2, 1, 3)], "spread"),
    Case("Concatenate", {}, [(2, 4, 3), (2, 4, 5)]),
    Case("Concatenate", {"axis": 1}, [(2, 4, 3), (2, 2, 3)], "second axis"),
    Case("Dot", {"axes": 1}, [(2, 3), (2, 3)]),
    Case("Dot", {"axes": [2, 1], "normalize": True}, [(2, 4, 3), (2, 3, 5)], "cosines"),
    Case("Dot", {"axes": -1}, [(2, 4, 3), (2, 5, 3)], "from the back"),
]
