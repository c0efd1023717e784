"""Callbacks that save the model while it trains."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from tally.callbacks.base import Callback, Logs, as_numbers
from tally.callbacks.monitoring import Monitor
from tally.core.errors import ArgumentError
from tally.writing import replaced, write_text


class _Every:
    """Counts batches across epochs and tells when another so many are done; `"epoch"` never tells."""

    def __init__(self, frequency: int | str, owner: str) -> None:
        if frequency != "epoch" and (isinstance(frequency, bool) or not isinstance(frequency, int)):
            raise ArgumentError(
                f"{owner} does not know save_freq={frequency!r}.", do="pass 'epoch' or a number of batches"
            )
        self.frequency = frequency
        self._last, self._waiting = -1, 0

    @property
    def state(self) -> list[int]:
        """What it has counted, for a run that goes on with it."""
        return [self._last, self._waiting]

    @state.setter
    def state(self, state: list[int]) -> None:
        self._last, self._waiting = map(int, state)

    def is_due(self, batch: int) -> bool:
        """Whether to act after this batch, the last of those that one compiled call handled."""
        if isinstance(self.frequency, str):
            return False
        self._waiting += batch - self._last if batch > self._last else batch + 1
        self._last = batch
        if self._waiting < self.frequency:
            return False
        self._waiting = 0
        return True


class _Counting:
    """What a callback shares that acts every so many batches: its count goes on with a run that was cut off."""

    _every: _Every

    @property
    def _counted(self) -> list[int]:
        return self._every.state

    @_counted.setter
    def _counted(self, state: list[int]) -> None:
        self._every.state = state


class ModelCheckpoint(_Counting, Monitor):
    """Saves the model, or its weights, after epochs or every so many batches.

    Args:
        filepath: Where to; `{epoch}`, `{batch}` and names from the logs are filled in, as in
            `"best-{epoch:02d}-{val_loss:.2f}.keras"`. A model's ends in `.keras`, that of weights in
            `.weights.h5`.
        monitor: Name of the value in the logs that says which epoch is best.
        verbose: 1 says what is saved.
        save_best_only: Whether to save only when the value has improved.
        save_weights_only: Whether to save the weights without the model.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or its name.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: What has to be beaten at first.

    A whole model also holds where the run stood. After `load_model`, `fit(..., initial_epoch=n)`, where n is how many
    epochs were complete, goes on to the same bits as if it had not been cut off (on a CPU); with weights alone the
    random numbers and the order of the data are others.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> best = tally.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True)
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[best])
        >>> tally.saving.load_model("best.keras").count_params()
        3

    Source: `keras.callbacks.ModelCheckpoint`.
    """

    takes_arrays = True
    kept = ("best", "_counted")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, best=initial_value_threshold)
        self.filepath = os.fspath(filepath)
        endings = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(endings):
            what = "weights" if save_weights_only else "a model"
            raise ArgumentError(
                f"ModelCheckpoint can't save {what} as '{self.filepath}'.",
                do=f"end the path in {' or '.join(endings)}",
            )
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        self.save_freq = save_freq
        self._every = _Every(save_freq, "ModelCheckpoint")
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember the epoch, for names of files saved within it."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Save when so many batches are done."""
        if self._every.is_due(batch):
            self._save(self._epoch, {"batch": batch + 1, **as_numbers(logs)})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save when that is done by epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, as_numbers(logs))

    def _save(self, epoch: int, logs: dict[str, Any]) -> None:
        path = self._name_file(epoch, logs)
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        if os.path.isdir(path):
            raise ArgumentError(
                f"ModelCheckpoint can't save to '{path}', which is a directory.", do="name a file"
            )
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved {path}")

    def _name_file(self, epoch: int, logs: dict[str, Any]) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as error:
            known = ", ".join(("epoch", *logs))
            raise ArgumentError(
                f"ModelCheckpoint can't fill in {{{error.args[0]}}} in '{self.filepath}'.",
                do=f"use one of {known}",
            ) from None

    def _is_best(self, epoch: int, logs: dict[str, Any]) -> bool:
        current = logs.get(self.monitor)
        if not isinstance(current, float):
            what = "is not in the logs" if current is None else "is not a single number"
            warnings.warn(
                f"ModelCheckpoint saves each time, since '{self.monitor}' {what} ({', '.join(logs)}).",
                stacklevel=3,
            )
            return True
        better = self.improves(current, self.best)
        if self.verbose:
            best = "nothing yet" if self.best is None else f"{self.best:.5f}"
            verb = "beats" if better else "does not beat"
            print(f"Epoch {epoch + 1}: {self.monitor} {current:.5f} {verb} {best}")
        if better:
            self.best = current
        return better


