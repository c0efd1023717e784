"""Which values reach where: labels carried along the equations of a run, from sources to outputs.

An abstract interpretation: a value is the set of sources it depends on, and the set of those it depends on so that a
gradient flows back. Sets are integers with a bit for each source, so joining two is one operation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from tally.core.layer import Layer
from tally.core.random import UNSEEDED
from tally.core.variable import Variable
from tally.tracing.following import Run, bodies, place_of

DRAWS = frozenset(("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"))
"""What makes random numbers of a key."""
PRODUCTS = frozenset(("dot_general", "conv_general_dilated"))
"""What multiplies values with weights and adds up."""
LOOKUPS = frozenset(("gather", "dynamic_slice"))
"""What picks out of a table."""
_SUMS = frozenset(("mul", "add", "sub", "add_any", "div"))
_STOPS = {
    "stop_gradient": "stop_gradient",
    "round": "rounding",
    "floor": "rounding down",
    "ceil": "rounding up",
    "sign": "sign",
    "argmax": "argmax",
    "argmin": "argmin",
    "convert_element_type": "a cast to whole numbers",
    "eq": "a comparison",
    "ne": "a comparison",
    "lt": "a comparison",
    "le": "a comparison",
    "gt": "a comparison",
    "ge": "a comparison",
    "is_finite": "a test",
    "pure_callback": "a callback into Python",
    "io_callback": "a callback into Python",
}
"""What no gradient passes, in words. Anything else stops it only by making whole numbers of real ones."""
_FLAT = frozenset(("stop_gradient", "round", "floor", "ceil", "sign", "pure_callback", "io_callback"))


class Label(NamedTuple):
    """What is known of a value.

    Args:
        sources: A bit for each source it depends on.
        gradient: A bit for each source that a gradient flows back to.
        made: What it is made of, where no input and no variable stands behind it: a random draw, or an array that
            was there before the call.
        parts: What it was just put together from, so that cutting a part off again is seen.
    """

    sources: int = 0
    gradient: int = 0
    made: "Made | None" = None
    parts: "tuple[Part, ...]" = ()


class Part(NamedTuple):
    """One of the arrays that a value was put together from.

    Args:
        axis: Along which.
        start: Where it begins there.
        stop: Where it ends.
        label: What is known of it.
    """

    axis: int
    start: int
    stop: int
    label: Label


@dataclass(frozen=True, eq=False)
class Made:
    """A value with nothing of the model behind it.

    Attributes:
        kind: `"drawn"` from a fixed key, `"noise"` from a key that is new each time, or `"constant"`.
        shape: Its sizes, where it was drawn or as it was.
        layer: Where it came from: the layer in whose call.
        line: And the user's line, if there is one.
        value: The array itself, of a constant.
    """

    kind: str
    layer: Layer
    line: str | None
    shape: tuple[int, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Stop:
    """A place that no gradient passes.

    Attributes:
        bits: The sources it is lost for.
        operation: JAX's name of what computes there.
        layer: The layer in whose call it stands.
        line: The user's line.
    """

    bits: int
    operation: str
    layer: Layer
    line: str | None

    @property
    def words(self) -> str:
        """What stands there, in words."""
        return _STOPS.get(self.operation, self.operation)


@dataclass(frozen=True)
class Weightlike:
    """A value that multiplies, or is added to, what the inputs became, though no variable stands behind it.

    Attributes:
        made: What it is made of.
        shape: Its sizes where it is used.
        dtype: Its type.
        operation: What uses it.
        layer: The layer in whose call it is used.
        line: The user's line that uses it.
    """

    made: Made
    shape: tuple[int, ...]
    dtype: str
    operation: str
    layer: Layer
    line: str | None


@dataclass
class Flow:
    """What following the labels through a run has shown.

    Attributes:
        run: The run.
        outputs: What each output of the model is labelled with.
        losses: The same of each added loss.
        assigned: The same of each new value of a variable.
        left: The same of each array that the call left on a layer.
        stops: Places where gradients are lost, in order.
        weightlike: Arrays that act as weights without being variables.
    """

    run: Run
    outputs: list[Label] = field(default_factory=list)
    losses: list[Label] = field(default_factory=list)
    assigned: list[Label] = field(default_factory=list)
    left: list[Label] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    weightlike: list[Weightlike] = field(default_factory=list)

    def bit(self, variable: Variable) -> int:
        """The bit of a variable of the run's."""
        return 1 << self.run.variables.index(variable)

    @property
    def inputs(self) -> int:
        """The bits of all inputs."""
        return _all_bits(len(self.run.inputs)) << len(self.run.variables)

    def reached(self) -> int:
        """The bits of what any output, added loss or new value of a variable depends on."""
        return _join(label.sources for label in (*self.outputs, *self.losses, *self.assigned))

    def learning(self) -> int:
        """The bits of what a gradient of the outputs and added losses flows back to."""
        return _join(label.gradient for label in (*self.outputs, *self.losses))


