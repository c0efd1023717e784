"""What `diagnose` says, and when `fit` and the command say it by themselves."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import tally
from tally import layers
from tally.accounting.finding import KINDS
from tally.cli.main import main
from tally.models.verbs.diagnose import find

GOLDEN = Path(__file__).parent / "golden"


class NaiveLinear(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, inputs):
        self.w = tally.random.normal((inputs.shape[-1], self.units))
        self.b = tally.ops.zeros((self.units,))
        return tally.ops.matmul(inputs, self.w) + self.b


def naive():
    inputs = tally.Input((10,))
    return tally.Model(
        inputs, layers.Dense(1, name="head")(NaiveLinear(5, name="naive")(inputs)), name="naive_model"
    )


def careless():
    inputs = tally.Input((28, 28, 1), name="image")
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    layers.Dropout(0.5, name="drop")(x)
    model = tally.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x), name="careless")
    model.compile("adam", tally.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def correct():
    model = tally.Sequential(
        [tally.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)], name="correct"
    )
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("make", [naive, careless, correct])
def test_the_text_of_a_diagnosis(make):
    shown = []
    tally.diagnose(make(), print_fn=shown.append)
    text = "\n".join(shown) + "\n"
    golden = GOLDEN / f"diagnosis_{make.__name__}.txt"
    if os.environ.get("TALLY_UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_a_diagnosis_is_short_in_a_shell_and_says_whether_it_holds():
    assert repr(find(naive())) == "<Diagnosis of 'naive_model': 2 errors>"
    assert not find(naive()).holds
    assert find(correct()).holds


def test_a_function_that_fails_in_building_is_diagnosed():
    def build():
        return tally.Sequential([tally.Input((None, None, 3)), layers.Flatten(), layers.Dense(2)])

    (found,) = find(build).findings
    assert (found.code, found.severity) == ("T603", "error")
    assert found.where.endswith(f"test_diagnose.py:{build.__code__.co_firstlineno + 1}")


def test_an_error_without_a_code_is_raised_as_it_is():
    with pytest.raises(ValueError, match="is not a known name"):
        find(lambda: tally.Sequential([tally.Input((3,)), layers.Dense(2, activation="rilu")]))


def test_a_ledger_alone_is_diagnosed_without_a_call():
    diagnosis = find(tally.account(layers.Dense(3)))
    assert [one.code for one in diagnosis.findings] == ["T201"]
    assert not diagnosis.followed


def test_nothing_on_the_model_and_no_random_number_changes():
    model = naive()
    tally.utils.set_random_seed(3)
    expected = np.random.rand(), float(tally.random.normal(()))
    tally.utils.set_random_seed(3)
    find(model, np.ones((4, 10), "float32"))
    assert (np.random.rand(), float(tally.random.normal(()))) == expected
    assert not hasattr(model.layers[1], "w")


# -- fit ---------------------------------------------------------------------------------------------------------------
def test_fit_tells_mistakes_once_before_its_first_step(capsys):
    model = naive()
    model.compile("sgd", "mse")
    x, y = np.ones((8, 10), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, verbose=0)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("T101 untracked-weights-in-call") == 1
    model.fit(x, y, verbose=0)
    assert capsys.readouterr().err == ""
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    assert "T101" in capsys.readouterr().err


def test_fit_says_nothing_of_a_correct_model(capsys):
    correct().fit(np.ones((8, 4), "float32"), np.ones((8, 1), "float32"), verbose=0)
    assert capsys.readouterr().err == ""


def test_fit_can_be_told_not_to_look(capsys, monkeypatch):
    monkeypatch.setenv("TALLY_DIAGNOSE", "0")
    model = naive()
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 10), "float32"), np.ones((8, 1), "float32"), verbose=0)
    assert capsys.readouterr().err == ""


def test_a_search_that_fails_stops_no_training(monkeypatch, capsys):
    monkeypatch.setattr("tally.models.verbs.diagnose.search", lambda *_: 1 / 0)
    model = naive()
    model.compile("sgd", "mse")
    history = model.fit(np.ones((8, 10), "float32"), np.ones((8, 1), "float32"), verbose=0)
    assert len(history.history["loss"]) == 1


# -- the command -------------------------------------------------------------------------------------------------------
SCRIPT = """
import tally
from tally import layers

good = tally.Sequential([tally.Input((4,)), layers.Dense(3)], name="good")
bad = tally.Sequential([tally.Input((4,)), layers.Dense(1, activation="softmax", name="head")], name="bad")


def unbuildable():
    return tally.Sequential([tally.Input((None, 3)), layers.Flatten(), layers.Dense(2)])
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "models.py").write_text(SCRIPT)


@pytest.mark.usefixtures("script")
def test_the_command_says_what_was_found_and_whether_it_holds(capsys):
    assert main(["diagnose", "models.py:good"]) == 0
    assert "Every weight is tracked" in capsys.readouterr().out
    assert main(["diagnose", "models.py:bad"]) == 1
    assert "T501 loss-mismatch" in capsys.readouterr().out


@pytest.mark.usefixtures("script")
def test_the_command_gives_its_findings_as_json(capsys):
    assert main(["diagnose", "models.py:bad", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["holds"]) == ("diagnosis", False)
    (found,) = (one for one in document["findings"] if one["severity"] == "error")
    assert (found["code"], found["name"], found["layer"]) == ("T501", "loss-mismatch", "head")
    assert found["where"].startswith("models.py:6")


@pytest.mark.usefixtures("script")
def test_the_command_takes_what_fails_in_building_as_a_finding(capsys):
    assert main(["diagnose", "models.py:unbuildable"]) == 1
    shown = capsys.readouterr().out
    assert "T603 undefined-shape" in shown
    assert "models.py:10" in shown


def test_every_code_has_a_name_a_severity_and_a_meaning():
    assert len(KINDS) == 31
    for code, kind in KINDS.items():
        assert code[0] == "T"
        assert kind.severity in ("error", "warning", "note")
        assert kind.name.replace("-", "").isalpha()
        assert kind.meaning.endswith(".")


def test_the_page_of_findings_lists_every_code():
    page = (Path(__file__).parent.parent.parent / "docs" / "findings.md").read_text()
    for code, kind in KINDS.items():
        assert f"| {code} | {kind.name} | {kind.severity} | {kind.meaning} |" in page
