import keras
import numpy as np
import pytest

import tally
from applications.cases import CASES, make_both, weights_for
from tally import applications
from tally.core.errors import ArgumentError

# Keras's variables say so when NumPy reads them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(("name", "size", "total"), CASES)
def test_an_application_has_the_known_number_of_parameters_and_no_memory_is_taken_for_them(name, size, total):
    model = getattr(applications, name)(weights=None)
    assert model.count_params() == tally.account(model).total == total
    assert all(variable.is_planned for variable in model.weights)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "total"), CASES)
def test_a_whole_application_has_the_layers_weights_and_shapes_of_keras(name, size, total):
    ours, theirs = make_both(name)
    assert ours.name == theirs.name
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [layer.count_params() for layer in ours.layers] == [
        layer.count_params() for layer in theirs.layers
    ]
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, tuple(w.shape)) for w in theirs.weights]
    assert [w.path for w in ours.trainable_weights] == [w.path for w in theirs.trainable_weights]
    assert ours.count_params() == theirs.count_params() == total


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "total"), CASES)
def test_features_match_keras_with_the_same_weights(name, size, total):
    ours, theirs = make_both(name, include_top=False, pooling="avg", input_shape=(size, size, 3))
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    weights = weights_for(theirs)
    theirs.set_weights(weights)
    ours.set_weights(weights)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype("float32")
    expected = np.asarray(theirs(images, training=False))
    np.testing.assert_allclose(
        ours(images, training=False), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.slow
def test_probabilities_match_keras_with_the_same_weights():
    ours, theirs = make_both("MobileNetV2", input_shape=(32, 32, 3), alpha=0.35, classes=7)
    weights = weights_for(theirs)
    theirs.set_weights(weights)
    ours.set_weights(weights)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype("float32")
    assert ours.name == theirs.name == "mobilenetv2_0.35_32"
    np.testing.assert_allclose(ours(images, training=False), theirs(images, training=False), atol=1e-4)


@pytest.mark.slow
def test_a_file_of_weights_that_keras_wrote_is_loaded(tmp_path):
    _, theirs = make_both("MobileNetV2", alpha=0.35, include_top=False)
    theirs.save_weights(tmp_path / "trained.weights.h5")
    ours = applications.MobileNetV2(alpha=0.35, include_top=False, weights=tmp_path / "trained.weights.h5")
    for mine, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_weights_of_imagenet_are_refused_with_the_way_to_bring_them():
    with pytest.raises(
        ArgumentError, match=r"not shipped with tally.\n  do: pass weights=None .* \.weights\.h5"
    ):
        applications.ResNet50()


def test_a_file_of_weights_that_is_not_there_is_told_before_the_model_is_built():
    with pytest.raises(ArgumentError, match="no file of weights"):
        applications.VGG16(weights="missing.weights.h5")


@pytest.mark.parametrize(("name", "size", "total"), CASES)
def test_an_image_too_small_for_the_model_is_refused(name, size, total):
    with pytest.raises(ArgumentError, match=f"at least {size}×{size} pixels"):
        getattr(applications, name)(weights=None, input_shape=(size - 1, size, 3))


def test_a_shape_with_the_batch_in_it_is_refused():
    with pytest.raises(ArgumentError, match="leave the batch out"):
        applications.VGG16(weights=None, input_shape=(None, 224, 224, 3))


def test_without_the_top_an_image_of_any_size_gives_features():
    model = applications.MobileNetV2(weights=None, alpha=0.35, include_top=False)
    assert model.input_shape == (None, None, None, 3)
    assert model.output_shape == (None, None, None, 1280)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling_gives_one_vector_per_image(pooling):
    model = applications.VGG16(weights=None, include_top=False, pooling=pooling, input_shape=(32, 32, 3))
    assert model.output_shape == (None, 512)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ArgumentError, match="pooling='mean'"):
        applications.VGG16(weights=None, include_top=False, pooling="mean")


def test_a_tensor_given_as_the_input_is_part_of_the_model_with_what_it_is_computed_from():
    image = tally.Input((32, 32, 1), name="grey")
    colours = tally.layers.Concatenate(name="colours")([image, image, image])
    model = applications.VGG16(weights=None, include_top=False, input_tensor=colours)
    assert model.input_shape == (None, 32, 32, 1)
    assert [layer.name for layer in model.layers[:2]] == ["grey", "colours"]


def test_an_application_says_where_the_user_made_it():
    layer = applications.MobileNetV2(weights=None, alpha=0.35).get_layer("Conv1")
    assert layer.made_at is not None
    assert "test_models.py" in layer.made_at


def test_an_application_survives_its_configuration():
    model = applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3))
    again = type(model).from_config(model.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert again.count_params() == model.count_params()


def test_applications_have_the_module_names_of_keras():
    for module, name in [
        ("vgg16", "VGG16"),
        ("resnet", "ResNet50"),
        ("resnet50", "ResNet50"),
        ("mobilenet_v2", "MobileNetV2"),
        ("xception", "Xception"),
    ]:
        ours, theirs = getattr(applications, module), getattr(keras.applications, module)
        assert getattr(ours, name) is getattr(applications, name)
        assert callable(ours.preprocess_input)
        assert callable(ours.decode_predictions)
        assert hasattr(theirs, name)
