"""VGG16: five blocks of 3×3 convolutions, each halving the image, and three dense layers."""

from functools import partial
from typing import Any

from tally import layers
from tally.applications import imagenet_utils
from tally.applications.imagenet_utils import decode_predictions
from tally.applications.trunk import Shape, check_weights, classify, close, open_image, pool
from tally.core.symbol import KerasTensor
from tally.models import Functional

_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions in a block, and the filters of each."""

preprocess_input = partial(imagenet_utils.preprocess_input, mode="caffe")


def VGG16(
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: KerasTensor | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "vgg16",
) -> Functional:
    """Build VGG16: 138,357,544 parameters, most of them in its dense layers.

    Args:
        include_top: Whether it ends in a classifier, or in features.
        weights: None for new weights, or a `.weights.h5` or `.keras` file. Those of ImageNet are not shipped.
        input_tensor: A symbolic image to begin with instead of a new input.
        input_shape: (height, width, channels) of an image, 224×224×3 unless given; at least 32×32.
        pooling: What reduces the features to a vector without the top: `"avg"`, `"max"`, or None for nothing.
        classes: Number of classes, with the top.
        classifier_activation: Activation of the last layer; None gives logits.
        name: The model's name.

    Raises:
        ArgumentError: An argument is not one of those described.

    Source: Simonyan & Zisserman, 2015, arXiv:1409.1556; equal to `keras.applications.VGG16`.
    """
    check_weights(weights)
    image = open_image(input_tensor, input_shape, size=224 if include_top else None, smallest=32)
    x = image
    for block, (convolutions, filters) in enumerate(_BLOCKS, 1):
        for number in range(1, convolutions + 1):
            conv = layers.Conv2D(
                filters, 3, padding="same", activation="relu", name=f"block{block}_conv{number}"
            )
            x = conv(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(4096, activation="relu", name="fc1")(x)
        x = layers.Dense(4096, activation="relu", name="fc2")(x)
        x = classify(x, classes, classifier_activation)
    else:
        x = pool(x, pooling)
    return close(image, x, weights, name)


__all__ = ["VGG16", "decode_predictions", "preprocess_input"]
