"""Weights and layers that a call uses but that no layer holds: found by following one trace of the call."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.export import is_symbolic_dim

from tally.accounting.finding import Untracked
from tally.core.calling import Call, in_call
from tally.core.errors import is_users, place
from tally.core.layer import Layer
from tally.core.symbol import KerasTensor, leaves
from tally.core.variable import Values, Variable, substitute
from tally.tracing.undisturbed import undisturbed

_PRODUCTS = frozenset(("dot_general", "conv_general_dilated"))
_DRAWS = frozenset(("random_bits", "threefry2x32", "rng_bit_generator"))


def find_untracked(root: Layer, paths: dict[Layer, str]) -> list[Untracked]:
    """Look for what acts as a weight without being one.

    The call is followed without being run: no value is computed, no random number drawn, and whatever it left on the
    layers is put back. A call that can't be followed gives no findings; its own error comes when it is used.

    Args:
        root: A layer or model that was called, on data or on symbolic tensors; never called, it gives nothing.
        paths: Place of every layer in the ledger.

    Returns:
        Arrays drawn or made in a call (T101), variables no layer owns (T103), layers held where tracking can't see them
        (T106), and layers made anew in each call (T107).
    """
    if all(_is_ours(layer) for layer in root._flatten_layers()):
        return []  # the library's own layers hold all they use
    try:
        with undisturbed(root):
            return _find(root, paths)
    except Exception:  # an account of the model must not fail where the model's own code does
        return []


def _find(root: Layer, paths: dict[Layer, str]) -> list[Untracked]:
    layers = set(root._flatten_layers())
    stale = {(layer, name): value for layer in layers for name, value in _traces(layer)}
    found = [_left_behind(layer, name, value, paths) for (layer, name), value in stale.items()]
    traced = _trace(root)
    if traced is not None:
        jaxpr, values, call, left = traced
        found += [
            _left_behind(layer, name, value, paths)
            for layer, name, value in left
            if (layer, name) not in stale and layer in layers
        ]
        tracked = set(root.variables)
        lost = [layer for layer in call.layers if layer not in layers]
        inside = {variable for layer in lost for variable in layer.variables}
        found += [_lost_layer(layer, call, root, paths) for layer in lost if not _held_by(layer, lost)]
        outside = [v for v in values.read if v not in tracked and v not in inside and not v.is_seed]
        found += [_lost_variable(variable, root, paths) for variable in outside]
        known = {(one.owner, one.shape) for one in found if one is not None}
        found += [one for one in _drawn_weights(jaxpr, root, paths) if (one.owner, one.shape) not in known]
    return list(dict.fromkeys(one for one in found if one is not None))


def _is_ours(layer: Layer) -> bool:
    # A Lambda's function is the user's, so it may draw or close over anything.
    return type(layer).__module__.startswith("tally.") and type(layer).__name__ != "Lambda"


def _traces(layer: Layer) -> Iterator[tuple[str, Tracer]]:
    """Arrays that a followed call put on a layer: what is left of them is a trace, not a value."""
    for name, value in layer._attributes().items():
        if isinstance(value, Tracer) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            yield name, value


def _left_behind(layer: Layer, name: str, value: Any, paths: dict[Layer, str]) -> Untracked | None:
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    if len(sizes) != len(value.shape):
        return None  # as large as the batch or the input: an intermediate result, not a weight
    return Untracked(
        code="T101",
        owner=paths.get(layer, ""),
        name=name,
        shape=sizes,
        dtype=value.dtype.name,
        origin=_assigned_at(layer, name),
        what=f"self.{name} is made in call: new each time, never trained, never saved",
        fix=f'make it in build: self.{name} = self.add_weight(shape={sizes}, name="{name}")',
    )


def _assigned_at(layer: Layer, name: str) -> str | None:
    """The line of `self.<name> = ...` in the class's `call`."""
    try:
        lines, start = inspect.getsourcelines(type(layer).call)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return layer.made_at
    filename = inspect.getsourcefile(type(layer).call) or "?"
    for node in ast.walk(tree):
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Attribute) and target.attr == name for target in targets):
            return place(filename, start + targets[0].lineno - 1)
    return layer.made_at


