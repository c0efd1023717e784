"""ONNX models: initializers, constants and the graph that takes them, none of the data."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.onnx_arrays import Array, read_array, read_sparse
from tally.formats.onnx_operators import HEAVY, meaning, passing
from tally.formats.protobuf import Message, Table
from tally.formats.tensor import Contents, Node, Role, Tensor
from tally.formats.uses import Flow, Meaning, Step, Use, told
from tally.formats.window import Window, opened

_TOP_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26))
_KEPT_NUMBERS = 64
"""Numbers of a list that an operator's attribute keeps; kernels, strides and pads have fewer."""
_FRACTIONS = ("float", "bfloat", "complex")
_FOLDED = (
    "It has convolutions and no batch normalisation: exporters fold that into the convolution before it, and "
    "parameters that were folded away are not in this file."
)

Shape = tuple[int | None, ...]


def matches(path: Path) -> bool:
    """Tell whether a file is an ONNX model: a message with a version, a graph, and no fields that ONNX hasn't."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            found: set[int] = set()
            for count, (number, value) in enumerate(Message(window).fields()):
                known = number in _TOP_FIELDS and isinstance(value, Message) != (number in (1, 5))
                if not known or count > 10_000:
                    return False
                found.add(number)
            return 7 in found and (1 in found or 8 in found)
    except BadFileError:
        return path.suffix == ".onnx"


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which arrays an ONNX model holds, what each is to the model, and the operators that take them.

    Args:
        path: The file; data that it keeps outside is looked for in its folder.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or names a file outside of its folder.
    """
    with opened(path) as window:
        return _Model(path, window, limits).contents()


@dataclass(slots=True)
class _Operator:
    """A node as the file writes it, before its values are known by their places."""

    name: str
    type: str
    takes: list[str]
    gives: list[str]
    function: tuple[str, str, str]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    graphs: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])
    held: list[tuple[int, Message]] = field(default_factory=list[tuple[int, Message]])


@dataclass(slots=True)
class _Scope:
    """The values that one graph or function knows, and the graph around it."""

    prefix: str
    outer: "_Scope | None" = None
    known: set[str] = field(default_factory=set[str])

    def place(self, name: str) -> str:
        """Return the one name in the file of a value; that of the innermost graph which has it."""
        scope: _Scope | None = self
        while name and scope is not None:
            if name in scope.known:
                return scope.prefix + name
            scope = scope.outer
        return self.prefix + name if name else ""


