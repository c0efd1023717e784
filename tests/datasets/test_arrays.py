"""Arrays in files that somebody may have changed: they come out as they were, or a BadFileError does."""

import io
import pickle
import random
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.datasets.made import Evil, npy, npz, objects, python2

from tally.datasets.arrays import as_array, read_npz, read_pickled
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.pickle import read_pickle
from tally.formats.window import Window

LISTS = objects([[1, 300, 70_000, -5], [], [255, 256, 65_535, 65_536, 2**31 - 1, 2**40]])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="int64").reshape(3, 4),
        np.arange(12, dtype="uint8"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3), "float32"),
    ],
)
def test_a_plain_array_is_numpys_own_and_may_be_written_to(tmp_path: Path, array: np.ndarray) -> None:
    found = read_npz(npz(tmp_path / "a.npz", x=array), ["x"])["x"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    found[...] = 0


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_array_of_lists_is_read_from_every_kind_of_pickle(tmp_path: Path, protocol: int) -> None:
    written = npy(LISTS, pickle.dumps(LISTS, protocol))
    assert read_npz(npz(tmp_path / "a.npz", x=written), ["x"])["x"] == LISTS.tolist()


def test_numbers_count_as_steps_though_many_are_read_at_once() -> None:
    data = pickle.dumps(list(range(200)), 2)
    for tensors, fits in ((100, True), (20, False)):
        window = Window(io.BytesIO(data), "a.pkl", 0, len(data))
        with nullcontext() if fits else pytest.raises(BadFileError, match="more than 100 steps"):
            read_pickle(window, Limits(tensors=tensors))


def test_an_array_of_lists_is_read_as_python_2_and_as_numpy_write_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "numpy.npz", x=LISTS)
    for path in (npz(tmp_path / "python2.npz", x=LISTS), tmp_path / "numpy.npz"):
        assert read_npz(path, ["x"])["x"] == LISTS.tolist()


def test_numbers_across_the_blocks_a_pickle_is_read_in_stay_what_they_are(tmp_path: Path) -> None:
    chance = random.Random(0)
    numbers = [
        chance.choice((chance.randrange(256), chance.randrange(2**16), -chance.randrange(2**31)))
        for _ in range(80_000)
    ]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(numbers, 2))
    assert read_pickled(tmp_path / "a.pkl") == numbers


@pytest.mark.parametrize("turned", [False, True])
def test_bytes_of_a_pickle_become_an_array(tmp_path: Path, turned: bool) -> None:
    array = np.arange(600, dtype="uint8").reshape(2, 300)
    array = np.asfortranarray(array) if turned else array
    for data in (python2(array), *(pickle.dumps(array, protocol) for protocol in (2, 3, 4))):
        (tmp_path / "a.pkl").write_bytes(data)
        found = as_array(read_pickled(tmp_path / "a.pkl"), tmp_path / "a.pkl", "it")
        np.testing.assert_array_equal(found, array)


def refused(path: Path) -> str:
    with pytest.raises(BadFileError) as caught:
        read_npz(path, ["x"])
    assert caught.value.file == str(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "write", [python2, lambda value: pickle.dumps(value, 2), lambda value: pickle.dumps(value, 4)]
)
def test_a_pickle_that_would_run_something_is_refused_and_not_run(tmp_path: Path, write: Any) -> None:
    evil, mark = objects([[1], Evil(tmp_path / "mark")]), tmp_path / "mark"
    words = refused(npz(tmp_path / "a.npz", x=npy(evil, write(evil))))
    assert "system, which no array needs; it was not run" in words
    assert not mark.exists()
    (tmp_path / "a.pkl").write_bytes(write(evil))
    with pytest.raises(BadFileError, match="was not run"):
        read_pickled(tmp_path / "a.pkl")
    assert not mark.exists()


def head(shape: str, descr: str = "|O") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
NEW = head("(1,)") + RECONSTRUCT
DTYPE = b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the first bytes"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "version 9"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535, "has a header that"),
        (b"\x93NUMPY\x01\x00\x00\x20" + b"-" * 8_192, "has a header that"),
        (head("(2,)", "<f8") + bytes(15), "15 bytes of data"),
        (head("(9223372036854775807, 9223372036854775807)", "<f8") + bytes(16), "asks for others"),
        (head("(-1,)", "<f8") + bytes(16), "has a header that"),
        (head("(0,) * 99999999999", "<f8"), "has a header that"),
        (head("(1, 1, 1, 1, 1, 1)", "<f8") + bytes(8), "shape"),
        (head("(1,)", "|V0"), "aren't read here"),
        (head("(1,)"), "ends in the middle"),
        (head("(1,)") + python2([1]), "is a list instead of an array"),
        (head("(1,)") + python2(LISTS) + b"more", "4 bytes behind the pickle"),
        (NEW + b".", "without a state"),
        (NEW + b"(K\x01K\x02\x85" + DTYPE % b"O8" + b"\x89]tb.", "without as many objects"),
        (NEW + b"(K\x01K\x01\x85" + DTYPE % b"f8" + b"\x89U\x08" + bytes(8) + b"tb.", "aren't read"),
        (NEW + b"(K\x01(lK\x01\x85" + DTYPE % b"u1" + b"\x89U\x00tb.", "ends with|without a state"),
        (NEW + b"(K\x01\x8a\x08" + b"\xff" * 7 + b"\x7f\x85" + DTYPE % b"u1" + b"\x89U\x00tb.", "usable shape"),
        (NEW + b"(K\x01J\xff\xff\xff\x7f\x85" + DTYPE % b"u1" + b"\x89U\x01atb.", "asks for 2,147,483,647"),
        (NEW + b"(K\x01K\x01\x85" + DTYPE % b"u1" + b"\x89T\xff\xff\xff\x7fatb.", "were promised"),
        (NEW + b"(K\x01K\x01\x85" + DTYPE % b"u1" + b"\x89T\xff\xff\xff\xffatb.", "-1 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_array_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadFileError, match=words):
        read_npz(npz(tmp_path / "a.npz", x=data), ["x"])


def test_a_missing_array_and_a_missing_file_are_said(tmp_path: Path) -> None:
    assert "has no member 'x.npy'" in refused(npz(tmp_path / "a.npz", y=np.zeros(1)))
    assert "can't be opened" in refused(tmp_path / "b.npz")


def test_an_array_cut_off_or_changed_anywhere_is_refused_or_still_lists(tmp_path: Path) -> None:
    whole, chance = npy(LISTS), random.Random(0)
    for cut in range(len(whole)):
        refused(npz(tmp_path / "a.npz", x=whole[:cut]))
    for _ in range(300):
        data = bytearray(whole)
        data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found = read_npz(npz(tmp_path / "a.npz", x=bytes(data)), ["x"])["x"]
        except BadFileError:
            continue
        assert isinstance(found, list | np.ndarray)


def test_a_zip_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", x=np.zeros(60_000_000, "uint8"))
    assert "claims to unpack" in refused(tmp_path / "a.npz")


def test_the_writer_of_these_tests_writes_what_python_reads() -> None:
    array = np.arange(6, dtype="uint8").reshape(2, 3)
    found: Any = pickle.load(io.BytesIO(python2({"data": array, "labels": [1, 2]})), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], array)
    assert found[b"labels"] == [1, 2]
