"""Which operations an array of a graph reaches, through casts, transpositions and calls: what it is used for."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from tally.formats.tensor import Role

Passing: TypeAlias = tuple[int, ...] | Literal["same", "lost"] | None
"""How an operation hands an array on: with its axes in this order, unchanged, reshaped, or not at all."""

_LONGEST_WAY = 16
"""Operations between an array and its use; a cast, a transposition and a few calls are usual."""
_MOST_USES = 64
"""Uses that are looked at; of an array with more, the first tell what it is."""
_SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a graph.

    Args:
        name: Its name, unique in the file.
        type: What it does.
        takes: The values it takes; `""` where one is left out.
        gives: The values it makes.
        options: Its attributes.
        inner: What the values it takes are called inside the function it calls, if it calls one.
    """

    name: str
    type: str
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    inner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """An array taken by an operation.

    Args:
        step: The operation.
        place: Its input, counted from 0.
        order: The array's axes as the operation sees them; None where they are those of the array, `"lost"` where
            it was reshaped.
        passed: The types of the operations passed on the way.
    """

    step: Step
    place: int
    order: tuple[int, ...] | Literal["lost"] | None = None
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an operation makes of an array.

    Args:
        role: What it is to the model.
        axes: A name for each dimension as the operation sees it, or nothing.
        sure: Whether the operation alone says so, whatever the type of the elements.
    """

    role: Role
    axes: tuple[str, ...] = ()
    sure: bool = True


class Flow:
    """Where the values of a graph go.

    Args:
        steps: All operations, those inside functions and subgraphs included.
        passing: How an operation hands on the value it takes at a place.

    Example:
        >>> cast = Step(name="c", type="Cast", takes=("w",), gives=("v",))
        >>> product = Step(name="m", type="MatMul", takes=("x", "v"), gives=("y",))
        >>> flow = Flow((cast, product), lambda step, place: "same" if step.type == "Cast" else None)
        >>> [(use.step.type, use.place) for use in flow.uses("w")]
        [('MatMul', 1)]
    """

    def __init__(self, steps: Sequence[Step], passing: Callable[[Step, int], Passing]) -> None:
        self.steps, self._passing = tuple(steps), passing
        self._takers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._makers: dict[str, int] = {}
        self._known: dict[str, tuple[Use, ...]] = {}
        for number, step in enumerate(self.steps):
            for value in step.gives:
                self._makers.setdefault(value, number)
            for place, value in enumerate(step.takes):
                if value:
                    self._takers[value].append((number, place))

    def maker(self, value: str) -> Step | None:
        """Return the operation that makes a value."""
        number = self._makers.get(value)
        return None if number is None else self.steps[number]

    def source(self, value: str) -> str:
        """Return the value that a value was before casts, transpositions and the like."""
        for _ in range(_LONGEST_WAY):
            step = self.maker(value)
            if step is None or not step.takes or self._passing(step, 0) is None:
                break
            value = step.takes[0]
        return value

    def uses(self, value: str) -> tuple[Use, ...]:
        """Return what a value is used for in the end, at most 64 uses."""
        return self._uses(value, 0)

    def _uses(self, value: str, way: int) -> tuple[Use, ...]:
        if value in self._known:
            return self._known[value]
        self._known[value] = ()  # a circle of calls ends here
        found: list[Use] = []
        for number, place in self._takers.get(value, ()):
            if len(found) >= _MOST_USES:
                break
            found.extend(self._one(self.steps[number], place, way))
        self._known[value] = tuple(found[:_MOST_USES])
        return self._known[value]

    def _one(self, step: Step, place: int, way: int) -> Sequence[Use]:
        """Follow a value through one operation that takes it."""
        if way < _LONGEST_WAY and place < len(step.inner):
            return self._uses(step.inner[place], way + 1)
        how = self._passing(step, place) if way < _LONGEST_WAY else None
        if how is None or not step.gives:
            return (Use(step, place),)
        return [
            Use(use.step, use.place, _after(how, use.order), (step.type, *use.passed)[:_LONGEST_WAY])
            for use in self._uses(step.gives[0], way + 1)
        ]


def _after(how: Passing, then: tuple[int, ...] | Literal["lost"] | None) -> Any:
    """Put the order that a use sees behind that which the step before it makes."""
    if how == "same" or how is None:
        return then
    if how == "lost" or then == "lost":
        return "lost"
    if then is None:
        return how
    return tuple(how[axis] for axis in then) if max(then, default=-1) < len(how) else "lost"


def seen(use: Use, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that an operation sees; None where the array was reshaped on the way.

    Example:
        >>> seen(Use(Step(name="m", type="MatMul"), 1, (1, 0)), (10, 3))
        (3, 10)
    """
    if use.order is None:
        return shape
    if use.order == "lost" or sorted(use.order) != list(range(len(shape))):
        return None
    return tuple(shape[axis] for axis in use.order)


def told(use: Use, axes: tuple[str, ...], rank: int) -> tuple[str, ...]:
    """Return the names of an array's own axes from those that an operation gives to what it sees.

    Example:
        >>> told(Use(Step(name="m", type="MatMul"), 1, (1, 0)), ("features", "units"), 2)
        ('units', 'features')
    """
    if len(axes) != rank or use.order == "lost":
        return ()
    if use.order is None:
        return axes
    own = [""] * rank
    for axis, name in zip(use.order, axes, strict=False):
        if axis < rank:
            own[axis] = name
    return tuple(own)


def sides(rank: int) -> tuple[str, ...]:
    """Return the names of a kernel's sides.

    Example:
        >>> sides(2)
        ('kernel height', 'kernel width')
    """
    names = _SIDES.get(rank) or tuple(str(side) for side in range(1, rank + 1))
    return tuple(f"kernel {name}" for name in names)
