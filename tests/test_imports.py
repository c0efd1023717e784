"""What is imported when: nothing private of JAX, no JAX on the ledger side, heavy packages only when used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "tally"


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_nothing_of_jax_that_is_private_is_imported():
    found = [str(path) for path in SOURCE.rglob("*.py") if re.search(r"jax\._src", path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import tally",
        "from tally.accounting.ledger import Ledger; from tally.accounting.explain import explain",
        "from tally.report import plain, summary, explanation",
    ],
)
def test_the_ledger_side_does_not_wait_for_jax(code):
    assert not loaded(code) & {"jax", "jaxlib", "optax"}


def test_frameworks_are_not_imported_unless_their_objects_are_given():
    code = (
        "import numpy as np, tally\n"
        "model = tally.Sequential([tally.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)"
    )
    assert not loaded(code) & {"torch", "tensorflow", "grain", "pandas", "keras", "sklearn"}
