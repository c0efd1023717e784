"""How a layer with many options takes them over: one attribute for each argument of its constructor."""

from contextlib import nullcontext
from typing import Any

from tally.core.layer import Layer
from tally.core.registry import deserialize
from tally.core.variable import name_scope
from tally.layers.options import resolve_options

_KINDS = ("initializer", "regularizer", "constraint", "activation")


def own(scope: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, given its `locals()` before it has made any of its own."""
    return {name: value for name, value in scope.items() if name not in ("self", "__class__")}


def adopt(layer: Layer, arguments: dict[str, Any]) -> None:
    """Set an attribute for each argument; names of initializers, activations and so on become the objects."""
    for name, value in arguments.items():
        if name.rpartition("_")[2] in _KINDS:
            resolve_options(layer, **{name: value})
        else:
            setattr(layer, name, value)


def read_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a layer that holds others; what is built among them gets its name in front."""
    with name_scope(config["name"]) if "name" in config else nullcontext():
        return {name: deserialize(value) for name, value in config.items()}
