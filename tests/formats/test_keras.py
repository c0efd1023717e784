"""Keras's files: the layers and weights that Keras itself finds in them, and the account of the model made of them."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from formats.harm import flips, survives, truncations
from tally.accounting.ledger import Ledger
from tally.formats import keras as files
from tally.formats.errors import BadFileError
from tally.formats.tensor import Contents, Tensor
from tally.models.ledger import account

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
layers = keras.layers


def convolutions() -> keras.Model:
    given = keras.Input((12, 12, 4))
    x = layers.SeparableConv2D(6, 3, name="first")(given)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = layers.GroupNormalization(4)(x)
    x = layers.Conv2DTranspose(4, 3)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.SpectralNormalization(layers.Conv2D(3, 3))(x)
    x = layers.PReLU()(x)
    x = layers.Conv2D(6, 1, groups=3, trainable=False)(x)
    return keras.Model(given, layers.Dense(2, use_bias=False)(layers.Flatten()(x)))


def sequences() -> keras.Model:
    given = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(given)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(layers.LayerNormalization()(x))
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.GRU(3)(layers.Dropout(0.2)(x))
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="shared")], name="inner")
    x = layers.Concatenate()([inner(x), inner(inner(x))])
    return keras.Model(given, layers.Dense(1)(keras.ops.relu(x) * 2))


def stack() -> keras.Model:
    steps = [
        keras.Input((8, 8, 1)),
        layers.Conv2D(2, 3, name="stem"),
        layers.BatchNormalization(),
        layers.Flatten(),
    ]
    return keras.Sequential([*steps, layers.Dense(3)], name="stack")


MODELS = {make.__name__: make for make in (convolutions, sequences, stack)}
each_model = pytest.mark.parametrize("name", MODELS)
ENDINGS = (".keras", ".weights.h5", ".h5")


def write(model: keras.Model, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".json":
        path.write_text(model.to_json())
    else:
        model.save(path)
    return path


def read(path: Path) -> Contents:
    assert files.matches(path)
    return files.read(path)


def counted(found: Contents) -> list[Tensor]:
    return [t for t in found.tensors if t.role in ("weight", "state") and t.alias_of is None]


@each_model
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_every_weight_is_found_with_the_name_that_keras_has_for_it(
    name: str, ending: str, tmp_path: Path
) -> None:
    model = MODELS[name]()
    found = read(write(model, tmp_path / f"m{ending}"))
    theirs = sorted(
        (w.path.rpartition("/")[2], tuple(w.shape)) for w in model.weights if "seed" not in w.path
    )
    ours = counted(found)
    if ending == ".weights.h5":  # the same weight of the wrapped layer lies there twice, and no name says so
        assert {t.shape for t in ours} == {shape for _, shape in theirs}
        return
    assert sorted((t.name.rpartition("/")[2], t.shape) for t in ours) == theirs
    assert all(t.dtype == "float32" and t.stored == 4 * t.size and t.span is not None for t in ours)


@each_model
def test_the_bytes_of_a_weight_are_where_the_account_says(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = write(model, tmp_path / "m.keras")
    data = path.read_bytes()
    values = {np.asarray(weight.value).tobytes() for weight in model.weights}
    for tensor in counted(read(path)):
        assert tensor.span is not None
        assert data[tensor.span.start : tensor.span.start + tensor.span.nbytes] in values


@each_model
def test_layers_are_those_of_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = write(model, tmp_path / "m.keras")
    live = account(model)
    found = read(path)
    assert_same_owners(found, live)
    assert_same_entries(found, live)


def assert_same_owners(found: Contents, live: Ledger) -> None:
    """Every layer that a configuration names is there under its path, with type, options, shapes and inputs."""
    ours = {node.name: node for node in found.nodes}
    assert list(ours) == [owner.path for owner in live.owners]
    for path, node in ours.items():
        owner = live.owner(path)
        assert (node.type, node.inputs) == (owner.type, owner.inputs)
        for name in (
            "units",
            "filters",
            "kernel_size",
            "groups",
            "depth_multiplier",
            "use_bias",
            "num_heads",
        ):
            assert node.options.get(name) == owner.option(name) or owner.option(name) is None
        if "/" not in path:
            assert node.output_shapes == owner.output_shapes
            assert node.input_shapes == owner.input_shapes


def assert_same_entries(found: Contents, live: Ledger) -> None:
    """Every weight is there under its path, with shape, state and axes."""
    ours = {tensor.name: tensor for tensor in found.tensors}
    frozen = {name for node in found.nodes if node.options.get("trainable") is False for name in node.tensors}
    for entry in live.counted:
        tensor = ours[entry.path]
        assert tensor.shape == entry.shape
        assert tensor.axes in ((), entry.axes)
        assert (tensor.role == "state") == (entry.state == "state")
        assert (entry.path in frozen) == (entry.state == "frozen")
    assert sum(tensor.size for tensor in counted(found)) == live.total


def test_what_an_optimizer_keeps_is_apart(tmp_path: Path) -> None:
    model = stack()
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 8, 1)), np.zeros((2, 3)), verbose=0)
    for ending in (".keras", ".weights.h5"):
        found = read(write(model, tmp_path / f"m{ending}"))
        kept = [t for t in found.tensors if t.role == "optimizer"]
        assert [t.name for t in kept[:2]] == ["optimizer/iteration", "optimizer/learning_rate"]
        assert [t.shape for t in kept] == [tuple(v.shape) for v in model.optimizer.variables]


@each_model
def test_an_architecture_alone_plans_its_weights(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    found = read(write(model, tmp_path / "m.json"))
    values = {(weight.path.rpartition("/")[2], tuple(weight.shape)) for weight in model.weights}
    assert {(t.name.rpartition("/")[2], t.shape) for t in found.tensors} <= values
    assert all(t.stored == 0 and t.span is None and t.notes for t in found.tensors)
    if name == "stack":
        assert sum(t.size for t in found.tensors) == model.count_params()


def test_a_users_own_layers_are_named_and_counted(tmp_path: Path) -> None:
    class Mine(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner, self.several = layers.Dense(3), [layers.Dense(4), layers.Dense(5)]

        def build(self, input_shape: Any) -> None:
            self.gain = self.add_weight(shape=(2, 2), name="gain")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            return self.several[1](self.several[0](self.inner(x)))

    model = keras.Sequential([keras.Input((2,)), Mine(name="mine")])
    found = read(write(model, tmp_path / "m.keras"))
    assert sum(t.size for t in counted(found)) == model.count_params()
    assert {t.name for t in found.tensors} >= {"mine/0", "mine/inner/kernel", "mine/several/dense_1/bias"}
    assert any("isn't Keras's own" in note and "Mine" in note for note in found.notes)


def test_a_nested_or_shared_layer_is_found_by_its_label(tmp_path: Path) -> None:
    """A public name may differ from the class's own, and a file of weights has the latter."""
    given = keras.Input((4, 8))
    model = keras.Model(given, layers.GroupQueryAttention(4, 4, 2)(given, given))
    found = read(write(model, tmp_path / "m.keras"))
    assert {t.name.split("/")[1] for t in found.tensors} == {
        f"{n}_dense" for n in ("query", "key", "value", "output")
    }


