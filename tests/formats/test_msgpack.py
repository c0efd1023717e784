"""Flax's msgpack: what its own writer makes is read, the data skipped; what is broken gets one error."""

import flax.serialization
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.harm import flips, survives, truncations
from tally.formats import msgpack
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.tensor import Contents

_TREES = st.recursive(
    st.tuples(
        st.sampled_from(["float32", "int8", "float16", "bool"]), st.lists(st.integers(0, 3), max_size=3)
    ),
    lambda inner: st.dictionaries(st.text("abc_1", min_size=1, max_size=3), inner, min_size=1, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("wxyz"), _TREES, min_size=1))
def test_what_its_writer_makes_is_read(tmp_path_factory, tree):
    def made(part):
        return {k: made(v) for k, v in part.items()} if isinstance(part, dict) else np.zeros(part[1], part[0])

    def names(part, above=""):
        for key, value in part.items():
            path = f"{above}/{key}" if above else key
            yield from names(value, path) if isinstance(value, dict) else [(path, tuple(value[1]), value[0])]

    path = tmp_path_factory.mktemp("f") / "m.msgpack"
    path.write_bytes(flax.serialization.to_bytes(made(tree)))
    found = msgpack.read(path)
    assert {(t.name, t.shape, t.dtype) for t in found.tensors} == set(names(tree))


def test_the_place_of_the_bytes_is_right(tmp_path):
    path = tmp_path / "m.msgpack"
    wanted = np.arange(6, dtype="float32").reshape(2, 3)
    path.write_bytes(flax.serialization.to_bytes({"a": np.zeros(3), "w": wanted}))
    span = msgpack.read(path).tensors[1].span
    data = path.read_bytes()[span.start : span.start + span.nbytes]
    assert np.frombuffer(data, "<f4").reshape(2, 3).tolist() == wanted.tolist()


def test_jax_types_are_read(tmp_path):
    path = tmp_path / "m.msgpack"
    path.write_bytes(
        flax.serialization.to_bytes({"w": jnp.zeros((2, 3), "bfloat16"), "n": np.int32(3), "k": 5, "t": "x"})
    )
    assert [(t.name, t.dtype, t.stored) for t in msgpack.read(path).tensors] == [
        ("w", "bfloat16", 12),
        ("n", "int32", 4),
    ]


def test_what_training_keeps_is_told_from_the_weights(tmp_path):
    path = tmp_path / "m.msgpack"
    slots = {"0": {"mu": {"w": np.zeros(3)}, "count": np.int32(0)}}
    path.write_bytes(
        flax.serialization.to_bytes({"step": np.int32(1), "params": {"w": np.zeros(3)}, "opt_state": slots})
    )
    roles = {tensor.name: tensor.role for tensor in msgpack.read(path).tensors}
    assert roles == {
        "step": "optimizer",
        "params/w": "weight",
        "opt_state/0/mu/w": "optimizer",
        "opt_state/0/count": "optimizer",
    }


def test_an_array_in_pieces_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 16)
    path = tmp_path / "m.msgpack"
    path.write_bytes(
        flax.serialization.to_bytes({"w": np.zeros((4, 3), "float32"), "b": np.zeros(2, "float32")})
    )
    whole, small = sorted(msgpack.read(path).tensors, key=lambda tensor: -tensor.size)
    assert (whole.name, whole.shape, whole.stored, whole.span) == ("w", (4, 3), 48, None)
    assert small.span is not None


ARRAY = b"\xc7\x15\x01\x93\x91\x02\xa7float32\xc4\x08" + bytes(8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "claims 1 bytes, where 0 are left"),
        (b"\x93\x01\x02\x03", "is no map of names"),
        (b"\x81\xa1w" + ARRAY + b"x", "has 1 bytes behind its end"),
        (b"\x82\xa1w\x01\xa1w\x02", "names 'w' twice"),
        (b"\x81\xc0\x01", "has a key that is no name"),
        (b"\xdf\xff\xff\xff\xff", "claims 4,294,967,295 parts"),
        (b"\x81\xa1w\xdd\xff\xff\xff\xff", "claims 4,294,967,295 parts"),
        (b"\x81\xa1w\xc6\xff\xff\xff\xff", "claims 4,294,967,295 bytes"),
        (b"\x81\xa1w" * 200 + b"\x01", "nests maps more than 100 levels deep"),
        (b"\x81\xa1\xff\x01", "is not utf-8"),
        (b"\x81\xa1w\xc1", "is no value of msgpack"),
        (b"\x81\xa1w\xc7\x01\x07x", "an extension of the kind 7"),
        (b"\x81\xa1w" + ARRAY.replace(b"\x91\x02", b"\x91\x03"), "has 8 bytes for an array that takes 12"),
        (b"\x81\xa1w" + ARRAY.replace(b"\x91\x02", b"\x91\xff"), "without a shape"),
        (b"\x81\xa1w" + ARRAY.replace(b"float32", b"flo`t32"), "which isn't known"),
        (b"\x81\xa1w" + ARRAY.replace(b"float32", b"object_"), "which isn't known"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, reason):
    found = survives(msgpack.read, data, tmp_path, "m.msgpack")
    assert isinstance(found, BadFileError)
    assert reason in str(found)


def test_harm_never_does_more_than_be_refused(tmp_path):
    data = flax.serialization.to_bytes(
        {"params": {"a": {"kernel": np.zeros((2, 3), "float32")}, "b": np.zeros(2)}}
    )
    for cut in truncations(data):
        assert isinstance(survives(msgpack.read, cut, tmp_path), BadFileError)
    for flipped in flips(data, seed=4, count=400):
        survives(msgpack.read, flipped, tmp_path)


def test_maps_inside_arrays_of_maps_end(tmp_path):
    found = survives(msgpack.read, b"\x81\xa1w\x92\x81\xa1a" + ARRAY + b"\x01", tmp_path)
    assert isinstance(found, Contents)
    assert found.tensors[0].name == "w/0/a"


def test_limits_hold(tmp_path):
    (tmp_path / "m.msgpack").write_bytes(b"\x8f" + b"\xa1w\x01" * 15)
    with pytest.raises(BadFileError, match="has more than 8 values"):
        msgpack.read(tmp_path / "m.msgpack", Limits(tensors=2))


def test_it_is_told_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"\x81\xa1w" + ARRAY)
    (tmp_path / "b").write_bytes(b"\x81\xa1w\x01")
    (tmp_path / "c").write_bytes(b"a text")
    assert [msgpack.matches(tmp_path / name) for name in "abc"] == [True, False, False]
