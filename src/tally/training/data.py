"""Where batches come from: arrays, generators, datasets, loaders, all as sources of (x, y, sample_weight)."""

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from tally.core.random import Key, next_key
from tally.training.data_arrays import (
    Batch,
    as_arrays,
    complete,
    count_examples,
    is_array_like,
    narrow,
    raise_data_error,
    split_validation,
)
from tally.training.data_python import PyDataset, read_ahead
from tally.training.keeping import Cut, Shelf, keep

__all__ = ["Batch", "DataSource", "PyDataset", "adapt", "prefetch", "split_validation"]


_TOGETHER = 16
"""Batches that are gathered at a time, at most."""
_GATHERED = 2**18
"""Bytes that are gathered at a time, at most, unless one batch takes more."""


class Pieces:
    """What stands for batches; here they themselves do."""

    def batch_of(self, piece: Any) -> Batch:
        """The batch that a piece stands for."""
        return piece

    def are_alike(self, pieces: list[Any]) -> bool:
        """Whether the batches that pieces stand for have the same shapes."""
        first, *others = ([leaf.shape for leaf in jax.tree.leaves(batch)] for batch in pieces)
        return all(shapes == first for shapes in others)

    def together(self, pieces: list[Any]) -> Batch:
        """The batches that pieces stand for, which are alike, stacked along a new first axis."""
        return jax.tree.map(
            lambda *arrays: (np if isinstance(arrays[0], np.ndarray) else jnp).stack(arrays), *pieces
        )


class DataSource(Pieces, ABC):
    """Batches, epoch after epoch.

    A pass is one way through the data. Without `steps_per_epoch` an epoch is a pass; with it, an epoch is so
    many batches, and the next one continues where the last one stopped.

    Args:
        steps_per_epoch: Number of batches in an epoch, or None for all there are.
    """

    batch_size: int | None = None
    is_cut: ClassVar[bool] = False
    """Whether batches are cut out of what lies in memory, so that many cost no more than one."""

    def __init__(self, steps_per_epoch: int | None = None) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._pass: Iterator[Any] | None = None
        self._position = 0  # in the pass
        self._peeked: Any = None
        self._measured: int | None = None  # batches in a pass that was seen to its end
        self._has_given = False
        # Where in the pass the epoch began, and how many batches it gave since.
        self._began, self._given = (
            0,
            0,
        )
        self._before = 0  # batches of the epoch that another process has had
        self._key: Key | None = None  # what the order of the pass was drawn from
        self._asked_key: Key | None = None

    @abstractmethod
    def _start_pass(self, skip: int = 0) -> Iterator[Any]:
        """Begin anew, after so many batches; gives what `pieces` gives."""

    @abstractmethod
    def _pass_length(self) -> int | None:
        """Number of batches in a pass, or None when it can't be known beforehand."""

    @property
    def steps(self) -> int | None:
        """Number of batches in an epoch; None while that is unknown."""
        return self.steps_per_epoch or self._pass_length() or self._measured

    def on_epoch_begin(self) -> None:
        """Tell the data that an epoch begins."""

    def on_epoch_end(self) -> None:
        """Tell the data that an epoch has ended."""

    @property
    def cut(self) -> list[Any]:
        """How the data are cut into epochs and batches; positions in data that are cut otherwise mean nothing."""
        return [self._pass_length(), self.batch_size, self.steps_per_epoch]

    def whereabouts(self, done: int) -> dict[str, Any]:
        """Where in the data an epoch is, for `go_on` in another process.

        Args:
            done: How many batches of the epoch in hand were used; 0 when it is over.
        """
        position = self._began + (done or self._given)
        if not done and (self.steps_per_epoch is None or position == self._pass_length()):
            position = 0
        key = None if self._key is None or not position else list(self._key)
        return {"cut": self.cut, "position": position, "done": done, "key": key, "length": self._measured}

    def go_on(self, state: dict[str, Any]) -> None:
        """Give from now on what followed in the process that told its whereabouts.

        Args:
            state: What `whereabouts` gave for data that are cut in the same way.
        """
        position, self._before = int(state["position"]), int(state["done"])
        self._measured = state["length"] if self._measured is None else self._measured
        self._has_given = self._has_given or position > 0
        self._asked_key = None if state["key"] is None else Key(*map(int, state["key"]))
        if position:
            self._skip_to(position)
        elif self._position or self._key is not None:
            self.close()

    def _skip_to(self, position: int) -> None:
        self.close()
        self._pass, self._position = self._start_pass(position), position

    def _draw_key(self) -> Key:
        """What the order of a pass is drawn from: the next key, or that of the pass which is gone on with."""
        self._key, self._asked_key = self._asked_key or next_key(), None
        return self._key

    def close(self) -> None:
        """Let go of what a pass holds, threads and processes included."""
        getattr(self._pass, "close", lambda: None)()
        self._pass, self._position, self._peeked = None, 0, None

    def peek(self) -> Batch:
        """The first batch, which `batches` will still give.

        Raises:
            DataError: There is none.
        """
        if self._pass is None or self._position:
            self._restart()
        self._peeked = self._peeked or self._draw()
        return self.batch_of(self._peeked or self._refuse_nothing())

    def batches(self) -> Iterator[Batch]:
        """The batches of one epoch, each `(x, y, sample_weight)` with None for what is not there.

        Raises:
            DataError: There is no batch at all, or a batch doesn't fit together.
        """
        return map(self.batch_of, self.pieces())

    def keep(self, device: Any) -> Shelf | None:
        """All examples on a device; None where batches have to come one by one."""
        del device
        return None

    def pieces(self) -> Iterator[Any]:
        """What stands for the batches of one epoch: they themselves, or which examples to take for them.

        Raises:
            DataError: There is no batch at all, or a batch doesn't fit together.
        """
        wanted, given, self._before = self.steps_per_epoch, self._before, 0
        if self._pass is None or (wanted is None and self._position and not given):
            self._restart()
        self._began, self._given = self._position - given, given
        while given != wanted:
            batch = self._draw()
            if batch is None and given == 0 and self._position:  # the epoch before used up the pass exactly
                self._restart()
                self._began = 0
                batch = self._draw()
            if batch is None:
                self._run_out(given)
                return
            given += 1
            self._given = given
            self._position += 1
            self._has_given = True
            yield batch
        if self._position == self._pass_length():
            self.close()

    def _restart(self) -> None:
        self.close()
        self._pass = self._start_pass()

    def _draw(self) -> Any:
        peeked, self._peeked = self._peeked, None
        return peeked or next(self._pass or iter(()), None)

    def _run_out(self, given: int) -> None:
        self.close()
        if not self._has_given:
            self._refuse_nothing()
        if given and self.steps_per_epoch is None:
            self._measured = given
            return
        wanted = f"{self.steps_per_epoch:,} batches were" if self.steps_per_epoch else "another epoch was"
        warnings.warn(
            f"The data ran out: {wanted} wanted, {given:,} batches came. Give data that last for "
            "steps_per_epoch * epochs batches, or, instead of a generator, something to iterate over again.",
            stacklevel=3,
        )

    def _refuse_nothing(self) -> NoReturn:
        raise_data_error("The data gave no batch.", do="check that the dataset or generator has at least one")


