"""Data sets that stay on an accelerator for all epochs, where compiled functions cut the batches out of them."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHARE = 0.25
"""Of the memory that a device has free, how much the data kept on it may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Which examples of a data set make a batch.

    Attributes:
        number: The batch's number in its pass through the data, from 0.
        size: How many examples it has.
        order: The order of all examples in this pass; None leaves them as they are.
    """

    number: int
    size: int
    order: np.ndarray | None


class Shelf:
    """Arrays on a device, and the batches that are cut out of them there: nothing is sent to the device for a step.

    Args:
        arrays: The examples, in a structure of arrays on the device.
        batch_size: Number of examples in each batch but the last.

    Example:
        >>> shelf = Shelf(jnp.arange(6.0), batch_size=2)
        >>> shelf.batch_of(Cut(1, 2, np.array([5, 4, 3, 2, 1, 0])))
        Array([3., 2.], dtype=float32)
    """

    def __init__(self, arrays: Any, batch_size: int) -> None:
        self.arrays, self.batch_size = arrays, batch_size
        self._order: Any = None
        self._sent: Any = None
        self._number, self._start = -1, None

    def batch_of(self, cut: Cut) -> Any:
        """One batch."""
        return self._taken(cut, cut.size, (cut.size,), 1)

    def are_alike(self, cuts: list[Cut]) -> bool:
        """Whether batches are of one size."""
        return cuts[-1].size == cuts[0].size

    def together(self, cuts: list[Cut]) -> Any:
        """Batches of one size, stacked along a new first axis."""
        size = cuts[0].size
        return self._taken(cuts[0], size * len(cuts), (len(cuts), size), len(cuts))

    def _taken(self, cut: Cut, count: int, leading: tuple[int, ...], batches: int) -> Any:
        if cut.order is not self._sent:
            self._order = None if cut.order is None else jnp.asarray(cut.order.astype("int32"))
            self._sent = cut.order
        if cut.number != self._number:
            self._start = jnp.asarray(np.int32(cut.number * self.batch_size))
        self._number = cut.number + batches
        taken, self._start = _take(self.arrays, self._order, self._start, count, leading)
        return taken


@functools.partial(jax.jit, static_argnums=(3, 4))
def _take(arrays: Any, order: Any, start: Any, count: int, leading: tuple[int, ...]) -> Any:
    """So many examples from a place in the order on, and the place after them, which need not be sent again."""
    if order is None:
        taken = jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, start, count), arrays)
    else:
        rows = jax.lax.dynamic_slice_in_dim(order, start, count)
        taken = jax.tree.map(lambda array: array.at[rows].get(mode="promise_in_bounds"), arrays)
    return jax.tree.map(lambda array: array.reshape(*leading, *array.shape[1:]), taken), start + count


def is_worth_keeping(device: Any) -> bool:
    """Whether batches are had sooner from data on a device than from the host.

    On the CPU they are not: NumPy cuts 16 batches at a time for 0.5 microseconds each (32 examples of 4 numbers), where
    a compiled function takes 7 and more, and data kept twice take twice the memory.
    """
    return device.platform != "cpu"


def keep(leaves: list[Any], device: Any) -> list[jax.Array] | None:
    """Put arrays on a device for as long as the result is held.

    Args:
        leaves: NumPy or JAX arrays.
        device: Where to.

    Returns:
        The arrays there, or None where they had better stay: they are in a file, on other devices, or too large.
    """
    new = [leaf for leaf in leaves if not (isinstance(leaf, jax.Array) and leaf.devices() == {device})]
    if any(isinstance(leaf, (np.memmap, jax.Array)) for leaf in new):
        return None
    if sum(leaf.nbytes for leaf in new) > SHARE * free_memory(device):
        return None
    target = None if device == jnp.zeros(()).device else device
    return [jax.device_put(leaf, target) for leaf in leaves]


def free_memory(device: Any) -> int:
    """Bytes that a device can still give; a gigabyte where it doesn't tell."""
    found = device.memory_stats() or {}
    return found["bytes_limit"] - found.get("bytes_in_use", 0) if "bytes_limit" in found else 2**30


def device_of(values: list[jax.Array]) -> Any:
    """The one device that arrays lie on; None when there are several, or no arrays."""
    if jax.device_count() == 1:
        return jax.devices()[0]
    devices = {device for value in values for device in value.devices()}
    return devices.pop() if len(devices) == 1 else None
