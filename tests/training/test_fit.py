"""fit, evaluate and predict against Keras: the same weights and batches give the same history and the same weights."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import tally

RNG = np.random.default_rng(0)
X = RNG.normal(size=(44, 4)).astype("float32")
CLASSES = RNG.integers(0, 3, 44).astype("int32")
VALUES = RNG.normal(size=(44, 1)).astype("float32")
WEIGHTS = RNG.uniform(0.5, 2, 44).astype("float32")


def classifier(library: Any) -> Any:
    layers = library.layers
    return library.Sequential(
        [library.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3, activation="softmax")]
    )


def regularized(library: Any) -> Any:
    layers = library.layers
    return library.Sequential(
        [
            library.Input((4,)),
            layers.Dense(5, kernel_regularizer="l2", activity_regularizer="l1"),
            layers.BatchNormalization(gamma_regularizer=library.regularizers.L2(0.1)),
            layers.Activation("tanh"),
            layers.Dense(1),
        ]
    )


def two_headed(library: Any) -> Any:
    inputs = library.Input((4,))
    hidden = library.layers.Dense(5, activation="relu", name="hidden")(inputs)
    kind = library.layers.Dense(3, activation="softmax", name="kind")(hidden)
    size = library.layers.Dense(1, name="size")(hidden)
    return library.Model(inputs, [kind, size])


def pair(make: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The same model in both libraries, with the same weights."""
    ours, theirs = make(tally), make(keras)
    ours.set_weights(values_of(theirs))
    return ours, theirs


def values_of(model: Any) -> list[np.ndarray]:
    return [np.asarray(weight.value) for weight in model.weights]


def assert_alike(ours: Any, theirs: Any, *histories: Any) -> None:
    if histories:
        mine, peers = (history.history for history in histories)
        assert list(mine) == list(peers)
        for name in peers:
            np.testing.assert_allclose(mine[name], peers[name], atol=1e-4, rtol=1e-4, err_msg=name)
    for mine, peers in zip(values_of(ours), values_of(theirs), strict=True):
        np.testing.assert_allclose(mine, peers, atol=1e-4, rtol=1e-4)


