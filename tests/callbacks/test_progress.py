"""What fit shows, word by word."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tally.callbacks import CallbackList, progress
from tally.callbacks.progress import (
    LiveDisplay,
    Pace,
    Progbar,
    ProgbarLogger,
    format_pace,
    format_time,
    format_value,
)
from tally.core.errors import ArgumentError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that only moves when told to."""

    class Clock:
        now = 100.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.89123, "0.8912"),
        (12.3456, "12.35"),
        (123456.7, "123457"),
        (0.00034567, "0.0003457"),
        (3.4567e-6, "3.457e-06"),
        (-2.5, "-2.500"),
        (0, "0.0000"),
        (float("nan"), "nan"),
        (np.array([1.0, 3.0]), "2.000"),
    ],
)
def test_values_have_four_significant_digits(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3s"), (59.6, "1:00"), (83, "1:23"), (3723, "1:02:03")])
def test_times_read_like_a_clock(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "2s/step"), (0.007, "7ms/step"), (4e-5, "40us/step"), (0, "0s/step")]
)
def test_paces_have_the_unit_that_suits(seconds: float, text: str) -> None:
    assert format_pace(seconds) == text


def test_the_step_that_compiles_does_not_count_for_the_pace(clock: Any) -> None:
    pace = Pace()
    clock.now += 9
    pace.step(1)
    assert pace.per_step(1) == 9
    clock.now += 2
    pace.step(2)
    assert pace.per_step(2) == 2


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_a_pipe_gets_a_title_and_a_line_per_epoch(
    verbose: int | str, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = CallbackList(add_progbar=True, verbose=verbose, epochs=3, steps=2)
    told.on_train_begin()
    for epoch in range(2):
        told.on_epoch_begin(epoch)
        for batch in range(2):
            clock.now += 1.5
            told.on_train_batch_end(batch, {"loss": 1.0})
        told.on_test_begin()
        clock.now += 5  # validation takes time, but not that of training steps
        told.on_test_batch_end(0, {"loss": 3.0})
        told.on_test_end({"loss": 3.0})
        told.on_epoch_end(epoch, {"loss": 0.34561, "accuracy": 0.89123, "val_loss": 3.0})
    told.on_train_end()
    line = "2/2 - 8s 2s/step - accuracy: 0.8912 - loss: 0.3456 - val_loss: 3.000"
    assert capsys.readouterr().out.splitlines() == ["Epoch 1/3", line, "Epoch 2/3", line]


def test_verbose_0_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    told = CallbackList([ProgbarLogger()], verbose=0, epochs=2, steps=1)
    told.on_epoch_begin(0)
    told.on_train_batch_end(0, {"loss": 1.0})
    told.on_epoch_end(0, {"loss": 1.0})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("phase", ["test", "predict"])
def test_testing_and_predicting_end_with_a_line(
    phase: str, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = CallbackList(add_progbar=True, verbose=1, epochs=1, steps=None)
    getattr(told, f"on_{phase}_begin")()
    for batch in range(3):
        getattr(told, f"on_{phase}_batch_end")(batch, {"loss": 0.5})
    getattr(told, f"on_{phase}_end")({"loss": 0.5})
    assert capsys.readouterr().out == "3/3 - 0s 0s/step" + (" - loss: 0.5000\n" if phase == "test" else "\n")


def test_an_unknown_verbosity_is_refused() -> None:
    with pytest.raises(ArgumentError, match="do: use 0, 1, 2 or 'auto'"):
        CallbackList(add_progbar=True, verbose="loud", epochs=1, steps=1)


def drawn(**options: Any) -> tuple[LiveDisplay, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=options.pop("width", 100), color_system=None)
    return LiveDisplay("Epoch 1/3", console=console), screen


def test_a_terminal_shows_a_bar_with_the_time_left_and_then_the_time_taken(clock: Any) -> None:
    display, screen = drawn()
    pace = Pace()
    display.draw(0, 10, pace, {})
    clock.now += 1
    pace.step(5)
    display.draw(5, 10, pace, {"loss": 0.5})
    display.finish(10, 10, pace, {"loss": 0.25})
    text = screen.getvalue()
    bar = "━" * 20
    assert f"Epoch 1/3  {bar}   0/10  starting" in text
    assert f"Epoch 1/3  {bar}   5/10  1s left 200ms/step  loss 0.5000" in text
    assert f"Epoch 1/3  {bar}  10/10  1s 0s/step  loss 0.2500" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_a_line_that_is_too_long_for_the_terminal_is_cut_while_it_moves(clock: Any) -> None:
    display, screen = drawn(width=60)
    display.draw(1, 10, Pace(), {f"measure_{n}": 1.0 for n in range(10)})
    display.close()
    assert "…" in screen.getvalue()
    assert "measure_9" not in screen.getvalue()


def test_the_device_is_asked_at_most_ten_times_a_second_and_never_waited_for(
    clock: Any, monkeypatch: Any
) -> None:
    class Pending:
        def __init__(self, ready: bool) -> None:
            self.ready, self.reads = ready, 0

        def is_ready(self) -> bool:
            return self.ready

        def __float__(self) -> float:
            assert self.ready
            self.reads += 1
            return 1.0

    display, _ = drawn()
    monkeypatch.setattr(progress, "open_display", lambda *_: display)
    logger = ProgbarLogger()
    told = CallbackList([logger], verbose=1, epochs=1, steps=100)
    told.on_epoch_begin(0)
    steps = [Pending(ready=n != 10) for n in range(30)]
    for n, loss in enumerate(steps):
        clock.now += 0.01
        told.on_train_batch_end(n, {"loss": loss})
    assert [n for n, loss in enumerate(steps) if loss.reads] == [0]
    steps[10].ready = True
    clock.now += 1
    told.on_train_batch_end(30, {"loss": Pending(ready=True)})
    assert [n for n, loss in enumerate(steps) if loss.reads] == [0, 10]
    told.on_interrupt()


def test_where_only_the_end_is_told_the_device_is_not_asked_before(clock: Any) -> None:
    class Unread:
        def __float__(self) -> float:
            raise AssertionError

    told = CallbackList([ProgbarLogger()], verbose=2, epochs=1, steps=30)
    told.on_epoch_begin(0)
    for step in range(30):
        clock.now += 1
        told.on_train_batch_end(step, {"loss": Unread()})
    told.on_interrupt()


def test_an_interrupted_run_gives_the_screen_back(monkeypatch: pytest.MonkeyPatch) -> None:
    display, screen = drawn()
    monkeypatch.setattr(progress, "open_display", lambda *_: display)
    told = CallbackList(add_progbar=True, verbose=1, epochs=1, steps=2)
    told.on_train_begin()
    told.on_epoch_begin(0)
    told.on_interrupt()
    assert screen.getvalue().rstrip().endswith("\x1b[?25h")


def test_progbar_averages_over_steps_but_shows_stateful_values_as_they_are(
    clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Progbar(target=4, stateful_metrics=["rate"], unit_name="file")
    bar.add(1, [("loss", 1.0), ("rate", 1.0)])
    bar.update(4, [("loss", 3.0), ("rate", 7.0)])
    assert bar.measures == {"loss": 2.5, "rate": 7.0}
    assert capsys.readouterr().out == "4/4 - 0s 0s/file - loss: 2.500 - rate: 7.000\n"
