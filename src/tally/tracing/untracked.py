"""Weights and layers that a call uses but that no layer holds: found by following one run of the call."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from tally.accounting.finding import Finding, Untracked
from tally.accounting.words import plural
from tally.core import tracking
from tally.core.errors import is_users, place
from tally.core.layer import Layer
from tally.core.symbol import leaves
from tally.core.variable import Variable
from tally.layers import Embedding, Masking
from tally.metrics import Metric
from tally.tracing.flow import LOOKUPS, PRODUCTS, Flow, Weightlike, carry
from tally.tracing.following import Run, follow
from tally.tracing.holders import find_holder
from tally.tracing.looks import looks_like_weights
from tally.tracing.study import Study

_USED = PRODUCTS | LOOKUPS
"""Where an array takes part as weights do."""
_BATCH = 58
"""Stands for the batch: a size that no array acting as a weight is likely to begin with, and that halves."""


def find_untracked(root: Layer, paths: dict[Layer, str]) -> list[Untracked]:
    """Look for what acts as a weight without being one.

    The call is followed without being run: no value is computed, no random number drawn, and whatever it left on the
    layers is put back. A call that can't be followed gives no findings; its own error comes when it is used.

    Args:
        root: A layer or model that was called, on data or on symbolic tensors; never called, it gives nothing.
        paths: Place of every layer in the ledger.

    Returns:
        Arrays drawn or made in a call (T101), plain arrays held as attributes (T102), variables no layer owns (T103),
        layers held where tracking can't see them (T104, T105, T106), and layers made anew in each call (T107).
    """
    if all(map(is_ours, root._flatten_layers())) and next(_loose_variables(root), None) is None:
        return []  # the library's own layers hold all they use
    try:
        known = {layer: _is_of_no_interest(layer) for layer in root._flatten_layers()}
        run = follow(root, batch=_BATCH, skims=lambda layer: known.get(layer) or _is_of_no_interest(layer))
        return [] if run is None else list(_Search(root, paths, run).findings())
    except Exception:  # an account of the model must not fail where the model's own code does
        return []


def _is_of_no_interest(layer: Layer) -> bool:
    """Whether the library wrote a layer and all in it, and nothing but its input decides on a mask."""
    is_masking = isinstance(layer, Embedding | Masking)
    return is_ours(layer) and not is_masking and all(is_ours(one) for one in layer._flatten_layers())


def _loose_variables(root: Layer) -> Iterator[Variable]:
    """Variables that the ops of a graph were given, as in `ops.multiply(x, variable)`."""
    for layer in root._flatten_layers():
        graph = getattr(layer, "_graph", None)
        for node in graph.nodes if graph is not None else ():
            if not isinstance(node.operation, Layer):
                yield from (leaf for leaf in leaves((node.args, node.kwargs)) if isinstance(leaf, Variable))


def find_constants(study: Study) -> Iterator[Finding]:
    """Find plain arrays of the user's layers that take part in the computation as constants (T102, a note)."""
    flow = study.predicting
    if flow is None or all(is_ours(layer) for layer in study.root._flatten_layers()):
        return
    search = _Search(study.root, study.layers, flow.run, flow)
    seen: set[tuple[Layer, str]] = set()
    for one in flow.weightlike:
        value = (
            None
            if one.made.value is None or isinstance(one.made.value, Tracer)
            else np.asarray(one.made.value)
        )
        if value is None or looks_like_weights(value):
            continue
        held = search.held_as(value, one.layer)
        if held is None or held in seen:
            continue
        seen.add(held)
        layer, name = held
        yield Finding(
            code="T102",
            severity="note",
            layer=study.path(layer),
            what=f"self.{name} is a plain array of {plural(value.size, 'number')}, used as a constant.",
            why="It is not counted, trained or saved: a file brings it back only if the code makes it.",
            fix=f"to declare it fixed and keep it in files: self.{name} = self.add_weight(shape={value.shape}, "
            "initializer=..., trainable=False)",
            where=assigned_at(layer, name) or layer.made_at,
            names=(name,),
            count=int(value.size),
        )


def is_ours(layer: Layer) -> bool:
    """Whether the library wrote all that a layer runs; a function of the user's may draw or close over anything."""
    return type(layer).__module__.startswith("tally.") and not any(map(_is_users_own, vars(layer).values()))


def _goes_through(layer: Layer, name: str) -> bool:
    """Whether a layer's call uses an attribute by name."""
    return name in type(layer).call.__code__.co_names


def _is_users_own(value: Any) -> bool:
    if isinstance(value, functools.partial):
        return True
    code = getattr(value, "__code__", None) if isinstance(value, FunctionType | MethodType) else None
    return code is not None and is_users(code.co_filename)


