"""Configurations that try to name, call, open or fetch something, in each place where a configuration names a thing."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hostile.test_published import bytecode, function, layer, whole
from tests.hostile.watch import MARK, harmless, watched

import tally
from tally.core.errors import SavingError
from tally.saving import deserialize_keras_object as deserialize
from tally.saving import load_model

Config = dict[str, Any]
NAMES = [
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "open"),
    ("numpy", "load"),
    ("keras.utils", "get_file"),
    ("keras.saving", "load_model"),
    ("tally.saving", "load_model"),
    ("tally.config", "enable_unsafe_deserialization"),
    ("keras.src.saving.serialization_lib", "enable_unsafe_deserialization"),
    ("tally.saving.functions", "safe_mode"),
    ("keras.layers", "TFSMLayer"),
    ("keras.layers", "TorchModuleWrapper"),
    ("keras.layers", "__init__"),
    ("tally.layers.convolution", "os"),
    (None, "exec"),
]


def made(module: Any, name: str) -> Config:
    """A class of that name, or what a function gives when it is taken for one."""
    given = {"filepath": MARK, "module": MARK, "command": f"touch {MARK}", "fname": MARK, "origin": MARK}
    return {"module": module, "class_name": name, "config": given, "registered_name": f"{module}>{name}"}


THINGS: list[Any] = [
    *(function(module, name) for module, name in NAMES),
    *(made(module, name) for module, name in NAMES),
    bytecode(),
    layer("Lambda", function=bytecode()),
    {**layer("Dense", units=2), "registered_name": "os>system", "module": "os", "class_name": "system"},
    *(f"{module}.{name}" for module, name in NAMES[:4]),
]


def dense(**options: Any) -> Config:
    return whole(layer("Dense", units=3, **options))


def compiled(**options: Any) -> Config:
    return whole(layer("Dense", units=3), compile_config={"optimizer": "sgd", "loss": "mse", **options})


def graph(node: Any) -> Config:
    first = layer("InputLayer", batch_shape=[None, 4]) | {"name": "evil", "inbound_nodes": []}
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["evil", 0, 0]}}
    second = layer("Add") | {"name": "add", "inbound_nodes": [node(tensor)]}
    ends = {"input_layers": ["evil", 0, 0], "output_layers": ["add", 0, 0]}
    return layer("Functional", "keras", layers=[first, second], **ends)


def operation(thing: Any) -> Config:
    config = graph(lambda tensor: {"args": [tensor], "kwargs": {}})
    config["config"]["layers"][1] |= {
        "module": "keras.src.ops.numpy",
        "class_name": "Mean",
        "config": {"axis": thing},
    }
    return config


def optimizer(kind: str, **options: Any) -> Config:
    return compiled(optimizer=layer(kind, "keras.optimizers", **options))


PLACES: dict[str, Callable[[Any], Config]] = {
    "a layer": lambda thing: whole(thing),
    "activation": lambda thing: dense(activation=thing),
    "initializer": lambda thing: dense(kernel_initializer=thing),
    "regularizer": lambda thing: dense(bias_regularizer=thing),
    "activity regularizer": lambda thing: dense(activity_regularizer=thing),
    "constraint": lambda thing: dense(kernel_constraint=thing),
    "dtype": lambda thing: dense(dtype=thing),
    "the layer of an activation": lambda thing: whole(layer("Activation", activation=thing)),
    "the function of a Lambda": lambda thing: whole(
        layer("Lambda", function=thing, arguments={"command": MARK})
    ),
    "a wrapped layer": lambda thing: whole(layer("TimeDistributed", layer=thing)),
    "the way back": lambda thing: whole(
        layer("Bidirectional", layer=layer("LSTM", units=2), backward_layer=thing)
    ),
    "a cell": lambda thing: whole(layer("RNN", cell=thing)),
    "a cell among others": lambda thing: whole(layer("RNN", cell=layer("StackedRNNCells", cells=[thing]))),
    "a repeated block": lambda thing: whole(layer("Repeat", "tally.layers", block=thing, count=2)),
    "a nested model": lambda thing: whole(layer("Sequential", "keras", layers=[thing])),
    "an argument of a call": lambda thing: graph(lambda tensor: {"args": [[tensor, thing]], "kwargs": {}}),
    "a named argument": lambda thing: graph(lambda tensor: {"args": [[tensor]], "kwargs": {"x": thing}}),
    "a constant of an operation": operation,
    "optimizer": lambda thing: compiled(optimizer=thing),
    "learning rate": lambda thing: optimizer("SGD", learning_rate=thing),
    "inner optimizer": lambda thing: optimizer("LossScaleOptimizer", inner_optimizer=thing),
    "loss": lambda thing: compiled(loss=thing),
    "a loss among others": lambda thing: compiled(loss=[thing]),
    "a loss's function": lambda thing: compiled(loss=layer("LossFunctionWrapper", "keras.losses", fn=thing)),
    "metric": lambda thing: compiled(metrics=[thing]),
    "weighted metric": lambda thing: compiled(weighted_metrics=[thing]),
    "a metric's function": lambda thing: compiled(
        metrics=[layer("MeanMetricWrapper", "keras.metrics", fn=thing)]
    ),
}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in and a secret beside it; at the end nothing was run, fetched, or opened outside."""
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    (tmp_path / "secret").write_text("secret")
    deserialize(whole(layer("Dense", units=3)))  # so that all is imported before anything is watched
    monkeypatch.setattr(np, "load", _fail)
    with harmless(tmp_path):
        yield inner


