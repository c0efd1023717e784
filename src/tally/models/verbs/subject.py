"""What a verb can be asked about: a model or layer, a ledger, or a file that holds a model."""

import os
from pathlib import Path
from typing import Any

from tally.accounting.ledger import Ledger
from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.models.ledger import account


def opened(subject: Any) -> Any:
    """The model, layer or ledger that a subject is or, as the path of a file, names.

    Args:
        subject: A model or layer, a `Ledger`, or the path of a `.keras` file or of a ledger written as `.json`.

    Raises:
        ArgumentError: It is none of these.
    """
    if isinstance(subject, str | os.PathLike):
        return _read(Path(subject))
    if isinstance(subject, Layer | Ledger):
        return subject
    raise ArgumentError(
        f"There is no account of a {type(subject).__name__}.",
        do="give a model, a layer, a Ledger, or the path of a .keras file or of a ledger as .json",
    )


def ledger_of(subject: Any) -> Ledger:
    """The ledger of a subject; see `opened`."""
    found = opened(subject)
    return found if isinstance(found, Ledger) else account(found)


def _read(path: Path) -> Any:
    if not path.exists():
        raise ArgumentError(f"There is no file at {path}.", do="check the path, seen from this folder")
    if path.suffix == ".json":
        return Ledger.from_json(path.read_text(encoding="utf-8"))
    from tally.saving import load_model

    return load_model(path, compile=False)  # losses and metrics don't enter the account
