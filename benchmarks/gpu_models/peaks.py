"""What a GPU could compute at most, by its name, and what the machine says of it."""

import subprocess
from typing import Any

# TFLOP/s without sparsity of tensor cores, in bfloat16 and in TF32, from NVIDIA's data sheets. Of two names that both
# stand in a device's name the longer one holds: "H100 PCIe" before "H100".
_PEAKS = {
    "B200": (2250.0, 1125.0),
    "GH200": (989.4, 494.7),
    "H200 NVL": (835.5, 417.5),
    "H200": (989.4, 494.7),
    "H100 NVL": (835.5, 417.5),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.4, 494.7),
    "A100": (312.0, 156.0),
    "A30": (165.0, 82.0),
    "A10": (125.0, 62.5),
    "L40S": (362.0, 183.0),
    "L40": (181.0, 90.5),
    "L4": (121.0, 60.5),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
}


def peak_flops(device: str, dtype: str) -> float | None:
    """The FLOP/s that a device could do at most; None where its name or the dtype isn't known.

    Args:
        device: Its name, as nvidia-smi tells it.
        dtype: `"bfloat16"`, or `"float32"`, for which the peak is that of TF32.
    """
    words = device.replace("-", " ").split()
    known = [name for name in _PEAKS if set(name.split()) <= set(words)]
    column = {"bfloat16": 0, "float32": 1}.get(dtype)
    if not known or column is None:
        return None
    return _PEAKS[max(known, key=len)][column] * 1e12


FIELDS = (
    *("name", "driver_version", "memory.total", "memory.free", "clocks.sm", "clocks.max.sm", "clocks.mem"),
    *("power.limit", "temperature.gpu", "mig.mode.current", "utilization.gpu"),
)
"""What nvidia-smi is asked for."""


def describe_gpu() -> dict[str, Any] | None:
    """The first GPU as nvidia-smi tells of it, memory in bytes; None where there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return read_gpu(found)


def read_gpu(line: str) -> dict[str, Any] | None:
    """The fields of one line of nvidia-smi's answer; numbers as numbers, None for what it doesn't know."""
    values = [value.strip() for value in line.strip().split(",")]
    if len(values) != len(FIELDS):
        return None
    told: dict[str, Any] = {}
    for name, value in zip(FIELDS, values, strict=True):
        try:
            told[name] = float(value)
        except ValueError:
            told[name] = None if value.startswith("[") else value
    for name in ("memory.total", "memory.free"):
        told[name] = None if told[name] is None else int(told[name] * 2**20)
    return told
