"""A remark: one reason behind a number, and what every finder of reasons takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tally.accounting.ledger import Entry, Ledger, Owner

Kind: TypeAlias = Literal[
    "weights",
    "inside",
    "absent",
    "none",
    "constant",
    "frozen",
    "state",
    "seed",
    "fixed",
    "untracked",
    "unbuilt",
    "shared",
    "input",
    "arithmetic",
    "output",
    "note",
]

Entries: TypeAlias = Sequence[Entry]
"""Weights of one layer."""

Reason: TypeAlias = Callable[[Owner, Entries, Ledger], Iterator["Remark"]]
"""What finds reasons for a layer, of its own weights and of the ledger around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One reason in words.

    Args:
        kind: What it is about, for a view that shows some reasons and not others.
        text: A sentence or two.
    """

    kind: Kind
    text: str
