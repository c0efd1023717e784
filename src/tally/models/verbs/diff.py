"""`diff`: what makes two models differ, layer by layer, and how far the values of their weights moved."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from tally.accounting.diff import diff as diff_ledgers
from tally.accounting.difference import Difference, Movement
from tally.accounting.ledger import Ledger
from tally.core.errors import ArgumentError
from tally.core.variable import Variable
from tally.models.ledger import survey
from tally.models.verbs.show import show
from tally.models.verbs.subject import opened

_CHUNK = 1 << 22
"""Numbers that are compared at a time, so that a large weight isn't copied as float64 as a whole."""


class ModelDifference(Difference):
    """What makes two models differ; it can write itself for a pull request."""

    __slots__ = ()

    def to_markdown(self) -> str:
        """Write the difference as Markdown.

        Example:
            >>> make = lambda units: tally.Sequential([tally.Input((4,)), tally.layers.Dense(units, name="head")])
            >>> text = tally.diff(make(2), make(3), print_fn=lambda text: None).to_markdown()
            >>> "| resized | head (Dense) | units 2 → 3 (kernel, bias) | +5 |" in text
            True
        """
        from tally.report import markdown
        from tally.report.difference import draw

        return markdown.render(draw(self))


def diff(
    before: Any, after: Any, values: bool | None = None, print_fn: Callable[..., Any] | None = None
) -> ModelDifference:
    """Print which layers were added, removed, renamed, resized or frozen, and what each did to the total.

    Layers are matched by their names and, where these were counted or changed, by what they are made of. The amounts
    of all changes add up to the difference of the totals.

    Args:
        before: A model or layer, a `Ledger`, or the path of a file.
        after: Another.
        values: Whether to tell how far the values moved, of weights that have the same shape and dtype; where both are
            models or files of models unless given. A weight that was never needed is not drawn for that.
        print_fn: What is called with the text; printing unless given.

    Raises:
        ArgumentError: Values were asked for, and one of the two holds none.

    Example:
        >>> make = lambda units: tally.Sequential([tally.Input((4,)), tally.layers.Dense(units, name="head")])
        >>> difference = tally.diff(make(2), make(3), print_fn=lambda text: None)
        >>> difference
        <Difference: 2 changes, +5 parameters>
        >>> [(change.kind, change.path, change.amount.total) for change in difference.changes]
        [('reshaped', '', 0), ('resized', 'head', 5)]
    """
    from tally.report.difference import draw

    difference = compare(before, after, values)
    show(draw(difference), print_fn)
    return difference


def compare(before: Any, after: Any, values: bool | None = None) -> ModelDifference:
    """Find what makes two models differ without printing anything; see `diff`."""
    (old, old_weights), (new, new_weights) = _surveyed(before), _surveyed(after)
    found = diff_ledgers(old, new)
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    if values is not False:
        if old_weights is not None and new_weights is not None:
            known["values"] = tuple(_movements(found.pairs, old_weights, new_weights))
        elif values:
            raise ArgumentError(
                "There are no values to compare: a ledger has none.",
                do="give two models, or files that hold their weights",
            )
    return ModelDifference(**known)


def _surveyed(subject: Any) -> tuple[Ledger, dict[str, Variable] | None]:
    """A subject's ledger and, unless it is one itself, its weights by their paths."""
    found = opened(subject)
    if isinstance(found, Ledger):
        return found, None
    ledger, _, paths = survey(found)
    return ledger, {path: variable for variable, path in paths.items()}


def _movements(
    pairs: tuple[tuple[str, str], ...], old: Mapping[str, Variable], new: Mapping[str, Variable]
) -> Iterator[Movement]:
    for was, path in pairs:
        if was in old and path in new:  # a weight that is counted elsewhere is compared there
            yield _movement(path, was, old[was], new[path])


def _movement(path: str, was: str, old: Variable, new: Variable) -> Movement:
    if old is new or _will_be_equal(old, new):
        return Movement(path=path, was=was, state="equal", count=new.count)
    if old.is_planned or new.is_planned:
        return Movement(path=path, was=was, state="not drawn", count=new.count)
    changed, largest, relative = _compare(old.numpy(), new.numpy())
    return Movement(
        path=path,
        was=was,
        state="moved" if changed else "equal",
        relative=relative if changed else None,
        largest=largest if changed else None,
        changed=changed,
        count=new.count,
    )


def _will_be_equal(old: Variable, new: Variable) -> bool:
    """Whether two weights that are only planned have one seed and one initializer, and so will have equal values."""
    if not (old.is_planned and new.is_planned and old.key == new.key):
        return False
    both = old.initializer, new.initializer
    return (
        all(getattr(one, "takes_key", False) for one in both) and both[0].signature() == both[1].signature()
    )


def _compare(old: np.ndarray, new: np.ndarray) -> tuple[int, float | None, float | None]:
    """Count the numbers that differ; give the largest difference, and its norm as a share of the norm before."""
    changed, largest, distance, norm = 0, 0.0, 0.0, 0.0
    wide = np.complex128 if np.iscomplexobj(old) else np.float64
    for start in range(0, old.size, _CHUNK):
        x, y = (array.reshape(-1)[start : start + _CHUNK].astype(wide) for array in (old, new))
        changed += int(np.count_nonzero((x != y) & ~(np.isnan(x) & np.isnan(y))))
        with np.errstate(invalid="ignore", over="ignore"):
            step = np.abs(y - x)
            largest = float(np.maximum(largest, step.max()))
            distance += float(np.sum(step**2))
            norm += float(np.sum(np.abs(x) ** 2))
    relative = math.sqrt(distance / norm) if norm and math.isfinite(distance) else math.inf
    return changed, _finite(largest), _finite(relative)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
