"""How many steps are under way at once on a host: few, and one alone while steps are long."""

import numpy as np

import tally
from tally.training import pace
from tally.training.pace import Pace


class Step:
    """What a step gives; waiting for it takes as long as it does."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.is_done = seconds, False
        self.clock = [0.0]

    def block_until_ready(self) -> None:
        self.clock[0] += self.seconds
        self.is_done = True


def followed(monkeypatch, steps: list[Step], *, is_host: bool = True) -> list[int]:
    """How many steps were under way after each was sent off; a clock that goes with the steps alone."""
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    watched, found = Pace(is_host), []
    for sent, step in enumerate(steps, 1):
        step.clock = clock
        watched.follow(step)
        found.append(sent - sum(one.is_done for one in steps))
    return found


def test_short_steps_run_beside_the_sending_of_others(monkeypatch) -> None:
    assert followed(monkeypatch, [Step() for _ in range(11)]) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]


def test_a_step_runs_beside_the_sending_of_the_next(monkeypatch) -> None:
    assert followed(monkeypatch, [Step(0.01) for _ in range(4)]) == [0, 1, 1, 1]


def test_a_long_step_is_done_before_the_next_takes_its_memory(monkeypatch) -> None:
    assert followed(monkeypatch, [Step(0.1) for _ in range(4)]) == [0, 0, 0, 0]
    assert followed(monkeypatch, [Step(0.01), Step(0.01), Step(0.1), Step(0.1), Step(0.01)]) == [
        0,
        1,
        1,
        0,
        0,
    ]


def test_elsewhere_nothing_is_waited_for(monkeypatch) -> None:
    assert followed(monkeypatch, [Step(0.1) for _ in range(3)], is_host=False) == [1, 2, 3]


def test_fit_and_evaluate_keep_the_pace(monkeypatch) -> None:
    sent = []
    follow = Pace.follow
    monkeypatch.setattr(Pace, "follow", lambda self, made: sent.append(self.is_host) or follow(self, made))
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((12, 3)), np.ones((12, 1)), batch_size=4, verbose=0)
    assert sent == [True] * 3
    model.evaluate(np.ones((12, 3)), np.ones((12, 1)), batch_size=12, verbose=0)
    assert sent == [True] * 4
