"""`what_if`: a layer made otherwise, side by side with what it is."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from tally.accounting.ledger import COUNTED, Ledger, Owner
from tally.accounting.place import locate
from tally.accounting.what_if import Variant, WhatIf, in_place, read_shape, stands_apart, weigh
from tally.core.errors import ArgumentError, TallyError, UnbuiltError, nearest
from tally.core.layer import Layer
from tally.core.registry import known_arguments
from tally.core.symbol import KerasTensor, leaves
from tally.models.ledger import account
from tally.models.model import Model
from tally.models.rebuilding import Step, call, copy_with, input_dtype, rebuild, steps_to
from tally.models.variants import Recipe, Source, recipes, usual_changes
from tally.models.verbs.show import show
from tally.models.verbs.subject import opened
from tally.tracing.following import given_inputs
from tally.tracing.undisturbed import undisturbed

Shape = tuple[int | None, ...]


def what_if(
    subject: Any,
    layer: str | None = None,
    *,
    variants: Sequence[str] | None = None,
    input_shape: Any = None,
    rank: int | None = None,
    bottleneck: int | None = None,
    print_fn: Callable[..., Any] | None = None,
    **changes: Any,
) -> WhatIf:
    """Print what a layer would count, compute and give if it were made otherwise, and what that does to the model.

    Every figure comes from building the layer, and the model with it, as they are built in use: planned, so that no
    weight is drawn. Nothing of the subject is changed.

    Args:
        subject: A model or layer of this library, a `Ledger`, or the path of a file.
        layer: The path or name of the layer; left out where the subject is the layer itself.
        variants: Names of variants to show, such as `("separable", "depthwise")`; those of the layer's family unless
            given, or none if changes are.
        input_shape: What the layer reads, the batch first, such as `(None, 32, 32, 3)`; what it was built for unless
            given.
        rank: The inner size of a low-rank variant.
        bottleneck: The inner size of the 1×1 bottleneck.
        print_fn: What is called with the text; printing unless given.
        **changes: Arguments of the layer's class with another value, such as `filters=64`; a list of values gives a
            variant for each.

    Raises:
        ArgumentError: There is no such layer, variant or argument.
        UnbuiltError: The layer has seen no input shape, and none is given.

    Example:
        >>> layer = tally.layers.Conv2D(10, 4, name="conv")
        >>> found = tally.what_if(layer, input_shape=(None, 32, 32, 3), print_fn=lambda text: None)
        >>> found.as_it_is.parameters, found["channel-shared"].parameters
        (490, 170)
        >>> found["separable"].formula.numbers
        '4·4·3·1 + 10 × (3 + 1) = 88'
    """
    from tally.report.what_if import draw

    thing = opened(subject)
    sizes = {name: size for name, size in (("rank", rank), ("bottleneck", bottleneck)) if size is not None}
    asked = _Asked(None if variants is None else tuple(variants), _shapes(input_shape), sizes, changes)
    found = _of_ledger(thing, layer, asked) if isinstance(thing, Ledger) else _of_layer(thing, layer, asked)
    show(draw(found), print_fn)
    return found


class _Asked(NamedTuple):
    """What was asked for."""

    variants: tuple[str, ...] | None
    shapes: tuple[Shape, ...]
    sizes: dict[str, int]
    changes: dict[str, Any]


def _of_layer(root: Layer, name: str | None, asked: _Asked) -> WhatIf:
    with undisturbed(root):
        ledger = account(root)
        steps = steps_to(root, _path(ledger, root, name))
        path = "/".join(_shown(steps))
        layer = steps[-1].layer if steps else root
        shapes = asked.shapes or (() if given_inputs(layer) else _known_shapes(layer))
        built = copy_with(layer) if asked.shapes or not layer.built else layer
        if built is not layer:
            call(built, layer, shapes)
        start = weigh("as it is", "", account(built))
        around = root if steps and not asked.shapes else None
        place = _Place(path, ledger, start, around, steps, "another input was asked for")
        source = Source(layer, *_first_input(layer, shapes), asked.sizes)
        return _compare(source, place, shapes, asked)


def _of_ledger(ledger: Ledger, name: str | None, asked: _Asked) -> WhatIf:
    """A layer made again from its row in a ledger; the model around it is known by its counts alone."""
    if name is None and len(ledger.owners) > 1:
        raise _which(ledger)
    owner = next(iter(ledger.owners)) if name is None else ledger.owner(_find(ledger, name))
    path, entries = owner.path, ledger.owned_by(owner.path)
    told = read_shape(owner, entries)
    shapes = asked.shapes or owner.input_shapes or (() if told is None else (told,))
    layer = _from_row(owner, shapes)
    with undisturbed(layer):
        source = Source(layer, *_first_input(layer, shapes), asked.sizes)
        call(layer, layer, shapes)
        start = weigh("as it is", "", account(layer))
        if not (asked.shapes or owner.input_shapes):
            _check_size(owner, start, sum(entry.size for entry in entries if entry.state in COUNTED))
        place = _Place(path, ledger, start, None, [])
        return _compare(source, place, shapes, asked)


class _Place(NamedTuple):
    """Where the layer stands, and the live model around it where there is one to build again."""

    path: str
    ledger: Ledger
    start: Variant
    root: Layer | None
    steps: list[Step]
    alone: str = "the model itself is not at hand"

    @property
    def is_called_by_hand(self) -> bool:
        """Whether a `call` of the user's own stands around the layer, which may use more of it than its output."""
        around = [self.root, *(step.layer for step in self.steps[:-1])] if self.root is not None else []
        return any(type(layer).__module__.split(".")[0] != "tally" for layer in around)


