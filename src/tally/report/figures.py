"""How numbers are written: counts with separators, bytes with units, shapes with their open sizes."""

import re
from collections.abc import Sequence

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")


def count(number: int) -> str:
    """Write a count exactly, thousands separated.

    Example:
        >>> count(1_000_000_000_000)
        '1,000,000,000,000'
    """
    return f"{number:,}"


def memory(size: int) -> str:
    """Write bytes in the largest unit that leaves at least one; each unit is 1,024 of the one before.

    The units are called as in Keras's summary, whose lines a summary repeats.

    Example:
        >>> memory(139_304), memory(0)
        ('136.04 KB', '0.00 B')
    """
    scale = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size / 1024**scale:,.2f} {_UNITS[scale]}"


def binary(size: int) -> str:
    """Write bytes as `memory` does, in units that say so: KiB, MiB, GiB.

    For figures that stand beside a size someone gave, where a GB is 1,000,000,000 bytes.

    Example:
        >>> binary(8_000_000_000), binary(8 * 2**30), binary(12)
        ('7.45 GiB', '8.00 GiB', '12.00 B')
    """
    return re.sub("(?<=[KMGTPE])B", "iB", memory(size))


def shape(sizes: Sequence[int | None]) -> str:
    """Write a shape as Python does, None where a size is open.

    Example:
        >>> shape((None, 1600))
        '(None, 1600)'
    """
    return str(tuple(sizes))
