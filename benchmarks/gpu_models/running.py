"""What every contestant gives the worker: something that trains one pass over the data and tells how long it took."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class LeftOut(Exception):
    """A contestant can't take part, and this is why."""


@dataclass
class Contestant:
    """A model that is ready to be trained.

    Attributes:
        train: Trains one pass; gives the seconds from the first step's start to the last step's end on the device,
            and the loss: that of the last step, or the pass's mean where `fit` tells no other.
        peak_memory: The most bytes that were in use on the device, data included; None where nobody counts.
        versions: Of what takes part, by package.
        notes: What a reader should know of how it runs.
    """

    train: Callable[[], tuple[float, float]]
    peak_memory: Callable[[], int | None]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)


def timed(sync: Callable[[], None], run: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a function takes with all work it gave the device, and what it returns."""
    sync()
    began = time.perf_counter()
    result = run()
    sync()
    return time.perf_counter() - began, result


def make_clock(callback: type, sync: Callable[[], None]) -> Any:
    """A callback for `fit` that measures its last epoch: what `fit` does before and after is left out.

    Args:
        callback: The library's `Callback`.
        sync: Waits for the device.
    """

    class Clock(callback):
        seconds = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            sync()
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            sync()
            self.seconds = time.perf_counter() - self.began

    return Clock()


# -- JAX ---------------------------------------------------------------------------------------------------------------
def jax_device(*, dry: bool) -> Any:
    """The device that JAX computes on; on a machine without an NVIDIA GPU only a dry run goes on.

    Raises:
        LeftOut: JAX sees no GPU.
    """
    import jax

    device = jax.devices()[0]
    if device.platform != "gpu" and not dry:
        raise LeftOut("JAX sees no GPU: it was installed without CUDA")
    return device


def jax_sync() -> None:
    """Wait for the device: it computes in order, so that a number computed now comes last."""
    import jax.numpy as jnp

    (jnp.zeros(()) + 1).block_until_ready()


def jax_peak(device: Any) -> int | None:
    """The most bytes in use on a device of JAX's, where it counts them."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")
