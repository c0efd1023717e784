"""Operations in C that XLA calls on a CPU, compiled once for this processor and kept beside the compiled programs.

XLA's own convolutions reach a third to two thirds of what a processor can do, these four fifths, and those of 3 by 3 in
steps of 1 need fewer than half of the multiplications (`winograd.h`). Where there is no compiler, or the user wants
none, everything is computed by XLA as before; `TALLY_NATIVE_KERNELS=0` switches them off.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tally.core import caching

VARIABLE = "TALLY_NATIVE_KERNELS"
"""The environment variable that switches these operations off with 0, off, false or no."""

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "calls.c"
_OPERATIONS = ("output", "finished", "input", "kernel", "largest", "first")
_PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64")
_SECONDS = 120
"""A compiler that takes longer is given up; two seconds are usual."""

_is_wanted: ContextVar[bool] = ContextVar("native kernels are wanted", default=False)

_is_held_back: ContextVar[bool] = ContextVar("native kernels are held back", default=False)
_may_be_exported: ContextVar[bool] = ContextVar("native kernels may be exported", default=False)


@contextlib.contextmanager
def wanted(is_wanted: bool = True) -> Iterator[None]:
    """Whether what is lowered within may call these operations."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let convolutions that are traced or lowered within be left to XLA, which can tell what it will do with them."""
    token = _is_held_back.set(True)
    try:
        yield
    finally:
        _is_held_back.reset(token)


def is_held_back() -> bool:
    """Whether convolutions that are traced or lowered now are left to XLA."""
    return _is_held_back.get()


@contextlib.contextmanager
def exported() -> Iterator[None]:
    """Let programs that are exported within call these operations; who loads them must have asked for `reason`."""
    token = _may_be_exported.set(True)
    try:
        yield
    finally:
        _may_be_exported.reset(token)


def may_be_exported() -> bool:
    """Whether a program that is being exported may call these operations."""
    return _may_be_exported.get()


def is_wanted() -> bool:
    """Whether a program that is being lowered may call these operations, and they are there."""
    return _is_wanted.get() and not is_held_back() and is_there()


def is_there() -> bool:
    """Whether these operations can be used here, and the user lets this library compile and load them."""
    return is_on() and reason() is None


def is_on() -> bool:
    """Whether the user lets this library compile and load code of its own."""
    return os.environ.get(VARIABLE, "").strip().lower() not in ("0", "off", "false", "no")


@functools.cache
def reason() -> str | None:
    """Why these operations can't be used here; None if they can. The first call compiles them, once for each processor.

    Example:
        >>> from tally.kernels.native import library
        >>> isinstance(library.reason(), str | None)
        True
    """
    if platform.machine().lower() not in _PROCESSORS or sys.platform == "win32":
        return f"there are none for {platform.machine()} under {sys.platform}"
    compiler = _compiler()
    if compiler is None:
        return "there is no C compiler: neither CC nor cc, gcc or clang is one"
    try:
        loaded = _load(compiler)
        for operation in _OPERATIONS:
            function = getattr(loaded, f"tally_{operation}")
            jax.ffi.register_ffi_target(target(operation), jax.ffi.pycapsule(function), platform="cpu")
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or "nothing is said").splitlines()[-1]
        return f"{compiler} can't compile them: {said}"
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    return None


@functools.cache
def target(operation: str) -> str:
    """The name by which a program calls one of the operations; another source has other names.

    Args:
        operation: As `calls.c` names it, without what all names begin with.
    """
    return f"tally_{operation}_{_digest()[:12]}"


def call(operation: str, shape: tuple[int, ...], arrays: Sequence[Any], geometry: Sequence[int]) -> Any:
    """Call one of the operations in a program that is being lowered.

    Args:
        operation: As `calls.c` names it, without what all names begin with.
        shape: Of the result, in single precision.
        arrays: What it takes, in single precision.
        geometry: The numbers of `struct geometry`, in its order.
    """
    result = jax.ShapeDtypeStruct(shape, "float32")
    return jax.ffi.ffi_call(target(operation), result)(*arrays, geometry=np.array(geometry, np.int64))


def targets() -> tuple[str, ...]:
    """The names of all operations."""
    return tuple(map(target, _OPERATIONS))


@functools.cache
def _digest() -> str:
    texts = [path.read_bytes() for path in sorted(_FOLDER.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _compiler() -> str | None:
    named = os.environ.get("CC", "").split()
    return next(filter(None, map(shutil.which, [*named[:1], "cc", "gcc", "clang"])), None)


def _load(compiler: str) -> ctypes.CDLL:
    folder = caching.prepare_folder()
    if folder is None:  # nothing is to be kept
        with tempfile.TemporaryDirectory() as passing:
            return ctypes.CDLL(str(_compile(compiler, Path(passing) / "kernels.so")))
    known = hashlib.sha256("\n".join([_digest(), metadata.version("jaxlib"), compiler]).encode()).hexdigest()
    path = folder / f"kernels-{known[:16]}.so"
    return ctypes.CDLL(str(path if path.exists() else _compile(compiler, path)))


def _compile(compiler: str, path: Path) -> Path:
    """Compile to another name and rename, so that no other process ever loads a half."""
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        made = Path(beside) / path.name
        command = [compiler, *_options(), str(_SOURCE), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
        return made.replace(path)


def _options() -> list[str]:
    arm = platform.machine().lower() in ("aarch64", "arm64")
    processor = ["-mcpu=native"] if arm else ["-march=native", "-mprefer-vector-width=512"]
    kind = ["-std=gnu11", "-O2", "-ffp-contract=fast", "-shared", "-fPIC"]
    return [*kind, *processor, "-I", jax.ffi.include_dir()]
