"""Keras's older `.h5` files: whole models and weights of Keras 3, both ways, and those that Keras 2 wrote."""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import tally
from models.cases import assert_same, numbers
from tally.core.errors import SavingError

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's variables
    pytest.mark.filterwarnings("ignore:.*is of the older form:UserWarning"),
]
X = numbers(4, 4)
Y = X[:, :1] * 2


def stack(lib: Any) -> Any:
    layers = lib.layers
    return lib.Sequential(
        [
            *(lib.Input((4,)), layers.Dense(3, activation="relu", use_bias=False, name="low")),
            *(layers.BatchNormalization(name="norm"), layers.Dense(1, name="high")),
        ]
    )


def graph(lib: Any) -> Any:
    layers = lib.layers
    inner = lib.Sequential([lib.Input((4,)), layers.Dense(3), layers.Dense(2)], name="inner")
    inputs = lib.Input((4,))
    steps = layers.LSTM(3)(layers.Reshape((4, 1))(inputs))
    return lib.Model(inputs, layers.Dense(1)(layers.Concatenate()([inner(inputs), steps])))


def train(model: Any) -> None:
    model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(v) for v in (*model.weights, *model.optimizer.variables)]


@pytest.mark.parametrize("make", [stack, graph])
@pytest.mark.parametrize(("writer", "reader"), [(keras, tally), (tally, keras)], ids=["read", "written"])
def test_training_goes_on_in_the_other_library(make: Any, writer: Any, reader: Any, tmp_path: Path) -> None:
    model = make(writer)
    is_theirs = writer is keras  # which can't read "mse" from such a file, but writes it
    loss = writer.losses.MeanSquaredError() if is_theirs else "mse"
    model.compile(writer.optimizers.Adam(0.01), loss, metrics=["mae"])
    train(model)
    model.save(tmp_path / "model.h5")
    loaded = reader.saving.load_model(tmp_path / "model.h5")
    assert_same(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert_same(loaded.get_weights(), model.get_weights())
    if reader is keras:  # which reads no optimizer state from this form, not even from its own files
        assert loaded.optimizer.get_config()["learning_rate"] == pytest.approx(0.01)
        assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)
        return
    assert_same(values(loaded), values(model))
    train(model)
    train(loaded)
    for mine, theirs in zip(values(loaded), values(model), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_model_goes_round_and_can_be_left_uncompiled(tmp_path: Path) -> None:
    model = stack(tally)
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="'model.h5' is of the older form, which keeps no files of layers"):
        model.save(tmp_path / "model.h5")
    loaded = tally.saving.load_model(tmp_path / "model.h5", compile=False)
    assert not loaded.compiled
    assert_same(loaded(X), model(X))


