"""What a pickle of PyTorch holds, walked once: tensors with their names and roles, modules with their options."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.pickle import Call, Dict, Name, items_of
from tally.formats.tensor import Node, Role
from tally.formats.torch_arrays import Array, Arrays, as_dtype, entries_of, numbers

Members = Callable[[Name], tuple[Collection[str], Collection[str]]]
"""The names of the parameters and of the buffers that the code of a TorchScript class lists."""

_MOST_REPEATS = 100_000
"""Containers that may be met again; a file whose parts hold each other many times over has no end to list."""
_LONGEST_TEXT = 1_000
"""Characters of a text that is kept as an option or as a fact."""
_MOST_OPTIONS, _MOST_ITEMS, _MOST_FACTS = 64, 16, 1_000

_WEIGHTS = (
    r"(model_?|ema_?)?(state_?dict|weights|params|parameters)|model(_state)?|net(work)?|module|generator"
)
_APART: tuple[tuple[str, Role], ...] = (
    (r".*optim(izer)?s?([_.].*)?|opt(_state.*)?", "optimizer"),
    (r"(.*_)?rng(_.*)?|.*random_state.*", "seed"),
    (r"(.*_)?ema(_.*)?|shadow.*|averaged?.*|swa.*", "other"),
    (
        r".*sched(uler)?s?(_.*)?|.*scaler.*|loops|callbacks|h(yper_)?param(eter)?s|meters|metrics|history|args",
        "other",
    ),
)
"""What stands beside the weights in a checkpoint, by the name it has there."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_OWN = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_flat_weights")
"""What a module keeps and is told otherwise; a recurrent one lists its parameters once more, and anew when loaded."""


@dataclass(frozen=True, slots=True)
class Found:
    """A tensor with the name it has in the file."""

    name: str
    array: Array
    role: Role


@dataclass(slots=True)
class Holding:
    """All that was found in a pickle.

    Args:
        found: The tensors.
        nodes: The modules.
        facts: Plain values that stand beside the tensors.
        notes: Sentences about the whole.
    """

    found: list[Found] = field(default_factory=list[Found])
    nodes: list[Node] = field(default_factory=list[Node])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[str] = field(default_factory=list[str])


class _Place(NamedTuple):
    """Where a walk is: the names on the way, and what the tensors there are, if that is known."""

    path: tuple[str, ...] = ()
    role: Role | None = None

    @property
    def name(self) -> str:
        return ".".join(part for part in self.path if part)


class _Step(NamedTuple):
    """A container that is being walked through: what of it is left, and how much was found before it."""

    key: int
    children: Iterator[tuple[_Place, Any]]
    before: int


def walk(root: Any, arrays: Arrays, file: Any, limits: Limits, members: Members) -> Holding:
    """Find all tensors and modules in an object that was read from a pickle.

    Args:
        root: The object.
        arrays: What makes tensors of calls.
        file: The file, for errors.
        limits: How much may be found.
        members: What the code of TorchScript says of its classes.

    Raises:
        BadFileError: Its parts hold each other without end, or there is too much of it.
    """
    holding = _Walk(arrays, file, limits, members).run(root)
    pairs = entries_of(root)
    if pairs is not None:
        _collect_facts(pairs, holding)
        _shorten(holding)
    return holding


