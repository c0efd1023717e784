"""Weights in safetensors: what is saved is read again, by others, too, with the account in the header."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import tally
from tally.cli.main import main
from tally.core.errors import SavingError
from tally.readers import read

L = tally.layers


def make(seed: int = 0, units: int = 3) -> Any:
    tally.utils.set_random_seed(seed)
    inputs = tally.Input((6, 8))
    x = L.MultiHeadAttention(2, 4)(inputs, inputs)
    x = L.Dropout(0.1)(L.BatchNormalization()(x))
    x = L.Dense(units, dtype="bfloat16", name="half")(x)
    return tally.Model(inputs, L.LSTM(2)(x), name="net")


def trained(seed: int = 0) -> Any:
    model = make(seed)
    model.compile("adam", "mse")
    model.fit(np.ones((2, 6, 8), "float32"), np.ones((2, 2), "float32"), verbose=0)
    return model


def assert_same(one: Any, other: Any) -> None:
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("size", [None, 400])
def test_what_is_saved_is_loaded(tmp_path: Path, size: int | None) -> None:
    model, other = make(0), make(1)
    model.save_weights(tmp_path / "m.safetensors", max_shard_size=size)
    other.load_weights(tmp_path / "m.safetensors")
    assert_same(model, other)


def test_other_programs_read_the_paths_of_the_account(tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    wanted = list(model.account().counted)
    assert {entry.path: entry.shape for entry in wanted} == {
        name: value.shape for name, value in found.items()
    }
    np.testing.assert_array_equal(found["half/kernel"], model.get_layer("half").kernel.numpy())


@pytest.mark.parametrize("options", [{}, {"include_optimizer": True}, {"max_shard_size": "1KB"}])
def test_the_file_gives_the_account_of_the_live_model(tmp_path: Path, options: dict[str, Any]) -> None:
    model = trained()
    model.save_weights(tmp_path / "m.safetensors", **options)
    (file,) = tmp_path.glob("m.safetensors*")
    assert read(file) == model.account()


@pytest.mark.parametrize("command", ["summary", "explain"])
def test_the_commands_show_what_the_model_shows(tmp_path: Path, capsys: Any, command: str) -> None:
    model = make()
    model.save_weights(tmp_path / "m.safetensors")
    (tmp_path / "m.json").write_text(model.account().to_json())
    shown = []
    for name in ("m.safetensors", "m.json"):
        assert main([command, str(tmp_path / name)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "MultiHeadAttention" in shown[0]


def rewrite(path: Path, change: Any) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    ledger = json.loads(header["__metadata__"]["tally.ledger"])
    change(ledger)
    header["__metadata__"]["tally.ledger"] = json.dumps(ledger)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def entry_of(ledger: dict[str, Any], path: str) -> dict[str, Any]:
    return next(entry for entry in ledger["entries"] if entry["path"] == path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda led: entry_of(led, "half/kernel").update(shape=[8, 4]),
            "'half/kernel' is bfloat16(8, 4), and it is",
        ),
        (lambda led: entry_of(led, "half/kernel").update(dtype="float32"), "'half/kernel' is float32"),
        (lambda led: led["entries"].remove(entry_of(led, "half/bias")), "doesn't name 'half/bias'"),
        (lambda led: entry_of(led, "half/bias").update(path="half/other"), "doesn't name 'half/bias'"),
        (lambda led: entry_of(led, "half/bias").update(stored=1), "stored elsewhere or otherwise"),
        (
            lambda led: entry_of(led, "half/bias").update(shared_with="half/kernel"),
            "stored elsewhere or otherwise",
        ),
        (
            lambda led: led["entries"].append({**entry_of(led, "half/bias"), "path": "half/more"}),
            "names 'half/more', which the file doesn't hold",
        ),
        (
            lambda led: led["entries"].append(
                {**entry_of(led, "half/bias"), "path": "half/more", "shared_with": "half/kernel"}
            ),
            "'half/more' is 'half/kernel', which is another array",
        ),
        (lambda led: led.update(schema_version=9), "schema version 9"),
    ],
)
def test_an_account_that_the_arrays_contradict_is_not_believed(
    tmp_path: Path, change: Any, reason: str
) -> None:
    path = tmp_path / "m.safetensors"
    make().save_weights(path)
    rewrite(path, change)
    found = read(path)
    assert found.total == make().count_params()
    assert any("is not believed" in note and reason in note for note in found.owners[0].notes)


def test_weights_that_are_tied_are_stored_once(tmp_path: Path) -> None:
    def tied(seed: int) -> Any:
        tally.utils.set_random_seed(seed)
        model = tally.Sequential([tally.Input((4,)), L.Dense(4, name="a"), L.Dense(4, name="b")])
        model.layers[1].kernel = model.layers[0].kernel
        return model

    model, other = tied(0), tied(1)
    model.save_weights(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert sorted(file.keys()) == ["a/bias", "a/kernel", "b/bias"]
    assert read(tmp_path / "m.safetensors") == model.account()
    other.load_weights(tmp_path / "m.safetensors")
    assert_same(model, other)
    assert other.layers[1].kernel is other.layers[0].kernel


def test_blocks_that_repeat_are_stored_one_by_one(tmp_path: Path) -> None:
    def row(seed: int) -> Any:
        tally.utils.set_random_seed(seed)
        inner = tally.Sequential([L.Repeat(L.Dense(3), 2), L.Dense(3)])
        return tally.Sequential([tally.Input((3,)), L.Repeat(inner, 3, frozen=[0], name="blocks")])

    model, other = row(0), row(1)
    model.save_weights(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        third = file.get_tensor("blocks/block_2/repeat/block_1/kernel")
    np.testing.assert_array_equal(third, model.get_layer("blocks").get_block_weights(2)[0][1])
    other.load_weights(tmp_path / "m.safetensors")
    assert_same(model, other)
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(model(x), other(x))


@pytest.mark.parametrize(
    "dtype",
    [
        "bfloat16",
        "float16",
        "float32",
        "float8_e4m3fn",
        "float8_e5m2",
        "int8",
        "int4",
        "uint4",
        "int32",
        "bool",
        "complex64",
    ],
)
def test_each_type_comes_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    class Holder(L.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight((2, 5), "zeros", dtype=dtype, trainable=False, name="w")
            self.none = self.add_weight((0, 3), "zeros", dtype=dtype, trainable=False, name="none")
            self.one = self.add_weight((), "zeros", dtype=dtype, trainable=False, name="one")

        def call(self, x: Any) -> Any:
            return x

    def build() -> Any:
        model = tally.Sequential([tally.Input((4,)), Holder(name="h")])
        model.build((None, 4))
        return model

    model, other = build(), build()
    values = jnp.asarray(np.arange(10).reshape(2, 5) % 8, dtype)
    model.layers[0].w.assign(values)
    model.save_weights(tmp_path / "m.safetensors")
    other.load_weights(tmp_path / "m.safetensors")
    found = other.layers[0].w.numpy()
    assert found.dtype == values.dtype
    assert found.tobytes() == np.asarray(values).tobytes()
    assert read(tmp_path / "m.safetensors") == model.account()


def test_shards_have_the_layout_of_the_hub(tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "m.safetensors", max_shard_size=400)
    index = json.loads((tmp_path / "m.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert names == [f"m-{i:05}-of-{len(names):05}.safetensors" for i in range(1, len(names) + 1)]
    assert index["metadata"]["total_size"] == model.account().nbytes
    for name in names:
        with safe_open(tmp_path / name, "numpy") as file:
            held = list(file.keys())
            assert {index["weight_map"][key] for key in held} == {name}
            assert len(held) == 1 or sum(file.get_tensor(key).nbytes for key in held) <= 400


def test_one_array_at_a_time_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    from tally.saving import arrays

    model = make()
    model.save_weights(tmp_path / "m.safetensors", max_shard_size=400)
    events: list[str] = []
    old_read, old_put = arrays.read_array, arrays.put
    monkeypatch.setattr(
        "tally.saving.safetensors.read_array", lambda t: (events.append("read"), old_read(t))[1]
    )
    monkeypatch.setattr(arrays, "put", lambda v, x: (events.append("put"), old_put(v, x))[1])
    make(1).load_weights(tmp_path / "m.safetensors")
    assert events == ["read", "put"] * len(model.weights)


def test_saving_anew_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "m.safetensors", max_shard_size=400)
    model.save_weights(tmp_path / "m.safetensors", max_shard_size=700)
    index = json.loads((tmp_path / "m.safetensors.index.json").read_text())
    names = {*index["weight_map"].values(), "m.safetensors.index.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    (tmp_path / "m-other.safetensors").write_bytes(b"")
    model.save_weights(tmp_path / "m.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "m-other.safetensors"}


def test_a_save_that_fails_leaves_all_old_files(tmp_path: Path, monkeypatch: Any) -> None:
    model, other = make(0), make(1)
    path = tmp_path / "m.safetensors"
    model.save_weights(path, max_shard_size=400)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    calls: list[Any] = []

    def fail(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tally.saving.safetensors._write_values", fail)
    with pytest.raises(SavingError, match="could not be written"):
        other.save_weights(path, max_shard_size=400)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_shards_of_two_saves_are_not_mixed(tmp_path: Path) -> None:
    model, other = make(0), make(1)
    path = tmp_path / "m.safetensors"
    model.save_weights(path, max_shard_size=400)
    old = next(tmp_path.glob("*-00002-of-*")).read_bytes()
    other.save_weights(path, max_shard_size=400)
    next(tmp_path.glob("*-00002-of-*")).write_bytes(old)
    before = model.get_weights()
    with pytest.raises(SavingError, match="was not written together with m"):
        model.load_weights(path)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("size", [None, 400])
def test_a_file_is_only_replaced_where_that_is_wanted(tmp_path: Path, size: int | None) -> None:
    model = make()
    for first in (None, 400):
        path = tmp_path / f"m{first}.safetensors"
        model.save_weights(path, max_shard_size=first)
        with pytest.raises(SavingError, match="already"):
            model.save_weights(path, overwrite=False, max_shard_size=size)


def test_the_optimizer_goes_on_where_it_stood(tmp_path: Path) -> None:
    model, other = trained(0), make(1)
    other.compile("adam", "mse")
    model.save_weights(tmp_path / "m.safetensors", include_optimizer=True)
    other.load_weights(tmp_path / "m.safetensors")
    assert int(other.optimizer.iterations.value) == 1
    for one, two in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_another_optimizer_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    model, other = trained(0), make(1)
    other.compile("sgd", "mse")
    model.save_weights(tmp_path / "m.safetensors", include_optimizer=True)
    before = other.get_weights()
    with pytest.raises(
        SavingError,
        match=r"The optimizer's state in .* doesn't fit 'net': it has \d+ arrays, the model's has 2",
    ):
        other.load_weights(tmp_path / "m.safetensors")
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    uncompiled = make(2)
    uncompiled.load_weights(tmp_path / "m.safetensors")
    assert_same(model, uncompiled)


@pytest.mark.parametrize("size", ["5 apples", "-1", 0, "GB"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: Any) -> None:
    with pytest.raises(SavingError, match="max_shard_size can't be"):
        make().save_weights(tmp_path / "m.safetensors", max_shard_size=size)


def test_options_of_safetensors_are_no_options_of_hdf5(tmp_path: Path) -> None:
    with pytest.raises(SavingError, match="has no max_shard_size"):
        make().save_weights(tmp_path / "m.weights.h5", max_shard_size=10)


def test_a_layer_alone_has_no_account(tmp_path: Path) -> None:
    layer = L.Dense(2)
    layer.build((None, 2))
    with pytest.raises(SavingError, match=r"Dense 'dense.*' is no model"):
        tally.saving.save_weights(layer, tmp_path / "m.safetensors")


def test_an_unbuilt_model_has_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(SavingError, match="has no weights to save"):
        tally.Sequential([L.Dense(2)]).save_weights(tmp_path / "m.safetensors")


def test_a_file_cut_off_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    before = model.get_weights()
    for keep in (3, 100, len(data) - 1):
        (tmp_path / "m.safetensors").write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"m\.safetensors"):
            model.load_weights(tmp_path / "m.safetensors")
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_loaded_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model, other = make(0), make(1)
    model.save_weights(path)
    other.load_weights(path)
    with path.open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\xff" * 64)
    assert_same(model, other)
