"""Datasets give the elements that TensorFlow's give, and `fit` takes them."""

import jax
import numpy as np
import pytest
import tensorflow as real

import tally
from tally.compat import install
from tally.compat.tensorflow import tensorflow
from tally.core.errors import ArgumentError, DataError

OURS = tensorflow()
X = np.arange(14, dtype="float32").reshape(7, 2)
Y = np.arange(7, dtype="int32")


@pytest.fixture(autouse=True)
def _installed():
    with install():
        yield


def slices(tf):
    return tf.data.Dataset.from_tensor_slices((X, Y))


PIPELINES = {
    "slices": slices,
    "one array": lambda tf: tf.data.Dataset.from_tensor_slices(X),
    "a list": lambda tf: tf.data.Dataset.from_tensor_slices([1, 2, 3]),
    "a dict": lambda tf: tf.data.Dataset.from_tensor_slices({"a": X, "b": Y}),
    "tensors": lambda tf: tf.data.Dataset.from_tensors((X, 3)),
    "range": lambda tf: tf.data.Dataset.range(2, 11, 3),
    "batch": lambda tf: slices(tf).batch(3),
    "batch dropped": lambda tf: slices(tf).batch(3, drop_remainder=True),
    "unbatch": lambda tf: slices(tf).batch(3).unbatch(),
    "map": lambda tf: slices(tf).map(
        lambda x, y: (x / 2, tf.one_hot(y, 7)), num_parallel_calls=tf.data.AUTOTUNE
    ),
    "map to one": lambda tf: slices(tf).map(lambda x, y: tf.reduce_sum(x) + tf.cast(y, tf.float32)),
    "map a dict": lambda tf: tf.data.Dataset.from_tensor_slices({"a": X, "b": Y}).map(lambda d: d["a"] + 1),
    "map of a batch": lambda tf: slices(tf).batch(4).map(lambda x, y: (tf.reverse(x, [0]), y)),
    "filter": lambda tf: slices(tf).filter(lambda x, y: y % 2 == 0),
    "take": lambda tf: slices(tf).take(3),
    "take all": lambda tf: slices(tf).take(-1),
    "skip": lambda tf: slices(tf).skip(5),
    "repeat": lambda tf: slices(tf).repeat(2),
    "repeat and take": lambda tf: slices(tf).repeat().take(10),
    "concatenate": lambda tf: slices(tf).concatenate(slices(tf).take(1)),
    "zip": lambda tf: tf.data.Dataset.zip((slices(tf), tf.data.Dataset.range(5))),
    "enumerate": lambda tf: slices(tf).enumerate(start=2),
    "cache": lambda tf: slices(tf).cache().prefetch(tf.data.AUTOTUNE),
    "options": lambda tf: slices(tf).with_options(tf.data.Options()),
    "apply": lambda tf: slices(tf).apply(lambda dataset: dataset.take(2)),
    "generator": lambda tf: tf.data.Dataset.from_generator(
        lambda: ((row, i) for i, row in enumerate(X)),
        output_signature=(tf.TensorSpec((2,), tf.float32), tf.TensorSpec((), tf.int32)),
    ),
    "generator of one": lambda tf: tf.data.Dataset.from_generator(lambda n: range(n), tf.int32, args=(4,)),
    "named tuple of batches": lambda tf: slices(tf).batch(2).take(2).map(lambda x, y: {"x": x, "y": y}),
}


def elements(dataset):
    return [jax.tree.map(np.asarray, element) for element in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_gives_tensorflows_elements(name):
    wanted, given = PIPELINES[name](real), PIPELINES[name](OURS)
    theirs, ours = elements(wanted), elements(given)
    assert len(ours) == len(theirs)
    for mine, yours in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_allclose, mine, yours)
    assert elements(given)[0] is not None  # it starts anew
    assert int(given.cardinality()) == int(wanted.cardinality())
    shown = [tuple(spec.shape) for spec in jax.tree.leaves(given.element_spec)]
    assert shown == [tuple(leaf.shape) for leaf in jax.tree.leaves(ours[0])]


