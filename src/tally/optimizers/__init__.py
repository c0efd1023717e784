"""Optimizers with Keras's names, arguments and trajectories, and any optax transformation."""

import sys
from typing import Any

from tally.core import registry
from tally.core.errors import ArgumentError, SavingError, nearest
from tally.core.reading import Reading, need
from tally.optimizers import schedules
from tally.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from tally.optimizers.adaptive import Adadelta, Adagrad, Ftrl, RMSprop
from tally.optimizers.base import Optimizer, Slot
from tally.optimizers.matrix import Adafactor, Muon
from tally.optimizers.momentum import SGD, Lion
from tally.optimizers.schedules import LearningRateSchedule
from tally.optimizers.wrappers import LossScaleOptimizer, MultiOptimizer, OptaxOptimizer, OptimizerMap

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "LearningRateSchedule",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "OptaxOptimizer",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFreeAdamW",
    "Slot",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]

_NAMED = (
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    AdamW,
    Adamax,
    Ftrl,
    Lamb,
    Lion,
    Muon,
    Nadam,
    RMSprop,
    SGD,
    ScheduleFreeAdamW,
)
_BY_NAME = {cls.__name__.lower(): cls for cls in _NAMED}


def get(identifier: Any) -> Optimizer | None:
    """An optimizer from what `compile` takes.

    Args:
        identifier: A name in any case (`"adam"`), an optimizer, its class, its configuration, an optax
            transformation, or None, which stays None.

    Raises:
        ArgumentError: It is none of these; an unknown name gets the closest one suggested.

    Example:
        >>> tally.optimizers.get("rmsprop").name
        'rm_sprop'
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if _is_of_optax(identifier):
        return OptaxOptimizer(identifier)
    if isinstance(identifier, str):
        made = (registry.get_registered_object(identifier) or _named(identifier))()
    elif isinstance(identifier, dict):
        made = deserialize(identifier)
    else:
        made = identifier() if isinstance(identifier, type) else identifier
    if not isinstance(made, Optimizer):
        raise ArgumentError(
            f"{identifier!r} is not an optimizer.",
            do="pass a name such as 'adam', an optimizer or an optax transformation",
        )
    return made


def _is_of_optax(thing: Any) -> bool:
    """Whether something is an optax transformation, found out without importing optax."""
    optax = sys.modules.get("optax")  # whoever made one has imported it
    return optax is not None and isinstance(thing, optax.GradientTransformation)


def _named(name: str) -> type[Optimizer]:
    if name.lower() not in _BY_NAME:
        raise ArgumentError(
            f"There is no optimizer '{name}'.{nearest(name.lower(), list(_BY_NAME))}",
            do=f"use one of {', '.join(_BY_NAME)}, or pass an optimizer",
        )
    return _BY_NAME[name.lower()]


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """The configuration of an optimizer, as a file holds it."""
    return registry.serialize(optimizer)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Optimizer:
    """Make an optimizer, without state, from what `serialize` gave; the case of its name is free.

    Args:
        config: The configuration.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes none; `place` says where in it.
    """
    with Reading(config):
        named = _BY_NAME.get(need(config, "class_name", str).lower())
        whole = {**config, "class_name": named.__name__} if named else config
        made = registry.deserialize(whole, custom_objects)
        if not isinstance(made, Optimizer):
            raise SavingError(f"The configuration describes a {type(made).__name__}, and no optimizer.")
    return made
