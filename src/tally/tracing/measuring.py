"""What the compiler says of a rehearsed step, and how far a process grows that runs it.

Run as a program, this file is that process: it reads a step from the file it is given, and prints the bytes.
"""

import ctypes
import gc
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from tally.accounting.plan import Compiled
from tally.kernels.native import library
from tally.tracing.rehearsal import Rehearsal

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SHARE = 0.5
"""Of the free memory: a step that needs more isn't run."""
_SECONDS = 600
"""A run that takes longer is given up."""


def compile_step(rehearsal: Rehearsal, *, run: bool = True) -> Compiled:
    """Compile a step for the device at hand and ask what it takes; nothing is allocated here.

    Args:
        rehearsal: The step.
        run: Whether to run it in a process of its own, on the CPU under Linux, and measure how far that grows.
    """
    step = jax.jit(rehearsal.function, donate_argnums=_donated(rehearsal))
    lowered = step.lower(*rehearsal.arguments)
    compiled = lowered.compile()
    with library.held_back():  # XLA's count knows nothing of operations in C
        counted = _flops(jax.jit(lambda *given: rehearsal.function(*given)).lower(*rehearsal.arguments))
    memory: Any = compiled.memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    wanted = run and jax.default_backend() == "cpu" and _REFERENCES.exists() and peak < _SHARE * _free()
    return Compiled(
        peak=peak,
        flops=counted,
        flops_optimised=_flops(compiled) + counted - _flops(lowered),
        measured=_measure(_exported(step, rehearsal)) if wanted else None,
    )


def _exported(step: Any, rehearsal: Rehearsal) -> Any:
    """The step as it runs here, operations in C included: the process that loads it has them, too."""
    known = [export.DisabledSafetyCheck.custom_call(target) for target in library.targets()]
    with library.exported():
        return export.export(step, disabled_checks=known)(*rehearsal.arguments)


def _donated(rehearsal: Rehearsal) -> tuple[int, ...]:
    return (0,) if rehearsal.donated else ()


def _flops(stage: Any) -> int:
    found = stage.cost_analysis()
    return int((found[0] if isinstance(found, list) else found or {}).get("flops", 0))


def _free() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024


def _measure(step: Any) -> int | None:
    """How far another process grows by a step's arguments and its run; this one's heap would hide some of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step"
        path.write_bytes(step.serialize())
        command = [sys.executable, "-m", "tally.tracing.measuring", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_SECONDS)
        except subprocess.SubprocessError:  # killed for want of memory, or too slow: there is no measurement
            return None
    return int(done.stdout.split()[-1])


def _grow(path: Path) -> int:
    """Run the step in a file twice and tell how far this process grew by the second: the first loads libraries."""
    c_library = ctypes.CDLL(None)
    # What is freed goes back at once, and can't hide what is used next.
    c_library.mallopt(_MMAP_THRESHOLD, 1 << 16)
    library.reason()
    step = export.deserialize(bytearray(path.read_bytes()))
    specs, _ = jax.tree.unflatten(step.in_tree, step.in_avals)
    # A prediction takes weights and inputs alone, and keeps the weights.
    donated = (0,) if len(specs) > 2 else ()
    compiled = jax.jit(step.call, donate_argnums=donated).lower(*specs).compile()
    grown = 0
    for _ in range(2):
        gc.collect()
        c_library.malloc_trim(0)
        before = _status("VmRSS")
        _REFERENCES.write_text("5")  # forgets the most that was in use so far
        arguments = jax.tree.map(lambda spec: jnp.ones(spec.shape, spec.dtype), specs)
        jax.block_until_ready(compiled(*jax.block_until_ready(arguments)))
        grown = _status("VmHWM") - before
        del arguments
    return grown


_MMAP_THRESHOLD = -3
"""What `mallopt` of the C library calls the size from which memory is mapped by itself."""


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(_grow(Path(sys.argv[1])))
