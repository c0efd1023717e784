"""What is checked of every array that a file names: its name, its shape, its size, and that no other has its name."""

import math
from collections.abc import Sequence

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.tensor import Tensor


def checked(tensors: Sequence[Tensor], file: object, limits: Limits = LIMITS) -> tuple[Tensor, ...]:
    """Return the arrays of a file, after none of them is found impossible.

    Raises:
        BadFileError: Too many, two of one name, a name too long, a dimension below zero, more scalars than can be
            stored, or an alias of an array that isn't there.

    Example:
        >>> checked([Tensor(name="w", shape=(2, -1), dtype="int8", stored=2)], "w.npz")
        Traceback (most recent call last):
        ...
        tally.formats.errors.BadFileError: w.npz, tensor 'w': has the shape (2, -1), with a length below zero.
    """
    path = str(file)
    if len(tensors) > limits.tensors:
        raise BadFileError(path, f"names {len(tensors):,} arrays, more than {limits.tensors:,}")
    known: set[str] = set()
    total = 0
    for tensor in tensors:
        place = f"tensor {tensor.name[:80]!r}"
        if len(tensor.name) > limits.name:
            raise BadFileError(path, f"has a name of {len(tensor.name):,} characters", place=place)
        if tensor.name in known:
            raise BadFileError(path, "is named twice", place=place)
        known.add(tensor.name)
        if len(tensor.shape) > limits.rank:
            raise BadFileError(
                path, f"has {len(tensor.shape):,} dimensions, more than {limits.rank}", place=place
            )
        if any(length < 0 for length in tensor.shape):
            raise BadFileError(path, f"has the shape {tensor.shape}, with a length below zero", place=place)
        total += math.prod(tensor.shape)
        if total > limits.elements:
            raise BadFileError(path, f"claims more than {limits.elements:,} scalars", place=place)
    for tensor in tensors:
        if tensor.alias_of is not None and tensor.alias_of not in known:
            raise BadFileError(
                path, f"is tied to {tensor.alias_of!r}, which isn't there", place=f"tensor {tensor.name!r}"
            )
    return tuple(tensors)
