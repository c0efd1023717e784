"""What the data sets of house prices share: one table and one column, shuffled and parted."""

import numpy as np

from tally.core.errors import ArgumentError
from tally.datasets.arrays import read_npz
from tally.datasets.published import Published
from tally.formats.errors import BadFileError

Split = tuple[np.ndarray, np.ndarray]


def parted(file: Published, path: str, rows: int | None, test_split: float, seed: int) -> tuple[Split, Split]:
    """Load a table, bring its rows into an order by chance, and hold the last of them out.

    Args:
        file: Where the table is published.
        path: Name of the file in the folder of downloads.
        rows: How many of the first rows are used; None for all.
        test_split: The share that is held out.
        seed: The same number gives the same order.

    Raises:
        ArgumentError: `test_split` leaves nothing to learn from.
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: It is something else than a table and a column.
    """
    if not 0 <= test_split < 1:
        raise ArgumentError(
            f"test_split={test_split} leaves nothing to learn from, or is no share.",
            do="choose a number from 0 to less than 1, such as 0.2",
        )
    found = file.fetch(path)
    arrays = read_npz(found, ("x", "y"))
    x, y = (arrays[name] for name in "xy")
    if not (_is_plain(x, 2) and _is_plain(y, 1) and len(x) == len(y)):
        raise BadFileError(found, "is no table with one number for each row")
    x, y = x[:rows], y[:rows]
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    count = int(len(x) * (1 - test_split))
    train, test = order[:count], order[count:]
    return (x[train], y[train]), (x[test], y[test])


def _is_plain(array: object, rank: int) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiu" and array.ndim == rank
