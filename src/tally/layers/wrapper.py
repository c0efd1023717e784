"""Layers that hold another layer and say how it is called."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.core.registry import serialize
from tally.layers.arguments import read_arguments
from tally.layers.options import read_word, refuse, refuse_shape

Shape = tuple[int | None, ...]


def _check_layer(wrapper: type[Layer], layer: Any) -> None:
    if not isinstance(layer, Layer):
        raise ArgumentError(
            f"{wrapper.__name__} wraps a layer, but was given a {type(layer).__name__}.",
            do="pass an instance, such as Dense(8), not a class or a tensor",
        )


class Wrapper(Layer):
    """Holds a layer; a subclass says how it is called.

    Args:
        layer: The layer.

    Source: `keras.layers.Wrapper`.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        _check_layer(type(self), layer)
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside."""
        if not self.layer.built:
            self.layer._build(input_shape)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the wrapper and the layer inside, under its name."""
        return cls(**read_arguments(config))


class TimeDistributed(Wrapper):
    """Applies a layer to every time step, with the same weights.

    The layer sees batch × time examples at once. In training, a layer with moving statistics sees one step after
    the other, so that they move at each.

    Args:
        layer: The layer.

    Shapes:
        input: (batch, time, ...)
        mask: (batch, time); handed on.
        output: (batch, time, ...)

    Raises:
        ShapeError: The input has no time axis.

    Source: `keras.layers.TimeDistributed`.
    """

    supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Build the layer for one time step."""
        self._check_rank(input_shape)
        super().build((input_shape[0], *input_shape[2:]))

    def _check_rank(self, shape: Any) -> None:
        if not isinstance(shape, (tuple, list)) or len(shape) < 3:
            raise refuse_shape(
                self,
                f"takes an input (batch, time, ...) of at least 3 dimensions, but was given {tuple(shape)}.",
                do="add a time axis, or apply the layer itself",
            )

    def call(self, inputs: jax.Array, training: bool | None = None, mask: Any = None) -> jax.Array:
        """The layer's outputs of all steps."""
        self._check_rank(inputs.shape)
        if mask is not None and any(
            _differ(a, b) for a, b in zip(mask.shape[:2], inputs.shape[:2], strict=True)
        ):
            raise refuse_shape(
                self, f"can't use a mask of shape {mask.shape}.", inputs, "give it the batch and the time"
            )
        batch, time = inputs.shape[:2]
        if training and isinstance(time, int) and any(not v.declared_trainable for v in self.layer.weights):
            steps = [
                self._apply(inputs[:, i], None if mask is None else mask[:, i], training) for i in range(time)
            ]
            return jnp.stack(steps, axis=1)
        merged = None if mask is None else mask.reshape(batch * time, *mask.shape[2:])
        outputs = self._apply(inputs.reshape(batch * time, *inputs.shape[2:]), merged, training)
        return outputs.reshape(batch, time, *outputs.shape[1:])

    def _apply(self, x: jax.Array, mask: Any, training: bool | None) -> jax.Array:
        known = inspect.signature(self.layer.call).parameters
        options = {"mask": mask, "training": training}
        chosen = {name: value for name, value in options.items() if name in known and value is not None}
        return self.layer(x, **chosen).astype(self.compute_dtype)


def _differ(a: Any, b: Any) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


_MERGES: dict[str | None, Callable[[Any, Any], Any]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": jnp.add,
    "ave": lambda a, b: (a + b) / 2,
    "mul": jnp.multiply,
    None: lambda a, b: (a, b),
}


