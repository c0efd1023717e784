"""safetensors: what its own writer makes is read; what is broken or hostile gets one error and no memory."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from formats.harm import flips, survives, truncations
from tally.formats import safetensors
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents
from tally.readers import account


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SMALL = file_of({"a": entry("F32", [2], 0, 8), "b": entry("I8", [3], 8, 11)}, bytes(11))


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6),
    st.sampled_from(["<f4", "<f2", "<i8", "|b1"]),
)
def test_what_its_writer_makes_is_read(tmp_path_factory, shapes, dtype):
    path = tmp_path_factory.mktemp("s") / "m.safetensors"
    arrays = {f"layer.{place}": np.zeros(shape, dtype) for place, shape in enumerate(shapes)}
    save_file(arrays, path, metadata={"format": "np"})
    found = safetensors.read(path)
    assert {t.name: (t.shape, t.dtype, t.stored) for t in found.tensors} == {
        name: (array.shape, array.dtype.name, array.nbytes) for name, array in arrays.items()
    }
    assert found.metadata == {"format": "np"}


def test_the_place_of_the_bytes_is_right(tmp_path):
    path = tmp_path / "m.safetensors"
    wanted = np.arange(6, dtype="float32").reshape(2, 3)
    save_file({"w": wanted, "x": np.zeros(4, "int8")}, path)
    span = next(tensor for tensor in safetensors.read(path).tensors if tensor.name == "w").span
    data = path.read_bytes()[span.start : span.start + span.nbytes]
    assert np.frombuffer(data, "<f4").reshape(2, 3).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("kind", "shape", "nbytes", "dtype"),
    [
        ("F4", [4, 8], 16, "float4_e2m1fn"),
        ("F6_E2M3", [4], 3, "float6_e2m3fn"),
        ("F6_E3M2", [8], 6, "float6_e3m2fn"),
        ("F8_E8M0", [5], 5, "float8_e8m0fnu"),
        ("F8_E4M3", [5], 5, "float8_e4m3fn"),
        ("F8_E5M2", [5], 5, "float8_e5m2"),
        ("BF16", [5], 10, "bfloat16"),
        ("C64", [5], 40, "complex64"),
        ("U64", [], 8, "uint64"),
    ],
)
def test_every_type_has_its_size(tmp_path, kind, shape, nbytes, dtype):
    data = file_of({"w": entry(kind, shape, 0, nbytes)}, bytes(nbytes))
    found = survives(safetensors.read, data, tmp_path)
    assert isinstance(found, Contents), found
    assert (found.tensors[0].dtype, found.tensors[0].stored) == (dtype, nbytes)


_TWICE = b'{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"{", "claims 8 bytes, where 1 are left"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "is a pointer of Git LFS, not the file itself.\n  do: fetch the file: git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        (struct.pack("<Q", 2**63) + b"{}", "more than the format allows"),
        (struct.pack("<Q", 100) + b"{}", "claims 100 bytes, where 2 are left"),
        (file_of(b"[1]"), "doesn't begin with {"),
        (file_of(b"{"), "is no JSON"),
        (file_of(b'{"a": "\x01"}'), "invalid control character at letter 7"),
        (file_of(b'{"a":\xff}'), "is not UTF-8"),
        (file_of(_TWICE, b"x"), "names 'a' twice"),
        (file_of(b'{"a":' * 100_000), "nests lists and objects without end"),
        (file_of(b'{"a":' + b"9" * 5000 + b"}"), "a whole number of 5,000 digits"),
        (file_of({"a": 1}), "has no dtype, shape and data_offsets"),
        (file_of({"a": {**entry("I8", [1], 0, 1), "more": 1}}, b"x"), "has no dtype, shape and data_offsets"),
        (file_of({"a": entry("Q8", [1], 0, 1)}, b"x"), "the type 'Q8'"),
        (file_of({"a": entry("I8", [-1], 0, 1)}, b"x"), "has the shape"),
        (file_of({"a": entry("I8", [True], 0, 1)}, b"x"), "has the shape"),
        (file_of({"a": entry("I8", [1.0], 0, 1)}, b"x"), "has the shape"),
        (
            file_of({"a": entry("I8", [2**64], 0, 1)}, b"x"),
            "no list of lengths from 0 to 9,223,372,036,854,775,807",
        ),
        (file_of({"a": entry("I8", [2**62, 2**62], 0, 1)}, b"x"), "but 1 bytes"),
        (file_of({"a": entry("I8", [1], 1, 0)}, b"x"), "lies at bytes"),
        (file_of({"a": entry("I8", [2], 0, 2)}, b"x"), "lies at bytes [0, 2] of 1"),
        (file_of({"a": entry("F32", [2], 0, 7)}, bytes(7)), "has 2 elements of 32 bits, but 7 bytes"),
        (file_of({"a": entry("F4", [3], 0, 2)}, bytes(2)), "has 3 elements of 4 bits"),
        (file_of({"a": entry("I8", [2], 0, 2), "b": entry("I8", [2], 1, 3)}, bytes(3)), "overlaps"),
        (file_of({"a": entry("I8", [1], 1, 2)}, bytes(2)), "leaves 1 bytes before it unused"),
        (file_of({"a": entry("I8", [1], 0, 1)}, b"xPK"), "has 2 bytes behind the last array"),
        (file_of({"__metadata__": {"a": 1}}), "is more than names and texts"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, reason):
    found = survives(safetensors.read, data, tmp_path, "m.safetensors")
    assert isinstance(found, BadFileError)
    assert reason in str(found)
    assert "m.safetensors" in str(found)


def test_any_cut_is_refused(tmp_path):
    for data in truncations(SMALL):
        assert isinstance(survives(safetensors.read, data, tmp_path), BadFileError)


def test_flipped_bits_never_do_more_than_be_refused(tmp_path):
    for data in flips(SMALL, seed=1, count=300):
        survives(safetensors.read, data, tmp_path)


def test_a_billion_scalars_are_read_from_the_header_alone(tmp_path):
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(file_of({"w": entry("F16", [2**20, 2**10], 0, 2**31)}))
        file.truncate(file.tell() + 2**31)
    assert safetensors.read(path).tensors[0].size == 2**30


def test_limits_hold(tmp_path):
    data = file_of({"a": entry("I8", [1], 0, 1), "b": entry("I8", [1], 1, 2)}, b"xy")
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(BadFileError, match="more than 1"):
        safetensors.read(tmp_path / "m.safetensors", Limits(tensors=1))
    with pytest.raises(BadFileError, match="more than the format allows"):
        safetensors.read(tmp_path / "m.safetensors", Limits(header=10))


# -- several files -------------------------------------------------------------------------------------------------
def split(folder: Path, placed: dict[str, str], held: dict[str, list[str]]) -> Path:
    for file, names in held.items():
        save_file({name: np.zeros(4, "float32") for name in names}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": placed}))
    return index


def test_the_files_of_an_index_are_read_as_one(tmp_path):
    index = split(
        tmp_path,
        {"a": "1.safetensors", "b": "2.safetensors"},
        {"1.safetensors": ["a"], "2.safetensors": ["b"]},
    )
    found = safetensors.read(index)
    assert [tensor.name for tensor in found.tensors] == ["a", "b"]
    assert found.notes == ("2 files together.",)
    assert {file.name for file in found.files} == {
        "model.safetensors.index.json",
        "1.safetensors",
        "2.safetensors",
    }


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        ({"a": "1.safetensors", "b": "3.safetensors"}, "'3.safetensors', of 2 files, which aren't there"),
        (
            {"a": "1.safetensors", "c": "1.safetensors"},
            "says that '1.safetensors' holds 'c', which it doesn't",
        ),
        ({"b": "1.safetensors"}, "doesn't name it"),
        ({"a": "../1.safetensors"}, "outside of its folder"),
        ({"a": "/etc/passwd"}, "outside of its folder"),
        ({"a": "link.safetensors"}, "goes through a link"),
        ({"a": 3}, "more than names of files"),
    ],
)
def test_an_index_that_says_something_else_is_refused(tmp_path, placed, reason):
    index = split(tmp_path, placed, {"1.safetensors": ["a"]})
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "1.safetensors")
    with pytest.raises(BadFileError, match=reason):
        safetensors.read(index)


def test_the_index_of_other_sizes_says_so(tmp_path):
    index = split(tmp_path, {"a": "1.safetensors"}, {"1.safetensors": ["a"]})
    assert safetensors.read(index).notes[1] == "The index says 32 bytes in all, but the files hold 16."


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"weight_map": 3}', ""])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(BadFileError):
        safetensors.read(index)


# -- tied ----------------------------------------------------------------------------------------------------------
def test_what_torch_ties_is_listed_and_counts_once(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    model = torch.nn.ModuleDict(
        {"emb": torch.nn.Embedding(10, 4), "head": torch.nn.Linear(4, 10, bias=False)}
    )
    model["head"].weight = model["emb"].weight
    save_model(model, str(tmp_path / "m.safetensors"))
    found = safetensors.read(tmp_path / "m.safetensors")
    assert {one.name: one.alias_of for one in found.tensors} == {
        "emb.weight": None,
        "head.weight": "emb.weight",
    }
    assert account(found, name="m").total == 40


@pytest.mark.parametrize(
    "said", [{"format": "a"}, {"b": "absent"}, {"a": "a"}, {"tally.ledger": "a"}, {"b": "c", "c": "b"}]
)
def test_other_texts_of_a_header_tie_nothing(tmp_path, said):
    save_file({"a": np.zeros(3, "float32")}, tmp_path / "m.safetensors", metadata=said)
    assert [one.name for one in safetensors.read(tmp_path / "m.safetensors").tensors] == ["a"]
