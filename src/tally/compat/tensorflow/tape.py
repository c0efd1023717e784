"""`tf.GradientTape`: what is computed in a block is written down, and differentiated backwards when asked.

JAX computes each primitive through the trace in charge. A tape is a trace of its own: it lets the one around it compute
and writes down what was computed from what. To differentiate, the steps between sources and target are played again
under `jax.vjp`. Nothing of the script runs twice.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun, set_current_trace, take_current_trace

from tally.compat.names import put
from tally.compat.tensorflow.making import tensor
from tally.core.errors import ArgumentError
from tally.core.symbol import leaves
from tally.core.variable import Variable


class _Step(NamedTuple):
    """One thing that was computed: its name, what computes it, from what, and what came out."""

    name: str
    compute: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


class _Recorder(jax.core.Trace):
    """Lets the trace around it compute, and hands each step to a tape."""

    def __init__(self, around: Any, note: Callable[[_Step], None]) -> None:
        super().__init__()
        self.around, self.note = around, note

    def stage_value(self, val: Any) -> Any:
        return self.around.stage_value(val)

    def process_primitive(self, primitive: Any, args: Any, params: Any, /) -> Any:
        name = params.get("name", "") if primitive.name in ("jit", "pjit") else primitive.name
        return self._compute(name, lambda *inputs: primitive.bind(*inputs, **params), args)

    def process_custom_jvp_call(self, primitive: Any, fun: Any, jvp: Any, args: Any, /, **params: Any) -> Any:
        return self._compute_call("process_custom_jvp_call", (primitive, fun, jvp), args, params)

    def process_custom_vjp_call(
        self, primitive: Any, fun: Any, fwd: Any, bwd: Any, args: Any, /, **params: Any
    ) -> Any:
        return self._compute_call("process_custom_vjp_call", (primitive, fun, fwd, bwd), args, params)

    def _compute(self, name: str, compute: Callable[..., Any], args: Any) -> Any:
        with set_current_trace(self.around):
            made = compute(*args)
            several = isinstance(made, list | tuple)
            # Steps are told apart by their arrays, so one that hands its input on hands on a copy.
            outputs = [
                jnp.array(y, copy=True) if any(y is x for x in args) else y
                for y in (made if several else [made])
            ]
        self.note(_Step(name, compute, list(args), outputs))
        return outputs if several else outputs[0]

    def _compute_call(
        self, method: str, functions: tuple[Any, ...], args: Any, params: dict[str, Any]
    ) -> Any:
        """A function with a derivative of its own can be followed only once, so its equations are kept instead."""

        def follow(*inputs: Any) -> Any:
            with take_current_trace() as following:
                return getattr(following, method)(*functions, inputs, **params)

        with set_current_trace(self.around):
            closed = jax.make_jaxpr(follow)(*args)
        return self._compute(method, jaxpr_as_fun(closed), args)


class GradientTape:
    """Writes down what is computed in its block, for gradients of it.

    Args:
        persistent: Whether `gradient` may be called more than once.
        watch_accessed_variables: Whether trainable variables are watched as they are read.

    Example:
        >>> with GradientTape() as tape:
        ...     x = jnp.array(3.0)
        ...     tape.watch(x)
        ...     y = x * x
        >>> float(tape.gradient(y, x))
        6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent, self._watches_variables = persistent, watch_accessed_variables
        self._is_recording = self._is_used = False
        self._around = contextlib.ExitStack()
        self._asked: set[Variable] = set()
        self.reset()

    def reset(self) -> None:
        """Forget everything that was written down."""
        self._steps: list[_Step] = []
        self._made: set[int] = set()
        self._watched: dict[int, Any] = {}
        self._read: dict[Variable, list[Any]] = {}
        self._copies: dict[int, Any] = {}

    # -- recording -------------------------------------------------------------------------------------------------
    def __enter__(self) -> "GradientTape":
        with take_current_trace() as around:
            pass
        self._recorder = _Recorder(around, self._note)
        self._around.enter_context(set_current_trace(self._recorder))
        self._around.enter_context(_telling_reads(self._note_read))
        self._is_recording = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_recording = False
        self._around.close()

    def _note(self, step: _Step) -> None:
        if self._is_recording:
            self._steps.append(step)
            self._made.update(map(id, step.outputs))

    def _note_read(self, variable: Variable, value: Any) -> Any:
        """Note a read value; one that was computed here before it was assigned counts as another from then on."""
        if not self._is_recording:
            return value
        if id(value) in self._made:
            if id(value) not in self._copies:
                with set_current_trace(self._recorder.around):
                    self._copies[id(value)] = jnp.array(value, copy=True)
            value = self._copies[id(value)]
        values = self._read.setdefault(variable, [])
        if not any(value is one for one in values):
            values.append(value)
        if variable in self._asked or (self._watches_variables and variable.trainable):
            self._watched[id(value)] = value
        return value

    def watch(self, tensor: Any) -> None:
        """Make gradients with respect to a tensor, or several, possible.

        Raises:
            ArgumentError: Something is no tensor.
        """
        for one in leaves(tensor):
            if isinstance(one, Variable):
                self._asked.add(one)
                self._watched.update((id(value), value) for value in self._read.get(one, ()))
            elif isinstance(one, jax.Array):
                self._watched[id(one)] = one
            else:
                raise ArgumentError(
                    f"A tape can't watch a {type(one).__name__}.", do="watch tf.constant(...) of it"
                )

    @contextlib.contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Write nothing down while the block runs."""
        before, self._is_recording = self._is_recording, False
        try:
            yield
        finally:
            self._is_recording = before

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables that were read and are watched."""
        return tuple(
            v for v, values in self._read.items() if any(id(value) in self._watched for value in values)
        )

    # -- gradients ---------------------------------------------------------------------------------------------------
    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "none",
    ) -> Any:
        """How the target, or the sum of several, changes with each source; None where it doesn't depend on it.

        Args:
            target: Tensors computed in the block.
            sources: Variables, or tensors that are watched or computed from such.
            output_gradients: Gradients of the targets, if they are not 1.
            unconnected_gradients: `"zero"` for zeros in place of None.

        Raises:
            ArgumentError: The tape was used before and is not persistent.
        """
        targets = [tensor(one) if isinstance(one, Variable) else one for one in leaves(target)]
        given = [None] * len(targets) if output_gradients is None else leaves(output_gradients)
        zeros = "zero" in str(getattr(unconnected_gradients, "value", unconnected_gradients)).lower()

        def pull(outputs: list[Any], back: Callable[[list[Any]], Any]) -> Any:
            upstream = [
                jnp.ones_like(y) if g is None else tensor(g).astype(y.dtype)
                for y, g in zip(outputs, given, strict=True)
            ]
            return back(upstream)

        found = self._differentiate(targets, leaves(sources), pull, zeros)
        return jax.tree.unflatten(jax.tree.structure(sources), found)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = "none",
        parallel_iterations: Any = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """How each number of the target changes with each number of the sources: (target's axes, source's axes)."""
        del unconnected_gradients, parallel_iterations, experimental_use_pfor

        def pull(outputs: list[Any], back: Callable[[list[Any]], Any]) -> Any:
            (y,) = outputs
            each = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
            return [_reshaped(one, y.shape) for one in jax.vmap(lambda one: back([one]))(each)]

        found = self._differentiate([target], leaves(sources), pull)
        return jax.tree.unflatten(jax.tree.structure(sources), found)

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: Any = "none",
        parallel_iterations: Any = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The same for each example by itself: (batch, target's other axes, source's other axes)."""
        del unconnected_gradients, parallel_iterations, experimental_use_pfor

        def pull(outputs: list[Any], back: Callable[[list[Any]], Any]) -> Any:
            (y,) = outputs
            inner = y.shape[1:]
            each = jnp.eye(y[0].size, dtype=y.dtype).reshape(y[0].size, 1, *inner)
            made = jax.vmap(lambda one: back([jnp.broadcast_to(one, y.shape)]))(each)
            return [jnp.moveaxis(_reshaped(one, inner), len(inner), 0) for one in made]

        return self._differentiate([target], [source], pull)[0]

    def _differentiate(
        self,
        targets: list[Any],
        sources: list[Any],
        pull: Callable[[list[Any], Callable[[list[Any]], Any]], list[Any]],
        zeros: bool = False,
    ) -> list[Any]:
        """One derivative per source; a variable's are those of all values it was read with, together."""
        self._use()
        arrays = [self._arrays_of(source) for source in sources]
        path, needed = self._path([y for y in targets if isinstance(y, jax.Array)])
        flat = [array for group in arrays for array in group if id(array) in needed]
        derived: dict[int, Any] = {}
        if flat:
            play = lambda values: _play(path, flat, values, targets)
            outputs, back = jax.vjp(play, flat)
            derived = dict(zip(map(id, flat), pull(outputs, lambda upstream: back(upstream)[0]), strict=True))
        if not self._persistent:
            self.reset()
        return [_total(source, group, derived, zeros) for source, group in zip(sources, arrays, strict=True)]

    def _use(self) -> None:
        if self._is_used and not self._persistent:
            raise ArgumentError(
                "This tape was used before, and it forgets what it wrote down.",
                do="ask for all gradients at once, or make it with tf.GradientTape(persistent=True)",
            )
        self._is_used = True
        self._is_recording = self._is_recording and self._persistent

    def _arrays_of(self, source: Any) -> list[Any]:
        """What stands for a source in the steps: nothing where it is not watched."""
        if isinstance(source, Variable):
            values = self._read.get(source, [])
            return [value for value in values if id(value) in self._watched and _is_inexact(value)]
        if not isinstance(source, jax.Array) or not _is_inexact(source):
            return []
        reached = set(self._watched)
        for step in self._steps:
            if any(id(x) in reached for x in step.inputs):
                reached.update(map(id, step.outputs))
        return [source] if id(source) in reached else []

    def _path(self, targets: Sequence[Any]) -> tuple[list[_Step], set[int]]:
        """The steps that lead to the targets, and all arrays on the way; variables are where ways begin."""
        starts = {id(value) for values in self._read.values() for value in values}
        needed = {id(y) for y in targets if _is_inexact(y)}
        path = []
        for step in reversed(self._steps):
            leads = any(id(y) in needed and id(y) not in starts for y in step.outputs)
            if leads and step.name not in _STOPS:
                path.append(step)
                needed.update(id(x) for x in step.inputs if _is_inexact(x))
        return path[::-1], needed


