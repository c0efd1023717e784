"""Facts of the machine that a measurement was made on: processor, cores, memory, system, versions."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("jax", "jaxlib", "numpy", "optax", "keras", "tensorflow-cpu", "torch"),
    *("flax", "equinox", "torchinfo"),
)


def describe() -> dict[str, Any]:
    """The machine and the versions of what takes part, as plain data.

    Returns:
        `processor`, `cores` (those this process may use), `memory` (bytes), `system`, `python`, `load` (processes that
        wanted to run over the last minute) and `versions`, by package.
    """
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory": _memory(),
        "system": _system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine used since it started, what a host took away included.

    Returns:
        The sum over cores, or 0 where the system doesn't tell.
    """
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME")
    except (AttributeError, OSError):
        name = None
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{name}, {kernel}" if name else kernel


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
