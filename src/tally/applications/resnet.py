"""ResNet-50: sixteen bottleneck blocks, each adding what it computes to what it was given."""

from functools import partial
from typing import Any

from tally import layers
from tally.applications import imagenet_utils
from tally.applications.imagenet_utils import decode_predictions
from tally.applications.trunk import Shape, channel_axis, check_weights, classify, close, open_image, pool
from tally.core.symbol import KerasTensor
from tally.models import Functional

_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""Blocks in a stage, and the filters of their inner convolutions; the outer ones have four times as many."""

preprocess_input = partial(imagenet_utils.preprocess_input, mode="caffe")


def ResNet50(
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: KerasTensor | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "resnet50",
) -> Functional:
    """Build ResNet-50: 25,636,712 parameters, 53,120 of them statistics that no gradient reaches.

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

    Source: He, Zhang, Ren & Sun, 2016, arXiv:1512.03385; equal to `keras.applications.ResNet50`, which has biases in
        its convolutions and strides in the first of each block.
    """
    check_weights(weights)
    image = open_image(input_tensor, input_shape, size=224 if include_top else None, smallest=32)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = layers.Activation("relu", name="conv1_relu")(_convolve(x, 64, 7, "conv1", strides=2))
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (blocks, filters) in enumerate(_STAGES, 2):
        for block in range(1, blocks + 1):
            shrinks = block == 1 and stage > 2
            x = _bottleneck(
                x, filters, f"conv{stage}_block{block}", strides=2 if shrinks else 1, widens=block == 1
            )
    x = pool(x, "avg" if include_top else pooling, name="pool")
    if include_top:
        x = classify(x, classes, classifier_activation)
    return close(image, x, weights, name)


def _bottleneck(x: KerasTensor, filters: int, name: str, *, strides: int, widens: bool) -> KerasTensor:
    """Narrow, convolve, widen, and add the input, itself convolved where the shape changes."""
    shortcut = _convolve(x, 4 * filters, 1, f"{name}_0", strides=strides) if widens else x
    x = layers.Activation("relu", name=f"{name}_1_relu")(
        _convolve(x, filters, 1, f"{name}_1", strides=strides)
    )
    x = layers.Activation("relu", name=f"{name}_2_relu")(
        _convolve(x, filters, 3, f"{name}_2", padding="same")
    )
    x = _convolve(x, 4 * filters, 1, f"{name}_3")
    return layers.Activation("relu", name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


def _convolve(x: KerasTensor, filters: int, kernel_size: int, name: str, **options: Any) -> KerasTensor:
    """A convolution and its normalization."""
    x = layers.Conv2D(filters, kernel_size, name=f"{name}_conv", **options)(x)
    return layers.BatchNormalization(axis=channel_axis(), epsilon=1.001e-5, name=f"{name}_bn")(x)


__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
