"""What every optimizer shares: its arguments, and the step around a rule."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jax.core import Tracer

from tally.core.errors import ArgumentError, ShapeError, nearest
from tally.core.naming import auto_name
from tally.core.registry import snake_case
from tally.core.stacks import by_block
from tally.core.variable import Values, Variable, materialize, substitute
from tally.initializers import Constant
from tally.optimizers.state import Rate, State, require

if TYPE_CHECKING:
    import optax  # imported when something of it is used: that takes longer than all optimizers do

Gradients = Sequence[Any]
Slots = dict[str, jax.Array]


class Slot(NamedTuple):
    """One array that an optimizer remembers for a variable.

    `initial` is its first value or a function `(shape, dtype) -> array`; shape and dtype are the variable's
    unless given.
    """

    name: str
    initial: Any = 0.0
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


class Shared(TypedDict, total=False):
    """The arguments that every optimizer takes beside its own; `Optimizer` says what they mean."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


class Optimizer(State):
    """Changes variables by their gradients.

    A subclass names what it remembers in `slots` and says in `rule` how one array moves. A subclass written
    for Keras, with `build` and `update_step`, works too. A step divides the gradients by `loss_scale_factor`,
    averages them over `gradient_accumulation_steps`, clips them, decays weights, applies the rule, averages
    weights and applies constraints.

    Args:
        learning_rate: A number, a schedule, a function of the step number (such as an optax schedule), or a
            function without arguments, which a compiled training step reads once, when it is compiled.
        weight_decay: Decoupled: before the rule, variables are multiplied by `1 - rate * weight_decay`.
        clipnorm: Longest norm that each gradient may have.
        clipvalue: Largest magnitude that each number of a gradient may have.
        global_clipnorm: Longest norm that all gradients together may have.
        use_ema: Whether to keep a running average of the variables, which replaces them when training ends.
        ema_momentum: How much of that average stays at each step.
        ema_overwrite_frequency: Also replace the variables by their average every so many updates.
        loss_scale_factor: What `scale_loss` multiplies the loss by; gradients are divided by it.
        gradient_accumulation_steps: Update once in so many steps, by the mean gradient of those steps.
        name: First part of the paths of its variables.

    Raises:
        ArgumentError: An argument is unknown or out of range, or two ways of clipping are given.

    Example:
        >>> class Signs(tally.optimizers.Optimizer):
        ...     def rule(self, gradient, value, slots, rate, step):
        ...         return -rate * jnp.sign(gradient), {}
        >>> weight = tally.Variable([1.0, -1.0])
        >>> Signs(0.5).apply([jnp.array([3.0, -4.0])], [weight])
        >>> weight.value
        Array([ 0.5, -0.5], dtype=float32)

    Source: `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        self._revision = 0
        if unknown.pop("decay", None) is not None:
            warnings.warn("`decay` has no effect; pass a schedule as learning_rate.", stacklevel=3)
        for word in unknown:
            known = _arguments_of(type(self))
            raise ArgumentError(
                f"{type(self).__name__} has no argument '{word}'.{nearest(word, known)}",
                do=f"use one of {', '.join(known)}",
            )
        require(
            sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) <= 1,
            "Only one of clipnorm, clipvalue and global_clipnorm can be given.",
        )
        require(
            not gradient_accumulation_steps or gradient_accumulation_steps >= 2,
            f"gradient_accumulation_steps must be 2 or more, not {gradient_accumulation_steps}.",
        )
        require(0 <= ema_momentum <= 1, f"ema_momentum must lie between 0 and 1, not at {ema_momentum}.")
        require(
            ema_overwrite_frequency is None or ema_overwrite_frequency >= 1,
            f"ema_overwrite_frequency must be 1 or more, not {ema_overwrite_frequency}.",
        )
        self.name = name or auto_name(snake_case(type(self).__name__))
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._positions: dict[Variable, int] = {}
        self._slots: list[dict[str, Variable]] = []
        self._averages: list[Variable] = []
        self._accumulators: list[Variable] = []
        self._undecayed: set[Variable] = set()
        self._undecayed_names: list[str] = []
        # jit would keep the programs of a bound method for good; those of a lambda go with their optimizer.
        self._program = jax.jit(
            lambda state, gradients, values, rate, constants: self._run(state, gradients, values, rate),
            static_argnames="constants",
        )
        self._iterations = self.add_variable((), dtype="int32", name="iteration")
        self._learning_rate: Any = self._planned_rate(learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_") and not isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, "_revision", self._revision + 1)

    # -- what a subclass says --------------------------------------------------------------------------------
    def slots(self, variable: Variable) -> Sequence[Sequence[Slot]]:
        """What is remembered for a variable, in groups: state lies by group, then by variable."""
        return ()

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """How one array moves: a pure function, in the variable's dtype.

        Args:
            gradient: The gradient, clipped.
            value: The variable's value, weight decay applied.
            slots: Its slots by name.
            rate: The learning rate.
            step: Number of this update, from 1.

        Returns:
            What is added to the value, and the new values of slots by name.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither a rule nor an update_step.")

    def update_step(self, gradient: jax.Array, variable: Variable, learning_rate: jax.Array) -> None:
        """Update one variable and its slots by the rule; override it to write an optimizer as for Keras."""
        held = self._slots[self._get_variable_index(variable)]
        rule = by_block(variable, self.rule, in_axes=(0, 0, 0, None, None))
        change, changed = rule(
            gradient.astype(variable.dtype),
            variable.raw,
            {name: slot.raw for name, slot in held.items()},
            jnp.asarray(learning_rate, variable.dtype),
            (self.iterations + 1).astype(variable.dtype),
        )
        variable.assign(variable.raw + change)
        for name, value in changed.items():
            held[name].assign(value)

    # -- the state -------------------------------------------------------------------------------------------
    def build(self, variables: Sequence[Variable]) -> None:
        """Plan the state for these variables; nothing is allocated, and later calls change nothing."""
        if self.built:
            return
        self._trainable_variables = list(variables)
        self._positions = {variable: index for index, variable in enumerate(variables)}
        self._slots = [{} for _ in variables]
        if self.use_ema:
            self._averages = [self.add_variable_from_reference(v, "average") for v in variables]
        if self.gradient_accumulation_steps:
            self._accumulators = [
                self.add_variable_from_reference(v, "gradient_accumulator") for v in variables
            ]
        groups = [self.slots(variable) for variable in variables]
        for group in range(max(map(len, groups), default=0)):
            for variable, held, of_variable in zip(variables, self._slots, groups, strict=True):
                for slot in of_variable[group]:
                    held[slot.name] = self.add_variable(
                        variable.shape if slot.shape is None else slot.shape,
                        slot.initial,
                        slot.dtype or variable.dtype,
                        name=f"{variable.path.replace('/', '_')}_{slot.name}",
                    )
        self.built = True

    # -- the step --------------------------------------------------------------------------------------------
    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Update variables, given as pairs of gradient and variable; returns the count of steps."""
        gradients, variables = zip(*grads_and_vars, strict=True)
        self.apply(gradients, variables)
        return self._iterations

    def apply(self, grads: Gradients, trainable_variables: Sequence[Variable] | None = None) -> None:
        """Update variables by their gradients in one compiled program, or as a part of the one being traced.

        Args:
            grads: One gradient per variable; None leaves its variable as it is.
            trainable_variables: Those the optimizer was built with, or some of them. The first call builds.

        Raises:
            ArgumentError: The numbers of gradients and variables differ, all are None, or a variable is new.
            ShapeError: A gradient hasn't its variable's shape.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            self._require_built("apply without variables")
            trainable_variables = self._trainable_variables
        if not self.built:
            self.build(trainable_variables)
        arranged = self._arranged(self._counted(grads, trainable_variables, "gradients"), trainable_variables)
        if not any(isinstance(gradient, Tracer) for gradient in grads):
            materialize(self.variables)
        held = [*self._trainable_variables, *self.variables]
        values, state = self._program(
            [v.raw for v in self.variables],
            arranged,
            [v.raw for v in self._trainable_variables],
            self._rate_from_outside(),
            constants=self._constants(),
        )
        for variable, value in zip(held, [*values, *state], strict=True):
            variable.assign(value)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Gradients, trainable_variables: Sequence[Any]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Compute a step without changing anything: a pure function for `jit`.

        Args:
            optimizer_variables: Values of `variables`.
            grads: One gradient per variable the optimizer was built with; None leaves its variable as it is.
            trainable_variables: The values of those variables.

        Returns:
            The new values of the trainable variables and of the optimizer's.
        """
        self._require_built("stateless_apply")
        self._counted(optimizer_variables, self.variables, "values of its own variables")
        self._counted(trainable_variables, self._trainable_variables, "values of trainable variables")
        self._counted(grads, self._trainable_variables, "gradients")
        return self._run(optimizer_variables, list(grads), trainable_variables, None)

    def _run(
        self, state: Any, gradients: Any, values: Any, rate: Any
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        held = [*self._trainable_variables, *self.variables]
        with jax.named_scope(self.name):
            new = _purely(lambda: self._step(gradients, rate), held)([*values, *state])
        return new[: len(values)], new[len(values) :]

    def _step(self, gradients: list[Any], rate: Any) -> None:
        """Advance variables and state; runs while both stand for the values of a pure call."""
        pairs = self._checked(gradients)
        variables = [variable for _, variable in pairs]
        scale = self.loss_scale_factor
        arrays = [jnp.asarray(g) if scale is None else g / scale for g, _ in pairs]
        rate = self._current_rate() if rate is None else rate
        if self.gradient_accumulation_steps:
            self._accumulate(arrays, variables, rate)
        else:
            self._update(arrays, variables, rate)
        if self.use_ema:
            self._average()
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.raw))
        self._iterations.assign_add(1)

    def _update(self, gradients: list[jax.Array], variables: list[Variable], rate: Any) -> None:
        self._decay(variables, rate)
        self._move(self._clipped(gradients, variables), variables, rate)

    def _move(self, gradients: list[jax.Array], variables: list[Variable], rate: Any) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            self.update_step(gradient, variable, rate)

    def _accumulate(self, gradients: list[jax.Array], variables: list[Variable], rate: Any) -> None:
        steps = self.gradient_accumulation_steps or 1
        sums = [self._accumulators[self._positions[v]] for v in variables]
        for total, gradient in zip(sums, gradients, strict=True):
            total.assign_add(gradient)

        def update() -> None:
            self._update([total.raw / steps for total in sums], variables, rate)
            for total in sums:
                total.assign(jnp.zeros(total.shape, total.dtype))

        held = [*variables, *self.variables]
        due = (self._iterations.raw + 1) % steps == 0
        new = jax.lax.cond(due, _purely(update, held), lambda values: values, [v.raw for v in held])
        for variable, value in zip(held, new, strict=True):
            variable.assign(value)

    def _clipped(self, gradients: list[jax.Array], variables: list[Variable]) -> Any:
        clipvalue = self.clipvalue or 0.0
        if not (self.clipnorm or self.global_clipnorm or clipvalue):
            return gradients
        import optax

        stateless = optax.EmptyState()
        if self.clipnorm:
            clip = optax.clip_by_global_norm(self.clipnorm)
            alone = [by_block(variable, lambda g: clip.update(g, stateless)[0]) for variable in variables]
            return [clipped(gradient) for clipped, gradient in zip(alone, gradients, strict=True)]
        if self.global_clipnorm:
            return optax.clip_by_global_norm(self.global_clipnorm).update(gradients, stateless)[0]
        return optax.clip(clipvalue).update(gradients, stateless)[0]

    def _decay(self, variables: list[Variable], rate: Any) -> None:
        for variable in variables:
            amount = self._decay_of(variable)
            if amount and self._is_decayed(variable):
                value = variable.raw
                variable.assign(value - value * (amount * jnp.asarray(rate, value.dtype)))

    def _decay_of(self, variable: Variable) -> float | None:
        return self.weight_decay

    def _is_decayed(self, variable: Variable) -> bool:
        return variable not in self._undecayed and not any(
            re.search(p, variable.name) for p in self._undecayed_names
        )

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Leave variables out of weight decay; call it before the optimizer is built.

        Args:
            var_list: These variables.
            var_names: Variables in whose name one of these patterns is found: `["bias", "gamma"]`.
        """
        require(
            not self.built,
            "exclude_from_weight_decay came after the optimizer was built.",
            do="call it before fit",
        )
        self._undecayed, self._undecayed_names = set(var_list or ()), list(var_names or ())

    def _average(self) -> None:
        """Update the running averages of all variables; at times put them in the variables' place."""
        count = jnp.asarray(self.iterations)
        for variable, average in zip(self._trainable_variables, self._averages, strict=True):
            momentum = jnp.where(count == 0, 0.0, self.ema_momentum).astype(variable.dtype)
            average.assign(momentum * average.raw + (1 - momentum) * variable.raw)
            if self.ema_overwrite_frequency:
                due = (count + 1) % self.ema_overwrite_frequency == 0
                variable.assign(jnp.where(due, average.raw, variable.raw))

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """With `use_ema`, put the running averages in the variables' place, once training ends."""
        if self.use_ema:
            for variable in var_list:
                variable.assign(self._averages[self._positions[variable]].raw)

    def scale_loss(self, loss: Any) -> Any:
        """The loss that gradients are to be taken of."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    # -- checks ----------------------------------------------------------------------------------------------
    def _constants(self) -> Any:
        """Changes whenever an attribute that the compiled step holds as a constant may have changed."""
        return self._revision

    def _arranged(self, gradients: Gradients, variables: Sequence[Variable]) -> list[Any]:
        """One gradient for each variable the optimizer was built with; None for those that are not passed."""
        if variables is self._trainable_variables:
            return list(gradients)
        arranged: list[Any] = [None] * len(self._trainable_variables)
        for gradient, variable in zip(gradients, variables, strict=True):
            position = self._positions.get(variable)
            if position is None:
                raise ArgumentError(
                    f"The optimizer '{self.name}' was not built with the variable '{variable.path}'.",
                    do="compile the model again after unfreezing or adding layers, or make another optimizer",
                )
            arranged[position] = gradient
        missing = [v.path for g, v in zip(gradients, variables, strict=True) if g is None]
        if missing and len(missing) < len(variables):
            warnings.warn(
                f"No gradient reaches {', '.join(missing)}, which stays as it is: the loss doesn't use it.",
                stacklevel=4,
            )
        return arranged

    def _checked(self, gradients: list[Any]) -> list[tuple[Any, Variable]]:
        pairs = [(g, v) for g, v in zip(gradients, self._trainable_variables, strict=True) if g is not None]
        require(
            bool(pairs),
            f"The optimizer '{self.name}' was given no gradient for any variable: all are None.",
            do="check that the loss depends on the model's output",
        )
        for gradient, variable in pairs:
            if jnp.shape(gradient) != variable.shape:
                raise ShapeError(
                    f"The gradient of '{variable.path}' has shape {jnp.shape(gradient)}; "
                    f"the variable has {variable.shape}.",
                    where=f"made at {variable.origin}",
                    do="pass gradients in the order of the variables",
                )
        return pairs

    # -- configuration, files, optax -------------------------------------------------------------------------
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values, with the learning rate as it is now."""
        config = {**shared_arguments(), **super().get_config(), "name": self.name}
        if isinstance(self._learning_rate, Variable):
            # The shortest number that float32 rounds to this: 0.001 and not 0.0010000000474974513.
            config["learning_rate"] = float(str(self._learning_rate.numpy()))
        return config

    def as_optax(self) -> "optax.GradientTransformation":
        """This optimizer as an optax transformation, for training loops written with optax.

        Example:
            >>> import optax
            >>> transformation = tally.optimizers.SGD(0.5).as_optax()
            >>> params, gradients = {"bias": jnp.array([1.0, 2.0])}, {"bias": jnp.array([1.0, -1.0])}
            >>> state = transformation.init(params)
            >>> updates, state = transformation.update(gradients, state, params)
            >>> optax.apply_updates(params, updates)
            {'bias': Array([0.5, 2.5], dtype=float32)}
        """
        import optax

        def init(params: Any) -> list[jax.Array]:
            leaves = jax.tree_util.tree_leaves_with_path(params)
            name = partial(jax.tree_util.keystr, simple=True, separator="/")
            self.build(
                [Variable(Constant(), leaf.shape, leaf.dtype, name=name(path)) for path, leaf in leaves]
            )
            with substitute(
                Values(zip(self._trainable_variables, (leaf for _, leaf in leaves), strict=True))
            ):
                return [
                    v.initializer(v.shape, dtype=v.dtype) if v.is_planned else v.raw for v in self.variables
                ]

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, list[jax.Array]]:
            require(
                params is not None,
                f"The optimizer '{self.name}' needs params.",
                do="call update(grads, state, params)",
            )
            values, structure = jax.tree.flatten(params)
            new, state = self.stateless_apply(state, jax.tree.leaves(updates), values)
            return structure.unflatten(
                [after - before for after, before in zip(new, values, strict=True)]
            ), state

        return optax.GradientTransformation(init, update)


def _purely(
    change: Callable[[], None], variables: list[Variable]
) -> Callable[[Sequence[Any]], list[jax.Array]]:
    """Turn something that assigns variables into a function from their values to their new values."""

    def run(values: Sequence[Any]) -> list[jax.Array]:
        with substitute(Values(zip(variables, map(jnp.asarray, values), strict=True))) as held:
            change()
            return [held[variable] for variable in variables]

    return run


def _arguments_of(cls: type[Optimizer]) -> list[str]:
    """The names of all arguments that an optimizer takes, its own and the shared ones."""
    signatures = [inspect.signature(base.__init__) for base in cls.__mro__ if issubclass(base, Optimizer)]
    named = [p.name for s in signatures for p in s.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return [name for name in dict.fromkeys(named) if name != "self"]


def shared_arguments() -> dict[str, Any]:
    """The arguments every optimizer takes and their defaults."""
    parameters = inspect.signature(Optimizer.__init__).parameters
    return {name: parameters[name].default for name in Shared.__annotations__}


def toward(average: jax.Array, target: jax.Array, keep: float | jax.Array) -> jax.Array:
    """Move a running average toward a target, keeping this much of it."""
    return average + (target - average) * (1 - keep)
