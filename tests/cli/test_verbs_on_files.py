"""Every verb on a file of every format, and formats against each other: what it prints is of that file."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tally.cli.main import main

TESTS = Path(__file__).parents[1]
CORPUS, DATA = TESTS / "fuzz" / "corpus", TESTS / "formats" / "data"

FORMATS = {
    "net.safetensors": (29, 29, "safetensors", "model/head", 9),
    "split": (29, 29, "safetensors", "model/head", 9),
    "whole": (61, 61, "safetensors", "model/embed_tokens", 32),
    "net.keras": (55, 51, "Keras", "conv", 20),
    "legacy.h5": (55, 51, "Keras, HDF5", "head", 27),
    "net.weights.h5": (55, 51, "Keras weights", "norm", 8),
    "net.json": (55, 51, "Keras configuration", "conv", 20),
    "layers.onnx": (373, 365, "ONNX", "stem", 112),
    "net.pt": (29, 27, "PyTorch, zip", "model/conv", 18),
    "older.bin": (29, 27, "PyTorch, before 1.6", "model/conv", 18),
    "module.pth": (29, 24, "PyTorch, zip", "0", 20),
    "net.gguf": (520, 8, "GGUF v3", "token_embd", 512),
    "exported": (183, 175, "TensorFlow SavedModel", "tiny/stem", 76),
    "trained": (183, 175, "TensorFlow checkpoint", "tiny/head", 51),
    "float.tflite": (167, 167, "TensorFlow Lite", "tiny_1/stem_1", 76),
    "orbax": (1056, 1050, "Orbax", "layer_19", 100),
    "net.npz": (29, 29, "NumPy, npz", "model/conv", 18),
    "net.msgpack": (31, 31, "Flax msgpack", None, 0),
}
"""Each file: its parameters, those that learn, how its account calls it, and a layer with what that holds."""
ZIPPED = ("exported", "trained", "orbax")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder with a file of each format."""
    here = tmp_path_factory.mktemp("formats")
    for name in FORMATS:
        if name in ZIPPED:
            with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
                archive.extractall(here / name)
            continue
        source = next(p for p in (*CORPUS.glob(f"[!l]*/{name}"), DATA / name) if p.exists())
        (shutil.copytree if source.is_dir() else shutil.copy)(source, here / name)
    return here


@pytest.fixture
def tell(folder, monkeypatch, capsys):
    """Run a command in that folder, and give its exit code and what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert not err
        return code, out

    return run


each_file = pytest.mark.parametrize("name", FORMATS)


@each_file
@pytest.mark.parametrize("width", [80, 120])
def test_a_summary_has_the_counts_and_a_layer_in_lines_that_fit(tell, name, width):
    total, trainable, _, layer, params = FORMATS[name]
    code, out = tell("summary", name, "--width", width)
    words = " ".join(out.split())
    assert code == 0
    assert f"Total params: {total:,} (" in words
    assert f"Trainable params: {trainable:,} (" in words
    assert max(map(len, out.splitlines())) <= width
    if layer is not None:
        row = next(
            line
            for line in out.splitlines()
            if line.strip(" ├└│─").startswith(layer.split("/")[-1]) or layer in line
        )
        assert f" {params:,}" in row


@each_file
def test_a_summary_as_json_says_what_the_file_is(tell, name):
    total, trainable, source, *_ = FORMATS[name]
    code, out = tell("summary", name, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["total"], found["trainable"], found["source"]) == (total, trainable, source)
    assert sum(row["params"] for row in found["rows"]) == total


@each_file
def test_an_explanation_adds_up_to_the_total(tell, name):
    total, _, _, layer, params = FORMATS[name]
    code, out = tell("explain", name)
    assert code == 0
    assert f"= {total:,}\n" in out
    if layer is not None:
        code, out = tell("explain", name, "--layer", layer)
        assert code == 0
        assert f"{params:,} parameters" in out
        assert "Total" not in out


@each_file
def test_a_check_measures_the_file(tell, name):
    total = FORMATS[name][0]
    assert tell("check", name, "--expect-params", total)[0] == 0
    code, out = tell("check", name, "--max-params", total - 1)
    assert code == 1
    assert f"{total:,} parameters: 1 too many, at most {total - 1:,} asked." in " ".join(out.split())


@each_file
def test_a_statement_is_held_against_the_file(tell, name):
    total, trainable, _, layer, params = FORMATS[name]
    assert tell("verify", name, f"total={total}", f"trainable={trainable}")[0] == 0
    code, out = tell("verify", name, f"total={total + 1}")
    assert code == 1
    assert f"{total:,}" in out
    if layer is not None:
        assert tell("verify", name, f"{layer}={params}")[0] == 0


@each_file
def test_a_plan_has_what_is_known_and_says_whether_it_fits(tell, name):
    code, out = tell("plan", name, "--memory", "8GB", "--json")
    found = json.loads(out)
    assert (code, found["fits"], found["memory"]) == (0, True, 8_000_000_000)
    assert found["count"] == FORMATS[name][0]
    assert found["training"]
    assert found["gradients"] > 0
    assert found["peak"] >= found["parameters"] + found["gradients"] + found["optimizer"]
    code, out = tell("plan", name, "--memory", "10B")
    assert code == 1
    assert "doesn't fit" in out or "Not even a batch of 1 fits" in out
    assert " 0.00 B" not in out


@each_file
def test_a_diagnosis_finds_no_mistake_in_a_sound_file(tell, name):
    code, out = tell("diagnose", name)
    assert code == 0
    assert out.startswith("Diagnosis of ")
    assert "nothing found" in out or "Notes: nothing is wrong there" in out


@each_file
def test_a_file_does_not_differ_from_itself(tell, name):
    code, out = tell("diff", name, name)
    assert code == 0
    assert f"{FORMATS[name][0]:,} parameters" in out


@pytest.mark.parametrize("other", [name for name in FORMATS if name != "net.keras"])
def test_a_file_of_another_format_differs_by_the_difference_of_the_totals(tell, other):
    code, out = tell("diff", "net.keras", other, "--json")
    found = json.loads(out)
    assert (found["before"]["total"], found["after"]["total"]) == (55, FORMATS[other][0])
    assert sum(change["amount"]["total"] for change in found["changes"]) == FORMATS[other][0] - 55
    assert not [one["where"] for one in found["changes"] if one["where"]]
    assert code == (0 if other in ("legacy.h5", "net.json") else 1)
    assert not [one for one in found["changes"] if one["kind"] == "moved" and one["was"] == one["path"]]


@pytest.mark.parametrize("name", ["net.keras", "legacy.h5", "net.json"])
def test_a_layer_of_a_file_that_tells_its_layers_can_be_made_otherwise(tell, name):
    code, out = tell("what-if", name, "--layer", "conv", "--filters", "5")
    assert code == 0
    assert "5 × (1·3·3 + 1) = 50" in out


def test_a_plan_of_weights_alone_says_why_activations_are_not_told(tell):
    _, out = tell("plan", "net.safetensors")
    words = " ".join(out.split())
    assert "activations not told not told" in words
    assert "the account (safetensors) has no sizes of what goes in and out of the layers" in words
    assert "SGD with momentum 106.00 B 302.00 B" in words


def test_a_plan_of_a_configuration_has_activations_and_the_largest_batch(tell):
    _, out = tell("plan", "net.json", "--memory", "1MB", "--json")
    found = json.loads(out)
    assert found["step"]["activations"] == 32 * 4 * (8 + 8 + 8 + 3)
    assert found["largest_batch"] == (900_000 - found["fixed"]) // found["per_example"]
