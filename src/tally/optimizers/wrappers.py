"""Optimizers made of others: loss scaling, several optimizers at once, optax transformations."""

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp

from tally.core.errors import SavingError
from tally.core.registry import Configured, serialize
from tally.core.variable import Variable
from tally.optimizers.base import Optimizer, Shared, require

if TYPE_CHECKING:
    import optax


class LossScaleOptimizer(Optimizer):
    """Scales the loss so that float16 gradients neither vanish nor overflow, and finds the scale by itself.

    A step with a gradient that is not finite changes no variable and halves the scale; `dynamic_growth_steps`
    finite steps in a row double it.

    Args:
        inner_optimizer: The optimizer that gets the gradients, scaled back; it holds all other options.
        initial_scale: What the loss is multiplied by at first. Too high costs a few steps, too low thousands.
        dynamic_growth_steps: Finite steps after which the scale doubles.
        name: First part of the paths of its variables.

    Source: `keras.optimizers.LossScaleOptimizer`.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
    ) -> None:
        super().__init__(0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        inner_optimizer.loss_scale_factor = None

    def build(self, variables: Sequence[Variable]) -> None:
        """Plan the scale and its counter, and the inner optimizer's state."""
        if not self.built:
            self.step_counter = self.add_variable((), 0, "int32", name="step_counter")
            self.dynamic_scale = self.add_variable((), self.initial_scale, "float32", name="dynamic_scale")
            self.inner_optimizer.build(variables)
            super().build(variables)

    @property
    def variables(self) -> list[Variable]:
        """Its own state, then the inner optimizer's."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self.inner_optimizer.learning_rate = rate

    @property
    def iterations(self) -> Any:
        """The inner optimizer's: steps that were skipped don't count."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale."""
        return loss * (self.dynamic_scale.raw if self.built else self.initial_scale)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """As the inner optimizer does."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def _rate_from_outside(self) -> Any:
        return self.inner_optimizer._rate_from_outside()

    def _constants(self) -> Any:
        return self._revision, self.inner_optimizer._constants()

    def _step(self, gradients: list[Any], rate: Any) -> None:
        self._checked(gradients)
        inner, variables = self.inner_optimizer, self._trainable_variables
        count, scale = self.step_counter.raw, self.dynamic_scale.raw
        values, state = [v.raw for v in variables], [v.raw for v in inner.variables]
        is_finite = jnp.all(jnp.stack([jnp.isfinite(g).all() for g in gradients if g is not None]))
        values, state = jax.lax.cond(
            is_finite,
            lambda: inner._run(state, [None if g is None else g / scale for g in gradients], values, rate),
            lambda: (values, state),
        )
        for variable, value in zip([*variables, *inner.variables], [*values, *state], strict=True):
            variable.assign(value)
        grows = is_finite & (count >= self.dynamic_growth_steps - 1)
        self.step_counter.assign(jnp.where(is_finite & ~grows, count + 1, 0))
        self.dynamic_scale.assign(scale * jnp.where(grows, 2.0, jnp.where(is_finite, 1.0, 0.5)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        return {**Configured.get_config(self), "name": self.name}


class OptimizerMap(Configured, MutableMapping[str, Optimizer]):
    """Which optimizer a variable belongs to, by its path.

    Args:
        default_optimizer: For paths that nothing matches.
        optimizer_map: Paths, or patterns that match a whole path, and their optimizers.

    Raises:
        ArgumentError: Two patterns match one path, or a path is given twice.

    Example:
        >>> from tally.optimizers import SGD, Adam, OptimizerMap
        >>> by_path = OptimizerMap(SGD(), {"encoder/.*": Adam(name="fine")})
        >>> by_path["encoder/dense/kernel"].name
        'fine'

    Source: `keras.optimizers.OptimizerMap`.
    """

    def __init__(
        self, default_optimizer: Optimizer, optimizer_map: Mapping[str, Optimizer] | None = None
    ) -> None:
        self.default_optimizer = default_optimizer
        self._by_pattern = dict(optimizer_map or {})

    def __getitem__(self, key: str) -> Optimizer:
        if key in self._by_pattern:
            return self._by_pattern[key]
        found = [pattern for pattern in self._by_pattern if re.fullmatch(pattern, key)]
        require(
            len(found) <= 1,
            f"'{key}' is matched by {', '.join(map(repr, found))}.",
            do="make the patterns exclude each other",
        )
        return self._by_pattern[found[0]] if found else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Optimizer) -> None:
        require(key not in self._by_pattern, f"'{key}' has an optimizer already.", do="delete it first")
        self._by_pattern[key] = optimizer

    def __delitem__(self, key: str) -> None:
        del self._by_pattern[key]

    def __len__(self) -> int:
        return len(self._by_pattern)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_pattern)

    def __call__(self, variable: Variable) -> Optimizer:
        """The optimizer of a variable."""
        return self[variable.path]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        return {
            "default_optimizer": serialize(self.default_optimizer),
            "optimizer_map": serialize(self._by_pattern),
        }


class MultiOptimizer(Optimizer):
    """Gives each variable to one of several optimizers.

    Args:
        optimizer_map: An `OptimizerMap`, or a function from a variable to its optimizer.
        loss_scale_factor: As in `Optimizer`; the inner optimizers have none of their own.
        name: First part of the paths of its variables.

    Source: `keras.optimizers.MultiOptimizer`.
    """

    def __init__(
        self,
        optimizer_map: OptimizerMap | Callable[[Variable], Optimizer],
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self._optimizer_map = optimizer_map
        self.optimizers: list[Optimizer] = []
        if isinstance(optimizer_map, OptimizerMap):
            for optimizer in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._admit(optimizer)

    def _admit(self, optimizer: Optimizer) -> None:
        require(
            not isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)),
            f"A {type(optimizer).__name__} can't stand inside a MultiOptimizer.",
            do="wrap the MultiOptimizer instead",
        )
        if not any(optimizer is known for known in self.optimizers):
            optimizer.loss_scale_factor = None
            self.optimizers.append(optimizer)

    def build(self, variables: Sequence[Variable]) -> None:
        """Ask for each variable's optimizer and plan the state of all."""
        if self.built:
            return
        chosen = [self._optimizer_map(variable) for variable in variables]
        for optimizer in chosen:
            self._admit(optimizer)
        for optimizer in self.optimizers:
            own = [
                variable for variable, choice in zip(variables, chosen, strict=True) if choice is optimizer
            ]
            if own:
                optimizer.build(own)
        super().build(variables)

    @property
    def variables(self) -> list[Variable]:
        """Its own state, then that of each optimizer."""
        return [
            *self._variables,
            *(variable for optimizer in self.optimizers for variable in optimizer.variables),
        ]

    @property
    def learning_rate(self) -> Any:
        """There is none; each of `optimizers` has its own."""
        raise AttributeError(
            "A MultiOptimizer has no learning rate of its own: read and set those of its `optimizers`."
        )

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        raise AttributeError(
            "A MultiOptimizer has no learning rate of its own: read and set those of its `optimizers`."
        )

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """As each optimizer does with its own."""
        for optimizer in self.optimizers:
            optimizer.finalize_variable_values([v for v in var_list if v in optimizer._positions])

    def _constants(self) -> Any:
        return self._revision, *(optimizer._constants() for optimizer in self.optimizers)

    def _step(self, gradients: list[Any], rate: Any) -> None:
        scale = self.loss_scale_factor or 1.0
        given = {variable: gradient / scale for gradient, variable in self._checked(gradients)}
        for optimizer in self.optimizers:
            own = [given.get(variable) for variable in optimizer._trainable_variables]
            if any(gradient is not None for gradient in own):
                optimizer._step(own, None)
        self._iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        return {**Configured.get_config(self), "name": self.name}


