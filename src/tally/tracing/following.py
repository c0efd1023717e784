"""One abstract run of a model: its equations, what it read, which layers it called, and who computed what."""

import functools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.export import is_symbolic_dim

from tally.core import masks
from tally.core.calling import Call, in_call
from tally.core.errors import is_users, place
from tally.core.holding import looking_anew, unchanging
from tally.core.layer import Layer
from tally.core.outlines import form_of
from tally.core.symbol import KerasTensor, leaves
from tally.core.variable import Values, Variable, numbers, substitute
from tally.tracing.undisturbed import undisturbed

BATCH, OPEN = 2, 32
"""The sizes that stand for an unknown batch and for any other unknown size."""


@dataclass
class Use:
    """One call of a layer within a run.

    Attributes:
        layer: What was called.
        caller: The layer in whose `call` it stands; None for the outermost.
        training: The phase its caller fixed by hand; None where it is the run's own.
        phase: The phase it runs in; None for a layer that has none.
        line: The line of the call, where it stands in the user's own code.
        inputs: The arrays it was given.
        outputs: The arrays it gave.
    """

    layer: Layer
    caller: Layer | None
    training: bool | None
    phase: bool | None
    line: str | None
    inputs: list[Any]
    outputs: list[Any] = field(default_factory=list)


@dataclass
class Run:
    """What one abstract run of a layer's or model's call left.

    Attributes:
        root: The layer or model.
        jaxpr: The closed jaxpr; its inputs are `variables`, then `inputs`; its outputs are `outputs`, then the added
            losses, then the new values of `assigned`, then what is `left`.
        variables: The root's variables.
        inputs: Shapes and dtypes of the inputs.
        outputs: How many of the jaxpr's outputs are the model's.
        losses: How many losses were added in the call.
        assigned: The variables that the call gave a new value.
        left: The layer and name of each attribute that the call gave an array.
        read: Every variable that was read, those the root doesn't hold included: the layer that read it first, and
            the user's line.
        readers: All layers that read a variable.
        uses: Each call of a layer, in the order they began.
        labels: Name in the equations' name stack -> layer, or op of a graph.
        call: What the layers knew of the call.
        started: The number of the first variable that was made in the run.
        late: The variables of layers that the run built, for they were not built before.
    """

    root: Layer
    jaxpr: Any
    variables: list[Variable]
    inputs: list[jax.ShapeDtypeStruct]
    outputs: int
    losses: int
    assigned: list[Variable]
    left: list[tuple[Layer, str]]
    read: dict[Variable, tuple[Layer, str | None]]
    readers: dict[Variable, set[Layer]]
    uses: list[Use]
    labels: dict[str, Any]
    call: Call
    started: int
    late: set[Variable]

    def equations(self) -> "Iterator[Step]":
        """Every equation that computes, those inside jitted functions and loops included, in order."""
        return _steps(self.jaxpr.jaxpr, self.labels, self.root, None, 1)


class Step(NamedTuple):
    """One equation of a run.

    Args:
        equation: JAX's own.
        layer: The innermost layer in whose call it stands; the root for what no layer computed.
        line: `file.py:12:8` of the nearest line and column of the user's own code that it came from, if there is one.
        times: How often it runs: more than once inside a loop whose length is known.
    """

    equation: Any
    layer: Layer
    line: str | None
    times: int


def _steps(jaxpr: Any, labels: dict[str, Any], layer: Layer, line: str | None, times: int) -> Iterator[Step]:
    for equation in jaxpr.eqns:
        # What stands inside a jitted function knows only its own place there; the rest is its caller's.
        here, at = place_of(equation, labels, layer, line)
        inner = list(bodies(equation))
        if not inner:
            yield Step(equation, here, at, times)
        repeats = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for body in inner:
            yield from _steps(body, labels, here, at, repeats)


_LABEL = re.compile(r"tally_layer_\d+")


def place_of(
    equation: Any, labels: dict[str, Any], layer: Layer, line: str | None
) -> tuple[Layer, str | None]:
    """The innermost layer that an equation stands in, and the user's line it came from.

    Args:
        equation: JAX's own.
        labels: Name in a name stack -> layer, or op of a graph.
        layer: Where the equation around it stands; for what no layer is named in.
        line: The line of that.
    """
    at = line_of(equation, inside=line is not None)
    for name in reversed(_LABEL.findall(str(equation.source_info.name_stack))):
        named = labels[name]
        if isinstance(named, Layer):
            return named, at or line
        at = at or named.made_at
    return layer, at or line


def line_of(equation: Any, inside: bool = False) -> str | None:
    """`file.py:12:8` of the nearest line and column of the user's own code that an equation came from.

    Args:
        equation: JAX's own.
        inside: Whether it stands inside another. JAX traces a jitted function once for all its callers, so beyond
            the function itself its trace may show a caller of another time.
    """
    traceback = equation.source_info.traceback
    if traceback is None:
        return None
    for file, line, column in _frames(traceback):
        if inside and file.endswith("pjit.py"):
            return None
        if is_users(file):
            at = place(file, line())
            return at if column is None else f"{at}:{column() + 1}"
    return None


