"""Fashion-MNIST: 70,000 pictures of clothes, in MNIST's form."""

import struct
import zlib
from pathlib import Path

import numpy as np

from tally.datasets.published import Published
from tally.formats.errors import BadFileError

# The publisher's own repository, as it was at one commit: the SHA-256 of these files are known from there and from
# TensorFlow Datasets. Keras downloads copies of the same names and sizes from elsewhere and compares them with nothing.
_COMMIT = "b2617bb6d3ffa2e429640350f613e3291e10b141"
_FOLDER = f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/{_COMMIT}/data/fashion/"
_FILES = {
    name: Published(title="Fashion-MNIST", address=f"{_FOLDER}{name}", pin=pin, size=size)
    for name, pin, size in (
        (
            "train-images-idx3-ubyte.gz",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            26_421_880,
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            29_515,
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            4_422_102,
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            5_148,
        ),
    )
}
_IMAGES, _LABELS = 0x803, 0x801
"""How a file of bytes begins: three axes, or one."""
_MOST = 64 * 2**20
_SIDE = 28
_CLASSES = 10

Split = tuple[np.ndarray, np.ndarray]


def load_data() -> tuple[Split, Split]:
    """Load Fashion-MNIST from `~/.tally/datasets/fashion-mnist`, where it is downloaded to (31 MB) the first time.

    The labels are 0 T-shirt or top, 1 trousers, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 trainer, 8 bag,
    9 ankle boot.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 grey images, uint8 from 0 to 255, (images, 28, 28),
        and their labels, uint8, (images,).

    Raises:
        DataError: A file is not there and could not be downloaded, or is not the expected one.
        BadFileError: A file is broken, or something else than images and labels.

    Source: Xiao, Rasul & Vollgraf, 2017, https://github.com/zalandoresearch/fashion-mnist, MIT licence; equal to
        `keras.datasets.fashion_mnist`.
    """
    return _split("train"), _split("t10k")


def _split(name: str) -> Split:
    paths = [
        _FILES[file].fetch(file, "datasets/fashion-mnist")
        for file in (f"{name}-images-idx3-ubyte.gz", f"{name}-labels-idx1-ubyte.gz")
    ]
    images = _read(paths[0], _IMAGES, (_SIDE, _SIDE))
    labels = _read(paths[1], _LABELS, ())
    if len(images) != len(labels) or (labels >= _CLASSES).any():
        raise BadFileError(
            paths[1], f"has not one label from 0 to {_CLASSES - 1} for each of {len(images):,} images"
        )
    return images, labels


def _read(path: Path, kind: int, sides: tuple[int, ...]) -> np.ndarray:
    """The bytes of a file in the form of MNIST's first publication, whose header says the length of each axis."""
    data = _unpacked(path)
    form = f">{2 + len(sides)}I"
    start = struct.calcsize(form)
    if len(data) < start:
        raise BadFileError(path, f"has {len(data)} bytes, fewer than a header")
    found, count, *lengths = struct.unpack_from(form, data)
    if found != kind or tuple(lengths) != sides:
        raise BadFileError(path, f"has a header of something else than bytes with the axes {('any', *sides)}")
    if len(data) - start != count * int(np.prod(sides)):
        raise BadFileError(path, f"claims {count:,} items, and has {len(data) - start:,} bytes for them")
    return np.frombuffer(data, np.uint8, offset=start).reshape(count, *sides).copy()


def _unpacked(path: Path) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    try:
        data = unpack.decompress(path.read_bytes(), _MOST)
    except zlib.error as error:
        raise BadFileError(path, f"can't be unpacked: {error}") from None
    if not unpack.eof or unpack.unused_data:
        why = (
            f"unpacks to more than {_MOST:,} bytes" if unpack.unconsumed_tail else "isn't one whole gzip file"
        )
        raise BadFileError(path, why)
    return data
