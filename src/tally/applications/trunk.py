"""What every application shares: where the image comes in, how its features leave, and where weights come from."""

import os
from pathlib import Path
from typing import Any

from tally import layers
from tally.config import image_data_format
from tally.core.errors import ArgumentError
from tally.core.symbol import KerasTensor
from tally.models import Functional

Shape = tuple[int | None, ...]


def check_weights(weights: Any) -> None:
    """Refuse weights that aren't there, before a model is built for them.

    Raises:
        ArgumentError: They are neither None nor a file.
    """
    if weights is None or (isinstance(weights, str | os.PathLike) and Path(weights).is_file()):
        return
    if weights == "imagenet":
        raise ArgumentError(
            "The weights trained on ImageNet are not shipped with tally.",
            do="pass weights=None for new ones, or the path to a .weights.h5 or .keras file; Keras writes one by "
            "save_weights of its own model of the same name",
        )
    raise ArgumentError(f"There is no file of weights at {weights!r}.", do="pass None, or the path to a file")


def channel_axis() -> int:
    """The axis on which the channels of an image lie."""
    return 3 if image_data_format() == "channels_last" else 1


def sides(shape: Shape) -> Shape:
    """Height and width of a batch of images."""
    return shape[1:3] if channel_axis() == 3 else shape[2:4]


def open_image(
    input_tensor: Any, input_shape: Shape | None, *, size: int | None, smallest: int
) -> KerasTensor:
    """The symbolic image that a model begins with.

    Args:
        input_tensor: An image that is there already, or None.
        input_shape: Shape of one image, or None.
        size: Height and width where no shape is given; None leaves them open.
        smallest: Height and width that are needed at least.

    Raises:
        ArgumentError: The shape has no height, width and channels, or the image is too small.
    """
    if input_tensor is not None:
        return input_tensor
    if input_shape is None:
        input_shape = (size, size, 3) if channel_axis() == 3 else (3, size, size)
    if len(input_shape) != 3:
        raise ArgumentError(
            f"An image has a height, a width and channels, but input_shape is {tuple(input_shape)}.",
            do="leave the batch out: input_shape=(224, 224, 3)",
        )
    if any(side is not None and side < smallest for side in sides((None, *input_shape))):
        raise ArgumentError(
            f"This model halves the image until nothing is left of {tuple(input_shape)}.",
            do=f"use images of at least {smallest}×{smallest} pixels",
        )
    return layers.Input(shape=input_shape)


def pool(x: KerasTensor, pooling: str | None, name: str | None = None) -> KerasTensor:
    """Reduce an image's features to one vector, or leave them an image.

    Args:
        x: Features, (batch, height, width, channels).
        pooling: `"avg"`, `"max"`, or None.
        name: Name of the layer, before which `avg` or `max` is put.

    Raises:
        ArgumentError: The word is none of these.
    """
    if pooling is None:
        return x
    kinds = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    if pooling not in kinds:
        raise ArgumentError(f"pooling={pooling!r} is not known.", do='use "avg", "max" or None')
    return kinds[pooling](name=name and f"{pooling}_{name}")(x)


def classify(x: KerasTensor, classes: int, activation: Any) -> KerasTensor:
    """The last layer of a classifier."""
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def close(image: KerasTensor, outputs: KerasTensor, weights: Any, name: str) -> Functional:
    """The model from the image, or from what the image is computed of, to the outputs."""
    model = Functional(_sources(image), outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model


def _sources(tensor: KerasTensor) -> Any:
    """The inputs that a symbolic tensor is computed from; one alone, or a list."""
    found: dict[int, KerasTensor] = {}
    waiting = [tensor]
    while waiting:
        one = waiting.pop()
        if not one.node.inputs:
            found[id(one)] = one
        waiting.extend(one.node.inputs)
    inputs = list(found.values())
    return inputs[0] if len(inputs) == 1 else inputs
