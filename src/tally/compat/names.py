"""The names of TensorFlow that this library answers: one table, filled where each family is defined."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

NAMES: dict[str, Any] = {}
"""Dotted name without `tensorflow.` -> what it stands for; one thing may have several names."""


def put(paths: str, thing: Any) -> Any:
    """Make a thing known under some names, separated by spaces."""
    for path in paths.split():
        NAMES[path] = thing
    return thing


def named(paths: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function so that it is known under some names; it then also takes TensorFlow's `name=`.

    Args:
        paths: Dotted names without `tensorflow.`, separated by spaces.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
            del name  # a label in TensorFlow's graph
            return function(*args, **kwargs)

        call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        put(paths, call)
        return function

    return register


def like(paths: str, function: Callable[..., Any], arguments: str) -> None:
    """Make an op known under TensorFlow's names and with TensorFlow's arguments.

    Args:
        paths: Dotted names without `tensorflow.`, separated by spaces.
        function: Takes the same arguments by position.
        arguments: As TensorFlow has them: `"input_tensor, axis=None, keepdims=False"`.
    """
    accepted = inspect.signature(eval(f"lambda {arguments}: None"))

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = accepted.bind(*args, **kwargs)
        bound.apply_defaults()
        return function(*bound.arguments.values())

    call.__name__ = call.__qualname__ = paths.split()[0].rpartition(".")[2]
    call.__signature__ = accepted  # type: ignore[attr-defined]
    named(paths)(call)
