"""Anything that has parameters, read into a ledger: a file by its structure alone, and none of it executed.

`files` finds what kind of file it is, `tree` makes layers of the names in it, `leaves` knows the layers that hold
arrays and `blocks` those that hold layers, `graph` reads what a file says of its layers besides.
"""

from tally.readers.files import contents_of, is_model_file, read
from tally.readers.tree import account

__all__ = ["account", "contents_of", "is_model_file", "read"]
