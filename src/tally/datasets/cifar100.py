"""CIFAR-100: 60,000 small photographs of a hundred kinds of things, in twenty groups."""

from tally.core.errors import ArgumentError
from tally.datasets.cifar import Split, joined, read_batch
from tally.datasets.published import Published

_FILE = Published(
    title="CIFAR-100",
    address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    pin="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    size=256 * 2**20,
)
_CLASSES = {"fine": 100, "coarse": 20}


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """Load CIFAR-100 from `~/.tally/datasets`, where it is downloaded to (169 MB) and unpacked the first time.

    Args:
        label_mode: `"fine"` for the hundred kinds, `"coarse"` for the twenty groups.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 50,000 and 10,000 images in colour, uint8 from 0 to 255,
        (images, 32, 32, 3), or (images, 3, 32, 32) where `tally.config.image_data_format()` is `"channels_first"`, and
        their labels, int64, (images, 1).

    Raises:
        ArgumentError: There are no labels of that kind.
        DataError: The file is not there and could not be downloaded, or is not the expected one.
        BadFileError: What it was unpacked to is broken, or something else than images.

    Source: Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html; the file of `keras.datasets.cifar100`.
        It holds pickles, which are read as data: none is run.
    """
    if label_mode not in _CLASSES:
        raise ArgumentError(
            f"CIFAR-100 has no labels label_mode={label_mode!r}.", do='pass "fine" or "coarse"'
        )
    folder = _FILE.unpack("cifar-100-python-target") / "cifar-100-python"
    key, classes = f"{label_mode}_labels", _CLASSES[label_mode]
    # int64 and not uint8 as in CIFAR-10: so does Keras, whatever its pages say.
    train, test = ([read_batch(folder / name, key, classes)] for name in ("train", "test"))
    return joined(train, "int64"), joined(test, "int64")
