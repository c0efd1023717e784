"""Random tensors: repeatable by seeds as in TensorFlow, with JAX's numbers."""

import itertools
import random as python_random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally import random
from tally.compat.names import named, put
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import settle, sizes
from tally.core.errors import ArgumentError
from tally.core.random import SeedGenerator, draw_key, set_random_seed
from tally.ops.definition import Array, op

_global = {"seed": 0}
_draws: dict[int, "itertools.count[int]"] = {}
"""How often each operation's own seed was drawn from."""


@named("random.set_seed")
def set_seed(seed: int) -> None:
    """Make random tensors repeatable from here on; Python's and NumPy's random numbers stay as they are."""
    python_state, numpy_state = python_random.getstate(), np.random.get_state()
    set_random_seed(int(seed))
    python_random.setstate(python_state)
    np.random.set_state(numpy_state)
    _global["seed"] = int(seed) % 2**32
    _draws.clear()


def key_of(seed: int | None) -> jax.Array:
    """The key of the next draw: with a seed of its own, another at each call, and the same ones in every run."""
    key = draw_key(None)
    if seed is None:
        return key
    if isinstance(key, Tracer):  # in a compiled step the step's own key moves on
        return jax.random.fold_in(key, int(seed) % 2**32)
    number = next(_draws.setdefault(int(seed), itertools.count()))
    start = jax.random.fold_in(jax.random.key(_global["seed"]), int(seed) % 2**32)
    return jax.random.fold_in(start, number)


@named("random.normal")
def normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = "float32", seed: Any = None) -> Any:
    """Normally distributed numbers."""
    return _shifted(jax.random.normal(key_of(seed), sizes(shape), settle(dtype)), mean, stddev)


@named("random.truncated_normal")
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = "float32", seed: Any = None
) -> Any:
    """Normally distributed numbers, none more than two deviations from the mean."""
    drawn = jax.random.truncated_normal(key_of(seed), -2.0, 2.0, sizes(shape), settle(dtype))
    return _shifted(drawn, mean, stddev)


def _shifted(drawn: jax.Array, mean: Any, stddev: Any) -> jax.Array:
    return (drawn * tensor(stddev) + tensor(mean)).astype(drawn.dtype)


@named("random.uniform")
def uniform(shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = "float32", seed: Any = None) -> Any:
    """Numbers between two bounds with equal chance, the upper one never drawn; whole ones for a whole dtype."""
    return _between(key_of(seed), shape, minval, maxval, dtype)


def _between(key: jax.Array, shape: Any, minval: Any, maxval: Any, dtype: Any) -> jax.Array:
    name, low = settle(dtype), tensor(minval)
    whole = jnp.issubdtype(name, jnp.integer)
    if whole and maxval is None:
        raise ArgumentError(f"Numbers of {name} need an upper bound.", do="pass maxval")
    high = tensor(1 if maxval is None else maxval)
    if whole:
        return jax.random.randint(key, sizes(shape), low, high, name)
    return jax.random.uniform(key, sizes(shape), name, low.astype(name), high.astype(name))


@named("random.gamma")
def gamma(shape: Any, alpha: Any, beta: Any = None, dtype: Any = "float32", seed: Any = None) -> Any:
    """Gamma-distributed numbers; the parameters' own axes come behind those of `shape`."""
    name = settle(dtype)
    a, b = jnp.broadcast_arrays(
        tensor(alpha).astype(name), tensor(1.0 if beta is None else beta).astype(name)
    )
    return jax.random.gamma(key_of(seed), a, (*sizes(shape), *a.shape), name) / b


@named("random.poisson")
def poisson(shape: Any, lam: Any, dtype: Any = "float32", seed: Any = None) -> Any:
    """Poisson-distributed numbers; the parameter's own axes come behind those of `shape`."""
    rate = tensor(lam)
    drawn = jax.random.poisson(key_of(seed), rate, (*sizes(shape), *rate.shape))
    return drawn.astype(settle(dtype))


@op
def _permuted(x: Array, key: Array) -> Array:
    return jax.random.permutation(key, x)


@named("random.shuffle")
def shuffle(value: Any, seed: Any = None) -> Any:
    """The slices along the first axis in another order."""
    return _permuted(value, key_of(seed))


@named("random.categorical")
def categorical(logits: Any, num_samples: Any, dtype: Any = "int64", seed: Any = None) -> Any:
    """Classes drawn by the logits of each row."""
    return random.categorical(logits, int(num_samples), settle(dtype), key_of(seed))


# -- by a seed alone ---------------------------------------------------------------------------------------------------
def _own_key(seed: Any) -> jax.Array:
    first, second = (int(part) % 2**32 for part in np.asarray(seed))
    return jax.random.fold_in(jax.random.key(first), second)


@named("random.stateless_normal")
def stateless_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = "float32"
) -> Any:
    """Normally distributed numbers, the same ones for the same two seeds."""
    return _shifted(jax.random.normal(_own_key(seed), sizes(shape), settle(dtype)), mean, stddev)


@named("random.stateless_uniform")
def stateless_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = "float32"
) -> Any:
    """Numbers between two bounds, the same ones for the same two seeds."""
    return _between(_own_key(seed), shape, minval, maxval, dtype)


class Generator(SeedGenerator):
    """A source of random numbers that moves on with each draw; a layer that holds one keeps its state.

    Example:
        >>> first, second = (Generator.from_seed(1).normal([2]) for _ in range(2))
        >>> bool((first == second).all())
        True
    """

    @classmethod
    def from_seed(cls, seed: int, alg: Any = None) -> "Generator":
        """A generator that starts at a seed."""
        del alg
        return cls(int(seed))

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> "Generator":
        """A generator that starts anywhere."""
        del alg
        return cls(None)

    def normal(self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = "float32") -> Any:
        """Normally distributed numbers."""
        return _shifted(jax.random.normal(self.key(), sizes(shape), settle(dtype)), mean, stddev)

    def uniform(self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = "float32") -> Any:
        """Numbers between two bounds with equal chance."""
        return _between(self.key(), shape, minval, maxval, dtype)


put("random.Generator", Generator)
