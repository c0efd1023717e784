"""What CIFAR-10 and CIFAR-100 share: files of small images, which are pickles and are read as data."""

from pathlib import Path
from typing import Any

import numpy as np

from tally.core.dtype import image_data_format
from tally.datasets.arrays import as_array, read_pickled
from tally.formats.errors import BadFileError
from tally.formats.pickle import Dict

_SIDE = 32
_COLOURS = 3

Split = tuple[np.ndarray, np.ndarray]


def read_batch(path: Path, labels: str, classes: int) -> tuple[np.ndarray, list[int]]:
    """Read a file of images.

    Args:
        path: The file.
        labels: What the labels are called in it.
        classes: How many labels there are.

    Returns:
        Images, uint8, with the colours where `tally.config.image_data_format` wants them, and the label of each.

    Raises:
        BadFileError: It is broken, or something else, or would run something.
    """
    found = read_pickled(path)
    if not isinstance(found, Dict):
        raise BadFileError(path, "is no dictionary of images and labels")
    images = as_array(found.get("data"), path, "the entry 'data'")
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != _COLOURS * _SIDE**2:
        raise BadFileError(path, f"has no images of {_SIDE} by {_SIDE} pixels", place="the entry 'data'")
    images = images.reshape(-1, _COLOURS, _SIDE, _SIDE)
    if image_data_format() == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    return images, _labels(found.get(labels), len(images), classes, path, f"the entry {labels!r}")


def joined(batches: list[tuple[np.ndarray, list[int]]], dtype: str) -> Split:
    """Put batches behind one another; the labels become a column."""
    labels = [label for _, some in batches for label in some]
    return np.concatenate([images for images, _ in batches]), np.array(labels, dtype).reshape(-1, 1)


def _labels(found: Any, count: int, classes: int, path: Path, place: str) -> list[int]:
    if not isinstance(found, list) or len(found) != count:
        raise BadFileError(path, f"has not one label for each of {count:,} images", place=place)
    if not all(type(label) is int and 0 <= label < classes for label in found):
        raise BadFileError(path, f"has a label outside of 0 to {classes - 1}", place=place)
    return found
