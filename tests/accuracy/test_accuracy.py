"""Every planted mistake is found at its line and layer; a correct model comes out with no error and no warning."""

import pytest

from .registry import Case, load
from .score import examine


def row(name: str, case: Case):
    """A case; the correct models, which are many and large, wait for the slow run."""
    marks = [pytest.mark.slow] if case.kind == "correct" else []
    return pytest.param(case, id=name, marks=marks)


@pytest.mark.parametrize("case", [row(name, case) for name, case in sorted(load().items())])
def test_diagnose(case: Case) -> None:
    assert not examine(case).complaint
