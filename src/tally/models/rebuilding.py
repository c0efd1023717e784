"""A model built anew with one of its layers exchanged for another: planned as ever, so that nothing is drawn."""

import inspect
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, NamedTuple

import jax

from tally.core.errors import ArgumentError
from tally.core.layer import Layer
from tally.core.registry import remembering
from tally.core.symbol import KerasTensor, map_tree
from tally.layers.basic import InputLayer
from tally.models.cloning import clone_model
from tally.models.model import Model
from tally.models.sequential import Sequential
from tally.tracing.following import given_inputs


class Step(NamedTuple):
    """One step down into a model: where a layer stands in the one above, and the layer."""

    place: str
    layer: Layer


def steps_to(root: Layer, path: str) -> list[Step]:
    """Go down to the layer at a path of the model's ledger.

    Raises:
        ArgumentError: What stands there is no layer, but an operation of a graph.
    """
    steps: list[Step] = []
    layer, rest = root, path
    while rest:
        for place, child in layer._children():
            shown = place.lstrip("_") if type(layer).__module__.split(".")[0] == "tally" else place
            if f"{rest}/".startswith(f"{shown}/"):
                steps.append(Step(place, child))
                layer, rest = child, rest[len(shown) + 1 :]
                break
        else:
            raise ArgumentError(
                f"'{path}' is an operation of the graph, not a layer that could be made otherwise.",
                do="name a layer of the model",
            )
    return steps


def rebuild(root: Layer, steps: Sequence[Step], make: Callable[[], Layer]) -> Layer:
    """Make a model again with another layer at the end of some steps, and build it for the inputs it knows.

    Args:
        root: A model that was built.
        steps: The way to the layer; see `steps_to`.
        make: Makes what stands in its place.

    Raises:
        Exception: What the model's own code raises where it can't be built with that layer.
    """
    with remembering():
        made = _exchange(root, steps, make)
    if not isinstance(made, Model) or made._graph is None:
        call(made, root)
    return made


def copy_with(layer: Layer, **changes: Any) -> Layer:
    """Make a layer again from its configuration, with some of it changed."""
    with remembering():
        return type(layer).from_config({**_config(layer), **changes})


def _config(layer: Layer) -> dict[str, Any]:
    """A layer's configuration without the shapes that it, or a layer inside it, was built for."""
    return _unbuilt(layer.get_config())


def _unbuilt(config: Any) -> Any:
    if isinstance(config, dict):
        kept = {
            name: value for name, value in config.items() if name not in ("build_config", "build_input_shape")
        }
        return {name: _unbuilt(value) for name, value in kept.items()}
    return type(config)(map(_unbuilt, config)) if type(config) in (list, tuple) else config


def call(layer: Layer, like: Layer, shapes: Sequence[tuple[int | None, ...]] = ()) -> Any:
    """Call a layer symbolically on fresh tensors, shaped as those that another was called on.

    Args:
        layer: What is called.
        like: The layer whose call is repeated.
        shapes: What it is called on where `like` was never called by itself, or where other shapes are asked for.
    """
    given = None if shapes else given_inputs(like)
    if given is not None:
        args, kwargs = map_tree(_fresh, given)
        return layer(*args, **kwargs)
    tensors = [KerasTensor(shape, input_dtype(like)) for shape in shapes]
    return layer(*tensors) if len(tensors) <= _places(like) else layer(tensors)


def _places(layer: Layer) -> int:
    """How many tensors its call takes one by one; a layer that takes a list of them has one place for it."""
    parameters = inspect.signature(layer.call).parameters.values()
    return len(
        [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("mask", "training")]
    )


def input_dtype(layer: Layer) -> str:
    """The dtype to feed a layer that was never called: whole numbers where it looks rows up."""
    return "int32" if type(layer).__name__ in ("Embedding", "CategoryEncoding") else layer.compute_dtype


def _fresh(leaf: Any) -> Any:
    if isinstance(leaf, KerasTensor):
        return KerasTensor(leaf.shape, leaf.dtype)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        sizes = tuple(size if isinstance(size, int) else None for size in leaf.shape)
        return KerasTensor((None, *sizes[1:]), leaf.dtype)
    return leaf


def _exchange(layer: Layer, steps: Sequence[Step], make: Callable[[], Layer]) -> Any:
    if not steps:
        return make()
    (place, child), *rest = steps
    if isinstance(layer, Model) and (layer._graph is not None or isinstance(layer, Sequential)):
        return _exchange_in_graph(layer, child, rest, make)
    made = _copy(layer)
    _put(made, place, _exchange(child, rest, make))
    return made


def _exchange_in_graph(model: Model, child: Layer, rest: Sequence[Step], make: Callable[[], Layer]) -> Any:
    """Copy a graph or a stack; each layer is named by its place, which a layer of another class must not shift."""
    places = {layer: place for place, layer in model._children()}

    def copy(layer: Layer) -> Layer:
        made = _exchange(child, rest, make) if layer is child else _copy(layer)
        if layer in places:
            made._held.name, made._held.auto_named = places[layer], False
        return made

    return clone_model(model, clone_function=copy)


def _copy(layer: Layer) -> Any:
    """A layer made again; a nested stack without the shape it was built for, which may be another now."""
    if not isinstance(layer, Sequential):
        return type(layer).from_config(_config(layer))
    places = {one: place for place, one in layer._children()}
    stack = [_copy(one) for one in layer._stack if not isinstance(one, InputLayer)]
    for one, made in zip(
        [one for one in layer._stack if not isinstance(one, InputLayer)], stack, strict=True
    ):
        made._held.name, made._held.auto_named = places[one], False
    return Sequential(stack, name=layer.name, trainable=layer.trainable)


def _put(layer: Layer, place: str, piece: Layer) -> None:
    """Set what stands at a place: an attribute, or a part of a list, dict or namespace there."""
    first, *keys = place.split("/")
    if not hasattr(layer, first):
        raise ArgumentError(
            f"{type(layer).__name__} makes '{place}' only when it is built, so it can't be exchanged before.",
            do="make the layer in __init__",
        )
    holder: Any = layer
    for key in [first, *keys][:-1]:
        holder = _part(holder, key)
    last = keys[-1] if keys else first
    if isinstance(holder, dict):
        holder[last] = piece
    elif isinstance(holder, MutableSequence):
        holder[int(last)] = piece
    elif isinstance(holder, tuple):
        raise ArgumentError(
            f"'{place}' of {type(layer).__name__} is in a tuple, which can't be changed.",
            do="keep the layers in a list",
        )
    else:
        setattr(holder, last, piece)


def _part(holder: Any, key: str) -> Any:
    if isinstance(holder, dict):
        return holder[key]
    return holder[int(key)] if isinstance(holder, Sequence) else getattr(holder, key)