class _Walk:
    """One way through an object, without recursion; a container on the way to itself is not entered again."""

    def __init__(self, arrays: Arrays, file: Any, limits: Limits, members: Members) -> None:
        self.arrays, self.file, self.limits, self.members = arrays, file, limits, members
        self.holding = Holding()
        self.open: set[int] = set()
        self.empty: set[int] = set()
        self.seen: set[int] = set()
        self.modules: dict[int, str] = {}
        self.repeats = 0
        self.too_deep = False

    def run(self, root: Any) -> Holding:
        """Walk, and return what was found."""
        steps: list[_Step] = []
        self.enter(steps, _Place(), root)
        while steps:
            child = next(steps[-1].children, None)
            if child is not None:
                self.enter(steps, *child)
                continue
            done = steps.pop()
            self.open.discard(done.key)
            if len(self.holding.found) == done.before:
                self.empty.add(done.key)
        if self.too_deep:
            self.holding.notes.append(
                f"What is nested deeper than {self.limits.depth} levels was not looked at."
            )
        return self.holding

    def enter(self, steps: list[_Step], place: _Place, value: Any) -> None:
        """Take a tensor, or begin with a container."""
        array = self.arrays.of(value)
        if array is not None:
            self.take(place, array)
            return
        key = id(value)
        children = None if key in self.open or key in self.empty else self.children(place, value)
        if children is None:
            return
        if len(steps) >= self.limits.depth:
            self.too_deep = True
            return
        if key in self.seen:
            self.repeats += 1
            if self.repeats > _MOST_REPEATS:
                raise BadFileError(self.file, f"repeats its own parts more than {_MOST_REPEATS:,} times")
        self.seen.add(key)
        self.open.add(key)
        steps.append(_Step(key, children, len(self.holding.found)))

    def take(self, place: _Place, array: Array, kind: Role | None = None) -> str:
        """Note a tensor and what belongs to it, and return its name."""
        name = place.name or "tensor"
        if len(self.holding.found) >= self.limits.tensors:
            raise BadFileError(self.file, f"names more than {self.limits.tensors:,} arrays")
        role = place.role or kind or _role(place, array)
        self.holding.found.append(Found(name, array, role))
        for word, part in array.parts:
            self.holding.found.append(Found(f"{name}.{word}", part, "fixed"))
        return name

    def under(self, place: _Place, name: str) -> _Place:
        """A place one level further in."""
        if len(place.name) + len(name) > self.limits.name:
            raise BadFileError(self.file, f"has a name of {len(place.name) + len(name):,} characters")
        return place._replace(path=(*place.path, name))

    def children(self, place: _Place, value: Any) -> Iterator[tuple[_Place, Any]] | None:
        """What is inside a value, with its place; None where nothing can be."""
        pairs = entries_of(value)
        if pairs is not None:
            return self.entries(place, pairs, _state(value))
        if isinstance(value, Call):
            state = _state(value)
            if state is not None and "_modules" in state and "_parameters" in state:
                return self.module(place, value, state)
            if state is not None and isinstance(value.function, Name) and _is_scripted(value.function):
                return self.scripted(place, value, state)
            return self.object(place, value)
        items = items_of(value)
        return None if items is None else self.items(place, items)

    def entries(
        self, place: _Place, pairs: list[tuple[Any, Any]], state: Dict | None
    ) -> Iterator[tuple[_Place, Any]]:
        """What a dictionary holds; that of a whole checkpoint says by its names what is what."""
        versions = None if state is None else entries_of(state.get("_metadata"))
        if versions is not None:
            self.holding.facts.setdefault("module_versions", _versions(versions))
        checkpoint = not place.path and any(
            isinstance(key, str) and re.fullmatch(_WEIGHTS, key) and self.arrays.of(value) is None
            for key, value in pairs[:_MOST_FACTS]
        )
        for number, (key, value) in enumerate(pairs):
            name = (
                key
                if isinstance(key, str)
                else str(key)
                if type(key) is int and abs(key) < 2**63
                else str(number)
            )
            there = self.under(place, name)
            if not place.path:
                there = there._replace(role=self.apart(name, value, checkpoint))
            yield there, value

    def apart(self, name: str, value: Any, checkpoint: bool) -> Role | None:
        """The role of what isn't a weight in the outermost dictionary; None for all else."""
        role: Role | None = next(
            (role for pattern, role in _APART if re.fullmatch(pattern, name[:80].lower())), None
        )
        if self.arrays.of(value) is None:
            return role
        return (role or "other") if checkpoint else None

    def items(self, place: _Place, items: tuple[Any, ...]) -> Iterator[tuple[_Place, Any]]:
        """What a list holds."""
        for number, value in enumerate(items):
            yield self.under(place, str(number)), value

    def object(self, place: _Place, value: Call) -> Iterator[tuple[_Place, Any]]:
        """What an object of any class was made of: its attributes, entries and items, then its arguments."""
        for part in items_of(value.state) or (value.state,):
            if isinstance(part, Dict):
                yield from self.entries(place, part.pairs, None)
            elif part is not None:
                yield self.under(place, "state"), part
        yield from self.entries(place, value.entries.pairs, None)
        yield from self.items(place, tuple(value.items))
        yield from self.items(place, value.arguments)

    def module(self, place: _Place, value: Call, state: Dict) -> Iterator[tuple[_Place, Any]]:
        """What a module holds: its parameters, its buffers, the modules inside, then whatever else it keeps."""
        lost = _words(state.get("_non_persistent_buffers_set"))
        own: list[tuple[str, Any, str]] = []
        for word, kind in (("_parameters", "parameter"), ("_buffers", "buffer")):
            own += [(k, held, kind) for k, held in entries_of(state.get(word)) or [] if isinstance(k, str)]
        self.own(place, value, state, own, lost)
        for key, held in entries_of(state.get("_modules")) or []:
            if isinstance(key, str) and held is not None:
                yield self.under(place, key), held
        for key, held in state.pairs:
            if isinstance(key, str) and key not in _OWN and not key.endswith("_hooks"):
                yield self.under(place, key)._replace(role="other"), held

    def scripted(self, place: _Place, value: Call, state: Dict) -> Iterator[tuple[_Place, Any]]:
        """The same of a module of TorchScript, whose attributes stand side by side; its code says which are what."""
        parameters, buffers = self.members(value.function)
        own: list[tuple[str, Any, str]] = []
        for key, held in state.pairs:
            if isinstance(key, str) and self.arrays.of(held) is not None:
                own.append(
                    (key, held, "parameter" if key in parameters else "buffer" if key in buffers else "")
                )
        self.own(place, value, state, own, ())
        for key, held in state.pairs:
            if isinstance(key, str) and self.arrays.of(held) is None:
                yield self.under(place, key), held

    def own(
        self, place: _Place, value: Call, state: Dict, own: list[tuple[str, Any, str]], lost: Collection[str]
    ) -> None:
        """Note a module and the tensors that it holds itself."""
        roles: dict[str, Role] = {"parameter": "weight", "buffer": "state"}
        names: list[str] = []
        frozen: list[str] = []
        for key, held, kind in own:
            array, there = self.arrays.of(held), self.under(place, key)
            if array is None:
                if isinstance(held, Call) and "Uninitialized" in held.name:
                    self.holding.notes.append(
                        f"{there.name[:200]} is lazy: it has no shape until data comes."
                    )
                continue
            if kind == "parameter" and array.learns is False:
                frozen.append(key)
            if key in lost:
                note = "It isn't persistent: a state_dict leaves it out."
                array = replace(array, notes=(*array.notes, note))
            names.append(self.take(there, array, "fixed" if key in lost else roles.get(kind)))
        options = _options(value, state)
        if frozen:
            options["frozen"] = tuple(frozen)
        first = self.modules.setdefault(id(value), place.name)
        if first != place.name:
            options["shared_with"] = first
        kind = _class(value.function)
        self.holding.nodes.append(
            Node(name=place.name, type=kind, tensors=tuple(names), options=MappingProxyType(options))
        )


