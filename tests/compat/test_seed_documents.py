"""The code in the questions behind this project runs as it stands, and shows the numbers that are stated there."""

import json
import re
from pathlib import Path

import pytest

from tally.accounting.ledger import Ledger
from tally.cli.main import main

FOLDER = Path(__file__).parents[3] / "shared" / "seeds"
DOCUMENTS = {path.name[:3]: path for path in sorted(FOLDER.glob("*.txt"))}
UNFENCED = r"^from keras import models, layers\n.*?^model\.summary\(\)\n"
LEFT_OUT = "import keras\nfrom keras import layers\n"
"""What the last document says nothing of: it shows the core of a program only."""

pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="the documents are not beside the repository")


def code(document, number):
    text = DOCUMENTS[document].read_text(encoding="utf-8")
    if document == "003":
        return re.findall(UNFENCED, text, re.DOTALL | re.MULTILINE)[number]
    block = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]
    return LEFT_OUT + block if document == "004" else block


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a block of a document, and gives its ledger and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(document, number):
        Path("script.py").write_text(code(document, number), encoding="utf-8")
        assert main(["run", "--json", "script.py"]) == 0
        shown = capsys.readouterr()
        (made,) = json.loads(shown.out)["accounts"]
        return Ledger.from_json(json.dumps(made["ledger"])), shown.err

    return run


def counts(ledger):
    return [sum(entry.count for entry in ledger.under(owner.path)) for owner in ledger.children("")]


def layers(ledger):
    return [owner for owner in ledger.children("") if owner.type != "InputLayer"]


def test_every_block_of_every_document_is_run_here():
    found = {
        document: len(re.findall("```python", path.read_text(encoding="utf-8")))
        for document, path in DOCUMENTS.items()
    }
    assert found == {"000": 3, "001": 3, "002": 3, "003": 0, "004": 1}
    assert len(re.findall(UNFENCED, DOCUMENTS["003"].read_text(), re.DOTALL | re.MULTILINE)) == 2


def test_a_convolution_has_its_filters_as_parameters(run):
    ledger, printed = run("000", 0)
    assert [owner.type for owner in layers(ledger)] == ["Conv2D", "MaxPooling2D", "Flatten", "Dense"]
    assert counts(ledger)[-4:] == [320, 0, 0, 54_090]
    assert "Total params: 54,410" in printed


def test_given_weights_are_counted_and_switched_off(run):
    ledger, printed = run("000", 1)
    assert "Total params: 54,410" in printed
    frozen = [entry for entry in ledger.entries if entry.state == "frozen"]
    assert [entry.shape for entry in frozen] == [(3, 3, 1, 32), (32,)]
    assert sum(entry.count for entry in frozen) == 320
    assert ledger.trainable == 54_090


def test_an_average_has_no_parameters(run):
    ledger, printed = run("000", 2)
    assert counts(ledger)[-4:] == [0, 0, 0, 1_970]
    assert "Total params: 1,970" in printed


def test_weights_drawn_in_call_count_as_zero_and_are_named(run):
    ledger, printed = run("001", 0)
    assert ledger.total == 0
    assert "Total params: 0" in printed
    lost = [(entry.name, entry.shape, entry.origin) for entry in ledger.entries if entry.state == "untracked"]
    assert lost == [("w", (10, 5), "script.py:10"), ("b", (5,), "script.py:11")]


@pytest.mark.parametrize("number", [1, 2])
def test_weights_made_in_build_or_before_count_50_and_5(run, number):
    ledger, printed = run("001", number)
    assert [entry.count for entry in ledger.entries] == [50, 5]
    assert "Total params: 55" in printed


def test_a_convolution_that_saw_no_input_has_an_empty_list_of_variables(run):
    ledger, printed = run("002", 0)
    assert printed == "Trainable variables before input: []\n"
    assert ledger.owner("").status == "unbuilt"
    assert ledger.entries == ()


def test_a_call_gives_the_convolution_its_two_variables(run):
    ledger, printed = run("002", 1)
    assert printed.startswith("Trainable variables after input: [<Variable ")
    assert [entry.shape for entry in ledger.entries] == [(3, 3, 3, 32), (32,)]


def test_a_strided_convolution_has_1664_parameters(run):
    ledger, printed = run("002", 2)
    assert "Kernel shape: (5, 5, 1, 64)\nBias shape: (64,)\nTotal parameters: 1664\n" in printed
    assert [entry.shape for entry in ledger.entries] == [(5, 5, 1, 64), (64,)]
    assert ledger.total == 1_664


def test_ten_filters_have_weights_of_their_own_for_each_channel(run):
    ledger, printed = run("003", 0)
    assert ledger.total == 490
    assert layers(ledger)[0].output_shapes == ((None, 29, 29, 10),)
    assert "Total params: 490" in printed


def test_filters_shared_by_the_channels_have_170_weights(run):
    ledger, printed = run("003", 1)
    assert [owner.output_shapes for owner in layers(ledger)] == [((None, 32, 32, 1),), ((None, 29, 29, 10),)]
    assert counts(ledger)[-2:] == [0, 170]
    assert "Total params: 170" in printed


def test_the_quiz_network_has_the_counts_of_the_answer(run):
    ledger, _ = run("004", 0)
    parameters = [entry for entry in ledger.entries if entry.state != "seed"]
    assert [entry.count for entry in parameters] == [288, 32, 18_432, 64, 16_000, 10]
    assert ledger.total == 34_826
