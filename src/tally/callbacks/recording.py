"""Callbacks that write down what the epochs gave: in memory and in a CSV file."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from tally.callbacks.base import Callback, Logs
from tally.writing import replaced


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

    A run that goes on from another, by `BackupAndRestore` or from a `.keras` file that `ModelCheckpoint` wrote, goes on
    in its file: the rows of epochs that are trained once more are dropped, so that the file is that of a run that was
    never cut off. With `ModelCheckpoint`, name this one before it, or a process that is killed between the two leaves
    a checkpoint whose last row was not written, and pass `append=True`.

    Args:
        filename: Where to.
        separator: What stands between the columns.
        append: Whether to go on in a file that is there.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> log = tally.callbacks.CSVLogger("log.csv")
        >>> history = model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[log])
        >>> [line.split(",")[0] for line in Path("log.csv").read_text().splitlines()]
        ['epoch', '0', '1']

    Source: `keras.callbacks.CSVLogger`.
    """

    kept = ("_begun", "keys")

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self.keys: list[str] | None = None
        self._begun: int | None = None
        """Where the rows of this run begin in the file; a backup keeps it, and hands it to the run that goes on."""
        self._file: TextIO | None = None
        self._needs_header = False

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget the run before; the file is opened when it is clear whether this one goes on from another."""
        self._close()
        self.keys = self._begun = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Open the file before the first epoch."""
        if self._file is None:
            self._open(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a row; the columns are those of the first epoch."""
        logs = logs or {}
        if self._file is None:  # in an epoch that another process had begun
            self._open(epoch)
        assert self._file is not None
        writer = csv.writer(self._file, delimiter=self.sep)
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                # Validation that only begins in a later epoch still finds its columns.
                self.keys += [f"val_{key}" for key in self.keys]
        if self._needs_header:
            writer.writerow(["epoch", *self.keys])
            self._needs_header = False
        writer.writerow([epoch, *(_cell(logs.get(key, "NA")) for key in self.keys)])
        self._file.flush()

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the file."""
        if self._file is None and self._begun is None and not self.append:  # no epoch was trained
            Path(self.filename).write_bytes(b"")
        self._close()

    def on_interrupt(self) -> None:
        """Close the file."""
        self._close()

    def _open(self, epoch: int) -> None:
        """Open the file for the rows from an epoch on."""
        run = getattr(getattr(self.model, "_trainer", None), "run", None)
        goes_on = run is not None and run.goes_on and (self.append or self._begun is not None)
        rows = self._rows() if goes_on or self.append else b""
        if goes_on:
            begun = min(self._begun if self._begun is not None else _last_run(rows, self.sep), len(rows))
            rows = rows[:begun] + _rows_before(rows[begun:], epoch, self.sep)
            with replaced(self.filename) as part:
                part.write_bytes(rows)
            self._begun = begun
            self.keys = self.keys or _columns(rows, self.sep)
        else:
            self._begun = len(rows)
        self._needs_header = not rows
        self._file = open(self.filename, "a" if rows else "w", newline="")  # noqa: SIM115 - closed at the end

    def _rows(self) -> bytes:
        return Path(self.filename).read_bytes() if os.path.isfile(self.filename) else b""

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _epoch_of(row: bytes, separator: str) -> int | None:
    """The number that a row begins with; None for a heading, and for a row that was cut off."""
    first = row.partition(separator.encode())[0]
    return int(first) if first.isdigit() and row.endswith(b"\n") else None


def _columns(rows: bytes, separator: str) -> list[str] | None:
    """What the heading of a file says behind the epoch; None where it has none."""
    names = next(csv.reader(rows.decode(errors="replace").splitlines()[:1], delimiter=separator), [""])
    return names[1:] if names[0] == "epoch" else None


def _rows_before(rows: bytes, epoch: int, separator: str) -> bytes:
    """Those of earlier epochs, and the heading."""
    kept = [row for row in rows.splitlines(keepends=True) if row.endswith(b"\n")]
    numbers = [_epoch_of(row, separator) for row in kept]
    return b"".join(
        row for row, number in zip(kept, numbers, strict=True) if number is None or number < epoch
    )


def _last_run(rows: bytes, separator: str) -> int:
    """Where the last rows begin whose epochs follow one another."""
    at, after = len(rows), None
    for row in reversed(rows.splitlines(keepends=True)):
        number = _epoch_of(row, separator)
        if number is None and row.endswith(b"\n"):
            break
        if number is not None and after is not None and number >= after:
            break
        at, after = at - len(row), number if number is not None else after
    return at


def _cell(value: Any) -> Any:
    several = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1)
    return f'"[{", ".join(map(str, value))}]"' if several else value
