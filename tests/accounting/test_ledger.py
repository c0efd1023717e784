"""The ledger counts every scalar once, in any size, and survives being written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.written import mnist, siamese, transfer
from tally.accounting import Entry, Ledger, Owner
from tally.accounting.ledger import COUNTED, STATES

NAMES = st.text("ab_é", min_size=1, max_size=4)
OPTIONS = st.sampled_from([None, True, 3, "same", (3, 3), ((1, 2), (0, 1)), ()])


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    paths = draw(
        st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), unique=True, min_size=1, max_size=5)
    )
    owners = tuple(
        Owner(
            path=path,
            type=draw(NAMES),
            options=tuple(draw(st.dictionaries(NAMES, OPTIONS, max_size=2)).items()),
            output_shapes=(tuple(draw(st.lists(st.none() | st.integers(1, 64), max_size=3))),),
            constants=(("mean", 9, "1/9", False),),
        )
        for path in sorted(paths)
    )
    shapes = draw(st.lists(st.lists(st.integers(0, 10**5), max_size=3), max_size=6))
    entries = tuple(
        Entry(
            path=f"{number}",
            owner=draw(st.sampled_from(paths)),
            shape=tuple(shape),
            dtype=draw(st.sampled_from(["float32", "bfloat16", "int4", "float8_e4m3fn", "bool"])),
            state=draw(st.sampled_from(STATES)),
            shared_with=draw(st.none() | st.just("0")),
        )
        for number, shape in enumerate(shapes)
    )
    return Ledger(name=draw(NAMES), owners=owners, entries=entries)


@given(ledgers())
def test_the_total_is_the_sum_over_states_owners_and_types(ledger: Ledger) -> None:
    states = ledger.by_state
    assert ledger.total == ledger.trainable + ledger.non_trainable == sum(states[state] for state in COUNTED)
    below = [entry for child in ledger.children() for entry in ledger.under(child.path)]
    assert sorted(entry.path for entry in below) == sorted(entry.path for entry in ledger.entries)
    assert sum(ledger.bytes_by_dtype.values()) == ledger.nbytes


@given(ledgers())
def test_a_ledger_read_back_is_the_ledger_written(ledger: Ledger) -> None:
    read = Ledger.from_json(ledger.to_json())
    assert read == ledger
    assert hash(read) == hash(ledger)
    assert read.to_json() == ledger.to_json()


def test_the_mnist_convnet_has_34826_parameters() -> None:
    ledger = mnist()
    assert [sum(e.count for e in ledger.owned_by(owner.path)) for owner in ledger.owners] == [
        320,
        0,
        18496,
        0,
        0,
        0,
        16010,
    ]
    assert (ledger.total, ledger.trainable, ledger.non_trainable, ledger.nbytes) == (34826, 34826, 0, 139304)


def test_a_trillion_parameters_are_counted_exactly() -> None:
    table = Entry(path="t/table", owner="t", shape=(10**6, 10**6 + 1), dtype="int4")
    ledger = Ledger(name="big", owners=(Owner(path="t", type="Embedding"),), entries=(table,))
    assert ledger.total == 1_000_001_000_000
    assert ledger.nbytes == 500_000_500_000


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [
        ("float32", 12),
        ("bfloat16", 6),
        ("float64", 24),
        ("float8_e5m2", 3),
        ("int4", 2),
        ("bool", 3),
        ("complex64", 24),
    ],
)
def test_bytes_follow_from_the_name_of_the_type(dtype: str, nbytes: int) -> None:
    assert Entry(path="a", owner="", shape=(3,), dtype=dtype).nbytes == nbytes


def test_a_type_without_a_size_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'string'"):
        _ = Entry(path="a", owner="", shape=(3,), dtype="string").nbytes


def test_what_is_shared_counts_once() -> None:
    ledger = siamese()
    shared = ledger.owned_by("tower_1")
    assert [(entry.size, entry.count, entry.nbytes) for entry in shared] == [(288, 0, 0), (32, 0, 0)]
    assert ledger.total == 320


def test_seeds_and_the_optimizer_are_never_in_the_total() -> None:
    ledger = transfer()
    assert ledger.total == 896 + 4 * 32 + 330
    assert (ledger.trainable, ledger.non_trainable) == (330, 896 + 4 * 32)
    assert (ledger.seeds, ledger.optimizer) == (2, 330)
    assert ledger.bytes_by_dtype == {"float32": 4 * 1024, "bfloat16": 660}


def test_nesting_follows_from_paths_past_containers_that_own_nothing() -> None:
    owners = [
        Owner(path=path, type="Block")
        for path in ("encoder", "encoder/blocks/0", "encoder/blocks/0/dense", "head")
    ]
    weight = Entry(path="encoder/blocks/0/dense/kernel", owner="encoder/blocks/0/dense", shape=(2, 3))
    ledger = Ledger(name="nested", owners=tuple(owners), entries=(weight,))
    assert [owner.path for owner in ledger.children()] == ["encoder", "head"]
    assert [owner.path for owner in ledger.children("encoder")] == ["encoder/blocks/0"]
    assert ledger.under("encoder") == (weight,)
    assert ledger.owned_by("encoder") == ()


def test_one_path_twice_is_refused() -> None:
    owner = Owner(path="dense", type="Dense")
    with pytest.raises(ValueError, match="'dense' is listed twice"):
        Ledger(name="twice", owners=(owner, owner))


def test_an_entry_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="'dense', which is not in the ledger"):
        Ledger(name="lost", entries=(Entry(path="dense/kernel", owner="dense", shape=(1,)),))


def test_axes_name_each_dimension_once() -> None:
    with pytest.raises(ValueError, match="2 dimensions, but 1 names of axes"):
        Entry(path="a", owner="", shape=(2, 3), axes=("units",))


def test_a_state_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="'asleep'"):
        Entry(path="a", owner="", shape=(2, 3), state="asleep")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ['{"schema_version": 99, "name": "m"}', "[]", '{"name": "m"}'])
def test_another_schema_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="schema version 1"):
        Ledger.from_json(text)


def test_a_field_nobody_knows_is_refused() -> None:
    text = mnist().to_json().replace('"dtype"', '"colour"')
    with pytest.raises(ValueError, match="colour"):
        Ledger.from_json(text)
