from dataclasses import replace

import numpy as np
import pytest
from tests.datasets.made import npz, publish

from tally.core.errors import DataError
from tally.datasets import mnist


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A file in MNIST's form with three images, at an address that needs no network."""
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (2, 28, 28), dtype="uint8"),
        "y_train": np.array([5, 0], "uint8"),
        "x_test": generator.integers(0, 256, (1, 28, 28), dtype="uint8"),
        "y_test": np.array([7], "uint8"),
    }
    file = npz(tmp_path / "origin.npz", **arrays)
    publish(monkeypatch, mnist, file)
    return file, arrays


def test_mnist_comes_as_images_and_digits_to_learn_from_and_to_test_with(small_mnist):
    _, arrays = small_mnist
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    for name, loaded in [("x_train", x_train), ("y_train", y_train), ("x_test", x_test), ("y_test", y_test)]:
        np.testing.assert_array_equal(loaded, arrays[name])


def test_mnist_is_downloaded_once(small_mnist, tmp_path):
    mnist.load_data()
    small_mnist[0].unlink()
    assert (tmp_path / "home" / "datasets" / "mnist.npz").exists()
    assert len(mnist.load_data()[0][0]) == 2


def test_another_file_than_the_known_one_is_refused(small_mnist, monkeypatch):
    monkeypatch.setattr(mnist, "_FILE", replace(mnist._FILE, pin="0" * 64))
    with pytest.raises(DataError, match="not the expected file"):
        mnist.load_data()


def test_without_a_network_the_digits_that_need_none_are_named(small_mnist):
    small_mnist[0].unlink()
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        mnist.load_data()
    assert "tally.datasets.digits, which needs no network" in str(caught.value)