class _Search:
    """What is looked for in one run of a root."""

    def __init__(self, root: Layer, paths: dict[Layer, str], run: Run, flow: Flow | None = None) -> None:
        self.root, self.paths, self.run = root, paths, run
        self.flow: Flow = flow or carry(run)
        self.layers = set(root._flatten_layers())
        self.lost = [layer for layer in run.call.layers if layer not in self.layers]

    def findings(self) -> Iterator[Untracked]:
        left = list(dict.fromkeys(self._left_behind()))
        yield from left
        for layer in self.lost:
            if layer.weights and not any(
                layer in other._flatten_layers(include_self=False) for other in self.lost
            ):
                yield self._lost_layer(layer)
        yield from self._lost_variables()
        yield from self._used_up()
        known = {(one.owner, one.shape) for one in left}
        for one in dict.fromkeys(self._arrays()):
            if one.code != "T101" or (one.owner, one.shape) not in known:
                yield one

    def _path(self, layer: Layer | None) -> str:
        """Where a layer stands; that of the nearest around it which the root holds, for one that it doesn't."""
        while layer is not None and layer not in self.paths:
            layer = next((use.caller for use in self.run.uses if use.layer is layer), None)
        return self.paths.get(layer, "") if layer is not None else self.paths.get(self.root, "")

    # -- arrays ------------------------------------------------------------------------------------------------------
    def _left_behind(self) -> Iterator[Untracked]:
        """Arrays that the call puts on a layer with no input behind them."""
        values = self.run.jaxpr.jaxpr.outvars[-len(self.run.left) :] if self.run.left else []
        for (layer, name), value, label in zip(self.run.left, values, self.flow.left, strict=True):
            if label.sources or layer not in self.layers or self._is_sized_by_batch(value.aval.shape):
                continue
            shape = tuple(value.aval.shape)
            yield Untracked(
                code="T101",
                owner=self._path(layer),
                name=name,
                shape=shape,
                dtype=value.aval.dtype.name,
                origin=assigned_at(layer, name) or layer.made_at,
                what=f"self.{name} is made in call: new each time, never trained, never saved",
                fix=f'make it in build: self.{name} = self.add_weight(shape={shape}, name="{name}")',
            )

    def _is_sized_by_batch(self, shape: Any) -> bool:
        return bool(shape) and shape[0] == self.run.inputs[0].shape[0] if self.run.inputs else False

    def _arrays(self) -> Iterator[Untracked]:
        for one in self.flow.weightlike:
            if self._is_sized_by_batch(one.made.shape or one.shape):
                continue
            if one.made.kind != "constant":
                # Noise that is new each time may well be added; the same numbers each time are a bias.
                if one.operation in _USED or (one.made.kind == "drawn" and len(one.made.shape) > 0):
                    yield self._drawn(one)
            elif one.made.value is not None:
                yield from self._constant(one)

    def _drawn(self, one: Weightlike) -> Untracked:
        return Untracked(
            code="T101",
            owner=self._path(one.layer),
            name="drawn",
            shape=one.made.shape or one.shape,
            dtype=one.dtype,
            origin=one.made.line or one.line or one.layer.made_at,
            what="random numbers drawn in call act as weights: new each time, never trained, never saved",
            fix=f"make them in build with self.add_weight(shape={one.made.shape or one.shape})",
        )

    def _constant(self, one: Weightlike) -> Iterator[Untracked]:
        """A plain array: one that an attribute keeps, or one that NumPy makes in the call."""
        if isinstance(one.made.value, Tracer):
            return
        value = np.asarray(one.made.value)
        if not looks_like_weights(value):
            return
        held = self.held_as(value, one.layer)
        if held is not None:
            layer, name = held
            yield Untracked(
                code="T102",
                owner=self._path(layer),
                name=name,
                shape=tuple(value.shape),
                dtype=value.dtype.name,
                origin=assigned_at(layer, name) or layer.made_at,
                what=f"self.{name} is a plain array: it acts as a weight, but is never counted, trained or saved",
                fix=f'make it a weight, self.{name} = self.add_weight(shape={tuple(value.shape)}, name="{name}"); '
                "or, where it is meant to stay as it is, one with trainable=False",
            )
        elif not is_ours(one.layer) and _draws_with_numpy(one.layer):
            yield self._drawn(one)

    def held_as(self, value: np.ndarray, user: Layer) -> tuple[Layer, str] | None:
        """The layer that keeps an equal array, the user of it first, and the attribute's name."""
        for layer in dict.fromkeys((user, *self.layers)):
            if is_ours(layer):
                continue
            for name, other in _arrays_in(layer._attributes(), ""):
                if other.shape == value.shape and np.array_equal(np.asarray(other, dtype=value.dtype), value):
                    return layer, name
        return None

    # -- layers and variables ----------------------------------------------------------------------------------------
    def _lost_layer(self, layer: Layer) -> Untracked:
        kind, caller = type(layer).__name__, next((u.caller for u in self.run.uses if u.layer is layer), None)
        if layer.number > self.run.call.started:  # type: ignore[attr-defined]
            code, what = "T107", f"a {kind} is made anew in each call, with new weights every time"
            fix = f"make it once in __init__ or build, self.layer = {kind}(...), and call self.layer here"
        else:
            holder = find_holder(layer, self.root, caller)
            code = holder.code
            what = (
                f"{kind} '{layer.name}' is used, but {holder.told}: never counted, never trained, never saved"
            )
            fix = holder.fix
        count = sum(variable.count for variable in layer.variables if not variable.is_seed)
        return Untracked(
            code=code,
            owner=self._path(caller),
            name=layer.name,
            shape=(count,),
            dtype=layer.dtype,
            origin=layer.made_at,
            what=what,
            fix=fix,
        )

    def _used_up(self) -> Iterator[Untracked]:
        """Iterators that the call goes through: the first call uses them up, and nothing holds what they gave."""
        for layer in self.layers:
            for name, value in {} if is_ours(layer) else layer._attributes().items():
                if isinstance(value, Iterator) and _goes_through(layer, name):
                    kind = type(value).__name__
                    yield Untracked(
                        code="T105",
                        owner=self._path(layer),
                        name=name,
                        shape=(0,),
                        dtype=layer.dtype,
                        origin=assigned_at(layer, name) or layer.made_at,
                        what=f"self.{name} is a {kind}: it hands out what is in it once, and keeps nothing",
                        fix=f"make it a list: self.{name} = [...]",
                    )

    def _lost_variables(self) -> Iterator[Untracked]:
        inside = {variable for layer in self.lost for variable in layer.variables}
        inside.update(variable for metric in _metrics(self.layers) for variable in metric.variables)
        tracked = set(self.run.variables)
        for variable, (reader, line) in self.run.read.items():
            if variable in tracked or variable in inside or variable in self.run.late or variable.is_seed:
                continue
            new = variable.number > self.run.started
            what = (
                "is made anew in each call: new values every time, never trained, never saved"
                if new
                else "is used, but no layer owns it: never counted, never trained, never saved"
            )
            yield Untracked(
                code="T107" if new else "T103",
                owner=self._path(reader),
                name=variable.name,
                shape=variable.shape,
                dtype=variable.dtype,
                origin=variable.origin if new else line or variable.origin,
                what=f"variable '{variable.name}', made at {variable.origin}, {what}",
                fix="make it in build with self.add_weight(...)"
                if new
                else "assign it to an attribute of a layer, or make it there with add_weight",
            )


