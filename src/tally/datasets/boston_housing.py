"""Boston housing: 506 neighbourhoods of the 1970s and the prices of their houses; read the caution before using it."""

from tally.datasets.houses import Split, parted
from tally.datasets.published import KERAS, Published

_FILE = Published(
    title="Boston housing",
    address=f"{KERAS}boston_housing.npz",
    pin="f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
    size=57_026,
)


def load_data(
    path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[Split, Split]:
    """Load the neighbourhoods from `~/.tally/datasets`, where they are downloaded to (57 kB) the first time.

    Caution: one of the 13 columns, B, is computed from the share of Black residents, on the assumption that racial
    segregation raises or lowers what a house is worth. A model that learns from it learns that assumption. Use this
    data set to talk about such harm in data, and `california_housing` with `version="small"` for everything else.

    Args:
        path: Name of the file there.
        test_split: The share that is held out to test with, the last ones after shuffling.
        seed: The same number gives the same order.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 404 and 102 neighbourhoods, float64, (neighbourhoods, 13), and the
        median price of their houses in thousands of dollars, float64, (neighbourhoods,).

    Raises:
        ArgumentError: `test_split` leaves nothing to learn from.
        DataError: The file is not there and could not be downloaded, or is not the expected one.

    Source: Harrison & Rubinfeld, 1978, http://lib.stat.cmu.edu/datasets/boston; the file of
        `keras.datasets.boston_housing`.
    """
    return parted(_FILE, path, None, test_split, seed)
