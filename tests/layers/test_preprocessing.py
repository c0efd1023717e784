"""What the contract doesn't say of preprocessing: statistics learned from data, weighted counts, refused options."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from layers.peer import weights_of
from tally.core.errors import ArgumentError, UnbuiltError

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(3, 2, size=(30, 4, 3)).astype("float32")


@pytest.mark.parametrize("axis", [-1, None, (1, 2)])
def test_normalization_learns_the_statistics_of_keras(axis: object) -> None:
    ours, peer = (library.layers.Normalization(axis=axis) for library in (tally, keras))
    ours.adapt(X)
    peer.adapt(X)
    assert_close(ours.get_weights(), weights_of(peer))
    assert_close(ours(X), peer(X))


def test_batches_give_the_statistics_of_the_whole() -> None:
    def batches() -> Iterator[np.ndarray]:
        yield from (X[:7], X[7:25], X[25:])

    ours, whole = tally.layers.Normalization(), tally.layers.Normalization()
    ours.adapt(batches())
    whole.adapt(X)
    assert_close(ours.get_weights(), whole.get_weights(), 1e-6)


def test_an_inverted_normalization_undoes_one() -> None:
    ours, back = tally.layers.Normalization(), tally.layers.Normalization(invert=True)
    ours.adapt(X)
    back.adapt(X)
    assert_close(back(ours(X)), X)


def test_a_mean_without_a_variance_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a mean and a variance of one shape"):
        tally.layers.Normalization(mean=1.0)


def test_counts_can_be_weighted() -> None:
    ids, weights = np.array([[0, 1, 1]]), np.array([[0.5, 1.0, 2.0]])
    ours, peer = (library.layers.CategoryEncoding(3, output_mode="count") for library in (tally, keras))
    assert_close(ours(ids, count_weights=weights), peer(ids, count_weights=weights))


@pytest.mark.parametrize("batches", [1, 3])
def test_discretization_lays_the_boundaries_of_keras(batches: int) -> None:
    data = CHANCE.normal(size=300).astype("float32")
    ours, peer = (library.layers.Discretization(num_bins=4, epsilon=0.05) for library in (tally, keras))
    parts = np.split(data, batches) if batches > 1 else data
    ours.adapt(parts)
    peer.adapt(parts)
    np.testing.assert_allclose(ours.bin_boundaries, peer.bin_boundaries, rtol=1e-5)
    np.testing.assert_array_equal(ours(data), peer(data))
    assert tally.layers.Discretization.from_config(ours.get_config()).bin_boundaries == ours.bin_boundaries


def test_pixels_are_rounded_when_whole_images_are_resized() -> None:
    images = CHANCE.integers(0, 255, (2, 5, 5, 3)).astype("uint8")
    ours, peer = (library.layers.Resizing(3, 4)(images) for library in (tally, keras))
    assert ours.dtype == "uint8"
    np.testing.assert_array_equal(ours, peer)


def test_bins_need_boundaries() -> None:
    with pytest.raises(UnbuiltError, match="call adapt"):
        tally.layers.Discretization(num_bins=3)(np.ones((2, 2)))
