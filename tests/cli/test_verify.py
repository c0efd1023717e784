"""`tally verify` marks statements, reads them from files, and says by its exit code what came of it."""

import json
import subprocess
import sys

import pytest

from accounting.written import mnist, unbuilt
from tally.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with two ledgers, where the command is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist.json").write_text(mnist().to_json(), encoding="utf-8")
    (tmp_path / "half.json").write_text(unbuilt().to_json(), encoding="utf-8")
    return tmp_path


def test_what_holds_exits_with_0(capsys):
    assert main(["verify", "mnist.json", "conv2d=320", "dense.kernel=(1600, 10)"]) == 0
    assert capsys.readouterr().out == (
        'Statements about "mnist"\n\n'
        "✓ conv2d=320\n  It has 320 parameters: 32 × (1·3·3 + 1) = 320.\n\n"
        "✓ dense.kernel=(1600, 10)\n  Its kernel is (1600, 10): 1,600 features × 10 units = 16,000.\n\n"
        "Both hold.\n"
    )


def test_what_does_not_hold_exits_with_1(capsys):
    assert main(["verify", "mnist.json", "conv2d=21632", "total=34826"]) == 1
    shown = capsys.readouterr().out
    assert "  21,632 is the number of its output values, 26 × 26 × 32, not its parameters.\n" in shown
    assert shown.endswith("1 of 2 holds.\n")


def test_what_can_not_be_told_yet_exits_with_1(capsys):
    assert main(["verify", "half.json", "conv2d_1=320"]) == 1
    assert "? conv2d_1=320\n  This can't be told yet: it is not built." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["con2d=3"], "'con2d=3': There is no layer 'con2d'. Did you mean 'conv2d'?"),
        (["The weather is fine."], "'The weather is fine.' is not understood"),
        ([], "There is no statement to verify.\n  do: write one, such as 'conv2d=320'"),
        (["--file", "missing.txt"], "There is no file at missing.txt."),
        (["--file", "broken.json"], "broken.json is no JSON"),
        (["--file", "number.json"], "number.json holds no statements."),
    ],
)
def test_what_is_not_understood_exits_with_2(folder, arguments, told, capsys):
    (folder / "broken.json").write_text("{")
    (folder / "number.json").write_text("3")
    assert main(["verify", "mnist.json", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err


def test_statements_are_read_from_a_text(folder, capsys):
    lines = [
        "# a quiz",
        "",
        "1. The first convolutional layer has a total of 320 parameters.",
        "total = 34,826",
    ]
    (folder / "answers.txt").write_text("\n".join(lines), encoding="utf-8")
    assert main(["verify", "mnist.json", "--file", "answers.txt"]) == 0
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize(
    "content", [{"conv2d": 320, "dense.kernel": [1600, 10]}, ["conv2d=320", {"total": 34826}]]
)
def test_statements_are_read_from_json(folder, content, capsys):
    (folder / "answers.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(["verify", "mnist.json", "dense=16010", "--file", "answers.json"]) == 0
    assert capsys.readouterr().out.endswith("All 3 hold.\n")


def test_json_is_the_verdicts_and_nothing_else(capsys):
    assert main(["verify", "mnist.json", "conv2d=21632", "conv2d.output=(26, 26, 32)", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    head = {name: shown[name] for name in ("schema_version", "kind", "name", "holds", "right", "statements")}
    assert head == {
        "schema_version": 1,
        "kind": "verify",
        "name": "mnist",
        "holds": False,
        "right": 1,
        "statements": 2,
    }
    assert shown["verdicts"][0] == {
        "statement": "conv2d=21632",
        "layer": "conv2d",
        "quantity": "parameters",
        "right": False,
        "given": 21632,
        "expected": 320,
        "says": "It has 320 parameters: 32 × (1·3·3 + 1) = 320.",
        "formula": "32 × (1·3·3 + 1) = 320",
        "symbols": "filters × (input channels · kernel height · kernel width + 1)",
        "explanations": ["21,632 is the number of its output values, 26 × 26 × 32, not its parameters."],
    }
    assert shown["verdicts"][1]["expected"] == [None, 26, 26, 32]


def test_markdown_lists_the_verdicts(capsys):
    assert main(["verify", "mnist.json", "conv2d=320", "--format", "markdown"]) == 0
    assert "✓ conv2d=320" in capsys.readouterr().out


def test_a_stored_ledger_is_marked_without_waiting_for_jax():
    code = (
        "import sys; from tally.cli.main import main; code = main(['verify', 'mnist.json', 'conv2d=320']);"
        "sys.exit(code or 10 * ('jax' in sys.modules or 'numpy' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
