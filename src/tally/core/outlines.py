"""Shapes that are known already: of layers that are equal and given equal shapes only the first is followed.

A model of a hundred equal blocks is built by following one of them. It holds for this library's own layers alone, and
only for those whose every attribute is plain: what a user's own layer or function gives is found by following it.
"""

from collections.abc import Callable, Hashable
from functools import cache
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from tally.core import masks
from tally.core.calling import Call
from tally.core.dtype import DTypePolicy, floatx, image_data_format
from tally.core.holding import Holder
from tally.core.random import SeedGenerator
from tally.core.shapes import known_sizes
from tally.core.symbol import KerasTensor
from tally.core.variable import Variable, name_scope

_MOST = 4096
"""So many outlines are remembered; then it begins anew."""

_APART = frozenset(("_held", "_arguments", "number", "inbound_nodes", "input_spec"))
"""Attributes that don't tell what a layer computes; its inputs are checked before it is looked for."""

_SHAPELESS = frozenset(("tally.initializers", "tally.regularizers", "tally.constraints"))
"""What comes from here changes values, never shapes."""

_PLAIN = (bool, int, float, str, type(None))


_empty: Any = getattr(jax.lax, "empty", jnp.zeros)
"""Makes an array that nobody reads: one equation, or several where JAX has no such function."""


class _Seen(NamedTuple):
    """What a call noted in one layer.

    Args:
        built_for: What it was built for.
        inputs: The shapes of its inputs.
        outputs: The shapes of its outputs.
    """

    built_for: Any
    inputs: list[tuple[int | None, ...]]
    outputs: list[tuple[int | None, ...]]


class _Outline(NamedTuple):
    """What a layer gives.

    Args:
        outputs: The shape and dtype of each output, in their structure.
        seen: What the call noted in the layer and in each layer inside it.
    """

    outputs: Any
    seen: list[_Seen]


_known: dict[Hashable, _Outline] = {}


class Form(NamedTuple):
    """A layer that is called, as far as the shapes of its outputs depend on it.

    Args:
        key: Equal keys mean equal shapes.
        layers: The layer, and all that are inside it.
        inputs: The tracers or symbolic tensors it is given.
    """

    key: Hashable
    layers: list[Any]
    inputs: list[Any]


def form_of(layer: Any, args: Any, kwargs: Any, training: bool | None = None) -> Form | None:
    """All that decides the shapes of a layer's outputs.

    Args:
        layer: A built layer.
        args: What it is called with: symbolic tensors or tracers.
        kwargs: Likewise.
        training: The phase.

    Returns:
        None where it can't be told: of a layer of the user's, of one with a function of the user's or with arrays.
    """
    if not _is_ours(type(layer)):
        return None
    leaves, structure = jax.tree.flatten((args, kwargs))
    layers: dict[Any, int] = {}
    try:
        given = tuple(map(_given, leaves))
        about = _about(layer, layers)
    except _Unknown:
        return None
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    key = (about, given, structure, training, wide, floatx(), image_data_format())
    return Form(key, list(layers), [leaf for leaf in leaves if isinstance(leaf, (KerasTensor, Tracer))])


def recall(form: Form | None, make: Callable[[Any, str], Any]) -> Any:
    """The outputs of a layer like one that was followed before; None where there was none.

    What the call would have noted in the layer and in those inside it is noted.

    Args:
        form: What is called.
        make: Makes an output of a shape and the name of a dtype.
    """
    outline = _known.get(form.key) if form is not None else None
    if form is None or outline is None:
        return None
    for layer, seen in zip(form.layers, outline.seen, strict=True):
        held = layer._held
        if not held.built and seen.built_for is not None:  # it has no weights, or there would be no form
            with name_scope(form.layers[0].name):
                layer._build(seen.built_for)
        if not held.output_shapes:
            held.input_shapes, held.output_shapes = list(seen.inputs), list(seen.outputs)
    return jax.tree.map(lambda spec: make(spec.shape, spec.dtype.name), outline.outputs)


