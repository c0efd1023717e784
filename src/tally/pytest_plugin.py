"""The fixture `tally_budget` of pytest: a test fails, with the layer to look at, where a model breaks its budget."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def tally_budget() -> Callable[..., Any]:
    """A function that holds a model, or the file of one, against a budget; its arguments are those of `tally.check`.

    Example of a test: `def test_size(tally_budget): tally_budget(make_model(), max_params="5M")`
    """

    def hold(model: Any, **asked: Any) -> Any:
        __tracebackhide__ = True
        from tally.models.verbs.check import check  # here, so that a run of pytest doesn't wait for JAX

        told: list[str] = []
        found = check(model, print_fn=told.append, **asked)
        if not found.holds:
            pytest.fail("\n".join(told), pytrace=False)
        return found

    return hold
