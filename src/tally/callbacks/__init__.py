"""What watches a training run and steers it: stopping, saving, learning rates, logs."""

from tally.callbacks.base import Callback, CallbackList
from tally.callbacks.monitoring import EarlyStopping, ReduceLROnPlateau
from tally.callbacks.orbax import OrbaxCheckpoint
from tally.callbacks.progress import ProgbarLogger
from tally.callbacks.recording import CSVLogger, History
from tally.callbacks.saving import BackupAndRestore, ModelCheckpoint
from tally.callbacks.steering import LambdaCallback, LearningRateScheduler, SwapEMAWeights, TerminateOnNaN

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
    "OrbaxCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TerminateOnNaN",
]
