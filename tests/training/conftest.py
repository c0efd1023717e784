"""What tests of training share."""

from typing import Any

import pytest

from tally.training.trainer import Trainer


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of compiled steps, in the order they are called."""
    told: list[str] = []
    compile = Trainer._jitted

    def counting(self: Trainer, function: Any, kind: str) -> Any:
        compiled = compile(self, function, kind)

        def call(*args: Any) -> Any:
            told.append(kind)
            return compiled(*args)

        return call

    monkeypatch.setattr(Trainer, "_jitted", counting)
    return told
