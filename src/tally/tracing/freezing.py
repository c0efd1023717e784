"""Switches that contradict each other, come too late, or fix a phase: who may learn, and when."""

import inspect
from collections.abc import Iterator

import numpy as np

from tally.accounting.finding import Finding
from tally.accounting.words import plural
from tally.core.holding import Switch
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.layers import BatchNormalization
from tally.layers import regularization as noise_room
from tally.tracing.building import untrained, was_switched_on
from tally.tracing.study import Study


def find(study: Study) -> Iterator[Finding]:
    """Find switches not taken up (T402) or in conflict (T403), and phases fixed by hand (T405)."""
    yield from _after_compile(study)
    yield from _conflicts(study)
    yield from _fixed_phases(study)
    yield from _moving_though_frozen(study)


# -- T402 --------------------------------------------------------------------------------------------------------------
def _after_compile(study: Study) -> Iterator[Finding]:
    trainer = study.trainer
    if trainer is None:
        return
    trainable = study.root._trainable()
    before = trainer.compiled_with
    missed = [v for v in untrained(study) if v in before or was_switched_on(study, v)]
    thawed = missed or [v for v, was in before.items() if v in trainable and not was]
    frozen = [v for v, was in before.items() if was and v not in trainable and v in study.entries]
    for variables, value in ((thawed, True), (frozen, False)):
        if not variables:
            continue
        layer, switch = _last_switch(study, variables[0], value)
        count = sum(v.count for v in variables)
        yield Finding(
            code="T402",
            severity="error" if value and missed else "note",
            layer=study.path(layer) if switch is not None else study.entries[variables[0]].rpartition("/")[0],
            what=f"trainable was set to {value} after compile, for {plural(count, 'parameter')}.",
            why="The optimizer was built without them and has no state for them: they are not trained."
            if value and missed
            else "The next fit takes it up here; Keras and older code need another compile for that.",
            fix="call model.compile(...) again after changing trainable",
            where=switch.line if switch is not None else variables[0].switched_at,
            names=tuple(study.entries.get(v, v.path) for v in variables),
            count=count,
        )


def _last_switch(study: Study, variable: Variable, value: bool) -> tuple[Layer, Switch | None]:
    """The last switch to a value that reached a variable, and the layer it was set on."""
    found = [
        (switch.number, layer, switch)
        for layer in study.root._flatten_layers()
        if layer._held.switches and variable in layer.variables
        for switch in layer._held.switches
        if switch.value is value
    ]
    if not found:
        return study.root, None
    _, layer, switch = max(found, key=lambda one: one[0])
    return layer, switch


# -- T403 --------------------------------------------------------------------------------------------------------------
def _conflicts(study: Study) -> Iterator[Finding]:
    for parent in study.root._flatten_layers():
        last = parent._held.switches[-1] if parent._held.switches else None
        below = [one for one in parent._flatten_layers(include_self=False) if one.weights]
        if not parent.trainable:
            yield from _says_otherwise(study, parent, last, below)
        elif last is not None and last.value:
            yield from _undone(study, parent, last, below)


def _says_otherwise(
    study: Study, parent: Layer, last: Switch | None, below: list[Layer]
) -> Iterator[Finding]:
    """Layers switched on inside one that is off."""
    since = last.number if last is not None else parent.number  # type: ignore[attr-defined]
    on = [
        one for one in below if one.trainable and one._held.switches and one._held.switches[-1].number > since
    ]
    if on:
        first = on[0]._held.switches[-1]
        count = sum(v.count for one in on for v in one.weights if v.declared_trainable)
        yield Finding(
            code="T403",
            layer=study.path(on[0]),
            what=f"'{study.path(on[0]) or on[0].name}'{f' and {len(on) - 1} more' if on[1:] else ''} "
            f"{'say' if on[1:] else 'says'} trainable = True inside {study.told(parent)}, which is frozen.",
            why=f"The layer around them wins: {plural(count, 'parameter')} {'stays' if count == 1 else 'stay'} frozen.",
            fix="set trainable = True on the layer around them, and False on those inside that are to stay",
            where=first.line,
            names=tuple(study.path(one) or one.name for one in on),
            count=count,
        )


def _undone(study: Study, parent: Layer, last: Switch, below: list[Layer]) -> Iterator[Finding]:
    """An earlier choice of some layers inside, undone by the layer around them before anything was trained."""
    if any(switch.value is False for switch in parent._held.switches) or _was_trained(study):
        return  # switched off and on as a whole, or from one phase of training to the next
    chosen = [(one, line) for one in below if (line := _frozen_before(one, last)) is not None]
    if chosen and len(chosen) < len(below):
        first, line = chosen[0]
        yield Finding(
            code="T403",
            layer=study.path(parent),
            what=f"trainable = True on {study.told(parent)} undid trainable = False of "
            f"'{study.path(first) or first.name}'{f' and {len(chosen) - 1} more' if chosen[1:] else ''}, "
            f"set at {line}.",
            why="A switch reaches all layers inside: those are trained now.",
            fix="switch the layer around first, then the ones inside",
            where=last.line,
            names=tuple(study.path(one) or one.name for one, _ in chosen),
        )


