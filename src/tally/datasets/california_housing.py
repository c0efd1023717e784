"""California housing: 20,640 neighbourhoods in the census of 1990 and the prices of their houses."""

from tally.core.errors import ArgumentError
from tally.datasets.houses import Split, parted
from tally.datasets.published import KERAS, Published

_FILE = Published(
    title="California housing",
    address=f"{KERAS}california_housing.npz",
    pin="1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
    size=743_530,
)
_ROWS = {"small": 600, "large": None}


def load_data(
    version: str = "large", path: str = "california_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[Split, Split]:
    """Load the neighbourhoods from `~/.tally/datasets`, where they are downloaded to (1 MB) the first time.

    A row is a block group, of about 600 to 3,000 people. The columns are said to be, in this order, median income,
    median age of the houses, rooms and bedrooms per household, people, people per household, latitude and longitude.

    Args:
        version: `"large"` for all, `"small"` for the first 600.
        path: Name of the file there.
        test_split: The share that is held out to test with, the last ones after shuffling.
        seed: The same number gives the same order.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 16,512 and 4,128 neighbourhoods, (neighbourhoods, 8), and the median
        price of their houses in dollars, (neighbourhoods,).

    Raises:
        ArgumentError: There is no such version, or `test_split` leaves nothing to learn from.
        DataError: The file is not there and could not be downloaded, or is not the expected one.

    Source: Pace & Barry, 1997, https://www.dcc.fc.up.pt/~ltorgo/Regression/cal_housing.html; the file of
        `keras.datasets.california_housing`.
    """
    if version not in _ROWS:
        raise ArgumentError(f"California housing has no version {version!r}.", do='pass "large" or "small"')
    return parted(_FILE, path, _ROWS[version], test_split, seed)
