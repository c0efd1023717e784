"""A notebook as an output: whether there is one, what its cell is, and how HTML is shown in it."""

import importlib
import sys
from typing import Any


def running_cell() -> int | None:
    """The number of the cell that runs, or None where no notebook would draw HTML.

    IPython is asked only if something else has loaded it. In a terminal it draws no HTML, and what was redirected, into
    a file or a string, is meant to be text.
    """
    shell = _shell()
    number = getattr(shell, "execution_count", None)
    return number if shell is not None and isinstance(number, int) else None


def _shell() -> Any:
    get: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get() if get is not None else None
    has_page = getattr(shell, "kernel", None) is not None
    return shell if has_page and type(sys.stdout).__module__.startswith("ipykernel") else None


def show(page: str, text: str) -> None:
    """Show HTML in the running cell, and the text where the notebook's reader draws none."""
    display: Any = importlib.import_module("IPython.display")
    display.display({"text/html": page, "text/plain": text}, raw=True)
