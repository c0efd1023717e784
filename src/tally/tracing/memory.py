"""How much memory a traced function needs at its peak: which values are ever written down, and how long each lives.

The model of the compiler is simple on purpose. Whatever goes value by value (additions, activations, casts, masks) is
computed inside the operation that uses it and takes no memory; it is computed again for every use. Written down is

- what a matrix product, a convolution, a reduction, a gather, a pooling or a loop makes;
- what such an operation reads, and what the function returns;
- what is dear to compute (an exponential, a root) and has several uses.

A value lives from the operation that makes it to the last that reads it, in the order of the trace. Arguments live all
the time; the memory of donated ones holds the outputs of the same shape. `devices` has what a device adds to that.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from jax.extend.core import Literal

from tally.tracing.devices import (
    Span,
    computed_again_on_cpu,
    reads_on_the_way,
    spans_on_cpu,
    written_on_cpu,
)
from tally.tracing.program import Node, Program

_SAME = """copy copy_p expand_dims name optimization_barrier random_unwrap random_wrap reduce_precision reshape
sharding_constraint squeeze stop_gradient"""
SAME = frozenset(_SAME.split())
"""What gives its input, be it in another shape: no new memory."""
_DEAR = """acos asin atan atan2 cbrt cos cosh erf erf_inv erfc exp exp2 expm1 lgamma log log1p logistic pow rsqrt sin
sinh sqrt tan tanh"""
DEAR = frozenset(_DEAR.split())
"""What is computed once and kept, where several others need it."""
_FUSED = """abs add add_any and bitcast_convert_type broadcast_in_dim ceil clamp concatenate convert_element_type div
dynamic_slice eq floor ge gt imag integer_pow iota is_finite le lt max min mul ne neg nextafter not or pad
population_count random_fold_in random_seed random_split real rem rev round select_n shift_left shift_right_arithmetic
shift_right_logical sign slice split square stack sub transpose xor"""
FUSED = DEAR.union(_FUSED.split())
"""What is computed inside whatever uses it."""
REDUCING = frozenset(
    ("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum")
)
"""What is written down itself, but computes what it reads on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The memory a function needs, in bytes.

    Args:
        arguments: What it is given, and the arrays it holds itself.
        peak: The most that is alive at once, the arguments included.
        gradients: The gradients, if the function marks them.
        activations: The most that is alive at once of all that is made on the way and is no gradient.
        at: The layer, or op of a graph, that runs at the peak.
        moved: Bytes that all operations together read and write.
        kept: Layer or op -> bytes of what it makes in the forward pass that the backward pass reads.
    """

    arguments: int
    peak: int
    gradients: int = 0
    activations: int = 0
    at: Any = None
    moved: int = 0
    kept: dict[Any, int] = field(default_factory=dict)


def footprint(program: Program, donated: Iterable[int] = (), device: str = "gpu") -> Footprint:
    """Find how much memory a program needs.

    Args:
        program: What is to run.
        donated: Positions of the inputs whose memory the outputs may take.
        device: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    lives = Lives(program, frozenset(program.inputs[position] for position in donated), device)
    spans = list(lives.spans())
    gradients = lives.gradients
    alive = _sum_up(spans, lives.end)
    of_gradients = _sum_up((lives.span_of(value) for value in gradients & lives.temporary), lives.end)
    top = max(range(len(alive)), key=alive.__getitem__)
    given = sum(map(lives.nbytes, dict.fromkeys((*program.inputs, *program.constants))))
    return Footprint(
        arguments=given,
        peak=given + alive[top],
        gradients=sum(map(lives.nbytes, gradients)),
        activations=max(every - some for every, some in zip(alive, of_gradients, strict=True)),
        at=lives.maker_at(top),
        moved=lives.moved(),
        kept=lives.kept_for_later(),
    )


def _sum_up(spans: Iterable[Span], end: int) -> list[int]:
    """What is alive at each place."""
    changes = [0] * (end + 2)
    for start, stop, nbytes in spans:
        if stop >= start:
            changes[start] += nbytes
            changes[stop + 1] -= nbytes
    return list(accumulate(changes))[:-1]