class OptaxOptimizer(Optimizer):
    """Any optax transformation, as it is. Its parameters are a dict from the variables' paths to arrays.

    Clipping, averaging and accumulation happen around it. `learning_rate` is that of `optax.inject_hyperparams`.
    A variable whose gradient is missing stays as it is; the transformation sees zeros for it.

    Args:
        transformation: What optax's functions return, for instance `optax.adamw(1e-3)`.
        **shared: As in `Optimizer`, but for `weight_decay`, which optax has as `optax.add_decayed_weights`.

    Example:
        >>> import optax
        >>> weight = tally.Variable([1.0])
        >>> optimizer = tally.optimizers.get(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
        >>> optimizer.build([weight])
        >>> optimizer.learning_rate = 0.5
        >>> optimizer.apply([jnp.array([1.0])])
        >>> weight.value
        Array([0.5], dtype=float32)
    """

    def __init__(self, transformation: "optax.GradientTransformation", **shared: Unpack[Shared]) -> None:
        require(
            shared.get("weight_decay") is None,
            "An optax transformation decays weights itself.",
            do="put optax.add_decayed_weights into its chain",
        )
        super().__init__(lambda: 0.0, **shared)
        self.transformation = transformation

    def build(self, variables: Sequence[Variable]) -> None:
        """Plan the state's leaves in JAX's order, named by their places and computed when first read."""
        if self.built:
            return
        super().build(variables)
        plan = {v.path: jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables}
        require(
            len(plan) == len(variables), "Two variables have one path.", do="give the layers different names"
        )
        init = self.transformation.init
        self._is_key = jax.tree.map(_is_key, jax.eval_shape(init, plan))
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(
            jax.eval_shape(lambda p: _as_numbers(init(p)), plan)
        )
        first: dict[int, jax.Array] = {}

        def take(index: int) -> jax.Array:
            if not first:
                first.update(enumerate(jax.tree.leaves(_as_numbers(init(self._params())))))
            # Optax may return the parameters themselves, which are donated too.
            return jnp.copy(first.pop(index))

        self._leaves = {}
        for index, (place, leaf) in enumerate(leaves):
            path = jax.tree_util.keystr(place, simple=True, separator="/")
            self._leaves[path] = self.add_variable(
                leaf.shape,
                lambda shape, dtype, index=index: take(index),
                leaf.dtype,
                name=path.replace("/", "_"),
            )

    def _params(self) -> dict[str, jax.Array]:
        return {variable.path: variable.raw for variable in self._trainable_variables}

    def _rate_variable(self) -> Variable:
        for path, leaf in self._leaves.items() if self.built else ():
            if path.endswith("hyperparams/learning_rate"):
                return leaf
        raise AttributeError(
            "The learning rate lies inside the optax transformation: make it with "
            "optax.inject_hyperparams(optax.adam)(learning_rate=...) to read and set it in a built optimizer."
        )

    @property
    def learning_rate(self) -> Any:
        """The variable that `optax.inject_hyperparams` reads."""
        return self._rate_variable()

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self._rate_variable().assign(rate)

    def _move(self, gradients: list[jax.Array], variables: list[Variable], rate: Any) -> None:
        import optax

        given, params = dict(zip(variables, gradients, strict=True)), self._params()
        whole = {
            v.path: given[v].astype(v.dtype) if v in given else jnp.zeros(v.shape, v.dtype)
            for v in self._trainable_variables
        }
        state = self._structure.unflatten([leaf.raw for leaf in self._leaves.values()])
        state = jax.tree.map(
            lambda x, is_key: jax.random.wrap_key_data(x) if is_key else x, state, self._is_key
        )
        updates, state = self.transformation.update(whole, state, params)
        new: Any = optax.apply_updates(params, updates)
        for variable in variables:
            variable.assign(new[variable.path])
        for leaf, value in zip(self._leaves.values(), jax.tree.leaves(_as_numbers(state)), strict=True):
            leaf.assign(value)

    def get_config(self) -> dict[str, Any]:
        """An optax transformation has no configuration.

        Raises:
            SavingError: Always.
        """
        raise SavingError(
            "An optax transformation is made of functions and can't be written into a configuration.",
            do="save the weights or the model without its optimizer, and compile again after loading",
        )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_numbers(state: Any) -> Any:
    """Write random keys as the integers they are made of, which a variable and a file can hold."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if _is_key(jnp.asarray(leaf)) else jnp.asarray(leaf), state
    )