class _Arrays(DataSource):
    """Arrays that lie in memory, cut into batches of equal size; the last may be smaller."""

    is_cut = True

    def __init__(
        self, batch: Batch, *, batch_size: int | None, steps_per_epoch: int | None, shuffle: bool | str
    ) -> None:
        super().__init__(steps_per_epoch)
        self.examples = count_examples(batch)
        self.batch_size: int = batch_size or (-(-self.examples // steps_per_epoch) if steps_per_epoch else 32)
        self.shuffle = shuffle
        self._leaves, self._structure = jax.tree.flatten(batch)
        self._at_a_time = max(1, min(_TOGETHER, _GATHERED // max(1, self.batch_size * self._example_bytes())))
        self._gathered: list[Any] = []
        self._gathered_from: tuple[np.ndarray | None, int] = None, 0
        self._is_wide = any(narrow(leaf[:0]).dtype != leaf.dtype for leaf in self._leaves)
        self._shelf: Shelf | None = None
        self._kept_on: Any = None

    def _example_bytes(self) -> int:
        return sum(leaf.nbytes for leaf in self._leaves) // self.examples

    def _pass_length(self) -> int:
        return -(-self.examples // self.batch_size)

    def order(self) -> np.ndarray | None:
        """The order of examples in the next pass, from the global seed; None leaves them as they are."""
        if not self.shuffle:
            return None
        generator = np.random.default_rng(self._draw_key())
        if self.shuffle == "batch":
            starts = range(0, self.examples, self.batch_size)
            blocks = [np.arange(start, min(start + self.batch_size, self.examples)) for start in starts]
            return np.concatenate([generator.permutation(block) for block in blocks])
        return generator.permutation(self.examples)

    def _start_pass(self, skip: int = 0) -> Iterator[Cut]:
        order = self.order()
        starts = enumerate(range(0, self.examples, self.batch_size))
        for number, start in islice(starts, skip, None):
            yield Cut(number, min(self.batch_size, self.examples - start), order)

    def batch_of(self, piece: Cut) -> Batch:
        """Cut a batch out of the arrays. Small batches of a shuffled pass are gathered several at a time."""
        start = piece.number * self.batch_size
        if piece.order is None:
            leaves, first = self._leaves, 0
        else:
            leaves, first = self._gather(piece.order, start)
        span = slice(start - first, start - first + piece.size)
        return self._structure.unflatten(self._narrowed([leaf[span] for leaf in leaves]))

    def _gather(self, order: np.ndarray, start: int) -> tuple[list[Any], int]:
        """The examples at a place in the order among others around it, and the place where those begin."""
        first = start - start % (self.batch_size * self._at_a_time)
        if self._gathered_from[0] is not order or self._gathered_from[1] != first:
            rows = order[first : first + self.batch_size * self._at_a_time]
            self._gathered = [leaf.take(rows, axis=0) for leaf in self._leaves]
            self._gathered_from = order, first
        return self._gathered, first

    def _narrowed(self, leaves: list[Any]) -> list[Any]:
        return list(map(narrow, leaves)) if self._is_wide else leaves

    def are_alike(self, pieces: list[Cut]) -> bool:
        """Whether they are of one size."""
        return pieces[-1].size == pieces[0].size

    def together(self, pieces: list[Cut]) -> Batch:
        """Cut out all of them at once."""
        size, start = pieces[0].size, pieces[0].number * self.batch_size
        span, order = slice(start, start + size * len(pieces)), pieces[0].order
        taken = [leaf[span] if order is None else leaf.take(order[span], axis=0) for leaf in self._leaves]
        stacked = [leaf.reshape(len(pieces), size, *leaf.shape[1:]) for leaf in self._narrowed(taken)]
        return self._structure.unflatten(stacked)

    def keep(self, device: Any) -> Shelf | None:
        """Put the arrays onto a device, if they fit; a second call gives them again."""
        if device != self._kept_on:
            kept = keep(self._leaves, device)
            whole = None if kept is None else jax.tree.unflatten(self._structure, kept)
            self._kept_on = device
            self._shelf = None if kept is None else Shelf(whole, self.batch_size)
        return self._shelf


class _Iterable(DataSource):
    """Anything that gives batches when iterated over: generators, loaders, datasets of other libraries."""

    def __init__(
        self, items: Any, *, steps_per_epoch: int | None, class_weight: Mapping[int, float] | None
    ) -> None:
        super().__init__(steps_per_epoch)
        self.items = items
        self.class_weight = class_weight
        self.batch_size = _batch_size(items)
        self._is_fresh = hasattr(items, "as_numpy_iterator")  # its arrays are made for us and nobody else's

    def _pass_length(self) -> int | None:
        try:
            length = len(self.items)
        except (TypeError, NotImplementedError):
            return None
        return length if length < sys.maxsize // 2 else None  # how grain says "without end"

    def _iterate(self, skip: int) -> Iterator[Any]:
        del skip  # what comes by itself can't be told to leave some out
        return self.items.as_numpy_iterator() if self._is_fresh else iter(self.items)

    def _start_pass(self, skip: int = 0) -> Iterator[Batch]:
        for item in self._iterate(skip):
            yield self._unpack(item)

    def _skip_to(self, position: int) -> None:
        """Draw at once what is left out, before random numbers are put back that the drawing may use up."""
        if self._pass is None or self._position or not hasattr(self.items, "__next__"):
            self._restart()
        while self._position < position:  # a generator may have given its first batch to build the model from
            self._draw()
            self._position += 1

    def _unpack(self, item: Any) -> Batch:
        parts = tuple(item) if isinstance(item, (tuple, list)) else (item,)
        if not 1 <= len(parts) <= 3:
            raise_data_error(
                f"A batch of {type(self.items).__name__} has {len(parts)} parts.",
                do="give x, (x, y) or (x, y, sample_weight), where x may be a tuple or dict of inputs",
            )
        x, y, sample_weight = (
            as_arrays(part if self._is_fresh else _detached(part), label)
            for part, label in zip((*parts, None, None), ("x", "y", "sample_weight"), strict=False)
        )
        batch = complete(x, y, sample_weight, self.class_weight)
        count_examples(batch)
        return batch


class _Python(_Iterable):
    """A `PyDataset`: batches by number, shuffled each pass where asked, read ahead where it has workers."""

    def __init__(self, dataset: Any, *, shuffle: bool | str, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.shuffle = shuffle
        if self._pass_length() is None and self.steps_per_epoch is None:
            raise_data_error(
                f"{type(dataset).__name__} has no end (num_batches is None), so an epoch has none either.",
                do="pass steps_per_epoch",
            )

    def _pass_length(self) -> int | None:
        return self.items.num_batches

    def on_epoch_begin(self) -> None:
        self.items.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.items.on_epoch_end()

    def _skip_to(self, position: int) -> None:
        DataSource._skip_to(self, position)

    def _iterate(self, skip: int) -> Iterator[Any]:
        length = self._pass_length()
        if length is None:
            return read_ahead(self.items, count(skip))
        order = list(range(length))
        if self.shuffle:
            order = [int(i) for i in np.random.default_rng(self._draw_key()).permutation(length)]
        return read_ahead(self.items, order[skip:])


def _detached(part: Any) -> Any:
    # JAX may use a NumPy array in place, and a generator may refill one buffer for each batch it gives.
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, part)


def _batch_size(items: Any) -> int | None:
    size = getattr(items, "batch_size", None)
    if size is None and "tensorflow" in sys.modules and hasattr(items, "element_spec"):
        specs = sys.modules["tensorflow"].nest.flatten(items.element_spec)
        size = specs[0].shape[0] if specs and specs[0].shape.rank else None
    return size if isinstance(size, int) else None


def adapt(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: bool | str = False,
    class_weight: Mapping[int, float] | None = None,
) -> DataSource:
    """Make a source of batches from whatever `fit`, `evaluate` and `predict` take.

    Args:
        x: NumPy or JAX arrays, tensors of PyTorch or TensorFlow, pandas tables, lists of numbers, or tuples,
            lists and dicts of those; or what gives batches: a generator, any iterable, a `PyDataset`, a
            PyTorch `DataLoader`, a `tf.data.Dataset`, a grain dataset or loader.
        y: Targets beside arrays; batches bring their own.
        sample_weight: Weights of the examples, shape (examples,) or as the targets, beside arrays.
        batch_size: Number of examples in a batch of arrays; 32, or what `steps_per_epoch` makes of the data.
        steps_per_epoch: Number of batches in an epoch; None for all.
        shuffle: Whether arrays and `PyDataset` batches come in a new order each pass. `"batch"` only shuffles
            within batches.
        class_weight: Class -> weight, which becomes a weight of each example.

    Raises:
        DataError: The data are empty, of unequal length, not numbers, or of a kind that is not known.

    Example:
        >>> source = adapt(np.zeros((5, 3)), np.zeros(5), batch_size=2)
        >>> [len(x) for x, y, weight in source.batches()]
        [2, 2, 1]
    """
    if isinstance(x, DataSource):
        return x
    if is_array_like(x):
        arrays = (as_arrays(x, "x"), as_arrays(y, "y"), as_arrays(sample_weight, "sample_weight"))
        count_examples(arrays)
        batch = complete(*arrays, class_weight)
        return _Arrays(batch, batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=shuffle)
    numbered = hasattr(x, "num_batches") and hasattr(x, "__getitem__")
    if not numbered and not hasattr(x, "__iter__"):
        _refuse_kind(x)
    for word, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None:
            raise_data_error(
                f"{word} was passed together with a {type(x).__name__}, which brings its own.",
                do=f"let the {type(x).__name__} give (x, y) or (x, y, sample_weight), and drop {word}",
            )
    if numbered:
        return _Python(x, shuffle=shuffle, steps_per_epoch=steps_per_epoch, class_weight=class_weight)
    return _Iterable(x, steps_per_epoch=steps_per_epoch, class_weight=class_weight)


def _refuse_kind(x: Any) -> NoReturn:
    if x is None:
        raise_data_error("x is None, so there are no data.", do="pass arrays or something that gives batches")
    if callable(x):
        name = getattr(x, "__name__", "it")
        raise_data_error(
            f"x is the function {name} itself and not a generator.", do=f"call it: pass {name}()"
        )
    raise_data_error(
        f"x is a {type(x).__name__}, which is neither an array nor something that gives batches.",
        do="pass arrays, a generator, a PyDataset, a DataLoader, a tf.data.Dataset or a grain dataset",
    )


def prefetch(batches: Iterator[Batch], place: Callable[[Batch], Any] = jax.device_put) -> Iterator[Any]:
    """Place each batch on the device while the one before it is still being computed with.

    Transfers run beside the computation by themselves, so staying one batch ahead needs no thread, and Ctrl-C
    stops it like any other loop.

    Args:
        batches: What `DataSource.batches` gives.
        place: What puts a batch onto the device or its shards.
    """
    try:
        staged = [place(batch) for batch in [next(batches, None)] if batch is not None]
        for batch in batches:
            upcoming = place(batch)
            yield staged.pop()
            staged.append(upcoming)
        yield from staged
    finally:
        getattr(batches, "close", lambda: None)()
