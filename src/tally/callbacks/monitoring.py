"""Callbacks that follow one logged value and act when it no longer improves."""

import warnings
from typing import Any

import numpy as np

from tally.callbacks.base import Callback, Logs
from tally.core.errors import ArgumentError

_UP = (
    "accuracy",
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "fbeta",
    "iou",
    "r2",
    "sensitivity",
    "specificity",
    "positives",
)
_DOWN = (
    "loss",
    "error",
    "mse",
    "mae",
    "rmse",
    "mape",
    "msle",
    "crossentropy",
    "hinge",
    "divergence",
    "perplexity",
)


class Monitor(Callback):
    """What callbacks that follow one value share: which direction is better, and what is an improvement.

    Args:
        monitor: Name of the value in the logs.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or its name.
        min_delta: A change must be larger than this to count.
        best: What has to be beaten at first.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None) -> None:
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(
                f"{type(self).__name__} does not know the mode {mode!r}.", do="use 'min', 'max' or 'auto'"
            )
        self.monitor, self.mode, self.min_delta, self.best = monitor, mode, abs(min_delta), best
        self._upwards: bool | None = None if mode == "auto" else mode == "max"

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether a value is better than another by more than `min_delta`; anything is better than None."""
        if reference is None:
            return True
        if self._upwards is None:
            self._upwards = self._find_direction()
        return value - self.min_delta > reference if self._upwards else value + self.min_delta < reference

    def _find_direction(self) -> bool:
        name = self.monitor.removeprefix("val_")
        for metric in getattr(self.model, "metrics", None) or ():
            direction = getattr(metric, "_direction", None)
            if direction is not None and metric.name == name:
                return direction == "up"
        for upwards, words in ((False, _DOWN), (True, _UP)):
            if any(word in name.lower() for word in words):
                return upwards
        raise ArgumentError(
            f"{type(self).__name__} can't tell whether a higher or a lower '{self.monitor}' is better.",
            do="pass mode='max' or mode='min'",
        )

    def read(self, logs: Logs) -> float | None:
        """The value in the logs; None, with a warning, when it is not there."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(logs or ()) or "none"
            warnings.warn(
                f"'{self.monitor}' is not in the logs for {type(self).__name__}, only: {known}.",
                stacklevel=3,
            )
            return None
        return float(value)


class EarlyStopping(Monitor):
    """Stops training when a value has not improved for a while.

    Args:
        monitor: Name of the value in the logs.
        min_delta: A change must be larger than this to count as an improvement.
        patience: After how many epochs without improvement to stop.
        verbose: 1 says when it stops.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or its name.
        baseline: A value that has to be beaten; what is worse does not reset the patience.
        restore_best_weights: Whether the model gets the weights of its best epoch in the end.
        start_from_epoch: How many epochs are not looked at in the beginning.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> patient = tally.callbacks.EarlyStopping("loss", patience=3)
        >>> history = model.fit(np.zeros((4, 2)), np.zeros(4), epochs=100, verbose=0, callbacks=[patient])
        >>> len(history.epoch)  # the first was the best: the loss of zeros is 0
        4

    Source: `keras.callbacks.EarlyStopping`.
    """

    kept = ("wait", "stopped_epoch", "best_epoch", "best", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self._forget()

    def _forget(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: Any = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget earlier runs."""
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare with the best epoch so far, and stop when the patience is over."""
        current = self.read(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Give the model its best weights, if asked to."""
        if self.verbose and self.stopped_epoch:
            print(f"Stopped after epoch {self.stopped_epoch + 1}: {self.monitor} no longer improves.")
        if self.best_weights is not None:
            if self.verbose:
                print(f"The weights are those of epoch {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(Monitor):
    """Lowers the learning rate when a value has not improved for a while.

    Args:
        monitor: Name of the value in the logs.
        factor: What the learning rate is multiplied by; less than 1.
        patience: After how many epochs without improvement to lower it.
        verbose: 1 says when it is lowered.
        mode: `"min"`, `"max"`, or `"auto"` to tell from the metric or its name.
        min_delta: A change must be larger than this to count as an improvement.
        cooldown: How many epochs to wait after lowering it before counting anew.
        min_lr: The learning rate is not lowered further than this.

    Source: `keras.callbacks.ReduceLROnPlateau`.
    """

    kept = ("best", "cooldown_counter", "wait")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise ArgumentError(
                f"factor={factor} would not reduce the learning rate.", do="pass less than 1, for example 0.1"
            )
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.cooldown_counter = self.wait = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget earlier runs."""
        self.best = None
        self.cooldown_counter = self.wait = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare with the best epoch so far, and lower the learning rate when the patience is over."""
        logs = logs if logs is not None else {}
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        current = self.read(logs)
        if current is None:
            return
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(current, self.best):
            self.best, self.wait = current, 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        rate = float(self.model.optimizer.learning_rate)
        if rate <= np.float32(self.min_lr):  # the optimizer holds it in that precision
            return
        self.model.optimizer.learning_rate = lower = max(rate * self.factor, self.min_lr)
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: {self.monitor} stays where it is; the learning rate is now {lower:g}.")
