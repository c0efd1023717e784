import jax.numpy as jnp
import keras
import numpy as np
import pytest

import tally
from tally.applications import imagenet_utils
from tally.core.errors import ArgumentError, DataError, ShapeError

IMAGES = {
    "channels_last": np.random.default_rng(0).uniform(0, 255, (2, 3, 5, 3)),
    "channels_first": np.random.default_rng(0).uniform(0, 255, (2, 3, 3, 5)),
}


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_pixels_are_scaled_as_keras_scales_them(mode, layout, kind):
    images = IMAGES[layout].astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(
        images.copy(), data_format=layout, mode=mode
    )
    scaled = imagenet_utils.preprocess_input(kind(images), data_format=layout, mode=mode)
    assert scaled.dtype == "float32"
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("module", ["vgg16", "resnet50", "mobilenet_v2", "xception"])
def test_each_application_scales_pixels_in_its_own_way(module):
    images = IMAGES["channels_last"].astype("float32")
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    scaled = getattr(tally.applications, module).preprocess_input(images)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-5)


def test_whole_numbers_become_floats_and_the_given_array_stays():
    images = np.full((1, 2, 2, 3), 255, "uint8")
    scaled = imagenet_utils.preprocess_input(images, mode="tf")
    assert scaled.dtype == "float32"
    assert (scaled == 1).all()
    assert (images == 255).all()


def test_a_symbolic_image_is_scaled_inside_a_model():
    image = tally.Input((2, 2, 3))
    model = tally.Model(image, tally.applications.resnet50.preprocess_input(image))
    images = np.full((1, 2, 2, 3), 100.0, "float32")
    np.testing.assert_allclose(model(images), imagenet_utils.preprocess_input(images), rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"mode": "cafe"}, {"data_format": "last"}])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(ArgumentError, match="is not known"):
        imagenet_utils.preprocess_input(np.zeros((1, 1, 3)), **wrong)


def test_the_likeliest_classes_are_named_in_order(monkeypatch):
    names = [(f"n{number:08d}", f"thing_{number}") for number in range(1000)]
    monkeypatch.setattr(imagenet_utils, "_read_classes", lambda: names)
    scores = np.zeros((2, 1000))
    scores[0, [3, 5]], scores[1, [7, 8]] = [0.2, 0.7], [0.6, 0.4]
    assert imagenet_utils.decode_predictions(scores, top=2) == [
        [("n00000005", "thing_5", 0.7), ("n00000003", "thing_3", 0.2)],
        [("n00000007", "thing_7", 0.6), ("n00000008", "thing_8", 0.4)],
    ]


def test_names_that_cannot_be_had_are_told_with_what_to_do(monkeypatch):
    def fail(**_):
        raise DataError("no network.")

    monkeypatch.setattr(imagenet_utils, "get_file", fail)
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        imagenet_utils.decode_predictions(np.zeros((1, 1000)))
    assert "~/.tally/models" in str(caught.value)


def test_predictions_of_other_classes_have_no_names():
    with pytest.raises(ShapeError, match="1000 ImageNet classes"):
        imagenet_utils.decode_predictions(np.zeros((1, 10)))
