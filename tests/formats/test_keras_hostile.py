"""Each published class of attack on who loads a Keras model, tried on who reads its account: nothing of it happens."""

import base64
import copy
import io
import json
import os
import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from formats.harm import survives
from tally.formats import keras as files
from tally.formats.errors import BadFileError
from tally.formats.tensor import Contents

LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": base64.b64encode(b"\xe3\x00" * 50).decode(), "defaults": None},
}


def layer(kind: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": kind.lower(), **config},
        "registered_name": None,
    }


def model(*listed: dict[str, Any]) -> dict[str, Any]:
    given = layer("InputLayer", batch_shape=[None, 4])
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "m", "layers": [given, *listed]},
    }


def archive(path: Path, said: Any, weights: bytes | None = None, **more: bytes) -> Path:
    if weights is None:
        with h5py.File(path.with_suffix(".inner"), "w") as file:
            file.create_group("vars")
            file["layers/dense/vars/0"] = np.ones((4, 3), "f4")
        weights = path.with_suffix(".inner").read_bytes()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(said))
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", weights)
        for name, data in more.items():
            file.writestr(name, data)
    return path


def accounted(tmp_path: Path, *listed: dict[str, Any]) -> Contents:
    """What is read beside a dense layer, which is there in any case."""
    dense = layer("Dense", units=3, use_bias=False)
    found = files.read(archive(tmp_path / "m.keras", model(dense, *listed)))
    assert [(t.name, t.shape) for t in found.tensors] == [("dense/kernel", (4, 3))]
    return found


def test_bytecode_in_a_lambda_layer_is_not_unpacked(tmp_path: Path) -> None:
    """CVE-2024-3660."""
    found = accounted(tmp_path, layer("Lambda", function=LAMBDA))
    assert found.nodes[-1].type == "Lambda"
    assert found.notes == ("Holds Python code in lambda, __lambda__: it was neither unpacked nor run.",)


def test_a_module_that_a_configuration_names_is_not_imported(tmp_path: Path) -> None:
    """CVE-2025-1550: any function of any module was called, `safe_mode` or not."""
    run = {"module": "antigravity", "class_name": "function", "config": "system", "registered_name": "system"}
    sys.modules.pop("antigravity", None)
    found = accounted(tmp_path, layer("system", "antigravity"), layer("Activation", activation=run))
    assert "antigravity" not in sys.modules
    assert found.notes == ("Names what isn't Keras's own, none of it imported: antigravity.system.",)


def test_keras_own_functions_that_fetch_files_are_not_called(tmp_path: Path) -> None:
    """CVE-2025-8747: `keras.utils.get_file` as a layer's class wrote a file of the attacker's."""
    fetch = layer(
        "get_file", "keras.utils", origin="file://localhost/etc/passwd", cache_dir=str(tmp_path / "cache")
    )
    found = accounted(tmp_path, fetch)
    assert "keras.utils.get_file" in found.notes[0]
    assert not (tmp_path / "cache").exists()


def test_the_older_format_is_no_way_around(tmp_path: Path) -> None:
    """CVE-2025-9905: a Lambda layer in an `.h5` ran whatever `safe_mode` said."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(model(layer("Lambda", function=LAMBDA)))
        file.create_group("model_weights")
    assert "neither unpacked nor run" in files.read(tmp_path / "m.h5").notes[0]


def test_a_configuration_cant_switch_safety_off(tmp_path: Path) -> None:
    """CVE-2025-9906: the first layer of the file called `enable_unsafe_deserialization`, the second was a Lambda."""
    switch = layer("function", "keras.config", function="enable_unsafe_deserialization")
    switch["config"] = "enable_unsafe_deserialization"
    before = keras.src.saving.serialization_lib.in_safe_mode()
    found = accounted(tmp_path, switch, layer("Lambda", function=LAMBDA))
    assert keras.src.saving.serialization_lib.in_safe_mode() == before
    assert len(found.notes) == 2


def test_a_vocabulary_that_is_a_path_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2025-12058: the file at the path, or behind the address, was read into the model."""
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    opened: list[str] = []
    for place, name in ((os, "open"), (io, "open")):
        real = getattr(place, name)
        monkeypatch.setattr(
            place,
            name,
            lambda path, *more, real=real, **named: opened.append(str(path)) or real(path, *more, **named),
        )
    found = accounted(
        tmp_path,
        layer("StringLookup", vocabulary=str(secret)),
        layer("TextVectorization", vocabulary="http://x/y"),
    )
    assert str(tmp_path / "m.keras") in opened
    assert str(secret) not in opened
    assert "Names other files, none of them opened" in found.notes[0]


