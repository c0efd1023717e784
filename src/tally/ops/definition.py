"""How an op is defined: a JAX function, Keras's argument names, and which of them are tensors."""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import jax
import jax.numpy as jnp

from tally.core import symbol
from tally.core.dtype import floatx, is_floating, standardize_dtype
from tally.core.variable import Variable, as_array

Array = jax.Array
Function = Callable[..., Any]
Value = Annotated[Any, "reaches the function as it was given"]


def op(
    function: Function, signature: str | None = None, name: str | None = None, *, inexact: bool = False
) -> Function:
    """Make a function of JAX arrays an op: it then takes arrays of any kind, variables and symbolic tensors.

    Tensors arrive as JAX arrays; options arrive with lists turned into tuples and dtypes into names.

    Args:
        function: What computes the result. Used as a decorator, its own annotations say what is a tensor (`Array`,
            `Array | None`), a list of tensors (`Sequence[Array]`), left alone (`Value`), or else an option.
        signature: The arguments as Keras has them, tensors before the semicolon: `"x; axis=None, keepdims=False"`.
            Tensors are passed on by position, options by name.
        name: The op's name where the function's own differs.
        inexact: Whether integer and boolean tensors are computed with as floats.

    Example:
        >>> total = op(jnp.sum, "x; axis=None, keepdims=False")
        >>> total([[1, 2], [3, 4]], axis=[0, 1])
        Array(10, dtype=int32)
        >>> total(tally.Input((3,)), axis=-1).shape
        (None,)
    """
    takes = _annotated(function) if signature is None else _written(signature)

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = takes.accepted.bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        for argument, convert in takes.converters.items():
            values[argument] = convert(values[argument])
        if inexact:
            given = [values[argument] for argument in takes.tensors]
            values.update(zip(takes.tensors, _as_inexact(given), strict=True))
        if signature is None:
            return function(*bound.args, **bound.kwargs)
        return function(*[values.pop(argument) for argument in takes.tensors], **values)

    call.__name__ = call.__qualname__ = name or function.__name__
    call.__module__ = sys._getframe(2 if inexact else 1).f_globals["__name__"]
    call.__doc__ = (
        function.__doc__
        if signature is None
        else f"Compute `{call.__name__}({signature.replace(';', ',')})`."
    )
    call.__signature__ = takes.accepted  # type: ignore[attr-defined]
    call.options = takes.options  # type: ignore[attr-defined]
    return symbol.op(call)


def float_op(function: Function, signature: str | None = None, name: str | None = None) -> Function:
    """An op whose integer and boolean tensors are computed with as floats."""
    return op(function, signature, name, inexact=True)


class _Arguments(NamedTuple):
    """What an op takes: how each argument is converted, which are tensors, and which are options."""

    accepted: inspect.Signature
    converters: dict[str, Function]
    tensors: tuple[str, ...]
    options: tuple[str, ...]


def _sorted_out(accepted: inspect.Signature, converters: dict[str, Function]) -> _Arguments:
    tensors = tuple(name for name, convert in converters.items() if convert in (as_tensor, _as_tensors))
    options = tuple(name for name, convert in converters.items() if convert in (_as_option, _as_dtype))
    return _Arguments(accepted, converters, tensors, options)


@functools.cache  # read once for all ops written alike: importing them takes half as long
def _written(signature: str) -> _Arguments:
    """Read `"x, y; axis=None"`."""
    accepted = inspect.signature(eval(f"lambda {signature.replace(';', ',').strip(' ,')}: None"))
    tensors = {word.split("=")[0].strip() for word in signature.partition(";")[0].split(",")}
    return _sorted_out(
        accepted,
        {p.name: as_tensor if p.name in tensors else _converter(p) for p in accepted.parameters.values()},
    )


def _annotated(function: Function) -> _Arguments:
    accepted = inspect.signature(function)
    return _sorted_out(accepted, {p.name: _converter(p) for p in accepted.parameters.values()})


def _converter(parameter: inspect.Parameter) -> Function:
    annotation = parameter.annotation
    if get_origin(annotation) is Sequence and get_args(annotation) == (Array,):
        return _as_tensors
    if annotation is Array or Array in get_args(annotation):
        return _as_tensors if parameter.kind is parameter.VAR_POSITIONAL else as_tensor
    if annotation is Value:
        return _unchanged
    return _as_dtype if parameter.name == "dtype" else _as_option


def _unchanged(value: Any) -> Any:
    return value


def as_tensor(value: Any) -> Any:
    """A JAX array from any kind of array or number; numbers stay weakly typed, None stays None."""
    if value is None or isinstance(value, jax.Array):
        return value
    if isinstance(value, (bool, int, float, complex)):
        return jnp.asarray(value)
    if isinstance(value, (list, tuple)):
        inner = symbol.leaves(value)
        if any(isinstance(leaf, (jax.Array, Variable)) for leaf in inner):
            return jnp.asarray(symbol.map_tree(as_tensor, value))
    return as_array(value) if not hasattr(value, "__jax_array__") else jnp.asarray(value)


def _as_tensors(values: Any) -> Any:
    return values if isinstance(values, jax.Array) else [as_tensor(value) for value in values]


def _as_option(value: Any) -> Any:
    return tuple(map(_as_option, value)) if isinstance(value, list) else value


def _as_dtype(value: Any) -> str | None:
    return None if value is None else standardize_dtype(value)


def _as_inexact(tensors: list[Any]) -> list[Any]:
    """Integers become `floatx()`, unless a float beside them already says which dtype the result has."""
    given = [
        x
        for x in tensors
        if isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != bool
    ]
    decided = any(not x.weak_type for x in given)
    return tensors if decided else [as_floating(x) for x in tensors]


def as_floating(x: Any) -> Any:
    """Integers and booleans as `floatx()`; floats and None as they are."""
    if x is None or is_floating(x.dtype) or jnp.issubdtype(x.dtype, jnp.complexfloating):
        return x
    return x.astype(floatx())