def _frames(traceback: Any) -> Iterator[tuple[str, Callable[[], int], Callable[[], int] | None]]:
    """File, line and column of each frame, the nearest first; a JAX that tells no columns gives lines alone."""
    if not hasattr(traceback, "code_addr2location"):
        yield from ((frame.file_name, lambda frame=frame: frame.line_num, None) for frame in traceback.frames)
        return
    for code, address in zip(*traceback.raw_frames(), strict=True):

        def location(part: int, code: Any = code, address: int = address) -> int:
            return traceback.code_addr2location(code, address)[part]

        yield code.co_filename, functools.partial(location, 0), functools.partial(location, 1)


def given_inputs(root: Layer) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of a call that was made, with shapes in place of arrays; None if there was none."""
    graph = getattr(root, "_graph", None)
    if graph is not None:
        return (graph.input_structure,), {}
    if root.inbound_nodes:  # type: ignore[attr-defined]
        node = root.inbound_nodes[0]  # type: ignore[attr-defined]
        args, kwargs = node.args, node.kwargs
    elif root._held.last_call is not None:
        args, kwargs = root._held.last_call
    else:
        return None
    return args, {name: value for name, value in kwargs.items() if name != "training"}  # the run has its own


def follow(
    root: Layer,
    *,
    training: bool | None = False,
    batch: int = BATCH,
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    skims: Callable[[Layer], bool] | None = None,
) -> Run | None:
    """Follow one call of a layer or model without running it: no value is computed, nothing on it is changed.

    Args:
        root: A layer or model that was called or is a graph; never called, there is nothing to follow.
        training: The phase; None leaves it to each layer.
        batch: The size that stands for an unknown batch.
        inputs: Arguments to call it with, symbolic tensors or shapes in place of arrays; those it was called with
            before unless given.
        skims: Says of a layer whether what it computes is of no interest: of those that are alike only the first is
            followed, for its shapes.

    Returns:
        The run, or None where nothing is known to call it with.
    """
    given = inputs if inputs is not None else given_inputs(root)
    if given is None:
        return None
    with unchanging(), undisturbed(root):
        return _follow(root, given, training, batch, skims)


def _follow(
    root: Layer, given: Any, training: bool | None, batch: int, skims: Callable[[Layer], bool] | None
) -> Run:
    flat, structure = jax.tree.flatten(given, is_leaf=lambda leaf: leaf is None)
    at = [i for i, leaf in enumerate(flat) if isinstance(leaf, (KerasTensor, jax.ShapeDtypeStruct))]
    specs = [concrete(flat[i], batch) for i in at]
    assigned = list[Variable]()
    variables, before = root.variables, {id(value) for *_, value in traces(root)}
    left: list[tuple[Layer, str]] = []
    labels: dict[str, Any] = {}
    values, counts = Values(abstract=True), {"outputs": 0, "losses": 0}
    call = Call(training, label=lambda layer: _label(layer, labels))
    uses, running = _watch(call)
    if skims is not None:
        call.stand_in = _Skimmer(root, skims)
    values.read = reads = _Reads(root, set(variables), running)
    started, late = next(numbers), set[Variable]()
    waiting = [layer for layer in root._flatten_layers() if not layer.built]

    def run(weights: list[Any], arrays: list[Any]) -> Any:
        filled = list(flat)
        for i, array in zip(at, arrays, strict=True):
            filled[i] = array
        args, kwargs = jax.tree.unflatten(structure, filled)
        held = dict(zip(variables, weights, strict=True))
        values.update(held)
        with substitute(values), in_call(call):
            outputs = [leaf for leaf in leaves(root._call_with_values(args, kwargs)) if leaf is not None]
        with unchanging():
            losses = [loss for layer in root._flatten_layers() for loss in layer._held.losses]
            late.update(variable for layer in waiting for variable in layer.variables)
            made = [one for one in traces(root) if id(one[2]) not in before]
        assigned.extend(v for v in variables if values[v] is not held[v])
        counts.update(outputs=len(outputs), losses=len(losses))
        left.extend((layer, name) for layer, name, _ in made)
        return outputs, losses, [values[v] for v in assigned], [value for *_, value in made]

    weights = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
    with looking_anew():  # the call may hold other layers than before; `undisturbed` puts the former back
        jaxpr = jax.make_jaxpr(run)(weights, specs)
    return Run(
        root=root,
        jaxpr=jaxpr,
        variables=variables,
        inputs=specs,
        outputs=counts["outputs"],
        losses=counts["losses"],
        assigned=assigned,
        left=left,
        read=dict(reads),
        readers=reads.readers,
        uses=uses,
        labels=labels,
        call=call,
        started=started,
        late=late,
    )


def traces(root: Layer) -> list[tuple[Layer, str, Any]]:
    """What a followed call put on layers: layer, name of the attribute, and the tracer of an array."""
    return [
        (layer, name, value)
        for layer in root._flatten_layers()
        for name, value in layer._attributes().items()
        if isinstance(value, Tracer) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    ]


def _label(layer: Any, labels: dict[str, Any]) -> str:
    name = f"tally_layer_{layer.number}"
    labels.setdefault(name, layer)  # one that the root doesn't hold is met on the way
    return name


class _Skimmer:
    """Stands in for layers like one that was followed before: an output of the same shape that its input feeds."""

    def __init__(self, root: Layer, skims: Callable[[Layer], bool]) -> None:
        self.root, self.skims = root, skims
        self.known: dict[Any, Any] = {}
        self.followed: Layer | None = None

    def __call__(self, layer: Layer, args: Any, kwargs: Any) -> Any:
        arrays = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, jax.Array)]
        if layer is self.root or self.followed is not None or not arrays or not self.skims(layer):
            return None
        if any(masks.get_mask(array) is not None for array in arrays):
            return None
        form = form_of(layer, args, kwargs)
        specs = self.known.get(form.key) if form is not None else None
        if specs is None:
            specs = self._follow(layer, args, kwargs)
        if form is not None:
            self.known[form.key] = specs
        return jax.tree.map(lambda spec: _fed_by(arrays[0], spec), specs)

    def _follow(self, layer: Layer, args: Any, kwargs: Any) -> Any:
        self.followed = layer
        try:
            return jax.eval_shape(lambda: layer._call_with_values(args, kwargs))
        finally:
            self.followed = None


def _fed_by(array: Any, spec: Any) -> Any:
    """An array of a shape and dtype that depends on another, in as few equations as may be."""
    if (array.shape, array.dtype) == (spec.shape, spec.dtype):
        return array
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        array = array.real
    one = jax.lax.reduce_max(array, tuple(range(array.ndim)))
    return jax.lax.broadcast(one if one.dtype == spec.dtype else one.astype(spec.dtype), spec.shape)


def _line_inside() -> str | None:
    """The nearest line of the user's own code that runs in the call, and not around the search."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _follow.__code__:
        if is_users(frame.f_code.co_filename):
            return place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


