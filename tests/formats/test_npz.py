"""NumPy's files: shapes and types from headers, nothing unpacked or unpickled."""

import io
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.harm import flips, survives, truncations
from tally.formats import npz
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


_KINDS = ["<f4", ">f8", "<f2", "<i4", "|u1", "|b1", "<c8", "<i8"]


@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(_KINDS), st.booleans(), st.booleans())
def test_what_numpy_writes_is_read(tmp_path_factory, shape, kind, packed, turned):
    path = tmp_path_factory.mktemp("n") / "m.npz"
    array = np.zeros(shape, kind, order="F" if turned else "C")
    (np.savez_compressed if packed else np.savez)(path, **{"layer/kernel": array, "b": np.zeros(3)})
    first, second = npz.read(path).tensors
    assert (first.name, first.shape, first.dtype) == ("layer/kernel", array.shape, array.dtype.name)
    assert (first.stored, second.stored) == (array.nbytes, 24)


def test_the_place_and_the_order_of_the_bytes_are_right(tmp_path):
    path = tmp_path / "m.npy"
    wanted = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    np.save(path, wanted)
    tensor = npz.read(path).tensors[0]
    data = np.frombuffer(path.read_bytes(), f"{tensor.span.order}i4", 6, tensor.span.start)
    strides = [stride * 4 for stride in tensor.span.strides]
    assert np.lib.stride_tricks.as_strided(data, tensor.shape, strides).tolist() == wanted.tolist()
    assert tensor.name == "m"


def test_bfloat16_is_taken_for_what_it_is(tmp_path):
    np.savez(tmp_path / "m.npz", w=np.zeros(3, ml_dtypes.bfloat16))
    tensor = npz.read(tmp_path / "m.npz").tensors[0]
    assert (tensor.dtype, tensor.role, bool(tensor.notes)) == ("bfloat16", "weight", True)


def test_texts_and_dates_are_no_weights(tmp_path):
    np.savez(
        tmp_path / "m.npz", names=np.array(["cat", "dog"]), when=np.zeros(2, "M8[s]"), raw=np.zeros(2, "S3")
    )
    assert [(t.role, t.stored) for t in npz.read(tmp_path / "m.npz").tensors] == [
        ("other", 24),
        ("other", 16),
        ("other", 6),
    ]


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def version_1(header: str, data: bytes = bytes(8)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.array([{}], object), allow_pickle=True), "can't be read without running what is in them"),
        (npy(np.zeros(2, [("a", "<f4")])), "isn't a plain type"),
        (version_1(HEADER.replace("(2,)", "(-2,)")), "isn't a plain type"),
        (version_1(HEADER.replace("(2,)", "(2.0,)")), "isn't a plain type"),
        (version_1(HEADER.replace("(2,)", "(9**9,)")), "isn't a plain type"),
        (version_1(HEADER.replace("(2,)", "(__import__('os'),)")), "isn't a plain type"),
        (
            version_1(HEADER.replace("(2,)", "(9223372036854775808,)")),
            "a length of more than 9,223,372,036,854,775,807",
        ),
        (
            version_1(HEADER.replace("(2,)", "(4294967296, 4294967296)")),
            "bytes of data, where its shape asks",
        ),
        (version_1(HEADER.replace("(2,)", "(" + "1," * 70 + ")")), "has 70 dimensions, more than 64"),
        (version_1(HEADER.replace("<f4", "<f3")), "aren't known"),
        (version_1(HEADER.replace("'shape'", "'descr'")), "isn't a plain type"),
        (version_1(HEADER, bytes(9)), "has 9 bytes of data, where its shape asks for 8"),
        (version_1("{" + " " * 60_000 + "("), "isn't a plain type"),
        (b"\x93NUMPY\x09\x00", "is of version 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "claims a header of 4,294,967,295 bytes"),
        (b"nothing", "is no zip"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, reason):
    found = survives(npz.read, data, tmp_path, "m.npy")
    assert isinstance(found, BadFileError)
    assert reason in str(found)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archive({"a.npy": npy(np.zeros(2)), "evil.pkl": b"cos\nsystem\n"}), "its name doesn't end in .npy"),
        (archive({"a.npy": npy(np.zeros(2))[:-1]}), "bytes of data, where its shape asks for 16"),
        (archive({"a.npy": npy(np.zeros(2))[:-1]}, zipfile.ZIP_DEFLATED), "has 15 bytes of data"),
    ],
)
def test_a_broken_archive_is_named(tmp_path, data, reason):
    found = survives(npz.read, data, tmp_path, "m.npz")
    assert isinstance(found, BadFileError)
    assert reason in str(found)


def test_what_unpacks_to_too_much_is_refused(tmp_path):
    (tmp_path / "m.npz").write_bytes(archive({"a.npy": npy(np.zeros(10**7, "int8"))}, zipfile.ZIP_DEFLATED))
    with pytest.raises(BadFileError, match="claims to unpack from"):
        npz.read(tmp_path / "m.npz", Limits(ratio=100))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_for_two_arrays_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.npy", npy(np.zeros(2)))
        made.writestr("a.npy", npy(np.zeros(3)))
    assert "twice" in str(survives(npz.read, file.getvalue(), tmp_path, "m.npz"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_harm_never_does_more_than_be_refused(tmp_path, method):
    data = archive({"a.npy": npy(np.zeros(3, "float32")), "b/c.npy": npy(np.zeros((), "int8"))}, method)
    for cut in truncations(data, 3):
        assert isinstance(survives(npz.read, cut, tmp_path), BadFileError)
    for flipped in flips(data, seed=2, count=300):
        survives(npz.read, flipped, tmp_path)


def test_it_is_told_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(npy(np.zeros(2)))
    (tmp_path / "b").write_bytes(archive({"x.npy": npy(np.zeros(2))}))
    (tmp_path / "c").write_bytes(archive({"data.pkl": b""}))
    assert [npz.matches(tmp_path / name) for name in "abc"] == [True, True, False]
