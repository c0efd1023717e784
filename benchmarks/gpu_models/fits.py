"""Contestants that are trained by `fit`: tally, and Keras on each of its backends."""

import os
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.gpu_models import layered
from benchmarks.gpu_models.running import Contestant, LeftOut, jax_device, jax_peak, jax_sync, make_clock
from benchmarks.gpu_models.sizes import Data, Task


def _fitted(library: Any, task: Task, data: Data, sync: Any, **compiling: Any) -> Any:
    """What trains one pass of a compiled model by `fit`, in the data's order and without a progress bar."""
    model = layered.build(library, task, **compiling)
    clock = make_clock(library.callbacks.Callback, sync)
    x, y = data

    def train() -> tuple[float, float]:
        history = model.fit(x, y, batch_size=task.batch, shuffle=False, verbose=0, callbacks=[clock])
        return clock.seconds, float(history.history["loss"][-1])

    return train


def by_tally(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """`tally.Model.fit` on arrays that lie on the device."""
    import jax

    import tally

    device = jax_device(dry=dry)
    train = _fitted(tally, task, jax.device_put(data), jax_sync, steps_per_execution=group)
    versions = {name: metadata.version(name) for name in ("tally-nn", "jax", "jaxlib")}
    return Contestant(train, lambda: jax_peak(device), versions)


def _keras(backend: str) -> Any:
    os.environ["KERAS_BACKEND"] = backend
    import keras

    return keras


def by_keras_on_jax(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """Keras on JAX, on arrays that lie on the device."""
    keras = _keras("jax")
    import jax

    device = jax_device(dry=dry)
    train = _fitted(keras, task, jax.device_put(data), jax_sync, steps_per_execution=group)
    versions = {name: metadata.version(name) for name in ("keras", "jax", "jaxlib")}
    return Contestant(train, lambda: jax_peak(device), versions)


def by_keras_on_tensorflow(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """Keras on TensorFlow, whose pipeline reads from the host's memory and prefetches."""
    keras = _keras("tensorflow")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not dry:
        raise LeftOut("TensorFlow sees no GPU")
    sync = getattr(tf.test.experimental, "sync_devices", lambda: None) if gpus else lambda: None
    train = _fitted(keras, task, data, sync, steps_per_execution=group)

    def peak() -> int | None:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None

    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    return Contestant(train, peak, versions, ["data in the host's memory, prefetched by tf.data"])


def by_keras_on_torch(task: Task, data: Data, *, dry: bool, group: int = 1) -> Contestant:
    """Keras on PyTorch, on tensors that lie on the device; it takes one step an execution."""
    del group
    keras = _keras("torch")
    import torch

    from benchmarks.gpu_models.by_torch import find_device, peak, settle, sync

    device = find_device(dry=dry)
    settle()
    x, y = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in data)
    train = _fitted(keras, task, (x, y), sync(device))
    versions = {"keras": keras.__version__, "torch": torch.__version__}
    return Contestant(train, peak(device), versions)
