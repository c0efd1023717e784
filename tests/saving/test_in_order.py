"""Layers of an older Keras file that go together by order: how much a hostile file can make of that."""

import numpy as np
import pytest

from tally.saving import in_order
from tally.saving.in_order import Group


def _groups(prefix: str, count: int) -> list[Group]:
    array = np.zeros(1)
    return [Group(f"{prefix}{i}", ((f"{prefix}{i}/kernel", array),)) for i in range(count)]


def test_order_is_not_looked_for_among_any_number_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    class Counting(in_order.SequenceMatcher):
        def get_opcodes(self):
            looked.append(len(self.a) * len(self.b))
            return super().get_opcodes()

    monkeypatch.setattr(in_order, "SequenceMatcher", Counting)
    assert len(in_order._in_order(_groups("a", 3), _groups("b", 4))) == 3
    assert in_order._in_order(_groups("a", 3), _groups("b", 400_000)) == []
    assert looked == [12]
