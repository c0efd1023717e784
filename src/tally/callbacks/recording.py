"""Callbacks that write down what the epochs gave: in memory and in a CSV file."""

import csv
import os
from collections.abc import Iterable
from typing import Any, TextIO

from tally.callbacks.base import Callback, Logs


class History(Callback):
    """Remembers the logs of every epoch; `fit` returns it.

    Attributes:
        history: Loss or metric -> its value in each epoch.
        epoch: The epochs' numbers.

    Source: `keras.callbacks.History`.
    """

    kept = ("history", "epoch")

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        """Begin a new list of epochs; their values go on where they were."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the epoch down."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self


class CSVLogger(Callback):
    """Writes the logs of every epoch as a row of a CSV file.

    Args:
        filename: Where to.
        separator: What stands between the columns.
        append: Whether to go on in a file that is there.

    Source: `keras.callbacks.CSVLogger`.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self.keys: list[str] | None = None
        self._file: TextIO | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open the file."""
        self._close()
        has_rows = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        self._needs_header = not has_rows
        self.keys = None
        self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115 - closed at the end

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a row; the columns are those of the first epoch."""
        logs = logs or {}
        assert self._file is not None
        writer = csv.writer(self._file, delimiter=self.sep)
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                # Validation that only begins in a later epoch still finds its columns.
                self.keys += [f"val_{key}" for key in self.keys]
            if self._needs_header:
                writer.writerow(["epoch", *self.keys])
        writer.writerow([epoch, *(_cell(logs.get(key, "NA")) for key in self.keys)])
        self._file.flush()

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the file."""
        self._close()

    def on_interrupt(self) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _cell(value: Any) -> Any:
    several = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1)
    return f'"[{", ".join(map(str, value))}]"' if several else value
