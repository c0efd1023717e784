"""MobileNetV2: blocks that widen, convolve each channel by itself, and narrow again."""

from functools import partial
from typing import Any

from tally import layers
from tally.applications import imagenet_utils
from tally.applications.imagenet_utils import decode_predictions
from tally.applications.trunk import (
    Shape,
    channel_axis,
    check_weights,
    classify,
    close,
    open_image,
    pool,
    sides,
)
from tally.core.symbol import KerasTensor
from tally.models import Functional

_STAGES = ((1, 16, 1), (2, 24, 2), (3, 32, 2), (4, 64, 2), (3, 96, 1), (3, 160, 2), (1, 320, 1))
"""Blocks in a stage, their filters, and the stride of the first."""

preprocess_input = partial(imagenet_utils.preprocess_input, mode="tf")


def MobileNetV2(
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Functional:
    """Build MobileNetV2: 3,538,984 parameters at full width.

    Args:
        input_shape: (height, width, channels) of an image, 224×224×3 unless given; at least 32×32.
        alpha: Width: the factor by which each layer's filters are fewer or more.
        include_top: Whether it ends in a classifier, or in features.
        weights: None for new weights, or a `.weights.h5` or `.keras` file. Those of ImageNet are not shipped.
        input_tensor: A symbolic image to begin with instead of a new input.
        pooling: What reduces the features to a vector without the top: `"avg"`, `"max"`, or None for nothing.
        classes: Number of classes, with the top.
        classifier_activation: Activation of the last layer; None gives logits.
        name: The model's name; width and height say it unless given.

    Raises:
        ArgumentError: An argument is not one of those described.

    Source: Sandler et al., 2018, arXiv:1801.04381; equal to `keras.applications.MobileNetV2`.
    """
    check_weights(weights)
    image = open_image(input_tensor, input_shape, size=224 if include_top else None, smallest=32)
    x = layers.Conv2D(_multiple(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="Conv1")(
        image
    )
    x = _activate(x, "bn_Conv1", "Conv1_relu")
    number = 0
    for blocks, filters, strides in _STAGES:
        for block in range(blocks):
            x = _inverted_block(x, _multiple(int(filters * alpha)), number, strides=1 if block else strides)
            number += 1
    # Narrower models keep the full last layer, as the paper says: the classes need its features.
    x = layers.Conv2D(_multiple(1280 * max(alpha, 1.0)), 1, use_bias=False, name="Conv_1")(x)
    x = pool(_activate(x, "Conv_1_bn", "out_relu"), "avg" if include_top else pooling)
    if include_top:
        x = classify(x, classes, classifier_activation)
    return close(image, x, weights, name or f"mobilenetv2_{alpha:.2f}_{sides(image.shape)[0]}")


def _inverted_block(x: KerasTensor, filters: int, number: int, *, strides: int) -> KerasTensor:
    """Six times as many channels, each convolved by itself, then few again; the first block does not widen."""
    inputs, channels = x, x.shape[channel_axis()]
    assert channels is not None
    name = f"block_{number}" if number else "expanded_conv"
    if number:
        x = layers.Conv2D(6 * channels, 1, padding="same", use_bias=False, name=f"{name}_expand")(x)
        x = _activate(x, f"{name}_expand_BN", f"{name}_expand_relu")
    if strides == 2:
        x = layers.ZeroPadding2D(_padding(x), name=f"{name}_pad")(x)
    padding = "valid" if strides == 2 else "same"
    x = layers.DepthwiseConv2D(3, strides, padding, use_bias=False, name=f"{name}_depthwise")(x)
    x = _activate(x, f"{name}_depthwise_BN", f"{name}_depthwise_relu")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}_project")(x)
    x = _normalize(x, f"{name}_project_BN")
    return layers.Add(name=f"{name}_add")([inputs, x]) if strides == 1 and channels == filters else x


def _activate(x: KerasTensor, norm: str, relu: str) -> KerasTensor:
    return layers.ReLU(6.0, name=relu)(_normalize(x, norm))


def _normalize(x: KerasTensor, name: str) -> KerasTensor:
    return layers.BatchNormalization(axis=channel_axis(), epsilon=1e-3, momentum=0.999, name=name)(x)


def _padding(x: KerasTensor) -> tuple[tuple[int, int], ...]:
    """A border that lets a 3×3 kernel with stride 2 halve an image of even or odd sides; unknown ones count as even."""
    return tuple(((side or 0) % 2, 1) for side in sides(x.shape))


def _multiple(filters: float) -> int:
    """The nearest multiple of 8, where that is not more than a tenth less."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]
