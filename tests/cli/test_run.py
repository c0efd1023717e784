import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tally.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples" / "seeds"

MODEL = """
import tensorflow as tf
from tensorflow import keras

model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(5)], name="small")
"""
LOST = """
from tensorflow import keras
import tensorflow as tf

class Drawn(keras.layers.Layer):
    def call(self, inputs):
        self.w = tf.random.normal((3, 2))
        return tf.matmul(inputs, self.w)

inputs = keras.Input((3,))
model = keras.Model(inputs, Drawn()(inputs), name="lost")
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TALLY_FULL_TRACE", raising=False)


def write(text, name="script.py"):
    Path(name).write_text(textwrap.dedent(text), encoding="utf-8")
    return name


def test_a_script_runs_as_the_program_it_is(capsys):
    write("VALUE = 7", "neighbour.py")
    write(
        """
        import sys
        import neighbour
        import __main__

        print(sys.argv, __name__, __file__, neighbour.VALUE, __main__.neighbour is neighbour)
        """
    )
    before = (sys.argv, list(sys.path), sys.modules["__main__"])
    assert main(["run", "script.py", "--epochs", "2", "--summary"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "['script.py', '--epochs', '2', '--summary'] __main__ script.py 7 True\n"
    assert shown.err == ""
    assert (sys.argv, sys.path, sys.modules["__main__"]) == before
    del sys.modules["neighbour"]


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no data')", 1, "no data\n"),
        ("raise SystemExit(True)", 1, ""),
    ],
)
def test_the_scripts_own_exit_code_is_kept(ending, code, said, capsys):
    write(f"import sys\n{ending}")
    assert main(["run", "script.py"]) == code
    assert capsys.readouterr().err == said


def test_an_error_is_told_with_the_scripts_own_lines(capsys):
    write(
        """\
        import keras

        def build():
            return keras.Sequential([keras.Input((4,)), keras.layers.Reshape((3,))])

        build()
        """
    )
    assert main(["run", "script.py"]) == 2
    told = capsys.readouterr().err
    places = [line.strip() for line in told.splitlines() if line.startswith('  File "')]
    assert places == ['File "script.py", line 6, in <module>', 'File "script.py", line 4, in build']
    assert told.startswith("Traceback (most recent call last):\n")


def test_the_whole_trace_is_there_for_who_asks(capsys, monkeypatch):
    monkeypatch.setenv("TALLY_FULL_TRACE", "1")
    write("import keras\nkeras.layers.Dense(3)(keras.Input((4,)), wrong=1)")
    assert main(["run", "script.py"]) == 2
    assert "core" in capsys.readouterr().err


def test_the_error_behind_an_error_is_cut_too(capsys):
    write(
        "import keras\ntry:\n    keras.layers.Nothing\nexcept AttributeError as e:\n    raise ValueError('so') from e"
    )
    assert main(["run", "script.py"]) == 2
    told = capsys.readouterr().err
    assert told.count('  File "') == told.count('  File "script.py"') == 2
    assert "UnknownName: keras.layers.Nothing has no counterpart in tally." in told
    assert told.endswith("ValueError: so\n")


def test_a_script_that_is_no_python_is_told(capsys):
    write("import keras\nmodel = (")
    assert main(["run", "script.py"]) == 2
    assert 'File "script.py", line 2' in capsys.readouterr().err


def test_a_script_that_is_not_there_is_told(capsys):
    assert main(["run", "missing.py"]) == 2
    assert capsys.readouterr().err == (
        "tally: There is no script at missing.py.\n  do: check the path, seen from this folder\n"
    )


def test_a_script_can_be_interrupted(capsys):
    write("raise KeyboardInterrupt")
    assert main(["run", "script.py"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


# -- accounts ----------------------------------------------------------------------------------------------------------
def test_what_is_made_is_accounted_for_when_the_script_has_ended(capsys):
    write(MODEL + "print('made')\nlayer = keras.layers.Conv2D(32, 3)\nlayer(tf.zeros((1, 8, 8, 3)))")
    assert main(["run", "--summary", "script.py"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("made\n\nmodel, a Sequential made at script.py:5:\n")
    assert "layer, a Conv2D made at script.py:7:" in shown
    assert "Total params: 55" in shown
    assert "Total params: 896" in shown


def test_what_a_function_made_and_let_go_is_accounted_for_too(capsys):
    write(
        "import keras\ndef main():\n    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\nmain()"
    )
    assert main(["run", "--explain", "script.py"]) == 0
    shown = capsys.readouterr().out
    assert "\na Sequential made at script.py:3:\n" in shown
    assert "2 × (3 + 1) = 8" in shown


def test_only_what_no_other_layer_holds_is_accounted_for(capsys):
    write(
        """
        import keras

        inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="inner")
        outer = keras.Sequential([keras.Input((3,)), inner], name="outer")
        also = keras.Model(inner.inputs, inner.outputs, name="also")
        keras.Input((7,))
        both = keras.layers.Bidirectional(keras.layers.LSTM(2), name="both")
        """
    )
    assert main(["run", "--json", "script.py"]) == 0
    accounts = json.loads(capsys.readouterr().out)["accounts"]
    assert [(one["name"], one["variable"]) for one in accounts] == [
        ("outer", "outer"),
        ("also", "also"),
        ("both", "both"),
    ]


def test_layers_made_anew_in_each_call_are_told_by_the_account_of_their_maker(capsys):
    write(
        """
        import keras

        class Anew(keras.layers.Layer):
            def call(self, inputs):
                return keras.layers.Dense(2)(inputs)

        layer = Anew()
        layer(keras.ops.ones((1, 3)))
        """
    )
    assert main(["run", "--json", "--diagnose", "script.py"]) == 1
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert account["variable"] == "layer"
    assert "T107" in [finding["code"] for finding in account["findings"]]


def test_after_an_error_what_was_made_before_is_accounted_for(capsys):
    write(MODEL + "model.nothing")
    assert main(["run", "--summary", "script.py"]) == 2
    shown = capsys.readouterr()
    assert "Total params: 55" in shown.out
    assert "AttributeError" in shown.err


def test_a_layer_whose_constructor_failed_is_left_out(capsys):
    write("import keras\ntry:\n    keras.layers.Dense(-1)\nexcept ValueError:\n    print('refused')")
    assert main(["run", "--summary", "script.py"]) == 0
    assert capsys.readouterr().out == "refused\n"


def test_json_is_one_document_and_the_scripts_prints_go_elsewhere(capsys):
    write(MODEL + "print('hello')\nmodel.summary()")
    assert main(["run", "--json", "script.py"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert list(document) == ["schema_version", "kind", "script", "exit", "accounts"]
    assert (document["schema_version"], document["kind"], document["script"], document["exit"]) == (
        1,
        "run",
        "script.py",
        0,
    )
    (account,) = document["accounts"]
    assert list(account) == ["name", "variable", "ledger", "findings"]
    assert (account["name"], account["variable"], account["findings"]) == ("small", "model", None)
    assert account["ledger"]["kind"] == "ledger"
    assert shown.err.startswith("hello\n")
    assert "Total params: 55" in shown.err


def test_json_tells_how_the_script_ended(capsys):
    write("import sys\nsys.exit(4)")
    assert main(["run", "--json", "script.py"]) == 4
    assert json.loads(capsys.readouterr().out)["exit"] == 4


def test_json_tells_of_what_was_made_before_an_error_too(capsys):
    write(MODEL + "1 / 0")
    assert main(["run", "--json", "script.py"]) == 2
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["exit"] == 1  # as Python would leave it
    assert [one["variable"] for one in document["accounts"]] == ["model"]
    assert shown.err.endswith("ZeroDivisionError: division by zero\n")


def test_diagnose_tells_a_right_model_from_a_wrong_one(capsys):
    assert main(["run", "--diagnose", write(MODEL)]) == 0
    assert main(["run", "--diagnose", write(LOST)]) == 1
    assert "T101" in capsys.readouterr().out


def test_diagnose_in_json_gives_the_findings_and_keeps_the_scripts_exit_code(capsys):
    write(LOST + "raise SystemExit(5)")
    assert main(["run", "--json", "--diagnose", "script.py"]) == 5
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    codes = [(finding["code"], finding["name"], finding["severity"]) for finding in account["findings"]]
    assert ("T101", "untracked-weights-in-call", "error") in codes


# -- the examples ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("example", "told"),
    [
        (
            "layers_without_parameters",
            "learned: 320 parameters in the first layer, 320 of them trained\n"
            "fixed: 320 parameters in the first layer, 0 of them trained\n"
            "averaged: 0 parameters in the first layer, 0 of them trained\n",
        ),
        ("weights_that_count", "drawn in call: 0\nmade in build: 55\nmade early: 55\n"),
        (
            "empty_until_called",
            "before: []\n"
            "after: [(3, 3, 3, 32), (32,)]\n"
            "kernel: (5, 5, 1, 64) bias: (64,) output: (2, 16, 16, 64)\n"
            "parameters: 1664\n",
        ),
        (
            "quiz",
            "the first convolution has 21,632 parameters: wrong, it has 320\n"
            "the first pooling has 5,408 parameters: wrong, it has 0\n"
            "the second convolution has 18,496 parameters: right\n"
            "the dense layer has 16,010 parameters: right\n",
        ),
    ],
)
def test_an_example_shows_the_numbers_it_is_about(example, told, capsys):
    assert main(["run", str(EXAMPLES / f"{example}.py")]) == 0
    assert capsys.readouterr().out.endswith(told)


def test_the_example_of_filters_and_channels_counts_490_170_and_88(capsys):
    assert main(["run", "--json", str(EXAMPLES / "filters_and_channels.py")]) == 0
    shown = capsys.readouterr()
    names = [one["variable"] for one in json.loads(shown.out)["accounts"]]
    assert names == ["own_filters", "shared_filters", "separable"]
    assert [line.split()[2] for line in shown.err.splitlines() if "Total params" in line] == [
        "490",
        "170",
        "88",
    ]


def test_every_example_is_run_here():
    assert len(list(EXAMPLES.glob("*.py"))) == 5


def test_the_command_runs_in_a_process_of_its_own():
    write(MODEL + "print(model.count_params())")
    command = [sys.executable, "-m", "tally", "run", "--summary", "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("55\n\nmodel, a Sequential made at script.py:5:\n")
    assert done.stderr == ""
