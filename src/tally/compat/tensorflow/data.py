"""`tf.data`: a pipeline over data in memory, an example at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from tally.compat.names import put
from tally.compat.tensorflow.drawing import key_of
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import TensorSpec
from tally.core.errors import ArgumentError, DataError
from tally.core.random import next_key, step_key
from tally.core.symbol import leaves

AUTOTUNE = -1
put("data.AUTOTUNE data.experimental.AUTOTUNE", AUTOTUNE)
put("data.INFINITE_CARDINALITY", -1)
put("data.UNKNOWN_CARDINALITY", -2)


class Dataset:
    """Elements one after the other, each a tensor or a tuple or dict of tensors; `fit` takes a batched one.

    Iterating gives tensors, and starts anew each time. Made by `from_tensor_slices` and its relatives.

    Args:
        start: Gives the elements, as NumPy arrays, from the first one on.
        count: Number of elements; -1 without end, -2 where it isn't known.
    """

    def __init__(self, start: Callable[[], Iterable[Any]], count: int) -> None:
        self._start, self._count = start, count

    # -- sources ---------------------------------------------------------------------------------------------------
    @staticmethod
    def from_tensor_slices(tensors: Any, name: str | None = None) -> "Dataset":
        """One element for each place on the first axis.

        Raises:
            DataError: The first axes differ in size.
        """
        del name
        arrays = _arrays(tensors)
        counts = {array.shape[0] if array.ndim else 0 for array in leaves(arrays)}
        if len(counts) != 1:
            raise DataError(
                f"from_tensor_slices was given arrays of {' and '.join(map(str, sorted(counts)))} rows.",
                do="give arrays with one row for each example",
            )
        count = counts.pop()
        return Dataset(lambda: (jax.tree.map(lambda x, i=i: x[i], arrays) for i in range(count)), count)

    @staticmethod
    def from_tensors(tensors: Any, name: str | None = None) -> "Dataset":
        """One element, as it is."""
        del name
        arrays = _arrays(tensors)
        return Dataset(lambda: [arrays], 1)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_types: Any = None,
        output_shapes: Any = None,
        args: tuple[Any, ...] | None = None,
        output_signature: Any = None,
        name: str | None = None,
    ) -> "Dataset":
        """What a function gives when iterated over."""
        del output_shapes, name
        signature = output_types if output_signature is None else output_signature
        dtypes = (
            None if signature is None else jax.tree.map(lambda one: getattr(one, "dtype", one), signature)
        )
        given = args or ()

        def start() -> Iterator[Any]:
            for element in generator(*given):
                yield (
                    _arrays(element)
                    if dtypes is None
                    else jax.tree.map(
                        lambda part, dtype: np.asarray(tensor(part, dtype)), _like(element, dtypes), dtypes
                    )
                )

        return Dataset(start, -2)

    @staticmethod
    def range(*args: int, output_type: Any = "int64", name: str | None = None) -> "Dataset":
        """Whole numbers at equal distances."""
        del name
        numbers = range(*map(int, args))
        return Dataset(lambda: (np.asarray(tensor(i, output_type)) for i in numbers), len(numbers))

    @staticmethod
    def zip(*args: Any, datasets: Any = None, name: str | None = None) -> "Dataset":
        """Elements of several datasets side by side, as long as all have one."""
        del name
        given = datasets if datasets is not None else args[0] if len(args) == 1 else args
        parts, form = jax.tree.flatten(given, is_leaf=lambda part: isinstance(part, Dataset))
        counts = [part._count for part in parts if part._count != -1]
        count = -2 if -2 in counts else min(counts, default=-1)
        return Dataset(
            lambda: (
                jax.tree.unflatten(form, elements)
                for elements in zip(*[p._start() for p in parts], strict=False)
            ),
            count,
        )

    # -- what is made of the elements ----------------------------------------------------------------------------------
    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        **_: Any,
    ) -> "Dataset":
        """A function of each element; a tuple's parts are its arguments."""
        del num_parallel_calls, deterministic

        def start() -> Iterator[Any]:
            apply = _compiled(map_func)
            for element in self._start():
                yield _arrays(apply(element))

        return Dataset(start, self._count)

    def filter(self, predicate: Callable[..., Any], name: str | None = None) -> "Dataset":
        """The elements for which a function holds."""
        del name

        def start() -> Iterator[Any]:
            for element in self._start():
                if bool(_call(predicate, _tensors(element))):
                    yield element

        return Dataset(start, -2)

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        name: str | None = None,
    ) -> "Dataset":
        """So many elements together; the last batch may be smaller, unless it is dropped."""
        del num_parallel_calls, deterministic, name
        size = int(batch_size)

        def start() -> Iterator[Any]:
            elements = iter(self._start())
            while taken := list(itertools.islice(elements, size)):
                if len(taken) == size or not drop_remainder:
                    yield jax.tree.map(lambda *parts: np.stack(parts), *taken)

        count = (
            self._count
            if self._count < 0
            else self._count // size
            if drop_remainder
            else -(-self._count // size)
        )
        return Dataset(start, count)

    def unbatch(self, name: str | None = None) -> "Dataset":
        """The elements of the batches, one by one."""
        del name

        def start() -> Iterator[Any]:
            for batch in self._start():
                for i in range(leaves(batch)[0].shape[0]):
                    yield jax.tree.map(lambda x, i=i: x[i], batch)

        return Dataset(start, -2)

    def shuffle(
        self,
        buffer_size: int,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = True,
        name: str | None = None,
    ) -> "Dataset":
        """Another order: each element is drawn from a buffer of those that follow."""
        del name
        fixed = _order_seed(seed) if seed is not None or reshuffle_each_iteration is False else None
        passes = itertools.count()

        def start() -> Iterator[Any]:
            number = next(passes) if reshuffle_each_iteration is not False else 0
            chance = np.random.default_rng(next_key() if fixed is None else (fixed, number))
            return _shuffled(self._start(), int(buffer_size), chance)

        return Dataset(start, self._count)

    def repeat(self, count: int | None = None, name: str | None = None) -> "Dataset":
        """All elements so many times; without end unless told."""
        del name
        times = None if count is None or int(count) < 0 else int(count)

        def start() -> Iterator[Any]:
            for _ in itertools.count() if times is None else range(times):
                yield from self._start()

        total = -1 if times is None else self._count * times if self._count >= 0 else self._count
        return Dataset(start, total if self._count != 0 else 0)

    def take(self, count: int, name: str | None = None) -> "Dataset":
        """The first so many elements; all for -1."""
        del name
        if int(count) < 0:
            return self
        total = int(count) if self._count == -1 else min(int(count), self._count) if self._count >= 0 else -2
        return Dataset(lambda: itertools.islice(self._start(), int(count)), total)

    def skip(self, count: int, name: str | None = None) -> "Dataset":
        """All but the first so many elements."""
        del name
        total = max(self._count - int(count), 0) if self._count >= 0 else self._count
        return Dataset(lambda: itertools.islice(self._start(), int(count), None), total)

    def concatenate(self, dataset: "Dataset", name: str | None = None) -> "Dataset":
        """These elements, then another dataset's."""
        del name
        counts = (self._count, dataset._count)
        total = -1 if -1 in counts else -2 if -2 in counts else sum(counts)
        return Dataset(lambda: itertools.chain(self._start(), dataset._start()), total)

    def enumerate(self, start: int = 0, name: str | None = None) -> "Dataset":
        """Each element behind its number."""
        del name
        numbered = lambda: (
            (np.asarray(i, "int32"), element) for i, element in enumerate(self._start(), start)
        )
        return Dataset(numbered, self._count)

    def cache(self, filename: str = "", name: str | None = None) -> "Dataset":
        """The elements as they came the first time, kept in memory."""
        del name
        if filename:
            raise ArgumentError("A dataset is not cached in files here.", do="leave the name out")
        kept: list[Any] = []
        whole = [False]

        def start() -> Iterator[Any]:
            if whole[0]:
                yield from kept
                return
            seen = []
            for element in self._start():
                seen.append(element)
                yield element
            kept[:], whole[0] = seen, True

        return Dataset(start, self._count)

    def prefetch(self, buffer_size: Any, name: str | None = None) -> "Dataset":
        """Itself: `fit` stays a batch ahead as it is."""
        del buffer_size, name
        return self

    def with_options(self, options: Any, name: str | None = None) -> "Dataset":
        """Itself: the options are about how TensorFlow schedules."""
        del options, name
        return self

    def apply(self, transformation_func: Callable[["Dataset"], "Dataset"]) -> "Dataset":
        """What a function of datasets makes of it."""
        return transformation_func(self)

    def reduce(
        self, initial_state: Any, reduce_func: Callable[[Any, Any], Any], name: str | None = None
    ) -> Any:
        """Carry a state along the elements; gives the last one."""
        del name
        state = _tensors(_arrays(initial_state))
        for element in self:
            state = reduce_func(state, element)
        return state

    # -- looking at them ---------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Any]:
        return (_tensors(element) for element in self._start())

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The elements as NumPy arrays."""
        return iter(self._start())

    def cardinality(self, name: str | None = None) -> Any:
        """Number of elements: -1 without end, -2 where it isn't known."""
        del name
        return tensor(self._count)

    def __len__(self) -> int:
        if self._count < 0:
            reason = "has no end" if self._count == -1 else "has a length that only iterating tells"
            raise TypeError(f"The dataset {reason}.")
        return self._count

    def __bool__(self) -> bool:
        return True

    @property
    def element_spec(self) -> Any:
        """Shape and dtype of an element, told by the first one; a batch's own size is left open."""
        first = next(iter(self._start()), None)
        if first is None:
            raise DataError("The dataset is empty, so nothing tells what its elements are like.")
        return jax.tree.map(lambda x: TensorSpec(x.shape, x.dtype.name), first)

    def __repr__(self) -> str:
        return f"<Dataset of {self._count if self._count >= 0 else 'unknown length'} elements>"


put("data.Dataset", Dataset)


class Options:
    """What TensorFlow's scheduler can be told; it is kept, and has no effect here."""


put("data.Options", Options)


def _arrays(structure: Any) -> Any:
    """Every tensor in NumPy; lists are tensors themselves, as TensorFlow takes them."""
    if isinstance(structure, dict):
        return {name: _arrays(part) for name, part in structure.items()}
    if isinstance(structure, tuple):
        parts = [_arrays(part) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else tuple(parts)
    if isinstance(structure, np.ndarray) and structure.dtype.name in ("uint8", "int32", "float32", "bool"):
        return structure
    return np.asarray(tensor(structure))


def _tensors(structure: Any) -> Any:
    return jax.tree.map(tensor, structure)


def _like(element: Any, dtypes: Any) -> Any:
    return tuple(element) if isinstance(dtypes, tuple) else element


def _call(function: Callable[..., Any], element: Any) -> Any:
    return function(*element) if isinstance(element, tuple) else function(element)


def _compiled(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Compile what a dataset applies to each element, as TensorFlow does; as it is where JAX can't follow it."""

    def with_key(key: Any, element: Any) -> Any:
        with step_key(key):  # each element draws random numbers of its own
            return jax.tree.map(tensor, _call(function, element))

    compiled = jax.jit(with_key)
    follows = [True]

    def apply(element: Any) -> Any:
        if follows[0]:
            try:
                return compiled(key_of(None), element)
            except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, AttributeError):
                follows[0] = False
        return _call(function, _tensors(element))

    return apply


def _order_seed(seed: int | None) -> int:
    return int(seed) if seed is not None else next_key().integer()


def _shuffled(elements: Iterable[Any], size: int, chance: np.random.Generator) -> Iterator[Any]:
    """Draw each element from a buffer that the next ones fill up."""
    rest = iter(elements)
    buffer = list(itertools.islice(rest, size))
    for element in rest:
        place = int(chance.integers(len(buffer)))
        drawn, buffer[place] = buffer[place], element
        yield drawn
    for place in chance.permutation(len(buffer)):
        yield buffer[place]
