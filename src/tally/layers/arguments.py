"""How a layer with many options takes them over: one attribute for each argument of its constructor."""

from typing import Any

from tally.core.layer import Layer
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
