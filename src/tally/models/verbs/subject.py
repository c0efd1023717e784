"""What a verb can be asked about: a model or layer of any library, a ledger, or a file that holds a model."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tally.accounting.ledger import Ledger
from tally.core.errors import ArgumentError, TallyError
from tally.core.layer import Layer
from tally.formats.errors import BadFileError
from tally.models.ledger import account
from tally.readers import UnreadableError, is_there, read, read_object


def opened(subject: Any) -> Any:
    """The model, layer or ledger that a subject is or, as the path of a file, names.

    Args:
        subject: A model or layer, of this library or of PyTorch, Keras, Flax or Equinox; a tree of arrays, such as the
            parameters of a function in JAX or a state dict; a `Ledger`, or the path of a file: `.keras`, a ledger
            written as `.json`, or one of the kinds of `tally.readers`, of which the account is read.

    Raises:
        ArgumentError: It is none of these.
        BadFileError: The file is broken, or of no kind that is known.
    """
    if isinstance(subject, str | os.PathLike):
        return _read(Path(subject))
    if isinstance(subject, Layer | Ledger):
        return subject
    try:
        return read_object(subject)
    except UnreadableError as error:
        raise ArgumentError(error.text, do=error.do) from None


def ledger_of(subject: Any) -> Ledger:
    """The ledger of a subject; see `opened`."""
    found = opened(subject)
    return found if isinstance(found, Ledger) else account(found)


def _read(path: Path) -> Any:
    if not is_there(path):
        raise ArgumentError(f"There is no file at {path}.", do="check the path, seen from this folder")
    if path.suffix == ".keras" and path.is_file():
        return _load(path)
    return read(path)


def _load(path: Path) -> Any:
    """The model in a `.keras` file, or, where a layer in it can't be made here, the account that the file gives."""
    from tally.saving import load_model

    try:
        return load_model(path, compile=False)  # losses and metrics don't enter the account
    except TallyError:
        with suppress(BadFileError):
            return read(path)
        raise
