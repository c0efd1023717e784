"""The command `tally diff`: two models, two files, or a file and a model; 1 where they differ."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tally.accounting.ledger import Ledger
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


def save():
    model = small()
    model.save("before.keras")
    model.layers[1].bias.assign([1.0, 0.0])
    model.save("after.keras")
    return model
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "models.py").write_text(SCRIPT)


def test_the_script_that_starts_the_command_is_no_line_of_the_users(tmp_path):
    Path("tally").write_text("import sys\nfrom tally.cli.main import main\nsys.exit(main())\n")
    for name in ("small", "wide"):
        runpy.run_path("models.py")[name]().save(f"{name}.keras")
    ran = subprocess.run(
        [sys.executable, "tally", "diff", "small.keras", "wide.keras", "--json"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    changes = json.loads(ran.stdout)["changes"]
    assert changes
    assert {change["where"] for change in changes} == {None}


def test_two_models_that_differ(capsys):
    assert main(["diff", "models.py:small", "models.py:wide"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith('Changes from "small" to "wide"\n')
    assert "resized  body (Dense)  units 3 → 5 (kernel, bias)         +10" in shown
    assert "resized  head (Dense)  features 3 → 5 (kernel)             +4" in shown


def test_a_model_and_itself(capsys):
    assert main(["diff", "models.py:small", "models.py:small"]) == 0
    assert "No difference: 2 layers, 23 parameters." in capsys.readouterr().out


def test_two_files_with_other_values(capsys):
    main(["summary", "models.py:save"])
    capsys.readouterr()
    assert main(["diff", "before.keras", "after.keras"]) == 1
    assert "head/bias" in capsys.readouterr().out
    assert main(["diff", "before.keras", "after.keras", "--no-values"]) == 0
    assert main(["diff", "before.keras", "models.py:small"]) == 0


def test_markdown_for_a_pull_request(capsys):
    assert main(["diff", "models.py:small", "models.py:wide", "--format", "markdown"]) == 1
    assert "| resized | body (Dense) | units 3 → 5 (kernel, bias) | +10 |" in capsys.readouterr().out


def test_json_and_nothing_else(capsys):
    assert main(["diff", "models.py:small", "models.py:wide", "--json"]) == 1
    read = json.loads(capsys.readouterr().out)
    assert (read["schema_version"], read["kind"], read["same"]) == (1, "diff", False)
    assert [change["amount"]["total"] for change in read["changes"]] == [10, 4]


def test_stored_ledgers_are_compared_without_jax(capsys):
    for name in ("small", "wide"):
        main(["summary", f"models.py:{name}", "--format", "ledger"])
        text = capsys.readouterr().out
        with open(f"{name}.json", "w") as file:
            file.write(text)
    code = (
        "import sys; from tally.cli.main import main; code = main(['diff', 'small.json', 'wide.json']); "
        "assert not {'jax', 'numpy'} & set(sys.modules); sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "units 3 → 5 (kernel, bias)" in ran.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "{",
            "This is no ledger: it is not JSON, expecting property name enclosed in double quotes at line 1, column 2.",
        ),
        (
            '{"schema_version": 2}',
            "This ledger has schema version 2, and this tally reads schema version 1: read it with a newer tally.",
        ),
    ],
)
def test_a_file_that_is_no_ledger_is_told_and_exits_with_2(text, told, capsys):
    with open("ledger.json", "w") as file:
        file.write(text)
    assert main(["diff", "ledger.json", "models.py:small"]) == 2
    assert told in capsys.readouterr().err


def test_the_schema_can_be_printed(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    main(["summary", "models.py:small", "--format", "ledger"])
    text = capsys.readouterr().out
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert Ledger.from_json(text).total == 23
