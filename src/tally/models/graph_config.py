"""Functional models as configuration: layers, ops and the connections between them, in the form Keras 3 stores."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

from tally.core.errors import SavingError
from tally.core.graph import Graph
from tally.core.layer import Layer
from tally.core.reading import Reading, need
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
    """Make the layers of a stored graph and apply them to each other again; gives the inputs and outputs.

    Raises:
        SavingError: A layer can't be made, or waits for a tensor that no other gives.
    """
    operations: dict[str, Any] = {}
    uses: list[_Use] = []
    with custom_object_scope(custom_objects or {}):
        for position, entry in enumerate(need(config, "layers", list, tuple)):
            with Reading(entry, way=("config", "layers", position)):
                name = need(entry, "name", str)
                if name in operations:
                    raise SavingError(f"The stored model has two layers named '{name}'.")
                operations[name] = _make(entry)
                for number, node in enumerate(need(entry, "inbound_nodes", list, tuple)):
                    with Reading(node, way=("inbound_nodes", number)):
                        need(node, "args", list, tuple)
                        need(node, "kwargs", dict)
                        uses.append(_Use(name, number, node, _needs(node)))
    made: dict[tuple[str, int], list[Any]] = {}
    for name, operation in operations.items():
        if isinstance(operation, Layer) and type(operation).__name__ == "InputLayer":
            made[name, 0] = leaves(operation.output)

    def tensor(place: Any) -> Any:
        name, number, index = _place(place)
        found = made.get((name, number), [])
        if not 0 <= index < len(found):
            raise SavingError(f"The stored model wants tensor {index} of '{name}', which is never made.")
        return found[index]

    def resolve(value: Any) -> Any:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return tensor(_history(value))
        if isinstance(value, dict) and "class_name" not in value:
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [resolve(item) for item in value]
        return deserialize(value)

    for use in _in_order(uses, set(made)):
        with Reading(use.node):
            args, kwargs = resolve(use.node["args"]), resolve(use.node["kwargs"])
            operation = operations[use.name]
            outputs = operation(*args, **kwargs)
            if not isinstance(operation, Layer):
                symbol = next((leaf for leaf in leaves(outputs) if isinstance(leaf, KerasTensor)), None)
                if symbol is None:
                    raise SavingError(f"The stored operation '{use.name}' is given no tensor of the model.")
                symbol.node.operation.name = use.name
            made[use.name, use.number] = leaves(outputs)
    ends = [need(config, f"{kind}_layers", list, tuple, dict) for kind in ("input", "output")]
    return _map_places(tensor, ends[0]), _map_places(tensor, ends[1])


class _Use(NamedTuple):
    """One application of a layer: the layer's name, which of its uses it is, its arguments, and what they wait for."""

    name: str
    number: int
    node: Any
    needs: set[tuple[str, int]]


def _in_order(uses: list[_Use], made: set[tuple[str, int]]) -> Iterator[_Use]:
    """Each use after those it needs, else as they are stored; in steps that grow with their number alone."""
    waiting: dict[tuple[str, int], list[int]] = {}
    left: list[int] = []
    for position, use in enumerate(uses):
        needs = use.needs | ({(use.name, use.number - 1)} if use.number else set())
        needs -= made
        left.append(len(needs))
        for place in needs:
            waiting.setdefault(place, []).append(position)
    ready = [position for position, count in enumerate(left) if not count]
    done = 0
    while ready:
        use = uses[heappop(ready)]
        yield use
        done += 1
        for position in waiting.pop((use.name, use.number), ()):
            left[position] -= 1
            if not left[position]:
                heappush(ready, position)
    if done < len(uses):
        stuck = [use for use, count in zip(uses, left, strict=True) if count]
        known = {(use.name, use.number) for use in stuck}
        first = next((use for use in stuck if use.needs & waiting.keys() - known), stuck[0])
        with Reading(first.node):
            needed = min(first.needs & waiting.keys() - known, default=min(known))[0]
            raise SavingError(
                f"The stored layers can't be connected: '{first.name}' waits for a tensor of '{needed}' "
                "that is never made."
            )


def _make(entry: dict[str, Any]) -> Any:
    """A layer, or a function that applies an op with its stored constants."""
    module = need(entry, "module", str) if entry.get("module") else ""
    name, config = need(entry, "class_name", str), need(entry, "config")
    if module.startswith(("keras.src.ops", "keras.ops", "tally.ops")):
        from tally.ops.catalogue import describe, find_op

        function = find_op(module, name)
        _, _, names = describe(function)
        stored = {k: deserialize(v) for k, v in need(entry, "config", dict).items() if k in names}

        def apply(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{**stored, **kwargs})

        return apply
    made = deserialize(
        {
            **{k: v for k, v in entry.items() if k not in ("inbound_nodes", "name", "build_config")},
            "config": config,
        }
    )
    if not callable(made):
        raise SavingError(
            f"The stored model has a {type(made).__name__} among its layers, which can't be called."
        )
    return made


def _history(tensor: dict[str, Any]) -> Any:
    return need(need(tensor, "config", dict), "keras_history", list, tuple)


def _place(place: Any) -> tuple[str, int, int]:
    """A layer's name, which of its uses, and which of the outputs."""
    if isinstance(place, (list, tuple)) and len(place) == 3:
        name, number, index = place
        if isinstance(name, str) and type(number) is int and type(index) is int:
            return name, number, index
    raise SavingError(f"The stored model has {str(place)[:80]} where [layer, use, output] belongs.")


def _needs(value: Any) -> set[tuple[str, int]]:
    """The uses of layers that an argument waits for."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return {_place(_history(value))[:2]}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return set().union(*map(_needs, items))


def _map_places(function: Any, places: Any) -> Any:
    """Apply a function to each `[name, node, tensor]` in a structure of them."""
    if isinstance(places, dict):
        return {key: _map_places(function, place) for key, place in places.items()}
    if isinstance(places, (list, tuple)) and not (len(places) == 3 and isinstance(places[0], str)):
        return [_map_places(function, place) for place in places]
    return function(places)
