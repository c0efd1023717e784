"""A stack of layers, each fed by the one before."""

from collections.abc import Iterable
from typing import Any

from tally.core.errors import ArgumentError, UnbuiltError
from tally.core.graph import Graph
from tally.core.layer import Layer
from tally.core.reading import Reading, need
from tally.core.registry import deserialize, serialize
from tally.core.symbol import KerasTensor
from tally.layers.basic import InputLayer
from tally.models.model import Model


class Sequential(Model):
    """A stack of layers, each fed by the one before.

    Args:
        layers: The layers, from input to output. With an `Input` first (or `input_shape=` on the first layer) the
            weights are planned at once; without, at the first call or `build(input_shape)`.
        trainable: Whether the weights may be changed by training.
        name: Name.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)])
        >>> model.count_params()
        55
    """

    def __init__(
        self,
        layers: Iterable[Layer | KerasTensor] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._stack: list[Layer] = []
        self._names: dict[str, Layer] = {}
        self._tail: list[KerasTensor] = []
        self._deferred = False
        """Whether the input's shape was taken from the first call."""
        for layer in layers or ():
            self._push(layer)
        self._close()
        if not trainable:
            self.trainable = False

    def add(self, layer: Layer | KerasTensor) -> None:
        """Put a layer on top.

        Raises:
            ArgumentError: It is no layer, or one of its name is there already.
        """
        self._push(layer)
        if self._graph is not None and isinstance(self._tail[-1], KerasTensor):
            self._graph.extend(self._tail[-1])
            self._held.output_shapes = [self._tail[-1].shape]
        else:
            self._close()

    def pop(self) -> Layer | None:
        """Take the last layer away and return it."""
        if not self._stack:
            return None
        layer = self._stack.pop()
        self._names.pop(layer.name, None)
        if self._tail:
            self._tail.pop()
        self._graph = None
        self._held.built = False
        self._close()
        return layer

    def _push(self, layer: Any) -> None:
        if isinstance(layer, KerasTensor):
            layer = layer.node.operation
        if callable(layer) and not isinstance(layer, (Layer, type)):
            from tally.layers.basic import Lambda

            layer = Lambda(layer)
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"A Sequential model holds layers, but was given {_show(layer)}.",
                where=f"'{self.name}' made at {self.made_at}",
                do="pass a layer such as tally.layers.Dense(10), not its class or its output",
            )
        if isinstance(layer, InputLayer) and self._stack:
            if self._tail and len(self._stack) == 1 and isinstance(self._stack[0], InputLayer):
                raise ArgumentError(f"'{self.name}' has an Input already.", do="give it only one")
            raise ArgumentError(
                f"'{self.name}' already has layers, so an Input comes too late.", do="put Input first"
            )
        same = self._names.get(layer.name)
        if same is not None and same.name == layer.name:
            raise ArgumentError(
                f"'{self.name}' already has a layer named '{layer.name}'.",
                where=f"made at {same.made_at} and at {layer.made_at}",
                do="give each layer a name of its own; to use one layer twice, make a functional model",
            )
        if not self._stack and not isinstance(layer, InputLayer):
            shape = layer._held.batch_input_shape
            if (
                shape is None
                and isinstance(layer, Model)
                and layer._graph is not None
                and len(layer._graph.inputs) == 1
            ):
                shape = layer._graph.inputs[0].shape
            if shape is not None:
                dtype = (
                    layer._graph.inputs[0].dtype
                    if isinstance(layer, Model) and layer._graph
                    else layer.compute_dtype
                )
                self._push(InputLayer(batch_shape=shape, dtype=dtype))
        self._stack.append(layer)
        self._names[layer.name] = layer
        if isinstance(layer, InputLayer):
            self._tail.append(layer.output)
        elif self._tail:
            try:
                self._tail.append(layer(self._tail[-1]))
            except Exception:
                del self._names[self._stack.pop().name]
                raise

    def _close(self) -> None:
        """Make the graph that the stack now stands for, once an input shape is known."""
        if len(self._tail) > 1:
            self._set_graph(Graph(self._tail[0], self._tail[-1]))
        self._held.built = self._graph is not None

    def build(self, input_shape: Any = None) -> None:
        """Plan all weights for an input shape, batch included.

        Raises:
            UnbuiltError: No shape is given and none is known.
        """
        if self._graph is not None:
            return
        if input_shape is None:
            raise UnbuiltError(
                f"'{self.name}' can't be built without an input shape.",
                where=f"made at {self.made_at}",
                do="call build((None, ...)), put an Input first, or call the model on data",
            )
        if not self._stack:
            raise UnbuiltError(f"'{self.name}' has no layers to build.", do="add layers first")
        layers, self._stack, self._tail, self._names = self._stack, [], [], {}
        try:
            self._push(InputLayer(batch_shape=(None, *tuple(input_shape)[1:]), dtype=layers[0].compute_dtype))
            for layer in layers:
                self._push(layer)
        except Exception:
            self._stack, self._tail, self._names = layers, [], {layer.name: layer for layer in layers}
            raise
        self._close()
        self._deferred = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the stack."""
        if self._graph is None or (self._deferred and not self._fits(inputs)):
            for layer in self.file_layers():
                inputs = layer(inputs)
            return inputs
        return super().call(inputs, training=training, mask=mask)

    def _fits(self, inputs: Any) -> bool:
        """Whether inputs have the shape that the stack was first called with; nobody promised that they will."""
        wanted, given = self._need_graph().inputs[0].shape, getattr(inputs, "shape", None)
        if given is None or len(given) != len(wanted):
            return True  # told in the graph's own words
        return all(size in (None, other) for size, other in zip(wanted[1:], given[1:], strict=True))

    def _children(self) -> Any:
        from tally.models.model import named_in_order

        stack = [layer for layer in self._stack if not isinstance(layer, InputLayer)]
        yield from named_in_order(stack)
        stacked = set(stack)
        for place, layer in Layer._children(self):
            if layer not in stacked and not isinstance(layer, InputLayer):
                yield place, layer

    def file_layers(self) -> list[Layer]:
        """The stacked layers, without the input."""
        return [layer for layer in self._stack if not isinstance(layer, InputLayer)]

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in super()._attributes().items() if name != "_tail"}

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations, from input to output."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize(self.dtype_policy),
            "layers": [serialize(layer) for layer in self._stack],
        }
        if self._graph is not None:
            config["build_input_shape"] = self._graph.inputs[0].shape
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Sequential":
        """Make the layers and stack them again."""
        model = cls(name=config.get("name"))
        for number, layer in enumerate(need(config, "layers", list, tuple)):
            with Reading(layer, way=("config", "layers", number)):
                need(layer, "class_name", str)
                stored = {name: value for name, value in layer.items() if name != "build_config"}
                model._push(deserialize(stored, custom_objects))
        model._close()
        if model._graph is None and config.get("build_input_shape"):
            model.build(tuple(config["build_input_shape"]))
        if config.get("trainable") is False:
            model.trainable = False
        return model


def _show(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