class BackupAndRestore(_Counting, Callback):
    """Keeps the state of training on disk, so that a run that was cut off goes on where it stopped.

    It goes on to the same bits, as if it had not been cut off (on a CPU): weights, optimizer, random numbers, the order
    of the data, metrics, history, and what other callbacks name in `kept`. Data that shuffle themselves must take
    their order from Python's, NumPy's or this library's random numbers, and an epoch that was begun begins with the
    batch after the backup.

    Args:
        backup_dir: Directory for the backup alone.
        save_freq: `"epoch"`, or a number of batches.
        double_checkpoint: Whether to keep the backup before the last, too, in case the last can't be read.
        delete_checkpoint: Whether to remove the backup when training is done.

    Source: `keras.callbacks.BackupAndRestore`.
    """

    takes_arrays = True
    comes_last = True
    kept = ("_counted",)

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: int | str = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        if not os.fspath(backup_dir):
            raise ArgumentError("BackupAndRestore was given an empty backup_dir.", do="name a directory")
        self.backup_dir = Path(backup_dir)
        self.save_freq, self.double_checkpoint, self.delete_checkpoint = (
            save_freq,
            double_checkpoint,
            delete_checkpoint,
        )
        self._every = _Every(save_freq, "BackupAndRestore")
        self._metadata = self.backup_dir / "training_metadata.json"
        self._earlier = self.backup_dir / "training_metadata.json.bkp"
        self._epoch = 0

    @property
    def _run(self) -> Any:
        return getattr(getattr(self.model, "_trainer", None), "run", None)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Go on from the backup, if there is one: `fit` starts at `model._initial_epoch`."""
        self.model._initial_epoch = 0
        if not self._metadata.exists():
            return
        try:
            self._restore(self._metadata)
        except (OSError, ValueError, LookupError, TypeError):
            if not self._earlier.exists():
                raise
            self._restore(self._earlier)

    def _restore(self, metadata: Path) -> None:
        """Go on from one backup; what its file names is looked for nowhere but beside it."""
        known = json.loads(metadata.read_text(encoding="utf-8"))
        number = int(known["number"])
        if not self.model.built:
            raise ArgumentError(
                "BackupAndRestore can't restore the weights of a model that is not built.",
                do="start the model with an Input, or call model.build(input_shape) before fit",
            )
        stands = self._part(number, "run.bin").read_bytes() if self._run is not None else b""
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(str(self._part(number, "weights.h5")))
        self.model._initial_epoch = self._epoch = int(known["epoch"])
        if self._run is not None:
            self._run.load(stands, self._part(number, "run.bin"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Back up, when that is done by epoch."""
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._back_up(0)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Back up when so many batches are done."""
        if self._every.is_due(batch):
            self._back_up(batch + 1)

    def _part(self, number: int, what: str) -> Path:
        return self.backup_dir / f"{number}.{what}"

    def _back_up(self, batch: int) -> None:
        """Write all parts under a new number; the file that names the number is what makes them the backup."""
        run = self._run
        stands = run.dump() if run is not None else b""
        if stands is None:  # a loss was not finite, so the run is about to end
            return
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        before = self._metadata.read_text(encoding="utf-8") if self._metadata.exists() else None
        number = max(self._numbers(), default=0) + 1
        self.model.save_weights(str(self._part(number, "weights.h5")), overwrite=True)
        with replaced(self._part(number, "run.bin")) as part:
            part.write_bytes(stands)
        kept = [number]
        if self.double_checkpoint and before is not None:
            write_text(self._earlier, before)
            with suppress(ValueError, LookupError, TypeError):  # one that was spoilt is no backup any more
                kept.append(int(json.loads(before)["number"]))
        write_text(self._metadata, json.dumps({"epoch": self._epoch, "batch": batch, "number": number}))
        self._delete_parts(set(self._numbers()) - set(kept))

    def _numbers(self) -> dict[int, list[Path]]:
        """The parts that lie in the directory, by number."""
        found: dict[int, list[Path]] = {}
        for path in self.backup_dir.iterdir():
            number, _, what = path.name.partition(".")
            if number.isdecimal() and what in ("weights.h5", "run.bin"):
                found.setdefault(int(number), []).append(path)
        return found

    def _delete_parts(self, numbers: set[int]) -> None:
        for number, paths in self._numbers().items():
            for path in paths if number in numbers else ():
                path.unlink(missing_ok=True)

    def on_train_end(self, logs: Logs = None) -> None:
        """Remove the backup."""
        self.model._initial_epoch = 0
        if self.delete_checkpoint and self.backup_dir.is_dir():
            for path in (self._metadata, self._earlier):
                path.unlink(missing_ok=True)
            self._delete_parts(set(self._numbers()))
            with suppress(OSError):  # something of the user's lies there
                self.backup_dir.rmdir()
