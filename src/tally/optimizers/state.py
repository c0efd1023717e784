"""What an optimizer remembers: its variables, the count of its steps and its learning rate."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from tally.core.dtype import floatx
from tally.core.errors import ArgumentError
from tally.core.registry import Configured, resolve
from tally.core.variable import Variable, name_scope
from tally.initializers import Constant
from tally.optimizers.schedules import LearningRateSchedule

Rate = float | LearningRateSchedule | Callable[..., Any]


class State(Configured):
    """The variables of an optimizer, in the order in which files have them; `Optimizer` changes them step by step."""

    name: str
    built: bool
    gradient_accumulation_steps: int | None
    _revision: int
    _variables: list[Variable]
    _trainable_variables: list[Variable]
    _positions: dict[Variable, int]
    _iterations: Variable
    _learning_rate: Any

    @property
    def trained_variables(self) -> list[Variable]:
        """The variables it was built for; empty before."""
        return list(self._trainable_variables)

    @property
    def variables(self) -> list[Variable]:
        """The state as files order it: iteration, learning rate, averages, accumulators, slots."""
        return list(self._variables)

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = 0.0,
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Plan one more array of state that starts at a number, or as an initializer says."""
        if isinstance(initializer, str):
            initializer = resolve("initializers", initializer)
        elif not callable(initializer):
            initializer = Constant(initializer)
        with name_scope(self.name):
            variable = Variable(
                initializer,
                tuple(shape),
                dtype or floatx(),
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = 0.0
    ) -> Variable:
        """Plan an array of the shape and dtype of a variable, named after it."""
        return self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.dtype,
            name=f"{reference_variable.path.replace('/', '_')}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Variable], name: str | Sequence[str], initializer: Any = 0.0
    ) -> Any:
        """Plan one array per variable; with several names one list per name."""
        names = [name] if isinstance(name, str) else list(name)
        starts = initializer if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        rows = [
            [
                self.add_variable_from_reference(variable, word, start)
                for word, start in zip(names, starts, strict=True)
            ]
            for variable in trainable_variables
        ]
        lists = tuple([row[i] for row in rows] for i in range(len(names)))
        return lists[0] if isinstance(name, str) else lists

    def _get_variable_index(self, variable: Variable) -> int:
        return self._positions[variable]

    def assign(self, variable: Variable, value: Any) -> None:
        """Set a variable; for `update_step`."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Add to a variable; for `update_step`."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtract from a variable; for `update_step`."""
        variable.assign_sub(value)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the whole state, in the order of `variables`."""
        self._require_built("set_weights")
        for variable, value in zip(
            self.variables, self._counted(weights, self.variables, "values"), strict=True
        ):
            variable.assign(value)

    # -- the learning rate -----------------------------------------------------------------------------------
    def _planned_rate(self, rate: Any) -> Any:
        if callable(rate) and not isinstance(rate, Variable):
            return rate
        try:
            number = float(rate)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"The learning rate can't be {rate!r}.",
                do="pass a number, a schedule, or a function of the step number",
            ) from None
        return self.add_variable((), number, name="learning_rate")

    @property
    def learning_rate(self) -> Any:
        """The rate as a Variable, or the schedule's at this step. Setting a number compiles nothing anew.

        Raises:
            ArgumentError: A number is set where a schedule decides.
        """
        return self._learning_rate if isinstance(self._learning_rate, Variable) else self._current_rate()

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        is_variable = isinstance(self._learning_rate, Variable)
        if callable(rate) and not isinstance(rate, Variable):
            if is_variable:
                self._variables.remove(self._learning_rate)
            self._learning_rate = rate
            self._revision += 1
        elif is_variable:
            self._learning_rate.assign(rate)
        else:
            raise ArgumentError(
                f"The learning rate of '{self.name}' follows a schedule and can't be set to a number.",
                do="make the optimizer with a number as learning_rate, or set another schedule",
            )

    def _current_rate(self) -> Any:
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate.raw
        return self._learning_rate(self._iterations.raw) if self._takes_step else self._learning_rate()

    @property
    def _takes_step(self) -> bool:
        rate = self._learning_rate
        return isinstance(rate, LearningRateSchedule) or any(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in inspect.signature(rate).parameters.values()
        )

    def _rate_from_outside(self) -> Any:
        """What a function without arguments says now: it is asked at each step, not once when compiling."""
        fixed = isinstance(self._learning_rate, Variable) or self._takes_step
        return None if fixed else jnp.asarray(self._current_rate(), floatx())

    @property
    def iterations(self) -> Any:
        """Number of updates so far."""
        if self.gradient_accumulation_steps:
            return self._iterations.raw // self.gradient_accumulation_steps
        return self._iterations

    # -- files -----------------------------------------------------------------------------------------------
    def save_own_variables(self, store: Any) -> None:
        """Write the state under "0", "1", ... as `.keras` files hold it."""
        for index, variable in enumerate(self.variables):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read what `save_own_variables` wrote; from a store of another size read nothing, and warn."""
        if len(store) != len(self.variables):
            warnings.warn(
                f"The state of optimizer '{self.name}' was not loaded: "
                f"it has {len(self.variables)} variables, the file {len(store)}.",
                stacklevel=2,
            )
            return
        for index, variable in enumerate(self.variables):
            variable.assign(store[str(index)])

    # -- checks ----------------------------------------------------------------------------------------------
    def _require_built(self, action: str) -> None:
        require(
            self.built,
            f"The optimizer '{self.name}' is not built; {action} needs its variables.",
            do="call build(variables)",
        )

    def _counted(self, given: Sequence[Any], wanted: Sequence[Any], what: str) -> Sequence[Any]:
        require(
            len(given) == len(wanted),
            f"The optimizer '{self.name}' was given {len(given)} {what} for {len(wanted)} variables.",
            do="pass one for each variable, in the same order",
        )
        return given


def require(holds: bool, what: str, do: str = "") -> None:
    """Raise an ArgumentError unless something holds."""
    if not holds:
        raise ArgumentError(what, do=do)