def _metrics(layers: Iterable[Layer]) -> Iterator[Metric]:
    for layer in layers:
        for _, metric in tracking.find(layer._attributes(), lambda value: isinstance(value, Metric)):
            yield metric


def _arrays_in(value: Any, place: str, depth: int = 6) -> Iterator[tuple[str, Any]]:
    """The arrays in a container, nested or not, each with its place."""
    for name, part in (tracking.parts(value) or ()) if depth else ():
        at = f"{place}/{name}" if place else name
        if isinstance(part, np.ndarray | jax.Array) and not isinstance(part, Tracer):
            yield at, part
        elif not isinstance(part, Layer | Variable):
            yield from _arrays_in(part, at, depth - 1)


def assigned_at(layer: Layer, name: str) -> str | None:
    """The line of `self.<name> = ...` in the class of a layer: in `call` first, else where it stands."""
    name = name.partition("/")[0]
    for method in ("call", "build", "__init__"):
        function = vars(type(layer)).get(method)
        function = getattr(function, "__wrapped__", function)
        try:
            lines, start = inspect.getsourcelines(function)  # type: ignore[arg-type]
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):
            continue
        indent = len(lines[0]) - len(lines[0].lstrip())
        for node in ast.walk(tree):
            for target in _targets(node):
                if isinstance(target, ast.Attribute) and target.attr == name:
                    file = inspect.getsourcefile(function) or "?"  # type: ignore[arg-type]
                    return f"{place(file, start + target.lineno - 1)}:{target.col_offset + indent + 1}"
    return None


def _targets(node: ast.AST) -> Iterator[ast.AST]:
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign | ast.AugAssign)
        else []
    )
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple | ast.List) else (target,)


def _draws_with_numpy(layer: Layer) -> bool:
    """Whether the code that a layer runs names a random function; NumPy draws when a call is followed, unseen."""
    try:
        return "random" in inspect.getsource(getattr(layer, "function", None) or type(layer))
    except (OSError, TypeError):
        return False
