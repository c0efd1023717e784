"""The cells of recurrent layers: what they compute in one time step."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally.core.calling import label_of
from tally.core.layer import Layer
from tally.core.random import SeedGenerator
from tally.core.variable import Variable
from tally.initializers import Initializer
from tally.layers.arguments import adopt, own, read_arguments
from tally.layers.options import plan_weight, read_count, refuse, refuse_shape, settle
from tally.layers.regularization import drop

Shape = tuple[int | None, ...]
Noise = tuple[Any, Any]
"""What dropout multiplies inputs and states with: arrays (gates or 1, batch, features or units), or None."""


class _ForgetBias(Initializer):
    """The bias of an LSTM: ones for the forget gate, so that it remembers at first, and another's values elsewhere."""

    def __init__(self, others: Any, units: int) -> None:
        self.others, self.units = others, units

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        del shape
        first, rest = (self.others((size,), dtype=dtype) for size in (self.units, 2 * self.units))
        return jnp.concatenate([first, jnp.ones((self.units,), dtype), rest])


class StepCell(Layer):
    """What the cells share: a matrix for the inputs, one for the state, a bias, and dropout drawn once a sequence."""

    gates: ClassVar[int]
    has_carry: ClassVar[bool] = False
    units: int
    use_bias: bool
    activation: Callable[[Any], Any]
    recurrent_activation: Callable[[Any], Any]
    bias: Variable | None

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Keep a subclass's arguments under their names; `kwargs` among them are the base class's."""
        kwargs = arguments.pop("kwargs")
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        for name in ("activation", "recurrent_activation"):
            if name in arguments and arguments[name] is None:
                arguments[name] = "linear"
        adopt(self, arguments)
        settle(self, units=read_count(self, "units", self.units))
        self.dropout, self.recurrent_dropout = (
            min(1.0, max(0.0, r)) for r in (self.dropout, self.recurrent_dropout)
        )
        # Keras draws one mask for each gate in this implementation, and whenever the state is dropped, too.
        self.implementation = 1 if self.recurrent_dropout else implementation
        self.seed_generator = SeedGenerator(self.seed)  # type: ignore[has-type]
        self.state_size = [self.units, self.units] if self.has_carry else self.units
        self.output_size = self.units

    def build(self, input_shape: Shape) -> None:
        """Make the kernel, the recurrent kernel and the bias."""
        wide = "units" if self.gates == 1 else f"{self.gates} gates·units"
        size = self.units * self.gates
        if input_shape[-1] is None:
            raise refuse_shape(
                self,
                "needs to know how many features a time step has.",
                do="give Input that size",
                code="T603",
            )
        self.kernel = plan_weight(self, "kernel", (input_shape[-1], size), ("features", wide))
        self.recurrent_kernel = plan_weight(
            self, "recurrent_kernel", (self.units, size), ("units", wide), options="recurrent"
        )
        self.bias = self._plan_bias(size, wide) if self.use_bias else None

    def _plan_bias(self, size: int, wide: str) -> Variable:
        return plan_weight(self, "bias", (size,), (wide,))

    def get_initial_state(self, batch_size: Any = None) -> list[jax.Array]:
        """Zeros, one array (batch, units) for each state."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [jnp.zeros((batch_size, size), self.compute_dtype) for size in sizes]

    def draw_noise(self, batch_size: Any, features: Any, dtype: Any) -> Noise:
        """Draw what dropout multiplies the inputs and the state of a whole sequence with."""
        count = self.gates if self.implementation == 1 else 1

        def draw(rate: float, size: Any) -> Any:
            if not rate:
                return None
            return drop(jnp.ones((count, batch_size, size), dtype), rate, self.seed_generator.key())

        return draw(self.dropout, features), draw(self.recurrent_dropout, self.units)

    def begin(self, sequence: jax.Array, training: bool) -> tuple[jax.Array, dict[str, Any]]:
        """Do for all time steps at once what doesn't need the state, where that is faster.

        On a CPU it isn't: a step's own product runs in the cache and XLA compiles it into one piece with the gates
        (`python -m benchmarks.kernels`).

        Args:
            sequence: (time, batch, features)
            training: Whether to drop anything.

        Returns:
            What the steps take instead of the sequence, and what else they take.
        """
        _, batch, features = sequence.shape
        noise = self.draw_noise(batch, features, sequence.dtype) if training else (None, None)
        if noise[0] is not None and len(noise[0]) == 1:
            sequence, noise = sequence * noise[0], (None, noise[1])
        if jax.default_backend() == "cpu":
            return sequence, {"noise": noise}
        # The account puts the product down to the cell, wherever it is made.
        with jax.named_scope(label_of(self)):
            return self._project(sequence, noise[0]), {"noise": noise, "projected": True}

    def call(
        self,
        inputs: jax.Array,
        states: Any,
        training: bool = False,
        noise: Noise | None = None,
        projected: bool = False,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """One time step: the output and the new states.

        Args:
            inputs: (batch, features)
            states: One array (batch, units) for each state.
            training: Whether to drop anything.
            noise: What `draw_noise` gave, where the masks of a sequence are drawn already.
            projected: Whether `inputs` are what `begin` made of them.
        """
        if noise is None:
            noise = (
                self.draw_noise(inputs.shape[0], inputs.shape[1], inputs.dtype) if training else (None, None)
            )
        z = inputs if projected else self._project(inputs, noise[0])
        return self._step(z, states if isinstance(states, (list, tuple)) else [states], noise[1])

    def _project(self, x: jax.Array, noise: Any) -> jax.Array:
        product = self._multiply(x, self.kernel.value, noise, self.gates)
        bias = self.split_bias(None if self.bias is None else self.bias.value)[0]
        return product if bias is None else product + bias

    def split_bias(self, bias: Any) -> tuple[Any, Any]:
        """The parts of the bias that are added to the inputs' product and to the state's; None is no bias."""
        return bias, None

    def _multiply(self, x: jax.Array, kernel: jax.Array, noise: Any, gates: int) -> jax.Array:
        """`x @ kernel`, with the noise of each gate, or of all, on `x`."""
        if noise is None:
            return x @ kernel
        spread = noise if x.ndim == 2 else noise[:, None]
        if len(noise) == 1:
            return (x * spread[0]) @ kernel
        each = jnp.einsum("g...f,fgu->...gu", x * spread, kernel.reshape(kernel.shape[0], gates, -1))
        return each.reshape(*each.shape[:-2], -1)

    def _step(self, z: jax.Array, states: Any, noise: Any) -> tuple[jax.Array, list[jax.Array]]:
        product = self._multiply(states[0], self.recurrent_kernel.value, noise, self.gates)
        bias = self.split_bias(None if self.bias is None else self.bias.value)[1]
        new = self.advance(self.join(z, product if bias is None else product + bias), states)
        return new[0], new

    def join(self, z: jax.Array, product: jax.Array) -> Any:
        """What the gates see, from the inputs' part and the state's; linear in both."""
        return z + product

    def advance(self, joined: Any, states: Sequence[jax.Array]) -> list[jax.Array]:
        """The new states, from what the gates see and the old states; no weight has a part in it."""
        raise NotImplementedError


class SimpleRNNCell(StepCell):
    """One step of `SimpleRNN`: `activation(x @ kernel + h @ recurrent_kernel + bias)`.

    Args:
        units: Size of the output and the state.
        activation: Function of the sum.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, that is dropped in training.
        seed: An integer makes the drops repeatable.

    Source: `keras.layers.SimpleRNNCell`.
    """

    gates = 1

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))

    def advance(self, joined: Any, states: Sequence[jax.Array]) -> list[jax.Array]:
        """The new state."""
        del states
        return [self.activation(joined)]


