import re
import subprocess
import sys

import numpy as np
import pytest

import tally
from tally.cli import demo


def test_the_demo_explains_trains_saves_and_loads(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tally", "demo", "--output", "mine.keras"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for count in ("320", "18,496", "16,010", "34,826"):
        assert re.search(rf"\b{count}\b", ran.stdout), count
    assert "Total params: 34,826" in ran.stdout
    assert "320 + 18,496 + 16,010 = 34,826" in ran.stdout
    found = re.search(r"Accuracy +([\d.]+)% of the held-out digits: (\d+) of 359", ran.stdout)
    assert found is not None
    assert float(found[1]) >= 97
    assert "all 3,590 predicted numbers are the same, to the last bit" in ran.stdout
    assert tally.models.load_model(tmp_path / "mine.keras").count_params() == 34_826


def test_the_demo_builds_the_simple_convnet():
    model = demo.make_convnet()
    assert [layer.count_params() for layer in model.layers] == [320, 0, 18_496, 0, 0, 0, 16_010]


@pytest.fixture
def quick(monkeypatch):
    """A demo of one short epoch on a few digits, too short to learn them."""
    few = [(images[:32], digits[:32]) for images, digits in tally.datasets.digits.load_data()]
    monkeypatch.setattr(demo, "_task", lambda **_: demo.Task(*few, "", epochs=1))


def test_an_accuracy_below_the_goal_is_told_and_is_a_failure(quick, tmp_path, capsys):
    assert demo.run(tmp_path / "demo.keras") is False
    assert "The accuracy is below the goal of 97%." in capsys.readouterr().out


def test_a_model_that_comes_back_different_is_told_and_is_a_failure(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tally.models, "load_model", lambda path: demo.make_convnet())
    monkeypatch.setattr(demo, "GOAL", 0.0)
    assert demo.run(tmp_path / "demo.keras") is False
    shown = capsys.readouterr().out
    assert "predictions differ by up to" in shown
    assert "predicts something else than the one that was saved" in shown


def test_digits_are_moved_within_their_border_and_keep_their_labels():
    (images, digits), _ = tally.datasets.digits.load_data()
    moved, labels = demo._shift(images[:3], digits[:3])
    assert moved.shape == (15, 28, 28)
    assert labels.tolist() == digits[:3].tolist() * 5
    np.testing.assert_array_equal(
        moved.reshape(5, 3, -1).sum(axis=-1, dtype=int), [images[:3].sum(axis=(1, 2), dtype=int)] * 5
    )
    np.testing.assert_array_equal(moved[3:6, :-2], images[:3, 2:])


def test_differences_are_told_by_their_size():
    assert demo._compare(np.zeros(3), np.array([0, 0.25, 0])) == "predictions differ by up to 0.25"
