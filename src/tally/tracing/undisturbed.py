"""Following a call without a trace of it left: on layers, in random sequences, in the counting of names."""

import itertools
import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tally.core import naming, random
from tally.core.layer import Layer


@contextmanager
def undisturbed(root: Layer) -> Iterator[None]:
    """Put back, after the block, what calls in it changed in a layer's attributes, its notes, and all random numbers.

    Args:
        root: The layer; those inside it are included, and lists and dicts they hold keep their contents.
    """
    layers = root._flatten_layers()
    held = [(vars(thing), dict(vars(thing))) for layer in layers for thing in (layer, layer._held)]
    # Most lists are empty: one empty tuple serves them all, where thousands of copies would wake the garbage collector.
    contents = [
        (value, value.copy() if value else ())
        for _, before in held
        for value in before.values()
        if _fills(value)
    ]
    sequence, names = random._Global.numbers, dict(naming._counts)
    chance, numpy_chance = python_random.getstate(), np.random.get_state()
    random._Global.numbers = itertools.count()
    try:
        yield
    finally:
        random._Global.numbers = sequence
        python_random.setstate(chance)
        np.random.set_state(numpy_chance)
        for now, before in ((naming._counts, names), *held, *contents):
            _restore(now, before)


def _fills(value: Any) -> bool:
    return type(value) in (list, dict, set)


def _restore(now: Any, before: Any) -> None:
    """Give a container its former contents; the container itself stays, for others may hold it."""
    now.clear()
    if isinstance(now, list):
        now.extend(before)
    else:
        now.update(before)
