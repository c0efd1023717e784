"""Checkpoints in Orbax's form: all of a model comes back, on any mesh; what is missing or wrong is said."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tally
from tally.core.errors import SavingError
from tally.formats.errors import BadFileError
from tally.readers import read
from tally.saving import orbax

pytest.importorskip("orbax.checkpoint")
L = tally.layers


def make(seed: int = 0, units: int = 3) -> Any:
    tally.utils.set_random_seed(seed)
    model = tally.Sequential(
        [
            tally.Input((4,)),
            L.Dense(units),
            L.Dropout(0.5),
            L.Repeat(L.Dense(units), 2),
            L.BatchNormalization(),
            L.Dense(2, dtype="bfloat16"),
        ],
        name="net",
    )
    model.compile("adam", "mse")
    return model


DATA = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.ones((8, 2), "float32")


def fit(model: Any, epochs: int, first: int = 0, **options: Any) -> Any:
    return model.fit(*DATA, batch_size=4, epochs=epochs, initial_epoch=first, verbose=0, **options)


def assert_same(one: Any, other: Any) -> None:
    for left, right in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())
    for left, right in zip(one.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


@pytest.mark.parametrize("background", [True, False])
def test_all_of_a_model_comes_back(tmp_path: Path, background: bool) -> None:
    model, other = make(0), make(1)
    fit(model, 1)
    with model.checkpoints(tmp_path / "run", save_on_background=background) as checkpoints:
        checkpoints.save(model, 7, epoch=1, metrics={"loss": 0.5})
        found = checkpoints.restore(other)
    assert (found.step, found.epoch, dict(found.metrics)) == (7, 1, {"loss": 0.5})
    assert_same(model, other)


def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = make(0)
    fit(whole, 3)
    cut = make(0)
    fit(cut, 2, callbacks=[tally.callbacks.OrbaxCheckpoint(tmp_path / "run")])
    later = make(1)
    found = later.checkpoints(tmp_path / "run").restore(later)
    assert found.epoch == 2
    fit(later, 3, first=found.epoch)
    assert_same(whole, later)


def test_the_oldest_are_removed(tmp_path: Path) -> None:
    model = make()
    with tally.saving.CheckpointManager(tmp_path / "run", max_to_keep=2) as checkpoints:
        assert checkpoints.latest_step is None
        for step in (1, 2, 3):
            checkpoints.save(model, step)
        checkpoints.wait()
        assert (checkpoints.steps, checkpoints.latest_step) == ([2, 3], 3)


def test_a_step_that_is_there_is_replaced_and_an_earlier_one_saved(tmp_path: Path) -> None:
    model, other = make(0), make(1)
    with tally.saving.CheckpointManager(tmp_path / "run") as checkpoints:
        checkpoints.save(other, 5)
        checkpoints.save(model, 5)
        checkpoints.save(model, 3)
        checkpoints.restore(other, 5)
        assert checkpoints.steps == [3, 5]
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_folder_gives_the_account_of_the_live_model(tmp_path: Path) -> None:
    model = make()
    fit(model, 1)
    with model.checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(model, 1)
    assert read(tmp_path / "run") == model.account()
    assert read(tmp_path / "run" / "1") == model.account()


def test_weights_alone_leave_the_rest_as_it_is(tmp_path: Path) -> None:
    model, other = make(0), make(1)
    fit(model, 1)
    with model.checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(model, 1, save_weights_only=True)
        checkpoints.restore(other)
    assert not other.optimizer.built
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    third = make(2)
    third.load_weights(tmp_path / "run")
    for one, two in zip(model.get_weights(), third.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_that_does_not_fit_names_all_and_changes_nothing(tmp_path: Path) -> None:
    with tally.saving.CheckpointManager(tmp_path / "run") as checkpoints:
        checkpoints.save(make(units=3), 1)
        other = make(units=5)
        before = other.get_weights()
        with pytest.raises(SavingError, match=r"dense/kernel is \(4, 5\), the file has \(4, 3\)"):
            checkpoints.restore(other)
        with pytest.raises(SavingError, match=r"no checkpoint of step 9 .*\n  do: the steps there are 1"):
            checkpoints.restore(other, 9)
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    model, other = make(0), make(1)
    fit(model, 1)
    other.compile("sgd", "mse")
    with tally.saving.CheckpointManager(tmp_path / "run") as checkpoints:
        checkpoints.save(model, 1)
        before = other.get_weights()
        with pytest.raises(SavingError, match=r"optimizer's state in .* doesn't fit 'net'"):
            checkpoints.restore(other)
        for one, two in zip(before, other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        with pytest.warns(UserWarning, match="Left as they were or not used: ") as caught:
            found = checkpoints.restore(other, skip_mismatch=True)
    assert [Path(one.filename).name for one in caught] == ["test_orbax.py"]
    assert {one.why for one in found.report.left} == {"the model's optimizer has another state"}
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["run", "m.safetensors"])
def test_an_optimizer_whose_state_does_not_fit_stays_unbuilt(tmp_path: Path, name: str, scaled: bool) -> None:
    model, other = make(0), make(1)
    fit(model, 1)
    if name == "run":
        with model.checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(model, 1)
    else:
        model.save_weights(tmp_path / name, include_optimizer=True)
    sgd: Any = tally.optimizers.SGD()
    other.compile(tally.optimizers.LossScaleOptimizer(sgd) if scaled else sgd, "mse")
    before = len(other.optimizer.variables), other.get_weights()
    with pytest.raises(SavingError, match=r"optimizer's state in .* doesn't fit"):
        other.load_weights(tmp_path / name)
    assert (sgd.built, other.optimizer.built, len(other.optimizer.variables)) == (False, False, before[0])
    for one, two in zip(before[1], other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    fit(other, 1)
    assert sgd.built


def test_a_program_ends_when_its_checkpoints_are_complete(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_SHORT)
    done = subprocess.run(
        [sys.executable, "program.py"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kernel, bias = np.load(tmp_path / "kernel.npy"), np.ones(300, "float32")
    for folder in ("one", "two"):
        model: Any = tally.Sequential([tally.Input((200,)), L.Dense(300)])
        assert model.checkpoints(tmp_path / folder).restore(model).step == 1
        np.testing.assert_array_equal(model.get_weights()[0].view(np.uint8), kernel.view(np.uint8))
        np.testing.assert_array_equal(model.get_weights()[1], bias)


_SHORT = """
import numpy as np
import tally
model = tally.Sequential([tally.Input((200,)), tally.layers.Dense(300, bias_initializer="ones")])
np.save("kernel.npy", model.get_weights()[0])
model.checkpoints("one").save(model, 1)
model.checkpoints("two").save(model, 1)
"""


def test_without_a_hook_before_the_end_a_save_is_complete_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(orbax, "_at_exit", None)
    monkeypatch.delattr(threading, "_register_atexit")
    checkpoints = make().checkpoints(tmp_path / "run")
    checkpoints.save(make(), 1)
    assert not orbax._writing
    assert (tmp_path / "run" / "1" / "state").is_dir()
    checkpoints.close()


def test_what_goes_wrong_at_the_end_is_told_and_keeps_no_other_from_ending(monkeypatch: Any) -> None:
    ended: list[int] = []

    class Writer:
        def __init__(self, number: int) -> None:
            self.number = number

        def wait_until_finished(self) -> None:
            ended.append(self.number)
            raise OSError(f"no room for {self.number}")

    told: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: told.append(str(error)))
    monkeypatch.setattr(orbax, "_writing", {number: Writer(number) for number in (1, 2)})
    orbax._finish()
    assert sorted(ended) == [1, 2]
    assert sorted(told) == ["no room for 1", "no room for 2"]


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    model = make()
    with tally.saving.CheckpointManager(tmp_path / "run") as checkpoints:
        checkpoints.save(model, 1)
        checkpoints.wait()
        (tmp_path / "run" / "1" / "state" / "_METADATA").write_text("{")
        with pytest.raises(BadFileError):
            checkpoints.restore(model)


@pytest.mark.parametrize(("frequency", "steps"), [("epoch", [2, 3]), (3, [3, 6])])
def test_the_callback_saves_by_epoch_or_batch(tmp_path: Path, frequency: Any, steps: list[int]) -> None:
    model = make()
    keep = tally.callbacks.OrbaxCheckpoint(tmp_path / "run", save_freq=frequency, max_to_keep=2)
    fit(model, 3, callbacks=[keep])
    assert model.checkpoints(tmp_path / "run").steps == steps


def test_the_callback_keeps_the_best_alone(tmp_path: Path) -> None:
    model = make()
    keep = tally.callbacks.OrbaxCheckpoint(
        tmp_path / "run", "loss", save_best_only=True, initial_value_threshold=-1.0, max_to_keep=None
    )
    fit(model, 2, callbacks=[keep])
    assert model.checkpoints(tmp_path / "run").steps == []


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(SavingError, match=r"orbax-checkpoint, which isn't installed.*\n.*tally-nn\[orbax\]"):
        tally.saving.CheckpointManager(tmp_path)


_PROGRAM = """
import sys
import jax, numpy as np, tally
from jax.sharding import Mesh, NamedSharding, PartitionSpec
what, folder, devices = sys.argv[1], sys.argv[2], int(sys.argv[3])
assert len(jax.devices()) == devices
tally.utils.set_random_seed(int(what == "restore"))
model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(6), tally.layers.Dense(2)])
mesh = Mesh(jax.devices(), ("d",))
def spread(variable):
    split = "d" if variable.shape and variable.shape[-1] % devices == 0 else None
    return NamedSharding(mesh, PartitionSpec(*(None,) * (len(variable.shape) - 1), split))
if what == "save":
    model.materialize(shardings=spread)
    with model.checkpoints(folder) as checkpoints:
        checkpoints.save(model, 1)
else:
    model.checkpoints(folder).restore(model, shardings=spread)
    assert all(len(v.raw.sharding.device_set) == devices for v in model.weights)
    again = tally.Sequential([tally.Input((4,)), tally.layers.Dense(6), tally.layers.Dense(2)])
    again.materialize(shardings=spread)
    again.checkpoints(folder).restore(again)
    assert all(len(v.raw.sharding.device_set) == devices for v in again.weights)
print(repr([w.tolist() for w in model.get_weights()]))
"""


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_it_comes_back_on_another_mesh(tmp_path: Path, before: int, after: int) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    told = []
    for what, devices in (("save", before), ("restore", after)):
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), what, str(tmp_path / "run"), str(devices)],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        told.append(done.stdout)
    assert told[0] == told[1]
