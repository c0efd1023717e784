"""A contestant in a process of its own: started, ordered about, and ended when its time is up."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # otherwise JAX takes three quarters of the memory at once
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # compile times are those of a first run
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}
"""Settings that all contestants run under."""
DRY = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}


class Process:
    """One contestant on one task.

    Args:
        name: Which contestant.
        task: Name of the task.
        scale: `"full"`, `"quick"` or `"dry"`.
        deadline: When it is ended, on the clock of `time.monotonic`.
    """

    def __init__(self, name: str, task: str, scale: str, deadline: float) -> None:
        self.name, self.deadline = name, deadline
        environment = {**os.environ, **ENVIRONMENT, **(DRY if scale == "dry" else {})}
        command = [sys.executable, "-m", "benchmarks.gpu_models.worker", name, task, scale]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def answer(self) -> dict[str, Any]:
        """The next answer; `{"left_out": why}` where none comes any more."""
        try:
            line = self._answers.get(timeout=max(self.deadline - time.monotonic(), 0))
        except queue.Empty:
            return {"left_out": "the time was up"}
        if line:
            return json.loads(line)
        self._answers.put("")  # whoever asks again is told the same
        code = self._process.wait()
        return {"left_out": f"its process ended with {code}: {self._last_words()}"}

    def run(self) -> dict[str, Any]:
        """Train one pass; the answer has `seconds`, `loss` and `peak_bytes`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        return self.answer()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "without a word"

    def close(self) -> None:
        """End it, so that its memory is free."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
