"""The garbage collector, told to wait while many things are made that all live on."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """Let Python's garbage collector rest while a block runs, if it is on.

    What an account or a followed call makes is held until its end. The collector would look through all of it again
    and again and find nothing: of the account of a model with 12,000 layers that was two fifths of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