def _role(place: _Place, array: Array) -> Role:
    """What a tensor is by its name and type: whole numbers and truths have no gradient."""
    return (
        "state"
        if (place.path[-1:] and place.name.endswith(_STATISTICS)) or array.dtype in ("int64", "bool")
        else "weight"
    )


def _is_scripted(name: Name) -> bool:
    return name.module.split(".")[0] == "__torch__"


def _class(function: Any) -> str:
    return function.attribute if isinstance(function, Name) else "unknown"


def _state(value: Any) -> Dict | None:
    """What the attributes of an object would have been set from."""
    if not isinstance(value, Call):
        return None
    state = (items_of(value.state) or (value.state,))[0]
    return state if isinstance(state, Dict) else None


def _words(value: Any) -> set[str]:
    """The texts in a set."""
    items = items_of(value.first if isinstance(value, Call) else value) or ()
    return {item for item in items if isinstance(item, str)}


def _options(value: Call, state: Dict) -> dict[str, Any]:
    """The plain attributes of a module, with where its class is from."""
    module = value.function.module if isinstance(value.function, Name) else ""
    options: dict[str, Any] = {"module": re.sub(r"^__torch__\.|___torch_mangle_\d+\.", "", module)}
    for key, held in state.pairs:
        plain = plain_of(held)
        if plain is not None and isinstance(key, str) and not key.startswith("_") and len(key) < 80:
            options[key] = plain
        if len(options) > _MOST_OPTIONS:
            break
    return options


