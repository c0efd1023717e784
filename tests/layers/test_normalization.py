"""What the contract doesn't say of normalization: moving statistics, masks, half precision, errors."""

import jax
import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from layers.peer import weights_of
from tally.core.errors import ShapeError

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(4, 5, 3)).astype("float32")


def test_moving_statistics_after_several_steps_equal_keras() -> None:
    ours, peer = tally.layers.BatchNormalization(momentum=0.7), keras.layers.BatchNormalization(momentum=0.7)
    for step in range(3):
        assert_close(ours(X + step, training=True), peer(X + step, training=True))
    assert_close(ours.get_weights(), weights_of(peer))
    assert_close(ours(X), peer(X))


def test_masked_steps_are_left_out_of_the_statistics() -> None:
    mask = np.array([[True, True, False, False, True]] * 4)
    ours, peer = tally.layers.BatchNormalization(), keras.layers.BatchNormalization()
    assert_close(ours(X, training=True, mask=mask), peer(X, training=True, mask=mask))
    assert_close(ours.get_weights(), weights_of(peer))


def test_a_frozen_layer_keeps_its_statistics_in_training() -> None:
    layer = tally.layers.BatchNormalization()
    layer(X, training=True)
    layer.trainable = False
    before = layer.get_weights()
    assert_close(layer(X, training=True), layer(X, training=False))
    assert_close(layer.get_weights(), before)


def test_statistics_move_in_a_compiled_step() -> None:
    layer = tally.layers.BatchNormalization()
    layer(X)
    step = jax.jit(lambda state, x: layer.stateless_call(layer.trainable_variables, state, x, training=True))
    _, state = step([v.value for v in layer.non_trainable_variables], X)
    layer(X, training=True)
    assert_close(state, [v.value for v in layer.non_trainable_variables], 1e-6)


def test_half_precision_is_normalised_in_float32() -> None:
    layer = tally.layers.LayerNormalization(dtype="float16")
    x = (300 * X).astype("float16")
    wanted = tally.layers.LayerNormalization()(x.astype("float32"))
    np.testing.assert_allclose(np.asarray(layer(x), "float32"), wanted, atol=2e-3)


def test_spectral_normalization_brings_the_largest_singular_value_to_one() -> None:
    layer = tally.layers.SpectralNormalization(tally.layers.Dense(4), power_iterations=20)
    layer(X, training=True)
    assert np.linalg.svd(layer.layer.kernel.numpy())[1][0] == pytest.approx(1.0, abs=1e-3)


def test_groups_that_do_not_divide_the_channels_are_refused_with_those_that_do() -> None:
    with pytest.raises(ShapeError, match="can't divide 6 channels into 4 groups") as caught:
        tally.layers.GroupNormalization(4)(tally.Input((5, 6)))
    assert "1, 2, 3, 6" in str(caught.value)


def test_other_channels_than_those_built_for_are_refused() -> None:
    layer = tally.layers.BatchNormalization()
    layer(X)
    with pytest.raises(ShapeError, match="takes 3 channels, but was given 2"):
        layer(X[..., :2])


def test_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(ShapeError, match="normalises axis 3, but its input has 3 dimensions"):
        tally.layers.LayerNormalization(axis=3)(X)
