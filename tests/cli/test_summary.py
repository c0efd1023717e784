"""`tally summary`: its columns, depth, folding, forms and widths, on a script's model and on a stored ledger."""

import csv
import io
import json
import subprocess
import sys

import pytest

from report.deep import blocks
from tally.accounting.ledger import Ledger
from tally.cli.main import main

MODEL = """
import tally

class Pair(tally.layers.Layer):
    def __init__(self):
        super().__init__()
        self.one = tally.layers.Dense(4)
        self.two = tally.layers.Dense(4)

    def call(self, x):
        return self.two(self.one(x)) @ x.T @ x

inputs = tally.Input((4,), batch_size=3)
x = inputs
for place in range(3):
    x = Pair()(x)
model = tally.Model(inputs, x, name="pairs")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "deep.json").write_text(blocks(12).to_json(), encoding="utf-8")
    (tmp_path / "pairs.py").write_text(MODEL, encoding="utf-8")
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["summary", *arguments]) == 0
    return capsys.readouterr().out


def test_columns_and_depth_are_chosen_by_name_and_number(capsys):
    text = shown(capsys, "deep.json", "--columns", "shape,params,macs", "--depth", "1")
    assert "blocks/0 … 11 (Block) × 12" in text
    assert "├ attention (Attention)" in text
    assert "Multiply-adds" in text.splitlines()[2]
    assert "query" not in text
    assert "query" in shown(capsys, "deep.json", "--expand-nested")


def test_folding_is_up_to_the_reader(capsys):
    assert "blocks/7 (Block)" in shown(capsys, "deep.json", "--no-fold")
    assert "blocks/7" not in shown(capsys, "deep.json", "--fold")


def test_the_width_is_kept(capsys):
    for width in ("50", "60"):
        text = shown(capsys, "deep.json", "--width", width, "--expand-nested")
        assert max(map(len, text.splitlines())) <= int(width)


def test_what_learns_can_be_shown(capsys):
    assert "Trainable" in shown(capsys, "deep.json", "--show-trainable").splitlines()[2]


@pytest.mark.parametrize(
    ("form", "start"),
    [("markdown", "### Model"), ("latex", r"\noindent"), ("html", "<div"), ("csv", "path,")],
)
def test_other_forms_are_printed(form, start, capsys):
    text = shown(capsys, "deep.json", "--format", form)
    assert text.startswith(start)
    assert "10,176" in text or "10176" in text


def test_csv_can_be_read_back(capsys):
    read = list(csv.DictReader(io.StringIO(shown(capsys, "deep.json", "--format", "csv"))))
    assert sum(int(row["params"]) for row in read) == blocks(12).total


def test_json_is_the_summary_and_nothing_else(capsys):
    read = json.loads(shown(capsys, "deep.json", "--json"))
    assert (read["kind"], read["total"], len(read["rows"])) == ("summary", blocks(12).total, 4)


def test_the_ledger_itself_can_be_had(capsys):
    assert Ledger.from_json(shown(capsys, "deep.json", "--format", "ledger")) == blocks(12)


def test_what_a_layer_computes_in_its_call_is_found_by_following_it(capsys):
    text = shown(capsys, "pairs.py:model", "--columns", "macs", "--depth", "1", "--no-fold")
    assert "?" not in text
    [total] = [line for line in text.splitlines() if "Multiply-adds:" in line]
    rows = [line.split()[-1] for line in text.splitlines() if "(Pair)" in line or "(Dense)" in line]
    assert sum(int(number.replace(",", "")) for number in rows) == int(total.split()[1].replace(",", "")) > 96


def test_a_column_that_is_not_there_is_told(capsys):
    assert main(["summary", "deep.json", "--columns", "colour"]) == 2
    assert "There is no column 'colour'" in capsys.readouterr().err


def test_a_stored_ledger_is_summarised_without_loading_jax(folder):
    code = (
        "import sys; from tally.cli.main import main; main(['summary', 'deep.json', '--columns', 'params,macs']); "
        "print([name for name in ('jax', 'numpy', 'pandas', 'rich') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr.strip() == "[]"
    assert "11,104 (43.38 KB)" in done.stdout
