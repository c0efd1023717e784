"""What fit shows while it runs: a live line per epoch on a terminal, plain lines elsewhere."""

import atexit
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from tally.callbacks.base import Callback, Logs, as_numbers
from tally.core.errors import ArgumentError

_BAR = 20
"""Characters the bar is wide."""
_TICK = 0.1
"""Seconds between two drawings."""


def format_value(value: Any) -> str:
    """A measure in four significant digits: `0.8912`, `12.35`, `3.457e-06`."""
    number = float(np.mean(value))
    if not math.isfinite(number) or number == 0:
        return f"{number:.4f}"
    magnitude = math.floor(math.log10(abs(number)))
    return f"{number:.{max(0, 3 - magnitude)}f}" if -5 < magnitude < 7 else f"{number:.3e}"


def format_time(seconds: float) -> str:
    """A span of time: `3s`, `1:23`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}" if minutes else f"{rest}s"
    )


def format_pace(seconds: float, unit: str = "step") -> str:
    """Time per step: `7ms/step`."""
    scale, word = next(((s, w) for s, w in ((1, "s"), (1e3, "ms")) if seconds * s >= 1), (1e6, "us"))
    return f"{seconds * scale:.0f}{word}/{unit}" if seconds else f"0s/{unit}"


class Pace:
    """How long steps take. The first one compiles, and so counts only while it is the only one."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._ended: float | None = None

    def step(self, done: int) -> None:
        """Take note that so many steps are done."""
        if self._first is None and done:
            self._first = (done, time.perf_counter())

    def stop(self) -> None:
        """Count no more time as that of steps: validation begins."""
        self._ended = self._ended or time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.begun

    def per_step(self, done: int) -> float:
        """Seconds per step, after so many."""
        now = self._ended or time.perf_counter()
        if self._first is not None and done > self._first[0]:
            return (now - self._first[1]) / (done - self._first[0])
        return (now - self.begun) / max(done, 1)


