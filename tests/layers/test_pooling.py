"""Pooling beyond the contract: messages, masks, number types and older names."""

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.core.errors import ArgumentError, ShapeError

LAYERS = tally.layers


def test_an_input_smaller_than_the_window_is_told_with_the_arithmetic() -> None:
    with pytest.raises(ShapeError) as error:
        LAYERS.MaxPooling2D(3, name="pool")(np.zeros((1, 2, 8, 1), "float32"))
    what, _, do = str(error.value).split("\n")
    assert what == (
        "MaxPooling2D 'pool' slides a window of height 3 over an input of height 2: ⌊(2 − 3)/3⌋ + 1 = 0 positions."
    )
    assert "padding='same'" in do


def test_a_misspelt_padding_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"padding='vaild'\. Did you mean 'valid'"):
        LAYERS.AveragePooling1D(2, padding="vaild")


@pytest.mark.parametrize(
    "name", ["MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"]
)
def test_whole_numbers_are_pooled_as_in_keras(name: str) -> None:
    arguments = {} if name.startswith("Global") else {"pool_size": 2}
    image = np.random.default_rng(0).integers(-9, 9, (1, 4, 4, 2)).astype("int32")
    ours, theirs = (getattr(library.layers, name)(**arguments)(image) for library in (tally, keras))
    assert ours.dtype == theirs.dtype
    assert_close(ours, theirs)


@pytest.mark.parametrize(("data_format", "keepdims"), [("channels_last", False), ("channels_first", True)])
def test_an_average_counts_only_unmasked_time_steps(data_format: str, keepdims: bool) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 3)).astype("float32")
    mask = np.array([[True, False, True], [True, True, True]])
    outputs = [
        library.layers.GlobalAveragePooling1D(data_format=data_format, keepdims=keepdims)(x, mask=mask)
        for library in (tally, keras)
    ]
    assert_close(*outputs)


def test_windows_of_a_set_number_need_no_known_size() -> None:
    assert LAYERS.AdaptiveMaxPooling1D(2)(tally.KerasTensor((None, None, 3))).shape == (None, 2, 3)


def test_images_of_any_size_pass_symbolically() -> None:
    images = tally.KerasTensor((None, None, None, 3))
    for layer in (LAYERS.MaxPooling2D(), LAYERS.AveragePooling2D(3, padding="same")):
        assert layer(images).shape == (None, None, None, 3)


def test_every_name_of_keras_is_there() -> None:
    assert {name for name in dir(keras.layers) if "Pool" in name} <= set(dir(LAYERS))
    assert LAYERS.MaxPool2D is LAYERS.MaxPooling2D
    assert LAYERS.GlobalAvgPool1D is LAYERS.GlobalAveragePooling1D
