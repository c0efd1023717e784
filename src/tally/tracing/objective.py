"""Losses that don't fit what the model gives or what it is compared with."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tally.accounting.finding import Finding
from tally.core.symbol import leaves
from tally.tracing.heads import Head, heads
from tally.tracing.study import Study

_CLASSES = frozenset(
    (
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
        "kl_divergence",
    )
)
_BINARY = frozenset(("binary_crossentropy", "binary_focal_crossentropy"))
_DISTANCES = frozenset(
    ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "mean_squared_logarithmic_error")
)


class _Output(NamedTuple):
    """One output and how it is judged.

    Args:
        loss: The name of the loss function.
        from_logits: Whether the loss is told that the output is no probability yet.
        head: The last activation, where it is known.
        shape: Sizes of the output, the batch first.
        target: The targets, if there are any.
        layer: The path of the layer that gives it.
        line: Where that was made.
    """

    loss: str
    from_logits: bool
    head: Head | None
    shape: tuple[int, ...]
    target: np.ndarray | None
    layer: str
    line: str | None


def find(study: Study) -> Iterator[Finding]:
    """Find outputs whose loss doesn't fit their activation or their labels (T501)."""
    flow = study.predicting or study.training
    if flow is None:
        return
    run = flow.run
    outputs = run.jaxpr.jaxpr.outvars[: run.outputs]
    losses = (
        study.trainer.losses_by_output(len(outputs)) if study.trainer is not None else [None] * len(outputs)
    )
    targets = leaves(study.y) if study.y is not None else []
    makers = {id(out): use for use in run.uses for out in use.outputs}
    finals = next((use.outputs for use in run.uses if use.layer is study.root), [])
    for place, (out, head, loss) in enumerate(zip(outputs, heads(run), losses, strict=False)):
        maker = makers.get(id(finals[place])) if place < len(finals) else None
        inner = [u for u in run.uses if place < len(finals) and any(o is finals[place] for o in u.outputs)]
        layer = inner[-1].layer if inner else maker.layer if maker is not None else study.root
        fn, from_logits = _facts(loss)
        target = np.asarray(targets[place]) if len(targets) == len(outputs) else None
        one = _Output(fn, from_logits, head, tuple(out.aval.shape), target, study.path(layer), layer.made_at)
        told = _one_unit(one) or _activation(one) or _labels(one)
        if told is not None:
            what, why, fix = told
            line = study.trainer.compiled_at if study.trainer is not None and fn else None
            yield Finding(
                code="T501",
                layer=one.layer,
                what=what,
                why=why,
                fix=fix,
                where=one.line if told in (_one_unit(one),) or line is None else line,
                names=(fn,) if fn else (),
            )


def _facts(loss: Any) -> tuple[str, bool]:
    """The name of a loss's function, and whether it takes logits."""
    function = getattr(loss, "fn", None)
    name = getattr(function, "__name__", "") if function is not None else ""
    known = name if getattr(function, "__module__", "").startswith("tally.") else ""
    return known, bool(getattr(loss, "from_logits", False))


_Told = tuple[str, str, str]


def _one_unit(one: _Output) -> _Told | None:
    if one.head == "softmax" and one.shape[-1] == 1:
        return (
            "A softmax over a single unit always gives 1.",
            "The output can't depend on anything, and no gradient reaches the weights.",
            'use Dense(1, activation="sigmoid") with binary_crossentropy, or as many units as there are classes',
        )
    if one.loss in _CLASSES and one.shape[-1] == 1:
        return (
            f"{one.loss} is taken over a single class: the output has one unit.",
            "A share of one class is always 1, so the loss is constant and nothing is learned.",
            'use Dense(1, activation="sigmoid") with binary_crossentropy, or as many units as there are classes',
        )
    return None


