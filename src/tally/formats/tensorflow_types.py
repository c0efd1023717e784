"""TensorFlow's types of elements and shapes, as its messages write them."""

from tally.formats.protobuf import Table

TYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("float64", 64),
    3: ("int32", 32),
    4: ("uint8", 8),
    5: ("int16", 16),
    6: ("int8", 8),
    7: ("string", 0),
    8: ("complex64", 64),
    9: ("int64", 64),
    10: ("bool", 8),
    11: ("int8", 8),
    12: ("uint8", 8),
    13: ("int32", 32),
    14: ("bfloat16", 16),
    15: ("int16", 16),
    16: ("uint16", 16),
    17: ("uint16", 16),
    18: ("complex128", 128),
    19: ("float16", 16),
    20: ("resource", 0),
    21: ("variant", 0),
    22: ("uint32", 32),
    23: ("uint64", 64),
    24: ("float8_e5m2", 8),
    25: ("float8_e4m3fn", 8),
    26: ("float8_e4m3fnuz", 8),
    27: ("float8_e4m3b11fnuz", 8),
    28: ("float8_e5m2fnuz", 8),
    29: ("int4", 8),
    30: ("uint4", 8),
    31: ("int2", 8),
    32: ("uint2", 8),
}
"""The number of each type, its name and the bits that an element takes in a file; 0 where they differ."""

FRACTIONS = ("float", "bfloat", "complex")


def read_shape(table: Table | None) -> tuple[int, ...] | None:
    """Return a shape, with -1 for what is open; None where even the rank is.

    Example:
        >>> read_shape(None)
        ()
    """
    if table is None:
        return ()
    if table.integer(3):
        return None
    return tuple(part.table().integer(1) for part in table.messages(2))
