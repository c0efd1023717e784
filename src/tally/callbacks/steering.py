"""Callbacks that act on the run: learning rates by schedule, an end at NaN, averaged weights, functions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tally.callbacks.base import Callback, Logs
from tally.core.errors import ArgumentError, NonFiniteError


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Args:
        schedule: `(epoch, learning rate) -> learning rate`, where epochs count from 0; or a function of the
            epoch alone.
        verbose: 1 says what it is set to.

    Example:
        >>> halve = LearningRateScheduler(lambda epoch, rate: rate if epoch < 10 else rate / 2)

    Source: `keras.callbacks.LearningRateScheduler`.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Ask the schedule and set the learning rate."""
        optimizer = self.model.optimizer
        try:
            rate = self.schedule(epoch, float(optimizer.learning_rate))
        except TypeError:  # a function of the epoch alone
            rate = self.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise ArgumentError(
                f"The schedule of LearningRateScheduler gave {rate!r} for epoch {epoch}, not a float.",
                do="return a Python float",
            )
        optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is now {rate:g}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the learning rate into the logs."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class TerminateOnNaN(Callback):
    """Ends training after the batch at which the loss is NaN or infinite; it waits for every batch.

    Args:
        raise_error: Whether to end it with an error.

    Raises:
        NonFiniteError: With `raise_error`, at such a loss.

    Source: `keras.callbacks.TerminateOnNaN`.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise NonFiniteError(
                f"The loss became {loss} at batch {batch}.",
                do="try a lower learning rate, or clip gradients with clipnorm",
            )
        print(f"Batch {batch}: the loss is {loss}; training ends here.")
        self.model.stop_training = True


class LambdaCallback(Callback):
    """A callback from functions.

    Args:
        hooks: Name of a hook -> a function of its arguments: `(epoch, logs)`, `(batch, logs)` or `(logs)`.

    Example:
        >>> shown = tally.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
        >>> shown.on_epoch_end(0, {"loss": 0.5})
        0 {'loss': 0.5}

    Raises:
        ArgumentError: There is no such hook.

    Source: `keras.callbacks.LambdaCallback`.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        for name, function in hooks.items():
            if not hasattr(Callback, name):
                known = [hook for hook in dir(Callback) if hook.startswith("on_")]
                raise ArgumentError(f"A callback has no hook '{name}'.", do=f"use one of {', '.join(known)}")
            if function is not None:
                setattr(self, name, function)


class SwapEMAWeights(Callback):
    """Tests, and with `swap_on_epoch` also saves, the running averages of the weights instead of them.

    Args:
        swap_on_epoch: Whether the averages are in the model from the end of each epoch to the next, so that
            callbacks behind this one, such as `ModelCheckpoint`, find them there.

    Raises:
        ArgumentError: The optimizer keeps no averages.

    Source: `keras.callbacks.SwapEMAWeights`.
    """

    kept = ("_averaged",)

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = swap_on_epoch
        self._averaged = False

    def _put(self, averaged: bool) -> None:
        """Put averages, or the weights themselves, into the model, if they are not there."""
        if averaged == self._averaged:
            return
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if not optimizer.use_ema:
            raise ArgumentError(
                f"SwapEMAWeights needs averages of the weights, and {type(optimizer).__name__} keeps none.",
                do="make the optimizer with use_ema=True",
            )
        for variable, average in self._pairs(optimizer):
            value, mean = np.asarray(variable.value), np.asarray(average.value)
            variable.assign(mean)
            average.assign(value)
        self._averaged = averaged

    @staticmethod
    def _pairs(optimizer: Any) -> Any:
        return zip(optimizer._trainable_variables, optimizer._averages, strict=True)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Train with the weights themselves."""
        if self.swap_on_epoch:
            self._put(averaged=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Show the callbacks behind this one the averages."""
        if not self.swap_on_epoch:
            return
        self._put(averaged=True)
        # When training ends, the optimizer puts its averages into the model.
        if epoch == self.params["epochs"] - 1:
            optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
            for variable, average in self._pairs(optimizer):
                average.assign(variable.value)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Test the averages."""
        self._put(averaged=True)

    def on_test_end(self, logs: Logs = None) -> None:
        """Go on with the weights themselves."""
        self._put(averaged=False)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Predict with the averages."""
        self._put(averaged=True)

    def on_predict_end(self, logs: Logs = None) -> None:
        """Go on with the weights themselves."""
        self._put(averaged=False)
