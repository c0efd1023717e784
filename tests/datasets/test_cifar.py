"""CIFAR's archives: pickles of Python 2 in a tar, read as data and equal to what Keras makes of them."""

import functools
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.datasets.made import Evil, publish, python2

import tally
from tally.core.errors import ArgumentError, DataError
from tally.datasets import cifar10, cifar100
from tally.formats.errors import BadFileError

CHANCE = np.random.default_rng(0)


def batch(count: int, **labels: int) -> dict[str, Any]:
    """A file's content, with labels below a number each."""
    found = {name: CHANCE.integers(0, below, count).tolist() for name, below in labels.items()}
    data = CHANCE.integers(0, 256, (count, 3072), "uint8")
    return {"data": data, "batch_label": "one of them", "filenames": ["a.png"] * count, **found}


def packed(path: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in batches.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


TEN = {f"data_batch_{number}": batch(number, labels=10) for number in range(1, 6)} | {
    "test_batch": batch(3, labels=10)
}
HUNDRED = {name: batch(4, fine_labels=100, coarse_labels=20) for name in ("train", "test")}


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {f"cifar-10-batches-py/{name}": python2(content) for name, content in TEN.items()}
    publish(monkeypatch, cifar10, packed(tmp_path / "ten.tar.gz", files))
    return tmp_path


@pytest.fixture
def hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {f"cifar-100-python/{name}": python2(content) for name, content in HUNDRED.items()}
    publish(monkeypatch, cifar100, packed(tmp_path / "hundred.tar.gz", files))
    return tmp_path


@pytest.fixture
def channels() -> Iterator[Any]:
    yield tally.config.set_image_data_format
    tally.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
def test_cifar10_is_five_batches_to_learn_from_and_one_to_test_with(
    ten: Path, channels: Any, form: str
) -> None:
    channels(form)
    (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    order = (0, 1, 2, 3) if form == "channels_first" else (0, 2, 3, 1)
    train, test = list(TEN.values())[:5], TEN["test_batch"]
    data = np.concatenate([one["data"] for one in train]).reshape(-1, 3, 32, 32).transpose(order)
    np.testing.assert_array_equal(x_train, data)
    np.testing.assert_array_equal(x_test, test["data"].reshape(-1, 3, 32, 32).transpose(order))
    assert y_train.tolist() == [[label] for one in train for label in one["labels"]]
    assert y_test.tolist() == [[label] for label in test["labels"]]
    assert {one.dtype.name for one in (x_train, y_train, x_test, y_test)} == {"uint8"}


def test_a_batch_of_cifar10_is_what_keras_reads(ten: Path) -> None:
    from keras.src.datasets.cifar import load_batch

    (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    folder = ten / "home" / "datasets" / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    images, labels = zip(
        *(load_batch(folder / f"data_batch_{number}") for number in range(1, 6)), strict=True
    )
    np.testing.assert_array_equal(x_train.transpose(0, 3, 1, 2), np.concatenate(images))
    assert y_train.ravel().tolist() == [label for some in labels for label in some]
    images, labels = load_batch(folder / "test_batch")
    np.testing.assert_array_equal(x_test.transpose(0, 3, 1, 2), images)
    assert y_test.ravel().tolist() == labels


@pytest.mark.parametrize("label_mode", ["fine", "coarse"])
def test_cifar100_is_what_keras_reads(
    hundred: Path, monkeypatch: pytest.MonkeyPatch, label_mode: str
) -> None:
    from keras.src.datasets import cifar100 as theirs

    ours = cifar100.load_data(label_mode)
    folder = hundred / "home" / "datasets" / "cifar-100-python-target"
    monkeypatch.setattr(theirs, "get_file", lambda **_: str(folder))
    for (x, y), (their_x, their_y) in zip(ours, theirs.load_data(label_mode), strict=True):
        np.testing.assert_array_equal(x, their_x)
        np.testing.assert_array_equal(y, their_y)
        assert (x.dtype, y.dtype, y.shape) == (their_x.dtype, their_y.dtype, their_y.shape)


def test_it_is_downloaded_once(hundred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=hundred)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hundred.tar.gz"
        monkeypatch.setattr(cifar100, "_FILE", replace(cifar100._FILE, address=address))
        first, second = cifar100.load_data(), cifar100.load_data()
        server.shutdown()
    assert asked == ["/hundred.tar.gz"]
    np.testing.assert_array_equal(first[0][0], second[0][0])


def test_labels_that_there_are_not_are_refused() -> None:
    with pytest.raises(ArgumentError, match='pass "fine" or "coarse"'):
        cifar100.load_data("medium")


def test_without_a_network_it_says_which_file_belongs_where(ten: Path) -> None:
    (ten / "ten.tar.gz").unlink()
    with pytest.raises(DataError) as caught:
        cifar10.load_data()
    kept = ten / "home" / "datasets" / "cifar-10-batches-py-target_archive"
    assert f"bring {cifar10._FILE.address} here as {kept}" in str(caught.value)


def test_an_archive_that_is_brought_by_hand_is_used(ten: Path) -> None:
    kept = ten / "home" / "datasets" / "cifar-10-batches-py-target_archive"
    kept.parent.mkdir(parents=True)
    (ten / "ten.tar.gz").rename(kept)
    assert len(cifar10.load_data()[0][0]) == 15


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "is no dictionary"),
        ({}, "is NoneType|is a NoneType"),
        ({"data": np.zeros((2, 3071), "uint8"), "fine_labels": [1, 2]}, "no images of 32 by 32"),
        ({"data": np.zeros(3072, "uint8"), "fine_labels": [1]}, "no images of 32 by 32"),
        ({"data": np.zeros((2, 3072), "uint8")}, "not one label for each of 2 images"),
        ({"data": np.zeros((2, 3072), "uint8"), "fine_labels": [1]}, "not one label for each of 2 images"),
        ({"data": np.zeros((2, 3072), "uint8"), "fine_labels": [1, 100]}, "outside of 0 to 99"),
        ({"data": np.zeros((2, 3072), "uint8"), "fine_labels": [1, -1]}, "outside of 0 to 99"),
        ({"data": np.zeros((2, 3072), "uint8"), "fine_labels": [1, 1.0]}, "outside of 0 to 99"),
        ({"data": np.zeros((2, 3072), "int64"), "fine_labels": [1, 1]}, "aren't read here"),
        ({"data": "text", "fine_labels": [1, 1]}, "is text instead of an array"),
    ],
)
def test_a_batch_that_is_none_is_refused(tmp_path: Path, monkeypatch: Any, content: Any, words: str) -> None:
    publish(
        monkeypatch, cifar100, packed(tmp_path / "bad.tar.gz", {"cifar-100-python/train": python2(content)})
    )
    with pytest.raises(BadFileError, match=words) as caught:
        cifar100.load_data()
    assert caught.value.file.endswith("cifar-100-python/train")


def test_a_batch_that_would_run_something_is_refused_and_not_run(tmp_path: Path, monkeypatch: Any) -> None:
    evil = {**HUNDRED["train"], "filenames": [Evil(tmp_path / "mark")]}
    publish(
        monkeypatch, cifar100, packed(tmp_path / "evil.tar.gz", {"cifar-100-python/train": python2(evil)})
    )
    with pytest.raises(BadFileError, match="system, which no array needs; it was not run"):
        cifar100.load_data()
    assert not (tmp_path / "mark").exists()


def test_a_batch_that_is_cut_off_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    whole = python2(HUNDRED["train"])
    for cut in (0, 1, 100, 300, len(whole) // 2, len(whole) - 1):
        publish(
            monkeypatch, cifar100, packed(tmp_path / f"{cut}.tar.gz", {"cifar-100-python/train": whole[:cut]})
        )
        with pytest.raises(BadFileError, match="ends in the middle"):
            cifar100.load_data()


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    publish(monkeypatch, cifar100, packed(tmp_path / "evil.tar.gz", {"../../train": b"evil"}))
    with pytest.raises(BadFileError, match="leads out of the folder"):
        cifar100.load_data()
    assert not (tmp_path / "home" / "train").exists()
