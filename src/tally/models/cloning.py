"""Copies of models: the same layers with new weights, and models from JSON."""

import json
from collections.abc import Callable
from typing import Any

from tally.core.registry import deserialize, serialize_object


def clone_model(
    model: Any, input_tensors: Any = None, clone_function: Callable[[Any], Any] | None = None
) -> Any:
    """A model of the same structure with newly drawn weights.

    Args:
        model: A `Sequential`, functional or configurable subclassed model.
        input_tensors: Symbolic tensors to build the copy on instead of new inputs.
        clone_function: Makes a layer's copy; `layer.from_config(layer.get_config())` unless given.
    """
    from tally.models.model import Functional, Model
    from tally.models.sequential import Sequential

    if clone_function is None and input_tensors is None:
        config = serialize_object(model)
        return deserialize(
            {key: value for key, value in config.items() if key not in ("compile_config", "build_config")}
        )
    copy = clone_function or (lambda layer: type(layer).from_config(layer.get_config()))
    if isinstance(model, Sequential):
        return Sequential([copy(layer) for layer in model._stack], name=model.name)
    graph = model._need_graph()
    copies: dict[int, Any] = {}

    def apply(node: Any, args: Any, kwargs: Any) -> Any:
        operation = node.operation
        if not hasattr(operation, "get_config"):
            return operation.function(*args, **kwargs)
        if id(operation) not in copies:
            copies[id(operation)] = copy(operation)
        return copies[id(operation)](*args, **kwargs)

    from tally.core.symbol import leaves, map_tree
    from tally.layers.basic import Input

    inputs = input_tensors
    if inputs is None:
        inputs = map_tree(
            lambda t: Input(batch_shape=t.shape, dtype=t.dtype, name=t.node.operation.name),
            graph.input_structure,
        )
    outputs = graph.run(leaves(inputs), apply)
    return (Functional if type(model) is Functional else Model)(inputs, outputs, name=model.name)


def model_from_json(text: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """Make a model from what `to_json` gave, with newly drawn weights."""
    return deserialize(json.loads(text), custom_objects)
