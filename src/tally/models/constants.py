"""Numbers that are fixed rather than learned: what a function has captured or has written in it, and kept arrays."""

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer

from tally.core import tracking
from tally.core.errors import is_users
from tally.core.layer import Layer

Constant: TypeAlias = tuple[str, int, Any, bool]
"""What it is, how many numbers, their value (None where they differ), whether they are stored."""

_LARGEST = 65_536
"""Larger arrays are not looked through for one value that all of them have: an account must stay quick."""


def constants_of(layer: Layer, builtin: bool) -> Iterator[Constant]:
    """The fixed numbers of a layer: in a user's layer the arrays it keeps, anywhere the functions it was given.

    Args:
        layer: A layer, built or not.
        builtin: Whether its class is this library's, whose own numbers are no secret.

    Example:
        >>> filter = np.ones((3, 3)) / 9
        >>> list(constants_of(tally.layers.Lambda(lambda x: x * filter.sum() / 255.0), True))
        [("the array 'filter'", 9, 0.1111111111111111, True), ('a number in its code', 1, 255.0, False)]
    """
    if not builtin:
        for place, value in _arrays(layer._attributes()):
            yield array_named(place), int(value.size), _common(value), True
    for name in ("function", "activation"):
        function = getattr(layer, name, None)
        if callable(function) and not isinstance(function, Layer):
            yield from _of_function(function)
    arguments = getattr(layer, "arguments", None) if builtin else None
    if isinstance(arguments, dict):
        yield from _of_values(arguments, frozenset())


def constants_of_op(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Constant]:
    """The fixed numbers that an operation of a graph was given beside its inputs: the 2 of `x * 2`."""
    arithmetic = function.__name__ in _ARITHMETIC
    for value in (*args, *kwargs.values()):
        if _is_array(value):
            yield "an array it was given", int(value.size), _common(value), True
        elif _is_number(value) and (arithmetic or isinstance(value, float)):
            yield "a number it was given", 1, value, True


def array_named(place: str) -> str:
    """How an array is called that is kept under a name."""
    return f"the array '{place}'"


_ARITHMETIC = frozenset(
    ("add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "power", "mod")
)


def _arrays(attributes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arrays among the attributes and in the containers there, with their places."""
    for name, value in attributes.items():
        if _is_array(value):
            yield name, value
        else:
            inside = tracking.parts(value)
            for place, item in inside or ():
                if _is_array(item):
                    yield f"{name}/{place}", item


def _of_function(function: Any, depth: int = 2) -> Iterator[Constant]:
    """What a function of the user's has captured: in a partial call, a closure, defaults, globals, and its code."""
    if isinstance(function, functools.partial):
        bound = {str(i): value for i, value in enumerate(function.args)} | function.keywords
        yield from _of_values(bound, frozenset(bound))
        function = function.func
    if isinstance(function, types.MethodType):
        function = function.__func__
    if not isinstance(function, types.FunctionType) or not is_users(function.__code__.co_filename):
        return  # what a library's function captures is its own affair
    code, names = function.__code__, _operands(function.__code__)
    captured = _closure(function)
    defaults = code.co_varnames[code.co_argcount - len(function.__defaults__ or ()) : code.co_argcount]
    captured |= dict(zip(defaults, function.__defaults__ or (), strict=True)) | (
        function.__kwdefaults__ or {}
    )
    captured |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    yield from _of_values(captured, names)
    for number in _literals(code):
        yield "a number in its code", 1, number, False
    for inner in captured.values():
        if depth and isinstance(inner, types.FunctionType):
            yield from _of_function(inner, depth - 1)


def _closure(function: types.FunctionType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # assigned only later
            continue
    return found


def _of_values(values: dict[str, Any], operands: frozenset[Any]) -> Iterator[Constant]:
    """Arrays and fractions always; a whole number only where it is calculated with, since most are axes or sizes."""
    for name, value in values.items():
        if _is_array(value):
            yield array_named(name), int(value.size), _common(value), True
        elif _is_number(value) and (isinstance(value, float | np.floating) or name in operands):
            yield f"the number '{name}'", 1, value.item() if isinstance(value, np.generic) else value, True


def _literals(code: types.CodeType) -> Iterator[float]:
    """Numbers written in the code: fractions anywhere, whole ones where they are calculated with."""
    operands = _operands(code)
    for number in code.co_consts:
        if _is_number(number) and (isinstance(number, float) or number in operands):
            yield number


def _operands(code: types.CodeType) -> frozenset[Any]:
    """The names and whole numbers that stand beside an arithmetic sign."""
    loads: list[Any] = []
    found: set[Any] = set()
    for step in dis.get_instructions(code):
        if step.opname.startswith("LOAD_") and "ATTR" not in step.opname and "METHOD" not in step.opname:
            several = (
                step.argval
                if isinstance(step.argval, tuple) and "FAST_LOAD" in step.opname
                else (step.argval,)
            )
            loads = [*loads, *several][-2:]
        elif step.opname == "BINARY_OP" and step.argrepr != "[]":
            found.update(value for value in loads if isinstance(value, str | int | float))
            loads = []
        elif step.opname not in ("RESUME", "COPY_FREE_VARS", "CACHE", "NOP"):
            loads = []
    return frozenset(found)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer) and value.size > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _common(array: Any) -> Any:
    """The one value that all numbers of an array have; None where they differ."""
    if (
        array.size > _LARGEST
        or array.dtype.kind not in "iuf"
        or not getattr(array, "is_fully_addressable", True)
    ):
        return None
    values = np.asarray(array).ravel()
    return values[0].item() if (values == values[0]).all() else None
