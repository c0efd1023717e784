"""A contestant's process: load the framework, build, then do what the driver's lines say."""

import sys
import time
import traceback
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.race import contestants
from benchmarks.race.gate import Gate, open_gate, peak_memory, timed
from benchmarks.race.workloads import WORKLOADS

SHOWN = 64
"""Outputs sent to the driver, spread over the first batch, to be compared with the others'."""


def main(name: str, workload_name: str, batch: str = "", steps: str = "") -> None:
    """Serve one contestant on one workload until the driver says `finish` or goes away."""
    gate = open_gate()
    try:
        _serve(gate, name, workload_name, batch, steps)
    except contestants.Unavailable as reason:
        gate.answer(unavailable=str(reason))
    except ImportError as missing:
        gate.answer(unavailable=str(missing))
    except Exception:
        gate.answer(error=traceback.format_exc())


def _serve(gate: Gate, name: str, workload_name: str, batch: str, steps: str) -> None:
    workload = WORKLOADS[workload_name]
    if batch:
        workload = replace(workload, batch=int(batch), steps=int(steps))
    imported, make = timed(contestants.parse(name).load)
    data, weights = workload.data(), workload.weights()
    gate.answer(imported=imported)
    racer = None
    while line := gate.receive():
        if line == "build":
            built, racer = timed(partial(make, workload, data, weights))
            first_prediction, outputs = timed(partial(racer.outputs, data[0][: workload.batch]))
            first_step, _ = timed(racer.first_step)
            gate.answer(
                first_step=built + first_step,
                first_prediction=built + first_prediction,
                outputs=_some(outputs),
            )
        elif line == "train":
            racer.train(gate)
        elif line == "predict":
            racer.predict(gate)
        elif line == "finish":
            gate.answer(peak=peak_memory(), cpu=time.process_time())
            return


def _some(outputs: np.ndarray) -> list[float]:
    flat = np.asarray(outputs, np.float64).reshape(-1)
    return [float(value) for value in flat[:: max(1, flat.size // SHOWN)][:SHOWN]]


if __name__ == "__main__":
    main(*sys.argv[1:])
