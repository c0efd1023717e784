import json
import subprocess
import sys

import pytest

from tally.cli.main import main

SCRIPT = """
import tally

print("the script is running")
model = tally.Sequential([tally.Input((784,)), tally.layers.Dense(10, name="head")], name="small")
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    """A folder with a script and its model's ledger, where the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "small.py").write_text(SCRIPT)


def test_a_plan_is_printed(capsys):
    assert main(["plan", "small.py:model", "--batch-size", "64", "--device", "gpu"]) == 0
    shown = capsys.readouterr()
    assert 'Plan of "small"' in shown.out
    assert (
        "7,850 parameters; training with Adam, batches of 64 examples, policy float32, on a GPU." in shown.out
    )
    assert "multiply-adds, forward 7,840 one example" in " ".join(shown.out.split())
    assert "the script is running" not in shown.out


def test_options_reach_the_plan(capsys):
    options = ["--policy", "mixed_bfloat16", "--optimizer", "adamw", "--device", "tpu", "--memory", "16GB"]
    assert main(["plan", "small.py:model", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema_version"], found["kind"]) == (1, "plan")
    assert (found["policy"], found["optimizer_name"], found["device"]) == ("mixed_bfloat16", "AdamW", "tpu")
    assert (found["memory"], found["fits"]) == (16_000_000_000, True)
    assert found["largest_batch"] > 100_000


def test_a_batch_that_does_not_fit_is_a_finding(capsys):
    assert main(["plan", "small.py:model", "--memory", "10kB", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["largest_batch"] == 0


def test_prediction_alone(capsys):
    assert main(["plan", "small.py:model", "--prediction", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["training"], found["step"], found["flops_backward"]) == (False, None, None)


def test_the_compilers_figures_stand_beside(capsys, monkeypatch):
    monkeypatch.setattr("tally.tracing.measuring._measure", lambda step: 123_456)
    assert main(["plan", "small.py:model", "--compare"]) == 0
    shown = capsys.readouterr().out
    assert "Compared with the compiler" in shown
    assert "the compiler's plan" in shown
    assert "measured in a run 120.56 KiB" in " ".join(shown.split())


def test_a_ledger_is_planned_without_its_model(tmp_path, capsys):
    import tally

    model = tally.Sequential([tally.Input((784,)), tally.layers.Dense(10)])
    (tmp_path / "small.json").write_text(tally.account(model).to_json())
    assert main(["plan", "small.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["followed"], found["multiply_adds"], found["gradients"]) == (False, 7_840, 31_400)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch-size", "0"], "A batch can't have 0 examples"),
        (["--policy", "float31"], "float31"),
        (["--memory", "lots"], "memory can't be read"),
    ],
)
def test_what_makes_no_sense_could_not_run(options, told, capsys):
    assert main(["plan", "small.py:model", *options]) == 2
    assert told in capsys.readouterr().err


def test_the_command_loads_jax_only_when_it_runs():
    code = "import sys, tally.cli.plan; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
