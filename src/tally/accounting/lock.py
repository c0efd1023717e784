"""A lock: the ledger that a model must have, in a file that changes only when the model does."""

from dataclasses import replace
from pathlib import Path

from tally.accounting.ledger import Ledger
from tally.writing import write_text


def lockable(ledger: Ledger, name: str) -> Ledger:
    """Return a ledger without what changes although the model doesn't: lines of code, counted names, the optimizer.

    Args:
        ledger: The model's ledger.
        name: What the model is called in the lock.

    Example:
        >>> model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(3, name="head")])
        >>> ledger = lockable(tally.account(model), "train.py:make")
        >>> ledger.name, ledger.owners[0].name, ledger.owners[1].origin is None
        ('train.py:make', '', True)
    """
    return replace(
        ledger,
        name=name,
        owners=tuple(replace(owner, name="", origin=None, multiply_adds=None) for owner in ledger.owners),
        entries=tuple(
            replace(entry, origin=None, frozen_at=None, note=None)
            for entry in ledger.entries
            if entry.state != "optimizer"
        ),
    )


def read_lock(path: str) -> Ledger:
    """Read the ledger in a lock file.

    Args:
        path: The file; any ledger written as JSON will do.

    Raises:
        ValueError: There is no such file, or it is no ledger.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"There is no lock at {path}; write one with tally check TARGET --lock {path} --update."
        )
    return Ledger.from_json(Path(path).read_text(encoding="utf-8"))


def write_lock(ledger: Ledger, path: str, name: str) -> None:
    """Write the ledger that a model must have from now on, whole or not at all.

    Args:
        ledger: The model's ledger.
        path: The lock file.
        name: What the model is called in it.
    """
    write_text(path, lockable(ledger, name).to_json(indent=1) + "\n")
