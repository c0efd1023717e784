"""What noise must be: as strong as its rate says, new in each step, repeatable by seed, absent outside training."""

from typing import Any

import jax
import keras
import numpy as np
import pytest

import tally
from tally.core.errors import ArgumentError

ONES = np.ones((40, 50), "float32")
NOISES = [("Dropout", 0.3), ("GaussianNoise", 0.3), ("GaussianDropout", 0.3), ("AlphaDropout", 0.3)]


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_dropout_drops_its_share_and_scales_the_rest(rate: float) -> None:
    y = np.asarray(tally.layers.Dropout(rate, seed=1)(ONES, training=True))
    assert np.mean(y == 0) == pytest.approx(rate, abs=0.03)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_a_rate_of_one_drops_everything() -> None:
    assert not np.any(tally.layers.Dropout(1.0)(ONES, training=True))


@pytest.mark.parametrize(("name", "amount"), NOISES)
def test_noise_is_new_in_each_step_and_repeatable_by_its_seed(name: str, amount: float) -> None:
    first, second = (getattr(tally.layers, name)(amount, seed=3) for _ in range(2))
    a, b = first(ONES, training=True), first(ONES, training=True)
    assert np.any(a != b)
    np.testing.assert_array_equal(a, second(ONES, training=True))
    np.testing.assert_array_equal(b, second(ONES, training=True))
    np.testing.assert_array_equal(first(ONES), ONES)


@pytest.mark.parametrize(("name", "amount"), NOISES)
def test_noise_keeps_the_mean_and_spreads_as_keras_does(name: str, amount: float) -> None:
    x = np.random.default_rng(0).normal(size=(100, 100)).astype("float32")
    ours = np.asarray(getattr(tally.layers, name)(amount, seed=3)(x, training=True))
    theirs = np.asarray(getattr(keras.layers, name)(amount, seed=3)(x, training=True))
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.05)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)


def test_the_compiled_step_moves_the_seed() -> None:
    layer = tally.layers.Dropout(0.5, seed=3)
    layer(ONES)
    step = jax.jit(lambda state: layer.stateless_call([], state, ONES, training=True))
    start = [v.value for v in layer.non_trainable_variables]
    a, state = step(start)
    b, _ = step(state)
    assert np.any(a != b)
    np.testing.assert_array_equal(a, step(start)[0])


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("SpatialDropout1D", (3, 5, 4), {}),
        ("SpatialDropout2D", (3, 5, 2, 4), {}),
        ("SpatialDropout3D", (3, 5, 2, 2, 4), {}),
        ("SpatialDropout2D", (3, 4, 5, 2), {"data_format": "channels_first"}),
    ],
)
def test_spatial_dropout_drops_whole_channels(
    name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    y = np.asarray(
        getattr(tally.layers, name)(0.5, seed=1, **options)(np.ones(shape, "float32"), training=True)
    )
    y = np.moveaxis(y, 1, -1) if options else y
    flat = y.reshape(3, -1, 4)
    assert set(np.unique(flat)) == {0.0, 2.0}
    assert np.all(flat == flat[:, :1])


def test_noise_of_size_one_is_shared_along_its_axis() -> None:
    y = np.asarray(tally.layers.Dropout(0.5, noise_shape=(None, 1), seed=1)(ONES, training=True))
    assert np.all(y == y[:, :1])


@pytest.mark.parametrize(("rate", "states"), [(0.0, 0), (0.5, 1)])
def test_a_seed_is_held_where_there_is_something_to_draw(rate: float, states: int) -> None:
    layer = tally.layers.Dropout(rate)
    assert len(layer.variables) == states == len(keras.layers.Dropout(rate).variables)
    assert layer.weights == []


def test_a_rate_above_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"has rate=1.5(.|\n)*from 0 to 1"):
        tally.layers.Dropout(1.5)