def weights_with(tmp_path: Path, make: Any) -> Path:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("layers/dense/vars").attrs["name"] = "dense"
        make(file["layers/dense/vars"])
    data = (tmp_path / "w.h5").read_bytes()
    return archive(tmp_path / "m.keras", model(layer("Dense", units=3)), data)


def test_a_shape_bomb_is_refused(tmp_path: Path) -> None:
    """CVE-2026-0897."""
    path = weights_with(tmp_path, lambda group: group.create_dataset("0", (10**5, 10**11), "f8", chunks=True))
    with pytest.raises(BadFileError, match="made to fill the memory"):
        files.read(path)


def linked(group: h5py.Group) -> None:
    group["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def stored_outside(group: h5py.Group) -> None:
    group.create_dataset("0", (4, 3), "f4", external=[("/etc/passwd", 0, 48)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    group.create_virtual_dataset("0", layout)


def texts(group: h5py.Group) -> None:
    group["0"] = ["a", "b"]


def references(group: h5py.Group) -> None:
    group["0"] = np.array([group.ref], dtype=h5py.ref_dtype)


@pytest.mark.parametrize("make", [linked, stored_outside, virtual, texts, references])
def test_weights_that_lie_elsewhere_or_are_no_numbers_are_refused(make: Any, tmp_path: Path) -> None:
    """CVE-2026-1669, and what was closed after it."""
    with pytest.raises(BadFileError):
        files.read(weights_with(tmp_path, make))


def test_a_saved_model_that_a_layer_names_is_not_loaded(tmp_path: Path) -> None:
    """CVE-2026-1462: `TFSMLayer` ran a SavedModel of the attacker's in safe mode."""
    found = accounted(tmp_path, layer("TFSMLayer", filepath="/tmp/evil"))
    assert found.nodes[-1].type == "TFSMLayer"
    assert "keras.layers.TFSMLayer" in found.notes[0]
    assert "'/tmp/evil' in TFSMLayer" in found.notes[1]


def test_members_that_lead_out_of_the_archive_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", model(), **{"assets/../../evil": b"x"})
    with pytest.raises(BadFileError, match="leads out"):
        files.read(path)


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        {"class_name": "Sequential", "config": None},
        {"class_name": "Sequential", "config": {"layers": [1, None, "x", [], {}]}},
        {"class_name": "Sequential", "config": {"layers": {"a": 1}, "name": 5}},
        {
            "class_name": "Functional",
            "config": {"layers": [{"class_name": "Dense", "config": {}, "inbound_nodes": [[1]]}]},
        },
        {
            "class_name": "Dense",
            "config": {"units": "many", "kernel_size": {}, "axis": [[]]},
            "build_config": {"input_shape": ["x"]},
        },
        {
            "class_name": "Conv2D",
            "config": {"kernel_size": [1, 2, 3], "filters": -1, "groups": 0},
            "build_config": {"input_shape": []},
        },
        {"class_name": "x" * 5_000, "config": {"name": "y" * 5_000}},
        {
            "class_name": "Sequential",
            "config": {"layers": [{"class_name": "Dense", "config": {"name": "../../a"}}] * 3},
        },
    ],
)
def test_configurations_of_no_model_give_one_error_or_an_account(said: Any, tmp_path: Path) -> None:
    try:
        found = files.read(archive(tmp_path / "m.keras", said))
    except BadFileError as error:
        found = error
    assert isinstance(found, Contents | BadFileError)


def test_a_configuration_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    text = '{"class_name": "a", "config": ' * 30_000 + "1" + "}" * 30_000
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(BadFileError, match="nests"):
        files.read(tmp_path / "m.json")


ODD = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    [],
    {},
    "x" * 300,
    [[]],
    [None],
    [[["a"]]],
    {"layers": []},
    [1, 2, 3],
]
ODD += [
    {"class_name": 5, "config": []},
    {"class_name": "Dense", "config": {}},
    "Sequential",
    {"shapes_dict": {"a": [1]}},
]
ODD += [
    {"class_name": "__keras_tensor__", "config": {"shape": [1, None, "a"], "keras_history": [["a"], {}, 0]}}
]


def test_configurations_with_anything_anywhere_give_one_error_or_an_account(tmp_path: Path) -> None:
    chance = random.Random(3)
    given = keras.Input((6,))
    x = keras.layers.Bidirectional(keras.layers.LSTM(2))(keras.layers.Embedding(9, 4)(given))
    text = keras.Model(given, keras.layers.Dense(1)(keras.layers.Dropout(0.1)(x) + 1)).to_json()
    for _ in range(300):
        said = json.loads(text)
        for _ in range(chance.randint(1, 4)):
            holder, key = chance.choice(list(places(said)))
            holder[key] = copy.deepcopy(chance.choice(ODD))
        survives(files.read, json.dumps(said).encode(), tmp_path, "m.json")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document where something stands."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)
