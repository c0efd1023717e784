"""`tally explain`: the whole model, one layer, and the same as data."""

import json
import subprocess
import sys

import pytest

import tally
from tally.cli.main import main


@pytest.fixture
def target(tmp_path) -> str:
    layers = [
        tally.layers.Conv2D(4, 3, name="stem"),
        tally.layers.Flatten(),
        tally.layers.Dense(2, name="head"),
    ]
    model = tally.Sequential([tally.Input((6, 6, 1)), *layers], name="small")
    path = tmp_path / "small.json"
    path.write_text(tally.account(model).to_json(), encoding="utf-8")
    return str(path)


def test_it_explains_every_layer_of_a_ledger(target, capsys):
    assert main(["explain", target]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('Parameters of "small"')
    assert "4 × (1·3·3 + 1) = 40" in shown
    assert "2 × (64 + 1) = 130" in shown


def test_it_explains_one_layer_by_its_path(target, capsys):
    assert main(["explain", target, "--layer", "head"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('Parameters of "head" in "small"')
    assert "Input 64 from 'flatten'; 4·4·4 = 64 values in a row." in shown
    assert "stem (Conv2D)" not in shown


def test_a_layer_that_is_not_there_is_told_with_the_nearest(target, capsys):
    assert main(["explain", target, "--layer", "haed"]) == 2
    assert "'small' has no layer 'haed'. Did you mean 'head'?" in capsys.readouterr().err


def test_json_is_the_explanation_as_data(target, capsys):
    assert main(["explain", target, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["schema_version"], read["kind"], read["name"], read["total"]) == (
        1,
        "explanation",
        "small",
        170,
    )
    stem = next(layer for layer in read["layers"] if layer["path"] == "stem")
    assert stem["formula"] == {
        "symbols": "filters × (input channels · kernel height · kernel width + 1)",
        "numbers": "4 × (1·3·3 + 1) = 40",
        "value": 40,
    }
    assert {"kind": "absent", "text": stem["remarks"][-2]["text"]} in stem["remarks"]


def test_json_of_one_layer_holds_that_layer_alone(target, capsys):
    assert main(["explain", target, "--layer", "head", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["layer"], read["total"], [layer["path"] for layer in read["layers"]]) == (
        "head",
        130,
        ["head"],
    )


def test_a_ledger_is_explained_without_waiting_for_jax(target):
    code = f"""
import sys
from tally.cli.main import main
main(["explain", {target!r}, "--json"])
main(["explain", {target!r}])
assert "jax" not in sys.modules, "JAX was imported"
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
