"""Reviews and newswires: equal to what Keras makes of the same files, whatever is asked for."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.datasets.made import Evil, npy, npz, objects, publish, python2

from tally.core.errors import ArgumentError, DataError
from tally.datasets import imdb, reuters
from tally.formats.errors import BadFileError

CHANCE = np.random.default_rng(0)


def texts(count: int) -> np.ndarray:
    return objects([CHANCE.integers(1, 400, CHANCE.integers(1, 40)).tolist() for _ in range(count)])


REVIEWS = {
    "x_train": texts(30),
    "y_train": CHANCE.integers(0, 2, 30),
    "x_test": texts(20),
    "y_test": CHANCE.integers(0, 2, 20),
}
WIRES = {"x": texts(40), "y": CHANCE.integers(0, 46, 40)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    publish(monkeypatch, imdb, npz(tmp_path / "imdb.npz", **REVIEWS))
    publish(monkeypatch, reuters, npz(tmp_path / "reuters.npz", **WIRES))
    return tmp_path


def assert_same(ours: Any, theirs: Any) -> None:
    for (x, y), (their_x, their_y) in zip(ours, theirs, strict=True):
        assert x.tolist() == their_x.tolist()
        assert {type(one) for one in x} <= {list}
        assert (x.dtype, x.shape) == (their_x.dtype, their_x.shape)
        np.testing.assert_array_equal(y, their_y)
        assert y.dtype == their_y.dtype


ASKED = [
    {},
    {"num_words": 100},
    {"num_words": 100, "skip_top": 20},
    {"num_words": 100, "oov_char": None},
    {"oov_char": None, "skip_top": 30},
    {"maxlen": 25},
    {"maxlen": 25, "seed": 7, "num_words": 50},
    {"start_char": None},
    {"start_char": None, "index_from": 0},
    {"start_char": 5, "index_from": 10, "oov_char": 6},
]


@pytest.mark.parametrize("options", ASKED, ids=str)
@pytest.mark.parametrize("module", [imdb, reuters])
def test_it_is_what_keras_gives(files: Path, monkeypatch: Any, module: Any, options: dict[str, Any]) -> None:
    from keras.src import datasets

    name = module.__name__.rpartition(".")[2]
    theirs = getattr(datasets, name)
    monkeypatch.setattr(theirs, "get_file", lambda **_: str(files / f"{name}.npz"))
    assert_same(module.load_data(**options), theirs.load_data(**options))


@pytest.mark.parametrize("test_split", [0, 0.31, 1])
def test_as_many_newswires_are_held_out_as_keras_holds(
    files: Path, monkeypatch: Any, test_split: float
) -> None:
    from keras.src.datasets import reuters as theirs

    monkeypatch.setattr(theirs, "get_file", lambda **_: str(files / "reuters.npz"))
    assert_same(reuters.load_data(test_split=test_split), theirs.load_data(test_split=test_split))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("imdb", "load_data"),
        ("imdb", "get_word_index"),
        ("reuters", "load_data"),
        ("reuters", "get_word_index"),
        ("reuters", "get_label_names"),
    ],
)
def test_what_can_be_asked_is_what_keras_takes(name: str, function: str) -> None:
    import keras

    ours, theirs = ({"imdb": imdb, "reuters": reuters}[name], getattr(keras.datasets, name))
    taken = [
        [(one.name, one.default) for one in inspect.signature(getattr(module, function)).parameters.values()]
        for module in (ours, theirs)
    ]
    assert taken[0] == [one for one in taken[1] if one[0] != "kwargs"]


def test_the_topics_are_those_of_keras() -> None:
    import keras

    assert reuters.get_label_names() == keras.datasets.reuters.get_label_names()
    assert len(reuters.get_label_names()) == 46


def test_texts_of_one_length_stay_lists(tmp_path: Path, monkeypatch: Any) -> None:
    publish(monkeypatch, reuters, npz(tmp_path / "a.npz", x=objects([[1, 2], [3, 4]]), y=np.array([1, 2])))
    (x_train, _), (x_test, _) = reuters.load_data(test_split=0.5)
    assert x_train.shape == x_test.shape == (1,)
    assert {type(x_train[0]), type(x_test[0])} == {list}


def test_texts_that_are_all_too_long_are_said(files: Path) -> None:
    for module in (imdb, reuters):
        with pytest.raises(ArgumentError, match=r"maxlen=1 leaves no sequence: the shortest has \d+ numbers"):
            module.load_data(maxlen=1)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"test_split=1\.5 is no share"):
        reuters.load_data(test_split=1.5)


def test_a_review_that_would_run_something_is_refused_and_not_run(tmp_path: Path, monkeypatch: Any) -> None:
    evil = objects([[1], Evil(tmp_path / "mark")])
    publish(monkeypatch, imdb, npz(tmp_path / "a.npz", **{**REVIEWS, "x_test": evil}))
    with pytest.raises(BadFileError, match=r"member 'x_test.npy'.* it was not run"):
        imdb.load_data()
    assert not (tmp_path / "mark").exists()


SHARED = [7] * 5_000


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (objects([[1], 2]), np.zeros(2, int), "is no array of lists"),
        (objects([[1], (2,)]), np.zeros(2, int), "is no array of lists"),
        (np.zeros(2), np.zeros(2, int), "is no array of lists"),
        (objects([[1], [2.5]]), np.zeros(2, int), "something else than the numbers of words"),
        (objects([[1], [True]]), np.zeros(2, int), "something else than the numbers of words"),
        (objects([[1], [-1]]), np.zeros(2, int), "something else than the numbers of words"),
        (objects([[1], [2**31]]), np.zeros(2, int), "something else than the numbers of words"),
        (objects([[1], [[2]]]), np.zeros(2, int), "something else than the numbers of words"),
        (objects([[1], [2]]), np.zeros(3, int), "not one label for each of 2"),
        (objects([[1], [2]]), np.zeros(2), "not one label for each of 2"),
        (objects([[1], [2]]), objects([1, 2]), "not one label for each of 2"),
        (objects([SHARED] * 5_000), np.zeros(5_000, int), "more than 20,000,000 words"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, monkeypatch: Any, x: Any, y: Any, words: str) -> None:
    publish(monkeypatch, reuters, npz(tmp_path / "a.npz", x=x, y=y))
    with pytest.raises(BadFileError, match=words):
        reuters.load_data()


def test_a_text_that_contains_itself_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    x = objects([endless])
    publish(monkeypatch, reuters, npz(tmp_path / "a.npz", x=npy(x, python2(x)), y=np.zeros(1, int)))
    with pytest.raises(BadFileError, match="something else than the numbers of words"):
        reuters.load_data()


@pytest.mark.parametrize("module", [imdb, reuters])
def test_the_word_index_is_words_and_numbers(tmp_path: Path, monkeypatch: Any, module: Any) -> None:
    words = {"the": 1, "caf\u00e9": 2, "\u0096": 3}
    (tmp_path / "index.json").write_text(json.dumps(words))
    publish(monkeypatch, module, tmp_path / "index.json", "_INDEX")
    assert module.get_word_index() == words
    name = module.__name__.rpartition(".")[2]
    assert (tmp_path / "home" / "datasets" / f"{name}_word_index.json").exists()


@pytest.mark.parametrize(
    "text",
    ['["the"]', '{"the": 1.5}', '{"the": 0}', '{"the": true}', '{"a": 1, "a": 2}', "{", '{"the": 1e400}'],
)
def test_what_is_no_word_index_is_refused(tmp_path: Path, monkeypatch: Any, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    publish(monkeypatch, imdb, tmp_path / "index.json", "_INDEX")
    with pytest.raises(BadFileError):
        imdb.get_word_index()


def test_another_word_index_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    pin = imdb._INDEX.pin
    (tmp_path / "index.json").write_text("{}")
    publish(monkeypatch, imdb, tmp_path / "index.json", "_INDEX")
    monkeypatch.setattr(
        imdb, "_INDEX", imdb.Published(title="it", address=imdb._INDEX.address, pin=pin, size=9)
    )
    with pytest.raises(DataError, match=f"its md5 hash is [0-9a-f]{{32}}, not {pin}"):
        imdb.get_word_index()
