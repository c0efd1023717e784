"""A forward pass in segments, of which the backward pass keeps the ends alone: rematerialisation."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from tally.tracing.memory import FUSED, SAME
from tally.tracing.program import size_of

_MOST = 64
"""More segments than this are not tried: what is kept at the cuts grows, what is computed again hardly shrinks."""


class _Life(NamedTuple):
    """From the place after the equation that makes a value to that of the last that reads it, and its bytes."""

    start: int
    stop: int
    nbytes: int


def in_segments(closed: Any) -> Callable[..., list[Any]]:
    """The function of a closed jaxpr, cut so that what goes over the cuts and the largest segment take the least.

    Each segment is under `jax.checkpoint`: differentiated, it keeps what it was given and computes the rest again.
    """
    jaxpr = closed.jaxpr
    cuts = _best_cuts(jaxpr)
    last = _last_reads(jaxpr)
    pieces = [_piece(jaxpr, start, stop, last) for start, stop in pairwise((0, *cuts, len(jaxpr.eqns)))]

    def run(*arguments: Any) -> list[Any]:
        held = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        held.update(zip(jaxpr.invars, arguments, strict=True))
        for needed, made, function in pieces:
            held.update(zip(made, function(*(held[var] for var in needed)), strict=True))
        return [var.val if isinstance(var, Literal) else held[var] for var in jaxpr.outvars]

    return run


def _piece(
    jaxpr: Any, start: int, stop: int, last: dict[Any, int]
) -> tuple[list[Any], list[Any], Callable[..., Any]]:
    """Some equations as a function: what it needs, what it makes for others, and itself."""
    equations = jaxpr.eqns[start:stop]
    made = {var for equation in equations for var in equation.outvars}
    read = (var for equation in equations for var in equation.invars if not isinstance(var, Literal))
    needed = [var for var in dict.fromkeys(read) if var not in made]
    outputs = [var for equation in equations for var in equation.outvars if last.get(var, start) >= stop]
    told = jaxpr.debug_info._replace(arg_names=("",) * len(needed), result_paths=("",) * len(outputs))
    part = Jaxpr((), needed, outputs, equations, debug_info=told)
    return needed, outputs, jax.checkpoint(jaxpr_as_fun(ClosedJaxpr(part, ())))


def _last_reads(jaxpr: Any) -> dict[Any, int]:
    """Value -> the place of the last equation that reads it; beyond all of them for an output."""
    found: dict[Any, int] = {}
    for place, equation in enumerate(jaxpr.eqns):
        found.update((var, place) for var in equation.invars if not isinstance(var, Literal))
    found.update((var, len(jaxpr.eqns)) for var in jaxpr.outvars if not isinstance(var, Literal))
    return found


def _best_cuts(jaxpr: Any) -> list[int]:
    """Where to cut: of all numbers of segments the one that takes the least memory."""
    lives = list(_lives(jaxpr))
    written = [
        0 if equation.primitive.name in FUSED | SAME else sum(size_of(var.aval) for var in equation.outvars)
        for equation in jaxpr.eqns
    ]
    made = [0, *accumulate(written)]
    crossing = _crossing(lives, len(jaxpr.eqns))
    tried = [_spread_cuts(made, crossing, count) for count in range(1, _MOST + 1)]

    def cost(cuts: list[int]) -> int:
        kept = sum(
            life.nbytes
            for life in lives
            if bisect_right(cuts, life.stop) > bisect_right(cuts, life.start - 1)
        )
        return kept + max(made[stop] - made[start] for start, stop in pairwise((0, *cuts, len(jaxpr.eqns))))

    return min(tried, key=cost)


def _lives(jaxpr: Any) -> Iterator[_Life]:
    last = _last_reads(jaxpr)
    for place, equation in enumerate(jaxpr.eqns):
        for var in equation.outvars:
            if last.get(var, 0) > place:
                yield _Life(place + 1, min(last[var], len(jaxpr.eqns) - 1), size_of(var.aval))


def _crossing(lives: list[_Life], count: int) -> list[int]:
    """The bytes that go over a cut before each equation."""
    changes = [0] * (count + 2)
    for start, stop, nbytes in lives:
        changes[start] += nbytes
        changes[stop + 1] -= nbytes
    return list(accumulate(changes))


def _spread_cuts(made: list[int], crossing: list[int], count: int) -> list[int]:
    """Cuts into segments that write about equally much, each moved to where least goes over it nearby."""
    share = made[-1] / count
    cuts: list[int] = []
    for number in range(1, count):
        low = bisect_right(made, share * (number - 0.5))
        high = max(bisect_right(made, share * (number + 0.5)), low + 1)
        window = range(max(low, 1), min(high, len(made) - 1))
        if window:
            cuts.append(min(window, key=crossing.__getitem__))
    return sorted(set(cuts))
