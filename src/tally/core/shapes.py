"""Shapes in nests of tensors: reading them, mapping over them, writing them in words."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tally.core.symbol import KerasTensor, map_tree


def known_sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """A shape with None where a size is symbolic."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def as_shape(shape: Any) -> tuple[int | None, ...]:
    """One size or several as a tuple."""
    return (shape,) if shape is None or isinstance(shape, int) else tuple(shape)


def is_shape(value: Any) -> bool:
    """Whether a value is one shape rather than a nest of them."""
    return isinstance(value, (tuple, list)) and all(
        size is None or isinstance(size, (int, np.integer)) for size in value
    )


def map_shapes(function: Any, shapes: Any) -> Any:
    """Apply a function to each shape in a nest of shapes."""
    if is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, dict):
        return {name: map_shapes(function, shape) for name, shape in shapes.items()}
    if shapes is None:
        return None
    return type(shapes)(map_shapes(function, shape) for shape in shapes)


def is_tensor(value: Any) -> bool:
    """Whether a value is an array or a symbolic tensor."""
    return isinstance(value, (KerasTensor, jax.Array, np.ndarray))


def shapes_of(structure: Any) -> Any:
    """The shape of each tensor, in the same structure."""
    return map_tree(lambda leaf: known_sizes(leaf.shape) if is_tensor(leaf) else None, structure)


def describe(array: Any) -> str:
    """A tensor in a word: `float32[32,28,28,1]`."""
    dtype = getattr(array.dtype, "name", array.dtype)
    return f"{dtype}[{','.join(map(str, known_sizes(array.shape)))}]"