def _fail(*_: Any, **__: Any) -> Any:
    raise AssertionError("called by a file")


@pytest.mark.parametrize("place", PLACES)
def test_nothing_but_what_is_published_is_found_wherever_it_is_named(scene: Path, place: str) -> None:
    for thing in THINGS:
        with pytest.raises(SavingError) as caught:
            deserialize(PLACES[place](thing))
        assert caught.value.place, str(caught.value)
        assert not isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize("thing", THINGS[:: len(THINGS) // 6])
def test_the_shapes_that_a_layer_was_built_for_are_no_place_to_name_a_thing(scene: Path, thing: Any) -> None:
    for config in ({"input_shape": thing}, {"shapes_dict": {"input_shape": thing}}, {"x": thing}):
        with pytest.raises(SavingError) if "x" not in config else watched():
            deserialize({**layer("Dense", units=3), "build_config": config})


@pytest.mark.parametrize("safe", [None, True, 0, "", [], "False"])
def test_only_false_allows_code(scene: Path, safe: Any) -> None:
    path = save(scene, whole(layer("Lambda", function=bytecode())))
    with pytest.raises(SavingError, match="holds a Python lambda"):
        load_model(path, safe_mode=safe)


def save(folder: Path, config: Any, **more: bytes) -> Path:
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3)])
    model.save(folder / "good.keras")
    with zipfile.ZipFile(folder / "good.keras") as good, zipfile.ZipFile(folder / "evil.keras", "w") as file:
        for name in good.namelist():
            file.writestr(name, json.dumps(config) if name == "config.json" and config else good.read(name))
        for name, data in more.items():
            file.writestr(name, data)
    return folder / "evil.keras"


def test_a_python_file_in_an_archive_is_passed_over(scene: Path) -> None:
    code = f"open({MARK!r}, 'w').close()".encode()
    hidden = dict.fromkeys(("evil.py", "assets/__init__.py", "sitecustomize.py", "conftest.py"), code)
    assert load_model(save(scene, None, **hidden)).count_params() == 15
    assert not [name for name in os.listdir(scene) if name.endswith(".py")]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/m.keras",
        "https://x/m.keras",
        "gs://b/m",
        "hf://org/m",
        "file://localhost/etc/passwd",
    ],
)
def test_an_address_is_not_fetched(scene: Path, address: str) -> None:
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3)])
    for load in (load_model, model.load_weights):
        with pytest.raises(SavingError, match="is an address"):
            load(address)


