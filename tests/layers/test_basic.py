"""Inputs, functions as layers, and masks that a layer makes."""

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.core.errors import ArgumentError
from tally.core.masks import get_mask


def test_an_input_is_the_output_of_an_input_layer_of_its_name() -> None:
    x = tally.Input(shape=(3, None), dtype="int32", name="ids")
    assert (x.shape, x.dtype, x.name) == ((None, 3, None), "int32", "ids")
    assert isinstance(x.node.operation, tally.layers.InputLayer)
    assert x.node.operation.name == "ids"


def test_inputs_are_named_as_in_keras() -> None:
    keras.utils.clear_session()
    for library in (tally, keras):
        assert [library.layers.InputLayer((3,)).name for _ in range(2)] == ["input_layer", "input_layer_1"]


def test_an_input_layers_config_is_that_of_keras() -> None:
    ours, peer = (
        lib.layers.InputLayer(batch_shape=(2, 3), dtype="int32", name="x") for lib in (tally, keras)
    )
    assert ours.get_config() == peer.get_config()
    assert type(ours).from_config(ours.get_config()).output.shape == (2, 3)


def test_a_batch_size_can_be_fixed() -> None:
    assert tally.Input((3,), batch_size=8).shape == (8, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no shape"),
        ({"shape": 3}, r"write Input\(shape=\(3,\)\)"),
        ({"shape": (3,), "batch_shape": (None, 3)}, "batch twice"),
        ({"shape": (-1,)}, "-1 is no size"),
    ],
)
def test_an_impossible_input_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tally.Input(**arguments)


def test_a_function_is_a_layer() -> None:
    layer = tally.layers.Lambda(lambda x, factor: factor * x[:, :2], arguments={"factor": 3})
    assert layer(tally.Input((5,))).shape == (None, 2)
    np.testing.assert_array_equal(layer(np.ones((1, 5))), [[3, 3]])
    assert layer.weights == []


def test_a_function_is_told_phase_and_mask_if_it_asks() -> None:
    layer = tally.layers.Lambda(lambda x, mask, training: (x, mask.sum() + training))
    mask = np.array([[True, False]])
    assert int(layer(np.ones((1, 2, 3)), mask=mask, training=True)[1]) == 2


def test_masking_hides_steps_as_keras_does() -> None:
    x = np.ones((2, 4, 3), "float32")
    x[0, 1] = x[1, 2:] = 0
    ours, peer = tally.layers.Masking()(x), keras.layers.Masking()(x)
    assert_close(ours, peer)
    np.testing.assert_array_equal(get_mask(ours), peer._keras_mask)


def test_identity_hands_a_mask_on() -> None:
    x = tally.layers.Masking()(np.ones((2, 4, 3)))
    assert get_mask(tally.layers.Identity()(x)) is not None
