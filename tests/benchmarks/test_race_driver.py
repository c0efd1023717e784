"""The race itself: contestants in processes, driven in turns by lines."""

import io
import json
from dataclasses import replace

import pytest
from benchmarks.race import contestants, driver
from benchmarks.race.driver import DISTURBED, Course, Patience, race
from benchmarks.race.gate import Gate
from benchmarks.race.printing import table
from benchmarks.race.workloads import WORKLOADS

TINY = replace(WORKLOADS["tiny"], batch=8, steps=3)


def test_a_race_gives_a_record_for_each_contestant_and_mode() -> None:
    chosen = [contestants.parse(name) for name in ("jax", "jax@SOME_SETTING=1")]
    said: list[str] = []
    records, problems = race(TINY, chosen, rounds=2, say=said.append)
    assert problems == []
    assert [(record["mode"], record["contestant"]) for record in records] == [
        ("train", "jax"),
        ("train", "jax@SOME_SETTING=1"),
        ("predict", "jax"),
        ("predict", "jax@SOME_SETTING=1"),
    ]
    for record in records:
        assert len(record["wall"]) == len(record["cpu"]) == len(record["faults"]) == 2
        assert record["peak"] > 0
        assert record["first_cpu"] > 0
    assert records[0]["losses"] == records[1]["losses"]
    assert len(records[0]["losses"]) == 3
    assert records[2]["losses"] == []
    json.dumps(records)
    assert len(table(records[:2])) == 3
    assert said[0] == "tiny: jax starts"


def test_a_contestant_that_breaks_off_is_a_problem_and_the_others_go_on(monkeypatch) -> None:
    broken = replace(contestants.CONTESTANTS["jax"], environment={"JAX_PLATFORMS": "no such platform"})
    records, problems = race(
        TINY, [contestants.parse("jax"), replace(broken, name="jax@A=1")], modes=["train"], rounds=1, say=str
    )
    assert [record.get("absent") for record in records] == ["it failed", None]
    (problem,) = problems
    assert problem.startswith("tiny: jax@A=1:\nTraceback")


def test_a_gate_answers_with_what_an_epoch_took_and_lets_no_more_through_after_stop() -> None:
    written = io.StringIO()
    gate = Gate(io.StringIO("go\nstop\n"), written)
    assert gate.wait()
    gate.begin()
    gate.end(1.5)
    assert not gate.wait()
    answer = json.loads(written.getvalue())
    assert set(answer) == {"wall", "cpu", "faults", "resting", "loss"}
    assert answer["loss"] == 1.5
    assert answer["wall"] > 0


def test_a_gate_closes_when_the_driver_is_gone() -> None:
    assert not Gate(io.StringIO(""), io.StringIO()).wait()


class Disturbed:
    """A process that others disturb a number of times; `busy` is what all processes of the machine have used."""

    def __init__(self, monkeypatch, times: int) -> None:
        self.times, self.epoch, self.busy = times, 0, 0.0
        monkeypatch.setattr(driver.machine, "busy_seconds", lambda: self.busy)
        monkeypatch.setattr(driver.machine, "cores", lambda: 1)
        monkeypatch.setattr(driver.time, "sleep", lambda seconds: None)

    def ask(self, line: str) -> dict[str, float]:
        assert line == "go"
        self.epoch += 1
        self.busy += 1.0 + (self.epoch <= self.times)
        return {"wall": 1.0, "cpu": 1.0, "faults": 0, "resting": 0.0, "loss": 1 / self.epoch}


@pytest.mark.parametrize(
    ("seconds", "epochs", "foreign"), [(100, 3, 0.0), (2.5, 3, 0.0), (2, 2, 1.0), (0, 1, 1.0)]
)
def test_a_disturbed_turn_is_taken_again_while_patience_lasts(monkeypatch, seconds, epochs, foreign) -> None:
    process, course, patience = Disturbed(monkeypatch, 2), Course(), Patience(seconds)
    driver._take_turn(process, course, patience)
    assert process.epoch == len(course.losses) == epochs
    assert course.wall == [1.0]
    assert course.foreign == [foreign]
    assert patience.seconds == seconds - 2 * (epochs - 1)


def test_an_undisturbed_turn_costs_no_patience() -> None:
    patience = Patience(1.0)
    assert not patience.allows(DISTURBED, spent=10.0)
    assert patience.seconds == 1.0