SPARSE = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
FITS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "validation split": (
        classifier,
        SPARSE | {"weighted_metrics": ["acc", "accuracy"]},
        {"y": CLASSES, "validation_split": 0.25, "epochs": 3, "batch_size": 8},
    ),
    "class weight": (
        classifier,
        SPARSE | {"weighted_metrics": ["accuracy"]},
        {"y": CLASSES, "class_weight": {0: 1.0, 1: 3.0}, "batch_size": 10},
    ),
    "sample weight": (
        classifier,
        SPARSE | {"weighted_metrics": ["sparse_categorical_crossentropy"]},
        {"y": CLASSES, "sample_weight": WEIGHTS, "validation_data": (X[:9], CLASSES[:9], WEIGHTS[:9])},
    ),
    "batch normalization and regularizers": (
        regularized,
        {"loss": "mse", "metrics": ["mae", "root_mean_squared_error"]},
        {"y": VALUES, "validation_data": (X[:9], VALUES[:9]), "validation_freq": 2, "epochs": 3},
    ),
    "several steps per execution": (
        classifier,
        SPARSE | {"steps_per_execution": 2},
        {"y": CLASSES, "batch_size": 9, "validation_split": 0.2},
    ),
    "an initial epoch and steps per epoch": (
        classifier,
        {"loss": "sparse_categorical_crossentropy"},
        {"y": CLASSES, "initial_epoch": 1, "epochs": 3, "batch_size": 8, "steps_per_epoch": 3},
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_fit_gives_the_history_and_the_weights_of_keras(name: str) -> None:
    make, compiling, fitting = FITS[name]
    ours, theirs = pair(make)
    histories = []
    for library, model in ((tally, ours), (keras, theirs)):
        model.compile(optimizer=library.optimizers.Adam(0.01), **compiling)
        histories.append(model.fit(X, **{"epochs": 2, "shuffle": False, "verbose": 0} | fitting))
    assert_alike(ours, theirs, *histories)
    assert histories[0].epoch == histories[1].epoch


TWO_HEADED: dict[str, dict[str, Any]] = {
    "by name": {
        "loss": {"kind": "sparse_categorical_crossentropy", "size": "mse"},
        "loss_weights": {"kind": 0.5, "size": 2.0},
        "metrics": {"kind": ["accuracy", "acc"], "size": "mae"},
    },
    "by position": {
        "loss": ["sparse_categorical_crossentropy", "mae"],
        "loss_weights": [1.0, 0.1],
        "metrics": [["accuracy"], ["mse"]],
        "weighted_metrics": [None, ["mse"]],
    },
    "with one loss": {"loss": [None, "mse"], "metrics": {"size": ["mae"]}},
}


@pytest.mark.parametrize("form", TWO_HEADED)
def test_several_outputs_have_losses_weights_and_metrics_of_their_own(form: str) -> None:
    ours, theirs = pair(two_headed)
    named = form == "by name"
    y: Any = {"kind": CLASSES, "size": VALUES} if named else [CLASSES, VALUES]
    histories, measured = [], []
    for model in (ours, theirs):
        model.compile(optimizer="sgd", **TWO_HEADED[form])
        histories.append(
            model.fit(
                X, y, epochs=2, shuffle=False, verbose=0, validation_data=(X[:8], [CLASSES[:8], VALUES[:8]])
            )
            if not named
            else model.fit(X, y, epochs=2, shuffle=False, verbose=0)
        )
        measured.append(model.evaluate(X, y, verbose=0))
    assert_alike(ours, theirs, *histories)
    np.testing.assert_allclose(measured[0], measured[1], atol=1e-4)


def test_evaluate_gives_keras_list_dict_or_number() -> None:
    ours, theirs = pair(classifier)
    for model in (ours, theirs):
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    kwargs: dict[str, Any] = {"verbose": 0, "batch_size": 7, "sample_weight": WEIGHTS}
    np.testing.assert_allclose(
        ours.evaluate(X, CLASSES, **kwargs), theirs.evaluate(X, CLASSES, **kwargs), rtol=1e-5
    )
    named, peers = (m.evaluate(X, CLASSES, return_dict=True, **kwargs) for m in (ours, theirs))
    assert list(named) == list(peers)
    ours.compile(loss="sparse_categorical_crossentropy")
    assert isinstance(ours.evaluate(X, CLASSES, verbose=0), float)


def test_single_batches_give_what_keras_gives() -> None:
    ours, theirs = pair(classifier)
    for model in (ours, theirs):
        model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    for start in (0, 8, 16):
        batch = X[start : start + 8], CLASSES[start : start + 8]
        mine, peers = (m.train_on_batch(*batch, return_dict=True) for m in (ours, theirs))
        assert list(mine) == list(peers)
        np.testing.assert_allclose(list(mine.values()), list(peers.values()), rtol=1e-4)
        mine, peers = (m.train_on_batch(*batch, class_weight={0: 2.0}) for m in (ours, theirs))
        np.testing.assert_allclose(mine, peers, rtol=1e-4)
        mine, peers = (m.test_on_batch(*batch) for m in (ours, theirs))
        np.testing.assert_allclose(mine, peers, rtol=1e-4)
    np.testing.assert_allclose(ours.predict_on_batch(X[:5]), theirs.predict_on_batch(X[:5]), atol=1e-4)
    assert_alike(ours, theirs)


def test_predict_keeps_the_structure_of_the_outputs_and_the_last_smaller_batch() -> None:
    inputs = tally.Input((4,))
    hidden = tally.layers.Dense(2)(inputs)
    model = tally.Model(inputs, {"sum": hidden + 1, "parts": [hidden, inputs]})
    made = model.predict(X, batch_size=10, verbose=0)
    assert set(made) == {"sum", "parts"}
    assert made["sum"].shape == (44, 2)
    assert isinstance(made["sum"], np.ndarray)
    np.testing.assert_array_equal(made["parts"][1], X)
    np.testing.assert_allclose(made["sum"], model.predict_on_batch(X)["sum"], rtol=1e-5)


def compiled_classifier(**kwargs: Any) -> Any:
    model = classifier(tally)
    model.compile(**{"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"} | kwargs)
    return model


def generator() -> Iterator[Any]:
    while True:
        for start in range(0, 44, 11):
            yield X[start : start + 11], CLASSES[start : start + 11]


class Numbered(tally.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        piece = slice(11 * index, 11 * index + 11)
        return X[piece], CLASSES[piece]


def torch_loader() -> Any:
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(CLASSES))
    return torch.utils.data.DataLoader(pairs, batch_size=11)


def tensorflow_dataset() -> Any:
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((X, CLASSES)).batch(11)


def grain_dataset() -> Any:
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(X, CLASSES, strict=True))).batch(11)


