"""Twice the arrays of a file take about twice the calls, whatever is asked of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tally
from growth.counting import MOST, grows_by

VERBS: dict[str, Callable[[str, str], Any]] = {
    "summary": lambda file, _: tally.summary(file, print_fn=quietly),
    "explain": lambda file, _: tally.explain(file, print_fn=quietly),
    "plan": lambda file, _: tally.plan(file, print_fn=quietly),
    "check": lambda file, _: tally.check(file, max_params=10**9, print_fn=quietly),
    "diff": lambda file, other: tally.diff(file, other, print_fn=quietly),
}
NAMES = {
    # Of one name: layers that none of the other side's names fits are compared each with each, up to a limit.
    "a layer for each array": ("layers.{}.attention.q.weight", "layers.{}.attention.q.weight"),
    "all arrays in one layer": ("t{}", "x{}"),
}


def quietly(text: str) -> None:
    """Print nothing."""


def write(path: Path, name: str, count: int) -> str:
    header = {
        name.format(number): {
            "dtype": "F32",
            "shape": [2, 3],
            "data_offsets": [24 * number, 24 * number + 24],
        }
        for number in range(count)
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24 * count))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_verb_grows_with_the_arrays_of_a_file(
    verb: Callable[[str, str], Any], names: tuple[str, str], tmp_path: Path
) -> None:
    def prepare(count: int) -> Callable[[], Any]:
        files = [write(tmp_path / f"{place}.safetensors", name, count) for place, name in enumerate(names)]
        return lambda: verb(*files)

    assert grows_by(prepare, 200) < MOST
