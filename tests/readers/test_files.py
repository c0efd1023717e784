"""Any file to its ledger: told by its bytes, in Python and in a terminal, and without the engine."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
from safetensors.numpy import save_file

import tally
from formats.test_gguf import SMALL
from tally.cli.main import main
from tally.formats.errors import BadFileError
from tally.readers import contents_of, is_model_file, is_there, read

DATA = Path(__file__).parents[1] / "formats" / "data"

ARRAYS = {
    "conv.weight": np.zeros((8, 3, 5, 5), "float32"),
    "conv.bias": np.zeros(8, "float32"),
    "head.weight": np.zeros((10, 8), "float32"),
    "head.bias": np.zeros(10, "float32"),
}
TOTAL = 698


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(ARRAYS, tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **ARRAYS)
    kernel = {"kernel": np.zeros((5, 5, 3, 8), "float32"), "bias": np.zeros(8, "float32")}
    dense = {"kernel": np.zeros((8, 10), "float32"), "bias": np.zeros(10, "float32")}
    (tmp_path / "net.msgpack").write_bytes(
        flax.serialization.to_bytes({"params": {"Conv_0": kernel, "Dense_0": dense}})
    )
    (tmp_path / "net.gguf").write_bytes(SMALL)
    (tmp_path / "hub").mkdir()
    save_file(ARRAYS, tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text('{"architectures": ["Net"]}')
    return tmp_path


NAMES = ["net.safetensors", "net.npz", "net.msgpack", "hub"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_account(files, name):
    ledger = read(files / name)
    assert ledger.total == TOTAL
    assert sorted(owner.type for owner in ledger.children()) == ["Conv2D", "Dense"]
    assert all(all(entry.axes) for entry in ledger.entries)
    assert ledger.name == ("hub" if name == "hub" else "net")
    assert is_model_file(files / name)


@pytest.mark.parametrize("name", [*NAMES, "net.gguf"])
@pytest.mark.parametrize(
    "command",
    [
        ["summary"],
        ["explain"],
        ["plan"],
        ["check", "--max-params", "1"],
        ["verify", "total=1"],
        ["diff", "net.npz"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_takes_a_file(files, name, command, capsys):
    verb, *others = command
    first = [verb, *others, name] if verb == "diff" else [verb, name, *others]
    assert main(first) in (0, 1)
    out, err = capsys.readouterr()
    assert out
    assert not err


def test_a_terminal_never_waits_for_the_engine(files):
    script = (
        "import sys\n"
        "from tally.cli.main import main\n"
        "for name in ('net.safetensors', 'net.npz', 'net.msgpack', 'net.gguf', 'hub'):\n"
        "    for line in ('summary', 'explain', 'plan', 'check --max-params 9M', 'verify conv=608', 'diff net.npz'):\n"
        "        verb, *others = line.split()\n"
        "        try: main([verb, name, *others])\n"
        "        except SystemExit: pass\n"
        "found = {'jax', 'numpy', 'flax', 'safetensors', 'h5py'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_verbs_take_a_path_and_a_ledger(files):
    quiet = {"print_fn": lambda text: None}
    for subject in ("net.safetensors", files / "hub", read(files / "net.npz")):
        assert tally.summary(subject, **quiet).total == TOTAL
        assert tally.explain(subject, **quiet).total == TOTAL
        assert tally.check(subject, max_params=TOTAL, **quiet).holds
        assert tally.verify(subject, "head=90", **quiet).holds
        assert tally.diff(subject, subject, **quiet).is_empty
        assert tally.plan(subject, **quiet).gradients == 4 * TOTAL
        assert tally.diagnose(subject, **quiet).holds


@pytest.mark.parametrize("options", [[], ["--batch-size", "8"], ["--prediction"]])
def test_a_plan_without_the_engine_is_the_plan_with_it(files, options, capsys):
    assert main(["plan", "net.safetensors", "--json", *options]) == 0
    quick = json.loads(capsys.readouterr().out)
    assert main(["plan", "net.safetensors", "--json", "--optimizer", "adam", *options]) == 0
    assert quick == json.loads(capsys.readouterr().out)


def test_the_budget_of_a_test_takes_a_file(files, tally_budget):
    assert tally_budget("net.safetensors", max_params=TOTAL).holds


def test_a_ledger_written_as_json_is_read_again(files):
    ledger = read(files / "net.safetensors")
    (files / "ledger.json").write_text(ledger.to_json())
    assert read(files / "ledger.json") == ledger


def test_what_a_file_holds_keeps_the_files_own_names(files):
    assert {tensor.name for tensor in contents_of(files / "net.npz").tensors} == set(ARRAYS)


@pytest.mark.parametrize("name", ["model-1", "checkpoint", "."])
def test_a_checkpoint_goes_by_the_name_its_files_begin_with(tmp_path, monkeypatch, capsys, name):
    with zipfile.ZipFile(DATA / "trained.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert is_there(name)
    assert is_model_file(name)
    assert tally.summary(name, print_fn=lambda text: None).total == 183
    assert main(["summary", name]) == 0
    assert "183" in capsys.readouterr().out
    assert read(name).name == {".": tmp_path.name}.get(name, name)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x80", b"\x89HDF"])
def test_a_file_of_no_kind_says_which_there_are(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(BadFileError) as caught:
        read(tmp_path / "x.bin")
    assert str(tmp_path / "x.bin") in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<html>", "a web page"),
    ],
)
def test_what_lies_where_a_model_should_is_told(tmp_path, data, reason):
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(BadFileError, match=reason):
        read(tmp_path / "x.pt")


def test_nothing_there_says_so(tmp_path):
    with pytest.raises(BadFileError, match="isn't there"):
        read(tmp_path / "x.safetensors")


def test_a_broken_file_is_told_in_a_line(files, capsys):
    (files / "cut.safetensors").write_bytes((files / "net.safetensors").read_bytes()[:-1])
    assert main(["summary", "cut.safetensors"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tally: cut.safetensors, tensor 'head.weight': lies at bytes")
    assert "Traceback" not in error
    assert "BadFileError" not in error


def test_a_hostile_name_does_nothing_to_a_terminal(files, capsys):
    save_file({"conv\x1b[2J.weight": np.zeros(3, "float32")}, files / "odd.safetensors")
    assert main(["explain", "odd.safetensors"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_two_files_of_one_model_do_not_differ(files):
    assert tally.diff("net.safetensors", "net.npz", print_fn=lambda text: None).is_empty


def test_a_keras_file_with_a_layer_of_somebody_elses_is_still_accounted_for(files):
    theirs = {"class_name": "Unheard", "module": "their.code", "registered_name": "their>Unheard"}
    model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, name="head")])
    model.save("net.keras")
    with zipfile.ZipFile("net.keras") as old, zipfile.ZipFile("odd.keras", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                said = json.loads(data)
                said["config"]["layers"].append({**theirs, "config": {"name": "odd"}})
                data = json.dumps(said).encode()
            new.writestr(name, data)
    assert tally.summary("odd.keras", print_fn=lambda text: None).total == 15
    with pytest.raises(ValueError, match="Unheard"):
        tally.saving.load_model("odd.keras")


def test_the_formats_of_flax_name_one_state_of_training_alike(tmp_path):
    jax = pytest.importorskip("jax")
    checkpoint = pytest.importorskip("orbax.checkpoint")
    weights = {"Dense_0": {"kernel": jax.numpy.zeros((4, 3)), "bias": jax.numpy.zeros(3)}}
    moments = {"0": {"mu": weights, "count": jax.numpy.zeros((), "int32")}}
    state = {"step": jax.numpy.zeros((), "int32"), "params": weights, "opt_state": moments}
    (tmp_path / "m.msgpack").write_bytes(flax.serialization.to_bytes(state))
    with checkpoint.StandardCheckpointer() as writer:
        writer.save(tmp_path / "m", state)
    first, second = (read(tmp_path / name) for name in ("m.msgpack", "m"))
    named = {(one.path, one.owner, one.state) for one in first.entries}
    assert named == {(one.path, one.owner, one.state) for one in second.entries}
    assert ("Dense_0/kernel", "Dense_0", "trainable") in named
