"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import tally

ROOT = Path(tally.__file__).parent
FILES = [file for file in sorted(ROOT.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", FILES, ids=_module)
def test_examples_print_what_they_say(file: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"tally": tally, "np": np, "jnp": jnp}
    tests = doctest.DocTestFinder().find(importlib.import_module(_module(file)), extraglobs=names)
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    reports: list[str] = []
    for test in tests:
        runner.run(test, out=reports.append)
    assert not runner.failures, "".join(reports)
    assert runner.tries == file.read_text(encoding="utf-8").count(">>> "), "an example lies where none looks"
