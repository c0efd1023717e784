"""`tally what-if`: a layer made otherwise, from a script or a ledger."""

import json
import sys

import pytest

from tally.cli.main import main

SCRIPT = """
import tally

layer = tally.layers.Conv2D(10, 4, name="conv")
stack = [tally.layers.Conv2D(4, 3, name="stem"), tally.layers.Flatten(), tally.layers.Dense(2, name="head")]
model = tally.Sequential([tally.Input((8, 8, 2)), *stack], name="small")
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "made.py").write_text(SCRIPT)


def test_it_sets_variants_beside_the_layer(capsys):
    assert (
        main(["what-if", "made.py:layer", "--input-shape", "32x32x3", "--as", "channel-shared,separable"])
        == 0
    )
    shown = capsys.readouterr().out
    assert shown.startswith('What if "conv" were made otherwise')
    assert "10 × (1·4·4 + 1) = 170" in shown
    assert "groups" not in shown


def test_it_changes_arguments_and_tells_what_follows(capsys):
    assert (
        main(["what-if", "made.py:model", "--layer", "stem", "--filters", "8", "--kernel-size", "5x3"]) == 0
    )
    shown = capsys.readouterr().out
    assert "8 × (2·5·3 + 1) = 248" in shown
    shown = " ".join(shown.split())
    assert "'head' 290 → 386 = 2 × (192 + 1)" in shown


def test_several_values_and_any_argument_can_be_set(capsys):
    command = ["what-if", "made.py:model", "--layer", "head", "--units", "1,3", "--no-bias"]
    assert main([*command, "--set", "kernel_initializer=zeros", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["schema_version"], read["kind"], read["path"]) == (1, "what-if", "head")
    assert [variant["parameters"] for variant in read["variants"]] == [290, 144, 432]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["made.py:model"], "'small' has several layers, and none was named"),
        (["made.py:model", "--layer", "stm"], "Did you mean 'stem'?"),
        (["made.py:model", "--layer", "head", "--set", "unit=3"], "Did you mean 'units'?"),
        (["made.py:model", "--layer", "head", "--set", "units"], "'units' says no value."),
        (["made.py:layer"], "has seen no input"),
    ],
)
def test_what_cannot_be_compared_is_told_and_exits_with_2(arguments, told, capsys):
    assert main(["what-if", *arguments]) == 2
    assert told in capsys.readouterr().err
