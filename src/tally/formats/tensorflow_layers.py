"""The layers of a SavedModel: what holds its variables, the classes Keras 2 kept beside the graph, what feeds what."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tally.formats.json_text import parse_json
from tally.formats.keras_config import describe, is_configuration
from tally.formats.limits import Limits
from tally.formats.protobuf import Message
from tally.formats.tensor import Node, Tensor
from tally.formats.tensorflow_graph import Graph, variable_of
from tally.formats.uses import Flow
from tally.formats.window import opened

_LAYERS = ("_tf_keras_layer", "_tf_keras_rnn_layer")
_LONGEST = 16 * 2**20
"""Bytes of what Keras says of one layer."""
_MOST_FEEDERS = 8


def read_layers(path: Path, limits: Limits) -> dict[str, Mapping[str, Any]]:
    """Read what Keras 2 says of each layer of a model, by its name: the class and the options.

    Raises:
        BadFileError: It is broken.
    """
    found: dict[str, Mapping[str, Any]] = {}
    with opened(path) as window:
        for number, part in Message(window, limits=limits).fields():
            if number != 1 or not isinstance(part, Message):
                continue
            table = part.table()
            text = table.message_of(5)
            if text is None or table.text(4) not in _LAYERS:
                continue
            said: Any = parse_json(text.text(longest=_LONGEST), path, f"byte {text.start:,}", limits)
            if isinstance(said, dict):
                layer = cast("dict[str, Any]", said)
                name, kind = layer.get("name"), layer.get("class_name")
                if isinstance(name, str) and isinstance(kind, str):
                    found[name] = {"class_name": kind, "config": layer.get("config") or {}}
    return found


def owners_of(
    held: Sequence[Tensor],
    program: Mapping[str, str],
    said: Mapping[str, Mapping[str, Any]],
    graph: Graph,
    flow: Flow,
) -> tuple[Node, ...]:
    """Return what holds the variables of a graph, in the order in which it uses them.

    Args:
        held: The variables.
        program: The full name of each in the program, by its own.
        said: What the file says of each layer, by its name; the type of a layer of which it says nothing is `""`.
        graph: The graph.
        flow: Where its values go.
    """
    arrays: dict[str, list[Tensor]] = {}
    for tensor in held:
        if tensor.role in ("weight", "state") and "/" in tensor.name:
            arrays.setdefault(tensor.name.rpartition("/")[0], []).append(tensor)
    homes = {program[one.name]: owner for owner, inside in arrays.items() for one in inside}
    users = _users(homes, graph, flow)
    cells = {owner for owner, inside in arrays.items() if any(_is_recurrent(one) for one in inside)}
    places = {step.name: place for place, step in enumerate(flow.steps)}
    first: dict[str, int] = {}
    for step, owner in users.items():
        first[owner] = min(first.get(owner, places[step]), places[step])
    users |= _inside(_scopes(users, cells, graph), graph, flow)
    fed = _feeders(users, graph, flow)
    inputs: dict[str, dict[str, None]] = {}
    for step, owner in users.items():
        inputs.setdefault(owner, {}).update(dict.fromkeys(fed.get(step, ())))
    ordered = sorted(arrays, key=lambda owner: first.get(owner, len(places)))
    return tuple(
        _node(owner, arrays[owner], said, tuple(one for one in inputs.get(owner, ()) if one != owner))
        for owner in ordered
    )


def _node(
    owner: str, arrays: Sequence[Tensor], said: Mapping[str, Mapping[str, Any]], inputs: tuple[str, ...]
) -> Node:
    layer = said.get(owner.rpartition("/")[2], {})
    known = describe(layer).layers[:1] if is_configuration(layer) else []
    return Node(
        name=owner,
        type=known[0].type if known else "",
        tensors=tuple(one.name for one in arrays),
        options=known[0].options if known else {},
        inputs=inputs[:_MOST_FEEDERS],
    )


def _users(homes: Mapping[str, str], graph: Graph, flow: Flow) -> dict[str, str]:
    """The operations that take a variable in the end, and what holds it."""
    users: dict[str, str] = {}
    for value, handle in graph.handles.items():
        name = variable_of(handle, homes)
        if name is not None:
            for use in flow.uses(value):
                users.setdefault(use.step.name, homes[name])
    return users


def _is_recurrent(tensor: Tensor) -> bool:
    return tensor.name.endswith("/recurrent_kernel")


def _scopes(users: Mapping[str, str], cells: Container[str], graph: Graph) -> dict[tuple[str, ...], str]:
    """Where the operations of each owner stand, told by those that take its variables.

    A layer's operations have names that begin alike, `model/norm_1/` for those of `norm`; those of a recurrent layer
    around its cell belong to the cell. A place that two owners have is nobody's.
    """
    found: dict[tuple[str, ...], str | None] = {}
    for step, owner in users.items():
        path, names = _path(step, graph), owner.split("/")[-_DEEPEST:]
        size = next((at for at in range(len(path) - 1, 0, -1) if _is_called(path[at - 1], names[-1])), 0)
        places = [path[:size]] if size else []
        if size and owner in cells and len(names) > 1:
            above = next((at for at in range(size - 1, 0, -1) if _is_called(path[at - 1], names[-2])), 0)
            places += [path[:above]] if above else []
        for place in places:
            found[place] = owner if found.get(place, owner) == owner else None
    return {place: owner for place, owner in found.items() if owner is not None}


def _inside(scopes: Mapping[tuple[str, ...], str], graph: Graph, flow: Flow) -> dict[str, str]:
    """The operations that stand where an owner's do, and that owner."""
    users: dict[str, str] = {}
    for step in flow.steps:
        path = _path(step.name, graph)
        owner = next((scopes[path[:at]] for at in range(len(path) - 1, 0, -1) if path[:at] in scopes), None)
        if owner is not None and step.name not in graph.handles:
            users[step.name] = owner
    return users


