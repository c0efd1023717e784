"""Randomness: one global seed, keys that are two integers until needed, and seed generators that layers own."""

import functools
import itertools
import random as python_random
import secrets
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.registry import Configured

if TYPE_CHECKING:
    from collections.abc import Iterator


class Key(NamedTuple):
    """A random key that has not been made yet: the global seed and how many were drawn before it."""

    seed: int
    number: int

    def array(self) -> jax.Array:
        """The JAX key. Equal in any order of making, inside or outside a compiled function."""
        return jax.random.fold_in(jax.random.key(np.uint32(self.seed)), np.uint32(self.number))

    def integer(self) -> int:
        """The two numbers mixed into one of 32 bits."""
        return (self.seed ^ (self.number * 0x9E3779B1 + 0x7F4A7C15)) % 2**32


class _Global:
    seed: int = secrets.randbits(32)
    numbers: "itertools.count[int]" = itertools.count()


UNSEEDED = "tally_unseeded"
"""Names, in the equations of a trace, the keys of draws that were given no seed: they are new each time."""

_step_key: ContextVar[Any] = ContextVar("step key", default=None)


def set_random_seed(seed: int) -> None:
    """Make what follows repeatable: Python's, NumPy's and this library's random numbers.

    Args:
        seed: An integer from 0 to 2**32 - 1.
    """
    python_random.seed(seed)
    np.random.seed(seed % 2**32)
    _Global.seed, _Global.numbers = int(seed) % 2**32, itertools.count()


def keys_drawn() -> int:
    """How many keys were drawn from the global sequence so far."""
    number = next(_Global.numbers)
    _Global.numbers = itertools.count(number)
    return number


def pass_over(count: int) -> None:
    """Leave out so many keys of the global sequence, as if they had been drawn."""
    _Global.numbers = itertools.count(keys_drawn() + count)


def global_state() -> tuple[int, int]:
    """The global seed and how many keys were drawn from it: all that the next ones depend on."""
    return _Global.seed, keys_drawn()


def set_global_state(seed: int, drawn: int) -> None:
    """Go on with the global sequence where `global_state` has told it to be."""
    _Global.seed, _Global.numbers = seed % 2**32, itertools.count(drawn)


def next_key() -> Key:
    """Draw the next key of the global sequence."""
    return Key(_Global.seed, next(_Global.numbers))


class _StepKey:
    """Hands out keys inside one compiled call: each the call's own key and a running number."""

    def __init__(self, key: jax.Array) -> None:
        self.key, self.numbers = key, itertools.count()

    def next(self) -> jax.Array:
        return jax.random.fold_in(self.key, next(self.numbers))


@contextmanager
def step_key(key: jax.Array) -> "Iterator[None]":
    """While the block runs, draws without a seed come from this key, so that a compiled step draws anew each time."""
    token = _step_key.set(_StepKey(key))
    try:
        yield
    finally:
        _step_key.reset(token)


def draw_key(seed: "int | SeedGenerator | jax.Array | None" = None) -> jax.Array:
    """The JAX key behind a `seed` argument.

    Args:
        seed: An integer gives the same key each time, a `SeedGenerator` its next one, a JAX key itself, None the next
            of the global sequence.
    """
    if seed is None:
        step = _step_key.get()
        with jax.named_scope(UNSEEDED):
            return step.next() if step is not None else next_key().array()
    if isinstance(seed, SeedGenerator):
        return seed.key()
    if isinstance(seed, Key):
        return seed.array()
    if isinstance(seed, (int, np.integer)):
        return jax.random.key(int(seed) % 2**32)
    array = jnp.asarray(seed)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    return jax.random.wrap_key_data(array.astype("uint32"))


def _first_state(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The state of a seed generator that has given nothing yet."""
    return np.array([seed, 0], dtype)


class SeedGenerator(Configured):
    """A seed that a layer owns and that moves on with each draw; its state is a variable of two numbers.

    Args:
        seed: An integer, or None for one from the global sequence.
        name: Name of the generator.
    """

    keras_module = "keras.random"

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        from tally.core.variable import Variable

        self.name = name or "seed_generator"
        start = next_key().integer() if seed is None else int(seed)
        self.seed = seed
        self.state: Variable = Variable(
            functools.partial(
                _first_state, start % 2**32
            ),  # made when read: building a model starts no device
            (2,),
            "uint32",
            trainable=False,
            name="seed_generator_state",
        )
        self.state.is_seed = True

    def next(self, ordered: bool = True) -> jax.Array:
        """The seed as it stands, two uint32 numbers; moves on for the next call."""
        state = self.state.value
        self.state.assign(state + jnp.array([0, 1], dtype="uint32"))
        return state

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Put into a file's group how far it has moved on, as Keras does; one that stands for several has no place."""
        if not self.state.pieces:
            store["0"] = self.state

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Move on to where the one in a file was; a file that says nothing about it changes nothing."""
        state = np.asarray(store["0"]) if "0" in store else None
        if state is not None and state.shape == (2,) and not self.state.pieces:
            self.state.assign(state.astype("uint32"))

    def key(self) -> jax.Array:
        """The next JAX key."""
        state = self.next()
        return jax.random.fold_in(jax.random.key(state[0]), state[1])
