"""Callbacks against those of Keras: both are driven with the same logs on models that only pretend."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally import callbacks
from tally.core.errors import ArgumentError, NonFiniteError


class Optimizer:
    built = True

    def __init__(self) -> None:
        self.learning_rate = 1.0


class PretendModel:
    """Counts its epochs in its weights, and remembers what was asked of it."""

    built = True
    metrics = ()

    def __init__(self) -> None:
        self.optimizer = Optimizer()
        self.stop_training = False
        self.weights = [np.zeros(1)]
        self.saved: list[str] = []

    def get_weights(self) -> list[np.ndarray]:
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = [weight.copy() for weight in weights]

    def save(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(str(path))
        Path(path).write_text(str(self.weights[0][0]))

    def save_weights(self, filepath: str, overwrite: bool = True) -> None:
        self.save(filepath)

    def load_weights(self, path: str) -> None:
        self.weights = [np.array([float(Path(path).read_text())])]


def run(
    callback: Any, epochs: list[dict[str, Any]], *, batches: int = 0, stop_after: int | None = None
) -> PretendModel:
    model = PretendModel()
    model.records = []  # type: ignore[attr-defined]
    callback.set_params({"epochs": len(epochs), "steps": batches, "verbose": 0})
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, values in enumerate(epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(batches):
            callback.on_train_batch_end(batch, dict(values))
        model.weights = [np.array([float(epoch)])]
        logs = dict(values)
        callback.on_epoch_end(epoch, logs)
        model.records.append((model.optimizer.learning_rate, sorted(logs)))  # type: ignore[attr-defined]
        if model.stop_training or epoch == stop_after:
            break
    if stop_after is None:
        callback.on_train_end()
    return model


eighths = st.integers(0, 12).map(lambda n: n / 8)  # exact in float32, in which Keras compares
series = st.lists(eighths, min_size=1, max_size=12)
modes = st.sampled_from(["min", "max"])


def by_loss(values: list[float]) -> list[dict[str, Any]]:
    return [{"val_loss": value} for value in values]


@given(
    series,
    modes,
    st.integers(0, 3),
    st.sampled_from([0, 0.25]),
    st.sampled_from([None, 0.5]),
    st.integers(0, 3),
    st.booleans(),
)
def test_early_stopping_stops_and_restores_as_keras_does(
    values: list[float],
    mode: str,
    patience: int,
    min_delta: float,
    baseline: float | None,
    start: int,
    restore: bool,
) -> None:
    options = {
        "mode": mode,
        "patience": patience,
        "min_delta": min_delta,
        "baseline": baseline,
        "start_from_epoch": start,
        "restore_best_weights": restore,
    }
    ours, theirs = callbacks.EarlyStopping(**options), keras.callbacks.EarlyStopping(**options)
    our_model, their_model = run(ours, by_loss(values)), run(theirs, by_loss(values))
    assert our_model.records == their_model.records
    assert our_model.weights == their_model.weights
    assert (ours.stopped_epoch, ours.best_epoch, ours.wait) == (
        theirs.stopped_epoch,
        theirs.best_epoch,
        theirs.wait,
    )


@given(
    series,
    modes,
    st.integers(0, 3),
    st.sampled_from([0, 0.25]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.25]),
)
def test_reduce_lr_on_plateau_lowers_the_learning_rate_as_keras_does(
    values: list[float], mode: str, patience: int, min_delta: float, cooldown: int, min_lr: float
) -> None:
    options = {
        "mode": mode,
        "patience": patience,
        "min_delta": min_delta,
        "cooldown": cooldown,
        "min_lr": min_lr,
        "factor": 0.5,
    }
    ours = run(callbacks.ReduceLROnPlateau(**options), by_loss(values))
    theirs = run(keras.callbacks.ReduceLROnPlateau(**options), by_loss(values))
    assert ours.records == theirs.records


@pytest.mark.parametrize("only_best", [False, True])
@pytest.mark.parametrize(("frequency", "threshold"), [("epoch", None), ("epoch", 0.6), (2, None)])
def test_model_checkpoint_saves_the_files_keras_saves(
    tmp_path: Path, only_best: bool, frequency: int | str, threshold: float | None
) -> None:
    logs = [{"val_loss": value, "loss": 2 * value} for value in (0.7, 0.9, 0.5, 0.625)]
    saved = []
    for library in (callbacks, keras.callbacks):
        batch = "" if frequency == "epoch" else "-{batch:02d}"
        path = tmp_path / library.__name__ / f"model-{{epoch:02d}}{batch}-{{loss:.2f}}.keras"
        checkpoint = library.ModelCheckpoint(
            path, save_best_only=only_best, save_freq=frequency, mode="min", initial_value_threshold=threshold
        )
        saved.append([os.path.basename(name) for name in run(checkpoint, logs, batches=3).saved])
    assert saved[0] == saved[1]


def test_model_checkpoint_saves_weights_alone(tmp_path: Path) -> None:
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    run(checkpoint, by_loss([1.0, 2.0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.weights.h5", "2.weights.h5"]


def test_model_checkpoint_says_which_names_it_can_fill_in(tmp_path: Path) -> None:
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "{accuracy}.keras")
    with pytest.raises(
        ArgumentError, match=r"can't fill in \{accuracy\}.*\n  do: use one of epoch, val_loss"
    ):
        run(checkpoint, by_loss([1.0]))


@pytest.mark.parametrize(("path", "weights_only"), [("model.h5py", False), ("model.keras", True)])
def test_model_checkpoint_refuses_a_path_it_could_not_save_to(path: str, weights_only: bool) -> None:
    with pytest.raises(ArgumentError, match="do: end the path in"):
        callbacks.ModelCheckpoint(path, save_weights_only=weights_only)


@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate * 0.5, lambda epoch: 1.0 / (epoch + 1)])
def test_learning_rate_scheduler_sets_and_logs_the_rate_as_keras_does(schedule: Any) -> None:
    logs = by_loss([1.0, 1.0, 1.0])
    ours = run(callbacks.LearningRateScheduler(schedule), logs)
    assert ours.records == run(keras.callbacks.LearningRateScheduler(schedule), logs).records


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize(
    "logs",
    [
        [{"loss": 0.5, "accuracy": 0.25}, {"loss": 0.25, "accuracy": 1.0, "val_loss": 3.0}],
        [{"loss": 0.5, "val_loss": [1.0, 2.0]}, {"loss": 0.25}],
    ],
)
def test_csv_logger_writes_the_file_keras_writes(
    tmp_path: Path, logs: list[dict[str, Any]], append: bool
) -> None:
    texts = []
    for library in (callbacks, keras.callbacks):
        path = tmp_path / f"{library.__name__}.csv"
        for _ in range(2):
            run(library.CSVLogger(str(path), separator=";", append=append), logs)
        texts.append(path.read_bytes().replace(b"\r\n", b"\n"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_terminate_on_nan_stops_training(loss: float, capsys: pytest.CaptureFixture[str]) -> None:
    model = run(callbacks.TerminateOnNaN(), [{"loss": loss}], batches=1)
    assert model.stop_training
    assert f"the loss is {loss}" in capsys.readouterr().out


def test_terminate_on_nan_raises_when_asked_to() -> None:
    with pytest.raises(NonFiniteError, match="became nan at batch 0"):
        run(callbacks.TerminateOnNaN(raise_error=True), [{"loss": float("nan")}], batches=1)


def test_backup_and_restore_goes_on_where_a_run_was_cut_off(tmp_path: Path) -> None:
    backup = callbacks.BackupAndRestore(tmp_path / "backup")
    run(backup, by_loss([1.0, 2.0, 3.0]), stop_after=1)
    model = PretendModel()
    backup.set_model(model)
    backup.on_train_begin()
    assert (model._initial_epoch, model.weights) == (2, [np.array([1.0])])  # type: ignore[attr-defined]


def test_backup_and_restore_falls_back_to_the_backup_before_a_broken_one(tmp_path: Path) -> None:
    backup = callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)
    run(backup, by_loss([1.0, 2.0, 3.0]), stop_after=1)
    (tmp_path / "2.weights.h5").write_text("broken")
    model = PretendModel()
    backup.set_model(model)
    backup.on_train_begin()
    assert (model._initial_epoch, model.weights) == (1, [np.array([0.0])])  # type: ignore[attr-defined]


def test_backup_and_restore_leaves_only_files_of_others_behind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run(callbacks.BackupAndRestore(tmp_path, save_freq=1, double_checkpoint=True), by_loss([1.0]), batches=2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("name", "upwards"), [("val_accuracy", True), ("my_f1_score", True), ("val_mse", False)]
)
def test_the_direction_follows_from_the_name(name: str, upwards: bool) -> None:
    stopping = callbacks.EarlyStopping(monitor=name)
    stopping.set_model(PretendModel())
    assert stopping.improves(1.0, 0.5) is upwards


def test_the_direction_of_a_metric_comes_before_its_name() -> None:
    class Metric:
        name, _direction = "accuracy_of_lies", "down"

    model = PretendModel()
    model.metrics = (Metric(),)  # type: ignore[assignment]
    stopping = callbacks.EarlyStopping(monitor="val_accuracy_of_lies")
    stopping.set_model(model)
    assert stopping.improves(0.1, 0.5)


def test_an_unknown_direction_is_asked_for() -> None:
    stopping = callbacks.EarlyStopping(monitor="charm")
    stopping.set_model(PretendModel())
    with pytest.raises(ArgumentError, match="do: pass mode='max' or mode='min'"):
        stopping.improves(1.0, 0.5)


def test_a_value_that_is_not_logged_is_warned_of_with_those_that_are() -> None:
    with pytest.warns(UserWarning, match=r"'val_loss' is not in the logs for EarlyStopping, only: loss"):
        run(callbacks.EarlyStopping(), [{"loss": 1.0}])


def test_lambda_callback_refuses_a_hook_that_does_not_exist() -> None:
    with pytest.raises(ArgumentError, match="no hook 'on_epoch_stop'"):
        callbacks.LambdaCallback(on_epoch_stop=print)