SOURCES: dict[str, Callable[[], dict[str, Any]]] = {
    "JAX arrays": lambda: {"x": tally.ops.convert_to_tensor(X), "y": tally.ops.convert_to_tensor(CLASSES)},
    "pandas": lambda: {"x": pd.DataFrame(X), "y": pd.Series(CLASSES)},
    "a generator": lambda: {"x": generator(), "steps_per_epoch": 4},
    "a PyDataset": lambda: {"x": Numbered()},
    "a torch DataLoader": lambda: {"x": torch_loader()},
    "a tf.data.Dataset": lambda: {"x": tensorflow_dataset()},
    "a grain dataset": lambda: {"x": grain_dataset()},
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_data_trains_alike(name: str) -> None:
    model, reference = compiled_classifier(), compiled_classifier()
    model.set_weights(reference.get_weights())
    expected = reference.fit(X, CLASSES, batch_size=11, epochs=2, shuffle=False, verbose=0)
    data = SOURCES[name]()
    if "y" in data:
        data["batch_size"] = 11
    history = model.fit(**data, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.history["loss"], expected.history["loss"], rtol=1e-5)


def test_shuffling_changes_the_order_and_the_seed_repeats_it() -> None:
    losses = []
    for shuffle in (True, True, False):
        tally.utils.set_random_seed(3)
        model = compiled_classifier()
        losses.append(model.fit(X, CLASSES, batch_size=8, shuffle=shuffle, verbose=0).history["loss"][0])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": False}])
def test_eager_steps_train_as_compiled_ones_do(options: dict[str, Any]) -> None:
    seen = []

    class Watching(tally.layers.Layer):
        def call(self, inputs: Any) -> Any:
            seen.append(1)
            return inputs

    def make() -> Any:
        return tally.Sequential([tally.Input((4,)), Watching(), tally.layers.Dense(1)])

    model, reference = make(), make()
    reference.set_weights(model.get_weights())
    model.compile("adam", "mse", metrics=["mae"], **options)
    reference.compile("adam", "mse", metrics=["mae"])
    seen.clear()
    history = model.fit(X, VALUES, batch_size=22, epochs=2, shuffle=False, verbose=0)
    assert len(seen) >= 4
    expected = reference.fit(X, VALUES, batch_size=22, epochs=2, shuffle=False, verbose=0)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)


