"""Sources of batches: every kind of data gives the same batches, and what doesn't fit is refused in words."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tally.core.errors import ArgumentError, DataError, place
from tally.core.random import set_random_seed
from tally.training import data
from tally.training.data import PyDataset, adapt, prefetch, split_validation

X = np.arange(10, dtype="float32").reshape(5, 2)
Y = np.arange(5, dtype="int32")


def listed(source: data.DataSource) -> list[Any]:
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), list(source.batches()))


BATCHES = [
    ([[0.0, 1.0], [2.0, 3.0]], [0, 1], None),
    ([[4.0, 5.0], [6.0, 7.0]], [2, 3], None),
    ([[8.0, 9.0]], [4], None),
]


class Numbered(PyDataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        piece = slice(2 * index, 2 * index + 2)
        return X[piece], Y[piece]


def generated() -> Iterator[Any]:
    return ((X[start : start + 2], Y[start : start + 2]) for start in (0, 2, 4))


def torch_loader() -> Any:
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(pairs, batch_size=2)


def tensorflow_dataset() -> Any:
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(2)


def grain_dataset() -> Any:
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(X, Y, strict=True))).batch(2)


SOURCES = {
    "numpy": lambda: adapt(X, Y, batch_size=2),
    "float64": lambda: adapt(X.astype("float64"), Y, batch_size=2),
    "jax": lambda: adapt(jnp.asarray(X), jnp.asarray(Y), batch_size=2),
    "lists": lambda: adapt(X.tolist(), Y.tolist(), batch_size=2),
    "torch tensors": lambda: adapt(*torch_loader().dataset.tensors, batch_size=2),
    "PyDataset": lambda: adapt(Numbered()),
    "PyDataset with threads": lambda: adapt(Numbered(workers=2, max_queue_size=2)),
    "generator": lambda: adapt(generated()),
    "list of batches": lambda: adapt(map(tuple, generated())),
    "DataLoader": lambda: adapt(torch_loader()),
    "tf.data": lambda: adapt(tensorflow_dataset()),
    "grain": lambda: adapt(grain_dataset()),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_data_gives_the_same_batches(kind: str) -> None:
    source = SOURCES[kind]()
    assert source.peek()[0].dtype == "float32"
    assert listed(source) == BATCHES
    assert source.steps == 3
    source.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["numpy", "PyDataset", "DataLoader", "tf.data", "grain"])
def test_what_can_be_iterated_over_again_is_for_the_next_epoch(kind: str) -> None:
    source = SOURCES[kind]()
    assert listed(source) == listed(source)


@pytest.mark.slow
def test_processes_give_the_batches_in_order() -> None:
    assert listed(adapt(Numbered(workers=2, use_multiprocessing=True))) == BATCHES


def test_loaders_say_their_batch_size() -> None:
    assert adapt(torch_loader()).batch_size == 2
    assert adapt(tensorflow_dataset().batch(1, drop_remainder=True)).batch_size == 1


# -- structures and types ------------------------------------------------------------------------------------


def test_structures_of_inputs_and_outputs_are_kept() -> None:
    source = adapt({"a": X, "b": (X, [X])}, [Y, Y], batch_size=5)
    x, y, _ = source.peek()
    assert jax.tree.structure((x, y)) == jax.tree.structure(({"a": 0, "b": (0, [0])}, [0, 0]))


def test_images_stay_bytes() -> None:
    assert adapt(np.zeros((3, 2, 2, 1), "uint8")).peek()[0].dtype == "uint8"


def test_arrays_are_cut_without_copies_when_not_shuffled() -> None:
    assert np.shares_memory(adapt(X, batch_size=2).peek()[0], X)


def test_a_file_on_disk_is_not_read_as_a_whole(tmp_path: Any) -> None:
    stored = np.memmap(tmp_path / "x", dtype="float64", mode="w+", shape=(4, 2))
    source = adapt(stored, batch_size=2)
    assert any(leaf is stored for leaf in source._leaves)  # type: ignore[attr-defined]
    assert source.peek()[0].dtype == "float32"


def test_tables_become_arrays_and_a_series_one_column() -> None:
    table = pd.DataFrame({"a": [1.5, 2.5], "b": [True, False], "c": pd.array([3, None], dtype="Int64")})
    x, y, weight = adapt(table, table["a"], table["a"]).peek()
    np.testing.assert_array_equal(x, [[1.5, 1, 3], [2.5, 0, np.nan]])
    assert (x.dtype, y.shape, weight.shape) == ("float32", (2, 1), (2,))


@pytest.mark.parametrize("item", [X, (X,), [X]])
def test_an_item_may_be_the_inputs_alone(item: Any) -> None:
    x, y, weight = adapt(iter([item])).peek()
    np.testing.assert_array_equal(x, X)
    assert (y, weight) == (None, None)


def test_a_generator_may_refill_one_buffer() -> None:
    def refilling() -> Iterator[Any]:
        buffer = np.zeros((64, 64), "float32")
        for number in range(4):
            buffer[:] = number
            yield buffer

    assert [float(x[0, 0]) for x, _, _ in prefetch(adapt(refilling()).batches())] == [0, 1, 2, 3]


# -- order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, "batch"])
def test_shuffling_is_new_each_epoch_keeps_pairs_and_repeats_with_the_seed(shuffle: bool | str) -> None:
    def epochs() -> list[Any]:
        set_random_seed(5)
        source = adapt(np.arange(40.0), np.arange(40), batch_size=16, shuffle=shuffle)
        return [listed(source) for _ in range(2)]

    first, second = epochs()
    assert first != second
    assert [first, second] == epochs()
    for epoch in (first, second):
        assert all(x == y for x, y, _ in epoch)
        assert sorted(itertools.chain(*(x for x, _, _ in epoch))) == list(range(40))
    within = [sorted(x) for x, _, _ in first] == [list(range(16)), list(range(16, 32)), list(range(32, 40))]
    assert within == (shuffle == "batch")


def test_the_batches_of_a_py_dataset_are_shuffled() -> None:
    class Numbers(PyDataset):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return np.array([index])

    source = adapt(Numbers(), shuffle=True)
    first, second = listed(source), listed(source)
    assert first != second
    assert sorted(first) == sorted(second) == [([n], None, None) for n in range(20)]


# -- epochs --------------------------------------------------------------------------------------------------


def test_an_endless_generator_is_cut_into_epochs_that_go_on() -> None:
    source = adapt((np.array([n]) for n in itertools.count()), steps_per_epoch=2)
    assert source.steps == 2
    assert [listed(source) for _ in range(2)] == [
        [([0], None, None), ([1], None, None)],
        [([2], None, None), ([3], None, None)],
    ]


def test_arrays_begin_anew_when_an_epoch_ends_where_they_do() -> None:
    source = adapt(np.arange(4), batch_size=1, steps_per_epoch=2)
    assert [[x for [x], _, _ in listed(source)] for _ in range(3)] == [[0, 1], [2, 3], [0, 1]]


def test_without_a_batch_size_steps_per_epoch_makes_one() -> None:
    assert adapt(X, steps_per_epoch=2).batch_size == 3
    assert adapt(X).batch_size == 32


def test_data_that_end_before_the_epoch_does_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="data ran out: 5 batches were wanted, 3 batches came"):
        assert listed(adapt(generated(), steps_per_epoch=5)) == BATCHES


def test_a_used_up_generator_is_warned_of() -> None:
    source = adapt(generated())
    assert listed(source) == BATCHES
    with pytest.warns(UserWarning, match="another epoch was wanted, 0 batches came"):
        assert listed(source) == []


def test_a_py_dataset_hears_of_epochs() -> None:
    class Listening(Numbered):
        heard = ""

        def on_epoch_begin(self) -> None:
            self.heard += "begin "

        def on_epoch_end(self) -> None:
            self.heard += "end "

    dataset = Listening()
    source = adapt(dataset)
    source.on_epoch_begin()
    source.on_epoch_end()
    assert dataset.heard == "begin end "


def test_leaving_an_epoch_early_ends_the_threads() -> None:
    before = threading.active_count()
    source = adapt(Numbered(workers=2, max_queue_size=2))
    next(iter(source.batches()))
    source.close()
    for thread in threading.enumerate():
        if thread.name.startswith("tally data"):
            thread.join(5)
    assert threading.active_count() == before


def test_prefetching_gives_the_batches_and_places_one_ahead() -> None:
    log: list[str] = []

    def put(batch: Any) -> Any:
        log.append(f"placed {batch}")
        return batch

    log.extend(f"used {batch}" for batch in prefetch(iter("abc"), put))  # type: ignore[arg-type]
    assert log == [
        "placed a",
        "placed b",
        "used a",
        "placed c",
        "used b",
        "used c",
    ]


# -- weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y", [np.array([0, 2, 1]), np.array([[0], [2], [1]]), np.array([0.0, 2.0, 1.0]), np.eye(3)[[0, 2, 1]]]
)
@pytest.mark.parametrize("as_generator", [False, True])
def test_class_weights_become_sample_weights(y: np.ndarray, as_generator: bool) -> None:
    x = np.zeros((3, 1))
    given = (iter([(x, y)]),) if as_generator else (x, y)
    _, _, weight = adapt(*given, class_weight={0: 2.0, 2: 0.5}).peek()
    np.testing.assert_array_equal(weight, np.array([2.0, 0.5, 1.0], "float32"))


def test_one_sample_weight_is_for_every_output() -> None:
    weight = np.ones(5, "float32")
    _, _, weights = adapt(X, {"a": Y, "b": Y}, weight).peek()
    assert sorted(weights) == ["a", "b"]


# -- validation split ----------------------------------------------------------------------------------------


def test_validation_takes_the_last_part() -> None:
    (x, y, _), (validation_x, validation_y, _) = split_validation({"a": X}, Y, None, 0.3)
    assert (x["a"].tolist(), y.tolist()) == (X[:3].tolist(), [0, 1, 2])
    assert (validation_x["a"].tolist(), validation_y.tolist()) == (X[3:].tolist(), [3, 4])


@pytest.mark.parametrize(
    ("x", "fraction", "error", "words"),
    [
        (generated(), 0.5, DataError, "can't split a generator"),
        (X, 1.5, ArgumentError, "between 0 and 1"),
        (X[:1], 0.5, DataError, "leaves one of the two parts without any"),
    ],
)
def test_a_split_that_can_not_be_is_refused(
    x: Any, fraction: float, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        split_validation(x, None, None, fraction)


# -- errors --------------------------------------------------------------------------------------------------


def test_arrays_of_different_lengths_are_told_with_their_lengths() -> None:
    with pytest.raises(DataError) as caught:
        adapt(np.zeros((100, 3)), np.zeros(99))
    line = caught.traceback[0].lineno + 1
    assert str(caught.value) == (
        "Mismatched batch sizes: x has 100, y has 99 examples.\n"
        f"  where: called at {place(__file__, line)}\n"
        "  do: give all arrays the same number of examples, the length of their first axis"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": X, "y": Y, "sample_weight": np.ones(4)}, "sample_weight has 4 examples"),
        ({"x": (X, X[:3])}, "x has 5 and 3 examples"),
        ({"x": X[:0]}, "x has 0 examples"),
        ({"x": []}, "x has 0 examples"),
        ({"x": None}, "x is None"),
        ({"x": {}}, "no arrays"),
        ({"x": ["cat", "dog"]}, "x holds text"),
        ({"x": {"name": np.array(["cat"], object)}}, r"x\['name'\] holds text"),
        ({"x": np.array([{}])}, "x holds Python objects"),
        ({"x": np.array(["2020-01-01"], "datetime64[D]")}, "x holds dates"),
        ({"x": [[1, 2], [3]]}, "x is a list that is no array"),
        ({"x": 3.0}, "x is a single number"),
        ({"x": pd.DataFrame({"a": [1], "b": ["c"]})}, r"columns that are not numbers: 'b' \("),
        ({"x": generated}, r"function generated itself.*\n.*\n  do: call it: pass generated\(\)"),
        ({"x": object()}, "x is a object, which is neither"),
        ({"x": generated(), "y": Y}, "y was passed together with a generator"),
        ({"x": Numbered(), "sample_weight": Y}, "sample_weight was passed together with a Numbered"),
        ({"x": X, "sample_weight": Y}, "sample_weight was given, but there are no targets"),
        ({"x": X, "y": Y, "sample_weight": Y, "class_weight": {0: 1.0}}, "both given"),
        ({"x": X, "y": [Y, Y], "class_weight": {0: 1.0}}, "y is a structure of several"),
        ({"x": X, "y": [Y, Y], "sample_weight": [Y]}, "sample_weight has 1 arrays in a list, but y has 2"),
        ({"x": X, "y": [Y, Y], "sample_weight": X}, r"sample_weight has the shape \(5, 2\) for 2 outputs"),
    ],
)
def test_data_that_do_not_fit_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        adapt(**arguments)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "gave no batch"),
        ([(X, Y, Y, Y)], "has 4 parts"),
        ([(X, Y[:2])], "x has 5, y has 2 examples"),
        ([(X, 1)], "y is a single number"),
    ],
)
def test_batches_that_do_not_fit_are_refused(items: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(adapt(iter(items)).batches())


def test_a_py_dataset_without_end_needs_steps_per_epoch() -> None:
    class Endless(Numbered):
        num_batches = None  # type: ignore[assignment]

    with pytest.raises(DataError, match="do: pass steps_per_epoch"):
        adapt(Endless())
    assert len(listed(adapt(Endless(), steps_per_epoch=2))) == 2
