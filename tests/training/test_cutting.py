"""Prediction in parts of a batch: the same numbers, and only where each example is surely computed by itself."""

import jax
import numpy as np
import pytest

import tally
from tally import layers
from tally.training import cutting
from tally.training.cutting import part_of


@pytest.fixture(autouse=True)
def _small_cache(monkeypatch) -> None:
    monkeypatch.setattr(
        cutting, "_cache", lambda: 4 * 8 * 8 * 6 * 3
    )  # three examples of `block`'s largest array


def block(*more: layers.Layer, **convolution) -> tally.Model:
    return tally.Sequential(
        [
            tally.Input((8, 8, 3)),
            layers.SeparableConv2D(6, 3, padding="same", **convolution),
            layers.BatchNormalization(),
            *more,
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def part(model: tally.Model, batch: int = 12, side: int = 8) -> int | None:
    found = []
    jax.eval_shape(
        lambda x: found.append(part_of(model, x)), jax.ShapeDtypeStruct((batch, side, side, 3), "float32")
    )
    return found[0]


@pytest.mark.parametrize(("batch", "size"), [(12, 3), (16, 2), (7, 1), (3, None), (2, None)])
def test_a_part_divides_the_batch_and_fits_the_cache(batch: int, size: int | None) -> None:
    assert part(block(), batch) == size


def test_predictions_and_measures_are_those_of_the_whole_batch(monkeypatch) -> None:
    model = block(layers.DepthwiseConv2D(3), layers.ReLU(6.0), layers.Dropout(0.5))
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.random.default_rng(0).normal(size=(26, 8, 8, 3)).astype("float32")
    model.fit(x, x[:, 0, 0, :2], verbose=0)
    parts, measures = model.predict(x, batch_size=12, verbose=0), model.evaluate(x, x[:, 0, 0, :2], verbose=0)
    monkeypatch.setattr(cutting, "_cache", lambda: 2**40)
    model.compile("sgd", "mse", metrics=["mae"])
    whole = model.predict(x, batch_size=12, verbose=0)
    assert parts.shape == whole.shape == (26, 2)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(measures, model.evaluate(x, x[:, 0, 0, :2], verbose=0), rtol=1e-5)
    np.testing.assert_allclose(whole, np.asarray(model(x)), rtol=1e-5, atol=1e-6)


def test_several_inputs_and_outputs_are_cut_alike() -> None:
    first, second = tally.Input((8, 8, 3)), tally.Input((8, 8, 3))
    both = layers.Add()(
        [layers.SeparableConv2D(6, 3)(first), layers.DepthwiseConv2D(3, depth_multiplier=2)(second)]
    )
    model = tally.Model([first, second], {"whole": both, "mean": layers.GlobalAveragePooling2D()(both)})
    x = np.random.default_rng(1).normal(size=(2, 12, 8, 8, 3)).astype("float32")
    made = model.predict(list(x), batch_size=12, verbose=0)
    plain = model(list(x))
    assert made["whole"].shape == (12, 6, 6, 6)
    for name, value in made.items():
        np.testing.assert_allclose(value, np.asarray(plain[name]), rtol=1e-5, atol=1e-6)


class Centred(layers.Dense):
    """Takes the batch's mean away, so that an example's outputs depend on the others."""

    def call(self, x):
        return super().call(x - tally.ops.mean(x, axis=0, keepdims=True))


def test_what_may_look_at_other_examples_is_computed_whole() -> None:
    coupled = [
        block(Centred(6)),
        block(layers.Lambda(lambda x: x - tally.ops.mean(x, axis=0))),
        block(activation=lambda x: x / tally.ops.max(x, axis=0)),
        block(layers.Softmax(axis=0)),
        block(layers.ReLU(dtype="bfloat16")),
        block(activity_regularizer="l2"),
    ]
    x = tally.Input((8, 8, 3))
    y = layers.SeparableConv2D(6, 3)(x)
    coupled += [
        tally.Model(x, layers.BatchNormalization()(y, training=True)),
        tally.Model(x, layers.Add()([y, np.ones((1, 6, 6, 6), "float32")])),
        tally.Model(x, y - tally.ops.mean(y, axis=0)),
    ]
    assert [part(model) for model in coupled] == [None] * len(coupled)
    assert part(block(layers.Softmax())) == 3


def test_nets_without_depthwise_convolutions_are_computed_whole() -> None:
    dense = tally.Sequential([tally.Input((8, 8, 3)), layers.Conv2D(6, 3), layers.GlobalAveragePooling2D()])
    assert part(dense) is None
