"""The 1,797 handwritten digits that come with scikit-learn, in MNIST's form; no network is needed."""

from typing import Any

import numpy as np

from tally.core.errors import ArgumentError

_REPEATED = 3
_BORDER = 2
"""8 pixels three times, and two on each side, are the 28 of MNIST."""

Split = tuple[np.ndarray, np.ndarray]


def load_data(test_fraction: float = 0.2, seed: int = 0) -> tuple[Split, Split]:
    """Load the digits as grey images of 28×28 pixels, each of the 8×8 original ones drawn 3×3 inside an empty border.

    Args:
        test_fraction: The share of each digit's images that is held out, chosen at random.
        seed: The same number holds out the same images.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images, uint8 from 0 to 255, (images, 28, 28), and the digits they show,
        uint8, (images,).

    Raises:
        ArgumentError: The fraction leaves nothing to learn from or nothing to test with.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load_data()
        >>> x_train.shape, x_test.shape
        ((1438, 28, 28), (359, 28, 28))

    Source: Alpaydin & Kaynak, 1998, the test part of https://doi.org/10.24432/C50P49; `sklearn.datasets.load_digits`.
    """
    if not 0 < test_fraction < 1:
        raise ArgumentError(
            f"test_fraction={test_fraction} leaves nothing to learn from or nothing to test with.",
            do="choose a number between 0 and 1, such as 0.2",
        )
    images, labels = _read()
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        held_out = generator.permutation(places)[: round(test_fraction * len(places))]
        is_held_out[held_out] = True
    return (images[~is_held_out], labels[~is_held_out]), (images[is_held_out], labels[is_held_out])


def _read() -> Split:
    """All images, 28×28 from 0 to 255, and their digits."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        error.add_note('The digits come with scikit-learn: pip install "tally-nn[demo]"')
        raise
    digits: Any = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype("uint8")
    large = small.repeat(_REPEATED, axis=1).repeat(_REPEATED, axis=2)
    border = (_BORDER, _BORDER)
    return np.pad(large, ((0, 0), border, border)), digits.target.astype("uint8")
