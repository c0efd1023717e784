"""Datasets written in Python, a batch at a time by number, and how threads or processes read them ahead."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


class PyDataset:
    """Data that give a whole batch for its number; subclass it and write `__getitem__` and `__len__`.

    Args:
        workers: How many batches are prepared at a time while the model computes; 1 prepares them in between.
        use_multiprocessing: Whether the workers are processes, which helps where preparing is slow Python;
            the dataset has to be picklable. Otherwise they are threads.
        max_queue_size: How many prepared batches may wait.

    Example:
        >>> class Squares(PyDataset):
        ...     def __len__(self):
        ...         return 10
        ...     def __getitem__(self, index):
        ...         x = np.random.default_rng(index).random((32, 1))
        ...         return x, x**2

    Source: `keras.utils.PyDataset`, once `keras.utils.Sequence`.
    """

    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers, self.use_multiprocessing, self.max_queue_size = (
            workers,
            use_multiprocessing,
            max_queue_size,
        )

    def __getitem__(self, index: int) -> Any:
        """The batch of that number: `x`, `(x, y)` or `(x, y, sample_weight)`."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a __getitem__ that returns the batch of a number."
        )

    @property
    def num_batches(self) -> int | None:
        """Number of batches; None for data without end."""
        if not hasattr(self, "__len__"):
            raise NotImplementedError(
                f"{type(self).__name__} needs a __len__ that returns the number of batches."
            )
        return len(self)  # type: ignore[arg-type]

    def on_epoch_begin(self) -> None:
        """Called before each epoch; override it to change the data between epochs."""

    def on_epoch_end(self) -> None:
        """Called after each epoch; override it to change the data between epochs."""

    def __iter__(self) -> Iterator[Any]:
        length = self.num_batches
        for index in count() if length is None else range(length):
            yield self[index]


_held: Any = None
"""In a worker process: the dataset it reads from."""


def _hold(dataset: Any) -> None:
    global _held
    _held = dataset


def _read(index: int) -> Any:
    return _held[index]


def read_ahead(dataset: Any, order: Iterable[int] | None) -> Iterator[Any]:
    """Give a dataset's batches in an order, prepared ahead of time by its workers.

    Args:
        dataset: A `PyDataset`, or what has its methods and attributes.
        order: Numbers of the batches; None counts up without end.
    """
    order = count() if order is None else order
    if dataset.workers < 2 and not (dataset.workers and dataset.use_multiprocessing):
        yield from (dataset[index] for index in order)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    pool: Executor
    if dataset.use_multiprocessing:
        # JAX runs threads, and a forked copy of a process with threads may hang.
        pool = ProcessPoolExecutor(dataset.workers, multiprocessing.get_context("spawn"), _hold, (dataset,))
        read = _read
    else:
        pool = ThreadPoolExecutor(dataset.workers, "tally data")
        read = dataset.__getitem__
    waiting: deque[Future[Any]] = deque()
    try:
        for index in order:
            waiting.append(pool.submit(read, index))
            if len(waiting) >= max(dataset.max_queue_size, dataset.workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