class _Model:
    """One file while it is read."""

    def __init__(self, path: Path, window: Window, limits: Limits) -> None:
        self.path, self.window, self.limits = path, window, limits
        self.arrays: dict[str, Array] = {}
        self.roles: dict[str, Role] = {}
        self.steps: list[Step] = []
        self.shapes: dict[str, Shape] = {}
        self.functions: dict[tuple[str, str, str], tuple[str, tuple[str, ...]]] = {}
        self.names: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.files: dict[Path, None] = {path: None}
        self.absent: dict[str, None] = {}
        self.numbers = 0

    def contents(self) -> Contents:
        """Read it all."""
        table = Message(self.window, limits=self.limits).table()
        graphs = table.messages(7)
        if not graphs:
            raise BadFileError(self.path, "holds no graph")
        self._describe(table)
        for message in table.messages(25):
            self._name_function(message)
        main = _Scope("")
        for graph in graphs:
            self._read_graph(graph, main, "")
        for message in table.messages(25):
            self._read_function(message)
        for number, message in enumerate(table.messages(20)):
            self._read_training(message.table(), main, number)
        return self._made(Flow(self.steps, passing))

    def _describe(self, table: Table) -> None:
        """Keep what the file says of itself."""
        producer = " ".join(filter(None, (table.text(2), table.text(3))))
        opsets = {part.text(1): part.integer(2) for part in map(Message.table, table.messages(8))}
        said = {part.text(1): part.text(2) for part in map(Message.table, table.messages(14))}
        self.metadata = {"producer": producer, "opsets": opsets, "ir_version": table.integer(1), **said}

    def _read_graph(self, message: Message, scope: _Scope, what: str) -> list[str]:
        """Read a graph and those inside its operators; return the places of its inputs."""
        operators: list[_Operator] = []
        inputs: list[str] = []
        values: list[tuple[str, Shape | None]] = []
        for number, value in message.fields():
            if not isinstance(value, Message):
                continue
            if number == 1:
                operators.append(self._operator(value))
            elif number in (5, 15):
                array = read_array(value, self) if number == 5 else read_sparse(value, self)
                self._keep(scope, array)
            elif number in (11, 12, 13):
                values.append(_value(value, self.limits))
                if number == 11:
                    inputs.append(values[-1][0])
        scope.known.update(inputs, (name for operator in operators for name in operator.gives))
        for name, shape in values:
            if shape is not None:
                self.shapes[scope.place(name)] = shape
        self._place(operators, scope, what)
        return [scope.place(name) for name in inputs]

    def _keep(self, scope: _Scope, array: Array) -> None:
        """Add an array under its name; the same name again in the same graph is an error."""
        scope.known.add(array.name)
        name = scope.prefix + array.name
        if name in self.arrays:
            raise BadFileError(self.path, "is named twice", place=f"tensor {name[:80]!r}")
        if len(self.arrays) >= self.limits.tensors:
            raise BadFileError(self.path, f"names more than {self.limits.tensors:,} arrays")
        self.arrays[name] = replace(array, name=name)

    def _operator(self, message: Message) -> _Operator:
        table = message.table()
        function = (table.text(7), table.text(4), table.text(8))
        operator = _Operator(table.text(3), table.text(4), table.texts(1), table.texts(2), function)
        for attribute in table.messages(5):
            self._read_attribute(attribute.table(), operator)
        return operator

    def _read_attribute(self, table: Table, operator: _Operator) -> None:
        """Keep an attribute: a number, a word or a short list as it is, a graph or an array unread."""
        name = table.text(1)
        if 3 in table:
            operator.options[name] = table.integer(3)
        elif 2 in table:
            operator.options[name] = table.real(2)
        elif 4 in table:
            word = table.message_of(4)
            if word is not None and word.size <= self.limits.name:
                operator.options[name] = word.raw().decode(errors="replace")
        elif 8 in table:
            operator.options[name] = tuple(table.integers(8)[:_KEPT_NUMBERS])
        for number in (5, 22):
            operator.held.extend((number, found) for found in table.messages(number))
        if 7 in table:
            operator.held.append((7, table.message))
        operator.graphs.extend((name, graph) for number in (6, 11) for graph in table.messages(number))

    def _place(self, operators: Sequence[_Operator], scope: _Scope, what: str) -> None:
        """Give each operator a name of its own, and its values their places."""
        for operator in operators:
            if operator.type == "Constant":
                self._keep_constant(operator, scope)
                continue
            name = self._own_name(what, operator)
            _, inner = self.functions.get(operator.function, ("", ()))
            self.steps.append(
                Step(
                    name=name,
                    type=operator.type,
                    takes=tuple(map(scope.place, operator.takes)),
                    gives=tuple(map(scope.place, operator.gives)),
                    options=operator.options,
                    inner=inner,
                )
            )
            for number, (attribute, graph) in enumerate(operator.graphs):
                inside = f"{name}/{attribute}" + (f"/{number}" if len(operator.graphs) > 2 else "") + "/"
                self._read_graph(graph, _Scope(inside, scope), inside)

    def _own_name(self, what: str, operator: _Operator) -> str:
        """Return a name that no other operator has."""
        self.numbers += 1
        name = what + (operator.name or f"{operator.type}_{self.numbers}")
        if name in self.names:
            name = f"{name}_{self.numbers}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def _keep_constant(self, operator: _Operator, scope: _Scope) -> None:
        """Keep the array of a Constant; numbers and words that shapes are computed with are none."""
        for kind, found in operator.held[:1] if operator.gives else ():
            if kind == 7:
                array = _fractions(found.table())
            else:
                array = read_array(found, self) if kind == 5 else read_sparse(found, self)
            self._keep(scope, replace(array, name=operator.gives[0], constant=True))

    def _name_function(self, message: Message) -> None:
        """Note what the inputs of a function are called inside it, before anything calls it."""
        table = message.table()
        key = (table.text(10), table.text(1), table.text(13))
        prefix = ".".join(filter(None, key)) + "/"
        if key in self.functions:
            raise BadFileError(self.path, "is defined twice", place=f"function {prefix[:-1]!r}")
        self.functions[key] = (prefix, tuple(prefix + name for name in table.texts(4)))

    def _read_function(self, message: Message) -> None:
        table = message.table()
        prefix, _ = self.functions[(table.text(10), table.text(1), table.text(13))]
        operators = [self._operator(part) for part in table.messages(7)]
        scope = _Scope(prefix)
        scope.known.update(table.texts(4), (name for operator in operators for name in operator.gives))
        self._place(operators, scope, prefix)

    def _read_training(self, table: Table, main: _Scope, number: int) -> None:
        """Read the graphs of a training step; what they hold beside the model's arrays is the optimizer's."""
        for part, name in ((1, "initialization"), (2, "algorithm")):
            graph = table.message_of(part)
            if graph is not None:
                prefix = f"training/{number}/{name}/"
                known = set(self.arrays)
                self._read_graph(graph, _Scope(prefix, main), prefix)
                self.roles.update((array, "optimizer") for array in self.arrays.keys() - known)

    def _made(self, flow: Flow) -> Contents:
        """Tell what each array is, now that all that takes it is known."""
        tensors: list[Tensor] = []
        skipped = 0
        places: dict[tuple[Path, int, int], str] = {}
        for array in self.arrays.values():
            tensor = self._tensor(array, flow)
            if tensor is None:
                skipped += 1
                continue
            span = tensor.span
            if span is not None and span.nbytes and span.file != self.path:
                first = places.setdefault((span.file, span.start, span.nbytes), tensor.name)
                if first != tensor.name:
                    tensor = replace(tensor, alias_of=first)
            tensors.append(tensor)
        kinds = Counter(step.type for step in self.steps)
        notes: list[str] = []
        if "Conv" in kinds and "BatchNormalization" not in kinds:
            notes.append(_FOLDED)
        if skipped:
            notes.append(f"{skipped:,} constants that sizes are computed with are passed over.")
        notes.extend(f"The data lies in {name!r}, which isn't beside it." for name in list(self.absent)[:3])
        kept = checked(tensors, self.path, self.limits)
        return Contents(
            format="ONNX",
            tensors=kept,
            metadata=self.metadata,
            nodes=_nodes(flow, [tensor.name for tensor in kept], self.shapes),
            files=tuple(self.files),
            notes=tuple(notes),
        )

    def _tensor(self, array: Array, flow: Flow) -> Tensor | None:
        """Make the tensor of an array, by its first use that says what it is; None for a constant of no account."""
        uses = flow.uses(array.name)
        said = [(use, found) for use in uses if (found := meaning(use, array.shape)) is not None]
        fraction = array.dtype.startswith(_FRACTIONS) or any("DequantizeLinear" in use.passed for use in uses)
        use, found = next(
            ((u, f) for u, f in said if f.role != "fixed" and (f.sure or fraction)), (None, Meaning("fixed"))
        )
        role: Role = found.role
        notes = list(array.notes)
        if use is None and fraction and array.shape and not said and not array.constant:
            role = "weight"
        if array.constant:
            if role == "fixed":
                return None
            role = role if use is not None and use.step.type.endswith(HEAVY) else "fixed"
            notes.append("It is held by a Constant operator, not listed among the initializers.")
        role = self.roles.get(array.name, role)
        if not uses and role == "weight":
            notes.append("No operator takes it.")
        takers = tuple(dict.fromkeys(one.step.name for one in uses))
        if len(takers) > 1 and role in ("weight", "state"):
            named = ", ".join(takers[:3]) + (" and others" if len(takers) > 3 else "")
            notes.append(f"{len(takers)} operators share it, and it counts once: {named}.")
        tensor = Tensor(
            name=array.name,
            shape=array.shape,
            dtype=array.dtype,
            stored=array.stored,
            role=role,
            axes=told(use, found.axes, len(array.shape))
            if use is not None
            else _bias_axes(array, uses, flow),
            span=array.span,
            notes=tuple(notes),
        )
        return tensor if use is None else _unpacked(tensor, use)