class Display(Protocol):
    """A place where progress is shown.

    Attributes:
        is_live: Whether it shows how far a run is before the end.
    """

    is_live: bool

    def draw(self, done: int, total: int | None, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Show how far it is."""
        ...

    def finish(self, done: int, total: int, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Show the end, and leave it standing."""
        ...

    def close(self) -> None:
        """Give the screen back."""
        ...


class PlainDisplay:
    """One line of text when all is done: for files, pipes and notebooks.

    Args:
        title: A line of its own that comes first.
        unit: What a step is called.
    """

    is_live = False

    def __init__(self, title: str = "", unit: str = "step") -> None:
        self.unit = unit
        if title:
            print(title, flush=True)

    def draw(self, done: int, total: int | None, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Nothing: only the end is told."""

    def finish(self, done: int, total: int, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Print the line: `422/422 - 3s 7ms/step - accuracy: 0.8912 - loss: 0.3456`."""
        times = f"{format_time(pace.elapsed)} {format_pace(pace.per_step(done), self.unit)}"
        told = [f"{name}: {format_value(value)}" for name, value in measures.items()]
        print(" - ".join((f"{done}/{total}", times, *told)), flush=True)

    def close(self) -> None:
        """Nothing is held."""


class LiveDisplay:
    """A line on a terminal that is drawn anew in place, with a bar, and stays when it is full.

    Args:
        title: What the line begins with.
        unit: What a step is called.
        console: A `rich.console.Console`; the terminal's by default.
    """

    is_live = True

    def __init__(self, title: str = "", unit: str = "step", console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.title, self.unit = title, unit
        self.console = console or Console()
        # Drawn by hand: rich's own thread would go on drawing while an error is printed.
        self._live = Live(console=self.console, auto_refresh=False, redirect_stderr=False)
        self._live.start()
        atexit.register(self.close)

    def draw(self, done: int, total: int | None, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Draw the line with the time that is left."""
        if not done:
            told = "starting"
        else:
            per_step = pace.per_step(done)
            left = f"{format_time(per_step * (total - done))} left " if total else ""
            told = f"{left}{format_pace(per_step, self.unit)}"
        self._live.update(self._line(done, total, told, measures), refresh=True)

    def finish(self, done: int, total: int, pace: Pace, measures: Mapping[str, Any]) -> None:
        """Draw the line with the time it took, and leave it."""
        told = f"{format_time(pace.elapsed)} {format_pace(pace.per_step(done), self.unit)}"
        self._live.update(self._line(done, total, told, measures, is_done=True), refresh=True)
        self.close()

    def close(self) -> None:
        """Give the cursor and the output back."""
        self._live.stop()
        atexit.unregister(self.close)

    def _line(
        self, done: int, total: int | None, told: str, measures: Mapping[str, Any], *, is_done: bool = False
    ) -> Any:
        from rich.text import Text

        line = Text(no_wrap=not is_done, overflow="ellipsis" if not is_done else "fold")
        if self.title:
            line.append(f"{self.title}  ", "bold")
        filled = round(_BAR * min(done / total, 1)) if total else _BAR * is_done
        line.append("━" * filled, "green" if is_done else "cyan")
        line.append("━" * (_BAR - filled), "bright_black")
        count = f"{done:>{len(str(total))}}/{total}" if total else f"{done}"
        line.append(f"  {count}  ").append(told, "bright_black")
        for name, value in measures.items():
            line.append(f"  {name} ", "bright_black").append(format_value(value))
        return line


def is_terminal() -> bool:
    """Whether lines can be drawn anew where the output goes."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def open_display(title: str, verbose: int | str, unit: str = "step") -> Display:
    """The display for a verbosity: live on a terminal unless 2 is asked for, plain otherwise."""
    return LiveDisplay(title, unit) if verbose in (1, "auto") and is_terminal() else PlainDisplay(title, unit)


class ProgbarLogger(Callback):
    """Shows how far a run is and what its measures are.

    Args:
        count_mode: Only `"steps"` are counted.

    Source: `keras.callbacks.ProgbarLogger`.
    """

    takes_arrays = takes_some = True

    def __init__(self, count_mode: str = "steps") -> None:
        if count_mode != "steps":
            raise ArgumentError(f"ProgbarLogger can't count {count_mode!r}.", do="use count_mode='steps'")
        self.verbose: int | str = "auto"
        self.epochs, self.target = 1, None
        self.seen = 0
        self._in_fit = False
        self._display: Display | None = None
        self._waiting: Logs = None
        self._shown: dict[str, Any] = {}
        self._pace, self._last = Pace(), 0.0

    def set_params(self, params: dict[str, Any]) -> None:
        """Learn how much there is to do and how much to say."""
        super().set_params(params)
        self.verbose = params.get("verbose", "auto")
        self.epochs, self.target = params.get("epochs", 1), params.get("steps")
        if self.verbose not in (0, 1, 2, "auto"):
            raise ArgumentError(f"verbose={self.verbose!r} is not known.", do="use 0, 1, 2 or 'auto'")

    def on_train_begin(self, logs: Logs = None) -> None:
        """From now on testing is validation, which is not shown by itself."""
        self._in_fit = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Fit is over."""
        self._in_fit = False
        self._close()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin a line."""
        self._begin(f"Epoch {epoch + 1}/{self.epochs}" if self.epochs > 1 else "")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """End the line with the epoch's measures."""
        self._finish(logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Begin a line; in fit, testing is validation and part of the epoch's line."""
        if self._in_fit:
            self._pace.stop()
        else:
            self._begin()

    def on_test_end(self, logs: Logs = None) -> None:
        """End the line, outside of fit."""
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Begin a line."""
        self._begin()

    def on_predict_end(self, logs: Logs = None) -> None:
        """End the line."""
        self._finish(None)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count a step."""
        self._advance(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count a batch, outside of fit."""
        if not self._in_fit:
            self._advance(batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count a batch; what the model gave is not shown."""
        self._advance(batch, None)

    def on_interrupt(self) -> None:
        """Give the screen back."""
        self._in_fit = False
        self._close()

    def _begin(self, title: str = "") -> None:
        self._close()
        self.seen, self._waiting, self._shown = 0, None, {}
        self._pace, self._last = Pace(), 0.0
        if self.verbose:
            self._display = open_display(title, self.verbose)
            self._display.draw(0, self.target, self._pace, {})

    def _advance(self, batch: int, logs: Logs) -> None:
        if not self.seen:
            self._pace.step(batch + 1)
        self.seen = batch + 1
        if self._display is None or not self._display.is_live:
            return
        now = time.perf_counter()
        if now - self._last < _TICK:
            return
        self._last = now
        # What is shown is a tick old: it has been computed by now, so that reading it does not wait.
        if self._waiting is None or all(map(_is_ready, self._waiting.values())):
            self._shown = as_numbers(self._waiting) if self._waiting is not None else self._shown
            self._waiting = logs
        self._display.draw(self.seen, self.target, self._pace, self._shown)

    def _finish(self, logs: Logs) -> None:
        if self._display is not None:
            self.target = self.target or self.seen
            self._display.finish(self.seen, self.target, self._pace, as_numbers(logs))
        self._close()

    def _close(self) -> None:
        if self._display is not None:
            self._display.close()
        self._display = None


def _is_ready(value: Any) -> bool:
    return value.is_ready() if hasattr(value, "is_ready") else True


class Progbar:
    """A progress bar for a loop of your own.

    Args:
        target: Number of steps in all; None when unknown.
        width: Taken for the sake of scripts written for Keras; the bar has one width.
        verbose: 0 shows nothing, 1 a bar on a terminal, 2 a line at the end.
        interval: Seconds between two drawings at least.
        stateful_metrics: Names of values that are shown as they are; all others are averaged over the steps.
        unit_name: What a step is called.

    Example:
        >>> bar = tally.utils.Progbar(target=10, verbose=2)
        >>> for step in range(10):
        ...     bar.update(step + 1, [("loss", 1 / (step + 1))])
        10/10 - ... - loss: 0.2929

    Source: `keras.utils.Progbar`.
    """

    def __init__(
        self,
        target: int | None,
        width: int = _BAR,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ) -> None:
        del width
        self.target, self.interval = target, interval
        self.stateful_metrics = set(stateful_metrics or ())
        self._display = open_display("", verbose, unit_name) if verbose else None
        self._pace, self._last, self._seen = Pace(), 0.0, 0
        self._sums: dict[str, tuple[float, int]] = {}

    @property
    def measures(self) -> dict[str, float]:
        """What is shown behind the bar."""
        return {name: total / count for name, (total, count) in self._sums.items()}

    def update(
        self, current: int, values: Iterable[tuple[str, Any]] | None = None, finalize: bool | None = None
    ) -> None:
        """Show that so many steps are done.

        Args:
            current: Number of steps done.
            values: Pairs of a name and its value in the steps since the last update.
            finalize: Whether this is the end; by default when `current` has reached `target`.
        """
        is_last = finalize if finalize is not None else self.target is not None and current >= self.target
        steps = max(current - self._seen, 1)
        for name, value in values or ():
            number = float(np.mean(value))
            if finalize or name in self.stateful_metrics:
                self._sums[name] = (number, 1)
            else:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + number * steps, count + steps)
        self._seen = current
        self._pace.step(current)
        now = time.perf_counter()
        if self._display is None or (now - self._last < self.interval and not is_last):
            return
        self._last = now
        if is_last:
            self._display.finish(current, self.target or current, self._pace, self.measures)
            self._display = None
        else:
            self._display.draw(current, self.target, self._pace, self.measures)

    def add(self, n: int, values: Iterable[tuple[str, Any]] | None = None) -> None:
        """Show that `n` more steps are done."""
        self.update(self._seen + n, values)
