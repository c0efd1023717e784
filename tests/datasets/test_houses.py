"""Houses: parted by chance as Keras parts them."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.datasets.made import npz, objects, publish

from tally.core.errors import ArgumentError
from tally.datasets import boston_housing, california_housing
from tally.formats.errors import BadFileError

CHANCE = np.random.default_rng(0)


def name_of(module: Any) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (boston_housing, {}),
        (boston_housing, {"test_split": 0, "seed": 3}),
        (boston_housing, {"test_split": 0.37}),
        (california_housing, {}),
        (california_housing, {"version": "small"}),
        (california_housing, {"version": "large", "test_split": 0.5, "seed": 0}),
    ],
)
def test_rows_are_parted_as_keras_parts_them(
    tmp_path: Path, monkeypatch: Any, module: Any, options: dict[str, Any]
) -> None:
    from keras.src import datasets

    file = npz(tmp_path / "a.npz", x=CHANCE.normal(size=(701, 8)), y=CHANCE.normal(size=701))
    publish(monkeypatch, module, file)
    theirs = getattr(datasets, name_of(module))
    monkeypatch.setattr(theirs, "get_file", lambda *_, **__: str(file))
    for ours, other in zip(module.load_data(**options), theirs.load_data(**options), strict=True):
        for mine, yours in zip(ours, other, strict=True):
            np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("module", [boston_housing, california_housing])
def test_what_can_be_asked_is_what_keras_takes(module: Any) -> None:
    import keras

    theirs = getattr(keras.datasets, name_of(module)).load_data
    taken = [
        [(one.name, one.default) for one in inspect.signature(function).parameters.values()]
        for function in (module.load_data, theirs)
    ]
    assert taken[0] == taken[1]


@pytest.mark.parametrize("test_split", [1, -0.1, 2])
def test_a_share_that_leaves_nothing_is_refused(test_split: float) -> None:
    with pytest.raises(ArgumentError, match="nothing to learn from"):
        boston_housing.load_data(test_split=test_split)


def test_a_version_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArgumentError, match='pass "large" or "small"'):
        california_housing.load_data("medium")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((3, 2)), np.zeros(2)),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((3, 2)), np.zeros((3, 1))),
        (objects([1, 2, 3]), np.zeros(3)),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, monkeypatch: Any, x: Any, y: Any) -> None:
    publish(monkeypatch, boston_housing, npz(tmp_path / "a.npz", x=x, y=y))
    with pytest.raises(BadFileError, match="is no table with one number for each row"):
        boston_housing.load_data()


def test_the_caution_is_where_it_is_read() -> None:
    assert "Caution" in inspect.getdoc(boston_housing.load_data).split("Args:")[0]