def test_long_lists_of_names_are_put_together_again(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
        for name in ("a", "b"):
            file.create_group(name).attrs["weight_names0"] = [f"{name}/kernel:0".encode()]
            file[name][f"{name}/kernel:0"] = np.ones((2, 3))
    assert [t.name for t in read(tmp_path / "m.h5").tensors] == ["a/kernel", "b/kernel"]


def test_keras_2s_configuration_is_read(tmp_path: Path) -> None:
    def layer(kind: str, name: str, inputs: list[str], **config: Any) -> dict[str, Any]:
        nodes = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
        return {"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": nodes}

    listed = [
        layer("InputLayer", "input_1", [], batch_input_shape=[None, 4]),
        layer("Dense", "a", ["input_1"], units=3, trainable=False, use_bias=True),
        layer("Add", "sum", ["a", "a"]),
    ]
    said = {"class_name": "Functional", "config": {"name": "m", "layers": listed}, "keras_version": "2.15.0"}
    (tmp_path / "m.json").write_text(json.dumps(said))
    nodes = {node.name: node for node in read(tmp_path / "m.json").nodes}
    assert [node.type for node in nodes.values()] == ["Functional", "InputLayer", "Dense", "Add"]
    assert (nodes["sum"].inputs, nodes["a"].options["trainable"]) == (("a",), False)
    assert nodes["input_1"].output_shapes == ((None, 4),)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_count_as_those_they_stand_for(mode: str, tmp_path: Path) -> None:
    dense, turned = layers.Dense(6, name="d"), layers.EinsumDense("ab,bc->ac", (5,), bias_axes="c", name="e")
    model = keras.Sequential([keras.Input((7,)), dense, turned])
    expected = {weight.path.partition("/")[2]: tuple(weight.shape) for weight in model.weights}
    model.quantize(mode)
    found = read(write(model, tmp_path / "m.keras"))
    assert {t.name: t.shape for t in counted(found)} == expected
    kernels = {t.dtype for t in found.tensors if t.name.endswith("/kernel")}
    assert kernels == {"float32" if mode == "float8" else mode}
    beside = {t.name.partition("/")[2] for t in found.tensors if t.role == "fixed"}
    theirs = {weight.path.rpartition("/")[2] for weight in model.weights} - {"kernel", "bias"}
    assert beside == theirs
    assert sum(t.stored for t in found.tensors) == sum(w.value.nbytes for w in model.weights)


def test_a_packed_archive_is_read_the_same(tmp_path: Path) -> None:
    path = write(stack(), tmp_path / "m.keras")
    plain = read(path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    packed = read(path)
    assert [(t.name, t.shape) for t in packed.tensors] == [(t.name, t.shape) for t in plain.tensors]
    assert all(t.span is None for t in packed.tensors)


def test_other_files_are_not_taken_for_kerass(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"model_type": "llama"}')
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = np.ones(3)
    for name in ("a.json", "b.h5", "missing.keras", "."):
        assert not files.matches(tmp_path / name)
    with pytest.raises(BadFileError, match="not laid out as Keras"):
        files.read(tmp_path / "b.h5")


def test_broken_files_give_one_error(tmp_path: Path) -> None:
    for ending in (".keras", ".h5", ".json"):
        if ending == ".h5":
            with h5py.File(tmp_path / "m.h5", "w") as file:
                file.attrs["model_config"] = stack().to_json()
                file.create_group("model_weights/stem").attrs["weight_names"] = [b"stem/kernel"]
                file["model_weights"].attrs["layer_names"] = [b"stem"]
                file["model_weights/stem/stem/kernel"] = np.ones((3, 3, 1, 2))
        else:
            write(stack(), tmp_path / f"m{ending}")
        data = (tmp_path / f"m{ending}").read_bytes()
        broken = [*truncations(data, len(data) // 40), *flips(data, 11, 200)]
        found = [survives(files.read, one, tmp_path, f"b{ending}") for one in broken]
        assert any(isinstance(one, BadFileError) for one in found)
        assert any(isinstance(one, Contents) for one in found)


def test_an_operation_holds_nothing_and_a_class_that_is_not_known_is_named(tmp_path):
    inputs = keras.Input((3,))
    compared = keras.ops.not_equal(keras.layers.Dense(2)(inputs), 0)
    said = keras.Model(inputs, compared).to_json()
    (tmp_path / "m.json").write_text(said)
    assert not any("will hold" in note for note in read(tmp_path / "m.json").notes)
    (tmp_path / "n.json").write_text(said.replace("keras.src.ops", "somebodys.ops"))
    (note,) = (note for note in read(tmp_path / "n.json").notes if "will hold" in note)
    assert note == "What 'not_equal' (NotEqual) will hold doesn't follow from the configuration alone."
