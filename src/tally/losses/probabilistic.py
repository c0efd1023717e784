"""Losses between a predicted distribution and what happened: cross-entropies, divergence, likelihood."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tally.core.dtype import epsilon, floatx, is_floating
from tally.core.errors import ArgumentError, ShapeError
from tally.core.masks import set_mask
from tally.core.variable import as_array
from tally.losses.base import LossFunctionWrapper, _Optionless, called_with, keep_inside, mean_of, prepare


def kl_divergence(y_true: Any, y_pred: Any) -> jax.Array:
    """Sum over the last axis of `y_true * log(y_true / y_pred)`."""
    y_true, y_pred = (jnp.clip(x, epsilon(), 1) for x in prepare(y_true, y_pred, "kl_divergence"))
    return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> jax.Array:
    """Mean over the last axis of `y_pred - y_true * log(y_pred)`."""
    y_true, y_pred = prepare(y_true, y_pred, "poisson")
    return mean_of(y_pred - y_true * jnp.log(y_pred + epsilon()))


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> jax.Array:
    """Mean over an axis of the cross-entropy of independent yes-or-no answers.

    Args:
        y_true: Labels from 0 to 1, of the predictions' shape.
        y_pred: Probabilities, or logits.
        from_logits: Whether predictions are logits.
        label_smoothing: How far labels are drawn to 0.5: 0 not at all, 1 entirely.
        axis: The axis the mean is taken over.
    """
    y_true, y_pred = prepare(y_true, y_pred, "binary_crossentropy", exact=True)
    if_yes, if_no, _ = _binary_terms(y_pred, from_logits)
    y_true = _smooth(y_true, label_smoothing, 2)
    return jnp.mean(y_true * if_yes + (1 - y_true) * if_no, axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Binary cross-entropy in which answers that are already right count less.

    Args:
        y_true: Labels from 0 to 1, of the predictions' shape.
        y_pred: Probabilities, or logits.
        apply_class_balancing: Whether yes weighs `alpha` and no `1 - alpha`.
        alpha: Weight of yes.
        gamma: How much less right answers count; 0 gives the cross-entropy.
        from_logits: Whether predictions are logits.
        label_smoothing: How far labels are drawn to 0.5.
        axis: The axis the mean is taken over.
    """
    y_true, y_pred = prepare(y_true, y_pred, "binary_focal_crossentropy", exact=True)
    if_yes, if_no, yes = _binary_terms(y_pred, from_logits)
    y_true = _smooth(y_true, label_smoothing, 2)
    right = y_true * yes + (1 - y_true) * (1 - yes)
    loss = (1 - right) ** gamma * (y_true * if_yes + (1 - y_true) * if_no)
    if apply_class_balancing:
        loss = loss * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return jnp.mean(loss, axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> jax.Array:
    """Cross-entropy of one answer out of several, labels one-hot.

    Args:
        y_true: One-hot labels or probabilities, of the predictions' shape.
        y_pred: Probabilities (scaled to sum 1), or logits.
        from_logits: Whether predictions are logits.
        label_smoothing: Share of each label that is spread over all classes.
        axis: The axis of the classes.

    Raises:
        ShapeError: Labels are class numbers, or of other classes than the predictions.
    """
    y_true, y_pred = _one_hot_pair(y_true, y_pred, axis, "categorical_crossentropy")
    y_true = _smooth(y_true, label_smoothing, y_pred.shape[axis])
    return -jnp.sum(y_true * _log_probability(y_pred, from_logits, axis), axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> jax.Array:
    """Categorical cross-entropy in which classes that are already right count less.

    Args:
        y_true: One-hot labels, of the predictions' shape.
        y_pred: Probabilities, or logits.
        alpha: Weight of the classes, one number or one per class.
        gamma: How much less right answers count; 0 gives `alpha` times the cross-entropy.
        from_logits: Whether predictions are logits.
        label_smoothing: Share of each label that is spread over all classes.
        axis: The axis of the classes.

    Raises:
        ShapeError: Labels are class numbers, or of other classes than the predictions.
    """
    y_true, y_pred = _one_hot_pair(y_true, y_pred, axis, "categorical_focal_crossentropy")
    y_true = _smooth(y_true, label_smoothing, y_pred.shape[axis])
    log_probability = _log_probability(y_pred, from_logits, axis)
    weight = jnp.asarray(alpha, y_pred.dtype) * (1 - jnp.exp(log_probability)) ** gamma
    return -jnp.sum(weight * y_true * log_probability, axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> jax.Array:
    """Cross-entropy of one answer out of several, labels class numbers.

    Args:
        y_true: Class numbers from 0, of the predictions' shape without the axis of the classes (or with size 1 there).
        y_pred: Probabilities (scaled to sum 1), or logits.
        from_logits: Whether predictions are logits.
        ignore_class: A class number whose positions cost nothing and are masked out of a mean.
        axis: The axis of the classes.

    Raises:
        ShapeError: Labels are one-hot, or don't have the predictions' shape.
        ArgumentError: A class number is not below the number of classes; told outside compiled functions.
    """
    y_true, y_pred = _sparse_pair(y_true, y_pred, axis, "sparse_categorical_crossentropy")
    valid = None if ignore_class is None else y_true != ignore_class
    if valid is not None:
        y_true = jnp.where(valid, y_true, 0)
    check_class_numbers(y_true, y_pred.shape[axis])
    if from_logits:
        loss = _cost_of_class(y_pred, y_true, axis)
    else:
        is_class = jax.nn.one_hot(y_true, y_pred.shape[axis], axis=axis, dtype=y_pred.dtype)
        loss = -jnp.sum(is_class * _log_probability(y_pred, False, axis), axis=axis)
    return loss if valid is None else set_mask(jnp.where(valid, loss, 0), valid)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> jax.Array:
    """`(1 - p**q) / q` for the probability `p` of the right class, labels class numbers.

    Args:
        y_true: Class numbers, of the predictions' shape without the last axis.
        y_pred: Probabilities.
        q: Near 0 it is the cross-entropy, near 1 the absolute difference, which bears wrong labels better.
    """
    y_true, y_pred = _sparse_pair(y_true, y_pred, -1, "categorical_generalized_cross_entropy")
    is_class = jax.nn.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype)
    return (1 - jnp.sum(y_pred * is_class, axis=-1) ** q) / q


def check_class_numbers(labels: Any, classes: int) -> None:
    """Look whether class numbers are below the number of classes; inside a traced function there is nothing to look at.

    Raises:
        ArgumentError: One is not, or is negative.
    """
    if isinstance(labels, Tracer) or not labels.size:
        return
    lowest, highest = int(np.min(labels)), int(np.max(labels))
    if lowest < 0 or highest >= classes:
        raise ArgumentError(
            f"Class numbers run from 0 to {classes - 1} for {classes} classes, but the labels run from {lowest} to "
            f"{highest}.",
            do=_class_advice(lowest, highest, classes),
        )


def _class_advice(lowest: int, highest: int, classes: int) -> str:
    if lowest == 1 and highest == classes:
        return "number the classes from 0: labels - 1"
    if lowest < 0:
        return f"number the classes from 0, or pass ignore_class={lowest} if that number stands for no label"
    return f"give the model {highest + 1} outputs, or check the labels"


def _binary_terms(y_pred: jax.Array, from_logits: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The cost where the answer is yes, where it is no, and the probability of yes."""
    if from_logits:
        return jax.nn.softplus(-y_pred), jax.nn.softplus(y_pred), jax.nn.sigmoid(y_pred)
    inside = keep_inside(y_pred)
    return -jnp.log(inside), -jnp.log(1 - inside), y_pred


def _log_probability(y_pred: jax.Array, from_logits: bool, axis: int) -> jax.Array:
    if from_logits:
        return jax.nn.log_softmax(y_pred, axis=axis)
    return jnp.log(keep_inside(y_pred / y_pred.sum(axis=axis, keepdims=True)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _cost_of_class(logits: jax.Array, labels: jax.Array, axis: int) -> jax.Array:
    """Minus the logarithm of a class's probability; 0 where a number stands for no class.

    With many classes, such as the words of a language, logits are the largest arrays of a step. So the loss picks the
    one it needs, and its derivative, written out, is one pass over them: no labels made one-hot, no scatter.
    """
    classes = logits.shape[axis]
    place = jnp.expand_dims(labels, axis)
    picked = jnp.take_along_axis(logits, place, axis, mode="clip").squeeze(axis)
    is_class = (labels >= 0) & (labels < classes)
    return jnp.where(is_class, jax.nn.logsumexp(logits, axis) - picked, 0)


@_cost_of_class.defjvp
def _move_cost_of_class(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    logits, labels = primals
    classes, place = logits.shape[axis], jnp.expand_dims(labels, axis)
    probability = jnp.exp(logits - jax.nn.logsumexp(logits, axis, keepdims=True))
    numbers = jnp.arange(classes).reshape(-1, *(1,) * (logits.ndim - 1 - axis % logits.ndim))
    is_class = (place >= 0) & (place < classes)
    slope = jnp.where(is_class, probability - (numbers == place), 0)
    return _cost_of_class(logits, labels, axis), jnp.sum(slope * tangents[0], axis)


def _smooth(y_true: jax.Array, amount: float, classes: int) -> jax.Array:
    return y_true * (1 - amount) + amount / classes if amount else y_true


def _one_hot_pair(y_true: Any, y_pred: Any, axis: int, who: str) -> tuple[jax.Array, jax.Array]:
    y_pred = _floating(y_pred)
    y_true = as_array(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        raise _not_one_hot(y_true, y_pred, axis, who)
    if y_pred.ndim and y_pred.shape[axis] == 1:
        warnings.warn(
            f"{who} was given predictions of one class, {y_pred.shape}: the loss is always 0. "
            "For two classes take binary_crossentropy, or give the model two outputs.",
            SyntaxWarning,
            stacklevel=3,
        )
    return y_true, y_pred


def _not_one_hot(y_true: jax.Array, y_pred: jax.Array, axis: int, who: str) -> ShapeError:
    where, classes = called_with(y_true, y_pred), y_pred.shape[axis] if y_pred.ndim else 1
    if y_true.ndim < y_pred.ndim or y_true.shape[axis] == 1 != classes:
        return ShapeError(
            f"{who} takes one-hot labels of shape {y_pred.shape}, but was given labels of shape {y_true.shape}, "
            "which look like class numbers.",
            where=where,
            do=f"use sparse_{who.replace('focal_', '')} for class numbers, or make them one-hot: "
            f"tally.utils.to_categorical(labels, {classes})",
        )
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] != classes:
        return ShapeError(
            f"{who} was given labels of {y_true.shape[axis]} classes and predictions of {classes}.",
            where=where,
            do=f"give the model {y_true.shape[axis]} outputs, or make the labels one-hot with {classes} classes",
        )
    return ShapeError(
        f"{who} takes labels of the predictions' shape {y_pred.shape}, but was given {y_true.shape}.",
        where=where,
        do="give one label for each prediction",
    )


def _sparse_pair(y_true: Any, y_pred: Any, axis: int, who: str) -> tuple[jax.Array, jax.Array]:
    y_pred, y_true = _floating(y_pred), as_array(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = jnp.squeeze(y_true, axis)
    place = axis % max(y_pred.ndim, 1)
    wanted = (*y_pred.shape[:place], *y_pred.shape[place + 1 :])
    if y_true.shape == wanted:
        return y_true.astype("int32"), y_pred
    told = f"{who} takes class numbers of shape {wanted}, but was given labels of shape {y_true.shape}"
    where = called_with(y_true, y_pred)
    if y_true.shape == y_pred.shape:
        raise ShapeError(
            f"{told}, which look one-hot.",
            where=where,
            do=f"use {who.removeprefix('sparse_')} for one-hot labels, or make them class numbers: "
            f"labels.argmax(axis={axis})",
        )
    outputs = (*y_true.shape, y_pred.shape[axis])
    raise ShapeError(
        f"{told}.",
        where=where,
        do=f"give one class number for each prediction, or predictions of shape {outputs}",
    )


def _floating(y_pred: Any) -> jax.Array:
    y_pred = as_array(y_pred)
    return y_pred if is_floating(y_pred.dtype) else y_pred.astype(floatx())


class KLDivergence(_Optionless):
    """Kullback-Leibler divergence from the labels' distribution to the predicted one.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., classes), probabilities

    Source: `keras.losses.KLDivergence`.
    """

    function = staticmethod(kl_divergence)


class Poisson(_Optionless):
    """Minus the logarithm of a Poisson likelihood, up to a constant: for counts.

    Args:
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., features), counts and predicted rates

    Source: `keras.losses.Poisson`.
    """

    function = staticmethod(poisson)


class BinaryCrossentropy(LossFunctionWrapper):
    """Cross-entropy of independent yes-or-no answers.

    Args:
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: How far labels are drawn to 0.5, from 0 to 1.
        axis: The axis the mean is taken over.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., answers)

    Example:
        >>> round(float(tally.losses.BinaryCrossentropy()(np.array([[1.0]]), np.array([[0.5]]))), 4)
        0.6931

    Source: `keras.losses.BinaryCrossentropy`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(binary_crossentropy, reduction, name, dtype, **options)


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """Binary cross-entropy in which answers that are already right count less: for rare positives.

    Args:
        apply_class_balancing: Whether yes weighs `alpha` and no `1 - alpha`.
        alpha: Weight of yes.
        gamma: How much less right answers count; 0 gives the cross-entropy.
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: How far labels are drawn to 0.5, from 0 to 1.
        axis: The axis the mean is taken over.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., answers)

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017; `keras.losses.BinaryFocalCrossentropy`.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of one answer out of several, labels one-hot.

    Args:
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: Share of each label that is spread over all classes, from 0 to 1.
        axis: The axis of the classes.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., classes)

    Raises:
        ShapeError: Labels are class numbers, or of other classes than the predictions.

    Source: `keras.losses.CategoricalCrossentropy`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(categorical_crossentropy, reduction, name, dtype, **options)


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """Categorical cross-entropy in which classes that are already right count less.

    Args:
        alpha: Weight of the classes, one number or one per class.
        gamma: How much less right answers count; 0 gives `alpha` times the cross-entropy.
        from_logits: Whether predictions are logits; probabilities otherwise.
        label_smoothing: Share of each label that is spread over all classes, from 0 to 1.
        axis: The axis of the classes.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true, y_pred: (batch, ..., classes)

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017; `keras.losses.CategoricalFocalCrossentropy`.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(
            categorical_focal_crossentropy, reduction, name, dtype, alpha=alpha, gamma=gamma, **options
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """Cross-entropy of one answer out of several, labels class numbers.

    Args:
        from_logits: Whether predictions are logits; probabilities otherwise.
        ignore_class: A class number whose positions don't count.
        axis: The axis of the classes.
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch, ...), class numbers from 0
        y_pred: (batch, ..., classes)

    Raises:
        ShapeError: Labels are one-hot, or don't have the predictions' shape.

    Example:
        >>> loss = tally.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> round(float(loss(np.array([2]), np.zeros((1, 4)))), 4)
        1.3863

    Source: `keras.losses.SparseCategoricalCrossentropy`.
    """

    takes_class_numbers = True

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(sparse_categorical_crossentropy, reduction, name, dtype, **options)


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """Between the cross-entropy and the absolute difference: bears wrong labels, which are class numbers.

    Args:
        q: Between 0 (the cross-entropy) and 1 (the absolute difference).
        reduction, name, dtype: As `Loss` takes them.
    Shapes:
        y_true: (batch, ...), class numbers from 0
        y_pred: (batch, ..., classes), probabilities
    Raises:
        ArgumentError: `q` is not between 0 and 1.

    Source: Zhang & Sabuncu, Generalized Cross Entropy Loss, 2018; `keras.losses.CategoricalGeneralizedCrossEntropy`.
    """

    takes_class_numbers = True

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ) -> None:
        if not 0 < q < 1:
            raise ArgumentError(
                f"CategoricalGeneralizedCrossEntropy's q is between 0 and 1, not {q}.", do="try 0.5 or 0.7"
            )
        super().__init__(categorical_generalized_cross_entropy, reduction, name, dtype, q=q)
