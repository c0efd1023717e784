"""What XLA holds on each kind of device beyond what the program itself needs.

On GPUs and TPUs: nothing that a simple rule could tell. On the CPU a good deal, found by reading its plans of memory
(JAX 0.10): each rule below says what it saw.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tally.kernels.native import library
from tally.tracing.program import Node, size_of

if TYPE_CHECKING:
    from tally.tracing.memory import Lives

_ROW = frozenset(("mul", "add", "sub", "square", "neg", "add_any", "max", "exp", "div", "integer_pow"))
_PRODUCTS = frozenset(("conv_general_dilated", "dot_general"))
_MAX_POOLING = frozenset(("reduce_window_max", "select_and_scatter_add"))
_REPEATED = frozenset(("broadcast_in_dim", "transpose", "iota"))


class Span(NamedTuple):
    """Some memory, from the place of one node to that of another."""

    start: int
    stop: int
    nbytes: int


def written_on_cpu(lives: "Lives") -> Iterator[int]:
    """Values that the CPU writes down though they could be computed again.

    What three or more others use is not computed again for each. A sum along rows is done by a library that reads its
    operands from memory.
    """
    for node in lives.nodes.values():
        if node.name in lives.fused and node.name not in _REPEATED:
            yield from (value for value in node.writes if lives.uses[value] > 2)
        if node.name.startswith("reduce_") and _is_along_rows(node):
            yield from _operands(lives, node)


def reads_on_the_way(node: Node) -> bool:
    """Whether the CPU computes what a node reads inside it: max-pooling is slices there (`tally.kernels.pooling`)."""
    return node.name in _MAX_POOLING and node.equation.outvars[0].aval.dtype.itemsize >= 4


def computed_again_on_cpu(lives: "Lives", node: Node) -> bool:
    """Whether a value is written down for some of those that use it, and computed again for others.

    So it is with a bias that is added to a product, where three or more use the sum: the product stays, too.
    """
    if node.name not in ("add", "sub") or all(lives.uses[value] < 3 for value in node.writes):
        return False
    makers = map(lives.maker, lives.of(node.reads))
    return any(maker is not None and maker.name in _PRODUCTS for maker in makers)


def spans_on_cpu(lives: "Lives") -> Iterator[Span]:
    """Memory that the CPU takes for itself."""
    for place, node in lives.nodes.items():
        rule = _RULES.get(node.name)
        if rule is not None:
            yield from rule(lives, place, node)
    yield from _rows(lives)


def _is_along_rows(node: Node) -> bool:
    return node.equation.invars[0].aval.ndim - 1 in node.equation.params.get("axes", ())


def _operands(lives: "Lives", node: Node) -> Iterator[int]:
    """What a sum along rows reads, behind the arithmetic that the library does itself."""
    waiting = lives.of(node.reads)
    while waiting:
        value = waiting.pop()
        maker = lives.maker(value)
        if maker is None:
            continue
        if maker.name in _ROW and lives.uses[value] == 1:
            waiting.extend(lives.of(maker.reads))
        else:
            yield value


def _pooling(lives: "Lives", place: int, node: Node) -> Iterator[Span]:
    """Where a pooling's gradient goes.

    In full precision a byte for each window says which of its values gets it (`tally.kernels.pooling`). In half
    precision XLA finds it with a whole number for each axis of each value, made at the start.
    """
    before, after = node.equation.outvars[0].aval.shape, node.equation.invars[0].aval.shape
    if node.equation.invars[0].aval.dtype.itemsize >= 4:
        yield Span(place, place, math.prod(after))
        return
    values = lives.of(node.reads)[1:2]
    forward = min((lives.first_use(value, "reduce_window") or place for value in values), default=place)
    rank = len(before)
    yield Span(0, forward, 4 * rank * math.prod(before))
    yield Span(forward, place, 4 * rank * math.prod(after))
    yield Span(0, place, size_of(node.equation.outvars[0].aval))


def _convolution(lives: "Lives", place: int, node: Node) -> Iterator[Span]:
    """XLA makes the gradient of a kernel by a convolution over the batch, whose operands are copied into that order.

    The input's copy is often made as soon as the input is there, in the forward pass, and waits. Computed in C it needs
    neither.
    """
    kind = node.equation.outvars[0].aval
    if library.is_there() and kind.dtype == "float32" and kind.ndim <= 4:
        return
    if node.equation.params["dimension_numbers"].lhs_spec[0] != 0:
        yield Span(place, place, sum(size_of(var.aval) for var in node.equation.invars))
        x = lives.of(node.reads)[0]
        if x in lives.places:
            yield Span(lives.places[x], place - 1, size_of(node.equation.invars[0].aval))


def _loop(lives: "Lives", place: int, node: Node) -> Iterator[Span]:
    """What a loop stacks up is there, as zeros, from the start."""
    carried = node.equation.params["num_carry"]
    stacked = [value for value in lives.of(node.writes[carried:]) if value in lives.temporary]
    yield Span(0, place - 1, sum(map(lives.nbytes, stacked)))


def _twice(lives: "Lives", place: int, node: Node) -> Iterator[Span]:
    """Random numbers come in two words, and the error function in two parts: both stay."""
    value = node.writes[0]
    yield Span(place, lives.last.get(value, place), lives.nbytes(value) if value in lives.kept else 0)


_RULES: dict[str, Callable[["Lives", int, Node], Iterator[Span]]] = {
    "select_and_scatter_add": _pooling,
    "conv_general_dilated": _convolution,
    "scan": _loop,
    "random_bits": _twice,
    "erf": _twice,
    "erfc": _twice,
}


def _rows(lives: "Lives") -> Iterator[Span]:
    """One number for each row, such as its mean, is spread over the row in memory where two operations need it."""
    spread: dict[Any, list[int]] = defaultdict(list)
    for place, node in lives.nodes.items():
        if node.name in lives.fused:
            after = node.equation.outvars[0].aval
            for value, before in lives.operands(node):
                if value in lives.places and _is_spread(node, before, after):
                    spread[value, after.shape, after.dtype].append(place)
    for places in spread.values():
        if len(places) > 1:
            after = lives.nodes[places[0]].equation.outvars[0].aval
            yield Span(places[0], max(map(lives.runs_until, places)), size_of(after))


def _is_spread(node: Node, before: Any, after: Any) -> bool:
    if not before.shape or not after.shape or after.shape[-1] == 1:
        return False
    if node.name == "broadcast_in_dim":
        kept = node.equation.params["broadcast_dimensions"]
        return after.ndim - 1 not in kept or before.shape[-1] == 1
    return before.ndim == after.ndim and before.shape[-1] == 1
