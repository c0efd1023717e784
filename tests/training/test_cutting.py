"""Prediction in parts of a batch: the same numbers, and only where each example is surely computed by itself."""

import jax
import numpy as np
import pytest

import tally
from tally import layers
from tally.kernels.native import convolution as native
from tally.kernels.native import library
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


def dense(filters: int) -> tally.Model:
    """Dense convolutions alone; the larger kernel takes 864 times as many bytes as there are filters."""
    return tally.Sequential(
        [
            tally.Input((8, 8, 3)),
            layers.Conv2D(24, 3, activation="relu"),
            layers.Conv2D(filters, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@pytest.fixture
def calls_of_c(monkeypatch) -> list[str]:
    """Which operations in C programs that are compiled from now on call."""
    made, call = [], native._call
    monkeypatch.setattr(
        native, "_call", lambda direction, *given: made.append(direction) or call(direction, *given)
    )
    if library._compiler() is None:
        pytest.skip("there is no C compiler")
    return made


def test_a_chain_of_small_dense_kernels_is_left_to_xla_but_not_its_gradients(calls_of_c) -> None:
    model, x = dense(16), np.ones((12, 8, 8, 3), "float32")
    model.compile("sgd", "mse")
    model.predict(x, batch_size=12, verbose=0)
    model.evaluate(x, np.ones((12, 2)), batch_size=12, verbose=0)
    assert calls_of_c == []
    assert part(model) is None
    model.fit(x, np.ones((12, 2)), verbose=0)
    assert sorted(calls_of_c) == ["input", "kernel", "kernel", "output", "output"]


def test_large_dense_kernels_are_computed_in_c_and_in_parts(calls_of_c) -> None:
    model, x = dense(240), np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")
    assert part(model) == 1
    found = model.predict(x, batch_size=12, verbose=0)
    assert calls_of_c == ["output", "output"]
    with library.held_back():
        np.testing.assert_allclose(found, np.asarray(model(x)), rtol=1e-4, atol=1e-5)


def test_in_a_loop_over_batches_small_dense_kernels_are_computed_in_c(calls_of_c) -> None:
    model, x = dense(16), np.ones((60, 8, 8, 3), "float32")
    model.predict(x, batch_size=2, verbose=0)
    assert calls_of_c == ["output", "output"]
