"""The callback that saves checkpoints in Orbax's form while training goes on."""

import os
import warnings
from typing import Any

from tally.callbacks.base import Logs, as_numbers
from tally.callbacks.monitoring import Monitor
from tally.callbacks.saving import _Every


class OrbaxCheckpoint(Monitor):
    """Saves checkpoints of the model in a folder, in Orbax's form, in the background and on any mesh of devices.

    The number of a checkpoint is that of the epochs done, or of the batches with a number as `save_freq`.
    `model.checkpoints(directory).restore(model)` sets a model to the newest and gives the epoch to go on with.

    Args:
        directory: The folder.
        monitor: Name of the value in the logs that says which epoch is best.
        verbose: 1 says what is saved.
        save_best_only: Whether to save only when the value has improved.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or its name.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: What has to be beaten at first.
        max_to_keep: How many checkpoints stay; None keeps all.
        save_on_background: Whether training goes on while a checkpoint is written.
        save_weights_only: Whether to leave out the optimizer and the states of random generators.

    Raises:
        SavingError: The package orbax-checkpoint isn't installed; at the start of training.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> keep = tally.callbacks.OrbaxCheckpoint("run", max_to_keep=2)
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[keep])
        >>> model.checkpoints("run").restore(model).epoch
        3

    Source: `keras.callbacks.OrbaxCheckpoint`.
    """

    takes_arrays = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ) -> None:
        super().__init__(monitor, mode, best=initial_value_threshold)
        self.directory, self.verbose, self.save_best_only = os.fspath(directory), verbose, save_best_only
        self.save_freq, self.max_to_keep = save_freq, max_to_keep
        self.save_on_background, self.save_weights_only = save_on_background, save_weights_only
        self._every = _Every(save_freq, "OrbaxCheckpoint")
        self._checkpoints: Any = None
        self._epoch = self._batches = self._last = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open the folder."""
        self._checkpoints = self.model.checkpoints(
            self.directory, max_to_keep=self.max_to_keep, save_on_background=self.save_on_background
        )
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Count the epochs that are done."""
        self._epoch, self._last = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Save when so many batches are done."""
        self._batches += batch + 1 - self._last
        self._last = batch + 1
        if self._every.is_due(batch):
            self._save(self._batches, self._epoch, as_numbers(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save when that is done by epoch."""
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save(epoch + 1, epoch + 1, as_numbers(logs))

    def on_train_end(self, logs: Logs = None) -> None:
        """Wait for the last checkpoint."""
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _save(self, step: int, epoch: int, logs: dict[str, Any]) -> None:
        if self.save_best_only and not self._is_best(logs):
            return
        numbers = {name: float(value) for name, value in logs.items() if isinstance(value, (int, float))}
        self._checkpoints.save(
            self.model, step, epoch=epoch, metrics=numbers, save_weights_only=self.save_weights_only
        )
        if self.verbose:
            print(f"Epoch {epoch}: saved checkpoint {step} to {self.directory}")

    def _is_best(self, logs: dict[str, Any]) -> bool:
        current = logs.get(self.monitor)
        if not isinstance(current, float):
            warnings.warn(
                f"OrbaxCheckpoint saves each time, since '{self.monitor}' is not in the logs ({', '.join(logs)}).",
                stacklevel=4,
            )
            return True
        better = self.improves(current, self.best)
        if better:
            self.best = current
        return better
