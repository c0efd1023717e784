"""What every metric shares: variables that collect over batches, and the mean and the sum built on them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally.core.dtype import floatx, get_policy
from tally.core.errors import ArgumentError
from tally.core.masks import get_mask
from tally.core.naming import auto_name
from tally.core.registry import Configured, accepted_arguments, resolve, serialize, snake_case
from tally.core.tracking import find
from tally.core.variable import Values, Variable, as_array, name_scope, substitute
from tally.losses.base import Loss, function_config, merge_mask, safe_divide, spread


class Metric(Configured):
    """A figure collected over batches.

    Override `update_state` and `result`. What `update_state` changes must be variables made with `add_variable`, and it
    must change them through `assign`, so that a training step can run it inside a compiled function.

    Args:
        dtype: Dtype it is computed in; `floatx()` by default.
        name: Name in logs; the class's name by default.

    Example:
        >>> class Largest(tally.metrics.Metric):
        ...     def __init__(self, name="largest", **kwargs):
        ...         super().__init__(name=name, **kwargs)
        ...         self.largest = self.add_variable((), "zeros", name="largest")
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(jnp.maximum(self.largest.value, jnp.max(y_pred)))
        ...     def result(self):
        ...         return self.largest.value
        >>> float(Largest()(None, np.array([1.0, 3.0])))
        3.0

    Source: `keras.metrics.Metric`.
    """

    direction: ClassVar[str | None] = None
    """Whether `"up"` or `"down"` is better, where that is known; callbacks that watch a metric go by it."""

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or auto_name(snake_case(type(self).__name__))
        self.dtype = get_policy(dtype or floatx()).compute_dtype
        self._added: list[Variable] = []

    def add_variable(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Make a variable that collects.

        Args:
            shape: Its sizes.
            initializer: A name, an initializer, or a function `(shape, dtype)`; zeros by default.
            dtype: Its dtype; `floatx()` by default.
            aggregation: How replicas combine it.
            name: Last part of its path.

        Raises:
            ArgumentError: The metric's `__init__` has not called `super().__init__()`.
        """
        if "_added" not in vars(self):
            raise ArgumentError(
                f"{type(self).__name__} added a variable before it was set up.",
                do="call super().__init__() at the start of its __init__",
            )
        if isinstance(initializer, (str, dict)):
            import tally.initializers  # noqa: F401 - their names are known once they are loaded

            initializer = resolve("initializers", initializer)
        with name_scope(self.name):
            variable = Variable(
                initializer or jnp.zeros,
                shape=tuple(shape),
                dtype=dtype or floatx(),
                trainable=False,
                autocast=False,
                aggregation=aggregation,
                name=name,
            )
        self._added.append(variable)
        return variable

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Make a variable that collects: `add_variable` under the name layers use."""
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """What it collects in, metrics it holds included."""
        found = dict.fromkeys(self._added)
        inner = find({**vars(self), "_added": None}, lambda value: isinstance(value, (Variable, Metric)))
        for _, thing in inner:
            found.update(dict.fromkeys([thing] if isinstance(thing, Variable) else thing.variables))
        return list(found)

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Take a batch in; usually `(y_true, y_pred, sample_weight=None)`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method update_state.")

    def result(self) -> Any:
        """The figure for the batches so far."""
        raise NotImplementedError(f"{type(self).__name__} needs a method result.")

    def reset_state(self) -> None:
        """Begin anew: every variable becomes 0."""
        for variable in self.variables:
            variable.assign(jnp.zeros(variable.shape, variable.dtype))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a batch in and give the figure so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def stateless_update_state(
        self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any
    ) -> list[jax.Array]:
        """The values of `variables` after a batch, for values before it; nothing of the metric changes."""
        with self._standing_for(metric_variables) as values:
            self.update_state(*args, **kwargs)
        return [values[variable] for variable in self.variables]

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The figure for these values of `variables`."""
        with self._standing_for(metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[jax.Array]:
        """The values of `variables` before the first batch."""
        with substitute(Values()) as values:
            self.reset_state()
        return [values.get(variable, variable.raw) for variable in self.variables]

    @contextmanager
    def _standing_for(self, metric_variables: Sequence[Any]) -> Iterator[Values]:
        variables = self.variables
        if len(metric_variables) != len(variables):
            raise ArgumentError(
                f"{type(self).__name__} '{self.name}' has {len(variables)} variables, but was given "
                f"{len(metric_variables)} values.",
                do="pass one value for each of metric.variables; a metric that sizes them by the data has them "
                "after its first update",
            )
        with substitute(Values(zip(variables, map(as_array, metric_variables), strict=True))) as values:
            yield values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        accepted = accepted_arguments(type(self))
        now = {"name": self.name, "dtype": self.dtype}
        config = {name: serialize(value) for name, value in self._arguments.items()}
        return config | {name: value for name, value in now.items() if accepted is None or name in accepted}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class Sum(Metric):
    """The weighted sum of all values.

    Args:
        name, dtype: As `Metric` takes them.

    Source: `keras.metrics.Sum`.
    """

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(dtype=self.dtype, name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add values.

        Args:
            values: Any shape.
            sample_weight: One weight per sample, or per value.
        """
        values, _ = weigh(values, sample_weight, self.dtype, jnp.sum)
        self.total.assign_add(values.sum())

    def result(self) -> jax.Array:
        """The sum so far."""
        return self.total.value


class Mean(Metric):
    """The weighted mean of all values; each sample counts once, however many values it has.

    Args:
        name, dtype: As `Metric` takes them.

    Example:
        >>> mean = tally.metrics.Mean()
        >>> mean.update_state([1.0, 3.0])
        >>> float(mean.result())
        2.0

    Source: `keras.metrics.Mean`.
    """

    def __init__(self, name: str = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(dtype=self.dtype, name="total")
        self.count = self.add_variable(dtype=self.dtype, name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Take values in.

        Args:
            values: Any shape.
            sample_weight: One weight per sample, or per value.
        """
        values, weights = weigh(values, sample_weight, self.dtype, jnp.mean)
        self.total.assign_add(values.sum())
        self.count.assign_add(values.size if weights is None else weights.sum())

    def result(self) -> jax.Array:
        """The mean so far; 0 before the first value."""
        return safe_divide(self.total.value, self.count.value)


class MeanMetricWrapper(Mean):
    """The mean over samples of what a function says of each.

    Args:
        fn: Function `(y_true, y_pred, **kwargs)` that gives one value per sample, or a `Loss`.
        name: Name in logs; the function's unless another is given.
        dtype: As `Metric` takes it.
        kwargs: Passed to the function; each also becomes an attribute.

    Example:
        >>> off = tally.metrics.MeanMetricWrapper(lambda y_true, y_pred: abs(y_true - y_pred), name="off")
        >>> float(off(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        1.0

    Source: `keras.metrics.MeanMetricWrapper`.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        self.fn = resolve("losses", fn)
        super().__init__(
            name or getattr(self.fn, "__name__", None) or getattr(self.fn, "name", "mean"), dtype
        )
        self.options = kwargs
        vars(self).update(kwargs)
        is_loss = isinstance(self.fn, Loss) or getattr(self.fn, "__module__", "").startswith("tally.losses")
        if is_loss and self.direction is None:
            self.direction = "down"  # type: ignore[misc]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take a batch in.

        Args:
            y_true: Labels.
            y_pred: Predictions; a mask attached to them leaves positions out.
            sample_weight: One weight per sample, or per value of the function.
        """
        mask = get_mask(y_pred)
        values = self.fn(y_true, y_pred, **self.options)
        super().update_state(values, merge_mask(sample_weight, mask, self.dtype, rescale=False))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        config = super().get_config()
        return config | {"fn": function_config(self.fn)} if "fn" in config else config


class _Optionless(MeanMetricWrapper):
    """A mean whose function takes no options; a subclass names the function."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(type(self).function, name, dtype)


def weigh(
    values: Any, sample_weight: Any, dtype: Any, reduce: Callable[..., jax.Array]
) -> tuple[jax.Array, jax.Array | None]:
    """One weighted value and one weight per sample.

    Args:
        values: Any shape; a mask attached to them leaves positions out.
        sample_weight: Weights of the values' leading axes, or None.
        dtype: Dtype of both results.
        reduce: `jnp.mean` or `jnp.sum`: how a sample's own values become one.

    Returns:
        Values (batch,) and weights (batch,); None for the weights where all are 1.
    """
    weights = merge_mask(sample_weight, get_mask(values), dtype, rescale=False)
    values = as_array(values, dtype)
    if weights is not None:
        if values.ndim == weights.ndim + 1 and values.shape[-1] == 1:
            values = values[..., 0]
        if weights.ndim < values.ndim:
            values = reduce(values, axis=tuple(range(weights.ndim, values.ndim)))
        weights = jnp.broadcast_to(spread(weights, values.shape), values.shape)
        values = values * weights
        weights = reduce(weights, axis=tuple(range(1, weights.ndim)))
    return reduce(values, axis=tuple(range(1, values.ndim))), weights
