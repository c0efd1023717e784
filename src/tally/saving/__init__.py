"""Writing models to files that Keras 3 reads, and reading those that either wrote."""

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

CustomObjectScope = custom_object_scope

__all__ = [
    "CustomObjectScope",
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
