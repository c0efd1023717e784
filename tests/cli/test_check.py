"""The command `tally check`: 0 within the budget, 1 beyond it, 2 where that can't be told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tally.cli.main import main

SCRIPT = """
import tally
from tally import layers


def make(units, name):
    body, head = layers.Dense(units, name="body"), layers.Dense(2, name="head")
    return tally.Sequential([tally.Input((4,)), body, head], name=name)


def small():
    return make(3, "small")


def wide():
    return make(5, "wide")
"""
TABLE = """
[tool.tally.check."models.py:small"]
max-params = 100
[tool.tally.check."models.py:wide"]
max-params = "0.02k"
[tool.tally.check."models.py:wide".layers]
"h*" = {trainable = true}
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "models.py").write_text(SCRIPT)


def test_a_budget_that_holds(capsys):
    asked = ["--max-params", "1k", "--expect-params", "23", "--max-macs", "18", "--max-bytes", "92B"]
    assert main(["check", "models.py:small", *asked]) == 0
    assert capsys.readouterr().out.startswith("Budget of models.py:small: holds\n")


def test_a_budget_that_is_broken_tells_the_layer_to_look_at(capsys):
    assert main(["check", "models.py:small", "--max-params", "20"]) == 1
    shown = capsys.readouterr().out
    assert "✗ 23 parameters: 3 too many, at most 20 asked." in shown
    assert "Look first at body (Dense): 3 × (4 + 1) = 15." in shown
    assert "2 units in place of 3 would take 5 away from body." in shown


def test_findings_are_refused(capsys):
    assert main(["check", "models.py:small", "--no-findings", "warning"]) == 0
    assert "A diagnosis found nothing that is refused." in capsys.readouterr().out


def test_every_target_of_pyproject_is_checked(capsys):
    Path("pyproject.toml").write_text(TABLE)
    assert main(["check"]) == 1
    shown = capsys.readouterr().out
    assert "Budget of models.py:small: holds" in shown
    assert "Budget of models.py:wide: does not hold" in shown
    assert "37 parameters: 17 too many" in shown
    assert "1 layer trainable or frozen as asked." in shown


def test_pyproject_is_found_from_a_folder_below(capsys, monkeypatch):
    Path("pyproject.toml").write_text(TABLE)
    Path("deep/er").mkdir(parents=True)
    monkeypatch.chdir("deep/er")
    assert main(["check"]) == 1
    assert "Budget of models.py:small: holds" in capsys.readouterr().out
    assert Path.cwd().name == "er"


def test_a_target_takes_its_table_and_options_go_before_it(capsys):
    Path("pyproject.toml").write_text(TABLE)
    assert main(["check", "models.py:wide"]) == 1
    assert main(["check", "models.py:wide", "--max-params", "40"]) == 0
    assert "1 layer trainable or frozen as asked." in capsys.readouterr().out


def test_a_lock_is_written_kept_and_broken(capsys):
    lock = ["--lock", "small.lock.json"]
    assert main(["check", "models.py:small", *lock]) == 2
    assert "There is no lock at small.lock.json; write one with" in capsys.readouterr().err
    assert main(["check", "models.py:small", *lock, "--update"]) == 0
    written = Path("small.lock.json").read_bytes()
    assert b"models.py" not in written.replace(b"models.py:small", b"")
    assert main(["check", "models.py:small", *lock, "--update"]) == 0
    assert Path("small.lock.json").read_bytes() == written
    assert main(["check", "models.py:small", *lock]) == 0
    assert "The model is the one of the lock." in capsys.readouterr().out
    assert main(["check", "models.py:wide", *lock]) == 1
    shown = capsys.readouterr().out
    assert "✗ The model is not the one of the lock: 2 changes, +14 parameters." in shown
    assert "units 3 → 5 (kernel, bias)" in shown
    assert main(["check", "models.py:wide", *lock, "--tolerance", "14"]) == 0


def test_a_broken_lock_of_another_target_leaves_the_lock_alone():
    lock = ["--lock", "small.lock.json"]
    main(["check", "models.py:small", *lock, "--update"])
    before = Path("small.lock.json").read_bytes()
    main(["check", "models.py:wide", *lock])
    assert Path("small.lock.json").read_bytes() == before


def test_json_and_nothing_else(capsys):
    Path("pyproject.toml").write_text(TABLE)
    assert main(["check", "--json"]) == 1
    read = json.loads(capsys.readouterr().out)
    assert (read["schema_version"], read["kind"], read["holds"]) == (1, "checks", False)
    assert [(one["name"], one["holds"]) for one in read["checks"]] == [
        ("models.py:small", True),
        ("models.py:wide", False),
    ]


def test_markdown_for_a_pull_request(capsys):
    assert main(["check", "models.py:small", "--max-params", "20", "--format", "markdown"]) == 1
    assert "| max-params | 20 | 23 | −3 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "arguments", "told"),
    [
        ("", [], "tally: There is nothing to check.\n  do: give a target and a limit, or write a table"),
        ("", ["models.py:small"], "tally: There is nothing to check of models.py:small.\n  do: give a limit"),
        ("", ["--max-params", "5"], "tally: --max-params needs a target."),
        ("", ["models.py:small", "--max-params", "5X"], "max-params: '5X' is no number of parameters;"),
        ("", ["models.py:small", "--max-params", "5", "--update"], "models.py:small has no lock to update."),
        ("[tool.tally", [], "pyproject.toml is no TOML: "),
        ("[tool.tally.chekc]", [], "[tool.tally.chekc] is unknown. Did you mean 'check'?"),
        (
            '[tool.tally.check."models.py:small"]\nmax-parms = 3',
            [],
            "The budget of models.py:small: 'max-parms' is unknown. Did you mean 'max-params'?",
        ),
    ],
)
def test_what_cannot_be_checked_is_told_and_exits_with_2(table, arguments, told, capsys):
    Path("pyproject.toml").write_text(table)
    assert main(["check", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_stored_ledger_is_checked_without_jax(capsys):
    main(["summary", "models.py:small", "--format", "ledger"])
    Path("small.json").write_text(capsys.readouterr().out)
    code = (
        "import sys; from tally.cli.main import main\n"
        "code = main(['check', 'small.json', '--max-params', '20', '--max-macs', '1k', '--lock', 'small.json'])\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\nsys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "23 parameters: 3 too many" in ran.stdout
