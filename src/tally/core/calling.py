"""What surrounds a layer's build and call: the phase, the names, and the notes on errors that pass through."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax

from tally.core.errors import TallyError, raised_at
from tally.core.holding import current_call, numbers
from tally.core.variable import current_scope, name_scope

if TYPE_CHECKING:
    from tally.core.layer import Layer


class Call:
    """What is known while the outermost layer runs: the phase, and which layers were called on the way.

    Args:
        training: The phase; None leaves it to each layer.
        label: What the equations of a layer or of a graph's op are named after in a trace; its name unless given.
    """

    def __init__(self, training: bool | None, label: Callable[[Any], str] | None = None) -> None:
        self.training = training
        self.label = label or (lambda layer: layer.name.replace("/", "_"))
        self.started = next(numbers)
        self.layers: dict[Layer, None] = {}
        self.enter: Callable[[Layer, tuple[Any, ...], dict[str, Any], bool | None], None] | None = None
        """Told of each call before it runs: the layer, its arguments, and the phase its caller fixed."""
        self.stand_in: Callable[[Layer, tuple[Any, ...], dict[str, Any]], Any] | None = None
        """Asked for outputs to take in place of a call; None runs it."""
        self.watch: Callable[[Layer, Any], None] | None = None
        """Told of each call after it ran: the layer and its outputs."""


@contextmanager
def in_call(call: Call) -> Iterator[None]:
    """Make this the call in hand while the block runs."""
    token = current_call.set(call)
    try:
        yield
    finally:
        current_call.reset(token)


def label_of(layer: "Layer") -> str:
    """What to name equations after that are a layer's and are computed outside its own call."""
    call = current_call.get() or Call(None)
    return call.label(layer)


@contextmanager
def training_phase(training: bool) -> Iterator[Call]:
    """Run layers in the training or the inference phase while the block runs."""
    call = Call(training)
    with in_call(call):
        yield call


def once(build: Callable[..., None]) -> Callable[..., None]:
    """Let a class's `build` run once per layer, and note what it was built for."""

    @functools.wraps(build)
    def run(self: "Layer", *shapes: Any, **named: Any) -> None:
        if self._held.building:  # super().build(...)
            build(self, *shapes, **named)
        elif not self._held.built:
            with building(self, shapes, named):
                build(self, *shapes, **named)

    return run


@contextmanager
def building(layer: "Layer", shapes: tuple[Any, ...], named: dict[str, Any]) -> Iterator[None]:
    """Build under the layer's name, eagerly even inside a trace; afterwards the layer is built."""
    held = layer._notes()
    held.build_shapes = shapes[0] if len(shapes) == 1 and not named else (list(shapes) or named or None)
    held.building = True
    try:
        with (
            name_scope(layer.name),
            jax.ensure_compile_time_eval(),
            noted(layer, lambda: f"built for {held.build_shapes}"),
        ):
            held.path = "/".join(current_scope())
            yield
    finally:
        held.building = False
    held.built, held.built_number = True, next(numbers)
    if held.initial_weights is not None:
        given, held.initial_weights = held.initial_weights, None
        layer.set_weights(given)


@contextmanager
def noted(layer: "Layer", doing: Any) -> Iterator[None]:
    """Add the layer, where it was made and what it was doing to errors that pass through."""
    try:
        yield
    except Exception as error:
        if isinstance(error, TallyError) and getattr(error, "layer_told", False):
            where = ""
        else:
            line = raised_at(error)
            where = f", raised at {line}" if line and not isinstance(error, TallyError) else ""
            if "__jax_array__" in str(error):
                error.add_note(
                    "A function of jax.numpy was given a Variable. do: pass its value, for instance "
                    "self.kernel.value, or use tally.ops, which takes variables as they are"
                )
        error.add_note(f"in {type(layer).__name__} '{layer.name}', made at {layer.made_at}, {doing()}{where}")
        if isinstance(error, TallyError):
            error.layer_told = True  # type: ignore[attr-defined]
        raise
