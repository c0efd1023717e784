"""The same code builds the same model in Keras and here: layers, names, weights, outputs."""

from typing import Any

import jax
import keras
import numpy as np
import pytest

import tally
from models.cases import CASES

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's variables


def both(name: str) -> tuple[Any, Any, Any]:
    """The model of a case in Keras and here, with equal weights, and its inputs."""
    keras.utils.clear_session()
    build, inputs = CASES[name]
    theirs, ours = build(keras), build(tally)
    ours.set_weights(theirs.get_weights())
    return theirs, ours, inputs


def assert_same(ours: Any, theirs: Any) -> None:
    ours, theirs = (jax.tree.map(np.asarray, outputs) for outputs in (ours, theirs))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_model_has_keras_layers_weights_and_outputs(name: str) -> None:
    theirs, ours, inputs = both(name)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [type(layer).__name__ for layer in ours.layers] == [type(layer).__name__ for layer in theirs.layers]
    assert [v.shape for v in ours.weights] == [tuple(v.shape) for v in theirs.weights]
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)
    assert ours.count_params() == theirs.count_params()
    assert ours.output_shape == theirs.output_shape
    assert ours.input_shape == theirs.input_shape
    assert_same(ours(inputs), theirs(inputs))
