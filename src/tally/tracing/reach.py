"""What no output depends on, and what no gradient comes back to: found by following labels through both phases."""

from collections.abc import Iterator

from tally.accounting.finding import Finding
from tally.accounting.words import listed, plural
from tally.core.layer import Layer
from tally.core.symbol import KerasTensor, Node, consumers, leaves
from tally.core.variable import Variable
from tally.layers import BatchNormalization
from tally.tracing.flow import Flow, Stop, lines
from tally.tracing.following import Use
from tally.tracing.study import Study


def find(study: Study) -> Iterator[Finding]:
    """Find weights and inputs that lead nowhere (T301, T302), get no gradient (T303) or are undone (T304)."""
    yield from _detached(study)
    if not study.flows:
        return
    yield from _idle_inputs(study)
    if not _has_own_loss(study.root):  # what it reaches there can't be told without targets
        unused = list(_unused(study))
        yield from _tell_unused(study, unused)
        yield from _without_gradient(study)
    yield from _cancelled(study)
    yield from _borrowed(study)


def _has_own_loss(root: Layer) -> bool:
    own = getattr(type(root), "compute_loss", None)
    return own is not None and not own.__module__.startswith("tally.")


# -- T301 --------------------------------------------------------------------------------------------------------------
def _unused(study: Study) -> Iterator[Variable]:
    """The weights that no output, added loss or new state depends on, in either phase."""
    for place, variable in enumerate(study.flows[0].run.variables):
        if variable.declared_trainable and not any(flow.reached() >> place & 1 for flow in study.flows):
            yield variable


def _tell_unused(study: Study, unused: list[Variable]) -> Iterator[Finding]:
    """One finding for the outermost layer of which nothing is used, else one for each layer's weights."""
    lost = set(unused)
    by_layer: dict[Layer, list[Variable]] = {}
    for layer in study.root._flatten_layers():
        for variable in layer._own_variables():
            if variable in lost:
                by_layer.setdefault(_outermost(study, layer, lost), []).append(variable)
                lost.discard(variable)
    called = {use.layer for flow in study.flows for use in flow.run.uses}
    for layer, variables in by_layer.items():
        names = tuple(study.entries.get(v, v.path) for v in variables)
        count = sum(v.count for v in variables)
        if layer in called or layer is study.root:
            what = f"{listed([v.name for v in variables])} of {study.told(layer)} never reaches an output"
            fix = "use it in call, or don't make it"
        else:
            what = f"{study.told(layer)} is built and counted, but never called"
            fix = f"call it in call, or remove it: {layer.made_at} makes it"
        yield Finding(
            code="T301",
            layer=study.path(layer),
            what=f"{what}.",
            why=f"Counted ({plural(count, 'parameter')}), saved and given optimizer state, but nothing the model gives "
            "depends on it: training leaves it as it was drawn.",
            fix=fix,
            where=variables[0].origin if layer in called or layer is study.root else layer.made_at,
            names=names,
            count=count,
        )


def _outermost(study: Study, layer: Layer, lost: set[Variable]) -> Layer:
    """The layer around it, or around that, of which nothing is used; itself if there is none."""
    path, found = study.path(layer), layer
    for other, place in study.layers.items():
        if place and path.startswith(f"{place}/") and other is not study.root:
            weights = [v for v in other.weights if v.declared_trainable]
            called = any(use.layer is other for flow in study.flows for use in flow.run.uses)
            if (
                not called
                and weights
                and all(v in lost for v in weights)
                and len(place) < len(study.path(found))
            ):
                found = other
    return found


# -- T302 --------------------------------------------------------------------------------------------------------------
def _idle_inputs(study: Study) -> Iterator[Finding]:
    run = study.flows[0].run
    first = len(run.variables)
    graph = getattr(study.root, "_graph", None)
    for place in range(len(run.inputs)):
        if any(flow.reached() >> (first + place) & 1 for flow in study.flows):
            continue
        name, line = f"input {place}", study.root.made_at
        if graph is not None and place < len(graph.inputs):
            node = graph.inputs[place].node
            name, line = f"the input '{node.operation.name}'", node.made_at
        yield Finding(
            code="T302",
            layer="",
            what=f"No output depends on {name}.",
            why="What is fed there changes nothing the model gives, and nothing is learned from it.",
            fix="use it on the way to an output, or leave it out of the model's inputs",
            where=line,
            names=(name,),
        )


def _detached(study: Study) -> Iterator[Finding]:
    """Layers applied to the model's tensors whose results no model uses."""
    graph = getattr(study.root, "_graph", None)
    if graph is None:
        return
    inside = {getattr(layer, "number", None) for layer in graph.layers}
    for tensor in (t for node in graph.nodes for t in _tensors(node)):
        for use in consumers(tensor):
            if (
                use.number is not None
                and use.number not in inside
                and not (use.mark.is_used or use.only_merges)
            ):
                yield Finding(
                    code="T302",
                    layer="",
                    what=f"{use.kind} '{use.name}' is applied, but what it gives leads to no output of a model.",
                    why="It is no part of the model: not counted, not trained, not saved.",
                    fix="pass its result on, x = layer(x), or remove the line",
                    where=use.line,
                    names=(use.name,),
                )


