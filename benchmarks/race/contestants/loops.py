"""The loops of contestants whose framework leaves them to the user and computes on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.race.gate import Gate
from benchmarks.race.workloads import Data


def train(gate: Gate, data: Data, batch: int, step: Callable[[np.ndarray, np.ndarray], Any]) -> None:
    """Epochs as long as the gate opens; losses stay on the device until the epoch's end.

    Args:
        gate: Opens for each epoch.
        data: Inputs and targets of an epoch.
        batch: Examples per step.
        step: Trains on one batch and returns its loss.
    """
    inputs, targets = data
    while gate.wait():
        gate.begin()
        losses = [
            step(inputs[start : start + batch], targets[start : start + batch])
            for start in range(0, len(inputs), batch)
        ]
        gate.end(float(np.mean(jax.device_get(losses))))


def predict(gate: Gate, inputs: np.ndarray, batch: int, answer: Callable[[np.ndarray], Any]) -> None:
    """The whole data, batch by batch and back in numpy, as long as the gate opens.

    Args:
        gate: Opens for each epoch.
        inputs: Of an epoch.
        batch: Examples per call.
        answer: From one batch to outputs.
    """
    while gate.wait():
        gate.begin()
        outputs = [answer(inputs[start : start + batch]) for start in range(0, len(inputs), batch)]
        np.concatenate(jax.device_get(outputs))
        gate.end()
