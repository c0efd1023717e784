"""Convolutions beyond the contract: messages, axis names, unknown sizes, and the sizes of transposed ones."""

import itertools
from typing import Any

import keras
import numpy as np
import pytest

import tally
from tally.core.errors import ArgumentError, ShapeError

LAYERS = tally.layers


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, "float32")


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (LAYERS.Conv1D(2, 2), (1, 4, 3), ("kernel length", "input channels", "filters")),
        (LAYERS.Conv2D(2, 2), (1, 4, 4, 3), ("kernel height", "kernel width", "input channels", "filters")),
        (
            LAYERS.Conv3D(2, 1),
            (1, 2, 2, 2, 1),
            ("kernel depth", "kernel height", "kernel width", "input channels", "filters"),
        ),
        (
            LAYERS.Conv2D(2, 2, groups=2),
            (1, 4, 4, 4),
            ("kernel height", "kernel width", "input channels per group", "filters"),
        ),
        (
            LAYERS.Conv2DTranspose(2, 2),
            (1, 4, 4, 3),
            ("kernel height", "kernel width", "filters", "input channels"),
        ),
        (
            LAYERS.DepthwiseConv2D(2),
            (1, 4, 4, 3),
            ("kernel height", "kernel width", "input channels", "depth multiplier"),
        ),
        (
            LAYERS.SeparableConv2D(2, 2),
            (1, 4, 4, 3),
            ("kernel height", "kernel width", "input channels", "depth multiplier"),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LAYERS.Layer) else "",
)
def test_the_axes_of_a_kernel_are_named(layer: Any, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
    layer.build(shape)
    assert layer.weights[0].axes == axes


def test_other_channels_are_told_with_place_and_remedy() -> None:
    layer = LAYERS.Conv2D(4, 3, name="stem")
    layer.build((None, 28, 28, 3))
    with pytest.raises(ShapeError) as error:
        layer(_zeros(2, 28, 28, 5))
    what, where, do = str(error.value).split("\n")
    assert what == "Conv2D 'stem' takes 3 input channels, but was given 5."
    assert where.startswith("  where: made at ")
    assert where.endswith("called with float32[2,28,28,5]")
    assert do == "  do: feed 3 input channels on the last axis, or make another Conv2D for this input"


@pytest.mark.parametrize(
    ("layer", "shape", "arithmetic"),
    [
        (
            LAYERS.Conv2D(4, 5, name="stem"),
            (1, 3, 9, 1),
            "kernel of height 5 over an input of height 3: (3 − 5) + 1 = −1",
        ),
        (
            LAYERS.Conv1D(4, 3, dilation_rate=4, name="stem"),
            (1, 6, 1),
            "kernel of length 3, spread to 9 by dilation_rate=4, over an input of length 6: (6 − 9) + 1 = −2",
        ),
        (
            LAYERS.SeparableConv2D(4, (1, 4), strides=2, name="stem"),
            (1, 3, 3, 2),
            "kernel of width 4 over an input of width 3: ⌊(3 − 4)/2⌋ + 1 = 0",
        ),
    ],
)
def test_an_input_smaller_than_the_kernel_is_told_with_the_arithmetic(
    layer: Any, shape: tuple[int, ...], arithmetic: str
) -> None:
    with pytest.raises(ShapeError) as error:
        layer(_zeros(*shape))
    what, _, do = str(error.value).split("\n")
    assert what == f"{type(layer).__name__} 'stem' slides a {arithmetic} positions."
    assert "padding='same'" in do


def test_an_image_too_small_for_a_nested_model_names_the_inner_layer() -> None:
    inner = tally.Sequential([LAYERS.Conv2D(2, 5, name="deep")], name="inner")
    model = tally.Sequential([LAYERS.Conv2D(2, 3), LAYERS.MaxPooling2D(4), inner])
    with pytest.raises(
        ShapeError, match=r"Conv2D 'deep' slides a kernel of height 5 over an input of height 2"
    ):
        model(_zeros(1, 12, 12, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "smae"}, "padding='smae'. Did you mean 'same'"),
        ({"padding": "causal"}, "padding='causal'"),
        ({"data_format": "channel_first"}, "Did you mean 'channels_first'"),
        ({"filters": 0}, "filters=0"),
        ({"filters": 2.5}, "filters=2.5"),
        ({"kernel_size": (1, 2, 3)}, "kernel_size="),
        ({"kernel_size": (0, 2)}, "kernel_size=0"),
        ({"strides": 0}, "strides=0"),
        ({"groups": 3}, "4 filters between 3 groups"),
        ({"strides": 2, "dilation_rate": 2}, r"both strides=\(2, 2\) and dilation_rate=\(2, 2\)"),
        ({"kernel_initializer": "glorot"}, "kernel_initializer='glorot'"),
    ],
)
def test_impossible_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LAYERS.Conv2D(**{"filters": 4, "kernel_size": 2, **arguments})


