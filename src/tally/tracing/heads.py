"""The last thing that happens to an output: softmax, sigmoid, another activation, or none."""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np

from tally.tracing.following import Run, bodies

Head: TypeAlias = Literal["softmax", "sigmoid", "tanh", "relu", "linear"]

_PASSES = frozenset(
    ("reshape", "squeeze", "expand_dims", "convert_element_type", "copy", "transpose", "sharding_constraint")
)
_BROADCASTS = frozenset(("broadcast_in_dim", "reshape", "expand_dims", "convert_element_type"))


def heads(run: Run) -> list[Head | None]:
    """The activation at each output of a run, found by going back along its equations; None where it is another.

    Args:
        run: The run.
    """
    jaxpr = run.jaxpr.jaxpr
    return [_head(_Place(jaxpr, None, ()), out) for out in jaxpr.outvars[: run.outputs]]


class _Place:
    """A jaxpr, and where it stands inside another: the operands it was given there."""

    def __init__(self, jaxpr: Any, around: "_Place | None", operands: Any) -> None:
        self.jaxpr, self.around = jaxpr, around
        self.given = dict(zip(jaxpr.invars, operands, strict=False))
        self.makers = {out: equation for equation in jaxpr.eqns for out in equation.outvars}


def _made_by(place: _Place, atom: Any) -> tuple[_Place, Any, Any] | None:
    """The equation that computes a value, in whatever jaxpr it stands, and the value's name there."""
    while not hasattr(atom, "val"):
        equation = place.makers.get(atom)
        if equation is None:
            if place.around is None or atom not in place.given:
                return None
            place, atom = place.around, place.given[atom]
            continue
        inner = list(bodies(equation))
        if len(inner) != 1 or len(inner[0].invars) != len(equation.invars):
            return place, equation, atom
        if equation.primitive.name in ("scan", "while"):
            return place, equation, atom
        outer, position = place, equation.outvars.index(atom)
        place = _Place(inner[0], outer, equation.invars)
        atom = inner[0].outvars[position]
    return None


def _back(place: _Place, atom: Any, passes: frozenset[str]) -> tuple[_Place, Any, Any] | None:
    found = _made_by(place, atom)
    while found is not None and found[1].primitive.name in passes:
        found = _made_by(found[0], found[1].invars[0])
    return found


def _head(place: _Place, atom: Any) -> Head | None:
    found = _back(place, atom, _PASSES)
    if found is None:
        return None
    place, equation, _ = found
    name = equation.primitive.name
    if name == "logistic":
        return "sigmoid"
    if name == "tanh":
        return "tanh"
    if name == "div" and _is_softmax(place, equation):
        return "softmax"
    if name == "max" and any(hasattr(one, "val") and not np.any(one.val) for one in equation.invars):
        return "relu"
    if name in ("dot_general", "conv_general_dilated") or (name == "add" and _adds_bias(place, equation)):
        return "linear"
    return None


def _is_softmax(place: _Place, equation: Any) -> bool:
    """Whether a quotient is of exponentials and their sum."""
    above = _back(place, equation.invars[0], _PASSES)
    below = _back(place, equation.invars[1], _BROADCASTS)
    if above is None or below is None or below[1].primitive.name != "reduce_sum":
        return False
    summed = _back(below[0], below[1].invars[0], _PASSES)
    return above[1].primitive.name == "exp" and summed is not None and summed[1] is above[1]


def _adds_bias(place: _Place, equation: Any) -> bool:
    makers = [_back(place, atom, _PASSES) for atom in _operands(equation)]
    return any(
        one is not None and one[1].primitive.name in ("dot_general", "conv_general_dilated") for one in makers
    )


def _operands(equation: Any) -> Iterator[Any]:
    return (atom for atom in equation.invars if not hasattr(atom, "val"))
