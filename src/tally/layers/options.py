"""How layers read their options: counts, values for each side, words, and what a weight starts from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tally.core.errors import ArgumentError, ShapeError, nearest
from tally.core.layer import Layer, describe
from tally.core.registry import resolve
from tally.core.variable import Variable


def call_by_name(layer: Layer) -> str:
    """How messages name a layer: `Conv2D 'stem'`."""
    return f"{type(layer).__name__} '{layer.name}'"


def refuse(layer: Layer, what: str, do: str = "") -> ArgumentError:
    """The error for an option that the layer can't have; `what` goes on after the layer's name."""
    return ArgumentError(f"{call_by_name(layer)} {what}", where=f"made at {layer.made_at}", do=do)


def refuse_shape(
    layer: Layer, what: str, inputs: Any = None, do: str = "", code: str | None = None
) -> ShapeError:
    """The error for an input that the layer can't take; `what` goes on after the layer's name."""
    called = "" if inputs is None else f"; called with {describe(inputs)}"
    return ShapeError(
        f"{call_by_name(layer)} {what}", where=f"made at {layer.made_at}{called}", do=do, code=code
    )


def settle(layer: Layer, **values: Any) -> None:
    """Set options in the form the layer works with, and let its configuration say them in that form.

    `kernel_size=3` becomes `(3, 3)` both as the attribute and in `get_config`, as Keras writes it.
    """
    for name, value in values.items():
        setattr(layer, name, value)
        if name in layer._arguments:
            layer._arguments[name] = value


def read_count(layer: Layer, name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        ArgumentError: It is no whole number, or too small.
    """
    whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or value < least:
        raise refuse(layer, f"can't have {name}={value!r}.", f"give a whole number of at least {least}")
    return int(value)


def read_sides(layer: Layer, name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """One whole number for each side; a single one is meant for all.

    Raises:
        ArgumentError: There are too many or too few, or one is too small.
    """
    values = tuple(value) if isinstance(value, (Sequence, np.ndarray)) else (value,) * rank
    if len(values) != rank or isinstance(value, str):
        raise refuse(layer, f"can't have {name}={value!r}.", f"give one number, or {rank}: one for each side")
    return tuple(read_count(layer, name, number, least) for number in values)


def read_word(layer: Layer, name: str, value: Any, words: Sequence[str]) -> str:
    """A word out of those the option can be, in lower case.

    Raises:
        ArgumentError: It is another; the message suggests the closest one.
    """
    word = value.lower() if isinstance(value, str) else value
    if word not in words:
        listed = " or ".join(f"'{known}'" for known in words)
        raise refuse(layer, f"can't have {name}={value!r}.{nearest(str(word), list(words))}", f"use {listed}")
    return word


def resolve_options(layer: Layer, **options: Any) -> None:
    """Turn `kernel_initializer="he_normal"` and the like into objects, as attributes of the layer.

    The last part of an option's name says its family: initializer, regularizer, constraint or activation.

    Raises:
        ArgumentError: A name is not known in its family.
    """
    for name, value in options.items():
        try:
            setattr(layer, name, resolve(f"{name.rpartition('_')[2]}s", value))
        except ArgumentError as error:
            raise refuse(layer, f"can't have {name}={value!r}: {error.what}", error.do) from None


def plan_weight(
    layer: Layer, name: str, shape: Sequence[Any], axes: Sequence[str], options: str = ""
) -> Variable:
    """Plan a weight with the layer's `<name>_initializer`, `<name>_regularizer` and `<name>_constraint`.

    Args:
        layer: The layer the weight is planned for.
        name: Name of the weight.
        shape: Its sizes.
        axes: A name for each of them.
        options: The prefix of the three options where it is not the weight's own name.
    """
    prefix = options or name
    kinds = ("initializer", "regularizer", "constraint")
    return layer.add_weight(
        name=name, shape=shape, axes=axes, **{kind: getattr(layer, f"{prefix}_{kind}") for kind in kinds}
    )