def _compare(source: Source, place: _Place, shapes: tuple[Shape, ...], asked: _Asked) -> WhatIf:
    start = place.start
    if place.path:
        start = in_place(start, place.path, place.ledger, None)
    found = [start]
    for recipe in _wanted(source, asked):
        variant = _built(recipe, source.layer, shapes)
        if variant.problem is None and place.path:
            variant = _placed(variant, recipe, place)
        found.append(variant)
    return WhatIf(
        name=place.ledger.name,
        path=place.path,
        type=type(source.layer).__name__,
        input_shapes=shapes or tuple(leaf.shape for leaf in _given(source.layer)),
        variants=tuple(found),
    )


# -- what is shown -----------------------------------------------------------------------------------------------------
def _wanted(source: Source, asked: _Asked) -> Iterator[Recipe]:
    """The changes that were asked for, then the variants: of the changed layer, where there is one change."""
    _check_names(source.layer, asked)
    changed = list(_changed(source.layer, asked.changes))
    usual = asked.variants is None and not changed and not asked.sizes
    if usual:
        for change in usual_changes(source):
            changed.extend(_changed(source.layer, change))
    yield from changed
    if asked.variants is None and changed and not usual and not asked.sizes:
        return
    if len(changed) == 1 and not usual:
        source = source._replace(layer=changed[0].make())
    known = list(recipes(source))
    wanted = known if asked.variants is None else _named(known, asked.variants, source.layer)
    if asked.sizes and asked.variants is None and not usual:
        wanted = [recipe for recipe in known if recipe.name.partition("=")[0] in asked.sizes]
    yield from wanted


def _changed(layer: Layer, changes: dict[str, Any]) -> Iterator[Recipe]:
    """One recipe for each combination of the values asked for."""
    several = {name: value if isinstance(value, list) else [value] for name, value in changes.items()}
    for values in itertools.product(*several.values()) if several else ():
        change = dict(zip(several, values, strict=True))
        name = ", ".join(f"{key}={_written(value)}" for key, value in change.items())
        yield Recipe(name, "", lambda change=change: copy_with(layer, **change))