def carry(run: Run) -> Flow:
    """Carry labels from the variables and inputs of a run to its outputs."""
    flow = Flow(run)
    jaxpr = run.jaxpr.jaxpr
    given = [_source(place, variable) for place, variable in enumerate(jaxpr.invars)]
    constants = [_constant(value, run.root) for value in run.jaxpr.consts]
    ends = _Carrier(flow).through(jaxpr, constants, given, run.root, None)
    counts = (run.outputs, run.losses, len(run.assigned), len(run.left))
    rest = iter(ends)
    flow.outputs, flow.losses, flow.assigned, flow.left = (list(islice(rest, count)) for count in counts)
    return flow


def _source(place: int, variable: Any) -> Label:
    bit = 1 << place
    return Label(bit, bit if _is_real(variable.aval) else 0)


def _constant(value: Any, layer: Layer) -> Label:
    return (
        Label(made=Made("constant", layer, None, tuple(np.shape(value)), value))
        if np.ndim(value)
        else Label()
    )


def _is_real(aval: Any) -> bool:
    return _is_inexact(aval.dtype)


@cache
def _is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def _all_bits(count: int) -> int:
    return (1 << count) - 1


def _join(bits: Any) -> int:
    found = 0
    for one in bits:
        found |= one
    return found


class _Carrier:
    """Goes through equations, those inside others included, and notes on the flow what it meets."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.inputs = flow.inputs
        self.labels = flow.run.labels

    def through(
        self, jaxpr: Any, constants: Sequence[Label], given: Sequence[Label], layer: Layer, line: str | None
    ) -> list[Label]:
        """The labels of a jaxpr's outputs, for those of its constants and inputs."""
        known: dict[Any, Label] = dict(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> Label:
            if hasattr(atom, "val"):
                return _constant(atom.val, here)
            return known.get(atom, _NOTHING)

        here = layer
        for equation in jaxpr.eqns:
            here, at = place_of(equation, self.labels, layer, line)
            labels = [read(atom) for atom in equation.invars]
            results = self._results(equation, labels, here, at)
            known.update(zip(equation.outvars, results, strict=True))
        here = layer
        return [read(atom) for atom in jaxpr.outvars]

    def _results(self, equation: Any, labels: list[Label], layer: Layer, line: str | None) -> list[Label]:
        inner = list(bodies(equation))
        if inner:
            return self._inside(equation, inner, labels, layer, line)
        name = equation.primitive.name
        if name in PRODUCTS | LOOKUPS or name in _SUMS:
            self._note_weightlike(equation, labels, layer, line)
        joined = _joined(labels)
        if name == "slice" and labels[0].parts:
            labels = [_cut(labels[0], equation.params)]
            joined = labels[0]
        made = self._made(equation, labels, joined, layer, line)
        lost = self._lost(equation, labels, joined.gradient)
        if lost:
            self.flow.stops.append(Stop(lost, name, layer, line))
        gradient = joined.gradient & ~lost
        parts = _parts(equation, labels) if name == "concatenate" else ()
        return [
            Label(joined.sources, gradient if _is_real(out.aval) else 0, made, parts)
            for out in equation.outvars
        ]

    def _lost(self, equation: Any, labels: list[Label], gradient: int) -> int:
        """The sources that lose their gradient here."""
        if not gradient:
            return 0
        if equation.primitive.name in _FLAT or not any(_is_real(out.aval) for out in equation.outvars):
            return gradient
        if equation.primitive.name == "mul":
            zero = any(hasattr(atom, "val") and not np.any(atom.val) for atom in equation.invars)
            return gradient if zero else 0
        return 0

    def _made(
        self, equation: Any, labels: list[Label], joined: Label, layer: Layer, line: str | None
    ) -> Made | None:
        if joined.sources:
            return None
        found = [label.made for label in labels if label.made is not None]
        kind = next((one.kind for one in found if one.kind != "constant"), None)
        if equation.primitive.name in DRAWS:
            return Made(kind or "drawn", layer, line, tuple(equation.outvars[0].aval.shape))
        if kind is None and UNSEEDED in str(equation.source_info.name_stack):
            return Made("noise", layer, line)
        return next((one for one in found if one.kind == kind), found[0] if found else None)

    def _note_weightlike(self, equation: Any, labels: list[Label], layer: Layer, line: str | None) -> None:
        fed = any(label.sources & self.inputs for label in labels)
        for atom, label in zip(equation.invars, labels, strict=True):
            if (
                fed
                and label.made is not None
                and not label.sources
                and _is_real(atom.aval)
                and atom.aval.shape
            ):
                self.flow.weightlike.append(
                    Weightlike(
                        label.made,
                        tuple(atom.aval.shape),
                        atom.aval.dtype.name,
                        equation.primitive.name,
                        layer,
                        line,
                    )
                )

    # -- equations with others inside ---------------------------------------------------------------------------------
    def _inside(
        self, equation: Any, inner: list[Any], labels: list[Label], layer: Layer, line: str | None
    ) -> list[Label]:
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            consts, carried = params["num_consts"], params["num_carry"]
            return self._loop(inner[0], labels, consts, carried, layer, line)
        if name == "while":
            return self._while(params, labels, layer, line)
        if name == "cond":
            branches = [self._body(body, labels[1:], layer, line) for body in inner]
            chosen = Label(labels[0].sources)
            return [_joined([chosen, *several]) for several in zip(*branches, strict=True)]
        if len(inner) == 1 and len(inner[0].invars) == len(labels):
            results = self._body(inner[0], labels, layer, line)
            if name.startswith("custom_"):  # its own rule says how gradients flow, and not what it computes
                gradient = _joined(labels).gradient
                return [
                    label._replace(gradient=gradient if _is_real(out.aval) else 0)
                    for label, out in zip(results, equation.outvars, strict=True)
                ]
            return results
        joined = _joined(labels)
        return [joined for _ in equation.outvars]

    def _body(self, body: Any, labels: Sequence[Label], layer: Layer, line: str | None) -> list[Label]:
        return self.through(body, [_NOTHING] * len(body.constvars), labels, layer, line)

    def _loop(
        self, body: Any, labels: list[Label], consts: int, carried: int, layer: Layer, line: str | None
    ) -> list[Label]:
        """What is carried depends on what it was before: repeat until nothing is added."""
        fixed, carry_, given = labels[:consts], labels[consts : consts + carried], labels[consts + carried :]
        return self._settle(lambda now: self._body(body, [*fixed, *now, *given], layer, line), carry_)

    def _while(self, params: Any, labels: list[Label], layer: Layer, line: str | None) -> list[Label]:
        test, consts = params["cond_nconsts"], params["body_nconsts"]
        fixed, carry_ = labels[test : test + consts], labels[test + consts :]
        body = params["body_jaxpr"].jaxpr
        return self._settle(lambda now: self._body(body, [*fixed, *now], layer, line), carry_)

    def _settle(self, step: Any, carry_: list[Label]) -> list[Label]:
        noted = len(self.flow.stops), len(self.flow.weightlike)
        while True:
            results = step(carry_)
            new = [_joined([old, label]) for old, label in zip(carry_, results, strict=False)]
            if [label[:2] for label in new] == [label[:2] for label in carry_]:
                return [*new, *results[len(carry_) :]]
            carry_ = new
            del self.flow.stops[noted[0] :], self.flow.weightlike[noted[1] :]  # the last round notes all


_NOTHING = Label()


def _parts(equation: Any, labels: list[Label]) -> tuple[Part, ...]:
    axis, place, parts = equation.params["dimension"], 0, list[Part]()
    for atom, label in zip(equation.invars, labels, strict=True):
        size = atom.aval.shape[axis]
        parts.append(Part(axis, place, place + size, label._replace(parts=())))
        place += size
    return tuple(parts)


def _cut(label: Label, params: Any) -> Label:
    """The label of a piece: only the parts that it reaches into count."""
    axis = label.parts[0].axis
    start, stop = params["start_indices"][axis], params["limit_indices"][axis]
    return _joined([part.label for part in label.parts if part.start < stop and part.stop > start])


def _joined(labels: Sequence[Label]) -> Label:
    """The label of what is computed from several."""
    sources = _join(label.sources for label in labels)
    gradient = _join(label.gradient for label in labels)
    made = None if sources else next((label.made for label in labels if label.made is not None), None)
    return Label(sources, gradient, made)


def lines(stops: Sequence[Stop]) -> Iterator[Stop]:
    """The stops that stand on a line of the user's own, in order."""
    return (stop for stop in stops if stop.line is not None)
