"""What scripts ask of the machine and of TensorFlow itself: devices, logging, switches."""

import contextlib
import logging
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import jax

from tally.compat.names import put
from tally.core.errors import ArgumentError, DataError

PhysicalDevice = namedtuple("PhysicalDevice", ("name", "device_type"))
LogicalDevice = namedtuple("LogicalDevice", ("name", "device_type"))


def _devices(kind: Any, word: str, device_type: str | None) -> list[Any]:
    counts: dict[str, int] = {}
    found = []
    for device in [*jax.devices("cpu")[:1], *(d for d in jax.devices() if d.platform != "cpu")]:
        name = str(device.platform)
        platform = "GPU" if name in ("gpu", "cuda", "rocm") else name.upper()
        number = counts.get(platform, 0)
        counts[platform] = number + 1
        found.append(kind(f"{word}{platform}:{number}", platform))
    return [device for device in found if device_type in (None, device.device_type)]


def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The devices that JAX sees.

    Args:
        device_type: `"CPU"`, `"GPU"` or `"TPU"` for those alone.
    """
    return _devices(PhysicalDevice, "/physical_device:", device_type)


def list_logical_devices(device_type: str | None = None) -> list[LogicalDevice]:
    """The same devices, as they are computed on."""
    return _devices(LogicalDevice, "/device:", device_type)


put("config.list_physical_devices config.experimental.list_physical_devices", list_physical_devices)
put("config.list_logical_devices config.experimental.list_logical_devices", list_logical_devices)


def set_memory_growth(device: Any, enable: bool) -> None:
    """Nothing to do: JAX's share of a GPU's memory is set before it starts, by XLA_PYTHON_CLIENT_PREALLOCATE."""
    del device, enable


put("config.experimental.set_memory_growth", set_memory_growth)
put("config.run_functions_eagerly", lambda run_eagerly: None)
put("config.functions_run_eagerly", lambda: True)
put("config.set_soft_device_placement", lambda enabled: None)
put("test.is_gpu_available", lambda cuda_only=False, min_cuda_compute_capability=None: bool(_gpus()))
put("test.is_built_with_cuda", lambda: bool(_gpus()))
put("test.gpu_device_name", lambda: _gpus()[0].name if _gpus() else "")


def _gpus() -> list[LogicalDevice]:
    return list_logical_devices("GPU")


@contextlib.contextmanager
def device(device_name: Any) -> Iterator[None]:
    """Compute on a device while the block runs: `"/CPU:0"`, `"/GPU:1"`; on the usual one where there is none such."""
    words = (
        str(getattr(device_name, "name", device_name) or "")
        .upper()
        .replace("DEVICE:", "")
        .strip("/")
        .split("/")
    )
    platform, _, number = words[-1].partition(":")
    try:
        found = jax.devices(platform.lower())[int(number or 0)]
    except (RuntimeError, IndexError, ValueError):
        found = None
    with jax.default_device(found) if found is not None else contextlib.nullcontext():
        yield


put("device", device)
put("get_logger", lambda: logging.getLogger("tensorflow"))

# -- TensorFlow 1's logging, which scripts still set ------------------------------------------------------------------
for _word in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
    put(f"compat.v1.logging.{_word}", getattr(logging, _word))
put("compat.v1.logging.set_verbosity", lambda v: logging.getLogger("tensorflow").setLevel(v))
put("autograph.set_verbosity", lambda level, alsologtostdout=False: None)

# -- errors ------------------------------------------------------------------------------------------------------------
put("errors.InvalidArgumentError", ArgumentError)
put("errors.OutOfRangeError", DataError)