def test_a_deferred_sequential_and_a_subclass_build_from_the_first_batch() -> None:
    class Net(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = tally.layers.Dense(3)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.dense(inputs["a"]) * (2.0 if training else 1.0)

    stack = tally.Sequential([tally.layers.Dense(2), tally.layers.Dense(3)])
    for model, x in ((stack, X), (Net(), {"a": X})):
        model.compile(
            "sgd", tally.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
        )
        history = model.fit(x, CLASSES, epochs=1, verbose=0)
        assert set(history.history) == {"accuracy", "loss"}
        assert model.predict(x, verbose=0).shape == (44, 3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_with_float32_weights(policy: str) -> None:
    tally.config.set_dtype_policy(policy)
    model = compiled_classifier(optimizer=tally.optimizers.Adam(0.05), metrics=["accuracy"])
    history = model.fit(X, CLASSES, epochs=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.predict(X, verbose=0).dtype == policy.removeprefix("mixed_")
    assert isinstance(model.optimizer, tally.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")


def test_an_optax_transformation_is_an_optimizer() -> None:
    optax = pytest.importorskip("optax")
    model = compiled_classifier(optimizer=optax.adam(0.01))
    reference = compiled_classifier(optimizer=tally.optimizers.Adam(0.01, epsilon=1e-8))
    model.set_weights(reference.get_weights())
    for one in (model, reference):
        one.fit(X, CLASSES, epochs=2, shuffle=False, verbose=0)
    for mine, peers in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(mine, peers, atol=1e-4)


def test_arguments_may_be_positional_as_in_keras() -> None:
    model = classifier(tally)
    model.compile("sgd", "sparse_categorical_crossentropy", None, ["accuracy"])
    history = model.fit(X, CLASSES, 11, 2, 0)
    assert history is model.history
    assert (history.params["epochs"], history.params["steps"]) == (2, 4)
    assert len(model.evaluate(X, CLASSES, 11, 0)) == 2
    assert model.predict(X, 11, 0).shape == (44, 3)


def test_masked_steps_count_neither_in_the_loss_nor_in_metrics() -> None:
    words = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [2, 1, 3, 0]])
    targets = RNG.normal(size=(3, 4, 1)).astype("float32")

    def make(library: Any) -> Any:
        layers = library.layers
        return library.Sequential(
            [
                library.Input((4,)),
                layers.Embedding(4, 3, mask_zero=True),
                layers.LSTM(2, return_sequences=True),
                layers.Dense(1),
            ]
        )

    ours, theirs = pair(make)
    losses, measured = [], []
    for model in (ours, theirs):
        model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
        measured.append(model.evaluate(words, targets, verbose=0))
        losses.append(model.fit(words, targets, epochs=2, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(measured[0], measured[1], rtol=1e-4)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert_alike(ours, theirs)
    ours.optimizer.learning_rate = 0.0  # Keras loses the mask on the way to the metrics of a training step
    in_fit = ours.fit(words, targets, verbose=0).history
    assert in_fit["mae"][0] == pytest.approx(ours.evaluate(words, targets, verbose=0)[1], rel=1e-5)


def test_a_step_of_the_users_own_is_refused_rather_than_ignored():
    class Own(tally.Model):
        def train_step(self, data):
            return {}

    with pytest.raises(
        ValueError, match="Own defines train_step, which fit, evaluate and predict don't call"
    ):
        Own().compile("sgd", "mse")


@pytest.mark.parametrize(
    ("labels", "advice"),
    [([2, 3, 4] * 2, "give the model 5 outputs"), ([1, 2, 3] * 2, "number the classes from 0: labels - 1")],
)
def test_class_numbers_out_of_range_are_told_before_the_first_step(labels, advice):
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises(ValueError, match=advice):
        model.fit(np.ones((6, 4)), np.array(labels), verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_metrics_in_the_place_of_loss_weights_are_told_at_compile():
    model = tally.Sequential([tally.layers.Dense(1)])
    with pytest.raises(ValueError, match="loss_weights holds 'accuracy', which is no number"):
        model.compile("adam", "mse", ["accuracy"])


def test_a_missing_flatten_is_named():
    model = tally.Sequential(
        [tally.Input((6, 6, 1)), tally.layers.Conv2D(2, 3), tally.layers.Dense(3, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="takes class numbers of shape") as caught:
        model.fit(np.ones((2, 6, 6, 1)), np.zeros(2), verbose=0)
    assert any("put Flatten() or GlobalAveragePooling2D()" in note for note in caught.value.__notes__)


def test_the_trace_of_an_error_in_fit_shows_the_users_lines_alone():
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="was given") as caught:
        model.fit(np.ones((2, 5)), np.ones((2, 1)), verbose=0)
    assert len(caught.traceback) <= 2
