"""What a learner calls a layer, found in a ledger: by its path, its name, its place among its kind, or its class."""

import difflib
import re
from collections.abc import Iterator, Sequence

from tally.accounting.ledger import Ledger, Owner
from tally.accounting.words import listed

_MODEL = ("model", "network", "net")


def owner_at(ledger: Ledger, path: str) -> Owner:
    """The owner at a path; a model without an entry of its own is made up, since it has layers and a total."""
    try:
        return ledger.owner(path)
    except KeyError:
        if path:
            raise
        return Owner(path="", name=ledger.name, type="Model")


def inside(ledger: Ledger, path: str) -> Iterator[Owner]:
    """The owner at a path and all below it."""
    return (owner for owner in ledger.owners if not path or f"{owner.path}/".startswith(f"{path}/"))


def find_owner(ledger: Ledger, name: str) -> str | None:
    """Find the path of the layer that a name stands for; None where there is none.

    Tried in this order: its path; its own name; the end of its path; the name that Keras would count out for its
    class, such as `conv2d_1` for the second `Conv2D`; its class, if no other layer has it. `model` and the name of
    the ledger stand for the whole.

    Raises:
        ValueError: The name stands for several layers.

    Example:
        >>> ledger = Ledger(name="m", owners=(Owner(path="stem", type="Conv2D"), Owner(path="head", type="Conv2D")))
        >>> find_owner(ledger, "conv2d_1")
        'head'
    """
    if (found := find_exactly(ledger, name)) is not None:
        return found
    if name in (*_MODEL, ledger.name):
        return ""
    for rule in (_ends_with, _counted_as, _of_class):
        paths = [owner.path for owner in rule(ledger, name)]
        if paths:
            return _only(name, paths)
    return None


def find_exactly(ledger: Ledger, name: str) -> str | None:
    """Find the path of the layer whose path or whole name this is; None where there is none.

    Raises:
        ValueError: Several layers have this name.
    """
    if any(owner.path == name for owner in ledger.owners):
        return name
    paths = [owner.path for owner in ledger.owners if owner.name == name]
    return _only(name, paths) if paths else None


def nearest(name: str, known: Sequence[str]) -> str:
    """Ask whether a known name was meant; empty where none is near.

    Example:
        >>> nearest("con2d", ["conv2d", "dense"])
        " Did you mean 'conv2d'?"
    """
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _only(name: str, paths: Sequence[str]) -> str:
    if len(paths) > 1:
        raise ValueError(f"'{name}' may be {listed([repr(path) for path in paths])}: write which.")
    return paths[0]


def _ends_with(ledger: Ledger, name: str) -> list[Owner]:
    return [owner for owner in ledger.owners if name and owner.path.endswith(f"/{name}")]


def _counted_as(ledger: Ledger, name: str) -> list[Owner]:
    """The layer that Keras would give this name, were it made first in the process."""
    match = re.fullmatch(r"([a-z0-9_]*?)(?:_(\d+))?", name)
    if match is None:
        return []
    place = int(match[2] or 0)
    return [owner for owner in ledger.owners if _plain(owner.type) == _plain(match[1])][place : place + 1]


def _of_class(ledger: Ledger, name: str) -> list[Owner]:
    return [owner for owner in ledger.owners if owner.type == name]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