class LSTMCell(StepCell):
    """One step of `LSTM`: gates decide what the carry forgets, takes in and shows.

    The gates stand in the order input, forget, candidate, output along the last axis of each weight.

    Args:
        units: Size of the output, the state and the carry.
        activation: Function of the candidate and of the carry shown.
        recurrent_activation: Function of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        unit_forget_bias: Whether the forget gate's bias starts at 1.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, that is dropped in training.
        seed: An integer makes the drops repeatable.

    Source: Hochreiter and Schmidhuber (1997); `keras.layers.LSTMCell`.
    """

    gates = 4
    has_carry = True
    unit_forget_bias: bool

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))

    def _plan_bias(self, size: int, wide: str) -> Variable:
        bias = super()._plan_bias(size, wide)
        if self.unit_forget_bias:
            bias.initializer = _ForgetBias(bias.initializer, self.units)
        return bias

    def advance(self, joined: Any, states: Sequence[jax.Array]) -> list[jax.Array]:
        """The new state and the new carry."""
        entering, kept, candidate, shown = jnp.split(joined, 4, axis=-1)
        gate = self.recurrent_activation
        carry = gate(kept) * states[1] + gate(entering) * self.activation(candidate)
        return [gate(shown) * self.activation(carry), carry]


class GRUCell(StepCell):
    """One step of `GRU`: gates decide how much of the state stays, and how much of it the candidate sees.

    The gates stand in the order update, reset, candidate along the last axis of each weight.

    Args:
        units: Size of the output and the state.
        activation: Function of the candidate.
        recurrent_activation: Function of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Functions of them added to the loss.
        kernel_constraint, recurrent_constraint, bias_constraint: Functions applied after each update.
        dropout, recurrent_dropout: Share of the inputs, and of the state, that is dropped in training.
        reset_after: Whether the reset gate acts after the multiplication by the recurrent kernel (then inputs and state
            have a bias each) or before it.
        seed: An integer makes the drops repeatable.

    Source: Cho et al. (2014), arXiv 1406.1078; `keras.layers.GRUCell`.
    """

    gates = 3
    reset_after: bool

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))

    def _plan_bias(self, size: int, wide: str) -> Variable:
        if not self.reset_after:
            return super()._plan_bias(size, wide)
        return plan_weight(self, "bias", (2, size), ("biases", wide))

    def split_bias(self, bias: Any) -> tuple[Any, Any]:
        """One for the inputs and one for the state, where the reset gate acts on the state's product."""
        return (bias, None) if bias is None or not self.reset_after else (bias[0], bias[1])

    def join(self, z: jax.Array, product: jax.Array) -> Any:
        """What the gates see, and the candidate's two parts, of which the reset gate weighs the second."""
        gates = 2 * self.units
        return z[..., :gates] + product[..., :gates], z[..., gates:], product[..., gates:]

    def advance(self, joined: Any, states: Sequence[jax.Array]) -> list[jax.Array]:
        """The new state."""
        gates, candidate, seen = joined
        update, reset = map(self.recurrent_activation, jnp.split(gates, 2, axis=-1))
        return [self._mix(update, candidate + reset * seen, states[0])]

    def _mix(self, update: jax.Array, candidate: jax.Array, h: jax.Array) -> jax.Array:
        return update * h + (1 - update) * self.activation(candidate)

    def _step(self, z: jax.Array, states: Any, noise: Any) -> tuple[jax.Array, list[jax.Array]]:
        if self.reset_after:
            return super()._step(z, states, noise)
        h, kernel, gates = states[0], self.recurrent_kernel.value, 2 * self.units
        product = self._multiply(h, kernel[:, :gates], noise if noise is None else noise[:2], 2)
        update, reset = map(self.recurrent_activation, jnp.split(z[..., :gates] + product, 2, axis=-1))
        seen = self._multiply(reset * h, kernel[:, gates:], noise if noise is None else noise[2:], 1)
        h = self._mix(update, z[..., gates:] + seen, h)
        return h, [h]