def _activation(one: _Output) -> _Told | None:
    if one.loss not in _CLASSES | _BINARY or one.head is None:
        return None
    wanted = "softmax" if one.loss in _CLASSES else "sigmoid"
    if one.from_logits and one.head in ("softmax", "sigmoid"):
        return (
            f"{one.loss} is told from_logits=True, but the output has already gone through {one.head}.",
            f"{wanted} is applied twice: the shares become nearly equal, and learning slow and poor.",
            "leave the activation of the last layer out, or use from_logits=False",
        )
    if not one.from_logits and one.head in ("linear", "tanh", "relu"):
        has = "no activation" if one.head == "linear" else one.head
        return (
            f"{one.loss} expects probabilities, but the output has {has}.",
            "Values outside 0 and 1 are cut off or divided by their sum: the loss and its gradient are wrong.",
            f'give the last layer activation="{wanted}", or the loss from_logits=True',
        )
    if one.loss in _CLASSES and not one.from_logits and one.head == "sigmoid" and one.shape[-1] > 1:
        return (
            f"{one.loss} compares classes that exclude each other, but each unit has a sigmoid of its own.",
            "The units' values don't add up to 1, and are divided by their sum.",
            'use activation="softmax" for one class out of several, or binary_crossentropy for several at once',
        )
    return None


def _labels(one: _Output) -> _Told | None:
    if one.target is None or not one.loss or not one.shape or one.target.ndim == 0:
        return None
    if one.loss == "sparse_categorical_crossentropy":
        return _class_numbers(one, one.target)
    if one.loss == "categorical_crossentropy":
        return _one_hot(one, one.target)
    if one.loss in _BINARY:
        low, high = float(one.target.min()), float(one.target.max())
        if low < 0 or high > 1:
            return (
                f"{one.loss} takes labels from 0 to 1, but these go from {low:g} to {high:g}.",
                "The loss has no lowest point: it can fall without end.",
                "number the two classes 0 and 1",
            )
    return _same_shape(one, one.target) if one.loss in _BINARY | _DISTANCES else None


def _class_numbers(one: _Output, target: np.ndarray) -> _Told | None:
    classes = one.shape[-1]
    if target.shape == one.shape and classes > 1:
        return (
            f"sparse_categorical_crossentropy takes class numbers, but the labels are one-hot: {target.shape}.",
            "The shapes don't fit, so training stops or compares the wrong things.",
            "use categorical_crossentropy, or labels.argmax(-1)",
        )
    if target.shape not in (one.shape[:-1], (*one.shape[:-1], 1)):
        return _unlike(one, target)
    low, high = int(target.min()), int(target.max())
    if high >= classes or low < 0:
        return (
            f"The labels go from {low} to {high}, but the output has {classes} classes, numbered 0 to {classes - 1}.",
            "A class that the model has no output for can't be learned.",
            f"use {high + 1} units, or number the classes from 0",
        )
    return None


def _one_hot(one: _Output, target: np.ndarray) -> _Told | None:
    classes = one.shape[-1]
    if target.shape in (one.shape[:-1], (*one.shape[:-1], 1)):
        return (
            f"categorical_crossentropy takes one-hot labels, but these are class numbers: {target.shape}.",
            "The shapes don't fit, so training stops or compares the wrong things.",
            f"use sparse_categorical_crossentropy, or tally.utils.to_categorical(labels, {classes})",
        )
    if target.shape[:-1] == one.shape[:-1] and target.shape[-1] != classes:
        return (
            f"The labels have {target.shape[-1]} classes, but the output has {classes}.",
            "Outputs and labels can't be compared.",
            f"use {target.shape[-1]} units in the last layer",
        )
    return None if target.shape == one.shape else _unlike(one, target)


def _same_shape(one: _Output, target: np.ndarray) -> _Told | None:
    fits = (one.shape, one.shape[:-1] if one.shape[-1] == 1 else one.shape)
    return None if target.shape in fits else _unlike(one, target)


def _unlike(one: _Output, target: np.ndarray) -> _Told:
    return (
        f"The output is {one.shape}, but the labels are {target.shape}.",
        "They are compared with each other as far as they can be stretched, or not at all.",
        "bring both to one shape: check the last layer's units, return_sequences, Flatten or pooling, and the labels",
    )
