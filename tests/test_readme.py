"""What the README says is true: its code runs, and its output is what is printed."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import tally
from tally.cli.main import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "Total params: 34,826 (136.04 KB)" in shown
    assert "0 (1 untracked)" in shown
    explained = []
    tally.explain(names["model"], print_fn=explained.append)
    for block in re.findall(r"```text\n(.*?)```", README, re.DOTALL):
        assert block in "\n".join(explained)


def test_every_data_set_is_named():
    missing = [name for name in tally.datasets.__all__ if f"`{name}`" not in README]
    assert not missing


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_exist(target):
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


TRAIN = """
import tally
from tally.cli.main import main
from tally import layers

model = tally.Sequential([
    tally.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
    layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dropout(0.5),
    layers.Dense(10, activation="softmax"),
])
"""
SCRIPT = """
import keras

keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).summary()
"""


def commands():
    """The lines of the README that begin with `tally`, and the codes they are to give."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    found = [
        part.partition("#")[0].strip() for line in shell.splitlines() for part in re.split(r"\s{3,}", line)
    ]
    return [part for part in found if part.startswith("tally ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "script_for_keras.py").write_text(SCRIPT)
    for name, units in (("before", 3), ("after", 4)):
        tally.Sequential([tally.Input((2,)), tally.layers.Dense(units)], name="net").save(f"{name}.keras")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("command", commands())
def test_the_commands_do_what_their_codes_say(command, capsys):
    code = main(shlex.split(command)[1:])
    shown = capsys.readouterr()
    assert code == (1 if " diff " in command else 0), shown.err
    assert shown.out.strip()


def test_every_verb_is_shown():
    assert {command.split()[1] for command in commands()} == {
        *("summary", "diagnose", "verify", "plan", "check", "diff", "run")
    }
