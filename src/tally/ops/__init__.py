"""Functions on arrays, variables and symbolic tensors, named and called as in `keras.ops`.

A file of ops is loaded when one of them is first used: a model made of layers needs few.
"""

# ruff: noqa: F401, F403 - for type checkers; at run time names are found by `__getattr__`

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tally.ops import core, image, linalg, math, nn, numpy
    from tally.ops.core import *
    from tally.ops.definition import op
    from tally.ops.linalg import *
    from tally.ops.math import *
    from tally.ops.nn import *
    from tally.ops.numpy import *

_SHOWN = ("image", "linalg", "nn", "numpy")
"""Files whose names Keras has, too."""
_OPEN = ("numpy", "nn", "math", "core", "linalg")
"""Files whose ops stand in this room itself, in the order in which a name is looked for."""
_FILES = (*_OPEN, "image", "operators", "definition", "catalogue")


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return importlib.import_module(f"tally.ops.{name}")
    if name == "__all__":
        return [*_SHOWN, *_names()]
    if name.startswith("_"):
        raise AttributeError(f"tally.ops has no '{name}'.")
    value = _find(name)
    globals()[name] = value
    return value


def _find(name: str) -> Any:
    if name == "op":
        from tally.ops.definition import op

        return op
    for file in _OPEN:
        own = _own(file)
        if name in own:
            return own[name]
    from tally.core.errors import nearest

    raise AttributeError(f"tally.ops has no '{name}'.{nearest(name, _names())}")


def _own(file: str) -> dict[str, Any]:
    """What a file defines, and not what it imports."""
    module = importlib.import_module(f"tally.ops.{file}")
    public = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    return {
        name: thing for name, thing in public.items() if getattr(thing, "__module__", "") == module.__name__
    }


def _names() -> list[str]:
    return sorted({name for file in _OPEN for name in _own(file)})


def __dir__() -> list[str]:
    return sorted([*_SHOWN, *_names(), "op"])


from tally.ops import operators  # noqa: E402 - so that symbolic tensors know `+`
