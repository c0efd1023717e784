"""The models of `benchmarks/build.py` in Keras 3, in a `StatelessScope`, where weights are not drawn until it ends."""

import os
import sys
from collections.abc import Callable
from typing import Any

import keras

from benchmarks.building.of_keras import account, gpt3, resnet50, single_experts, stacked_experts


def around(function: Callable[[], Any]) -> None:
    """Run a function in the scope and leave the process there: at its end Keras draws every weight."""
    with keras.StatelessScope():
        function()
        sys.stdout.flush()
        os._exit(0)


__all__ = ["account", "around", "gpt3", "resnet50", "single_experts", "stacked_experts"]
