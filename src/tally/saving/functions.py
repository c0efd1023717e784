"""Python lambdas in configurations: written as Keras writes them, read only when the file is said to be trusted."""

import base64
import marshal
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CellType, CodeType, FunctionType
from typing import Any

from tally.core.errors import SavingError
from tally.core.reading import need
from tally.core.registry import define_form

_safe: ContextVar[bool] = ContextVar("safe mode", default=True)


@contextmanager
def safe_mode(safe: bool) -> Iterator[None]:
    """Refuse code that comes out of a file while the block runs; only False, and nothing like it, allows it."""
    token = _safe.set(safe is not False)
    try:
        yield
    finally:
        _safe.reset(token)


def write_lambda(function: Callable[..., Any]) -> dict[str, Any]:
    """The compiled code of a lambda, in the form Keras stores."""
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    if any(
        callable(value) or not isinstance(value, (bool, int, float, str, tuple, type(None)))
        for value in closure
    ):
        raise SavingError(
            "A lambda that uses objects from around it can't be stored.",
            where=f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}",
            do="make it a named function registered with @tally.saving.register_keras_serializable(), or a Layer",
        )
    return {
        "class_name": "__lambda__",
        "config": {
            "code": base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii"),
            "defaults": list(function.__defaults__) if function.__defaults__ else None,
            "closure": closure or None,
        },
    }


def read_lambda(config: dict[str, Any]) -> Callable[..., Any]:
    """A lambda from its stored code.

    Raises:
        SavingError: In safe mode, which is the default: code in a file can do anything.
    """
    if _safe.get():
        raise SavingError(
            "The file holds a Python lambda, that is code that would run on this machine.",
            do="if you trust where the file comes from, load it with safe_mode=False",
        )
    inner = need(config, "config", dict)
    code = marshal.loads(base64.b64decode(need(inner, "code", str)))
    if not isinstance(code, CodeType):
        raise SavingError(f"The configuration has a {type(code).__name__} as the code of a lambda.")
    closure = tuple(CellType(value) for value in inner["closure"]) if inner.get("closure") else None
    defaults = tuple(inner["defaults"]) if inner.get("defaults") else None
    return FunctionType(code, _names_for_code(), "<lambda>", defaults, closure)


def _names_for_code() -> dict[str, Any]:
    """The global names that stored lambdas of Keras scripts usually mean."""
    import jax.numpy as jnp
    import numpy as np

    import tally

    known = {"tally": tally, "keras": tally, "layers": tally.layers, "ops": tally.ops, "K": tally.backend}
    return {**known, "np": np, "jnp": jnp, "math": math, "__builtins__": __builtins__}


define_form("lambda", write=write_lambda)
define_form("__lambda__", read=read_lambda)