def _bias_axes(array: Array, uses: Sequence[Use], flow: Flow) -> tuple[str, ...]:
    """Name the last axis of an array that is added to or multiplied with something, by what that comes from."""
    rank = len(array.shape)
    for use in uses:
        if use.step.type not in ("Add", "Mul") or use.order is not None or not rank:
            continue
        if rank > 1:
            return ("channels",) + ("",) * (rank - 1) if math.prod(array.shape[1:]) == 1 else ()
        makers = [flow.maker(value) for place, value in enumerate(use.step.takes) if place != use.place]
        made = {maker.type for maker in makers if maker is not None}
        return ("units",) if use.step.type == "Add" and made & {"MatMul", "MatMulNBits"} else ("features",)
    return ()


def _unpacked(tensor: Tensor, use: Use) -> Tensor:
    """Give a packed array the shape and the type of the parameters that it stands for."""
    options, shape = use.step.options, tensor.shape
    bits = options.get("bits", 4)
    if not isinstance(bits, int) or not 1 <= bits <= 8 or tensor.dtype != "uint8":
        return tensor
    packed = "Its elements are packed; the shape is that of the parameters."
    if use.step.type == "MatMulNBits" and use.place == 1 and use.order is None:
        size, features = options.get("N"), options.get("K")
        if not isinstance(size, int) or not isinstance(features, int) or min(size, features) < 0:
            return tensor
        if size * features * bits <= tensor.stored * 8:
            return replace(
                tensor,
                shape=(size, features),
                axes=("units", "features"),
                dtype=f"uint{bits}",
                notes=(*tensor.notes, packed),
            )
    if use.step.type == "GatherBlockQuantized" and bits < 8 and shape and use.order is None:
        wide = (*shape[:-1], shape[-1] * (8 // bits))
        return replace(tensor, shape=wide, dtype=f"uint{bits}", notes=(*tensor.notes, packed))
    return tensor


def _nodes(flow: Flow, names: Sequence[str], shapes: dict[str, Shape]) -> tuple[Node, ...]:
    """Make the graph of a reader's account: each operator, the arrays that reach it, and what feeds it."""
    held: dict[str, dict[tuple[int, str], None]] = defaultdict(dict)
    for name in names:
        for use in flow.uses(name):
            held[use.step.name].setdefault((use.place, name))
    known = set(names)
    nodes: list[Node] = []
    for step in flow.steps:
        arrays = sorted(held[step.name]) if step.name in held else []
        fed = [value for value in step.takes if value and flow.source(value) not in known]
        makers = (flow.maker(value) for value in fed)
        nodes.append(
            Node(
                name=step.name,
                type=step.type,
                tensors=tuple(array for _, array in arrays),
                options={**step.options, "places": tuple(place for place, _ in arrays)}
                if arrays
                else step.options,
                inputs=tuple(dict.fromkeys(maker.name for maker in makers if maker is not None)),
                input_shapes=tuple(shapes[value] for value in fed if value in shapes),
                output_shapes=tuple(shapes[value] for value in step.gives if value in shapes),
            )
        )
    return tuple(nodes)


def _value(message: Message, limits: Limits) -> tuple[str, Shape | None]:
    """Read the name of a value, and its shape where the file says it."""
    table = message.table()
    kind = table.table_of(2)
    tensor = kind.table_of(1) if kind is not None else None
    shape = tensor.table_of(2) if tensor is not None else None
    if shape is None:
        return table.text(1), None
    sizes = [_size(part.table()) for part in shape.messages(1)]
    if len(sizes) > limits.rank:
        raise shape.message.bad(f"has {len(sizes):,} dimensions")
    return table.text(1), tuple(sizes)


def _size(table: Table) -> int | None:
    size = table.integer(1, -1)
    return size if size >= 0 else None


def _fractions(table: Table) -> Array:
    """Make the array of a Constant that is written as a list of fractions, packed or one by one."""
    count = sum(value.size // 4 if isinstance(value, Message) else 1 for value in table.values(7))
    return Array(name="", shape=(count,), dtype="float32", stored=4 * count)
