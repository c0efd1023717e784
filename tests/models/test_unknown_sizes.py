"""Sizes that are only known when data come go through models as None."""

from typing import Any

import jax
import numpy as np
import pytest

import tally
from models.cases import numbers
from tally import layers, ops
from tally.core.errors import ShapeError


def shapes(model: Any, *inputs: Any) -> Any:
    """What the model promised, and what came out."""
    outputs = model(list(inputs) if len(inputs) > 1 else inputs[0])
    real = [tuple(array.shape) for array in jax.tree.leaves(outputs)]
    promised = model.output_shape if isinstance(model.output_shape, list) else [model.output_shape]
    for one, other in zip(promised, real, strict=True):
        assert all(known in (None, size) for known, size in zip(one, other, strict=True))
    return promised


def test_images_of_any_size_are_convolved_pooled_and_averaged() -> None:
    inputs = x = tally.Input((None, None, 3))
    for layer in (
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Conv2D(4, 3, strides=2, padding="same"),
    ):
        x = layer(x)
    assert x.shape == (None, None, None, 4)
    model = tally.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert shapes(model, numbers(1, 15, 20, 3)) == [(None, 2)]
    assert model(numbers(2, 9, 8, 3)).shape == (2, 2)


def test_an_image_of_any_size_goes_down_and_up_again() -> None:
    inputs = tally.Input((None, None, 3))
    down = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same")(inputs))
    up = layers.UpSampling2D()(down)
    other = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(down)
    model = tally.Model(inputs, [layers.Concatenate()([up, inputs]), other])
    assert shapes(model, numbers(1, 8, 6, 3)) == [(None, None, None, 7), (None, None, None, 3)]


def test_flattening_an_unknown_size_before_dense_says_what_to_do() -> None:
    x = layers.Flatten()(layers.Conv2D(4, 3)(tally.Input((None, None, 3))))
    with pytest.raises(ShapeError) as caught:
        layers.Dense(2, name="head")(x)
    first, _, do = str(caught.value).splitlines()
    assert first == "Dense 'head' can't be built for (None, None): the last axis is unknown."
    assert do.endswith("after images of any size, replace Flatten by GlobalAveragePooling2D")


def test_sequences_of_any_length_are_embedded_and_read() -> None:
    inputs = tally.Input((None,), dtype="int32")
    x = layers.LSTM(3, return_sequences=True)(layers.Embedding(5, 4)(inputs))
    model = tally.Model(inputs, layers.Bidirectional(layers.GRU(2))(x))
    assert shapes(model, np.ones((2, 5), "int32")) == [(None, 4)]


def test_two_sequences_of_unknown_length_meet() -> None:
    a, b = tally.Input((None, 3)), tally.Input((None, 3))
    features = layers.Concatenate()([a, b])
    time = layers.Concatenate(axis=1)([a, b])
    attended = layers.MultiHeadAttention(1, 2)(a, b)
    model = tally.Model([a, b], [features, time, attended, layers.Add()([a, b]), a * b])
    x = numbers(2, 5, 3)
    assert shapes(model, x, x) == [(None, None, 6), *[(None, None, 3)] * 4]


def test_unknown_sizes_are_reshaped_sliced_and_turned() -> None:
    inputs = tally.Input((None, None, 4))
    made = [
        ops.reshape(inputs, (-1, 2)),
        layers.Reshape((-1, 4))(inputs),
        layers.Permute((2, 1, 3))(inputs),
        inputs[:, 0],
        inputs[:, ::2, :-1],
        inputs[:, :, 1:3],
        layers.Resizing(6, 7)(inputs),
    ]
    model = tally.Model(inputs, made)
    assert shapes(model, numbers(2, 5, 3, 4)) == [
        (None, 2),
        (None, None, 4),
        *[(None, None, None, 4)],
        (None, None, 4),
        *[(None, None, None, 4)] * 2,
        (None, 6, 7, 4),
    ]


def test_a_layer_may_compute_with_the_unknown_length() -> None:
    class Positions(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.tokens, self.places = layers.Embedding(10, 4), layers.Embedding(50, 4)

        def call(self, x: Any) -> Any:
            return self.tokens(x) + self.places(ops.arange(ops.shape(x)[-1]))

    inputs = tally.Input((None,), dtype="int32")
    assert shapes(tally.Model(inputs, Positions()(inputs)), np.ones((2, 5), "int32")) == [(None, None, 4)]


def test_steps_of_any_number_are_read_one_by_one() -> None:
    inputs = tally.Input((None, 6, 6, 1))
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.Conv2D(2, 3))(inputs))
    assert x.shape == (None, None, 32)
    assert shapes(tally.Model(inputs, layers.GRU(2)(x)), numbers(2, 3, 6, 6, 1)) == [(None, 2)]


def test_paths_of_unknown_size_that_fit_can_be_added() -> None:
    inputs = tally.Input((None, None, 3))
    convolved, cut = layers.Conv2D(3, 3)(inputs), layers.Cropping2D(1)(inputs)
    model = tally.Model(inputs, layers.Add()([convolved, cut]))
    assert shapes(model, numbers(1, 8, 7, 3)) == [(None, None, None, 3)]
