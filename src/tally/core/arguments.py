"""What is passed to a layer's call: brought to arrays, matched with the names of `call` and `build`."""

import functools
import inspect
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer

from tally.core import masks
from tally.core.dtype import is_floating
from tally.core.shapes import describe, is_tensor, shapes_of
from tally.core.symbol import leaves, map_tree
from tally.core.variable import Variable, as_array

if TYPE_CHECKING:
    from tally.core.layer import Layer


@functools.cache
def call_parameters(cls: type["Layer"]) -> dict[str, inspect.Parameter]:
    """The parameters of a class's `call`, without self."""
    return dict(list(inspect.signature(cls.call).parameters.items())[1:])


@functools.cache
def build_parameters(cls: type["Layer"]) -> dict[str, Any]:
    """Name and kind of the parameters of a class's `build`, without self."""
    return {name: p.kind for name, p in list(inspect.signature(cls.build).parameters.items())[1:]}


@functools.cache
def default_training(cls: type["Layer"]) -> bool | None:
    """What `call` takes as its phase when nobody says."""
    parameter = call_parameters(cls).get("training")
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def name_training(
    cls: type["Layer"], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give a phase that was passed by position its name."""
    if len(args) > 1 and isinstance(args[-1], bool):
        names = list(call_parameters(cls))
        if len(names) >= len(args) and names[len(args) - 1] == "training":
            return args[:-1], {**kwargs, "training": args[-1]}
    return args, kwargs


def to_arrays(
    layer: "Layer", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring tensors of any framework to JAX arrays, floating ones to the layer's compute dtype."""
    dtype = layer.compute_dtype

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            if layer.autocast and leaf.dtype.name != dtype and is_floating(leaf.dtype):
                return _with_mask(leaf.astype(dtype), leaf)
            return leaf
        if _is_tensorflow(leaf):
            leaf = leaf.numpy()
        if isinstance(leaf, (np.ndarray, np.generic, Variable)) or hasattr(leaf, "detach"):
            array = as_array(leaf)
            return array.astype(dtype) if layer.autocast and is_floating(array.dtype) else array
        return leaf

    if (
        args
        and isinstance(args[0], (list, tuple))
        and leaves(args[0])
        and all(isinstance(x, (int, float)) for x in leaves(args[0]))
    ):
        args = (np.asarray(args[0]), *args[1:])  # layer([[1., 2.]]): plain lists of numbers are data
    if args and isinstance(args[0], (int, float)) and not isinstance(args[0], bool):
        args = (np.asarray(args[0], dtype), *args[1:])
    return map_tree(convert, (args, kwargs))


def _with_mask(array: Any, source: Any) -> Any:
    mask = masks.get_mask(source)
    return array if mask is None else masks.set_mask(array, mask)


def _is_tensorflow(leaf: Any) -> bool:
    return type(leaf).__module__.startswith("tensorflow.python") and hasattr(leaf, "numpy")


def is_traced(structure: Any) -> bool:
    """Whether a tracer is among the leaves."""
    return any(isinstance(leaf, Tracer) for leaf in leaves(structure))


def is_input(leaf: Any) -> bool:
    """Whether a leaf is data rather than a mask."""
    return isinstance(leaf, jax.Array) and leaf.dtype != bool


def as_spec(leaf: Any) -> Any:
    """An array's shape and dtype in its place; anything else as it is."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf


def call_shapes(layer: "Layer", args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name of each tensor argument of `call` -> its shape (nested where the argument is)."""
    bound = _bind(layer, args, kwargs)
    shapes = {}
    for name, value in bound.items():
        if name in ("mask", "training"):
            continue
        if name == "args" and isinstance(value, tuple) and len(value) == 1:
            value = value[0]
        if any(is_tensor(leaf) for leaf in leaves(value)):
            shapes[name] = shapes_of(value)
    return shapes


def _bind(layer: "Layer", args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of its parameters."""
    if len(args) == 1 and not kwargs and "call" not in vars(layer):
        name = _only_argument(type(layer))
        if name is not None:
            return {name: args[0]}
    try:
        return inspect.signature(layer.call).bind(*args, **kwargs).arguments
    except TypeError:
        return {"inputs": args[0]} if args else {}


@functools.cache
def _only_argument(cls: type["Layer"]) -> str | None:
    """The name under which a class's `call` takes a single argument; None where that takes more to tell."""
    first, *others = call_parameters(cls).values() or (None,)
    if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
        return None
    named = (p for p in others if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return None if any(p.default is p.empty for p in named) else first.name


def masks_of(structure: Any) -> Any:
    """The mask of each leaf, or None, in the same structure."""
    return map_tree(lambda leaf: masks.get_mask(leaf) if isinstance(leaf, jax.Array) else None, structure)


def fill_named_masks(names: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Fill `query_mask`, `value_mask`, ... of a call that takes several tensors by name."""
    wanted = [
        name
        for name in names
        if name.endswith("_mask") and name != "attention_mask" and kwargs.get(name) is None
    ]
    if not wanted:
        return kwargs
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    found = {
        name: masks.get_mask(given[name.removesuffix("_mask")])
        for name in wanted
        if given.get(name.removesuffix("_mask")) is not None
    }
    return {**kwargs, **{name: mask for name, mask in found.items() if mask is not None}}


def is_named(shapes: dict[str, Any]) -> bool:
    """Whether shapes are given by the names of `build`'s parameters."""
    return bool(shapes) and all(str(name).endswith("_shape") for name in shapes)


def show_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The tensors of a call in words: `float32[32,28,28,1]`."""
    shown = [describe(leaf) for leaf in leaves((args, kwargs)) if isinstance(leaf, jax.Array)]
    return ", ".join(shown) or "no tensors"
