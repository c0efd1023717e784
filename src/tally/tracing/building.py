"""Mistakes in the order of making, building and using: from what layers remember of their attributes."""

from collections.abc import Iterator

from tally.accounting.finding import Finding
from tally.core.holding import Change
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.tracing.study import Study

_TODAY = {
    "input_shape": "start the model with tally.Input(shape)",
    "input_dim": "start the model with tally.Input((input_dim,))",
    "batch_input_shape": "start the model with tally.Input(batch_shape=...)",
    "batch_shape": "start the model with tally.Input(batch_shape=...)",
    "batch_size": "start the model with tally.Input(shape, batch_size=...)",
    "weights": "build the layer, then layer.set_weights(...)",
}
"""Arguments of an older API, and today's form."""


def find(study: Study) -> Iterator[Finding]:
    """Find what is marked as built but isn't (T202), came or changed too late (T203), is lost (T204) or old (T205)."""
    held = set(study.root._flatten_layers())
    layers = {layer.number for layer in held}  # type: ignore[attr-defined]
    variables = {variable.number for variable in study.root.variables}
    for layer in held:
        yield from _falsely_built(study, layer)
        for change in layer._held.changes:
            yield from _changed(study, layer, change, layers, variables)
        yield from _legacy(study, layer)
        yield from _came_late(study, layer)
    yield from _after_compile(study)


def _falsely_built(study: Study, layer: Layer) -> Iterator[Finding]:
    """A layer that says it is built, though what is inside was not, and no call did it since."""
    held = layer._held
    waiting = [
        one for one in layer._flatten_layers(include_self=False) if not one.built and one._has_own_build
    ]
    skipped = held.marked_at is not None and layer._has_own_build and held.build_shapes is None
    waiting = waiting or [
        one
        for one in layer._flatten_layers(include_self=False)
        if not one.built and held.marked_at is not None
    ]
    marked = held.marked_at is not None or layer._has_own_build
    if not held.built or not (skipped or (waiting and marked and not _was_called(layer))):
        return
    who = f"'{study.path(waiting[0]) or waiting[0].name}' inside it has" if waiting else "it has"
    how = "by hand" if held.marked_at is not None else "by its own build"
    yield Finding(
        code="T202",
        layer=study.path(layer),
        what=f"{study.told(layer)} is marked as built {how}, but {who} no weights yet.",
        why="A count or a file made now lacks them, and loading weights finds no place for them.",
        fix="remove self.built = True: the first call sets it"
        if held.marked_at is not None
        else "build what is inside, too: self.inner.build(shape)",
        where=held.marked_at or (waiting[0].made_at if waiting else layer.made_at),
        names=tuple(study.path(one) or one.name for one in waiting),
    )


def _was_called(layer: Layer) -> bool:
    return layer._held.last_call is not None or bool(layer.inbound_nodes)  # type: ignore[attr-defined]


def _changed(
    study: Study, layer: Layer, change: Change, layers: set[int], variables: set[int]
) -> Iterator[Finding]:
    old, new = change.old, change.new
    if study.trainer is not None and change.is_late and change.number < study.trainer.compiled_number:
        return  # compiled again since, with what is there now

    def is_held(thing: object) -> bool:
        numbers = variables if thing.kind == "Variable" else layers  # type: ignore[attr-defined]
        return thing.number in numbers  # type: ignore[attr-defined]

    if (
        change.is_late
        and (new is None or is_held(new))
        and not (old is not None and is_held(old))
        and (new is not None or old is not None)
    ):
        if new is None and old is not None:
            what = (
                f"The {old.kind} '{old.name}' of {study.told(layer)} was replaced by something that is none"
            )
        elif old is not None:
            what = f"self.{change.name} of {study.told(layer)} was exchanged after it was built"
        else:
            what = f"self.{change.name} was added to {study.told(layer)} after it was built"
        yield Finding(
            code="T203",
            layer=study.path(layer),
            what=f"{what}.",
            why="A graph, a compiled optimizer and files made before know nothing of it: it may be left out of the "
            "outputs, of training and of the file.",
            fix="make it in __init__ or build; after an exchange on purpose, make the model anew and compile again",
            where=change.line,
            names=(change.name,),
        )
    elif old is not None and old.is_fresh and not is_held(old) and not change.is_late:
        yield Finding(
            code="T204",
            layer=study.path(layer),
            what=f"self.{change.name} of {study.told(layer)} is assigned again: {old.kind} '{old.name}', made at "
            f"{old.made_at}, is lost before it was used.",
            why="Only the last one is counted, trained and saved.",
            fix="give each a name of its own, or keep them in a list: self.blocks.append(...)",
            where=change.line,
            names=(change.name,),
        )


def _came_late(study: Study, holder: Layer) -> Iterator[Finding]:
    """Layers in a list or dict that were made after the layer which holds them was built."""
    built = holder._held.built_number
    if built is None or type(holder).__module__.startswith("tally."):
        return
    since = study.trainer.compiled_number if study.trainer is not None else 0
    for place, child in holder._children():
        made: int = child.number  # type: ignore[attr-defined]
        if "/" in place and made > max(built, since) and not child._held.made_in_call:
            yield Finding(
                code="T203",
                layer=study.path(holder),
                what=f"{study.told(child)} came into self.{place.partition('/')[0]} of {study.told(holder)} after that "
                "was built.",
                why="A graph, a compiled optimizer and files made before know nothing of it.",
                fix="make it in __init__ or build; after a change on purpose, compile again",
                where=child.made_at,
                names=(study.path(child) or child.name,),
            )


def _legacy(study: Study, layer: Layer) -> Iterator[Finding]:
    for argument in layer._held.legacy:
        if argument in _TODAY:
            yield Finding(
                code="T205",
                layer=study.path(layer),
                what=f"{study.told(layer)} was made with {argument}=, an argument of an older API.",
                why="It works and means the same; the count doesn't change.",
                fix=_TODAY[argument],
                where=layer.made_at,
                names=(argument,),
            )


def _after_compile(study: Study) -> Iterator[Finding]:
    """Weights that the optimizer has no state for, though nobody switched them on."""
    known = study.trainer.compiled_with if study.trainer is not None else {}
    new = [v for v in untrained(study) if v not in known and not was_switched_on(study, v)]
    if new:
        names = tuple(study.entries.get(v, v.path) for v in new)
        yield Finding(
            code="T203",
            layer=names[0].rpartition("/")[0],
            what=f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''} came after compile.",
            why="The optimizer has no state for them, so training can't go on.",
            fix="compile the model again",
            where=new[0].origin,
            names=names,
            count=sum(v.count for v in new),
        )


def untrained(study: Study) -> list[Variable]:
    """The trainable variables that the compiled optimizer was built without; none before it is built."""
    optimizer = study.trainer.optimizer if study.trainer is not None else None
    if optimizer is None or not optimizer.built:
        return []
    covered = set(optimizer.trained_variables)
    return [variable for variable in study.root.trainable_variables if variable not in covered]


def was_switched_on(study: Study, variable: Variable) -> bool:
    """Whether somebody set `trainable = True` on a layer that holds a variable."""
    return any(
        switch.value
        for layer in study.root._flatten_layers()
        if layer._held.switches and variable in layer.variables
        for switch in layer._held.switches
    )