def keras_2(path: Path, *, activation: Any = "relu") -> list[np.ndarray]:
    """Write what Keras 2.10 writes for a network of two layers and an Adam that made a step; gives its arrays."""
    generator = np.random.default_rng(0)
    shapes = {"dense": [(4, 3), (3,)], "out": [(3, 1), (1,)]}
    arrays = {
        name: [generator.normal(size=shape).astype("float32") for shape in each]
        for name, each in shapes.items()
    }
    dense = {"dtype": "float32", "use_bias": True, "trainable": True, "kernel_regularizer": None}
    first = {**dense, "name": "dense", "units": 3, "activation": activation, "batch_input_shape": [None, 4]}
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
    config = {
        "name": "model",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {
                    **{"batch_input_shape": [None, 4], "dtype": "float32", "sparse": False, "ragged": False},
                    "name": "input_1",
                },
                "name": "input_1",
                "inbound_nodes": [],
            },
            {
                "class_name": "Dense",
                "config": {**first, "kernel_initializer": glorot},
                "name": "dense",
                "inbound_nodes": [[["input_1", 0, 0, {}]]],
            },
            {
                "class_name": "Dense",
                "config": {**dense, "name": "out", "units": 1, "activation": "linear"},
                "name": "out",
                "inbound_nodes": [[["dense", 0, 0, {}]]],
            },
        ],
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }
    training = {
        "loss": {
            "class_name": "MeanSquaredError",
            "config": {"reduction": "auto", "name": "mean_squared_error"},
        },
        "metrics": [
            [
                {
                    "class_name": "MeanMetricWrapper",
                    "config": {"name": "mae", "dtype": "float32", "fn": "mean_absolute_error"},
                }
            ]
        ],
        "weighted_metrics": None,
        "loss_weights": None,
        "optimizer_config": {
            "class_name": "Adam",
            "config": {
                **{"name": "Adam", "learning_rate": 0.25, "decay": 0.0, "beta_1": 0.9, "beta_2": 0.999},
                **{"epsilon": 1e-07, "amsgrad": False},
            },
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.10.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["training_config"] = json.dumps(training)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"input_1", b"dense", b"out"]
        group.create_group("input_1").attrs["weight_names"] = []
        for name, each in arrays.items():
            inner = group.create_group(name)
            names = [f"{name}/kernel:0", f"{name}/bias:0"]
            inner.attrs["weight_names"] = [one.encode() for one in names]
            for one, value in zip(names, each, strict=True):
                inner[one] = value
        state = file.create_group("optimizer_weights")
        slots = [f"Adam/{name}/{part}" for name in arrays for part in ("kernel", "bias")]
        names = ["Adam/iter:0", *(f"{slot}/m:0" for slot in slots), *(f"{slot}/v:0" for slot in slots)]
        state.attrs["weight_names"] = [one.encode() for one in names]
        state[names[0]] = np.int64(7)
        flat = [value for each in arrays.values() for value in each]
        for index, one in enumerate(names[1:]):
            state[one] = (1 if index < 4 else 2) * np.abs(flat[index % 4])
    return flat


def test_a_model_of_keras_2_is_read_with_its_optimizer(tmp_path: Path) -> None:
    arrays = keras_2(tmp_path / "old.h5")
    model = tally.saving.load_model(tmp_path / "old.h5")
    assert_same(model.get_weights(), arrays)
    hidden = np.maximum(X @ arrays[0] + arrays[1], 0)
    assert_same(model(X), hidden @ arrays[2] + arrays[3])
    assert float(model.optimizer.learning_rate) == 0.25
    state = [np.asarray(v) for v in model.optimizer.variables]
    assert int(state[0]) == 7
    assert_same(state[2::2], [np.abs(value) for value in arrays])
    assert_same(state[3::2], [2 * np.abs(value) for value in arrays])
    assert set(model.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "mean_absolute_error"}


def test_weights_are_read_by_order_or_by_name(tmp_path: Path) -> None:
    arrays = keras_2(tmp_path / "old.h5")
    layers = tally.layers
    ordered = tally.Sequential([tally.Input((4,)), layers.Dense(3), layers.Dense(1)])
    ordered.load_weights(tmp_path / "old.h5")
    assert_same(ordered.get_weights(), arrays)
    named = tally.Sequential([tally.Input((3,)), layers.Dense(1, name="out"), layers.Dense(7, name="more")])
    before = named.get_weights()
    named.load_weights(tmp_path / "old.h5", by_name=True)
    assert_same(named.get_weights(), [*arrays[2:], *before[2:]])


def test_weights_that_do_not_fit_change_nothing_and_say_why(tmp_path: Path) -> None:
    keras_2(tmp_path / "old.h5")
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3), tally.layers.Dense(2, name="wide")])
    before = model.get_weights()
    with pytest.raises(
        SavingError, match=r"wide/kernel is \(3, 2\), the file has \(3, 1\)\n +wide/bias is \(2,\)"
    ):
        model.load_weights(tmp_path / "old.h5")
    assert_same(model.get_weights(), before)
    with pytest.warns(UserWarning, match="Left as they were or not used: wide"):
        model.load_weights(tmp_path / "old.h5", skip_mismatch=True)
    model.add(tally.layers.Dense(1))
    with pytest.raises(
        SavingError, match=r"of its 6 weights 4 are missing|dense_1/kernel \(2, 1\) is missing"
    ):
        model.load_weights(tmp_path / "old.h5")


def test_by_name_is_for_the_older_form_alone(tmp_path: Path) -> None:
    model = stack(tally)
    model.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(SavingError, match="by_name=True says nothing to it"):
        model.load_weights(tmp_path / "new.weights.h5", by_name=True)


@pytest.mark.parametrize("form", ["of Keras 3", "of Keras 2"])
def test_code_in_an_h5_file_is_refused_in_safe_mode(form: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "model.h5")
    if form == "of Keras 2":
        with h5py.File(tmp_path / "model.h5", "r+") as file:
            config = json.loads(str(file.attrs["model_config"]))
            stored = config["config"]["layers"][1]["config"]
            code = stored["function"]["config"]
            stored["function"] = [code["code"], code["defaults"], code["closure"]]
            stored["function_type"], stored["module"] = "lambda", "__main__"
            file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(SavingError, match="lambda, that is code"):
        tally.saving.load_model(tmp_path / "model.h5")
    loaded = tally.saving.load_model(tmp_path / "model.h5", safe_mode=False)
    assert_same(loaded(X), X + 1)


def test_no_module_is_imported_because_an_h5_file_names_it(tmp_path: Path) -> None:
    stack(tally).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(str(file.attrs["model_config"]))
        config["config"]["layers"][1].update(module="os", class_name="system")
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(SavingError, match="names 'system' from os, which is not known here"):
        tally.saving.load_model(tmp_path / "model.h5")


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    stack(tally).save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(SavingError, match="holds weights but no model"):
        tally.saving.load_model(tmp_path / "x.weights.h5")


def test_forms_of_several_files_are_answered_clearly(tmp_path: Path) -> None:
    (tmp_path / "x.weights.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SavingError, match="lists weights, but no model"):
        tally.saving.load_model(tmp_path / "x.weights.json")
    with pytest.raises(SavingError, match="is a folder, and a model is read from one file"):
        tally.saving.load_model(tmp_path / "folder")
    with pytest.raises(SavingError, match="saved to one file"):
        stack(tally).save(tmp_path / "x.keras", zipped=False)
