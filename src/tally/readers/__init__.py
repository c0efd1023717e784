"""Anything that has parameters, read into a ledger: a file by its structure alone, and none of it executed.

A live object of another library is read by `live`, which imports none: `torch`, `keras`, `flax` and `equinox` know
their models, `pytree` any tree of arrays; `walk` goes through modules and `parts` puts together what is found.

`files` finds what kind of file it is, `tree` makes layers of the names in it, `leaves` knows the layers that hold
arrays and `blocks` those that hold layers, `graph` reads what a file says of its layers besides.
"""

from tally.readers.files import contents_of, is_model_file, is_there, read
from tally.readers.live import UnreadableError, is_live_model, read_object
from tally.readers.tree import account

__all__ = [
    "UnreadableError",
    "account",
    "contents_of",
    "is_live_model",
    "is_model_file",
    "is_there",
    "read",
    "read_object",
]
