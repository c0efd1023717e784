"""Xception: separable convolutions in fourteen blocks, with shortcuts around all but the first and last."""

from functools import partial
from typing import Any

from tally import layers
from tally.applications import imagenet_utils
from tally.applications.imagenet_utils import decode_predictions
from tally.applications.trunk import Shape, channel_axis, check_weights, classify, close, open_image, pool
from tally.core.symbol import KerasTensor
from tally.models import Functional

_BLOCKS = (*((width, width) for width in (128, 256, 728)), *((728, 728, 728),) * 8, (728, 1024))
"""Filters of the separable convolutions of blocks 2 to 13; two in a block halve the image, three keep it."""

preprocess_input = partial(imagenet_utils.preprocess_input, mode="tf")


def Xception(
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: KerasTensor | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "xception",
) -> Functional:
    """Build Xception: 22,910,480 parameters.

    Args:
        include_top: Whether it ends in a classifier, or in features.
        weights: None for new weights, or a `.weights.h5` or `.keras` file. Those of ImageNet are not shipped.
        input_tensor: A symbolic image to begin with instead of a new input.
        input_shape: (height, width, channels) of an image, 299×299×3 unless given; at least 71×71.
        pooling: What reduces the features to a vector without the top: `"avg"`, `"max"`, or None for nothing.
        classes: Number of classes, with the top.
        classifier_activation: Activation of the last layer; None gives logits.
        name: The model's name.

    Raises:
        ArgumentError: An argument is not one of those described.

    Source: Chollet, 2017, arXiv:1610.02357; equal to `keras.applications.Xception`.
    """
    check_weights(weights)
    image = open_image(input_tensor, input_shape, size=299 if include_top else None, smallest=71)
    x = layers.Conv2D(32, 3, strides=2, use_bias=False, name="block1_conv1")(image)
    x = _activate(_normalize(x, "block1_conv1_bn"), "block1_conv1_act")
    x = layers.Conv2D(64, 3, use_bias=False, name="block1_conv2")(x)
    x = _activate(_normalize(x, "block1_conv2_bn"), "block1_conv2_act")
    for number, filters in enumerate(_BLOCKS, 2):
        x = _block(x, filters, number)
    for part, filters in enumerate((1536, 2048), 1):
        x = _activate(_separate(x, filters, f"block14_sepconv{part}"), f"block14_sepconv{part}_act")
    x = pool(x, "avg", name="pool") if include_top else pool(x, pooling)
    if include_top:
        x = classify(x, classes, classifier_activation)
    return close(image, x, weights, name)


def _block(x: KerasTensor, widths: tuple[int, ...], number: int) -> KerasTensor:
    """Activate and convolve for each width, halve the image where there are two, and add the shortcut."""
    shrinks, shortcut = len(widths) == 2, x
    if shrinks:
        shortcut = layers.Conv2D(widths[-1], 1, strides=2, padding="same", use_bias=False)(x)
        shortcut = layers.BatchNormalization(axis=channel_axis())(shortcut)
    for part, filters in enumerate(widths, 1):
        name = f"block{number}_sepconv{part}"
        if (number, part) != (2, 1):  # what comes into block 2 is activated already
            x = _activate(x, f"{name}_act")
        x = _separate(x, filters, name)
    if shrinks:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{number}_pool")(x)
    return layers.add([x, shortcut])


def _separate(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """A separable convolution and its normalization."""
    return _normalize(
        layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x), f"{name}_bn"
    )


def _normalize(x: KerasTensor, name: str) -> KerasTensor:
    return layers.BatchNormalization(axis=channel_axis(), name=name)(x)


def _activate(x: KerasTensor, name: str) -> KerasTensor:
    return layers.Activation("relu", name=name)(x)


__all__ = ["Xception", "decode_predictions", "preprocess_input"]
