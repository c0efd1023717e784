"""Which layers a script makes: noted as they are constructed, and the outermost ones among them found afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tally.core.calling import current_call
from tally.core.layer import Layer
from tally.layers.basic import InputLayer
from tally.models.model import Model


@contextmanager
def noting() -> Iterator[list[Layer]]:
    """Note every layer that is constructed while the block runs, in order; noted layers stay in memory.

    A layer made anew in each call of another is left out: its maker's account tells of it.

    Example:
        >>> with noting() as made:
        ...     layer = tally.layers.Dense(3)
        >>> made == [layer]
        True
    """
    made: list[Layer] = []
    original = vars(Layer)["__new__"]

    def construct(cls: type[Layer], *args: Any, **kwargs: Any) -> Layer:
        layer = original.__func__(cls, *args, **kwargs)
        if current_call.get() is None and not issubclass(cls, InputLayer):
            made.append(layer)
        return layer

    Layer.__new__ = staticmethod(construct)  # type: ignore[method-assign]
    try:
        yield made
    finally:
        Layer.__new__ = original  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model or layer that a script made and that no other holds.

    Args:
        layer: The model or layer.
        variable: The script's global name for it; None where it has none.
    """

    layer: Layer
    variable: str | None


def outermost(made: list[Layer], names: Mapping[str, Any]) -> list[Made]:
    """The layers that no other one holds, in the order they were made.

    A layer that was never used and that the script has no name for is left out: a wrapper copies the one it is given.

    Args:
        made: What `noting` gave.
        names: The script's globals.
    """
    ready = [layer for layer in made if layer._held.initialised]  # a constructor may have failed
    held = {child for layer in ready for child in layer._flatten_layers(include_self=False)}
    named: dict[int, str] = {}
    for name, value in names.items():
        if isinstance(value, Layer) and not name.startswith("_"):
            named.setdefault(id(value), name)
    return [
        Made(layer=layer, variable=named.get(id(layer)))
        for layer in ready
        if layer not in held and (layer.built or id(layer) in named or isinstance(layer, Model))
    ]