def _written(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_names(layer: Layer, asked: _Asked) -> None:
    known = known_arguments(type(layer))
    for name in asked.changes:
        if known is not None and name not in known:
            raise ArgumentError(
                f"{type(layer).__name__} has no argument '{name}'.{nearest(name, sorted(known))}",
                do=f"use one of {', '.join(sorted(known - set(_EVERY)))}",
            )


_EVERY = ("name", "dtype", "trainable", "autocast", "activity_regularizer")
_ALIASES = {"grouped": "groups", "factorized": "factorised", "low-rank": "rank", "1x1": "bottleneck"}


def _named(known: list[Recipe], names: Sequence[str], layer: Layer) -> list[Recipe]:
    """The recipes of some names; `groups` stands for all with another number of groups."""
    found: list[Recipe] = []
    for name in names:
        plain = name.strip().replace("_", "-").lower()
        wanted = (plain, _ALIASES.get(plain, plain))
        matching = [
            one for one in known if {one.name.lower(), one.name.partition("=")[0].lower()} & set(wanted)
        ]
        if not matching:
            words = list(dict.fromkeys(one.name.partition("=")[0] for one in known))
            raise ArgumentError(
                f"{type(layer).__name__} has no variant '{name}'.{nearest(name, words)}",
                do=f"use one of {', '.join(words)}" if words else "change its arguments, such as units=16",
            )
        found.extend(matching)
    return found


# -- building ----------------------------------------------------------------------------------------------------------
def _built(recipe: Recipe, layer: Layer, shapes: tuple[Shape, ...]) -> Variant:
    try:
        piece = recipe.make()
        call(piece, layer, shapes)
        return weigh(recipe.name, recipe.what, account(piece))
    except Exception as error:  # whatever the layer's own code says against it is the answer
        return Variant(name=recipe.name, what=recipe.what, problem=_reason(error))


def _placed(variant: Variant, recipe: Recipe, place: _Place) -> Variant:
    """Put a variant into the model; only where what follows may see another shape is the model built again."""
    path, ledger, start = place.path, place.ledger, place.start
    same = _without_batch(variant) == _without_batch(start)
    if same and stands_apart(ledger, path) and not place.is_called_by_hand:
        return in_place(variant, path, ledger, None)
    if place.root is None:
        return replace(variant, note=f"What follows isn't built again: {place.alone}.")
    try:
        return in_place(variant, path, ledger, account(rebuild(place.root, place.steps, recipe.make)))
    except Exception as error:  # the model's own code says why it can't take the variant
        return replace(variant, note=f"The model can't be built with it: {_reason(error)}")


def _without_batch(variant: Variant) -> list[Shape]:
    return [shape[1:] for shape in variant.output_shapes]


def _reason(error: Exception) -> str:
    """What happened, in a sentence."""
    text = error.what if isinstance(error, TallyError) else str(error).partition("\n")[0]
    return text or type(error).__name__


# -- the layer and its input -------------------------------------------------------------------------------------------
def _path(ledger: Ledger, root: Layer, name: str | None) -> str:
    if name is not None:
        return _find(ledger, name)
    if isinstance(root, Model):
        raise _which(ledger)
    return ""


def _find(ledger: Ledger, name: str) -> str:
    try:
        return locate(ledger, name)
    except ValueError as error:
        raise ArgumentError(str(error), do="name a layer by its path, as the summary shows it") from None


def _which(ledger: Ledger) -> ArgumentError:
    names = [owner.path for owner in ledger.children("") if owner.type != "InputLayer"]
    shown = ", ".join(names[:8]) + (", ..." if names[8:] else "")
    return ArgumentError(
        f"'{ledger.name}' has several layers, and none was named.", do=f"say layer=...; there is {shown}"
    )


def _shown(steps: Sequence[Step]) -> Iterator[str]:
    """The places as the ledger writes them."""
    above = None
    for step in steps:
        ours = above is None or type(above).__module__.split(".")[0] == "tally"
        yield step.place.lstrip("_") if ours else step.place
        above = step.layer


def _shapes(given: Any) -> tuple[Shape, ...]:
    """One shape or several, as a tuple of shapes."""
    if given is None:
        return ()
    if given and isinstance(given[0], tuple | list):
        return tuple(tuple(shape) for shape in given)
    return (tuple(given),)


def _given(layer: Layer) -> list[Any]:
    """The tensors a layer was called on."""
    given = given_inputs(layer)
    return (
        [leaf for leaf in leaves(given) if isinstance(leaf, KerasTensor | jax.ShapeDtypeStruct)]
        if given
        else []
    )


def _known_shapes(layer: Layer) -> tuple[Shape, ...]:
    """The shapes that a layer was called on inside another, or was built for without a call."""
    if layer._held.input_shapes:
        return _shapes(layer._held.input_shapes)
    shapes = layer._held.build_shapes
    if isinstance(shapes, tuple | list) and shapes and not isinstance(shapes[0], str):
        return _shapes(shapes)
    raise UnbuiltError(
        f"{type(layer).__name__} '{layer.name}' has seen no input, so nothing can be said of its size.",
        where=f"made at {layer.made_at}",
        do="say input_shape=..., the batch first, such as (None, 28, 28, 1)",
    )


def _check_size(owner: Owner, start: Variant, size: int) -> None:
    """Refuse to compare with a layer that isn't the one in the file: one with a weight norm, or something beside."""
    if start.parameters != size:
        raise ArgumentError(
            f"'{owner.path}' has {size:,} parameters, and a {owner.type} made from what its ledger tells "
            f"would have {start.parameters or 0:,}.",
            do="give the model itself, or its .keras file",
        )


def _first_input(layer: Layer, shapes: tuple[Shape, ...]) -> tuple[Shape, str]:
    if shapes:
        return shapes[0], input_dtype(layer)
    first = _given(layer)[0]
    sizes = tuple(size if isinstance(size, int) else None for size in first.shape)
    return (None, *sizes[1:]), str(first.dtype)


def _from_row(owner: Owner, shapes: tuple[Shape, ...]) -> Layer:
    from tally import layers

    kind = getattr(layers, owner.type, None) if owner.builtin else None
    if kind is None or not issubclass(kind, Layer) or issubclass(kind, Model):
        raise ArgumentError(
            f"A {owner.type} can't be made again from a ledger alone.",
            where=f"'{owner.path}' is not known to be a single layer of this library",
            do="give the model itself or its .keras file, or name a layer inside it",
        )
    if not shapes:
        raise ArgumentError(
            f"A {owner.type} can't be made again from a ledger that doesn't say what it reads.",
            where=f"no input of '{owner.path}' is known, and its weights don't tell its shape",
            do="say input_shape=... (--input-shape), or give the model itself or its .keras file",
        )
    known = known_arguments(kind) or frozenset[str]()
    unsaid = ("activation", "function")  # they count nothing, and their names alone don't give them back
    options = {name: value for name, value in owner.options if name in known and name not in unsaid}
    return kind(**options, name=owner.name)
