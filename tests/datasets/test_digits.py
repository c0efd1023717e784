import numpy as np
import pytest
from sklearn.datasets import load_digits

import tally
from tally.core.errors import ArgumentError
from tally.datasets.digits import load_data


def test_digits_have_the_form_of_mnist():
    (x_train, y_train), (x_test, y_test) = load_data()
    assert x_train.shape == (len(y_train), 28, 28)
    assert x_test.shape == (len(y_test), 28, 28)
    assert {a.dtype.name for a in (x_train, y_train, x_test, y_test)} == {"uint8"}
    assert (x_train.min(), x_train.max()) == (0, 255)


def test_every_image_is_either_learned_from_or_held_out():
    train, test = load_data()
    together = np.concatenate([train[0], test[0]]).reshape(1797, -1)
    original = load_digits().images.repeat(3, axis=1).repeat(3, axis=2)
    framed = np.rint(np.pad(original, ((0, 0), (2, 2), (2, 2))) * 255 / 16).reshape(1797, -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, framed.astype("uint8")))


def test_images_keep_their_labels():
    train, _ = load_data(test_fraction=0.5)
    known = {
        image.tobytes(): digit
        for image, digit in zip(load_digits().images, load_digits().target, strict=True)
    }
    for image, digit in zip(*train, strict=True):
        small = np.rint(image[2:-2:3, 2:-2:3] * (16 / 255))
        assert known[small.tobytes()] == digit


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_the_same_share_of_every_digit_is_held_out(fraction):
    (_, y_train), (_, y_test) = load_data(test_fraction=fraction)
    held_out, all_of_them = np.bincount(y_test), np.bincount(np.concatenate([y_train, y_test]))
    np.testing.assert_allclose(held_out, fraction * all_of_them, atol=0.5)


def test_a_seed_holds_out_the_same_images_and_another_seed_others():
    first, again, other = (load_data(seed=seed)[1][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_a_fraction_that_leaves_nothing_is_refused(fraction):
    with pytest.raises(ArgumentError, match="choose a number between 0 and 1"):
        load_data(test_fraction=fraction)


def test_without_scikit_learn_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        load_data()
    assert any("tally-nn[demo]" in note for note in caught.value.__notes__)


def test_data_sets_are_reached_from_the_top():
    assert tally.datasets.digits.load_data is load_data
