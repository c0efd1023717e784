"""Functional models as configuration: layers, ops and the connections between them, in the form Keras 3 stores."""

from typing import Any

from tally.core.errors import SavingError
from tally.core.graph import Graph
from tally.core.layer import Layer
from tally.core.registry import custom_object_scope, deserialize, serialize, serialize_object
from tally.core.symbol import KerasTensor, Operation, leaves, map_tree


def graph_to_config(graph: Graph, *, name: str, trainable: bool) -> dict[str, Any]:
    """Describe a graph: every operation once, with one entry per use of it."""
    inside = {id(node) for node in graph.nodes}
    places: dict[int, list[Any]] = {}
    for operation in graph.operations:
        used = [node for node in operation.inbound_nodes if id(node) in inside]
        for number, node in enumerate(used):
            for index, tensor in enumerate(leaves(node.outputs)):
                places[id(tensor)] = [operation.name, number, index]

    def reference(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return serialize(leaf)
        history = places[id(leaf)]
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(leaf.shape), "dtype": leaf.dtype, "keras_history": history},
        }

    layers = []
    for operation in graph.operations:
        used = [node for node in operation.inbound_nodes if id(node) in inside and node.inputs]
        if isinstance(operation, Layer):
            entry = serialize_object(operation)
            nodes = [
                {"args": _encode(node.args, reference), "kwargs": _encode(node.kwargs, reference)}
                for node in used
            ]
        else:
            entry, nodes = _describe_op(operation, used, reference)
        layers.append({**entry, "name": operation.name, "inbound_nodes": nodes})
    return {
        "name": name,
        "trainable": trainable,
        "layers": layers,
        "input_layers": map_tree(lambda t: places[id(t)], graph.input_structure),
        "output_layers": map_tree(lambda t: places[id(t)], graph.output_structure),
    }


def _encode(structure: Any, reference: Any) -> Any:
    """Write call arguments; tuples and lists become lists."""
    if isinstance(structure, (tuple, list)):
        return [_encode(item, reference) for item in structure]
    if isinstance(structure, dict):
        return {key: _encode(item, reference) for key, item in structure.items()}
    return reference(structure)


def _describe_op(operation: Operation, used: list[Any], reference: Any) -> tuple[dict[str, Any], list[Any]]:
    """An op's constant arguments belong to its class in Keras, its tensors to the call."""
    import inspect

    from tally.ops.catalogue import describe  # here, because it loads every op

    module, class_name, constants = describe(operation.function)
    signature = inspect.signature(operation.function)
    config: dict[str, Any] = {"name": operation.name}
    nodes = []
    for node in used:
        bound = signature.bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        config.update({key: serialize(bound.arguments[key]) for key in constants if key in bound.arguments})
        args = [_encode(value, reference) for key, value in bound.arguments.items() if key not in constants]
        nodes.append({"args": args, "kwargs": {}})
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": class_name,
    }, nodes


def graph_from_config(
    config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> tuple[Any, Any]:
    """Make the layers of a stored graph and apply them to each other again; gives the inputs and outputs."""
    with custom_object_scope(custom_objects or {}):
        operations = {entry["name"]: _make(entry) for entry in config["layers"]}
    made: dict[tuple[str, int], list[Any]] = {}
    for name, operation in operations.items():
        if isinstance(operation, Layer) and type(operation).__name__ == "InputLayer":
            made[name, 0] = leaves(operation.output)

    def resolve(value: Any) -> Any:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            name, number, index = value["config"]["keras_history"]
            return made[name, number][index]
        if isinstance(value, dict) and "class_name" not in value:
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [resolve(item) for item in value]
        return deserialize(value)

    waiting = [
        (e["name"], number, node) for e in config["layers"] for number, node in enumerate(e["inbound_nodes"])
    ]
    while waiting:
        blocked = []
        for name, number, node in waiting:
            if (number and (name, number - 1) not in made) or not _ready(node, made):
                blocked.append((name, number, node))
                continue
            args, kwargs = resolve(node["args"]), resolve(node["kwargs"])
            operation = operations[name]
            outputs = operation(*args, **kwargs)
            if not isinstance(operation, Layer):
                leaves(outputs)[0].node.operation.name = name
            made[name, number] = leaves(outputs)
        if len(blocked) == len(waiting):
            raise SavingError(
                f"The stored layers can't be connected: '{blocked[0][0]}' waits for a tensor that is never made."
            )
        waiting = blocked

    def tensor(place: list[Any]) -> Any:
        name, number, index = place
        return made[name, number][index]

    return _map_places(tensor, config["input_layers"]), _map_places(tensor, config["output_layers"])


def _make(entry: dict[str, Any]) -> Any:
    """A layer, or a function that applies an op with its stored constants."""
    module = entry.get("module") or ""
    if module.startswith(("keras.src.ops", "keras.ops", "tally.ops")):
        from tally.ops.catalogue import describe, find_op

        function = find_op(module, entry["class_name"])
        _, _, names = describe(function)
        stored = {k: deserialize(v) for k, v in entry["config"].items() if k in names}

        def apply(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{**stored, **kwargs})

        return apply
    return deserialize(
        {key: value for key, value in entry.items() if key not in ("inbound_nodes", "name", "build_config")}
    )


def _ready(value: Any, made: dict[tuple[str, int], Any]) -> bool:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            name, number, _ = value["config"]["keras_history"]
            return (name, number) in made
        return all(_ready(item, made) for item in value.values())
    return all(_ready(item, made) for item in value) if isinstance(value, list) else True


def _map_places(function: Any, places: Any) -> Any:
    """Apply a function to each `[name, node, tensor]` in a structure of them."""
    if isinstance(places, dict):
        return {key: _map_places(function, place) for key, place in places.items()}
    if len(places) == 3 and isinstance(places[0], str) and isinstance(places[1], int):
        return function(places)
    return [_map_places(function, place) for place in places]
