"""TensorFlow Lite models: which of a graph's tensors are constants, and the operators that take them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from tally.formats.errors import BadFileError
from tally.formats.flatbuffer import Flat, Table
from tally.formats.limits import LIMITS, Limits
from tally.formats.naming import checked
from tally.formats.tensor import Contents, Node, Role, Span, Tensor
from tally.formats.tflite_operators import OPERATORS, meaning, passing
from tally.formats.uses import Flow, Meaning, Step, told
from tally.formats.window import opened

_MAGIC = b"TFL3"
_TYPES: tuple[tuple[str, int], ...] = (
    ("float32", 32),
    ("float16", 16),
    ("int32", 32),
    ("uint8", 8),
    ("int64", 64),
    ("string", 0),
    ("bool", 8),
    ("int16", 16),
    ("complex64", 64),
    ("int8", 8),
    ("float64", 64),
    ("complex128", 128),
    ("uint64", 64),
    ("resource", 0),
    ("variant", 0),
    ("uint32", 32),
    ("uint16", 16),
    ("int4", 4),
    ("bfloat16", 16),
    ("int2", 2),
    ("uint4", 4),
)
"""The types of an element by their numbers, each with its bits; 0 where a buffer says how many bytes there are."""

_OPTIONS: dict[int, tuple[tuple[str, int, str], ...]] = {
    1: (("padding", 0, "<b"), ("stride_w", 1, "<i"), ("stride_h", 2, "<i")),
    2: (("padding", 0, "<b"), ("stride_w", 1, "<i"), ("stride_h", 2, "<i"), ("depth_multiplier", 3, "<i")),
    23: (("axis", 0, "<i"), ("batch_dims", 1, "<i")),
    49: (("padding", 0, "<b"), ("stride_w", 1, "<i"), ("stride_h", 2, "<i")),
    92: (("then", 0, "<i"), ("else", 1, "<i")),
    93: (("cond", 0, "<i"), ("body", 1, "<i")),
    101: (("adj_x", 0, "<?"), ("adj_y", 1, "<?")),
}
"""The options that enter an account, by the number of their table: a name, a field and a form."""

Shape = tuple[int | None, ...]


def matches(path: Path) -> bool:
    """Tell whether a file is a TensorFlow Lite model, by the letters at its fifth byte."""
    if not path.is_file():
        return False
    try:
        with opened(path) as window:
            return window.size >= 8 and window.take(8)[4:] == _MAGIC
    except BadFileError:
        return False


def read(path: Path, limits: Limits = LIMITS) -> Contents:
    """Read which constants a TensorFlow Lite model holds, and the operators that take them.

    Args:
        path: The file.
        limits: How much of it is believed.

    Raises:
        BadFileError: It is broken, or no such model.
    """
    with opened(path) as window:
        if window.size < 8 or window.take(8)[4:] != _MAGIC:
            raise BadFileError(path, "doesn't hold the letters TFL3", place="byte 4")
        return _Model(path, Flat(window, limits), limits).contents()


class _Model:
    """One file while it is read."""

    def __init__(self, path: Path, flat: Flat, limits: Limits) -> None:
        self.path, self.flat, self.limits = path, flat, limits
        self.root = flat.root()
        self.codes: list[str] = [self._code(table) for table in self.root.tables(1, limits.tensors)]
        self.buffers: list[Table] = self.root.tables(4, limits.tensors)
        self.graphs = self.root.tables(2, limits.files)
        self.inputs = [
            [f"{number}:{index}" for index in graph.numbers(1, "<i", 100_000)]
            for number, graph in enumerate(self.graphs)
        ]
        self.tensors: dict[str, Tensor] = {}
        self.quantised: dict[str, bool] = {}
        self.fixed: set[str] = set()
        self.shapes: dict[str, Shape] = {}
        self.steps: list[Step] = []
        self.names: set[str] = set()
        self.total = 0

    def contents(self) -> Contents:
        """Read it all."""
        for number, graph in enumerate(self.graphs):
            self._read_tensors(number, graph)
        for number, graph in enumerate(self.graphs):
            self._read_operators(number, graph)
        flow = Flow(self.steps, passing)
        first: dict[tuple[int, int, str], str] = {}
        tensors: list[Tensor] = []
        for value, held in self.tensors.items():
            tensor = self._told(value, held, flow)
            span = tensor.span
            if span is not None and tensor.role == "weight":
                name = first.setdefault((span.start, span.nbytes, tensor.dtype), tensor.name)
                tensor = tensor if name == tensor.name else replace(tensor, alias_of=name)
            tensors.append(tensor)
        return Contents(
            format="TensorFlow Lite",
            tensors=checked(tensors, self.path, self.limits),
            metadata=self._metadata(),
            nodes=self._nodes(flow),
            files=(self.path,),
        )

    def _metadata(self) -> dict[str, Any]:
        """Keep what the file says of itself."""
        parts = self.root.tables(6, 10_000)
        return {
            "version": self.root.number(0, "<I"),
            "description": self.root.text(3, self.limits.name),
            "parts": tuple(part.text(0, self.limits.name) for part in parts),
            "signatures": tuple(one.text(2, self.limits.name) for one in self.root.tables(7, 10_000)),
        }

    def _code(self, table: Table) -> str:
        """Return what an operator is called: old files have its number in a byte, others in four."""
        number: int = max(table.number(3, "<i"), table.number(0, "<b"))
        if not 0 <= number < len(OPERATORS):
            return f"operator {number}"
        if OPERATORS[number] == "CUSTOM":
            return table.text(1, self.limits.name) or "CUSTOM"
        return OPERATORS[number]

    def _read_tensors(self, number: int, graph: Table) -> None:
        tables = graph.tables(0, self.limits.tensors)
        self.total += len(tables)
        if self.total > self.limits.tensors:
            raise BadFileError(self.path, f"names more than {self.limits.tensors:,} arrays")
        for index, table in enumerate(tables):
            self._read_tensor(f"{number}:{index}", table)

    def _read_tensor(self, value: str, table: Table) -> None:
        """Note the shape of a value, and keep it as a tensor if it is a constant."""
        name = table.text(3, self.limits.name) or f"tensor {value}"
        place = f"tensor {name[:80]!r}"
        shape = table.numbers(0, "<i", 1_000)
        signature = table.numbers(7, "<i", 1_000) or shape
        self.shapes[value] = tuple(size if size >= 0 else None for size in signature)
        kind: int = table.number(1, "<b")
        if not 0 <= kind < len(_TYPES):
            raise BadFileError(self.path, f"has elements of the unknown type {kind}", place=place)
        buffer: int = table.number(2, "<I")
        if buffer >= max(len(self.buffers), 1):
            raise BadFileError(self.path, f"lies in buffer {buffer:,} of {len(self.buffers):,}", place=place)
        if table.number(10, "<I"):
            self._keep_outside(value, name, shape, kind)
            return
        span = self._span(self.buffers[buffer], place) if buffer else None
        if span is None:
            return
        dtype, bits = _TYPES[kind]
        if any(length < 0 for length in shape):
            raise BadFileError(self.path, f"has the shape {shape[:8]}, with a length below zero", place=place)
        size = math.prod(shape)
        needed = -(-size * bits // 8)
        sparse = table.has(6)
        # Elements smaller than a byte are packed, or in old files one to a byte.
        fits = span.nbytes in (needed, size if bits < 8 else needed) or (sparse and span.nbytes <= needed)
        if bits and not fits:
            reason = f"of the shape {shape[:8]} needs {needed:,} bytes, and its buffer holds {span.nbytes:,}"
            raise BadFileError(self.path, reason, place=place)
        notes = ("It is sparse: zeros are left out of what is stored.",) if sparse else ()
        self._keep(
            value,
            Tensor(
                name=name,
                shape=shape,
                dtype=dtype,
                stored=span.nbytes,
                span=None if sparse else span,
                notes=notes + self._scales(value, table, shape),
            ),
        )

    def _keep_outside(self, value: str, name: str, shape: tuple[int, ...], kind: int) -> None:
        """Keep a constant whose data lies in another file, which is not looked for."""
        dtype, bits = _TYPES[kind]
        size = math.prod(shape) if all(length >= 0 for length in shape) else 0
        note = "Its data lies in another file."
        stored = -(-size * bits // 8)
        self._keep(value, Tensor(name=name, shape=shape, dtype=dtype, stored=stored, notes=(note,)))

    def _keep(self, value: str, tensor: Tensor) -> None:
        """Add a constant under a name that no other has."""
        name = tensor.name
        if name in self.names:
            name = f"{name}#{value}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        self.tensors[value] = replace(tensor, name=name)

    def _span(self, buffer: Table, place: str) -> Span | None:
        """Find the bytes of a buffer, in the table or, in a file past 2 GB, behind it; None where it is empty."""
        start, size = buffer.vector(0, 1, 2**32)
        if not size and buffer.number(1, "<Q") > 1:
            start, size = buffer.number(1, "<Q"), buffer.number(2, "<Q")
            if start + size > self.flat.size:
                reason = f"claims the bytes {start:,} to {start + size:,} of {self.flat.size:,}"
                raise BadFileError(self.path, reason, place=place)
        return Span(file=self.path, start=start, nbytes=size) if size else None

    def _scales(self, value: str, table: Table, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Say how a tensor is quantised, and note the tensors that hold its scales."""
        quantisation = table.table(4)
        if quantisation is None:
            return ()
        if quantisation.number(4, "<B") == 2:
            blocks = quantisation.table(5)
            if blocks is not None:
                graph = value.partition(":")[0]
                self.fixed.update(f"{graph}:{blocks.number(field, '<i')}" for field in (0, 1))
                self.quantised[value] = True
                return (f"Quantised in blocks of {blocks.number(2, '<i')}.",)
        _, count = quantisation.vector(2, 4, 2**31)
        self.quantised[value] = count > 0
        axis = quantisation.number(6, "<i")
        if count < 2:
            return ("Quantised with one scale.",) if count else ()
        if not 0 <= axis < len(shape) or shape[axis] != count:
            name = f"tensor {table.text(3, self.limits.name)[:80]!r}"
            raise BadFileError(self.path, f"of the shape {shape} has {count:,} scales", place=name)
        return (f"Quantised with {count:,} scales, one for each place on axis {axis}.",)

    def _read_operators(self, number: int, graph: Table) -> None:
        """Read the operators of a graph; what it calls its tensors is made unique in the file."""
        label = f"{number}/" if number else ""
        for place, table in enumerate(graph.tables(3, self.limits.tensors)):
            index: int = table.number(0, "<I")
            if index >= len(self.codes):
                where = f"operator {place} of graph {number}"
                raise BadFileError(
                    self.path, f"is number {index:,} of {len(self.codes):,} kinds", place=where
                )
            kind = self.codes[index]
            takes, gives = (
                tuple(
                    self._value(number, place, value) if value >= 0 else ""
                    for value in table.numbers(field, "<i", 100_000)
                )
                for field in (1, 2)
            )
            options = self._options(table, kind, takes)
            self.steps.append(
                Step(
                    name=f"{label}{kind}_{place}",
                    type=kind,
                    takes=takes,
                    gives=gives,
                    options=options,
                    inner=self._inner(kind, options),
                )
            )

    def _value(self, graph: int, operator: int, index: int) -> str:
        value = f"{graph}:{index}"
        if value not in self.shapes:
            where = f"operator {operator} of graph {graph}"
            raise BadFileError(self.path, f"takes or gives tensor {index:,}, which isn't there", place=where)
        return value

    def _options(self, table: Table, kind: str, takes: tuple[str, ...]) -> dict[str, Any]:
        """Read the options of an operator that enter an account."""
        wanted = _OPTIONS.get(table.number(3, "<B"), ())
        options: dict[str, Any] = {}
        if wanted:
            held = table.table(4)
            if held is not None:
                options.update((name, held.number(field, form)) for name, field, form in wanted)
        shape = self.shapes.get(takes[0], ()) if takes else ()
        if kind == "CONV_2D" and len(shape) == 4 and shape[-1] is not None:
            options["input channels"] = shape[-1]
        return options

    def _inner(self, kind: str, options: dict[str, Any]) -> tuple[str, ...]:
        """Return what the values that an operator takes are called in the graph that it runs."""
        field = {"WHILE": "body", "IF": "then"}.get(kind)
        graph = options.get(field, -1) if field else -1
        if not 0 <= graph < len(self.inputs):
            return ()
        return (*([""] if kind == "IF" else []), *self.inputs[graph])

    def _told(self, value: str, tensor: Tensor, flow: Flow) -> Tensor:
        """Say what a constant is, by its first use that tells."""
        uses = flow.uses(value)
        numbers = tensor.dtype.startswith(("float", "bfloat", "complex")) or self.quantised.get(value, False)
        said = [(use, found) for use in uses if (found := meaning(use, tensor.shape)) is not None]
        use, found = next(
            ((u, f) for u, f in said if f.role != "fixed" and (f.sure or numbers)), (None, Meaning("fixed"))
        )
        role: Role = found.role
        if use is None and numbers and tensor.size > 1 and (not said or len(said) < len(uses)):
            role = "weight"
        if value in self.fixed or tensor.dtype == "string":
            role = "fixed"
        takers = tuple(dict.fromkeys(one.step.name for one in uses))
        notes = tensor.notes
        if len(takers) > 1 and role == "weight":
            named = ", ".join(takers[:3]) + (" and others" if len(takers) > 3 else "")
            notes = (*notes, f"{len(takers)} operators share it, and it counts once: {named}.")
        axes = told(use, found.axes, len(tensor.shape)) if use is not None else ()
        return replace(tensor, role=role, axes=axes, notes=notes)

    def _nodes(self, flow: Flow) -> tuple[Node, ...]:
        """Make the graph of a reader's account: each operator, the constants that reach it, and what feeds it."""
        held: dict[str, dict[tuple[int, str], None]] = {}
        for value, tensor in self.tensors.items():
            for use in flow.uses(value):
                held.setdefault(use.step.name, {}).setdefault((use.place, tensor.name))
        constants = {*self.tensors}
        return tuple(
            _node(step, sorted(held.get(step.name, ())), flow, constants, self.shapes) for step in flow.steps
        )


def _node(
    step: Step, arrays: list[tuple[int, str]], flow: Flow, constants: set[str], shapes: dict[str, Shape]
) -> Node:
    fed = [value for value in step.takes if value and flow.source(value) not in constants]
    makers = (flow.maker(value) for value in fed)
    places = {"places": tuple(place for place, _ in arrays)} if arrays else {}
    return Node(
        name=step.name,
        type=step.type,
        tensors=tuple(name for _, name in arrays),
        options={**step.options, **places},
        inputs=tuple(dict.fromkeys(maker.name for maker in makers if maker is not None)),
        input_shapes=tuple(shapes[value] for value in fed),
        output_shapes=tuple(shapes[value] for value in step.gives if value),
    )
