"""The graph between symbolic inputs and outputs: its operations, their order, and how it runs on arrays."""

from collections.abc import Callable, Iterator
from typing import Any

from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.core.symbol import KerasTensor, Node, leaves, map_tree


class Graph:
    """Everything that lies between given inputs and outputs.

    Args:
        inputs: Symbolic tensors, nested in tuples, lists or dicts.
        outputs: Likewise.

    Raises:
        ArgumentError: An output depends on an `Input` that is not among the inputs, or something is no symbolic tensor.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.input_structure, self.output_structure = inputs, outputs
        self.inputs: list[KerasTensor] = leaves(inputs)
        self.outputs: list[KerasTensor] = leaves(outputs)
        for word, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            for tensor in tensors:
                if not isinstance(tensor, KerasTensor):
                    raise ArgumentError(
                        f"A model's {word} are symbolic tensors, but one is a {type(tensor).__name__}.",
                        do="start from tally.Input(shape=...) and call layers on it",
                    )
        self.nodes, visits = _order(self.inputs, self.outputs)
        for node in self.nodes:
            node.mark.is_used = True
        self.operations = _by_depth(self.nodes, visits, self.inputs)
        self._inside = {id(node) for node in self.nodes}

    def extend(self, output: KerasTensor) -> None:
        """Take in one more operation, new to the graph, that was given the only output and nothing else.

        It costs the same however long the graph is, so a stack of n layers grows in n steps.

        Args:
            output: What the operation made of it; the only output from now on.
        """
        node = output.node
        node.mark.is_used = True
        self.nodes.append(node)
        self.operations.append(node.operation)
        self._inside.add(id(node))
        self.outputs, self.output_structure = [output], output

    @property
    def layers(self) -> list[Layer]:
        """The operations that are layers, inputs first, in the order Keras lists them."""
        return [operation for operation in self.operations if isinstance(operation, Layer)]

    def run(
        self, arrays: list[Any], apply: Callable[[Node, tuple[Any, ...], dict[str, Any]], Any] | None = None
    ) -> Any:
        """Compute the outputs for arrays that stand for the inputs.

        Args:
            arrays: One per input, in the order of `inputs`.
            apply: How a node is evaluated; calling its operation unless given.
        """
        known: dict[int, Any] = {id(symbol): array for symbol, array in zip(self.inputs, arrays, strict=True)}

        def fill(leaf: Any) -> Any:
            return known[id(leaf)] if isinstance(leaf, KerasTensor) else leaf

        for node in self.nodes:
            made = leaves(node.outputs)
            if all(id(symbol) in known for symbol in made if symbol is not None) or not node.inputs:
                continue
            args, kwargs = map_tree(fill, node.args), map_tree(fill, node.kwargs)
            results = apply(node, args, kwargs) if apply else node.operation(*args, **kwargs)
            for symbol, result in zip(made, leaves(results), strict=True):
                known.setdefault(id(symbol), result)
        return map_tree(fill, self.output_structure)

    def feeders(self, operation: Any) -> list[Any]:
        """The operations whose outputs an operation of this graph takes."""
        found: dict[int, Any] = {}
        for node in operation.inbound_nodes:
            if id(node) in self._inside:
                for tensor in node.inputs:
                    found[id(tensor.node.operation)] = tensor.node.operation
        return list(found.values())


def _order(inputs: list[KerasTensor], outputs: list[KerasTensor]) -> tuple[list[Node], dict[int, int]]:
    """Nodes, each after those it needs, and when each operation was first met on the way from the outputs."""
    given = {id(tensor) for tensor in inputs}
    done: dict[int, Node] = {}
    visits: dict[int, int] = {}
    stack: list[tuple[Node, Iterator[KerasTensor]]] = []

    def enter(tensor: KerasTensor) -> None:
        node = tensor.node
        if id(node) in done:
            return
        visits.setdefault(id(node.operation), len(visits))
        if not node.inputs and id(tensor) not in given:
            raise ArgumentError(
                f"An output depends on the input '{tensor.name}', which is not among the model's inputs.",
                where=f"input made at {node.made_at}",
                do="add it to Model(inputs=...)",
            )
        stops = id(tensor) in given
        stack.append((node, iter(() if stops else node.inputs)))

    for output in outputs:
        enter(output)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is not None:
                enter(following)
            else:
                done[id(node)] = node
                stack.pop()
    for tensor in inputs:  # an input that leads nowhere is still part of the model
        done.setdefault(id(tensor.node), tensor.node)
        visits.setdefault(id(tensor.node.operation), len(visits))
    return list(done.values()), visits


def _by_depth(nodes: list[Node], visits: dict[int, int], inputs: list[KerasTensor]) -> list[Any]:
    """Operations from the inputs to the outputs: by their distance to the outputs, then by when they were met.

    The order decides the order of `layers` and `get_weights`, so it is Keras's.
    """
    given = {id(tensor) for tensor in inputs}
    inside = {id(node) for node in nodes}
    node_depth: dict[int, int] = {}
    depth: dict[int, int] = {}
    operations: dict[int, Any] = {}
    for node in reversed(nodes):
        key = id(node.operation)
        operations[key] = node.operation
        here = max(node_depth.get(id(node), 0), depth.get(key, 0))
        node_depth[id(node)] = depth[key] = here
        stops = any(id(tensor) in given for tensor in leaves(node.outputs))
        for tensor in () if stops else node.inputs:
            if id(tensor.node) in inside:
                node_depth[id(tensor.node)] = max(here + 1, node_depth.get(id(tensor.node), 0))
    return sorted(operations.values(), key=lambda o: (-depth[id(o)], visits[id(o)]))
