"""The hashes are those that Keras has, where it has any, and every data set of Keras is here."""

import importlib
import inspect

import pytest

import tally
from tally.datasets.published import Published

NAMES = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]


def test_every_data_set_of_keras_is_here() -> None:
    import keras

    theirs = [name for name in dir(keras.datasets) if not name.startswith("_")]
    assert theirs == NAMES
    assert set(theirs) < set(tally.datasets.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_the_pins_are_those_of_keras(name: str) -> None:
    source = inspect.getsource(importlib.import_module(f"keras.src.datasets.{name}"))
    ours = importlib.import_module(f"tally.datasets.{name}")
    files = [value for value in vars(ours).values() if isinstance(value, Published)]
    assert bool(files) == (name != "fashion_mnist")  # which Keras compares with nothing
    for file in files:
        assert f'"{file.pin}"' in source
        assert file.address.rpartition("/")[2] in source
        assert len(file.pin) == (32 if "word index" in file.title else 64)
        assert file.size > 0