def learn(form: Form | None, outputs: Any) -> None:
    """Remember what a layer gave.

    Args:
        form: Made before the call, for the call may change what the layer holds; None is not remembered.
        outputs: Tracers or symbolic tensors.
    """
    flat, structure = jax.tree.flatten(outputs)
    if form is None or any(map(_is_special, flat)):
        return
    specs = [jax.ShapeDtypeStruct(_shape(leaf), leaf.dtype) for leaf in flat]
    inputs = [known_sizes(_shape(leaf)) for leaf in form.inputs if leaf.dtype != bool]
    own = _Seen(None, inputs, [known_sizes(spec.shape) for spec in specs])
    inside = [layer._held for layer in form.layers[1:]]
    seen = [own, *(_Seen(held.build_shapes, held.input_shapes, held.output_shapes) for held in inside)]
    if len(_known) >= _MOST:
        forget()
    _known[form.key] = _Outline(jax.tree.unflatten(structure, specs), seen)


def forget() -> None:
    """Forget all that was learned."""
    _known.clear()


def shapes_alone() -> Call:
    """A call that is followed for the shapes of its outputs and for nothing else."""
    call = Call(None)
    asked: dict[Any, Form] = {}

    def stand_in(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        form = form_of(layer, args, kwargs, call.training)
        if form is None or not isinstance(_empty((), "bool"), Tracer):
            return None  # in a build, where arrays that depend on no input are real ones
        known = recall(form, _empty)
        if known is None:
            asked[layer] = form
        return known

    def watch(layer: Any, outputs: Any) -> None:
        learn(asked.pop(layer, None), outputs)

    call.stand_in, call.watch = stand_in, watch
    return call


def _shape(leaf: Any) -> tuple[Any, ...]:
    return leaf.symbolic_shape if isinstance(leaf, KerasTensor) else leaf.shape


def _is_special(leaf: Any) -> bool:
    """Whether an output is more than its shape and dtype say."""
    if isinstance(leaf, KerasTensor):
        return leaf.keras_mask is not None
    return (
        not isinstance(leaf, Tracer)
        or getattr(leaf.aval, "weak_type", True)
        or masks.get_mask(leaf) is not None
    )


class _Unknown(Exception):
    """Something may change the shapes in a way that can't be told from outside."""


@cache
def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("tally.")


def _given(leaf: Any) -> Hashable:
    if isinstance(leaf, KerasTensor) and leaf.keras_mask is None:
        return leaf.symbolic_shape, leaf.dtype
    if isinstance(leaf, Tracer) and masks.get_mask(leaf) is None:
        return leaf.aval
    if type(leaf) in _PLAIN:
        return type(leaf), leaf
    raise _Unknown


def _about(layer: Any, layers: dict[Any, int], depth: int = 0) -> Hashable:
    """What a layer is: its class and attributes, those of the layers inside it included.

    Args:
        layer: The layer.
        layers: Those met so far, numbered; one that is met again is told by its number.
        depth: How deep it lies in the layer that is called.
    """
    if layer in layers:
        return layers[layer]
    layers[layer] = len(layers)
    kind, held = type(layer), layer._held
    if not _is_ours(kind) or layer.activity_regularizer is not None:
        raise _Unknown
    if not held.built and (layer._has_own_build or depth != 1):
        raise _Unknown
    made: list[Hashable] = [kind, kind.call, held.policy.name]
    for name, value in vars(layer).items():
        if name not in _APART:
            made += (name, _piece(value, layers, depth))
    return tuple(made)


def _piece(value: Any, layers: dict[Any, int], depth: int) -> Hashable:
    """A value of an attribute, so that equal pieces mean equal shapes."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is Variable:
        return value.shape, value.dtype, value.autocast, value.lead
    if kind in (list, tuple):
        return kind, *(_piece(one, layers, depth) for one in value)
    if kind is FunctionType or kind is BuiltinFunctionType:
        if (value.__module__ or "").startswith(("tally.", "jax.")):
            return value
    elif kind.__module__ in _SHAPELESS or kind is SeedGenerator:
        return kind
    elif kind is DTypePolicy:
        return value.name
    elif isinstance(value, Holder):
        return _about(value, layers, depth + 1)
    raise _Unknown