def _frozen_before(layer: Layer, last: Switch) -> str | None:
    """The line that switched a layer off, by name or in its constructor, if that was the last word before a switch."""
    switches = [switch for switch in layer._held.switches if switch.number < last.number]
    if switches:
        return switches[-1].line if not switches[-1].value else None
    return layer.made_at if layer._arguments.get("trainable") is False else None


def _was_trained(study: Study) -> bool:
    optimizer = study.trainer.optimizer if study.trainer is not None else None
    return optimizer is not None and optimizer.built


# -- T405 --------------------------------------------------------------------------------------------------------------
_NOISE = tuple(
    kind
    for kind in vars(noise_room).values()
    if isinstance(kind, type)
    and issubclass(kind, Layer)
    and kind.__module__ == noise_room.__name__
    and "training" in inspect.signature(kind.call).parameters
)


def _drops(layer: Layer) -> bool:
    """Whether a layer does something else in training, for the sake of noise."""
    rates = (getattr(layer, name, 0.0) for name in ("dropout", "recurrent_dropout"))
    return isinstance(layer, _NOISE) or any(isinstance(rate, float) and rate > 0 for rate in rates)


def _fixed_phases(study: Study) -> Iterator[Finding]:
    if len(study.flows) < 2:
        return
    for layer in study.root._flatten_layers(include_self=False):
        uses = study.uses(layer)
        fixed = {use.training for use in uses}
        if len(fixed) != 1 or None in fixed:
            continue
        phase = bool(fixed.pop())
        against = study.predicting if phase else study.training
        if against is None or not any(use.layer is layer for use in against.run.uses):
            continue  # it is called in that phase alone
        told = _told_of_phase(layer, phase)
        if told is not None:
            what, why = told
            yield Finding(
                code="T405",
                layer=study.path(layer),
                what=f"{study.told(layer)} is called with training={phase}, whatever the model does: {what}.",
                why=why,
                fix="leave training out of the call, or pass the call's own training argument on",
                where=uses[0].line or _called_at(layer),
                names=(study.path(layer),),
            )


def _told_of_phase(layer: Layer, phase: bool) -> tuple[str, str] | None:
    """What a fixed phase does to a layer, and what that means; None where it is a usual way of using it."""
    if isinstance(layer, BatchNormalization):
        return _statistics(layer, phase)
    if _drops(layer):
        return _noise(phase)
    inside = layer._flatten_layers(include_self=False)
    if phase and any(_drops(one) for one in inside):
        return _noise(phase)
    if phase and any(isinstance(one, BatchNormalization) and one.trainable for one in inside):
        return _statistics(layer, phase)
    return None


def _noise(phase: bool) -> tuple[str, str]:
    if phase:
        return (
            "it is random in predictions, too",
            "Predictions differ from call to call, and evaluate is noisy.",
        )
    return "it never drops anything", "There is no regularisation while training."


def _statistics(layer: Layer, phase: bool) -> tuple[str, str] | None:
    if phase:
        return (
            "predictions depend on what else is in the batch",
            "The moving statistics are updated, but never used.",
        )
    if not layer.trainable or not _is_untouched(layer):
        return None  # statistics that were trained or loaded before are meant to stay
    return (
        "its moving statistics stay at 0 and 1",
        "Nothing is normalised: only gamma and beta do anything.",
    )


def _is_untouched(layer: Layer) -> bool:
    """Whether the moving statistics are still those a layer begins with."""
    mean, variance = getattr(layer, "moving_mean", None), getattr(layer, "moving_variance", None)
    if mean is None or variance is None or mean.is_planned or variance.is_planned:
        return True
    return not np.asarray(mean.raw).any() and bool((np.asarray(variance.raw) == 1).all())


def _called_at(layer: Layer) -> str | None:
    """The line of the call in a graph, else the one that made the layer."""
    nodes = layer.inbound_nodes  # type: ignore[attr-defined]
    return nodes[0].made_at if nodes else layer.made_at


def _moving_though_frozen(study: Study) -> Iterator[Finding]:
    flow = study.training
    if flow is None:
        return
    assigned = set(flow.run.assigned)
    for layer in study.root._flatten_layers():
        own = layer._own_variables()
        moving = [v for v in own if v in assigned and not v.is_seed]
        learned = [v for v in own if v.declared_trainable]
        if moving and learned and not any(v.trainable for v in learned):
            yield Finding(
                code="T405",
                layer=study.path(layer),
                what=f"The weights of {study.told(layer)} are frozen, but its {moving[0].name} still follows the data "
                "in training.",
                why="What it computes drifts although its weights stay.",
                fix="freeze the layer itself, layer.trainable = False: then its statistics stay, too",
                where=learned[0].frozen_at or layer.made_at,
                names=tuple(study.entries.get(v, v.path) for v in moving),
            )