def _inputs(root: Layer) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of a call that was made, with shapes in place of arrays."""
    graph = getattr(root, "_graph", None)
    if graph is not None:
        return (graph.input_structure,), {}
    if root.inbound_nodes:  # type: ignore[attr-defined]
        node = root.inbound_nodes[0]  # type: ignore[attr-defined]
        return node.args, node.kwargs
    return root._held.last_call


def _trace(root: Layer) -> tuple[Any, Values, Call, list[tuple[Layer, str, Any]]] | None:
    """One abstract run: its equations, what it read, what it called, and what it left that no input stands behind."""
    given = _inputs(root)
    if given is None or not root._flatten_layers():
        return None
    flat, structure = jax.tree.flatten(given, is_leaf=lambda leaf: leaf is None)
    at = [i for i, leaf in enumerate(flat) if isinstance(leaf, (KerasTensor, jax.ShapeDtypeStruct))]
    specs = [_concrete(flat[i]) for i in at]
    tracked = root.variables
    values, call = Values(abstract=True), Call(False)
    left: list[tuple[Layer, str, Any]] = []

    def run(weights: list[Any], arrays: list[Any]) -> Any:
        filled = list(flat)
        for i, array in zip(at, arrays, strict=True):
            filled[i] = array
        args, kwargs = jax.tree.unflatten(structure, filled)
        values.update(zip(tracked, weights, strict=True))
        with substitute(values), in_call(call):
            outputs = root._call_with_values(args, kwargs)
        left.extend(
            (layer, name, value) for layer in root._flatten_layers() for name, value in _traces(layer)
        )
        return [leaf for leaf in leaves(outputs) if leaf is not None], [value for *_, value in left]

    weights = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in tracked]
    try:
        jaxpr = jax.make_jaxpr(run)(weights, specs)
    except Exception:
        return None  # a call that can't be traced for made-up sizes tells by its own error when it is used
    fed = _fed(jaxpr.jaxpr)
    ends = jaxpr.jaxpr.outvars[len(jaxpr.jaxpr.outvars) - len(left) :]
    return (
        jaxpr,
        values,
        call,
        [one for one, end in zip(left, ends, strict=True) if hasattr(end, "val") or end not in fed],
    )


def _fed(jaxpr: Any) -> set[Any]:
    """What the inputs and the weights reach."""
    fed = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(not hasattr(v, "val") and v in fed for v in equation.invars):
            fed.update(equation.outvars)
    return fed


def _concrete(spec: Any) -> jax.ShapeDtypeStruct:
    shape = spec.symbolic_shape if isinstance(spec, KerasTensor) else spec.shape
    sizes = tuple(
        (2 if i == 0 else 32) if is_symbolic_dim(size) or size is None else size
        for i, size in enumerate(shape)
    )
    return jax.ShapeDtypeStruct(sizes, spec.dtype)


def _held_by(layer: Layer, others: list[Layer]) -> bool:
    return any(layer in other._flatten_layers(include_self=False) for other in others if other is not layer)


def _lost_layer(layer: Layer, call: Call, root: Layer, paths: dict[Layer, str]) -> Untracked:
    kind = type(layer).__name__
    if layer.number > call.started:  # type: ignore[attr-defined]
        code, what = "T107", f"a {kind} is made anew in each call, with new weights every time"
        fix = f"make it once in __init__ or build, self.layer = {kind}(...), and call self.layer here"
    else:
        code, what = (
            "T106",
            f"{kind} '{layer.name}' is used, but held where tracking can't see it: never trained, never saved",
        )
        fix = "keep it in an attribute of a layer, or in a list, tuple, dict, set, deque or dataclass there"
    count = sum(variable.count for variable in layer.variables)
    return Untracked(
        code=code,
        owner=_user_path(root, paths),
        name=layer.name,
        shape=(count,),
        dtype=layer.dtype,
        origin=layer.made_at,
        what=what,
        fix=fix,
    )


def _user_path(root: Layer, paths: dict[Layer, str]) -> str:
    """The only layer of the user's own, where there is one; else the root."""
    own = [layer for layer in root._flatten_layers() if not _is_ours(layer)]
    return paths.get(own[0], "") if len(own) == 1 else paths.get(root, "")