def test_iterating_gives_tensors():
    for x, y in slices(OURS).batch(4).take(1):
        assert x.numpy().shape == (4, 2)
        assert y.dtype == OURS.int32


def test_the_length_is_known_where_it_can_be():
    assert len(slices(OURS).batch(2)) == 4
    with pytest.raises(TypeError, match="has no end"):
        len(slices(OURS).repeat())
    with pytest.raises(TypeError, match="only iterating tells"):
        len(slices(OURS).filter(lambda x, y: True))


def test_shuffling_keeps_the_elements_in_an_order_that_the_seed_decides():
    dataset = OURS.data.Dataset.range(40)
    first, second = (list(map(int, dataset.shuffle(10, seed=3).as_numpy_iterator())) for _ in range(2))
    assert first == second != sorted(first)
    assert sorted(first) == list(range(40))
    assert all(value <= place + 10 for place, value in enumerate(first))  # a buffer looks only so far ahead
    each_time = dataset.shuffle(40, seed=3)
    assert list(map(int, each_time)) != list(map(int, each_time))
    once = dataset.shuffle(40, reshuffle_each_iteration=False)
    assert list(map(int, once)) == list(map(int, once))
    OURS.random.set_seed(1)
    drawn = list(map(int, dataset.shuffle(40)))
    OURS.random.set_seed(1)
    assert list(map(int, dataset.shuffle(40))) == drawn


def test_random_numbers_in_a_map_are_new_for_each_element():
    dataset = OURS.data.Dataset.range(5).map(lambda i: OURS.random.uniform([]))
    assert len({float(value) for value in dataset}) == 5


def test_a_function_that_jax_cannot_follow_is_called_as_it_is():
    dataset = OURS.data.Dataset.range(4).map(lambda i: i * 2 if int(i) % 2 else i)
    assert [int(value) for value in dataset] == [0, 2, 2, 6]


def test_an_error_in_a_map_is_the_scripts_own():
    with pytest.raises(ZeroDivisionError):
        list(OURS.data.Dataset.range(2).map(lambda i: 1 // 0))


def test_reduce_carries_a_state():
    assert OURS.data.Dataset.range(5).reduce(0, lambda total, value: total + value).numpy() == 10


def test_cache_remembers_what_came_first():
    calls = []
    source = OURS.data.Dataset.from_generator(lambda: calls.append(1) or range(3), OURS.int32).cache()
    assert [int(v) for v in source] == [int(v) for v in source] == [0, 1, 2]
    assert len(calls) == 1
    with pytest.raises(ArgumentError, match="not cached in files"):
        source.cache("here")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: OURS.data.Dataset.from_tensor_slices((X, Y[:3])), "arrays of 3 and 7 rows"),
        (lambda: OURS.data.Dataset.range(0).element_spec, "is empty"),
    ],
)
def test_what_is_no_dataset_is_refused(call, told):
    with pytest.raises(DataError, match=told):
        call()


def test_a_model_is_trained_judged_and_asked_with_datasets():
    keras = OURS.keras
    OURS.random.set_seed(2)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    y = (x @ np.array([[1.0], [-2.0], [0.5]], "float32")) + 1
    dataset = OURS.data.Dataset.from_tensor_slices((x, y)).shuffle(64).batch(16).prefetch(OURS.data.AUTOTUNE)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(dataset, epochs=15, verbose=0, validation_data=dataset)
    assert history.history["loss"][-1] < 0.01 < history.history["loss"][0]
    assert history.history["val_loss"][-1] < 0.01
    assert model.evaluate(dataset, verbose=0) < 0.01
    assert model.predict(dataset, verbose=0).shape == (64, 1)
    model.fit(dataset.repeat(), steps_per_epoch=2, epochs=2, verbose=0)
    assert tally.account(model).total == 4
