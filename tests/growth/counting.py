"""How much Python runs: calls of this library's own functions, counted while something is done."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import tally

LIBRARY = str(Path(tally.__file__).parent)
MOST = 2.3
"""How many times as much twice the size may take."""


def count_calls(function: Callable[[], Any]) -> Counter[str]:
    """Calls of the library's functions, generators' steps included, by `file:name`."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(LIBRARY):
            calls[f"{Path(code.co_filename).stem}:{code.co_name}"] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def grows_by(prepare: Callable[[int], Callable[[], Any]], size: int) -> float:
    """How many times as many calls twice the size takes.

    Args:
        prepare: Makes what is counted for a size; what it does itself is not counted.
        size: The smaller size.
    """
    prepare(2)()  # what is loaded, compiled or remembered at the first time
    small, large = (sum(count_calls(prepare(each)).values()) for each in (size, 2 * size))
    assert small > size, "nothing was counted"
    return large / small
