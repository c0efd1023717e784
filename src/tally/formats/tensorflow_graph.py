"""TensorFlow's graphs: the operations of a SavedModel or a frozen graph, its variables, its constants."""

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.limits import Limits
from tally.formats.protobuf import Message, Table
from tally.formats.tensor import Node, Role, Span, Tensor
from tally.formats.tensorflow_checkpoint import SavedObject
from tally.formats.tensorflow_operators import HOUSEKEEPING, meaning, passing
from tally.formats.tensorflow_types import FRACTIONS, TYPES, read_shape
from tally.formats.uses import Flow, Step, Use, told
from tally.formats.window import opened

_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f", "While": "body", "StatelessWhile": "body"}
_WANTED = frozenset(
    (
        "T", "adj_x", "adj_y", "body", "data_format", "f", "padding", "shared_name", "strides",
        "transpose_a", "transpose_b", "value", "dtype", "groups",
    )
)  # fmt: skip
"""Attributes that enter an account; others are passed over unread."""


@dataclass(slots=True)
class Graph:
    """What the graphs of one file hold.

    Args:
        steps: The operations, those inside functions included.
        constants: The arrays that operations hold.
        handles: The values that stand for variables, and the full names of these.
        functions: What the inputs of each function are called inside it.
        trainable: Which variables are called trainable.
        objects: What the program's objects hold, the model first.
        metadata: What the file says of itself.
        notes: Sentences for the reader of the account.
    """

    steps: list[Step] = field(default_factory=list[Step])
    constants: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    handles: dict[str, str] = field(default_factory=dict[str, str])
    functions: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    trainable: dict[str, bool] = field(default_factory=dict[str, bool])
    objects: list[SavedObject] = field(default_factory=list[SavedObject])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[str] = field(default_factory=list[str])