class Lives:
    """When each value of a program is made, and when it is last read.

    Args:
        program: What is to run.
        donated: The inputs whose memory the outputs may take.
        device: Where it is to run.

    Attributes:
        nodes: Place -> node, without those that give their input as it is.
        places: Value made on the way -> the place of the node that makes it.
        uses: Value -> how many nodes read it.
        end: The place after all nodes, where the outputs are handed over.
        outputs: The memory of what is handed over.
    """

    fused = FUSED

    def __init__(self, program: Program, donated: frozenset[int], device: str) -> None:
        self.program, self.donated, self.device = program, donated, device
        self.nbytes = program.nbytes
        self.end = len(program.nodes)
        self._root: dict[int, int] = {}
        self.nodes: dict[int, Node] = {}
        self.places: dict[int, int] = {}
        self.uses: Counter[int] = Counter()
        self.marked: list[int] = []
        for place, node in enumerate(program.nodes):
            if node.name in SAME and len(node.reads) == len(node.writes):
                self._follow(node)
            else:
                self.nodes[place] = node
                self.places.update(dict.fromkeys(node.writes, place))
                self.uses.update(self.of(node.reads))
        self.outputs = self.of(program.outputs)

    def _follow(self, node: Node) -> None:
        for made, given in zip(node.writes, node.reads, strict=True):
            self._root[made] = self._root.get(given, given)
            if is_gradient(node):
                self.marked.append(self._root[made])

    def of(self, values: Iterable[int | None]) -> list[int]:
        """The memory behind values, each once."""
        root = self._root
        return list(dict.fromkeys(root.get(value, value) for value in values if value is not None))

    def maker(self, value: int) -> Node | None:
        """The node that makes a value; None for an argument."""
        return self.nodes[self.places[value]] if value in self.places else None

    def operands(self, node: Node) -> Iterator[tuple[int, Any]]:
        """Each value that a node reads, with the shape and dtype it has there."""
        read = [var.aval for var in node.equation.invars if not isinstance(var, Literal)]
        for value, aval in zip(node.reads, read, strict=True):
            yield self._root.get(value, value), aval

    def first_use(self, value: int, word: str) -> int | None:
        """The place of the first node of a kind that reads a value."""
        return next((place for place in self.readers[value] if self.nodes[place].name.startswith(word)), None)

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """Value -> the places of the nodes that read it, in order."""
        found: dict[int, list[int]] = defaultdict(list)
        for place, node in self.nodes.items():
            for value in self.of(node.reads):
                found[value].append(place)
        return found

    @cached_property
    def kept(self) -> frozenset[int]:
        """The values made on the way that are written down."""
        wanted = set(self.outputs)
        for node in self.nodes.values():
            if node.name not in FUSED:
                wanted.update(node.writes)
                is_on_the_way = node.name in REDUCING or (self.device == "cpu" and reads_on_the_way(node))
                wanted.update(() if is_on_the_way else self.of(node.reads))
            elif node.name in DEAR:
                wanted.update(value for value in node.writes if self.uses[value] > 1)
        if self.device == "cpu":
            wanted.update(written_on_cpu(self))
        return frozenset(wanted.intersection(self.places))

    def is_kept(self, node: Node) -> bool:
        """Whether a node runs by itself, and not inside those that use it."""
        return not self.kept.isdisjoint(node.writes)

    @cached_property
    def last(self) -> dict[int, int]:
        """Value -> the place of the last node that reads it, be it inside another that computes it anew."""
        found: dict[int, int] = dict.fromkeys(self.outputs, self.end)
        for place, node in reversed(self.nodes.items()):
            is_done = self.is_kept(node) and not (self.device == "cpu" and computed_again_on_cpu(self, node))
            until = place if is_done else max(found.get(value, place) for value in node.writes)
            for value in self.of(node.reads):
                found[value] = max(found.get(value, until), until)
        return found

    def runs_until(self, place: int) -> int:
        """The place where a node runs last."""
        node = self.nodes[place]
        return place if self.is_kept(node) else max(self.last.get(value, place) for value in node.writes)

    @cached_property
    def sources(self) -> dict[int, frozenset[int]]:
        """Value that is not written down -> the written ones and arguments it is computed from."""
        found: dict[int, frozenset[int]] = {}
        for node in self.nodes.values():
            if not self.is_kept(node):
                read = frozenset[int]().union(*(found.get(value, (value,)) for value in self.of(node.reads)))
                found.update(dict.fromkeys(node.writes, read))
        return found

    def read_by(self, node: Node) -> frozenset[int]:
        """The written values and arguments that a node reads, be it through others that it computes itself."""
        return frozenset[int]().union(*(self.sources.get(value, (value,)) for value in self.of(node.reads)))

    @cached_property
    def taken_over(self) -> dict[int, int]:
        """Output -> the donated input whose memory holds it: the first of its shape and dtype that is free."""
        kinds = self.program.kinds
        free: dict[Any, list[int]] = defaultdict(list)
        for value in reversed(self.program.inputs):
            if value in self.donated:
                free[kinds[value].shape, kinds[value].dtype].append(value)
        found: dict[int, int] = {}
        for value in self.outputs:
            places = free[kinds[value].shape, kinds[value].dtype]
            if value in self.kept and places:
                found[value] = places.pop()
        return found

    @cached_property
    def temporary(self) -> frozenset[int]:
        """The values that need memory of their own."""
        return self.kept.difference(self.taken_over)

    def span_of(self, value: int) -> Span:
        """From where to where a value lives."""
        place = self.places[value]
        return Span(place, max(self.last.get(value, place), place), self.nbytes(value))

    def spans(self) -> Iterator[Span]:
        """All memory beyond the arguments."""
        ending: dict[int, int] = defaultdict(int)
        for value in self.temporary:
            span = self.span_of(value)
            ending[span.stop] += span.nbytes
            yield span
        for place, node in self.nodes.items():
            if node.inner:
                yield Span(place, place, max(_inside(body, self.device) for body in node.inner))
            # A result may take the place of an operand that ends.
            elif node.name in FUSED and self.is_kept(node):
                new = sum(self.nbytes(value) for value in node.writes if value in self.temporary)
                yield Span(place, place, -min(new, ending[place]))
        if self.device == "cpu":
            yield from spans_on_cpu(self)

    def maker_at(self, place: int) -> Any:
        """Whose node stands at a place, or before it."""
        return next((self.nodes[p].maker for p in range(place, -1, -1) if p in self.nodes), None)

    @cached_property
    def gradients(self) -> frozenset[int]:
        """The memory of the marked gradients; one that is only cast afterwards lies there in its shorter type."""
        kinds = self.program.kinds
        return frozenset(
            source
            for value in self.marked
            for source in self.sources.get(value, (value,))
            if source in self.kept and kinds[source].size == kinds[value].size
        )

    @cached_property
    def turn(self) -> int:
        """The place where the backward pass begins; the end, if there is none."""
        return next((p for p, n in self.nodes.items() if is_backward(n.equation)), self.end)

    def kept_for_later(self) -> dict[Any, int]:
        """Layer or op -> bytes of what it makes in the forward pass that the backward pass reads."""
        found: dict[Any, int] = defaultdict(int)
        for value in self.temporary:
            start, stop, nbytes = self.span_of(value)
            if start < self.turn <= stop < self.end:
                found[self.nodes[start].maker] += nbytes
        return dict(found)

    def moved(self) -> int:
        """Bytes that all operations together read and write."""
        total = 0
        for node in self.nodes.values():
            if self.is_kept(node):
                made = (value for value in node.writes if value in self.kept)
                total += sum(map(self.nbytes, self.read_by(node))) + sum(map(self.nbytes, made))
                total += node.times * sum(
                    Lives(body, frozenset(), self.device).moved() for body in node.inner
                )
        return total


GRADIENT = "tally gradient"
"""The name by which a program marks its gradients, with `jax.ad_checkpoint.checkpoint_name`."""


def is_gradient(node: Node) -> bool:
    """Whether a node marks a gradient."""
    return node.name == "name" and node.equation.params["name"] == GRADIENT


def is_backward(equation: Any) -> bool:
    """Whether an equation came of transposing another, and so belongs to the backward pass."""
    return "transpose(" in str(equation.source_info.name_stack)


def _inside(body: Program, device: str) -> int:
    """The memory that one round of a loop needs beyond what it is given."""
    return max(_sum_up(Lives(body, frozenset(), device).spans(), len(body.nodes)))
