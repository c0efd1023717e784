"""The same code builds the same model in Keras and here: layers, names, weights, outputs."""

import pytest

from models.cases import CASES, assert_same, both

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras's variables


@pytest.mark.parametrize("name", CASES)
def test_a_model_has_keras_layers_weights_and_outputs(name: str) -> None:
    theirs, ours, inputs, expected = both(name)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [type(layer).__name__ for layer in ours.layers] == [
        type(layer).__name__ for layer in theirs.layers
    ]
    assert [v.shape for v in ours.weights] == [tuple(v.shape) for v in theirs.weights]
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)
    assert ours.count_params() == theirs.count_params()
    assert ours.output_shape == theirs.output_shape
    assert ours.input_shape == theirs.input_shape
    assert_same(ours(inputs), expected)