def _path(step: str, graph: Graph) -> tuple[str, ...]:
    """The parts of an operation's name, without the function it is in."""
    first, *rest = step.split("/", _DEEPEST)
    return tuple(rest) if first in graph.functions else (first, *rest)


def _is_called(part: str, name: str) -> bool:
    """Whether a part of an operation's name is a layer's, perhaps with the number of a further call."""
    return part == name or (part.startswith(f"{name}_") and part[len(name) + 1 :].isdigit())


def _feeders(users: dict[str, str], graph: Graph, flow: Flow) -> dict[str, tuple[str, ...]]:
    """What holds the variables that are used last before each operation on data, inside its own function.

    An operation that joins data with what is computed of variables alone, as a normalisation does, becomes a use of
    these.
    """
    steps = {step.name: step for step in flow.steps}
    given = _data(graph, flow)
    found: dict[str, tuple[str, ...]] = {}
    held: dict[str, tuple[str, ...]] = {}
    waiting = [(name, False) for name in reversed(steps)]
    started: set[str] = set()
    while waiting:
        name, is_done = waiting.pop()
        makers = [maker.name for value in steps[name].takes if (maker := flow.maker(value)) is not None]
        if not is_done:
            if name not in started:
                started.add(name)
                waiting.append((name, True))
                waiting.extend((one, False) for one in makers if one not in started)
            continue
        own = _together([users[name]] if name in users else [], *(held.get(one, ()) for one in makers))
        moving = [one for one in makers if one in found]
        if moving or steps[name].type in _GIVEN or not given.isdisjoint(steps[name].takes):
            if own:
                users.setdefault(name, own[0])
            found[name] = _together(*([users[one]] if one in users else found[one] for one in moving))
        else:
            held[name] = own
    return found


_GIVEN = ("Placeholder", "PlaceholderWithDefault")


def _together(*owners: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for several in owners for one in several))[:_MOST_FEEDERS]


def _data(graph: Graph, flow: Flow) -> set[str]:
    """What functions are given besides variables."""
    variables = set(graph.handles)
    for _ in range(_DEEPEST):
        inner = {
            name
            for step in flow.steps
            for value, name in zip(step.takes, step.inner, strict=False)
            if value in variables
        }
        if inner <= variables:
            break
        variables |= inner
    return {name for names in graph.functions.values() for name in names} - variables


_DEEPEST = 16
"""Functions that call functions; what is given to one further inside is taken for data."""
