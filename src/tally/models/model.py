"""The model: a layer that trains, saves and gives account; a graph from inputs to outputs, or a subclass's `call`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tally.core.errors import ArgumentError, DataError, ShapeError, nearest
from tally.core.graph import Graph
from tally.core.layer import Layer, describe
from tally.core.registry import custom_object_scope, serialize_object, snake_case
from tally.core.symbol import KerasTensor, leaves
from tally.core.variable import Variable, as_array
from tally.models.accountable import Accountable
from tally.models.graph_config import graph_from_config, graph_to_config
from tally.saving.archive import load_weights, save_model, save_weights
from tally.training.trainable import Trainable
from tally.training.trainer import Trainer


class Model(Accountable, Trainable, Layer):
    """Layers put together, with `compile`, `fit`, `evaluate`, `predict`, `save` and `summary`.

    Args:
        inputs: Symbolic tensors (`tally.Input`), nested in tuples, lists or dicts.
        outputs: Symbolic tensors computed from them.
        name: Name.

    A subclass that defines `call` needs neither inputs nor outputs.

    Example:
        >>> inputs = tally.Input((28, 28, 1))
        >>> outputs = tally.layers.Dense(10)(tally.layers.Flatten()(inputs))
        >>> tally.Model(inputs, outputs).count_params()
        7850
    """

    keras_module = "keras"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a `Functional` model where inputs and outputs are given."""
        made: Any = Functional if cls is Model and (args or "inputs" in kwargs) else cls
        return super().__new__(made, *args, **kwargs)

    def __init__(
        self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._graph: Graph | None = None
        self._trainer = Trainer(self)
        self.stop_training = False
        if inputs is not None or outputs is not None:
            if inputs is None or outputs is None:
                raise ArgumentError("A functional model needs both inputs and outputs.")
            self._set_graph(Graph(inputs, outputs))

    def _set_graph(self, graph: Graph) -> None:
        layers = graph.layers
        twice = [name for name, times in Counter(layer.name for layer in layers).items() if times > 1]
        if twice:
            made = [f"{layer.name} made at {layer.made_at}" for layer in layers if layer.name in twice]
            raise ArgumentError(
                f"Two layers of the model '{self.name}' have the name '{sorted(twice)[0]}'.",
                where="; ".join(made),
                do="give each layer a name of its own",
            )
        self._graph = graph
        self._held.built = True
        self._held.input_shapes = [tensor.shape for tensor in graph.inputs]
        self._held.output_shapes = [tensor.shape for tensor in graph.outputs]

    # -- structure -------------------------------------------------------------------------------------------------
    def _children(self) -> Iterator[tuple[str, Layer]]:
        listed: set[Layer] = set()
        for place, layer in named_in_order(self._graph.layers if self._graph else []):
            listed.add(layer)
            yield place, layer
        for place, layer in super()._children():
            if layer not in listed:
                yield place, layer

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in super()._attributes().items() if name not in _MODEL_INTERNAL}

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, inputs included for a graph."""
        return [layer for _, layer in self._children()]

    @property
    def operations(self) -> list[Any]:
        """Layers and single ops of the graph, in order."""
        return list(self._graph.operations) if self._graph else self.layers

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Find a layer by its name or its position.

        Raises:
            ArgumentError: There is none; the message suggests the closest name.
        """
        layers = self.layers
        if index is not None:
            if index >= len(layers):
                raise ArgumentError(
                    f"'{self.name}' has {len(layers)} layers, so there is none at position {index}."
                )
            return layers[index]
        if name is None:
            raise ArgumentError("get_layer needs a name or an index.")
        for layer in layers:
            if layer.name == name:
                return layer
        for place, layer in self._children():
            if place == name:
                return layer
        names = [layer.name for layer in layers]
        raise ArgumentError(
            f"'{self.name}' has no layer '{name}'.{nearest(name, names)}",
            do=f"its layers are {', '.join(names) or 'none yet'}",
        )

    def _need_graph(self) -> Graph:
        if self._graph is None:
            reason = "is not a graph of symbolic tensors" if self.built else "is not built yet"
            raise AttributeError(f"'{self.name}' {reason}, so it has no fixed inputs and outputs.")
        return self._graph

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs."""
        return self._need_graph().inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs."""
        return self._need_graph().outputs

    @property
    def input(self) -> Any:
        """The symbolic input, in the structure it was given."""
        return self._need_graph().input_structure

    @property
    def output(self) -> Any:
        """The symbolic output, in the structure it was given."""
        return self._need_graph().output_structure

    @property
    def input_shape(self) -> Any:
        """Shape of the input; a list of them for several."""
        shapes = [tensor.shape for tensor in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """Shape of the output; a list of them for several."""
        shapes = [tensor.shape for tensor in self.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs."""
        return [tensor.node.operation.name for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the operations that make the outputs."""
        return [tensor.node.operation.name for tensor in self.outputs]

    # -- calling -----------------------------------------------------------------------------------------------------
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph. A subclass without inputs and outputs overrides this."""
        del training, mask
        if self._graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} '{self.name}' has no call method.\n  where: made at {self.made_at}\n"
                "  do: define call(self, inputs), or give Model inputs and outputs"
            )
        return self._graph.run(self._arrange(inputs))

    def _arrange(self, inputs: Any) -> list[Any]:
        """Bring what the caller gave into the order, rank and dtype of the graph's inputs."""
        graph = self._need_graph()
        given = self._match_structure(inputs)
        return [self._conform(value, symbol) for value, symbol in zip(given, graph.inputs, strict=True)]

    def _match_structure(self, inputs: Any) -> list[Any]:
        graph = self._need_graph()
        structure, names = graph.input_structure, self.input_names
        if isinstance(inputs, dict):
            keys = list(structure) if isinstance(structure, dict) else names
            missing = [key for key in keys if key not in inputs]
            if missing:
                raise DataError(
                    f"Model '{self.name}' takes the inputs {', '.join(map(str, keys))}, "
                    f"but '{missing[0]}' was not given.",
                    where=f"given: {', '.join(map(str, inputs))}",
                )
            return (
                leaves({key: inputs[key] for key in keys})
                if isinstance(structure, dict)
                else [inputs[key] for key in keys]
            )
        given = leaves(inputs)
        if len(given) != len(graph.inputs):
            raise DataError(
                f"Model '{self.name}' takes {len(graph.inputs)} inputs ({', '.join(names)}), "
                f"but was given {len(given)}.",
                where=f"made at {self.made_at}",
            )
        return given

    def _conform(self, value: Any, symbol: KerasTensor) -> Any:
        if value is None:
            return None
        array = as_array(value)
        wanted = symbol.shape
        if array.ndim == len(wanted) - 1 and wanted[-1] == 1:
            array = array[..., None]
        elif array.ndim == len(wanted) + 1 and array.shape[-1] == 1:
            array = array[..., 0]
        sizes = zip(array.shape, wanted, strict=False)
        wrong = array.ndim != len(wanted) or any(
            isinstance(size, int) and need is not None and size != need for size, need in list(sizes)[1:]
        )
        if wrong:
            name = symbol.node.operation.name
            raise ShapeError(
                f"Model '{self.name}' takes {wanted} at its input '{name}', but was given {tuple(array.shape)}.",
                where=f"input made at {symbol.node.made_at}; called with {describe(array)}",
                do="bring the data to that shape (None fits any size), or make the Input with the data's shape",
            )
        return (
            array
            if array.dtype.name == symbol.dtype or symbol.dtype == "string"
            else _keep_mask(array, symbol.dtype)
        )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """A model's outputs carry the masks its own layers gave them."""
        del inputs, previous_mask

    def file_layers(self) -> list[Layer] | None:
        """The layers that a file lists under `layers` before anything else; None when there is no graph."""
        return self._graph.layers if self._graph is not None else None

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes the model was built for; a graph brings its own."""
        return super().get_build_config() if self._graph is None else {"input_shape": None}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build for stored shapes, and what a subclass holds beside its graph by a symbolic call."""
        super().build_from_config(config)
        waiting = [layer for layer in self._flatten_layers() if not layer.built and layer._has_own_build]
        if self._graph is not None and waiting:
            self.compute_output_spec(self.input)

    # -- saving --------------------------------------------------------------------------------------------------------
    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None) -> None:
        """Write the model, its weights and its optimizer to a `.keras` file that Keras 3 reads, too."""
        save_model(self, filepath, overwrite=overwrite, zipped=zipped)

    def save_weights(self, filepath: Any, overwrite: bool = True, **options: Any) -> None:
        """Write the weights to a `.weights.h5` file that Keras 3 reads, too, or to a `.safetensors` file.

        Args:
            filepath: Where; its ending says the form.
            overwrite: Whether a file that is there may be replaced.
            **options: For safetensors `max_shard_size`, such as `"5GB"`, past which the weights are shared out among
                several files and an index; and `include_optimizer`. `max_shard_size` for `.weights.json`, too.
        """
        save_weights(self, filepath, overwrite=overwrite, **options)

    def load_weights(
        self, filepath: Any, skip_mismatch: bool = False, *, by_name: bool = False, name_map: Any = None
    ) -> Any:
        """Read the weights from a file, or from a model made elsewhere; see `tally.saving.load_weights`.

        Args:
            filepath: A `.weights.h5` or `.keras` file; a `.safetensors` file, a folder of the Hugging Face Hub, a
                PyTorch file; or a PyTorch module, a state dict, a Keras model.
            skip_mismatch: Leave what doesn't fit as it is, with a warning, instead of refusing.
            by_name: For an older `.h5` file: find layers by their names and leave out those that only one side has.
            name_map: Names in the source -> paths in the model, where they don't tell where they belong; None leaves
                what has a name out.

        Returns:
            What went where, what was done to it, and what was left out; it prints as tables.
        """
        return load_weights(self, filepath, skip_mismatch, by_name=by_name, name_map=name_map)

    def checkpoints(self, directory: Any, **options: Any) -> Any:
        """The manager of checkpoints in a folder, a `tally.saving.CheckpointManager`.

        Args:
            directory: The folder.
            **options: `max_to_keep` and `save_on_background`.
        """
        from tally.saving.orbax import CheckpointManager

        return CheckpointManager(directory, **options)

    def held_arrays(self) -> dict[str, tuple[Variable, tuple[int, ...]]]:
        """Which variable holds the array at each path of the account, and which block of it; for what saves weights."""
        from tally.models.ledger import arrays_of

        return arrays_of(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Make a model from what `get_config` gave: a graph's layers and connections, or a subclass's arguments."""
        if cls is Model and "input_layers" in config:
            return Functional.from_config(config, custom_objects)
        with custom_object_scope(custom_objects or {}):
            return super().from_config(config)

    def to_json(self, **kwargs: Any) -> str:
        """The model's configuration as JSON."""
        return json.dumps(serialize_object(self), **kwargs)


_MODEL_INTERNAL = frozenset(
    ("_graph", "_trainer", "stop_training", "_stack", "_names", "_functional", "_deferred")
)


def _keep_mask(array: Any, dtype: str) -> Any:
    from tally.core import masks

    mask = masks.get_mask(array)
    array = array.astype(dtype)
    return array if mask is None else masks.set_mask(array, mask)


def named_in_order(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    """Each layer's place in a model: the name its maker gave it, else its class, counted within this model."""
    counts: dict[str, int] = {}
    taken = {layer.name for layer in layers if not layer._held.auto_named}
    for layer in layers:
        if not layer._held.auto_named:
            yield layer.name, layer
            continue
        word = snake_case(type(layer).__name__)
        while True:
            number = counts.get(word, 0)
            counts[word] = number + 1
            place = f"{word}_{number}" if number else word
            if place not in taken:
                break
        yield place, layer


class Functional(Model):
    """A model given by its symbolic inputs and outputs."""

    keras_module = "keras.src.models.functional"

    def get_config(self) -> dict[str, Any]:
        """Layers and the connections between them."""
        return graph_to_config(self._need_graph(), name=self.name, trainable=self.trainable)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Make the layers and connect them again."""
        inputs, outputs = graph_from_config(config, custom_objects)
        model = cls(inputs, outputs, name=config.get("name"))
        if config.get("trainable") is False:
            model.trainable = False
        return model
