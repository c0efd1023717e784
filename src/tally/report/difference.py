"""The document that shows how two models differ: the figures, each change with what it did, how far values moved."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from tally.accounting.difference import Change, Difference, Movement, Step
from tally.accounting.words import plural
from tally.report.document import Column, Document, Note, Part, Row, Table, Text, Title
from tally.report.figures import memory, shape

_MOST_MOVED = 12


def draw(difference: Difference, *, width: int | None = None) -> Document:
    """Set a difference as figures, a row for each change, and the weights whose values moved furthest.

    Changes that are the same for a row of numbered layers are one row.

    Args:
        difference: What `tally.accounting.diff` found.
        width: The line length; None leaves it to where the document is drawn.
    """
    old, new = difference.names
    parts: list[Part] = [Title(f'Changes from "{old}" to "{new}"' if old != new else f'Changes in "{old}"')]
    if difference.changes:
        parts += [_figures(difference), _changes(difference)]
    else:
        what = f"{plural(difference.layers, 'layer')}, {plural(difference.after.total, 'parameter')}"
        same = "The structure is the same" if difference.moved else "No difference"
        parts.append(Text(f"{same}: {what}."))
    parts.extend(_values(difference))
    before, after = difference.optimizer
    if before != after:
        text = f"The optimizer keeps {after:,} numbers, and kept {before:,}; they are not in the total."
        parts.append(Note(text))
    return Document(tuple(parts), width)


def describe(change: Change) -> str:
    """Say what a change changed, in a few words.

    Example:
        >>> step = Step(name="units", before=10, after=12, weights=("kernel", "bias"))
        >>> describe(Change(kind="resized", path="dense", steps=(step,)))
        'units 10 → 12 (kernel, bias)'
    """
    told = [_step(change, step) for step in change.steps]
    if change.kind in ("added", "removed") and change.layers > 1:
        told.append(plural(change.layers, "layer"))
    if change.kind in ("frozen", "unfrozen"):
        what = "learn no longer" if change.kind == "frozen" else "learn again"
        told = [f"{plural(abs(change.amount.trainable), 'parameter')} {what}"]
    if change.where and change.kind in ("added", "frozen", "unfrozen"):
        told.append(f"{'was frozen at' if change.kind == 'unfrozen' else 'at'} {change.where}")
    return "; ".join(told)


def signed(number: int | float, form: str = ",") -> str:
    """Write a difference with its sign, none for zero.

    Example:
        >>> signed(1200), signed(-3), signed(0)
        ('+1,200', '−3', '0')
    """
    return f"{'+' if number > 0 else '−' if number < 0 else ''}{abs(number):{form}}"


# -- the figures ---------------------------------------------------------------------------------------------------
def _figures(difference: Difference) -> Part:
    before, after = difference.before, difference.after
    if before == after:
        return Text(f"{plural(after.total, 'parameter')} before and after.")
    rows = [_figure("Parameters", before.total, after.total, "{:,}".format)]
    if before.trainable != after.trainable and (before.total, after.total) != (
        before.trainable,
        after.trainable,
    ):
        rows.append(_figure("Trainable", before.trainable, after.trainable, "{:,}".format))
    if before.nbytes is not None and after.nbytes is not None and before.nbytes != after.nbytes:
        rows.append(_figure("Memory", before.nbytes, after.nbytes, memory))
    numbers = (Column(title=title, align="right") for title in ("Before", "After", "Difference"))
    return Table(columns=(Column(), *numbers, Column(attached=True)), rows=tuple(rows))


def _figure(name: str, before: int, after: int, write: Callable[[int], str]) -> Row:
    change = after - before
    sign = "+" if change > 0 else "−" if change < 0 else ""
    share = f" ({signed(change / before, '.1%')})" if before and change else ""
    return name, write(before), write(after), sign + write(abs(change)), share


# -- the changes ---------------------------------------------------------------------------------------------------
def _changes(difference: Difference) -> Table:
    columns = (
        Column(title="Change"),
        Column(title="Layer", flexible=True),
        Column(title="What", wraps=True),
        Column(title="Parameters", align="right"),
    )
    total = difference.after.total - difference.before.total
    rows = tuple(_row(group) for group in _grouped(difference.changes))
    return Table(columns=columns, rows=rows, totals=(("Total", "", "", signed(total)),))


def _grouped(changes: Sequence[Change]) -> list[list[Change]]:
    """Put together what happened in the same way to layers whose places differ in their numbers alone."""
    groups: dict[Any, list[Change]] = {}
    for change in changes:
        groups.setdefault(_pattern(change), []).append(change)
    return list(groups.values())


def _pattern(change: Change) -> Any:
    if change.kind == "moved" and change.was:
        return change.kind, *(path.rpartition("/")[0] for path in (change.path, change.was))
    steps = [
        (step.name, "" if step.name in ("place", "after", "fed by") else repr((step.before, step.after)))
        for step in change.steps
    ]
    where = (_numberless(change.path), _numberless(change.was or ""))
    return change.kind, *where, change.type, change.layers, tuple(steps), change.amount


def _numberless(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _row(group: list[Change]) -> Row:
    first, last = group[0], group[-1]
    label = first.path if len(group) == 1 else f"{first.path} … {last.path}"
    is_one_kind = all(change.type == first.type for change in group)
    kind = f" ({first.type or 'weight'})" if is_one_kind else ""
    what = describe(first)
    if len(group) > 1:
        if first.kind in ("renamed", "moved") and first.was:
            what = f"were {first.was} … {last.was}"
        each = f"{len(group)} layers" if first.type else f"{len(group)} weights"
        each += f", {signed(first.amount.total)} each" if first.amount.total else ""
        what = f"{each}; {what}" if what else each
    total = sum(change.amount.total for change in group)
    return first.kind, (label or "the model") + kind, what, signed(total)


# -- what was changed, from what to what ---------------------------------------------------------------------------
def _step(change: Change, step: Step) -> str:
    write = _STEPS.get(step.name)
    if write is not None:
        return write(step)
    if change.kind in ("added", "removed", "replaced", "built") and None in (step.before, step.after):
        name = f"{step.name} " if change.type else ""
        text = name + _sizes(step.after or step.before or ())
        in_other_change = change.kind in ("replaced", "built")
        return f"{'no ' if step.after is None and in_other_change else ''}{text}"
    behind = f" ({', '.join(step.weights)})" if step.weights and change.kind == "resized" else ""
    return f"{step.name} {_value(step.before)} → {_value(step.after)}{behind}"


def _sizes(sizes: Sequence[int]) -> str:
    return " × ".join(f"{size:,}" for size in sizes) or "a single number"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return f"({', '.join(map(_value, items))}{',' if len(items) == 1 else ''})"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _shapes(shapes: Any) -> str:
    return ", ".join(shape(one) for one in shapes)


def _names(paths: Any) -> str:
    return ", ".join(paths) or "the input"


def _dtype(step: Step) -> str:
    return f"{step.before} → {step.after} ({', '.join(step.weights)})"


_STEPS: dict[str, Callable[[Step], str]] = {
    "place": lambda step: f"was {step.before}",
    "after": lambda step: (
        f"stands {f'behind {step.after}' if step.after else 'first'}, "
        f"stood {f'behind {step.before}' if step.before else 'first'}"
    ),
    "class": lambda step: f"{step.before} → {step.after}",
    "dtype": _dtype,
    "state": lambda step: f"{step.before} → {step.after}",
    "shared with": lambda step: (
        f"{step.weights[0]} counted at {step.after}"
        if step.after
        else f"{step.weights[0]} of its own, no longer {step.before}"
    ),
    "fed by": lambda step: f"by {_names(step.after)}, was by {_names(step.before)}",
    "input": lambda step: f"takes {_shapes(step.after)}, took {_shapes(step.before)}",
    "output": lambda step: f"gives {_shapes(step.after)}, gave {_shapes(step.before)}",
}


# -- values --------------------------------------------------------------------------------------------------------
def _values(difference: Difference) -> Iterator[Part]:
    if difference.values is None:
        return
    equal = sum(one.state == "equal" for one in difference.values)
    waiting = sum(one.state == "not drawn" for one in difference.values)
    moved = difference.moved
    if moved:
        yield _moved(moved)
        if len(moved) > _MOST_MOVED:
            yield Text(f"And {plural(len(moved) - _MOST_MOVED, 'weight')} that moved less.")
    if equal:
        are = "are equal" if equal > 1 else "is equal"
        yield Note(f"{plural(equal, 'weight')} {are} in value.")
    if waiting:
        are = "are" if waiting > 1 else "is"
        weights = f"{plural(waiting, 'weight')} {are} not drawn yet"
        yield Note(f"{weights}: the values follow from seeds when they are first needed.")


def _moved(moved: Sequence[Movement]) -> Table:
    columns = (
        Column(title="Values that moved", flexible=True),
        *(Column(title=title, align="right") for title in ("By", "Largest step", "Numbers changed")),
    )
    rows = tuple(
        (
            one.path,
            "" if one.relative is None else f"{one.relative:,.2%}",
            "not finite" if one.largest is None else f"{one.largest:.3g}",
            f"{one.changed:,} of {one.count:,}",
        )
        for one in moved[:_MOST_MOVED]
    )
    return Table(columns=columns, rows=rows)
