"""What is set for the whole process before the first model trains: how memory is given back, and what XLA may do.

Everything here is off with `TALLY_PROCESS_SETTINGS=0`; `docs/settings.md` says what each setting is for.
"""

import ctypes
import functools
import importlib.util
import os
import sys
from typing import Any

import jax

VARIABLE = "TALLY_PROCESS_SETTINGS"
"""The environment variable that switches all of this off with 0, off, false or no."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers by which `mallopt` of the GNU C library knows its settings."""
_KEPT = 2**30
"""Bytes: how much free memory stays with the process, and how large a block is that never stays."""
_UNTOUCHED = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
"""Where the library's own adaption of both settings ends in a process that frees large blocks."""
_OF_USERS = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")

_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_LARGE = 200_000
"""Bytes of a kernel: 3 by 3 by 64 by 64 numbers still run on all cores in the library, twice as many don't."""
_is_prepared = False


def is_on() -> bool:
    """Whether the user lets this library set something for the whole process."""
    return os.environ.get(VARIABLE, "").strip().lower() not in ("0", "off", "false", "no")


def prepare(backend: str | None = None) -> None:
    """Set up the process for training on a CPU, once; elsewhere and at later calls this does nothing.

    The temporaries of a training step are one block of tens or hundreds of megabytes. Left to itself, the GNU C
    library gives such a block back to the system after each step and asks for it anew, and the system clears it page
    by page. Call this before JAX has computed anything: threads that allocated before keep part of the old ways.

    Args:
        backend: What JAX computes on, where that is known; JAX is not asked, because asking starts its threads.
    """
    global _is_prepared
    if _is_prepared or not is_on() or (backend or _expected_backend()) != "cpu":
        return
    _is_prepared = True
    if any(name in os.environ for name in _OF_USERS) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return
    # XLA's threads would each have an arena, whose blocks of 64 MB and more always go back to the system.
    _set({_ARENA_MAX: 1, _MMAP_THRESHOLD: _KEPT, _TRIM_THRESHOLD: _KEPT})


def restore() -> None:
    """Let the C library give memory back as before, and give back what is free now.

    Threads started before keep sharing one arena; blocks are mapped from 32 MB on, as in any process that has freed
    large ones.
    """
    global _is_prepared
    if _is_prepared:
        _set(_UNTOUCHED)
        _is_prepared = False
        give_back()


def give_back() -> None:
    """Give free memory back to the system, for instance after training; what is needed again is asked for anew."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def is_prepared() -> bool:
    """Whether `prepare` has set something and `restore` hasn't taken it back."""
    return _is_prepared


def compiler_options(*, is_training: bool, largest_kernel: int) -> dict[str, Any]:
    """Options for `jax.jit` of a model's step: those that the installed XLA knows, and none but on a CPU.

    By default XLA sends convolutions to a library. One at a time, as the backward pass needs them, they are faster on
    XLA's own path. Without a backward pass the library runs a whole chain of them at once, and faster, but on one core
    alone where a kernel is large.

    Args:
        is_training: Whether the step has a backward pass.
        largest_kernel: Bytes of the model's largest kernel of an image convolution; 0 where there is none.
    """
    if not largest_kernel or not is_on() or jax.default_backend() != "cpu":
        return {}
    if is_training:
        wanted = _OPTION, "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    elif largest_kernel > _LARGE:
        wanted = _OPTION, "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    else:
        return {}
    return dict([wanted]) if _knows(*wanted) else {}


@functools.cache
def _knows(name: str, value: str) -> bool:
    """Whether XLA takes an option; an unknown one makes compiling fail."""
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
    except Exception:  # whatever a version of JAX says to what it doesn't know
        return False
    return True


def _expected_backend() -> str:
    """What JAX will compute on, found out without starting it: a CPU where it is named or no other can be there."""
    config: Any = jax.config
    named: str | None = config.jax_platforms
    if named:
        return named.split(",")[0]
    return "cpu" if not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu"))) else "unknown"


@functools.cache
def _c_library() -> Any:
    """The GNU C library; None where another one is used."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None) if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") else None
    except (OSError, ValueError):
        return None


def _set(settings: dict[int, int]) -> None:
    library = _c_library()
    if library is not None:
        for name, value in settings.items():
            library.mallopt(name, value)
