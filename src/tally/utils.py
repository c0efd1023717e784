"""Small helpers beside models: labels and vectors, files from the net, seeds, names of custom objects."""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import registry
from tally.core.dtype import floatx, standardize_dtype
from tally.core.errors import ArgumentError, DataError
from tally.core.naming import reset_names
from tally.core.random import set_random_seed
from tally.core.registry import (
    custom_object_scope,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from tally.core.symbol import KerasTensor

if TYPE_CHECKING:
    from tally.callbacks.progress import Progbar
    from tally.downloads import get_file
    from tally.training.data import PyDataset
    from tally.training.data import PyDataset as Sequence

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "is_keras_tensor",
    "normalize",
    "pack_x_y_sample_weight",
    "register_keras_serializable",
    "set_random_seed",
    "standardize_dtype",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

CustomObjectScope = custom_object_scope

_ELSEWHERE = {
    "PyDataset": ("tally.training.data", "PyDataset"),
    "Sequence": ("tally.training.data", "PyDataset"),
    "Progbar": ("tally.callbacks.progress", "Progbar"),
    "get_file": ("tally.downloads", "get_file"),
}
"""What Keras users look for here but rooms above this one define."""


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        module, thing = _ELSEWHERE[name]
        return getattr(import_module(module), thing)
    raise AttributeError(f"module 'tally.utils' has no attribute '{name}'")


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Write classes as vectors with a 1 in the place of the class.

    Args:
        x: Classes from 0, of any shape; a last axis of size 1 is dropped.
        num_classes: Length of the vectors; one more than the largest class by default.

    Returns:
        An array of the shape of `x` and an axis of classes behind: JAX for JAX arrays, NumPy otherwise.

    Raises:
        ArgumentError: A class is not below `num_classes`, or negative.

    Example:
        >>> to_categorical([0, 2])
        array([[1., 0., 0.],
               [0., 0., 1.]])

    Source: `keras.utils.to_categorical`.
    """
    classes = np.asarray(x).astype("int64")
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    largest = int(classes.max(initial=-1))
    num_classes = num_classes or largest + 1
    if largest >= num_classes or classes.min(initial=0) < 0:
        raise ArgumentError(
            f"The classes range from {classes.min()} to {largest}, but there are {num_classes}.",
            do=f"pass num_classes={largest + 1}, or shift the classes",
        )
    vectors = np.zeros((*classes.shape, num_classes))
    np.put_along_axis(vectors, classes[..., None], 1, axis=-1)
    return jnp.asarray(vectors, floatx()) if isinstance(x, jax.Array) else vectors


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Divide vectors by their length; a vector of zeros stays.

    Args:
        x: An array.
        axis: The axis along which the vectors lie.
        order: Which norm is the length: 2 for Euclid's, 1 for the sum of absolute values.

    Returns:
        An array of the same shape: JAX for JAX arrays, NumPy otherwise.

    Source: `keras.utils.normalize`.
    """
    library: Any = jnp if isinstance(x, jax.Array) else np
    length = library.linalg.norm(x, order, axis, keepdims=True)
    return x / library.where(length == 0, 1, length)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Arrange a batch as `fit` takes it: `x`, `(x, y)` or `(x, y, sample_weight)`."""
    if y is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Take a batch apart into `(x, y, sample_weight)`, None standing for what it doesn't have.

    Raises:
        DataError: It has more than three parts, or none.
    """
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise DataError(f"A batch has {len(parts)} parts.", do="give x, (x, y) or (x, y, sample_weight)")
    x, y, sample_weight = (*parts, None, None)[:3]
    return x, y, sample_weight


def is_keras_tensor(x: Any) -> bool:
    """Whether something is a symbolic tensor, as `Input` makes it."""
    return isinstance(x, KerasTensor)


def get_custom_objects() -> dict[str, Any]:
    """The dict of names that files may use for your own classes and functions; write into it to add some."""
    return registry._registered


def clear_session(free_memory: bool = True) -> None:
    """Count default names from the start again.

    Args:
        free_memory: Whether to also forget compiled functions and collect garbage.
    """
    reset_names()
    if free_memory:
        jax.clear_caches()
        gc.collect()
