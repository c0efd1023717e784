import json
import subprocess
import sys
import textwrap

import pytest

import tally
from tally.accounting.ledger import Ledger
from tally.cli.main import main

SCRIPT = """
import tally

print("the script is running")
model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, name="head")], name="small")
layer = tally.layers.Dense(2, name="free")
layer.build((None, 5))
ledger = tally.account(model)
number = 3


def make():
    return model


def fail():
    return 1 / 0


class Box:
    inside = model


def need(units, bias=True):
    return model


if __name__ == "__main__":
    raise RuntimeError("the script was run as a program")
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    """A folder with a script, where the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "small_models.py").write_text(textwrap.dedent(SCRIPT))
    yield
    sys.modules.pop("small_models", None)


@pytest.mark.parametrize(
    "target",
    [f"small_models{form}" for form in (".py:model", ":model", ":make", ":ledger", ":Box.inside")],
)
def test_summary_shows_the_model_that_a_script_or_module_names(target, capsys):
    assert main(["summary", target]) == 0
    shown = capsys.readouterr().out
    assert 'Model: "small"' in shown
    assert "Total params: 15 (60.00 B)" in shown


def test_explain_shows_where_each_number_of_a_layer_comes_from(capsys):
    assert main(["explain", "small_models.py:layer"]) == 0
    assert "2 × (5 + 1) = 12" in capsys.readouterr().out


def test_summary_shows_the_model_in_a_file(capsys):
    tally.Sequential([tally.Input((4,)), tally.layers.Dense(3)], name="stored").save("stored.keras")
    assert main(["summary", "stored.keras"]) == 0
    assert 'Model: "stored"' in capsys.readouterr().out


def test_the_ledger_comes_as_json_and_nothing_else(capsys):
    assert main(["summary", "small_models.py:model", "--format", "ledger"]) == 0
    shown = capsys.readouterr()
    assert Ledger.from_json(shown.out).total == 15
    assert json.loads(shown.out)["name"] == "small"
    assert shown.err == "the script is running\n"


def test_summary_can_show_what_learns(capsys):
    assert main(["summary", "small_models.py:model", "--show-trainable"]) == 0
    assert "Trainable" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "small_models.py:modle",
            "small_models.py has no 'modle'. Did you mean 'model'?\n"
            "  do: name a model; there is model, layer, ledger",
        ),
        (
            "small_models.py",
            "'small_models.py' does not say which model.\n"
            "  do: write small_models.py:name; there is model, layer, ledger",
        ),
        (
            "small_models.py:number",
            "'small_models.py:number' has no parameters to account for: it is of type int.\n"
            "  do: name a model, a layer, or a function without arguments that returns one",
        ),
        (
            "small_models.py:fail",
            "ZeroDivisionError: division by zero\n  where: raised at small_models.py:17",
        ),
        (
            "small_models.py:need",
            "'small_models.py:need' needs arguments: need(units, bias=True).\n"
            "  do: name a function without any, such as def make(): return need(...)",
        ),
        (
            "missing.py:model",
            "There is no script at missing.py.\n  do: check the path, seen from this folder",
        ),
        (
            "missing:model",
            "There is no file and no module 'missing'.\n"
            "  do: give a file or folder that holds a model, a ledger as .json, module:name, or script.py:name",
        ),
    ],
)
def test_what_cannot_be_shown_is_told_in_words_and_exits_with_2(target, told, capsys):
    assert main(["summary", target]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.removeprefix("the script is running\n") == f"tally: {told}\n"


def test_a_file_that_is_not_there_is_told(capsys):
    assert main(["summary", "missing.keras"]) == 2
    assert capsys.readouterr().err.startswith("tally: There is no file at missing.keras.")


def test_a_module_that_lacks_an_import_is_told_apart_from_one_that_is_not_there(tmp_path, capsys):
    (tmp_path / "needy.py").write_text("import a_module_that_nobody_has")
    assert main(["summary", "needy:model"]) == 2
    assert (
        "No module named 'a_module_that_nobody_has'\n  where: raised at needy.py:1" in capsys.readouterr().err
    )


def test_a_script_that_exits_before_its_model_is_there_is_told(tmp_path, capsys):
    (tmp_path / "quitter.py").write_text("raise SystemExit(3)")
    assert main(["summary", "quitter.py:model"]) == 2
    assert "ended by itself (exit 3)" in capsys.readouterr().err


def test_a_script_may_have_the_name_of_a_module(tmp_path, capsys):
    import random

    (tmp_path / "random.py").write_text((tmp_path / "small_models.py").read_text())
    assert main(["summary", "random.py:model"]) == 0
    assert sys.modules["random"] is random


def test_the_whole_trace_is_there_for_who_asks(monkeypatch):
    monkeypatch.setenv("TALLY_FULL_TRACE", "1")
    with pytest.raises(ZeroDivisionError):
        main(["summary", "small_models.py:fail"])


def test_a_command_that_is_none_is_told_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["sumary", "x"])
    assert caught.value.code == 2
    assert "summary" in capsys.readouterr().err


def run_in_shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


def test_the_package_runs_as_a_program():
    ran = run_in_shell(f"{sys.executable} -m tally --version")
    assert (ran.returncode, ran.stdout) == (0, f"tally {tally.__version__}\n")


def test_a_reader_that_stops_early_is_no_error():
    ran = run_in_shell(
        f"{sys.executable} -m tally explain small_models.py:model 2> errors | head -n 1; cat errors"
    )
    assert ran.stdout == 'Parameters of "small"\nthe script is running\n'
