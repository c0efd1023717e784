"""A traced function as one flat list of equations: what JAX nests is opened, and what nobody needs is left out."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from jax.extend.core import Literal

from tally.tracing.following import bodies

_CALLS = """checkpoint closed_call core_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr jit linear_map
pjit remat remat2"""
CALLS = frozenset(_CALLS.split())
"""What runs its body once, in place: opened."""
LOOPS = frozenset(("scan", "while", "cond"))
"""What runs its bodies in its own way: kept whole, with the bodies inside."""


@dataclass(eq=False)
class Node:
    """One equation in its place.

    Attributes:
        equation: JAX's own.
        maker: The innermost layer, or op of a graph, that computes it or that its gradient goes back through; the root
            for the rest.
        reads: Numbers of the values it takes.
        writes: Numbers of the values it makes.
        inner: The bodies of a loop or of the branches of a condition.
        times: How often the inner bodies run; 1 where the length is not known.
    """

    equation: Any
    maker: Any
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    inner: "tuple[Program, ...]" = ()
    times: int = 1

    @property
    def name(self) -> str:
        """The name of its primitive."""
        return self.equation.primitive.name


@dataclass(eq=False)
class Program:
    """What a function computes.

    Attributes:
        nodes: In the order they run; the outputs need every one of them.
        inputs: Numbers of the values it is given.
        constants: Numbers of the arrays it holds itself.
        outputs: Numbers of the values it gives; None for a number that stands in the program.
        kinds: Number of a value -> its shape and dtype, as JAX's `ShapedArray`.
    """

    nodes: list[Node]
    inputs: list[int]
    constants: list[int]
    outputs: list[int | None]
    kinds: dict[int, Any]

    def nbytes(self, value: int) -> int:
        """The bytes of a value."""
        return size_of(self.kinds[value])

    def every(self, times: int = 1) -> Iterator[tuple[Node, int]]:
        """Each node that computes by itself, those inside loops included, with how often it runs.

        Of the branches of a condition all are given: which one runs is not known.
        """
        for node in self.nodes:
            if not node.inner:
                yield node, times
            for body in node.inner:
                yield from body.every(times * node.times)


def size_of(kind: Any) -> int:
    """The bytes of an array of a shape and dtype; nothing for what is no array."""
    return math.prod(kind.shape) * kind.dtype.itemsize if hasattr(kind, "dtype") else 0


def read(jaxpr: Any, labels: dict[str, Any], root: Any = None) -> Program:
    """Bring a closed jaxpr into one list.

    Args:
        jaxpr: What `jax.make_jaxpr` gave.
        labels: Name in the equations' name stacks -> layer, or op of a graph.
        root: Whose the equations are that stand in no layer.
    """
    return _read(jaxpr.jaxpr, labels, root)


_LABEL = re.compile(r"tally_layer_\d+")


def _maker(equation: Any, labels: dict[str, Any], around: Any) -> Any:
    """Who computes an equation. Inside a jitted function it only knows its place there; the rest is its caller's."""
    names = _LABEL.findall(str(equation.source_info.name_stack))
    return labels.get(names[-1], around) if names else around


def _read(jaxpr: Any, labels: dict[str, Any], around: Any) -> Program:
    reader = _Reader(labels)
    env: dict[Any, int] = {}
    constants = [reader.number(var, env) for var in jaxpr.constvars]
    inputs = [reader.number(var, env) for var in jaxpr.invars]
    reader.walk(jaxpr, env, around)
    outputs = [reader.look(var, env) for var in jaxpr.outvars]
    nodes = _needed(reader.nodes, outputs)
    return Program(nodes, inputs, constants, outputs, reader.kinds)


@dataclass
class _Reader:
    labels: dict[str, Any]
    nodes: list[Node] = field(default_factory=list)
    kinds: dict[int, Any] = field(default_factory=dict)

    def number(self, var: Any, env: dict[Any, int]) -> int:
        """Give a new value its number."""
        value = len(self.kinds)
        self.kinds[value] = var.aval
        env[var] = value
        return value

    def look(self, var: Any, env: dict[Any, int]) -> int | None:
        """The number of a value; None for a literal."""
        return None if isinstance(var, Literal) else env[var]

    def walk(self, jaxpr: Any, env: dict[Any, int], around: Any) -> None:
        """Add the equations of a jaxpr, whose inputs have their numbers."""
        for equation in jaxpr.eqns:
            here = _maker(equation, self.labels, around)
            if equation.primitive.name in CALLS:
                self._open(equation, env, here)
            else:
                self._add(equation, env, here)

    def _open(self, equation: Any, env: dict[Any, int], maker: Any) -> None:
        body = next(bodies(equation))
        inside: dict[Any, int] = {}
        for constant in body.constvars:
            self.number(constant, inside)
        for var, given in zip(body.invars, equation.invars, strict=True):
            value = self.look(given, env)
            if value is None:
                self.number(var, inside)
            else:
                inside[var] = value
        self.walk(body, inside, maker)
        for var, made in zip(equation.outvars, body.outvars, strict=True):
            value = self.look(made, inside)
            if value is None:
                self.number(var, env)
            else:
                env[var] = value

    def _add(self, equation: Any, env: dict[Any, int], maker: Any) -> None:
        reads = [self.look(var, env) for var in equation.invars]
        is_loop = equation.primitive.name in LOOPS
        inner = tuple(_read(body, self.labels, maker) for body in bodies(equation)) if is_loop else ()
        writes = tuple(self.number(var, env) for var in equation.outvars)
        known = tuple(cast("int", value) for value in reads if value is not None)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        self.nodes.append(Node(equation, maker, known, writes, inner, times))


def _needed(nodes: list[Node], outputs: list[int | None]) -> list[Node]:
    """Leave out what no output depends on, as the compiler does."""
    needed = {value for value in outputs if value is not None}
    kept: list[Node] = []
    for node in reversed(nodes):
        if needed.intersection(node.writes) or node.equation.effects:
            needed.update(node.reads)
            kept.append(node)
    return kept[::-1]
