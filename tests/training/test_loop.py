"""What surrounds the steps of fit: callbacks at work, and what a model's own class may do differently."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tally
from tally import callbacks
from tally.core.errors import ArgumentError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")


def small(library: Any = tally, **compiling: Any) -> Any:
    model = library.Sequential([library.Input((3,)), library.layers.Dense(4), library.layers.Dense(1)])
    model.compile(**{"optimizer": library.optimizers.SGD(0.1), "loss": "mse"} | compiling)
    return model


def recorder(library: Any, calls: list[Any]) -> Any:
    """A callback that notes each hook, its number and the names in its logs."""
    hooks = [
        name for name in dir(library.callbacks.Callback) if name.startswith("on_") and name != "on_interrupt"
    ]

    def note(hook: str) -> Any:
        def run(self: Any, *args: Any, **kwargs: Any) -> None:
            logs = kwargs.get("logs", args[-1] if args else None)
            calls.append((hook, args[0] if len(args) > 1 or kwargs else None, sorted(logs or {})))

        return run

    kept = {hook: note(hook) for hook in hooks if hook not in ("on_batch_begin", "on_batch_end")}
    return type("Recorder", (library.callbacks.Callback,), kept)()


@pytest.mark.parametrize("steps", [1, 2])
def test_callbacks_are_called_as_by_keras(steps: int) -> None:
    told: list[list[Any]] = []
    for library in (tally, keras):
        calls: list[Any] = []
        model = small(library, metrics=["mae"], steps_per_execution=steps)
        options: dict[str, Any] = {"verbose": 0, "callbacks": [recorder(library, calls)]}
        model.fit(X, Y, epochs=2, batch_size=6, validation_data=(X[:4], Y[:4]), **options)
        if steps == 1:
            model.evaluate(X, Y, **options)
            model.predict(X, **options)
        told.append(
            [(hook, number, names) for hook, number, names in calls if not (steps > 1 and "test_b" in hook)]
        )
    assert told[0] == told[1]


def test_early_stopping_restores_the_best_weights() -> None:
    model = small()
    seen: list[Any] = []
    stop = callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)

    def spoil(epoch: int, logs: Any) -> None:
        seen.append(model.get_weights())
        if epoch == 1:
            model.optimizer.learning_rate = -5.0

    history = model.fit(
        X, Y, epochs=20, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=spoil), stop]
    )
    assert len(history.epoch) < 20
    for kept, best in zip(model.get_weights(), seen[stop.best_epoch], strict=True):
        np.testing.assert_array_equal(kept, best)


def test_checkpoints_logs_and_rates_are_written_along_the_way(tmp_path: Path) -> None:
    model = small(optimizer="adam", metrics=["mae"])
    rates = iter([0.1, 0.01, 0.001])
    watching = [
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", save_best_only=False),
        callbacks.ModelCheckpoint(tmp_path / "batch.weights.h5", save_weights_only=True, save_freq=2),
        callbacks.LearningRateScheduler(lambda epoch, rate: next(rates)),
        callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(X, Y, epochs=3, batch_size=12, verbose=0, callbacks=watching)
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.01, 0.001], rtol=1e-6)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,learning_rate,loss,mae")
    assert len(lines) == 4
    loaded = tally.models.load_model(tmp_path / "3.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert int(loaded.optimizer.iterations) == 6
    assert (tmp_path / "batch.weights.h5").exists()


def test_reduce_lr_on_plateau_reaches_the_optimizer() -> None:
    model = small(optimizer=tally.optimizers.SGD(0.0))
    model.optimizer.learning_rate = 1e-12
    model.fit(
        X, Y, epochs=3, verbose=0, callbacks=[callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1)]
    )
    assert float(model.optimizer.learning_rate) < 1e-12


def test_backup_and_restore_goes_on_after_a_run_that_broke_off(tmp_path: Path) -> None:
    def run(model: Any, *others: Any) -> Any:
        backup = callbacks.BackupAndRestore(tmp_path / "backup")
        return model.fit(X, Y, epochs=4, shuffle=False, verbose=0, callbacks=[backup, *others])

    def break_off(epoch: int, logs: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    model, whole = small(optimizer="adam"), small(optimizer="adam")
    whole.set_weights(model.get_weights())
    with pytest.raises(KeyboardInterrupt):
        run(model, callbacks.LambdaCallback(on_epoch_begin=break_off))
    again = small(optimizer="adam")
    assert run(again).epoch == [0, 1, 2, 3]
    whole.fit(X, Y, epochs=4, shuffle=False, verbose=0)
    for mine, peers in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(mine, peers, rtol=1e-6)


def test_progress_is_shown_with_the_measures_of_the_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    model = small(metrics=["mae"])
    history = model.fit(X, Y, epochs=2, batch_size=8, validation_split=0.5)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "Epoch 1/2"
    assert "2/2 - " in shown
    assert f"val_loss: {history.history['val_loss'][-1]:.4}"[:12] in shown


def test_an_overridden_compute_loss_is_what_is_minimised() -> None:
    class Own(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = tally.layers.Dense(1)
            self.tracker = tally.metrics.Mean(name="own")

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
            loss = tally.ops.mean((y - y_pred) ** 2) + tally.ops.sum(x) * 0
            self.tracker.update_state(loss)
            return loss

    model = Own()
    model.compile("sgd")
    first = model.fit(X, Y, epochs=3, verbose=0).history
    assert set(first) == {"loss", "own"}
    np.testing.assert_allclose(first["own"], first["loss"], rtol=0.2)
    assert first["loss"][-1] < first["loss"][0]
    assert "own" in model.metrics_names


def test_an_overridden_compute_metrics_decides_the_logs() -> None:
    class Own(tally.Sequential):
        def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
            return super().compute_metrics(x, y, y_pred, sample_weight) | {"largest": tally.ops.max(y_pred)}

    model = Own([tally.Input((3,)), tally.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    assert list(model.fit(X, Y, verbose=0).history) == ["largest", "loss", "mae"]
    measured = model.evaluate(X, Y, verbose=0, return_dict=True, batch_size=24)
    assert measured["largest"] == pytest.approx(float(model.predict(X, verbose=0).max()), rel=1e-5)


def test_added_losses_alone_can_train_a_model() -> None:
    class Shrinking(tally.layers.Layer):
        def call(self, inputs: Any) -> Any:
            self.add_loss(tally.ops.mean(inputs**2))
            return inputs

    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(2), Shrinking()])
    model.compile(tally.optimizers.SGD(0.1))
    losses = model.fit(X, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.evaluate(X, verbose=0) == pytest.approx(
        float(np.mean(model.predict(X, verbose=0) ** 2)), rel=1e-4
    )


def test_metrics_that_layers_hold_are_logged_and_reset() -> None:
    class Watching(tally.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.size = tally.metrics.Mean(name="size")

        def call(self, inputs: Any) -> Any:
            self.size.update_state(abs(inputs))
            return inputs

    model = tally.Sequential([tally.Input((3,)), Watching(), tally.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=2, batch_size=8, verbose=0).history
    np.testing.assert_allclose(history["size"], [abs(X).mean()] * 2, rtol=1e-5)


def test_validation_happens_in_the_epochs_that_are_named() -> None:
    model = small()
    history = model.fit(X, Y, epochs=3, verbose=0, validation_data=(X, Y), validation_freq=[1, 3])
    assert len(history.history["val_loss"]) == 2
    with pytest.raises(ArgumentError, match="validation_freq is 'often'"):
        model.fit(X, Y, verbose=0, validation_data=(X, Y), validation_freq="often")


def test_stop_flags_end_evaluate_and_predict() -> None:
    model = small()

    def stop(batch: int, logs: Any) -> None:
        model.stop_predicting = batch == 1

    made = model.predict(
        X, batch_size=4, verbose=0, callbacks=[callbacks.LambdaCallback(on_predict_batch_end=stop)]
    )
    assert made.shape == (8, 1)