class _Reader:
    """One file while it is read."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits, self.graph = path, limits, Graph()

    def read_graph(self, message: Message) -> None:
        """Read a graph and the functions that come with it; these first, since operations call them."""
        nodes: list[Message] = []
        functions: list[Table] = []
        for number, part in message.fields():
            if not isinstance(part, Message):
                continue
            if number == 1:
                nodes.append(part)
            elif number == 2:
                functions.extend(one.table() for one in part.table().messages(1))
        for function in functions:
            self._name_function(function)
        for node in nodes:
            self._read_node(node, "")
        for function in functions:
            signature = function.table_of(1)
            name = signature.text(1) if signature is not None else ""
            for node in function.messages(3):
                self._read_node(node, f"{name}/")

    def _name_function(self, function: Table) -> None:
        signature = function.table_of(1)
        if signature is not None:
            name = signature.text(1)
            inputs = (part.table().text(1) for part in signature.messages(2))
            self.graph.functions[name] = tuple(f"{name}/{one}" for one in inputs)

    def _read_node(self, message: Message, prefix: str) -> None:
        """Keep one operation; of its inputs the node that makes each, whichever of its outputs it is."""
        table = message.table()
        name, kind = prefix + table.text(1), table.text(2)
        if kind in HOUSEKEEPING:
            return
        options = self._options(table)
        if kind == "Const":
            self._keep_constant(name, options.get("value"))
            return
        if kind in _VARIABLES:
            shared = options.get("shared_name") or table.text(1)
            self.graph.handles[name] = str(shared)
        takes = tuple(prefix + _node_of(one) for one in table.texts(3) if not one.startswith("^"))
        called = options.get(_CALLS.get(kind, ""))
        self.graph.steps.append(
            Step(
                name=name,
                type=kind,
                takes=takes,
                gives=(name,),
                options={key: value for key, value in options.items() if not isinstance(value, Message)},
                inner=self.graph.functions.get(called, ()) if isinstance(called, str) else (),
            )
        )

    def _options(self, table: Table) -> dict[str, Any]:
        """Read the attributes that are wanted: numbers, words, names of functions; an array stays unread."""
        options: dict[str, Any] = {}
        for pair in table.messages(5):
            entry = pair.table()
            name = entry.text(1)
            value = entry.table_of(2) if name in _WANTED else None
            if value is None:
                continue
            if 8 in value:
                options[name] = value.message_of(8)
            elif 10 in value:
                called = value.table_of(10)
                options[name] = called.text(1) if called is not None else ""
            elif 2 in value:
                options[name] = value.text(2)
            elif 3 in value or 5 in value:
                options[name] = value.integer(3) if 3 in value else bool(value.integer(5))
            elif 1 in value:
                listed = value.table_of(1)
                options[name] = tuple(listed.integers(3, 10_000)[:64]) if listed is not None else ()
        return options

    def _keep_constant(self, name: str, value: object) -> None:
        """Keep the array of a constant, if it is one and no single number."""
        if not isinstance(value, Message):
            return
        kind, shape, stored, span, count = 0, None, 0, None, 0
        for number, part in value.fields():
            if number == 1 and isinstance(part, int):
                kind = part
            elif number == 2 and isinstance(part, Message):
                shape = part
            elif number == 4 and isinstance(part, Message):
                stored, span = part.size, Span(file=self.path, start=part.start, nbytes=part.size)
            elif number not in (1, 2, 3, 4):
                count += part.size if isinstance(part, Message) else 1
        sizes = read_shape(shape.table() if shape is not None else None)
        dtype, bits = TYPES.get(kind % 100, ("", 0))
        place = f"constant {name[:80]!r}"
        if not dtype or sizes is None or len(sizes) > self.limits.rank or any(size < 0 for size in sizes):
            raise BadFileError(self.path, f"has the type {kind} and an impossible shape", place=place)
        needed = math.prod(sizes) * bits // 8
        if bits and stored and stored != needed:
            reason = f"stores {stored:,} bytes, where its shape {sizes[:8]} needs {needed:,}"
            raise BadFileError(self.path, reason, place=place)
        if not sizes or not bits:
            return
        if not stored and not count and needed:
            raise BadFileError(self.path, f"of the shape {sizes[:8]} stores nothing", place=place)
        if name in self.graph.constants:
            raise BadFileError(self.path, "is named twice", place=place)
        if len(self.graph.constants) >= self.limits.tensors:
            raise BadFileError(self.path, f"names more than {self.limits.tensors:,} arrays")
        note = () if stored else ("The file writes equal values once.",) if count < needed else ()
        self.graph.constants[name] = Tensor(
            name=name, shape=sizes, dtype=dtype, stored=stored or min(count, needed), span=span, notes=note
        )

    def read_variables(self, table: Table) -> None:
        """Note which variables a graph calls trainable, by its objects or, before there were any, by its lists."""
        objects = table.table_of(7)
        for one in objects.messages(1) if objects is not None else ():
            table_of_one = one.table()
            variable = table_of_one.table_of(7)
            inside = tuple((c.text(2), c.integer(1)) for c in map(Message.table, table_of_one.messages(1)))
            said = bool(variable.integer(3)) if variable is not None else None
            self.graph.objects.append(SavedObject(inside, said))
            if variable is not None and variable.text(6):
                name = variable.text(6)
                self.graph.trainable[name] = bool(variable.integer(3)) or self.graph.trainable.get(
                    name, False
                )
        lists = {one.text(1): one.table_of(2) for one in map(Message.table, table.messages(4))}
        for wanted, value in (("variables", False), ("trainable_variables", True)):
            held = lists.get(wanted)
            names = held.table_of(2) if held is not None else None
            for one in names.messages(1) if names is not None else ():
                self.graph.trainable[one.table().text(1).partition(":")[0]] = value


def read_saved_model(path: Path, limits: Limits) -> Graph:
    """Read a `saved_model.pb`.

    Raises:
        BadFileError: It is broken.
    """
    reader = _Reader(path, limits)
    with opened(path) as window:
        table = Message(window, limits=limits).table()
        metas = table.messages(2)
        if not metas:
            raise BadFileError(path, "holds no graph")
        if len(metas) > 1:
            reader.graph.notes.append(f"It holds {len(metas):,} graphs; the first is looked at.")
        meta = metas[0].table()
        said = meta.table_of(1)
        if said is not None:
            reader.graph.metadata = {"tensorflow": said.text(5), "tags": tuple(said.texts(4))}
        signatures = (one.table().text(1) for one in meta.messages(5))
        reader.graph.metadata["signatures"] = tuple(name for name in signatures if not name.startswith("__"))
        reader.read_variables(meta)
        graph = meta.message_of(2)
        if graph is not None:
            reader.read_graph(graph)
    return reader.graph


def read_frozen(path: Path, limits: Limits) -> Graph:
    """Read a graph that holds its weights as constants.

    Raises:
        BadFileError: It is broken.
    """
    reader = _Reader(path, limits)
    with opened(path) as window:
        reader.read_graph(Message(window, limits=limits))
    return reader.graph


def frozen(graph: Graph, flow: Flow) -> list[Tensor]:
    """Return the constants of a graph that act as weights, and those that are numbers in a formula."""
    found: list[Tensor] = []
    for name, tensor in graph.constants.items():
        fraction = tensor.dtype.startswith(FRACTIONS)
        uses = flow.uses(name)
        said = [(use, one) for use in uses if (one := meaning(use, tensor.shape)) is not None]
        use, one = next(((u, m) for u, m in said if m.sure or fraction), (None, None))
        role: Role = "fixed"
        axes: tuple[str, ...] = ()
        if use is not None and one is not None:
            role, axes = one.role, _axes(use, tensor.shape, flow)
        elif not fraction:
            continue
        elif tensor.size > 1 and any(use.step.type in ("Add", "AddV2", "Mul", "Sub") for use in uses):
            role = "weight"
        found.append(_shared(tensor, role, axes, flow))
    return found


def _shared(tensor: Tensor, role: Role, axes: tuple[str, ...], flow: Flow) -> Tensor:
    takers = tuple(dict.fromkeys(use.step.name for use in flow.uses(tensor.name)))
    notes = tensor.notes
    if len(takers) > 1 and role == "weight":
        named = ", ".join(takers[:3]) + (" and others" if len(takers) > 3 else "")
        notes = (*notes, f"{len(takers)} operations share it, and it counts once: {named}.")
    return Tensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        stored=tensor.stored,
        role=role,
        axes=axes,
        span=tensor.span,
        notes=notes,
    )


def flow_of(graph: Graph) -> Flow:
    """Return where the values of a graph go."""
    return Flow(graph.steps, passing)


def axes_of(graph: Graph, flow: Flow, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    """Name the axes of variables by the operations that read them; by the full names of the variables.

    Args:
        graph: The graph.
        flow: Where its values go.
        shapes: The variables' own.
    """
    found: dict[str, tuple[str, ...]] = {}
    for value, handle in graph.handles.items():
        name = variable_of(handle, shapes)
        if name is None or name in found:
            continue
        for use in flow.uses(value):
            axes = _axes(use, shapes[name], flow)
            if any(axes):
                found[name] = axes
                break
    return found


def variable_of(handle: str, known: Container[str]) -> str | None:
    """Return the variable that a handle stands for; a graph numbers the handles of one variable's copies.

    Example:
        >>> variable_of("dense/kernel_1", {"dense/kernel"})
        'dense/kernel'
    """
    if handle in known:
        return handle
    base, _, number = handle.rpartition("_")
    return base if number.isdigit() and base in known else None


def _axes(use: Use, shape: tuple[int, ...], flow: Flow) -> tuple[str, ...]:
    """Name the axes of an array by one use of it; those of a bias by what it is added to."""
    one = meaning(use, shape)
    if one is None:
        return ()
    if use.step.type == "BiasAdd" and use.place == 1 and len(shape) == 1:
        maker = flow.maker(flow.source(use.step.takes[0]))
        made = maker.type if maker is not None else ""
        if made.startswith("Depthwise"):
            return ("output channels",)
        return ("filters",) if "Conv" in made else ("units",) if "MatMul" in made else ()
    return told(use, one.axes, len(shape))


def nodes_of(flow: Flow, constants: Iterable[str]) -> tuple[Node, ...]:
    """Return the operations that take a weight, each with the weights it takes."""
    places: dict[str, dict[tuple[int, str], None]] = {}
    steps: dict[str, Step] = {}
    for name in constants:
        for use in flow.uses(name):
            if meaning(use, ()) is None:
                continue
            places.setdefault(use.step.name, {}).setdefault((use.place, name))
            steps[use.step.name] = use.step
    found: list[Node] = []
    for name, step in steps.items():
        arrays = sorted(places[name])
        found.append(
            Node(
                name=name,
                type=step.type,
                tensors=tuple(array for _, array in arrays),
                options={**step.options, "places": tuple(place for place, _ in arrays)},
            )
        )
    return tuple(found)


def _node_of(taken: str) -> str:
    """Return the node that makes an input: `"a:0"` is the first output of `"a"`, `"b:z:0"` one of `"b"`."""
    return taken.partition(":")[0]
