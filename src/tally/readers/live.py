"""Live objects of other libraries: which library's an object is, told without importing any, and its account."""

import importlib
from typing import Any

from tally.accounting.ledger import Ledger

_LIBRARIES = ("torch", "keras", "tensorflow", "flax", "equinox", "pytree")
"""The modules of this room that read an object, the surest first."""


class UnreadableError(ValueError):
    """An object of a kind that is known, but of which there is no account as it is.

    Args:
        text: What it is and why.
        do: What to give instead.
    """

    def __init__(self, text: str, do: str) -> None:
        super().__init__(f"{text}\n  do: {do}")
        self.text, self.do = text, do


def is_live_model(thing: Any) -> bool:
    """Tell whether an object is a model or a layer of another library, or a tree of arrays.

    Args:
        thing: Any object; no library is imported to look at it.

    Example:
        >>> import numpy as np
        >>> is_live_model({"head": {"kernel": np.zeros((3, 2))}}), is_live_model({"head": 3}), is_live_model("text")
        (True, False, False)
    """
    return _reader(thing) is not None


def read_object(thing: Any) -> Ledger:
    """Read the account of a live object: a model of PyTorch, Keras, TensorFlow, Flax or Equinox, or a tree of arrays.

    Nothing of it runs, no value is read, and no library is imported that isn't already.

    Args:
        thing: The object.

    Raises:
        UnreadableError: There is no account of it as it is.

    Example:
        >>> import numpy as np
        >>> ledger = read_object({"head": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}})
        >>> [(owner.path, owner.type) for owner in ledger.owners if owner.path], ledger.total
        ([('head', 'Dense')], 8)
    """
    reader = _reader(thing)
    if reader is None:
        raise UnreadableError(
            f"There is no account of a {type(thing).__name__}.",
            "give a model, a layer, a Ledger, or the path of a file that holds a model or a ledger",
        )
    return reader.read(thing)


def _reader(thing: Any) -> Any:
    for name in _LIBRARIES:
        reader = importlib.import_module(f"tally.readers.{name}")
        if reader.matches(thing):
            return reader
    return None