class StackedRNNCells(Layer):
    """Cells one upon another, as one cell: each takes the output of the one below it.

    Args:
        cells: The cells, from the input upwards.

    Source: `keras.layers.StackedRNNCells`.
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(self, cell)
        self.cells = list(cells)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the stack and its cells under its name."""
        return cls(**read_arguments(config))

    @property
    def state_size(self) -> list[Any]:
        """The state sizes of the cells."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """The size of the last cell's output."""
        return output_size_of(self.cells[-1])

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """A list of states for each cell."""
        return [initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape: Shape) -> None:
        """Build the cells for the sizes they hand on."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell._build(input_shape)
            input_shape = (input_shape[0], output_size_of(cell))

    def begin(self, sequence: jax.Array, training: bool) -> tuple[jax.Array, dict[str, Any]]:
        """Draw the noise of each cell for a sequence (time, batch, features)."""
        noise, features = [], sequence.shape[-1]
        for cell in self.cells:
            draws = training and isinstance(cell, StepCell)
            noise.append(
                cell.draw_noise(sequence.shape[1], features, sequence.dtype) if draws else (None, None)
            )
            features = output_size_of(cell)
        return sequence, {"noise": noise}

    def call(
        self, inputs: jax.Array, states: Any, training: bool = False, noise: Any = None
    ) -> tuple[jax.Array, list[Any]]:
        """One time step of all cells: the last one's output and all new states."""
        new_states = []
        for index, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            extra = {"noise": noise[index]} if noise is not None and isinstance(cell, StepCell) else {}
            inputs, state = call_cell(cell, inputs, state, training, extra)
            new_states.append(state)
        return inputs, new_states


def check_cell(layer: Layer, cell: Any) -> None:
    """Refuse what is no cell.

    Raises:
        ArgumentError: It has no `call` or no `state_size`.
    """
    for part in ("call", "state_size"):
        if not hasattr(cell, part):
            raise refuse(
                layer,
                f"was given a {type(cell).__name__} as a cell, which has no {part}.",
                "pass an LSTMCell or the like",
            )


def output_size_of(cell: Any) -> int:
    """The size of a cell's output; that of its first state unless it says one."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    return cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size


def initial_state(cell: Any, batch_size: Any, dtype: Any) -> list[Any]:
    """What a cell starts from: zeros, unless it says something else."""
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch_size)
    else:
        sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        state = [jnp.zeros((batch_size, size), dtype) for size in sizes]
    return list(state) if isinstance(state, (list, tuple)) else [state]


def call_cell(
    cell: Any, inputs: Any, states: Any, training: bool, extra: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """One step of any cell: its output, and its states as a list."""
    if isinstance(cell, Layer):
        output, new = cell(inputs, states, training=training, **extra)
    else:
        output, new = cell.call(inputs, states)
    return output, list(new) if isinstance(new, (list, tuple)) else [new]
