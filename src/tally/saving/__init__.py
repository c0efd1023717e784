"""Writing models to files that Keras 3 reads, and reading those that either wrote."""

import importlib
from typing import TYPE_CHECKING, Any

from tally.core.registry import (
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from tally.core.registry import deserialize as deserialize_keras_object
from tally.core.registry import serialize as serialize_keras_object
from tally.saving.archive import load_model, load_weights, save_model, save_weights

if TYPE_CHECKING:
    from tally.saving.orbax import Checkpoint, CheckpointManager
    from tally.saving.outcome import Report

CustomObjectScope = custom_object_scope

__all__ = [
    "Checkpoint",
    "CheckpointManager",
    "CustomObjectScope",
    "Report",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]

_LATER = {"Checkpoint": "orbax", "CheckpointManager": "orbax", "Report": "outcome"}
"""Names that are loaded when they are asked for, and their files."""


def __getattr__(name: str) -> Any:
    """Load what most programs never need."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