def plain_of(value: Any, depth: int = 2) -> Any:
    """Return a number, a word, or a short tuple of them, as a pickle holds it; None for anything else.

    Example:
        >>> plain_of([3, 3]), plain_of(Name("torch", "float16")), plain_of(Name("os", "system"))
        ((3, 3), 'float16', None)
    """
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else None
    items = numbers(value) or items_of(value)
    if items is not None:
        plain = (
            tuple(plain_of(item, depth - 1) for item in items)
            if depth and len(items) <= _MOST_ITEMS
            else (None,)
        )
        return None if None in plain else plain
    return as_dtype(value)


def _versions(pairs: list[tuple[Any, Any]]) -> dict[str, int]:
    """The version of each module that made a state_dict."""
    found: dict[str, int] = {}
    for path, held in pairs:
        version = held.get("version") if isinstance(held, Dict) else None
        if isinstance(path, str) and type(version) is int and abs(version) < 2**63:
            found[path] = version
    return found


def _collect_facts(pairs: list[tuple[Any, Any]], holding: Holding) -> None:
    """Keep the plain values that stand beside the tensors: the epoch, the loss, the hyper-parameters."""
    for key, value in pairs[:_MOST_FACTS]:
        if not isinstance(key, str) or len(key) > 80:
            continue
        inner = entries_of(value)
        if inner is not None and re.fullmatch("h(yper_)?param(eter)?s|config|args", key):
            plain = {k: plain_of(v) for k, v in inner[:_MOST_FACTS] if isinstance(k, str) and len(k) < 80}
            holding.facts[key] = {k: v for k, v in plain.items() if v is not None}
        elif (fact := plain_of(value)) is not None:
            holding.facts[key] = fact


def _shorten(holding: Holding) -> None:
    """Leave out the one word under which a checkpoint keeps its weights."""
    heads = {one.name.partition(".")[0] for one in holding.found if one.role in ("weight", "state")}
    head = heads.pop() if len(heads) == 1 else ""
    if not re.fullmatch(_WEIGHTS, head) or any(one.name == head for one in holding.found):
        return
    short = {one.name: one.name.removeprefix(f"{head}.") for one in holding.found}
    if len(set(short.values())) != len(set(short)):
        return
    holding.found[:] = [replace(one, name=short[one.name]) for one in holding.found]
    holding.nodes[:] = [_renamed(node, head, short) for node in holding.nodes]
    holding.notes.append(f"Its weights stand under {head!r}.")


def _renamed(node: Node, head: str, short: dict[str, str]) -> Node:
    options = dict(node.options)
    if "shared_with" in options:
        options["shared_with"] = _without(options["shared_with"], head)
    tensors = tuple(short.get(name, name) for name in node.tensors)
    return replace(node, name=_without(node.name, head), tensors=tensors, options=MappingProxyType(options))


def _without(name: str, head: str) -> str:
    return "" if name == head else name.removeprefix(f"{head}.")