def test_output_padding_must_be_smaller_than_the_stride() -> None:
    with pytest.raises(ArgumentError, match=r"output_padding=\(2, 2\) with strides=\(2, 2\)"):
        LAYERS.Conv2DTranspose(2, 2, strides=2, output_padding=2)


def test_channels_must_divide_into_groups() -> None:
    with pytest.raises(ShapeError, match="3 input channels into 2 groups"):
        LAYERS.Conv2D(4, 2, groups=2)(_zeros(1, 4, 4, 3))


def test_unknown_channels_are_refused() -> None:
    with pytest.raises(ShapeError, match="the number of input channels is unknown"):
        LAYERS.Conv2D(4, 2)(tally.KerasTensor((None, 8, 8, None)))


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS.Conv2D(4, 3),
        LAYERS.Conv2D(4, 3, strides=2, padding="same"),
        LAYERS.Conv2DTranspose(4, 3, strides=2),
        LAYERS.DepthwiseConv2D(3, depth_multiplier=2),
        LAYERS.SeparableConv2D(4, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_images_of_any_size_pass_symbolically(layer: Any) -> None:
    assert layer(tally.KerasTensor((None, None, None, 2))).shape == (None, None, None, 4)


def test_a_stack_on_images_of_any_size_ends_in_known_features() -> None:
    x = tally.KerasTensor((None, None, None, 3))
    for layer in (LAYERS.Conv2D(4, 3), LAYERS.MaxPooling2D(), LAYERS.Conv2D(4, 3), LAYERS.MaxPooling2D()):
        x = layer(x)
    assert x.shape == (None, None, None, 4)
    assert LAYERS.GlobalAveragePooling2D()(x).shape == (None, 4)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_sizes_equal_keras_for_every_kernel_stride_and_extra(padding: str) -> None:
    for size, kernel, stride in itertools.product((2, 5), (1, 2, 3, 4), (1, 2, 3)):
        for extra in (None, *range(stride)):
            if padding == "same" and extra is not None and (size - 1) * stride + kernel % 2 + extra < 1:
                continue
            arguments = {"strides": stride, "padding": padding, "output_padding": extra}
            shapes = [
                tuple(
                    library.layers.Conv1DTranspose(1, kernel, **arguments)(
                        library.KerasTensor((2, size, 1))
                    ).shape
                )
                for library in (tally, keras)
            ]
            assert shapes[0] == shapes[1], (size, kernel, arguments)


def test_bytes_of_an_image_are_convolved_as_numbers() -> None:
    layer = LAYERS.Conv2D(1, 1, kernel_initializer="ones")
    image = np.full((1, 2, 2, 1), 200, "uint8")
    assert np.array_equal(layer(image), np.full((1, 2, 2, 1), 200.0, "float32"))


def test_options_are_settled_in_the_configuration() -> None:
    config = LAYERS.Conv2D(4, 3).get_config()
    assert (config["kernel_size"], config["strides"], config["data_format"]) == (
        (3, 3),
        (1, 1),
        "channels_last",
    )


def test_older_names_are_the_same_classes() -> None:
    assert LAYERS.Convolution2D is LAYERS.Conv2D
    assert LAYERS.Convolution2DTranspose is LAYERS.Conv2DTranspose
    assert LAYERS.SeparableConvolution1D is LAYERS.SeparableConv1D
    assert {name for name in dir(keras.layers) if "onv" in name and "LSTM" not in name} <= set(dir(LAYERS))
