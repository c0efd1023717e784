"""What watches a training run and steers it: stopping, saving, learning rates, logs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tally.callbacks.base import Callback, CallbackList
from tally.callbacks.monitoring import EarlyStopping, ReduceLROnPlateau
from tally.callbacks.recording import CSVLogger, History
from tally.callbacks.saving import BackupAndRestore, ModelCheckpoint
from tally.callbacks.steering import LambdaCallback, LearningRateScheduler, SwapEMAWeights, TerminateOnNaN

if TYPE_CHECKING:
    from tally.training.progress import ProgbarLogger

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TerminateOnNaN",
]


def __getattr__(name: str) -> Any:
    # What fit shows is a room of its own above this one; Keras users look for its callback here.
    if name == "ProgbarLogger":
        return import_module("tally.training.progress").ProgbarLogger
    raise AttributeError(f"module 'tally.callbacks' has no attribute '{name}'")