class _Reads(dict[Variable, Any]):
    """Notes by whom each variable is read first."""

    def __init__(self, root: Layer, held: set[Variable], running: list[Use]) -> None:
        super().__init__()
        self.root, self.held, self.running = root, held, running
        self.readers: dict[Variable, set[Layer]] = {}

    def __setitem__(self, variable: Variable, _: None) -> None:
        reader = self.running[-1].layer if self.running else self.root
        self.readers.setdefault(variable, set()).add(reader)
        if variable not in self:
            super().__setitem__(variable, (reader, _line_inside() if variable not in self.held else None))


def _watch(call: Call) -> tuple[list[Use], list[Use]]:
    """Note each call of a layer as it begins and ends; gives all of them, and those that are under way."""
    uses: list[Use] = []
    running: list[Use] = []

    def enter(layer: Layer, args: Any, kwargs: Any, explicit: bool | None) -> None:
        caller = running[-1].layer if running else None
        arrays = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, jax.Array)]
        own = caller is not None and not type(caller).__module__.startswith("tally.")
        line = _line_inside() if own else None
        use = Use(layer, caller, explicit, kwargs.get("training"), line, arrays)
        uses.append(use)
        running.append(use)

    def leave(layer: Layer, outputs: Any) -> None:
        while running and running[-1].layer is not layer:
            running.pop()  # its call was left by an error that the caller caught
        if running:
            running.pop().outputs = [leaf for leaf in leaves(outputs) if isinstance(leaf, jax.Array)]

    call.enter, call.watch = enter, leave
    return uses, running


def concrete(spec: Any, batch: int = BATCH) -> jax.ShapeDtypeStruct:
    """A spec with a size for each that is unknown: `batch` for the first, `OPEN` for the others."""
    shape = spec.symbolic_shape if isinstance(spec, KerasTensor) else spec.shape
    sizes = tuple(
        (batch if i == 0 else OPEN) if is_symbolic_dim(size) or size is None else size
        for i, size in enumerate(shape)
    )
    return jax.ShapeDtypeStruct(sizes, spec.dtype)


def bodies(equation: Any) -> Iterator[Any]:
    """The jaxprs inside an equation: of a jitted function, a scan, the branches of a condition."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "jaxpr") and hasattr(one.jaxpr, "eqns"):
                yield one.jaxpr
            elif hasattr(one, "eqns"):
                yield one