def _lost_variable(variable: Variable, root: Layer, paths: dict[Layer, str]) -> Untracked:
    return Untracked(
        code="T103",
        owner=_user_path(root, paths),
        name=variable.name,
        shape=variable.shape,
        dtype=variable.dtype,
        origin=variable.origin,
        what=f"variable '{variable.name}' is used, but no layer owns it: never trained, never saved",
        fix="assign it to an attribute of a layer, or make it there with add_weight",
    )


def _drawn_weights(closed: Any, root: Layer, paths: dict[Layer, str]) -> Iterator[Untracked]:
    """Random arrays that no tracked seed and no input stands behind, multiplied with what the inputs became."""
    by_name = {layer.name.replace("/", "_"): layer for layer in root._flatten_layers()}

    def walk(jaxpr: Any, drawn: dict[Any, Any], fed: set[Any]) -> Iterator[tuple[Any, Any, Any]]:
        for equation in jaxpr.eqns:
            operands = [v for v in equation.invars if not hasattr(v, "val")]
            if equation.primitive.name in _PRODUCTS:
                for operand in operands:
                    if operand in drawn and operand not in fed:
                        yield operand.aval, drawn[operand], equation
            inner = [p for p in equation.params.values() if hasattr(p, "jaxpr") or hasattr(p, "eqns")]
            is_fed = any(v in fed for v in operands)
            is_draw = equation.primitive.name in _DRAWS and not is_fed
            source = next((drawn[v] for v in operands if v in drawn), None)
            for sub in inner:
                body = getattr(sub, "jaxpr", sub)
                if len(body.invars) == len(equation.invars):
                    pairs = list(zip(body.invars, equation.invars, strict=True))
                    below = {a: drawn[b] for a, b in pairs if not hasattr(b, "val") and b in drawn}
                    fed_below = {a for a, b in pairs if not hasattr(b, "val") and b in fed}
                    yield from walk(body, below, fed_below)
                    if not is_fed and _draws(body):
                        source = source or equation
            for out in equation.outvars:
                if is_fed:
                    fed.add(out)
                if is_draw or source is not None:
                    drawn[out] = source or equation

    jaxpr = closed.jaxpr
    for aval, origin, product in walk(jaxpr, {}, set(jaxpr.invars)):
        names = [part for part in str(product.source_info.name_stack).split("/") if part in by_name]
        owner = by_name[names[-1]] if names else root
        yield Untracked(
            code="T101",
            owner=paths.get(owner, ""),
            name="drawn",
            shape=tuple(aval.shape),
            dtype=aval.dtype.name,
            origin=_line(origin) or owner.made_at,
            what="random numbers drawn in call act as weights: new each time, never trained, never saved",
            fix=f"make them in build with self.add_weight(shape={tuple(aval.shape)})",
        )


def _draws(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name in _DRAWS:
            return True
        for param in equation.params.values():
            body = getattr(param, "jaxpr", param)
            if hasattr(body, "eqns") and _draws(body):
                return True
    return False


def _line(equation: Any) -> str | None:
    traceback = equation.source_info.traceback
    if traceback is None:
        return None
    for frame in traceback.frames:
        if is_users(frame.file_name):
            return place(frame.file_name, frame.line_num)
    return None
