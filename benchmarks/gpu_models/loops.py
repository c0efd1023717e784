"""Contestants whose loop is written by hand: JAX with optax, and Flax NNX."""

from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.gpu_models.running import Contestant, jax_device, jax_peak, jax_sync, timed
from benchmarks.gpu_models.sizes import Data, Task


def _batches(task: Task, data: Data, *, group: int = 1) -> list[Any]:
    """The data on the device, cut into batches; in groups, stacked along a new first axis."""
    import jax

    shape = (-1, group) if group > 1 else (-1,)
    cut = [np.reshape(array, (*shape, task.batch, *array.shape[1:])) for array in data]
    return jax.device_put(list(zip(*cut, strict=True)))


def _contestant(one: Callable[[Any], Any], batches: list[Any], device: Any, *packages: str) -> Contestant:
    """A contestant from a function of one batch that gives the loss, on the device."""

    def run() -> Any:
        loss = None
        for batch in batches:
            loss = one(batch)
        return loss

    def train() -> tuple[float, float]:
        seconds, loss = timed(jax_sync, run)
        return seconds, float(loss)

    versions = {name: metadata.version(name) for name in packages}
    return Contestant(train, lambda: jax_peak(device), versions)


def by_jax(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """A pure step, compiled, whose values are given away at each call; with a group, many steps in one scan."""
    import jax

    from benchmarks.gpu_models.by_jax import make_step

    device = jax_device(dry=dry)
    held, step = make_step(task)

    def steps(values: Any, batches: Any) -> Any:
        values, losses = jax.lax.scan(step, values, batches)
        return values, losses[-1]

    compiled = jax.jit(steps if group > 1 else step, donate_argnums=0)

    def one(batch: Any) -> Any:
        nonlocal held
        held, loss = compiled(held, batch)
        return loss

    return _contestant(one, _batches(task, data, group=group), device, "jax", "jaxlib", "optax")


def by_flax(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """A step on Flax NNX's objects, compiled by `nnx.jit` with the objects' graph looked at once."""
    del group
    device = jax_device(dry=dry)
    from flax import nnx

    from benchmarks.gpu_models.by_flax import make_model
    from benchmarks.gpu_models.by_jax import cost, transformation

    model = make_model(task)
    optimizer = nnx.Optimizer(model, transformation(task), wrt=nnx.Param)

    @nnx.jit(donate_argnums=(0, 1))
    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda one: cost(one(x), y))(model)
        optimizer.update(model, gradients)
        return loss

    remembered = nnx.cached_partial(step, model, optimizer)
    packages = ("flax", "jax", "jaxlib", "optax")
    return _contestant(lambda batch: remembered(*batch), _batches(task, data), device, *packages)
