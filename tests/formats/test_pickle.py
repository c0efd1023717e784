"""Pickles as data: every protocol is read, and none of it is ever done."""

import collections
import contextlib
import io
import os
import pickle
import pickletools
import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.harm import flips, truncations
from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.pickle import Call, Dict, Name, Persistent, Pickled, Set, read_pickle
from tally.formats.window import Window

each_protocol = pytest.mark.parametrize("protocol", range(6))


def read(data: bytes, **options: Any) -> Pickled:
    return read_pickle(Window(io.BytesIO(data), "x.pkl", 0, len(data)), **options)


def plain(value: Any) -> Any:
    """What was pickled, made again of the inert records, for what needs no import."""
    if isinstance(value, Dict):
        return {key: plain(held) for key, held in value.pairs}
    if isinstance(value, Set):
        return {plain(item) for item in value}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Call) and value.name in ("builtins.set", "__builtin__.set"):
        return {plain(item) for item in value.arguments[0]}
    if isinstance(value, Call) and value.name == "_codecs.encode":
        return value.arguments[0].encode(value.arguments[1])
    return value


atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(min_size=1)
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.sets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@given(values, st.integers(0, 5))
def test_what_python_pickles_is_read(value: Any, protocol: int) -> None:
    assert plain(read(pickle.dumps(value, protocol)).value) == value


@each_protocol
def test_every_length_of_text_bytes_and_number_is_read(protocol: int) -> None:
    value = ["x" * 300, "ä" * 70_000, b"y" * 300, b"z" * 70_000, 2**31, -(2**200), 255, 65_535, "a\nb\\c'"]
    assert plain(read(pickle.dumps(value, protocol)).value) == value


