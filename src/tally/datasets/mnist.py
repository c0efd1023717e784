"""MNIST: 70,000 handwritten digits, downloaded once."""

import numpy as np

from tally.datasets.arrays import read_npz
from tally.datasets.published import KERAS, Published

_FILE = Published(
    title="MNIST",
    address=f"{KERAS}mnist.npz",
    pin="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    size=11_490_434,
)

Split = tuple[np.ndarray, np.ndarray]


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """Load MNIST from `~/.tally/datasets`, where it is downloaded to (11 MB) the first time.

    Args:
        path: Name of the file there.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 grey images, uint8 from 0 to 255, (images, 28, 28),
        and the digits they show, uint8, (images,).

    Raises:
        DataError: The file is not there and could not be downloaded, or is not the expected one.

    Source: LeCun, Cortes & Burges, https://yann.lecun.org/exdb/mnist; the file of `keras.datasets.mnist`.
    """
    arrays = read_npz(_FILE.fetch(path), ("x_train", "y_train", "x_test", "y_test"))
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
