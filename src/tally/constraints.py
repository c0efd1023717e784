"""Projections that keep weights in bounds: applied to a weight after each update."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon
from tally.core.reading import Reading
from tally.core.registry import Configured, custom_object_scope, resolve
from tally.core.registry import serialize as serialize
from tally.core.variable import as_array


class Constraint(Configured):
    """What every constraint shares. Subclass it and write `__call__(self, w)`, the projection.

    Example:
        >>> class AtMostOne(tally.constraints.Constraint):
        ...     def __call__(self, w):
        ...         return jnp.minimum(w, 1.0)
        >>> tally.layers.Dense(3, kernel_constraint=AtMostOne())
        <Dense name=dense...>
    """

    def __call__(self, w: Any) -> Any:
        """The weight as it may be; unchanged here."""
        return w

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return f"{type(self).__name__}({arguments})"


class NonNeg(Constraint):
    """Makes negative values zero."""

    def __call__(self, w: Any) -> jax.Array:
        """The weight without its negative values."""
        return jnp.maximum(as_array(w), 0)


class MinMaxNorm(Constraint):
    """Brings the norm of each unit's weights between two bounds.

    Args:
        min_value: Smallest norm.
        max_value: Largest norm.
        rate: How far to go to the bound at each step: 1 is all the way.
        axis: Axis or axes along which a norm is taken: 0 for a Dense kernel, `(0, 1, 2)` for a Conv2D kernel.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> jax.Array:
        """The weight with norms in bounds."""
        w = as_array(w)
        norms = _norms(w, self.axis)
        wanted = self.rate * jnp.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (wanted / (epsilon() + norms))


class MaxNorm(MinMaxNorm):
    """Shrinks the weights of each unit whose norm is too large.

    Args:
        max_value: Largest norm.
        axis: Axis or axes along which a norm is taken: 0 for a Dense kernel, `(0, 1, 2)` for a Conv2D kernel.

    Example:
        >>> print(tally.constraints.MaxNorm(1.0)(jnp.array([3.0, 4.0])))
        [0.6 0.8]

    Source: Srivastava et al., 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting.
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        super().__init__(max_value=max_value, axis=axis)


class UnitNorm(Constraint):
    """Scales the weights of each unit to norm 1.

    Args:
        axis: Axis or axes along which a norm is taken: 0 for a Dense kernel, `(0, 1, 2)` for a Conv2D kernel.
    """

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> jax.Array:
        """The weight with norms of 1."""
        w = as_array(w)
        return w / (epsilon() + _norms(w, self.axis))


def _norms(w: jax.Array, axis: int | Sequence[int]) -> jax.Array:
    axes = axis if isinstance(axis, int) else tuple(axis)
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axes, keepdims=True))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm


def get(identifier: Any) -> Any:
    """The constraint a name, config, class or function stands for; None stays None.

    Raises:
        ArgumentError: The name is unknown; the message suggests the closest one.

    Example:
        >>> tally.constraints.get("max_norm")
        MaxNorm(max_value=2, axis=0)
    """
    return resolve("constraints", identifier)


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