class Runs:
    """A class whose pickle would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@each_protocol
def test_a_pickle_that_would_run_a_command_is_a_record(protocol: int, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read(pickle.dumps({"weights": [1.0], "x": Runs()}, protocol))
    call = found.value.get("x")
    assert (call.name, call.arguments) == (f"{os.system.__module__}.system", ("touch owned",))
    assert [str(name) for name in found.names] == [f"{os.system.__module__}.system"]
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_named_is_imported() -> None:
    assert "tally_never_imported" not in sys.modules
    found = read(b"\x80\x02ctally_never_imported\nrun\nX\x01\x00\x00\x00a\x85R.")
    assert found.value.function == Name("tally_never_imported", "run")
    assert "tally_never_imported" not in sys.modules


@pytest.mark.parametrize(
    "data",
    [
        b"(X\x02\x00\x00\x00lsios\nsystem\n.",
        b"(cos\nsystem\nX\x02\x00\x00\x00lso.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85}\x92.",
    ],
)
def test_every_way_to_make_an_object_gives_a_record(data: bytes) -> None:
    found = read(data)
    assert found.names == (Name("os", "system"),)
    assert (found.value.name, found.value.arguments) == ("os.system", ("ls",))


def test_attributes_entries_and_items_are_kept_beside_the_call() -> None:
    ordered = collections.OrderedDict(a=1)
    ordered.more = 2  # type: ignore[attr-defined]
    found = read(pickle.dumps(ordered, 2)).value
    assert (found.name, found.entries.pairs, plain(found.state)) == (
        "collections.OrderedDict",
        [("a", 1)],
        {"more": 2},
    )
    queue = read(pickle.dumps(collections.deque([1, 2]), 2)).value
    assert (queue.name, queue.items) == ("collections.deque", [1, 2])


def test_what_lies_outside_is_asked_for() -> None:
    data = b"\x80\x02X\x03\x00\x00\x00keyQ."
    assert read(data).value == Persistent("key")
    assert read(data, persistent=str.upper).value == "KEY"
    assert read(b"Pkey\n.").value == Persistent("key")


def test_a_pickle_ends_where_it_ends() -> None:
    data = pickle.dumps([1]) + b"more"
    window = Window(io.BytesIO(data), "x", 0, len(data))
    assert read_pickle(window).end == len(data) - 4
    assert window.take(4) == b"more"


def test_structures_that_hold_themselves_are_read() -> None:
    loop: list[Any] = []
    loop.append(loop)
    found = read(pickle.dumps(loop)).value
    assert found[0] is found


@pytest.mark.parametrize(
    "make", [b"]" * 200_000 + b"a" * 199_999, b")" + b"\x85" * 200_000, b"}" + b"(l" * 3 * 9 + b"0" * 27]
)
def test_deep_structures_take_no_recursion(make: bytes) -> None:
    assert read(b"\x80\x02" + make + b".").end == len(make) + 3


def test_doubling_a_structure_many_times_costs_nothing() -> None:
    data = b"\x80\x02]" + b"q\x00\x85h\x00\x86" * 1_000 + b"."  # each holds the one before twice
    assert read(data).end == len(data)


def test_keys_that_collide_are_never_hashed() -> None:
    step = sys.hash_info.modulus
    data = (
        pickle.dumps({1: 0})[:0]
        + b"\x80\x02}("
        + b"".join(b"\x8a\x0b" + (number * step).to_bytes(11, "little") + b"N" for number in range(20_000))
        + b"u."
    )
    assert len(read(data).value.pairs) == 20_000


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends in the middle"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\xff.", "which there isn't"),
        (b"R.", "takes more"),
        (b"N0.", "ends with 0 things"),
        (b"NN.", "ends with 2 things"),
        (b"(N.", "ends with"),
        (b"t.", "takes more"),
        (b"h\x05.", "never kept"),
        (b"g99999999999999999999999\n.", "never kept"),
        (b"Np-1\n.", "remembers"),
        (b"}(Nu.", "without a value"),
        (b"]NNs.", "stores under a key in a list"),
        (b")Na.", "appends to a tuple"),
        (b"}Na.", "appends to a Dict"),
        (b"K\x01Nb.", "sets attributes of a int"),
        (b"NNR.", "no arguments"),
        (b"NK\x01\x93.", "isn't named by texts"),
        (b"X\xff\xff\xff\xffab.", "ends in the middle"),
        (b"T\xff\xff\xff\xffab.", "-1 bytes"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab.", "ends in the middle"),
        (b"\x8b\xff\xff\xff\x7f.", "a number of"),
        (b"X\x02\x00\x00\x00\xff\xfe.", "not utf-8"),
        (b"I12a\n.", "for a number"),
        (b"F1.2.3\n.", "for a number"),
        (b"L" + b"9" * 5_000 + b"L\n.", "for a number"),
        (b"Sabc\n.", "without quotes"),
        (b"\x97.", "outside of it"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "a frame of"),
        (b"cos", "ends in the middle"),
    ],
)
def test_what_no_pickle_does_is_refused_with_its_place(data: bytes, why: str) -> None:
    with pytest.raises(BadFileError, match=why) as caught:
        read(data)
    assert "byte" in caught.value.place


def test_a_pickle_has_no_more_steps_and_bytes_than_the_limits() -> None:
    with pytest.raises(BadFileError, match="more than 50 steps"):
        read(b"N0" * 40 + b"N.", limits=Limits(tensors=10))
    with pytest.raises(BadFileError, match="longer than"):
        read(pickle.dumps("x" * 200), limits=Limits(header=100))


@each_protocol
def test_broken_pickles_give_one_error(protocol: int) -> None:
    value = {
        "a": [1, 2.5, "text"],
        "b": (Name("x", "y"), {1, 2}),
        "c": collections.OrderedDict(z=b"bytes" * 9),
    }
    whole = pickle.dumps(value, protocol)
    wrong = 0
    for data in (*truncations(whole), *flips(whole, protocol, 300)):
        try:
            read(data)
        except BadFileError:
            wrong += 1
    assert wrong > 50


def test_bytes_by_chance_that_are_all_steps_give_one_error() -> None:
    chance, codes = random.Random(0), [ord(step.code) for step in pickletools.opcodes]
    for _ in range(2_000):
        data = bytes(chance.choice([*codes, 0, 1, 10]) for _ in range(chance.randint(1, 30)))
        with contextlib.suppress(BadFileError):
            read(data)
