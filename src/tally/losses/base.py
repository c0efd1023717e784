"""What every loss shares: bringing labels and predictions together, weighting, masking and reducing."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally.core.dtype import epsilon, floatx, get_policy, is_floating
from tally.core.errors import ArgumentError, ShapeError, nearest
from tally.core.layer import describe
from tally.core.masks import get_mask
from tally.core.naming import auto_name
from tally.core.registry import Configured, accepted_arguments, resolve, serialize, snake_case
from tally.core.symbol import leaves, map_tree
from tally.core.variable import as_array

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class Loss(Configured):
    """A number to make small: how far predictions are from labels.

    Override `call(y_true, y_pred)` and return one value per sample (or per sample and time step, ...). Masks, sample
    weights and the reduction are applied to what it returns.

    Args:
        name: Name in logs; the class's name by default.
        reduction: `"sum_over_batch_size"` or `"mean"` (the mean over all values), `"mean_with_sample_weight"` (their
            sum over the sum of the weights), `"sum"`, or `"none"` or None (the values as they are).
        dtype: Dtype the loss is computed in; `floatx()` by default.

    Raises:
        ArgumentError: The reduction is unknown.

    Example:
        >>> class Distance(tally.losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return abs(y_true - y_pred).max(axis=-1)
        >>> float(Distance()(np.zeros((2, 3)), np.ones((2, 3))))
        1.0

    Source: `keras.losses.Loss`.
    """

    takes_class_numbers: ClassVar[bool] = False
    """Whether integer labels stay integers: a class number is no quantity, and bfloat16 can't tell 256 from 257."""

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        self.name = name or auto_name(snake_case(type(self).__name__))
        self.reduction = standardize_reduction(reduction)
        self.dtype = get_policy(dtype or floatx()).compute_dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> jax.Array:
        """The reduced loss.

        Args:
            y_true: Labels, an array or a nest of arrays.
            y_pred: Predictions, likewise; a mask attached to them leaves positions out.
            sample_weight: One weight per sample, or per value of the loss.

        Raises:
            ShapeError: Labels, predictions and weights don't fit together.
        """
        mask = get_mask(y_pred)
        with jax.named_scope(self.name):
            y_true, y_pred = self._convert(y_true, self.takes_class_numbers), self._convert(y_pred)
            values = self.call(y_true, y_pred)
            own_mask = get_mask(values)
            if mask is not None and own_mask is not None:
                mask = mask & own_mask
            elif mask is None:
                mask = own_mask
            return reduce_values(as_array(values, self.dtype), sample_weight, mask, self.reduction)

    def _convert(self, structure: Any, keep_integers: bool = False) -> Any:
        def convert(leaf: Any) -> Any:
            array = as_array(leaf)
            return (
                array
                if keep_integers and jnp.issubdtype(array.dtype, jnp.integer)
                else array.astype(self.dtype)
            )

        is_nest = isinstance(structure, (list, tuple, dict)) and any(
            hasattr(leaf, "shape") for leaf in leaves(structure)
        )
        return map_tree(convert, structure) if is_nest else convert(structure)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One value per sample; a subclass says which."""
        raise NotImplementedError(f"{type(self).__name__} needs a method call(self, y_true, y_pred).")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        accepted = accepted_arguments(type(self))
        config = {name: serialize(value) for name, value in self._arguments.items()}
        if config.get("dtype") is None:
            config.pop("dtype", None)
        now = {"name": self.name, "reduction": self.reduction}
        return config | {name: value for name, value in now.items() if accepted is None or name in accepted}


class LossFunctionWrapper(Loss):
    """Makes a loss of a function.

    Args:
        fn: Function `(y_true, y_pred, **kwargs)` that gives one value per sample.
        reduction, name, dtype: As `Loss` takes them; the name is the function's unless another is given.
        kwargs: Passed to the function; each also becomes an attribute.

    Source: What `keras.Model.compile` makes of a function given as the loss.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        self.fn = resolve("losses", fn)
        super().__init__(name or getattr(self.fn, "__name__", None), reduction, dtype)
        self.options = kwargs
        vars(self).update(kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """What the function gives."""
        if hasattr(y_true, "ndim") and hasattr(y_pred, "ndim"):
            y_true, y_pred = align(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        config = super().get_config()
        return config | {"fn": function_config(self.fn)} if "fn" in config else config

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<{type(self).__name__} name={self.name}{options}>"


class _Optionless(LossFunctionWrapper):
    """A loss whose function takes no options; a subclass names the function."""

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(type(self).function, reduction, name, dtype)


def function_config(function: Any) -> Any:
    """The form that Keras reads a function argument from."""
    if not inspect.isfunction(function) or not function.__module__.startswith("tally."):
        return serialize(function)
    name = function.__name__
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def standardize_reduction(reduction: str | None) -> str:
    """The name of a reduction; None is `"none"`.

    Raises:
        ArgumentError: There is no such reduction.
    """
    reduction = reduction or "none"
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            f"There is no reduction '{reduction}'.{nearest(reduction, REDUCTIONS)}",
            do=f"use one of {', '.join(REDUCTIONS)}",
        )
    return reduction


def align(y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give both one rank where only a last axis of size 1 is between them."""

    def fit(larger: jax.Array, smaller: jax.Array) -> tuple[jax.Array, jax.Array]:
        if larger.ndim != smaller.ndim + 1 or larger.shape[-1] != 1:
            return larger, smaller
        return (larger, smaller[:, None]) if smaller.ndim == 1 else (larger[..., 0], smaller)

    y_true, y_pred = fit(y_true, y_pred)
    y_pred, y_true = fit(y_pred, y_true)
    return y_true, y_pred


def prepare(y_true: Any, y_pred: Any, who: str, *, exact: bool = False) -> tuple[jax.Array, jax.Array]:
    """Labels and predictions as floating arrays of one dtype and of shapes that go together.

    Args:
        y_true: Labels of the predictions' shape; a last axis of size 1 may be missing on either side, and an axis of
            size 1 stands for any size.
        y_pred: Predictions.
        exact: Whether no axis may stand for another size.
        who: The function they were given to, for the error.

    Raises:
        ShapeError: The shapes don't go together. Labels of shape (10,) and predictions of shape (10, 10) don't either,
            though they could be broadcast: that is a mistake far more often than a wish.
    """
    y_pred = as_array(y_pred)
    if not is_floating(y_pred.dtype):
        y_pred = y_pred.astype(floatx())
    y_true, y_pred = align(as_array(y_true, y_pred.dtype), y_pred)
    same_rank = y_true.ndim == y_pred.ndim
    fits = same_rank and all(
        a == b or (not exact and 1 in (a, b)) for a, b in zip(y_true.shape, y_pred.shape, strict=True)
    )
    if y_true.ndim and not fits:
        raise ShapeError(
            f"{who} takes labels of the predictions' shape {y_pred.shape}, but was given labels of shape "
            f"{y_true.shape}.",
            where=called_with(y_true, y_pred),
            do=f"give labels of shape {y_pred.shape}, or end the model in a layer whose output is {y_true.shape}",
        )
    return y_true, y_pred


def called_with(y_true: Any, y_pred: Any) -> str:
    """Labels and predictions in words, for the second line of an error."""
    return f"called with labels {describe(y_true)} and predictions {describe(y_pred)}"


def mean_of(differences: jax.Array) -> jax.Array:
    """The mean over the last axis; a single number is its own mean."""
    return differences.mean(axis=-1) if differences.ndim else differences


def safe_divide(numerator: Any, denominator: Any) -> jax.Array:
    """The quotient, 0 where the denominator is 0, with finite gradients."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, denominator))


def keep_inside(probability: jax.Array) -> jax.Array:
    """Keep probabilities `epsilon()` away from 0 and 1, so that their logarithms are finite.

    In a dtype too short to write `1 - epsilon()` the distance is the smallest it can write.
    """
    margin = max(epsilon(), float(jnp.finfo(probability.dtype).epsneg))
    return jnp.clip(probability, margin, 1 - margin)


def spread(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Give weights the rank of what they weigh: per sample becomes (batch, 1, ...).

    Raises:
        ShapeError: The weights have no place in that shape.
    """
    given = weights.shape
    while weights.ndim > len(shape) and weights.shape[-1] == 1:
        weights = weights[..., 0]
    weights = weights.reshape(*weights.shape, *(1,) * (len(shape) - weights.ndim))
    if weights.ndim > len(shape) > 0 or any(
        a != b and 1 not in (a, b) for a, b in zip(weights.shape, shape, strict=False)
    ):
        raise ShapeError(
            f"Sample weights of shape {given} don't fit values of shape {shape}.",
            do=f"give one weight per sample, of shape {shape[:1]}, or one per value, of shape {shape}",
        )
    return weights


def merge_mask(sample_weight: Any, mask: Any, dtype: Any, *, rescale: bool) -> jax.Array | None:
    """Sample weights in which masked positions weigh nothing.

    Args:
        sample_weight: Weights, or None for all ones.
        mask: True where a position counts, or None where all do.
        dtype: Dtype of the result.
        rescale: Whether the kept positions share the weight of those left out, so that a mean over all positions is
            the mean over the kept ones.
    """
    weights = None if sample_weight is None else as_array(sample_weight, dtype)
    if mask is None:
        return weights
    kept = as_array(mask, dtype)
    if rescale:
        kept = kept * safe_divide(jnp.asarray(kept.size, dtype), kept.sum())
    if weights is None:
        return kept
    if weights.ndim > kept.ndim:
        return spread(kept, weights.shape) * weights
    return kept * spread(weights, kept.shape)


def reduce_values(values: jax.Array, sample_weight: Any, mask: Any, reduction: str) -> jax.Array:
    """Weigh and mask the values of a loss and reduce them to a number."""
    weights = merge_mask(
        sample_weight, mask, values.dtype, rescale=reduction in ("sum_over_batch_size", "mean")
    )
    if weights is not None:
        if values.ndim == weights.ndim + 1 and values.shape[-1] == 1:
            values = values[..., 0]
        weights = spread(weights, values.shape)
        values = values * weights
    if reduction == "none" or values.shape in ((), (0,)):
        return values
    total = values.sum()
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weights is not None:
        return safe_divide(total, weights.sum())
    return safe_divide(total, jnp.asarray(values.size, values.dtype))
