"""What a program waits for at its start: which modules a small script and each command import, and which not."""

import gc
import json
import subprocess
import sys

import pytest

import tally
from tally.accounting.ledger import Entry, Ledger, Owner

HEAVY = {"jax", "numpy", "optax", "h5py", "rich", "safetensors"}


def imported(code: str, *arguments: str) -> set[str]:
    """The modules that are there after a program has run in a process of its own."""
    tell = "import sys; sys.stderr.write(chr(10).join(sys.modules))"
    program = f"import atexit; atexit.register(lambda: exec({tell!r}))\n{code}"
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stderr.split())


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> str:
    kernel = Entry(path="head/kernel", owner="head", shape=(4, 3), axes=("features", "units"))
    made = Ledger(name="small", owners=(Owner(path="head", type="Dense"),), entries=(kernel,))
    path = tmp_path_factory.mktemp("ledger") / "small.json"
    path.write_text(made.to_json())
    return str(path)


def test_a_small_script_waits_for_what_it_uses_and_nothing_else():
    found = imported(
        "import tally\n"
        "model = tally.Sequential([tally.layers.Input((4,)), tally.layers.Dense(3)])\n"
        "model.compile('adam', 'mse')"
    )
    assert {"jax", "tally.layers.dense", "tally.optimizers.adam", "tally.training.trainer"} <= found
    others = {"optax", "h5py", "rich", "safetensors", "multiprocessing", "jax.scipy.linalg"}
    assert not found & others
    assert not found & {"tally.ops.numpy", "tally.ops.image", "tally.accounting", "tally.report", "tally.cli"}


def test_one_op_loads_the_file_it_is_in():
    found = imported("import tally\ntally.ops.matmul")
    assert "tally.ops.numpy" in found
    assert not found & {"tally.ops.nn", "tally.ops.image", "tally.ops.linalg", "tally.layers", "tally.models"}


def test_help_imports_no_command():
    found = imported("from tally.cli.main import main\nimport sys\nsys.exit(main())", "--help")
    assert {name for name in found if name.startswith("tally.cli.")} == {"tally.cli.main", "tally.cli.codes"}
    assert not found & {*HEAVY, "tally.accounting", "tally.report", "dataclasses", "inspect", "json"}


@pytest.mark.parametrize("command", ["demo", "summary", "plan", "diagnose", "run", "what-if"])
def test_the_help_of_a_command_waits_for_no_engine(command):
    found = imported("from tally.cli.main import main\nimport sys\nsys.exit(main())", command, "--help")
    assert not found & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["summary", "{}"],
        ["summary", "{}", "--format", "markdown"],
        ["summary", "{}", "--json"],
        ["explain", "{}"],
        ["diff", "{}", "{}"],
        ["check", "{}", "--max-params", "1k"],
        ["verify", "{}", "total=12"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_a_command_on_a_ledger_file_waits_for_no_engine(arguments, ledger, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [argument.format(ledger) for argument in arguments]
    found = imported("from tally.cli.main import main\nimport sys\nsys.exit(main())", *given)
    assert not found & {*HEAVY, "tally.core.layer", "tally.models"}
    others = {"tally.cli.run", "tally.cli.what_if", "tally.cli.plan", "tally.cli.demo"}
    assert not found & others


def test_the_plugin_of_pytest_waits_for_nothing():
    found = imported("import tally.pytest_plugin")
    assert {name for name in found if name.startswith("tally")} == {"tally", "tally.pytest_plugin"}
    assert not found & HEAVY


def test_loading_a_room_leaves_the_collector_as_it_was():
    state = "import gc, json, tally\n{}tally.layers\nprint(json.dumps(gc.isenabled()))"
    for switch, stays in (("", True), ("gc.disable()\n", False)):
        ran = subprocess.run(
            [sys.executable, "-c", state.format(switch)], capture_output=True, text=True, check=True
        )
        assert json.loads(ran.stdout) is stays
    assert gc.isenabled()


def test_every_op_is_listed_and_found():
    listed = set(tally.ops.__all__)
    assert {"matmul", "relu", "top_k", "scan", "svd", "vectorize", "shape", "image", "numpy"} <= listed
    assert all(getattr(tally.ops, name) is not None for name in listed)
    assert not listed & {"jnp", "jax", "np", "Any", "builtins", "floatx", "as_tensor"}
    names: dict[str, object] = {}
    exec("from tally.ops import *", names)
    assert names["matmul"] is tally.ops.numpy.matmul


def test_an_op_that_is_none_is_told_with_the_nearest():
    with pytest.raises(AttributeError, match=r"tally\.ops has no 'matmull'\. Did you mean 'matmul'\?"):
        tally.ops.matmull
    assert not hasattr(tally.ops, "__wrapped__")


def test_symbolic_tensors_know_their_operators_without_the_ops():
    found = imported(
        "import tally\n"
        "x = tally.Input((4,))\n"
        "import sys; assert 'tally.ops.numpy' not in sys.modules\n"
        "assert (x + 1).shape == (None, 4)"
    )
    assert "tally.ops.numpy" in found