class Bidirectional(Layer):
    """Runs a copy of a recurrent layer forwards and another backwards, and merges what they give.

    Args:
        layer: An `RNN`, `LSTM`, `GRU` or the like; it is copied, not used.
        merge_mode: `"concat"`, `"sum"`, `"ave"`, `"mul"`, or None for both outputs.
        weights: Initial weights: those of the forward layer, then those of the backward one.
        backward_layer: The layer that runs backwards, with `go_backwards=True`; made from `layer` unless given.

    Shapes:
        input: (batch, time, features)
        initial_state: the states of the forward layer, then those of the backward one
        output: as of the layer, with twice the units for `"concat"`; then the states of both, if it returns them

    Raises:
        ArgumentError: The two layers don't belong together.

    Source: Schuster and Paliwal (1997); `keras.layers.Bidirectional`.
    """

    supports_masking = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        _check_layer(type(self), layer)
        super().__init__(**kwargs)
        if merge_mode is not None:
            merge_mode = read_word(self, "merge_mode", merge_mode, [word for word in _MERGES if word])
        self.merge_mode = merge_mode
        self._hold(_copy(layer, "forward_"), backward_layer or _copy(layer, "backward_", go_backwards=True))
        if weights:
            half = len(weights) // 2
            self.forward_layer._held.initial_weights = weights[:half]
            self.backward_layer._held.initial_weights = weights[half:]
        self.stateful, self.return_sequences = (
            self.forward_layer.stateful,
            self.forward_layer.return_sequences,
        )
        self.return_state = self.forward_layer.return_state
        self.input_spec = layer.input_spec

    def _hold(self, forward: Any, backward: Any) -> None:
        self.forward_layer, self.backward_layer = forward, backward
        if forward.go_backwards == backward.go_backwards:
            raise refuse(
                self, "has two layers that run in one direction.", "give backward_layer go_backwards=True"
            )
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(forward, name) != getattr(backward, name):
                raise refuse(self, f"has layers that differ in {name}.", f"give both the same {name}")
        for one in (forward, backward):
            if hasattr(one, "zero_output_for_mask"):  # what a mask hides must not be merged with anything
                one.zero_output_for_mask = one.return_sequences

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        """Build both layers."""
        del initial_state_shape
        for one in (self.forward_layer, self.backward_layer):
            if not one.built:
                one._build(sequences_shape)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None
    ) -> Any:
        """The merged outputs, and the states if the layers return them."""
        half = len(initial_state) // 2 if initial_state is not None else 0
        states = (
            (None, None)
            if initial_state is None
            else (list(initial_state[:half]), list(initial_state[half:]))
        )
        phase = {} if training is None else {"training": training}
        forward, backward = (
            jax.tree.map(self._cast, one(sequences, initial_state=state, mask=mask, **phase))
            for one, state in zip((self.forward_layer, self.backward_layer), states, strict=True)
        )
        ends: tuple[Any, ...] = ()
        if self.return_state:
            (forward, *first), (backward, *last) = forward, backward
            ends = (*first, *last)
        if self.return_sequences:
            backward = jnp.flip(backward, axis=1)
        merged = _MERGES[self.merge_mode](forward, backward)
        if not self.return_state:
            return merged
        return (*merged, *ends) if self.merge_mode is None else (merged, *ends)

    def _cast(self, x: jax.Array) -> jax.Array:
        return x.astype(self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the layers as they are now."""
        config = {name: value for name, value in super().get_config().items() if name != "weights"}
        layers = {"layer": self.forward_layer, "backward_layer": self.backward_layer}
        return {**config, **{name: serialize(layer) for name, layer in layers.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the wrapper and its layers under its name."""
        arguments = read_arguments(config)
        made = cls(**arguments)
        if arguments["layer"].built:  # nobody else holds it, so there is no need of a copy
            made._hold(arguments["layer"], made.backward_layer)
        return made

    def reset_state(self) -> None:
        """Set the states of stateful layers back to 0."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    @property
    def states(self) -> tuple[Any, ...] | None:
        """The states of both layers, if they are stateful and built."""
        if not (self.forward_layer.states and self.backward_layer.states):
            return None
        return (*self.forward_layer.states, *self.backward_layer.states)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The input's mask if all steps are given."""
        del inputs
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        mask = mask if self.return_sequences else None
        return (mask, mask) if self.merge_mode is None else mask


def _copy(layer: Layer, prefix: str, **changes: Any) -> Any:
    """A new layer with the same arguments, no weights, and a name that says its direction."""
    name = prefix + layer.name.removeprefix(prefix)
    return type(layer).from_config({**layer.get_config(), **changes, "name": name})
