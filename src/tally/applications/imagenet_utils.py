"""Between images and ImageNet models: pixels scaled as a model was trained, and classes by their names."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tally.config import floatx, image_data_format
from tally.core.errors import ArgumentError, DataError, ShapeError
from tally.downloads import get_file

_CLASSES = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
_CLASSES_MD5 = "c2c37ea517e94d9795004a39431a14cb"

_SCALES: dict[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "caffe": (1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": (127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "torch": (255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mode -> what pixels are divided by, then the mean and the deviation of each channel that are taken out."""


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Scale pixels as the images were on which a model was trained.

    Args:
        x: One or more images of three channels, red, green and blue, each from 0 to 255: an array of any kind, or a
            symbolic tensor. It is left as it is.
        data_format: `"channels_last"` or `"channels_first"`; the global setting unless given.
        mode: `"caffe"` for blue, green, red minus their means; `"tf"` for -1 to 1; `"torch"` for 0 to 1, then minus
            the means and divided by the deviations.

    Raises:
        ArgumentError: The mode or the data format is not known.

    Example:
        >>> preprocess_input(np.full((1, 1, 3), 255.0), mode="tf")
        array([[[1., 1., 1.]]])

    Source: `keras.applications.imagenet_utils.preprocess_input`, which writes into floating NumPy arrays.
    """
    if mode not in _SCALES:
        raise ArgumentError(f"mode={mode!r} is not known.", do='use "caffe", "tf" or "torch"')
    layout = data_format or image_data_format()
    if layout not in ("channels_last", "channels_first"):
        raise ArgumentError(
            f"data_format={layout!r} is not known.", do='use "channels_last" or "channels_first"'
        )
    if isinstance(x, np.ndarray) and not np.issubdtype(x.dtype, np.floating):
        x = x.astype(floatx())
    last = layout == "channels_last"
    scale, mean, deviation = _SCALES[mode]
    if mode == "caffe":
        backwards = slice(None, None, -1)
        x = x[..., backwards] if last else x[..., backwards, :, :]
    shape = (3,) if last else (3, 1, 1)
    dtype = str(x.dtype)
    return (x / scale - np.reshape(mean, shape).astype(dtype)) / np.reshape(deviation, shape).astype(dtype)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Name the likeliest ImageNet classes of each image.

    The names are downloaded once, to `~/.tally/models/imagenet_class_index.json`.

    Args:
        preds: Probabilities, (images, 1000).
        top: How many classes to name.

    Returns:
        For each image `(WordNet number, name, probability)`, the likeliest first.

    Raises:
        ShapeError: The predictions are not those of an ImageNet classifier.
        DataError: The names are not there and can't be downloaded.

    Source: `keras.applications.imagenet_utils.decode_predictions`.
    """
    scores = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise ShapeError(
            f"The names are those of the 1000 ImageNet classes, but the predictions have the shape {scores.shape}.",
            do="pass what a model with include_top=True and classes=1000 gives for a batch",
        )
    names = _read_classes()
    best = np.argsort(scores, axis=1)[:, ::-1][:, :top]
    return [
        [(*names[k], float(row[k])) for k in likeliest] for row, likeliest in zip(scores, best, strict=True)
    ]


def _read_classes() -> list[tuple[str, str]]:
    """WordNet number and name of each class, in the order of the classes."""
    try:
        path = get_file(origin=_CLASSES, file_hash=_CLASSES_MD5, cache_subdir="models", size_limit=2**20)
    except DataError as error:
        raise DataError(
            "The names of the ImageNet classes are not on this machine and could not be downloaded.",
            where=error.what,
            do=f"bring {_CLASSES} to ~/.tally/models, or take the classes by number: preds.argsort()",
        ) from error
    classes = json.loads(Path(path).read_text())
    return [tuple(classes[str(number)]) for number in range(1000)]
