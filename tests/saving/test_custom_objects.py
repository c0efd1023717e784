"""What users write themselves goes into files, too: layers in attributes, functions, lambdas, own stores, assets."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import tally
from models.cases import assert_same, numbers
from saving.peers import classes
from tally.core.errors import SavingError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras's variables
X = numbers(2, 4)


def groups(path: Path) -> set[str]:
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, thing: names.append(name) if isinstance(thing, h5py.Dataset) else None)
    return set(names)


def test_layers_in_attributes_lists_and_dicts_have_keras_places(tmp_path: Path) -> None:
    for lib in (keras, tally):
        model = classes(lib).Net()
        model(X)
        model.save_weights(tmp_path / f"{lib.__name__}.weights.h5")
    ours, theirs = groups(tmp_path / "tally.weights.h5"), groups(tmp_path / "keras.weights.h5")
    assert ours == theirs
    assert "block/ahead/vars/0" in ours
    assert "block/steps/container/batch_normalization/vars/3" in ours


def test_a_layer_beside_the_graph_of_a_subclass_is_built_to_be_read(tmp_path: Path) -> None:
    model = classes(tally).Graph()
    expected = model(X)
    model.save(tmp_path / "model.keras")
    loaded = tally.saving.load_model(tmp_path / "model.keras", custom_objects=vars(classes(tally)))
    assert_same(loaded(X), expected)


def test_weights_of_a_model_itself_are_saved_and_have_rows_of_their_own(tmp_path: Path) -> None:
    net = classes(tally).Net()
    net(X)
    net.scale.assign(7.0)
    net.save(tmp_path / "net.keras")
    loaded = tally.saving.load_model(tmp_path / "net.keras", custom_objects=vars(classes(tally)))
    assert float(loaded.scale) == 7.0
    assert net.account().total == net.count_params()
    assert [entry.path for entry in net.account().entries if entry.owner == ""] == ["scale"]


def own_things(lib: Any) -> dict[str, Any]:
    def my_loss(y_true: Any, y_pred: Any) -> Any:
        return lib.ops.mean((y_true - y_pred) ** 2)

    def twice(x: Any) -> Any:
        return 2 * x

    class Fill(lib.initializers.Initializer):
        def __init__(self, value: float = 2.0) -> None:
            self.value = value

        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            return lib.ops.full(shape, self.value)

        def get_config(self) -> dict[str, Any]:
            return {"value": self.value}

    return {"my_loss": my_loss, "twice": twice, "Fill": Fill}


@pytest.mark.parametrize(("writer", "reader"), [(keras, tally), (tally, keras)], ids=["read", "written"])
def test_own_functions_and_classes_are_found_by_name(writer: Any, reader: Any, tmp_path: Path) -> None:
    mine = own_things(writer)
    dense = writer.layers.Dense(2, activation=mine["twice"], kernel_initializer=mine["Fill"](3.0))
    model = writer.Sequential([writer.Input((4,)), dense])
    model.compile("sgd", mine["my_loss"])
    model.save(tmp_path / "model.keras")
    loaded = reader.saving.load_model(tmp_path / "model.keras", custom_objects=own_things(reader))
    assert_same(loaded(X), model(X))
    assert loaded.loss.__name__ == "my_loss"


def test_an_unknown_name_is_said_with_what_to_pass(tmp_path: Path) -> None:
    model = tally.Sequential(
        [tally.Input((4,)), tally.layers.Dense(2, activation=own_things(tally)["twice"])]
    )
    model.save(tmp_path / "model.keras")
    with pytest.raises(SavingError) as caught:
        tally.saving.load_model(tmp_path / "model.keras")
    assert str(caught.value) == (
        "The configuration names 'twice' from saving.test_custom_objects, which is not known here. "
        "Did you mean 'dice'?\n"
        f"  where: config.layers[1].config.activation in {tmp_path / 'model.keras'}\n"
        "  do: pass custom_objects={'twice': ...}, or decorate it with @tally.saving.register_keras_serializable()"
    )


@pytest.mark.parametrize(("writer", "reader"), [(keras, tally), (tally, keras)], ids=["read", "written"])
def test_a_lambda_is_code_and_read_only_on_request(writer: Any, reader: Any, tmp_path: Path) -> None:
    offset = 3.0
    model = writer.Sequential([writer.Input((4,)), writer.layers.Lambda(lambda x: 2 * x + offset)])
    model.save(tmp_path / "model.keras")
    with pytest.raises((SavingError, ValueError), match="lambda"):
        reader.saving.load_model(tmp_path / "model.keras")
    loaded = reader.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_allclose(loaded(X), 2 * X + 3)


def test_a_lambda_that_uses_an_object_from_around_it_is_refused() -> None:
    table = np.ones(4)
    model = tally.Sequential([tally.Input((4,)), tally.layers.Lambda(lambda x: x + table)])
    with pytest.raises(SavingError, match="A lambda that uses objects from around it can't be stored"):
        model.to_json()


@pytest.mark.parametrize(("writer", "reader"), [(keras, tally), (tally, keras)], ids=["read", "written"])
def test_what_a_layer_learned_from_data_is_kept(writer: Any, reader: Any, tmp_path: Path) -> None:
    normalization = writer.layers.Normalization()
    normalization.adapt(X)
    model = writer.Sequential([writer.Input((4,)), normalization, writer.layers.Rescaling(2.0)])
    model.save(tmp_path / "model.keras")
    assert_same(reader.saving.load_model(tmp_path / "model.keras")(X), model(X))


class Store(tally.Layer):
    """Stores its weight under its own name, and a word in a file."""

    def __init__(self, word: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.word = word

    def build(self, input_shape: Any) -> None:
        self.offset = self.add_weight(shape=(), name="offset")

    def call(self, x: Any) -> Any:
        return x + self.offset

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def save_own_variables(self, store: Any) -> None:
        store["the offset"] = self.offset.numpy()

    def load_own_variables(self, store: Any) -> None:
        self.offset.assign(store["the offset"])

    def save_assets(self, folder: str) -> None:
        (Path(folder) / "word.txt").write_text(self.word)

    def load_assets(self, folder: str) -> None:
        self.word = (Path(folder) / "word.txt").read_text()


def test_a_layer_can_store_its_variables_and_files_its_own_way(tmp_path: Path) -> None:
    model = tally.Sequential([tally.Input((4,)), Store("hello", name="store")])
    model.save(tmp_path / "model.keras")
    assert "assets/layers/store/word.txt" in zipfile.ZipFile(tmp_path / "model.keras").namelist()
    loaded = tally.saving.load_model(tmp_path / "model.keras", custom_objects={"Store": Store})
    assert loaded.layers[0].word == "hello"
    assert_same(loaded(X), model(X))


def test_an_optimizer_held_by_a_model_is_stored_under_its_attribute(tmp_path: Path) -> None:
    class Two(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = tally.layers.Dense(1)
            self.second = tally.optimizers.SGD(0.1, momentum=0.9)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Two()
    model(X)
    model.second.build(model.trainable_variables)
    model.save_weights(tmp_path / "two.weights.h5")
    assert {"second/vars/2", "dense/vars/0"} <= groups(tmp_path / "two.weights.h5")


def test_a_model_with_named_inputs_is_built_again_from_its_file(tmp_path: Path) -> None:
    class Pair(tally.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.dense = tally.layers.Dense(2)

        def call(self, inputs: dict[str, Any]) -> Any:
            return self.dense(inputs["a"]) + self.dense(inputs["b"])

    model = Pair()
    expected = model({"a": X, "b": 2 * X})
    model.save(tmp_path / "pair.keras")
    loaded = tally.saving.load_model(tmp_path / "pair.keras", custom_objects={"Pair": Pair})
    assert_same(loaded({"a": X, "b": 2 * X}), expected)


@pytest.mark.parametrize("base", ["Loss", "Metric", "Layer", "Initializer", "Optimizer"])
def test_base_classes_have_keras_module(base: str) -> None:
    room = {"Layer": "layers", "Loss": "losses"}.get(base, base.lower() + "s")
    thing = getattr(getattr(tally, room), base)
    made = thing(0.1) if base == "Optimizer" else thing()
    assert json.loads(json.dumps(tally.saving.serialize_keras_object(made)))["module"] == "keras"
