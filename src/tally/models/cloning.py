"""Copies of models: the same layers with new weights, and models from JSON."""

from collections.abc import Callable
from typing import Any

from tally.core.errors import SavingError
from tally.core.layer import Layer
from tally.core.registry import custom_object_scope, remembering
from tally.core.symbol import leaves, map_tree
from tally.formats.json_text import parse_json
from tally.layers.basic import Input, InputLayer
from tally.models.model import Functional, Model
from tally.models.sequential import Sequential
from tally.saving.files import made_model
from tally.saving.opening import telling_damage


def clone_model(
    model: Any, input_tensors: Any = None, clone_function: Callable[[Any], Any] | None = None
) -> Any:
    """A model of the same structure with newly drawn weights.

    Args:
        model: A `Sequential`, functional or configurable subclassed model.
        input_tensors: Symbolic tensors to build the copy on instead of new inputs.
        clone_function: Makes a layer's copy; `layer.from_config(layer.get_config())` unless given.

    Example:
        >>> model = tally.Sequential([tally.Input((4,)), tally.layers.Dense(2)])
        >>> clone_model(model).count_params()
        10

    Source: `keras.models.clone_model`.
    """
    copy = clone_function or (lambda layer: type(layer).from_config(layer.get_config()))
    with remembering():
        if isinstance(model, Sequential):
            return _clone_stack(model, input_tensors, copy)
        if isinstance(model, Functional) or input_tensors is not None or clone_function is not None:
            return _clone_graph(model, input_tensors, copy)
        return type(model).from_config(model.get_config())


def _clone_stack(model: Sequential, input_tensors: Any, copy: Callable[[Any], Any]) -> Sequential:
    entrances = [layer for layer in model._stack if isinstance(layer, InputLayer)]
    given = [tensor for tensor in leaves(input_tensors) if tensor is not None] or [
        InputLayer.from_config(layer.get_config()) for layer in entrances
    ]
    layers = [*given, *(copy(layer) for layer in model._stack if layer not in entrances)]
    return Sequential(layers, trainable=model.trainable, name=model.name)


def _clone_graph(model: Model, input_tensors: Any, copy: Callable[[Any], Any]) -> Any:
    graph = model._need_graph()
    copies: dict[int, Any] = {}

    def apply(node: Any, args: Any, kwargs: Any) -> Any:
        operation = node.operation
        if not isinstance(operation, Layer):
            return operation.function(*args, **kwargs)
        if id(operation) not in copies:
            copies[id(operation)] = copy(operation)
        return copies[id(operation)](*args, **kwargs)

    inputs = input_tensors
    if inputs is None:
        inputs = map_tree(
            lambda t: Input(batch_shape=t.shape, dtype=t.dtype, name=t.node.operation.name),
            graph.input_structure,
        )
    outputs = graph.run(leaves(inputs), apply)
    return (Functional if type(model) is Functional else Model)(inputs, outputs, name=model.name)


def model_from_json(json_string: str | bytes, custom_objects: dict[str, Any] | None = None) -> Any:
    """Make a model from what `to_json` gave, with newly drawn weights.

    Args:
        json_string: The JSON.
        custom_objects: Names -> your own classes and functions.

    Raises:
        SavingError: It is no JSON, or describes no model; `place` says where in it.

    Source: `keras.models.model_from_json`.
    """
    if not isinstance(json_string, (str, bytes)):
        raise SavingError(
            f"A model is made from a text of JSON, not from a {type(json_string).__name__}.",
            do="pass what to_json gave; tally.saving.deserialize_keras_object takes what is read from JSON already",
        )
    with telling_damage():
        config = parse_json(json_string, "the JSON of a model")
    with custom_object_scope(custom_objects or {}):
        return made_model(config)
