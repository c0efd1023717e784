"""Files go both ways: what Keras writes is read here, and what is written here Keras reads."""

from pathlib import Path

import keras
import pytest

import tally
from models.cases import CASES, assert_same, both

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras's variables
each_case = pytest.mark.parametrize("name", CASES)


@each_case
def test_a_keras_file_that_keras_wrote_gives_its_outputs_here(name: str, tmp_path: Path) -> None:
    theirs, ours, inputs, expected = both(name)
    theirs.save(tmp_path / "theirs.keras")
    loaded = tally.models.load_model(tmp_path / "theirs.keras")
    assert_same(loaded(inputs), expected)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in ours.layers]
    assert [v.trainable for v in loaded.weights] == [v.trainable for v in ours.weights]


@each_case
def test_a_keras_file_that_was_written_here_gives_its_outputs_in_keras(name: str, tmp_path: Path) -> None:
    theirs, ours, inputs, expected = both(name)
    ours.save(tmp_path / "ours.keras")
    loaded = keras.saving.load_model(tmp_path / "ours.keras")
    assert_same(loaded(inputs), expected)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in theirs.layers]
    assert [v.trainable for v in loaded.weights] == [v.trainable for v in theirs.weights]


@each_case
def test_weights_go_both_ways(name: str, tmp_path: Path) -> None:
    theirs, ours, inputs, expected = both(name)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    fresh = tally.models.clone_model(ours)
    fresh.load_weights(tmp_path / "theirs.weights.h5")
    assert_same(fresh.get_weights(), [v.numpy() for v in theirs.weights])
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.set_weights([0 * value for value in ours.get_weights()])
    theirs.load_weights(tmp_path / "ours.weights.h5")
    assert_same(theirs(inputs), expected)
