"""CIFAR-10: 60,000 small photographs of ten kinds of animals and vehicles."""

from tally.datasets.cifar import Split, joined, read_batch
from tally.datasets.published import Published

_FILE = Published(
    title="CIFAR-10",
    address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    pin="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    size=256 * 2**20,
)
_CLASSES = 10


def load_data() -> tuple[Split, Split]:
    """Load CIFAR-10 from `~/.tally/datasets`, where it is downloaded to (170 MB) and unpacked the first time.

    The labels are 0 aeroplane, 1 car, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 lorry. A few images are
    known to have a wrong one.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 50,000 and 10,000 images in colour, uint8 from 0 to 255,
        (images, 32, 32, 3), or (images, 3, 32, 32) where `tally.config.image_data_format()` is `"channels_first"`, and
        their labels, uint8, (images, 1).

    Raises:
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: What it was unpacked to is broken, or something else than images.

    Source: Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html; the file of `keras.datasets.cifar10`.
        It holds pickles, which are read as data: none is run.
    """
    folder = _FILE.unpack("cifar-10-batches-py-target") / "cifar-10-batches-py"
    train = [read_batch(folder / f"data_batch_{number}", "labels", _CLASSES) for number in range(1, 6)]
    test = [read_batch(folder / "test_batch", "labels", _CLASSES)]
    return joined(train, "uint8"), joined(test, "uint8")