def _tensors(node: Node) -> list[KerasTensor]:
    return [leaf for leaf in leaves(node.outputs) if isinstance(leaf, KerasTensor)]


# -- T303 --------------------------------------------------------------------------------------------------------------
def _without_gradient(study: Study) -> Iterator[Finding]:
    flow = study.training
    if flow is None or _only_predicts(study, flow):
        return
    trainable = set(study.root.trainable_variables)
    reached = _union(label.sources for label in (*flow.outputs, *flow.losses))
    learning = flow.learning()
    cut: dict[tuple[str, str | None], list[Variable]] = {}
    stops: dict[tuple[str, str | None], Stop] = {}
    for place, variable in enumerate(flow.run.variables):
        if variable in trainable and reached >> place & 1 and not learning >> place & 1:
            stop = _stop(flow, 1 << place)
            key = (stop.words, stop.line) if stop is not None else ("", None)
            cut.setdefault(key, []).append(variable)
            if stop is not None:
                stops[key] = stop
    for key, variables in cut.items():
        yield _no_gradient(study, variables, stops.get(key))


def _only_predicts(study: Study, flow: Flow) -> bool:
    """A model that gives whole numbers alone and isn't compiled is made of a trained one, for its answers."""
    outputs = flow.run.jaxpr.jaxpr.outvars[: flow.run.outputs]
    whole = all(out.aval.dtype.kind in "iub" for out in outputs)
    return whole and study.trainer is None


def _stop(flow: Flow, bit: int) -> Stop | None:
    """What stands in the way: the last that does, for a rectifier, softmax and the like stop some beside it, too."""
    found = [stop for stop in flow.stops if stop.bits & bit]
    return next(lines(found[::-1]), found[-1] if found else None)


def _no_gradient(study: Study, variables: list[Variable], stop: Stop | None) -> Finding:
    count = sum(v.count for v in variables)
    names = tuple(study.entries.get(v, v.path) for v in variables)
    owner = next(
        (layer for layer in study.root._flatten_layers() if variables[-1] in layer._own_variables()),
        study.root,
    )
    way = f"only through {stop.words}, which no gradient passes" if stop else "only where no gradient passes"
    return Finding(
        code="T303",
        layer=study.path(owner),
        what=f"{listed(list(names), 4)} {'reaches' if len(names) == 1 else 'reach'} the output {way}.",
        why=f"{plural(count, 'trainable parameter')} will stay as drawn: the gradient is zero, and nothing says so.",
        fix="let a differentiable path lead to the loss, for instance x + stop_gradient(round(x) - x), "
        "or set trainable = False where it is meant",
        where=(stop.line if stop is not None else None) or variables[0].origin,
        names=names,
        count=count,
    )


def _union(several: Iterator[int]) -> int:
    found = 0
    for one in several:
        found |= one
    return found


# -- T305 --------------------------------------------------------------------------------------------------------------
def _borrowed(study: Study) -> Iterator[Finding]:
    """Weights of a layer that one of the user's own uses, too, such as an embedding that is the output's kernel."""
    readers = study.flows[0].run.readers
    for layer in study.root._flatten_layers():
        for variable in layer._own_variables():
            others = [
                one
                for one in readers.get(variable, ())
                if one is not layer and not type(one).__module__.startswith("tally.")
            ]
            if others and len(readers[variable]) > 1:
                yield Finding(
                    code="T305",
                    layer=study.path(layer),
                    what=f"'{study.entries.get(variable, variable.path)}' is used by {study.told(others[0])}, too.",
                    why="It counts once; a gradient of each use reaches it.",
                    where=layer.made_at,
                    names=(study.entries.get(variable, variable.path),),
                    count=variable.count,
                )


# -- T304 --------------------------------------------------------------------------------------------------------------
def _cancelled(study: Study) -> Iterator[Finding]:
    """Biases of layers whose output goes into a batch normalisation and nowhere else."""
    flow = study.training
    if flow is None:
        return
    makers: dict[int, Use] = {id(out): use for use in flow.run.uses for out in use.outputs}
    seen: set[Layer] = set()
    for use in flow.run.uses:
        if not isinstance(use.layer, BatchNormalization) or not use.inputs:
            continue
        before = makers.get(id(use.inputs[0]))
        bias = getattr(before.layer, "bias", None) if before is not None else None
        if before is None or before.layer in seen or not isinstance(bias, Variable):
            continue
        linear = getattr(getattr(before.layer, "activation", None), "__name__", "linear") == "linear"
        if linear and use.layer.axis in (-1, use.inputs[0].ndim - 1) and use.phase and use.layer.trainable:
            seen.add(before.layer)
            yield Finding(
                code="T304",
                layer=study.path(before.layer),
                what=f"The bias of {study.told(before.layer)} is removed again by {study.told(use.layer)}, "
                "which subtracts each channel's mean.",
                why=f"Counted ({plural(bias.count, 'parameter')}) and trained, but it changes nothing the model gives.",
                fix="use_bias=False in the layer before the normalisation",
                where=before.layer.made_at,
                names=(study.entries.get(bias, bias.path),),
                count=bias.count,
            )
