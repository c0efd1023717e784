"""Rows for the identity and the mask."""

from layers.cases import Case

ROWS = [Case("Identity"), Case("Masking", {"mask_value": 0.5}, (2, 4, 3))]
