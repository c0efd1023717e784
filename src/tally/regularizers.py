"""Penalties on the size or direction of weights, added to the loss."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.errors import ArgumentError, ShapeError
from tally.core.reading import Reading
from tally.core.registry import Configured, custom_object_scope, publish, resolve
from tally.core.registry import serialize as serialize
from tally.core.variable import as_array


class Regularizer(Configured):
    """What every regularizer shares. Subclass it and write `__call__(self, x)`, which returns a scalar.

    Example:
        >>> class Mean(tally.regularizers.Regularizer):
        ...     def __call__(self, x):
        ...         return 0.1 * jnp.mean(x) ** 2
        >>> tally.layers.Dense(3, kernel_regularizer=Mean())
        <Dense name=dense...>
    """

    def __call__(self, x: Any) -> Any:
        """The penalty for a weight."""
        return 0.0

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return f"{type(self).__name__}({arguments})"


def _factor(value: float | None, name: str, default: float) -> float:
    """A factor as a number; None is the default."""
    if value is None:
        return default
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ArgumentError(f"The penalty factor {name} must be a number from 0 upwards, not {value!r}.")
    return float(value)


class L1L2(Regularizer):
    """Adds `l1 * sum(|x|) + l2 * sum(x²)`.

    Args:
        l1: Factor of the sum of sizes.
        l2: Factor of the sum of squares.

    Raises:
        ArgumentError: A factor is negative or no finite number.

    Example:
        >>> float(tally.regularizers.L1L2(l1=0.5, l2=0.1)(jnp.array([3.0, -1.0])))
        3.0
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1, self.l2 = _factor(l1, "l1", 0.0), _factor(l2, "l2", 0.0)

    def __call__(self, x: Any) -> jax.Array:
        """The penalty, in the dtype of `x`."""
        x = as_array(x)
        penalty = jnp.zeros((), x.dtype)
        if self.l1:
            penalty += self.l1 * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty += self.l2 * jnp.sum(jnp.square(x))
        return penalty


class L1(L1L2):
    """Adds `l1 * sum(|x|)`, which draws weights to exactly zero.

    Args:
        l1: Factor.

    Raises:
        ArgumentError: The factor is negative or no finite number.
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        super().__init__(l1=_factor(l1, "l1", 0.01))


class L2(L1L2):
    """Adds `l2 * sum(x²)`, which keeps weights small.

    Args:
        l2: Factor.

    Raises:
        ArgumentError: The factor is negative or no finite number.
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        super().__init__(l2=_factor(l2, "l2", 0.01))


class OrthogonalRegularizer(Regularizer):
    """Adds `factor` times the mean size of the cosine between two different rows (or columns) of a matrix.

    Args:
        factor: Factor.
        mode: `"rows"` or `"columns"`: what shall be orthogonal.

    Raises:
        ArgumentError: The mode is another one.
        ShapeError: The weight isn't a matrix.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"OrthogonalRegularizer has no mode '{mode}'.", do="use 'rows' or 'columns'")
        self.factor, self.mode = _factor(factor, "factor", 0.01), mode

    def __call__(self, x: Any) -> jax.Array:
        """The penalty for a matrix."""
        x = as_array(x)
        if x.ndim != 2:
            raise ShapeError(f"OrthogonalRegularizer needs a matrix, but was given shape {x.shape}.")
        vectors = x if self.mode == "rows" else x.T
        norms = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vectors), axis=1, keepdims=True), _EPSILON**2))
        unit = vectors / norms
        count = len(unit)
        cosines = (unit @ unit.T) * (1 - jnp.eye(count, dtype=x.dtype))
        return self.factor * jnp.sum(jnp.abs(cosines)) / max(count * (count - 1), 1)


_EPSILON = 1e-12
"""Below this length a vector counts as zero."""

l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

publish(L1, "l1")
publish(L2, "l2")
publish(L1L2, "l1_l2", "l1l2")


def get(identifier: Any) -> Any:
    """The regularizer a name, config, class or function stands for; None stays None.

    Raises:
        ArgumentError: The name is unknown; the message suggests the closest one.

    Example:
        >>> tally.regularizers.get("l2")
        L2(l2=0.01)
    """
    return resolve("regularizers", identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Undo `serialize`.

    Args:
        config: A name or what `serialize` gave, or Keras.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes none; `place` says where in it.
    """
    with custom_object_scope(custom_objects or {}), Reading(config):
        return get(config)
