"""Recurrent layers: one loop that runs a cell over the time steps of a sequence."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally.core.errors import ArgumentError
from tally.core.layer import InputSpec, Layer
from tally.core.registry import snake_case
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Values, Variable, _substituted, as_array, substitute
from tally.layers.arguments import own, read_arguments
from tally.layers.options import refuse_shape
from tally.layers.recurrence import is_known, with_late_gradients
from tally.layers.recurrent_cells import (
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    StepCell,
    call_cell,
    check_cell,
    initial_state,
)

Shape = tuple[int | None, ...]


def _moving(cell: Any) -> list[Variable]:
    """Variables that a user's cell may change at each step; this library's draw their noise before the loop."""
    if isinstance(cell, StepCell) or not isinstance(cell, Layer):
        return []
    if isinstance(cell, StackedRNNCells):
        return [variable for one in cell.cells for variable in _moving(one)]
    return [variable for variable in cell.variables if not variable.declared_trainable]


@contextmanager
def _standing_for(variables: Sequence[Variable | None], values: Sequence[Any]) -> Iterator[Values]:
    """Let variables stand for these values, and all others for what they stand for already."""
    outer = _substituted.get()
    inner = Values((outer or {}).items(), abstract=outer is not None and outer.abstract)
    if outer is not None:
        inner.read = outer.read
    inner.update((variable, x) for variable, x in zip(variables, values, strict=True) if variable is not None)
    with substitute(inner):
        yield inner


class RNN(Layer):
    """Runs a cell over the time steps of a sequence.

    Args:
        cell: A cell, or a list of them for a stack: an object with `state_size` and `call(inputs, states)`,
            which gives the output and the new states.
        return_sequences: Whether to give the outputs of all steps, and not of the last alone.
        return_state: Whether to give the last states, too.
        go_backwards: Whether to run from the last step to the first; the outputs stand in that order.
        stateful: Whether a batch goes on from the states the last one ended with.
        unroll: Whether to write the loop out: quicker for short sequences, slower to compile.
        zero_output_for_mask: Whether hidden steps give zeros; else they repeat the last output.

    Shapes:
        input: (batch, time, features)
        initial_state: one array (batch, units) for each state
        mask: (batch, time); hidden steps leave the states as they are.
        output: (batch, units), or (batch, time, units) with `return_sequences`; then the states, with `return_state`.

    Source: `keras.layers.RNN`.
    """

    supports_masking = True
    states: list[Any] | None

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        cell = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        check_cell(self, cell)
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.state_size = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        self.states = None

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        """Build the cell and, if the layer is stateful, make its states."""
        del initial_state_shape
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell._build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise refuse_shape(
                    self,
                    "is stateful, so the batch must have a known size.",
                    do="write Input(batch_shape=(batch, time, features))",
                )
            self.states = map_tree(self._make_state, self.get_initial_state(sequences_shape[0]))

    def _make_state(self, value: Any) -> Variable:
        state = Variable(value, dtype=self.variable_dtype, trainable=False, name="rnn_state")
        state.is_seed = True  # carried from call to call like a seed: no weight, and in no file of weights
        return state

    def _own_seeds(self) -> list[Variable]:
        return [*super()._own_seeds(), *(leaves(self.states) if self.states else [])]

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """Zeros for each state, or what the cell's `get_initial_state` gives."""
        return initial_state(self.cell, batch_size, self.compute_dtype)

    def reset_state(self) -> None:
        """Set the states of a stateful layer back to 0."""
        for state in leaves(self.states) if self.states else []:
            state.assign(jnp.zeros(state.shape, state.dtype))

    reset_states = reset_state

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """The outputs, and the states if wanted."""
        states = self._first_states(initial_state, sequences)
        steps = jnp.swapaxes(sequences, 0, 1)
        begin = getattr(self.cell, "begin", None)
        steps, extra = begin(steps, training) if begin else (steps, {})
        outputs, states = self._run(steps, states, _time_first(mask), training, extra)
        if self.stateful:
            for held, state in zip(leaves(self.states), leaves(states), strict=True):
                held.assign(state)
        result = (jnp.swapaxes(outputs, 0, 1) if self.return_sequences else outputs[-1]).astype(
            self.compute_dtype
        )
        return (result, *states) if self.return_state else result

    def _first_states(self, given: Any, sequences: jax.Array) -> list[Any]:
        batch = sequences.shape[0]
        if given is None and self.stateful:
            given = self.states
            size = leaves(given)[0].shape[0]
            if isinstance(batch, int) and batch != size:
                raise refuse_shape(
                    self, f"is stateful for batches of {size}, but was given one of {batch}.", sequences
                )
        if given is None:
            given = self.get_initial_state(batch)
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        return map_tree(
            lambda state: as_array(state, getattr(self.cell, "compute_dtype", self.compute_dtype)), given
        )

    def _run(
        self, steps: Any, states: list[Any], mask: Any, training: bool, extra: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The loop: outputs (time, batch, ...) in the order they were computed, and the last states."""
        run, weights = (
            partial(self._loop, training=training, extra=extra),
            self._weights_to_differentiate(extra),
        )
        if weights:
            run = with_late_gradients(
                run,
                self.cell,
                projected="projected" in extra,
                reverse=self.go_backwards,
                keeps_outputs=self.return_sequences,
            )
        values = [variable if variable is None else variable.value for variable in weights]
        outputs, states = run(values, steps, states, mask)
        if outputs is None:
            outputs = states[0][None]
        return jnp.flip(outputs, 0) if self.go_backwards else outputs, states

    def _weights_to_differentiate(self, extra: dict[str, Any]) -> tuple[Variable | None, ...]:
        """The cell's weights where the loop's gradients follow a rule of their own; none where JAX finds them."""
        cell = self.cell
        if not is_known(cell) or self.zero_output_for_mask or cell.compute_dtype != self.compute_dtype:
            return ()
        drops = any(noise is not None for noise in extra["noise"])
        return () if drops else (cell.kernel, cell.recurrent_kernel, cell.bias)

    def _loop(
        self,
        weights: Sequence[Any],
        steps: Any,
        states: Any,
        mask: Any,
        *,
        training: bool,
        extra: dict[str, Any],
    ) -> tuple[Any, Any]:
        """Outputs and last states; no outputs where the last state is all that is asked for and shown."""
        moving = _moving(self.cell)
        given = self._weights_to_differentiate(extra) if weights else ()
        structure = jax.tree.structure(states)
        only_last = is_known(self.cell) and not self.zero_output_for_mask and not self.return_sequences

        def step(carry: Any, now: Any) -> Any:
            (old, values), (x, seen) = carry, now
            with _standing_for((*given, *moving), (*weights, *values)) as held:
                output, new = call_cell(self.cell, x, old, training, extra)
            new = jax.tree.unflatten(structure, leaves(new))
            new = jax.tree.map(lambda a, b: jnp.asarray(b, a.dtype), old, new)
            if seen is not None:
                new = jax.tree.map(lambda a, b: jnp.where(_widen(seen, b), b, a), old, new)
                last = old[-1][0] if isinstance(old[-1], list) else old[0]
                hidden = jnp.zeros_like(output) if self.zero_output_for_mask else last
                output = jnp.where(_widen(seen, output), output, hidden)
            return (new, [held[variable] for variable in moving]), None if only_last else output

        start = (states, [variable.raw for variable in moving])
        (states, values), outputs = jax.lax.scan(
            step, start, (steps, mask), reverse=self.go_backwards, unroll=bool(self.unroll)
        )
        for variable, value in zip(moving, values, strict=True):
            variable.assign(value)
        return outputs, states

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the layer and its cell, under its name."""
        return cls(**read_arguments(config))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The input's mask if all steps are given; states have none."""
        del inputs
        mask = next(iter(leaves(previous_mask)), None) if self.return_sequences else None
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask


def _time_first(mask: Any) -> Any:
    mask = next(iter(leaves(mask)), None)
    return None if mask is None else jnp.swapaxes(jnp.asarray(mask, bool), 0, 1)


def _widen(seen: jax.Array, x: jax.Array) -> jax.Array:
    return seen.reshape(*seen.shape, *(1,) * (x.ndim - seen.ndim))


class _Recurrent(RNN):
    """An `RNN` that makes its own cell; the cell's options can be read on the layer, too."""

    cell_class: ClassVar[type[StepCell]]

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Share a subclass's arguments out between the cell and the loop."""
        kwargs = arguments.pop("kwargs")
        taken = self._cell_arguments()
        for_cell = {name: arguments.pop(name) for name in list(arguments) if name in taken}
        cell = self.cell_class(
            **for_cell,
            implementation=kwargs.pop("implementation", 2),
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name=snake_case(self.cell_class.__name__),
        )
        use_cudnn = arguments.pop("use_cudnn", "auto")
        if use_cudnn not in ("auto", True, False):
            raise ArgumentError(f"use_cudnn can't be {use_cudnn!r}.", do="use 'auto', True or False")
        super().__init__(cell, **arguments, **kwargs)
        self.use_cudnn = use_cudnn
        self.input_spec = InputSpec(ndim=3)

    @classmethod
    def _cell_arguments(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls.cell_class.__init__).parameters)[1:-1]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `use_cudnn` is not among them, as in Keras."""
        return {name: value for name, value in super().get_config().items() if name != "use_cudnn"}


class SimpleRNN(_Recurrent):
    """Runs `activation(x @ kernel + h @ recurrent_kernel + bias)` over a sequence.

    Args:
        units: Size of the output and of each state.
        activation: Function of the sum.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        activity_regularizer: Function of the output added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, dropped in training: one draw for a sequence.
        seed: An integer makes the drops repeatable.
        return_sequences, return_state, go_backwards, stateful, unroll: As in `RNN`.

    Shapes:
        input: (batch, time, features)
        initial_state: one array (batch, units)
        mask: (batch, time); hidden steps leave the state as it is.
        output: (batch, units), or (batch, time, units) with `return_sequences`; then the states, with `return_state`.

    Raises:
        ShapeError: The features are not those the layer was built for, or a stateful layer gets another batch size.

    Source: `keras.layers.SimpleRNN`.
    """

    cell_class = SimpleRNNCell

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))


class LSTM(_Recurrent):
    """Runs a long short-term memory over a sequence.

    Args:
        units: Size of the output and of each state.
        activation, recurrent_activation: Function of the candidate and the carry shown, and of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        unit_forget_bias: Whether the forget gate's bias starts at 1.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        activity_regularizer: Function of the output added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, dropped in training: one draw for a sequence.
        seed: An integer makes the drops repeatable.
        return_sequences, return_state, go_backwards, stateful, unroll: As in `RNN`.
        use_cudnn: Accepted for Keras's sake; XLA compiles the loop.

    Shapes:
        input: (batch, time, features)
        initial_state: a list of two arrays (batch, units): the state and the carry
        mask: (batch, time); hidden steps leave the state as it is.
        output: (batch, units), or (batch, time, units) with `return_sequences`; then the states, with `return_state`.

    Example:
        >>> LSTM(8, return_sequences=True)(tally.Input((None, 3))).shape
        (None, None, 8)

    Raises:
        ShapeError: The features are not those the layer was built for, or a stateful layer gets another batch size.

    Source: Hochreiter and Schmidhuber (1997); `keras.layers.LSTM`.
    """

    cell_class = LSTMCell

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))


class GRU(_Recurrent):
    """Runs gated recurrent units over a sequence.

    Args:
        units: Size of the output and of each state.
        activation, recurrent_activation: Function of the candidate, and of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        activity_regularizer: Function of the output added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, dropped in training: one draw for a sequence.
        seed: An integer makes the drops repeatable.
        return_sequences, return_state, go_backwards, stateful, unroll: As in `RNN`.
        reset_after: Whether the reset gate acts after the recurrent multiplication, as in `GRUCell`.
        use_cudnn: Accepted for Keras's sake; XLA compiles the loop.

    Shapes:
        input: (batch, time, features)
        initial_state: one array (batch, units)
        mask: (batch, time); hidden steps leave the state as it is.
        output: (batch, units), or (batch, time, units) with `return_sequences`; then the states, with `return_state`.

    Raises:
        ShapeError: The features are not those the layer was built for, or a stateful layer gets another batch size.

    Source: Cho et al. (2014), arXiv 1406.1078; `keras.layers.GRU`.
    """

    cell_class = GRUCell

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))


def _show_on_layer(name: str) -> None:
    setattr(_Recurrent, name, property(lambda self: getattr(self.cell, name), doc=f"The cell's `{name}`."))


for _option in sorted(
    {name for cell in (SimpleRNNCell, LSTMCell, GRUCell) for name in inspect.signature(cell).parameters}
):
    if _option != "kwargs":
        _show_on_layer(_option)
