"""First values of weights on a CPU, by three small programs that fit the weights of every model.

A program compiled for one model's shapes takes seconds for a ResNet50, as long as its first epoch on a small data set.
Random numbers of JAX's default generator follow from a key and a position alone, and so do the values made of them,
number by number. So a row of 4,096 of them is drawn from a key, the position of the row in its weight, and two numbers
such as the bounds of a uniform distribution; 64 rows of whatever weights are one call. The bits are those that
`jax.random` gives in a compiled function.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROW, ROWS = 4096, 64
"""Numbers in a row, and rows in a call: 1 MB and 1 ms of one core, which the smallest model pays, too."""
_WAITING = 4
"""Calls in flight, so that copying one's rows and computing the next go on at once."""


class Elements(NamedTuple):
    """How each number of a weight is drawn, apart from all others.

    Args:
        kind: `"constant"`, or the name of a function in `jax.random`: `"uniform"`, `"normal"`, `"truncated_normal"`.
        first: The constant; the lower bound; the standard deviation.
        second: The upper bound; the mean.
        seed: Of the key, where it isn't the weight's own.
    """

    kind: str
    first: float
    second: float = 0.0
    seed: int | None = None


def sample(elements: Elements, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draw an array from its key; what `draw` does for weights in rows.

    Args:
        elements: How each number is drawn.
        key: A key of JAX.
        shape: The array's.
        dtype: The array's.
    """
    kind, first, second, _ = elements
    if kind == "constant":
        return jnp.full(shape, first, dtype)
    if kind == "uniform":
        return jax.random.uniform(key, shape, dtype, first, second)
    if kind == "normal":
        return jax.random.normal(key, shape, dtype) * first + second
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * first + second


class Wanted(NamedTuple):
    """A weight to be drawn: how, its shape and dtype, and its keys, each a seed and a number, for an equal part."""

    elements: Elements
    shape: tuple[int, ...]
    dtype: str
    keys: Sequence[tuple[int, int]]


def elements_of(initializer: Any, shape: tuple[int, ...], dtype: str) -> Elements | None:
    """How a weight's numbers are drawn, if it is drawn here: on a CPU, as 32-bit floats or constants.

    Args:
        initializer: The weight's; one of a class that says itself how all numbers are drawn together is not asked.
        shape: The weight's.
        dtype: The weight's.
    """
    if jax.default_backend() != "cpu" or not _says_elements(type(initializer)):
        return None
    elements: Elements | None = initializer.elements(shape)
    if elements is None or not all(isinstance(one, (int, float)) for one in elements[1:3]):
        return None
    is_drawn = elements.kind == "constant" or (dtype == "float32" and _generator() is not None)
    return elements if is_drawn else None


def _says_elements(kind: type) -> bool:
    for cls in kind.__mro__:
        if "elements" in vars(cls):
            return True
        if not vars(cls).keys().isdisjoint(("__call__", "sample", "fill")):
            return False
    return False


def draw(wanted: Sequence[Wanted]) -> list[jax.Array]:
    """Draw weights.

    Args:
        wanted: Those for which `elements_of` says how.
    """
    made = [_room_for(one) for one in wanted]
    for kind in dict.fromkeys(one.elements.kind for one in wanted if one.elements.kind != "constant"):
        parts = ((one, room) for one, room in zip(wanted, made, strict=True) if one.elements.kind == kind)
        _fill(kind, parts)
    return [jax.device_put(room.reshape(one.shape)) for one, room in zip(wanted, made, strict=True)]


def _room_for(one: Wanted) -> np.ndarray:
    """Memory for a weight, flat: filled, if it is constant."""
    size, dtype = math.prod(one.shape), jnp.dtype(one.dtype)
    if one.elements.kind != "constant":
        return np.empty(size, dtype)
    value = one.elements.first
    is_zero = value == 0 and math.copysign(1, value) > 0
    return np.zeros(size, dtype) if is_zero else np.full(size, value, dtype)


class _Row(NamedTuple):
    """A row to be drawn: where it belongs, and what it is drawn from."""

    place: np.ndarray
    key: tuple[int, int]
    start: int
    elements: Elements


def _fill(kind: str, parts: Iterable[tuple[Wanted, np.ndarray]]) -> None:
    program = _program(kind)
    waiting: deque[tuple[list[_Row], jax.Array]] = deque()
    for rows in _batches(_rows(parts)):
        waiting.append((rows, program(*_arguments(rows))))
        if len(waiting) == _WAITING:
            _store(*waiting.popleft())
    while waiting:
        _store(*waiting.popleft())


def _rows(parts: Iterable[tuple[Wanted, np.ndarray]]) -> Iterator[_Row]:
    for one, room in parts:
        size = room.size // len(one.keys)
        for index, key in enumerate(_words(one)):
            place = room[index * size : (index + 1) * size]
            for start in range(0, size, ROW):
                yield _Row(place[start : start + ROW], key, start, one.elements)


def _batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _arguments(rows: list[_Row]) -> tuple[np.ndarray, np.ndarray]:
    """Key and position of each row, and its two numbers; a batch that isn't full is filled up with zeros."""
    where, numbers = np.zeros((ROWS, 4), "uint32"), np.zeros((ROWS, 2), "float32")
    for index, row in enumerate(rows):
        where[index] = (*row.key, row.start >> 32, row.start & 0xFFFFFFFF)
        numbers[index] = row.elements.first, row.elements.second
    return where, numbers


def _store(rows: list[_Row], drawn: jax.Array) -> None:
    for row, values in zip(rows, np.asarray(drawn), strict=False):
        row.place[:] = values[: row.place.size]


@functools.cache
def _program(kind: str) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
    def draw_row(where: jax.Array, numbers: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(where, impl=_generator())
        return sample(Elements(kind, numbers[0], numbers[1]), key, (ROW,), "float32")  # type: ignore[arg-type]

    # A quarter less to compile than at the usual level, and the same bits.
    return jax.jit(jax.vmap(draw_row), compiler_options={"xla_backend_optimization_level": 1})


# -- JAX's default generator, from any position on ---------------------------------------------------------------------
@functools.cache
def _described() -> Any:
    """A generator for `jax.random` whose keys also say from which position on; None where JAX can't be told of one."""
    try:
        from jax.extend.random import define_prng_impl

        return define_prng_impl(
            key_shape=(4,),
            seed=_refuse,
            split=_refuse,
            random_bits=_bits,
            fold_in=_refuse,
            name="tally_threefry_from",
            tag="tyf",
        )
    except (ImportError, AttributeError, TypeError):
        return None


def _generator() -> Any:
    """The generator, if JAX draws from the one it continues; None otherwise."""
    config: Any = jax.config
    if config.jax_default_prng_impl != "threefry2x32" or not config.jax_threefry_partitionable:
        return None
    return _described()


def _refuse(*_: Any) -> Any:
    raise NotImplementedError("Such a key only draws.")


def _bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    """32 random bits for each position, as `jax.random.bits` has them from the position of the key on."""
    if bit_width != 32:
        raise NotImplementedError(f"Only 32 bits are drawn in rows, not {bit_width}.")
    low = key[3] + jnp.arange(math.prod(shape), dtype="uint32")
    high = key[2] + (low < key[3]).astype("uint32")
    first, second = threefry(key[0], key[1], high, low)
    return (first ^ second).reshape(shape)


def _words(one: Wanted) -> Iterable[tuple[int, int]]:
    """The two words of each key: of `jax.random.key(its own seed)`, or else of `fold_in(key(seed), number)`."""
    if one.elements.seed is not None:
        return [(0, one.elements.seed % 2**32)] * len(one.keys)
    seeds, numbers = np.array(one.keys, "uint32").T
    zeros = np.zeros_like(seeds)
    return zip(*(words.tolist() for words in threefry(zeros, seeds, zeros, numbers)), strict=True)


_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(key1: Any, key2: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    """Mix two words of 32 bits with a key of two: 20 rounds of Threefry, on arrays of NumPy or JAX.

    Args:
        key1: First word of the key.
        key2: Second word of the key.
        x1: High words.
        x2: Low words.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011.
    """
    keys = (key1, key2, key1 ^ key2 ^ np.uint32(_PARITY))
    x1, x2 = x1 + keys[0], x2 + keys[1]
    for group in range(5):
        for turn in _TURNS[group % 2]:
            x1 = x1 + x2
            x2 = x1 ^ ((x2 << np.uint32(turn)) | (x2 >> np.uint32(32 - turn)))
        x1, x2 = x1 + keys[(group + 1) % 3], x2 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x1, x2