put("GradientTape", GradientTape)

_STOPS = frozenset(("stop_gradient", "floor", "ceil", "round"))
"""Steps that no gradient comes back through: TensorFlow tells None of what lies behind them."""


class UnconnectedGradients:
    """What `gradient` gives for a source that the target doesn't depend on."""

    NONE = "none"
    ZERO = "zero"


put("UnconnectedGradients", UnconnectedGradients)


def _is_inexact(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


def _play(path: list[_Step], sources: list[Any], values: list[Any], targets: list[Any]) -> list[Any]:
    """The targets, computed anew from other values of the sources."""
    now = dict(zip(map(id, sources), values, strict=True))
    for step in path:
        if any(id(x) in now for x in step.inputs):
            made = step.compute(*[now.get(id(x), x) for x in step.inputs])
            for y, new in zip(step.outputs, made if isinstance(made, list | tuple) else [made], strict=True):
                now.setdefault(id(y), new)
    return [now.get(id(y), y) for y in targets]


def _reshaped(x: Any, leading: tuple[int, ...]) -> Any:
    return x.reshape(*leading, *x.shape[1:])


def _total(source: Any, group: list[Any], derived: dict[int, Any], zeros: bool) -> Any:
    found = [derived[id(array)] for array in group if id(array) in derived]
    if found:
        return sum(found[1:], found[0])
    return jnp.zeros(source.shape, source.dtype) if zeros else None


# -- variables that tell when they are read ----------------------------------------------------------------------------
_told: list[Callable[[Variable, Any], Any]] = []
_RAW: Any = vars(Variable)["raw"]


@contextlib.contextmanager
def _telling_reads(note: Callable[[Variable, Any], Any]) -> Iterator[None]:
    """Tell of every value that is read from a variable while the block runs, and read what comes back instead."""
    _told.append(note)
    if len(_told) == 1:
        Variable.raw = property(_read_and_tell)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        _told.remove(note)
        if not _told:
            Variable.raw = _RAW  # type: ignore[method-assign]


def _read_and_tell(variable: Variable) -> Any:
    value = _RAW.__get__(variable)
    for note in reversed(_told):
        value = note(variable, value)
    return value
