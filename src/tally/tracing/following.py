"""One abstract run of a model: its equations, what it read, which layers it called, and who computed what."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax.export import is_symbolic_dim

from tally.core.calling import Call, in_call
from tally.core.errors import is_users, place
from tally.core.layer import Layer
from tally.core.symbol import KerasTensor, leaves
from tally.core.variable import Values, Variable, substitute
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
        inputs: The arrays it was given.
        outputs: The arrays it gave.
    """

    layer: Layer
    caller: Layer | None
    training: bool | None
    inputs: list[Any]
    outputs: list[Any] = field(default_factory=list)


@dataclass
class Run:
    """What one abstract run of a layer's or model's call left.

    Attributes:
        root: The layer or model.
        jaxpr: The closed jaxpr; its inputs are `variables`, then `inputs`; its outputs are `outputs`, then the added
            losses, then the new values of `assigned`.
        variables: The root's variables.
        inputs: Shapes and dtypes of the inputs.
        outputs: How many of the jaxpr's outputs are the model's.
        losses: How many losses were added in the call.
        assigned: The variables that the call gave a new value.
        read: Every variable that was read, those the root doesn't hold included.
        uses: Each call of a layer, in the order they began.
        labels: Name in the equations' name stack -> layer.
    """

    root: Layer
    jaxpr: Any
    variables: list[Variable]
    inputs: list[jax.ShapeDtypeStruct]
    outputs: int
    losses: int
    assigned: list[Variable]
    read: list[Variable]
    uses: list[Use]
    labels: dict[str, Layer]
    call: Call

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


def _steps(
    jaxpr: Any, labels: dict[str, Layer], layer: Layer, line: str | None, times: int
) -> Iterator[Step]:
    for equation in jaxpr.eqns:
        # What stands inside a jitted function knows only its own place there; the rest is its caller's.
        here = layer_of(equation, labels) or layer
        at = line_of(equation, inside=line is not None) or line
        inner = list(bodies(equation))
        if not inner:
            yield Step(equation, here, at, times)
        repeats = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for body in inner:
            yield from _steps(body, labels, here, at, repeats)


_LABEL = re.compile(r"tally_layer_\d+")


def layer_of(equation: Any, labels: dict[str, Layer]) -> Layer | None:
    """The innermost layer that an equation's name stack names, behind JAX's transformations or not."""
    names = _LABEL.findall(str(equation.source_info.name_stack))
    return labels[names[-1]] if names else None


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
    for code, address in zip(*traceback.raw_frames(), strict=True):
        if inside and code.co_filename.endswith("pjit.py"):
            return None
        if is_users(code.co_filename):
            line, column, *_ = traceback.code_addr2location(code, address)
            return f"{place(code.co_filename, line)}:{column + 1}"
    return None


def given_inputs(root: Layer) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of a call that was made, with shapes in place of arrays; None if there was none."""
    graph = getattr(root, "_graph", None)
    if graph is not None:
        return (graph.input_structure,), {}
    if root.inbound_nodes:  # type: ignore[attr-defined]
        node = root.inbound_nodes[0]  # type: ignore[attr-defined]
        return node.args, node.kwargs
    return root._held.last_call


def follow(
    root: Layer,
    *,
    training: bool | None = False,
    batch: int = BATCH,
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
) -> Run | None:
    """Follow one call of a layer or model without running it: no value is computed, nothing on it is changed.

    Args:
        root: A layer or model that was called or is a graph; never called, there is nothing to follow.
        training: The phase; None leaves it to each layer.
        batch: The size that stands for an unknown batch.
        inputs: Arguments to call it with, symbolic tensors or shapes in place of arrays; those it was called with
            before unless given.

    Returns:
        The run, or None where nothing is known to call it with.
    """
    given = inputs if inputs is not None else given_inputs(root)
    if given is None:
        return None
    with undisturbed(root):
        return _follow(root, given, training, batch)


def _follow(root: Layer, given: Any, training: bool | None, batch: int) -> Run:
    flat, structure = jax.tree.flatten(given, is_leaf=lambda leaf: leaf is None)
    at = [i for i, leaf in enumerate(flat) if isinstance(leaf, (KerasTensor, jax.ShapeDtypeStruct))]
    specs = [concrete(flat[i], batch) for i in at]
    variables, assigned = root.variables, list[Variable]()
    labels = {f"tally_layer_{layer.number}": layer for layer in root._flatten_layers()}  # type: ignore[attr-defined]
    values, counts = Values(abstract=True), {"outputs": 0, "losses": 0}
    uses: list[Use] = []
    call = Call(training, label=lambda layer: _label(layer, labels))
    _watch(call, uses)

    def run(weights: list[Any], arrays: list[Any]) -> Any:
        filled = list(flat)
        for i, array in zip(at, arrays, strict=True):
            filled[i] = array
        args, kwargs = jax.tree.unflatten(structure, filled)
        held = dict(zip(variables, weights, strict=True))
        values.update(held)
        with substitute(values), in_call(call):
            outputs = [leaf for leaf in leaves(root._call_with_values(args, kwargs)) if leaf is not None]
        losses = [loss for layer in root._flatten_layers() for loss in layer._held.losses]
        assigned.extend(v for v in variables if values[v] is not held[v])
        counts.update(outputs=len(outputs), losses=len(losses))
        return outputs, losses, [values[v] for v in assigned]

    weights = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
    jaxpr = jax.make_jaxpr(run)(weights, specs)
    return Run(
        root=root,
        jaxpr=jaxpr,
        variables=variables,
        inputs=specs,
        outputs=counts["outputs"],
        losses=counts["losses"],
        assigned=assigned,
        read=list(values.read),
        uses=uses,
        labels=labels,
        call=call,
    )


def _label(layer: Layer, labels: dict[str, Layer]) -> str:
    name = f"tally_layer_{layer.number}"  # type: ignore[attr-defined]
    labels.setdefault(name, layer)  # one that the root doesn't hold is met on the way
    return name


def _watch(call: Call, uses: list[Use]) -> None:
    """Note each call of a layer as it begins and ends."""
    running: list[Use] = []

    def enter(layer: Layer, args: Any, kwargs: Any, explicit: bool | None) -> None:
        caller = running[-1].layer if running else None
        arrays = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, jax.Array)]
        use = Use(layer, caller, explicit, arrays)
        uses.append(use)
        running.append(use)

    def leave(layer: Layer, outputs: Any) -> None:
        while running and running[-1].layer is not layer:
            running.pop()  # its call was left by an error that the caller caught
        if running:
            running.pop().outputs = [leaf for leaf in leaves(outputs) if isinstance(leaf, jax.Array)]

    call.enter, call.watch = enter, leave


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