@pytest.mark.parametrize(
    "name", ["assets/../../x", "{}/x", "assets/layers/words/../../../../x", "assets\\..\\x"]
)
def test_an_asset_of_another_place_is_not_unpacked(scene: Path, name: str) -> None:
    with suppress(SavingError):
        load_model(save(scene, None, **{name.format(scene.parent): b"1"}))
    assert not (scene.parent / "x").exists()
    assert sorted(os.listdir(scene)) == ["evil.keras", "good.keras"]


class Words(tally.Layer):
    """Reads its words from a file of its own."""

    def call(self, x: Any) -> Any:
        return x

    def load_assets(self, folder: str) -> None:
        self.words = {path.name: path.read_text() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("target", ["{}/secret", "../../secret", "../../../../../../../../etc/passwd"])
def test_a_link_among_the_assets_is_not_followed(scene: Path, target: str) -> None:
    save(scene, whole(layer("Words", None), layer("Dense", units=3, name="low")))
    with zipfile.ZipFile(scene / "evil.keras", "a") as file:
        info = zipfile.ZipInfo("assets/layers/words/link.txt")
        info.external_attr = 0o120777 << 16
        file.writestr(info, target.format(scene.parent))
    with suppress(SavingError):
        loaded = load_model(scene / "evil.keras", custom_objects={"Words": Words})
        assert loaded.layers[0].words == {"link.txt": target.format(scene.parent)}


ARRAYS = {
    "a text of a gigabyte": {"value": "x", "dtype": "U268435456"},
    "bytes of a gigabyte": {"value": ["x", "y"], "dtype": "S1073741824"},
    "one long text among short ones": {"value": ["x" * 5000, *["y"] * 2000], "dtype": "U5000"},
    "a gap of a gigabyte": {"value": 1, "dtype": "V1073741824"},
    "arrays inside": {"value": 1, "dtype": "(1000,1000,1000)f4"},
    "a record": {"value": 1, "dtype": "f4,f4"},
    "no type": {"value": 1, "dtype": {"names": ["a"], "formats": ["f4"]}},
    "a type of a list": {"value": 1, "dtype": ["f4", [10**9]]},
    "no rectangle": {"value": [[1], [1, 2]], "dtype": "float32"},
    "too many sides": {"value": json.loads("[" * 90 + "1" + "]" * 90), "dtype": "float32"},
    "nothing": {},
    "a shape alone": {"shape": [2**40], "dtype": "float32"},
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("form", ["__numpy__", "__tensor__"])
def test_an_array_takes_no_more_room_than_it_is_written_in(scene: Path, form: str, name: str) -> None:
    import tracemalloc

    described = {"class_name": form, "config": ARRAYS[name]}
    tracemalloc.start()
    with pytest.raises(SavingError) as caught:
        deserialize(whole(layer("Normalization", mean=described, variance=[1.0])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert caught.value.place.startswith("config.layers[1].config.mean")


def test_a_name_of_this_library_is_shadowed_by_the_users_objects_alone(scene: Path) -> None:
    class Mine(tally.Layer):
        def call(self, x: Any) -> Any:
            return x

    config = whole({**layer("Dense", units=3), "registered_name": "Custom>Mine"})
    assert type(deserialize(config).layers[-1]).__name__ == "Dense"  # nobody registered it
    shadowed = deserialize(whole(layer("Dense")), custom_objects={"Dense": Mine})
    assert type(shadowed.layers[-1]) is Mine
    assert type(deserialize(config).layers[-1]).__name__ == "Dense"
    with pytest.raises(SavingError, match="not known here"):
        deserialize({**whole(layer("Mine")), "custom_objects": {"Mine": function("os", "system")}})


def test_what_a_file_names_is_shown_without_its_control_characters(scene: Path) -> None:
    with pytest.raises(SavingError) as caught:
        deserialize(whole(layer("Evil\x1b[2J" + "x" * 100_000)))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 3000
