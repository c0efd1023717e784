"""Reading a live object imports no library, in Python and as the target of a command."""

import subprocess
import sys

import pytest

from tally.cli.main import main

LIBRARIES = ("torch", "keras", "tensorflow", "flax", "equinox", "jax", "transformers")
CHECK = """
import sys
{setup}
from tally.readers import is_live_model, read_object
import tally.readers.torch, tally.readers.keras, tally.readers.flax, tally.readers.equinox, tally.readers.pytree
before = set(sys.modules)
assert is_live_model(thing)
assert read_object(thing).total == {total}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
assert not new & {libraries!r}, new
assert not (set(sys.modules) & {absent!r})
"""


@pytest.mark.parametrize(
    ("setup", "total", "absent"),
    [
        ("import numpy as np; thing = {'head': {'kernel': np.zeros((3, 2))}}", 6, set(LIBRARIES)),
        ("import torch; thing = torch.nn.Linear(3, 2)", 8, {"keras", "flax", "equinox", "jax", "tensorflow"}),
    ],
)
def test_a_reader_imports_no_library(setup, total, absent):
    code = CHECK.format(setup=setup, total=total, libraries=set(LIBRARIES), absent=absent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_command_takes_a_module_by_its_name(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\nhead = nn.Linear(10, 5)\ndef make(): return head\n"
    )
    for target in ("net.py:head", "net.py:make"):
        assert main(["summary", target]) == 0
        assert "55" in capsys.readouterr().out
    assert main(["verify", "net.py:head", "total=55"]) == 0
