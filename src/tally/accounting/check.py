"""Whether a model keeps to its budget, by how much it doesn't, and which layer to look at."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

from tally.accounting.budget import Budget, LayerRule, Limit, Measure
from tally.accounting.dialect import dialect
from tally.accounting.diff import diff
from tally.accounting.difference import Difference
from tally.accounting.finding import SEVERITIES, Finding
from tally.accounting.formula import closed_form
from tally.accounting.ledger import COUNTED, Entry, Ledger, Owner, bits
from tally.accounting.schema import closest
from tally.accounting.words import listed, plural

_SHOWN = 5
"""Layers to look at for one limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one layer, without those inside it, has of a figure.

    Args:
        path: Its path.
        type: Its class.
        figure: How much.
        share: The share of the whole figure.
        formula: How its parameters come about, where that is what is counted.
    """

    path: str
    type: str
    figure: int
    share: float
    formula: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One limit, and the figure it is about.

    Args:
        limit: The limit.
        layer: The path of the layer it is about; `""` is the model.
        figure: What was counted; None where that can't be told.
        holds: Whether the figure is known and within the limit.
        unknown: Why the figure can't be told, or is only the least it can be.
        parts: The layers with the largest shares, for a figure that is too large.
        advice: What would change it, in numbers.
    """

    limit: Limit
    layer: str
    figure: int | None
    holds: bool
    unknown: str = ""
    parts: tuple[Part, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def excess(self) -> int:
        """How far the figure is above the limit; negative below it."""
        return (self.figure or 0) - self.limit.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Something asked of a layer that is no number.

    Args:
        layer: The path of the layer, or the pattern that no layer matches.
        holds: Whether it is so.
        what: What is so.
    """

    layer: str
    holds: bool
    what: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Check:
    """What came of holding a model against its budget.

    Args:
        name: What was checked: the target, or the model's name.
        measured: The limits, those on the whole first.
        asked: What else was asked of layers.
        findings: What a diagnosis found that is refused.
        severity: The mildest severity that is refused; None where no diagnosis was asked for.
        followed: Whether the diagnosis could follow a call; without one, only what is stored was looked at.
        difference: From the lock to the model; None where there is no lock.
        tolerance: How far the total may be from the lock's, in parameters.
        untracked: How many numbers act as weights without being any, and are in no figure.
    """

    name: str
    measured: tuple[Measured, ...] = ()
    asked: tuple[Asked, ...] = ()
    findings: tuple[Finding, ...] = ()
    severity: str | None = None
    followed: bool = True
    difference: Difference | None = None
    tolerance: int = 0
    untracked: int = 0

    @property
    def keeps_lock(self) -> bool:
        """Whether the model is the one of the lock, or near enough where a tolerance is given."""
        if self.difference is None or self.difference.is_empty:
            return True
        moved = abs(self.difference.after.total - self.difference.before.total)
        return self.tolerance > 0 and moved <= self.tolerance

    @property
    def holds(self) -> bool:
        """Whether everything that was asked is so."""
        kept = all(one.holds for one in (*self.measured, *self.asked))
        return kept and not self.findings and self.keeps_lock

    def __repr__(self) -> str:
        return f"<Check of {self.name!r}: {'holds' if self.holds else 'does not hold'}>"

    def to_json(self, *, indent: int | None = None) -> str:
        """Write the result as JSON, its keys always in the same order."""
        return json.dumps(as_document(self), indent=indent, ensure_ascii=False, default=str)


def as_document(check: Check) -> dict[str, object]:
    """Return a result as plain data, as it is written in JSON."""
    difference = None if check.difference is None else json.loads(check.difference.to_json())
    return {
        "schema_version": 1,
        "kind": "check",
        "name": check.name,
        "holds": check.holds,
        "limits": [{"name": one.limit.name, **asdict(one)} for one in check.measured],
        "layers": [asdict(one) for one in check.asked],
        "findings": [{"name": one.name, **asdict(one)} for one in check.findings],
        "followed": check.followed,
        "lock": difference,
        "tolerance": check.tolerance,
        "untracked": check.untracked,
    }


def check(
    ledger: Ledger,
    budget: Budget,
    *,
    name: str = "",
    findings: Sequence[Finding] = (),
    followed: bool = True,
    lock: Ledger | None = None,
) -> Check:
    """Hold a ledger against a budget.

    Args:
        ledger: The model's ledger.
        budget: What is asked.
        name: What the result is called; the model's name unless given.
        findings: What a diagnosis found, where the budget asks for one.
        followed: Whether it could follow a call.
        lock: The ledger that the model must have, where the budget asks for one.

    Example:
        >>> kernel = Entry(path="d/kernel", owner="d", shape=(4, 30), axes=("features", "units"))
        >>> ledger = Ledger(name="m", owners=(Owner(path="d", type="Dense"),), entries=(kernel,))
        >>> found = check(ledger, Budget(limits=(Limit(bound="max", measure="params", value=100),)))
        >>> found.holds, found.measured[0].excess
        (False, 20)
        >>> found.measured[0].advice
        ('25 units in place of 30 would take 20 away from d.',)
    """
    refused = SEVERITIES[: SEVERITIES.index(budget.no_findings) + 1] if budget.no_findings else ()
    total = 0 if lock is None else lock.total
    tolerance = budget.tolerance
    return Check(
        name=name or ledger.name,
        measured=(
            *(_measured(ledger, "", limit) for limit in budget.limits),
            *(
                _measured(ledger, owner.path, limit)
                for rule in budget.layers
                for owner in _matching(ledger, rule)
                for limit in rule.limits
            ),
        ),
        asked=tuple(asked for rule in budget.layers for asked in _asked(ledger, rule)),
        findings=tuple(one for one in findings if one.severity in refused),
        severity=budget.no_findings,
        followed=followed,
        difference=None if lock is None else diff(lock, ledger),
        tolerance=math.floor(total * tolerance) if isinstance(tolerance, Fraction) else tolerance,
        untracked=ledger.by_state["untracked"],
    )


# -- limits --------------------------------------------------------------------------------------------------------
def _measured(ledger: Ledger, path: str, limit: Limit) -> Measured:
    figure, unknown = _figure(ledger, path, limit.measure)
    is_least = bool(unknown) and figure is not None
    holds = figure is not None and limit.holds(figure) and not (is_least and limit.bound != "min")
    measured = Measured(limit=limit, layer=path, figure=figure, holds=holds, unknown=unknown)
    if holds or figure is None or limit.holds(figure) or limit.bound == "min":
        return measured
    parts = _parts(ledger, path, limit.measure)
    advice = _advice(ledger, path, limit, figure, parts)
    return replace(measured, parts=parts[:_SHOWN], advice=tuple(advice))


def _figure(ledger: Ledger, path: str, measure: Measure) -> tuple[int | None, str]:
    """Return a figure of a layer with all inside it, and why it isn't, or may not be, the whole truth."""
    inside = list(_inside(ledger, path))
    if measure == "macs":
        return _multiply_adds(ledger, inside)
    waiting = [one.path or "the model" for one in inside if _waits(ledger, one)]
    unknown = (
        f"{listed(waiting)} {'is' if len(waiting) == 1 else 'are'} {dialect(ledger.source).waiting}"
        if waiting
        else ""
    )
    try:
        return sum(_of_layer(ledger, owner, measure) or 0 for owner in inside), unknown
    except ValueError as error:  # a type such as "string" says no size
        return None, str(error).rstrip(".")


def _multiply_adds(ledger: Ledger, inside: list[Owner]) -> tuple[int | None, str]:
    figures = {owner.path: _of_layer(ledger, owner, "macs") for owner in inside}
    dark = [path or "the model" for path, figure in figures.items() if figure is None]
    if dark:
        return None, f"those of {listed(dark)} can't be told"
    return sum(figure or 0 for figure in figures.values()), ""


def _of_layer(ledger: Ledger, owner: Owner, measure: Measure) -> int | None:
    """Return what a layer has of a figure itself, without the layers inside it."""
    if measure == "macs":
        from tally.accounting.work import multiply_adds

        return multiply_adds(ledger, owner.path)
    return sum(_of_weight(entry, measure) for entry in ledger.owned_by(owner.path))


def _of_weight(entry: Entry, measure: Measure) -> int:
    if entry.state not in COUNTED or (measure == "trainable" and entry.state != "trainable"):
        return 0
    return entry.nbytes if measure == "bytes" else entry.count


def _inside(ledger: Ledger, path: str) -> Iterator[Owner]:
    """Yield a layer and all inside it; the whole model may have no row of its own."""
    with suppress(KeyError):
        yield ledger.owner(path)
    for child in ledger.children(path):
        yield from _inside(ledger, child.path)


def _waits(ledger: Ledger, owner: Owner) -> bool:
    """Whether a layer waits for an input itself, and doesn't only hold others that do."""
    return owner.status == "unbuilt" and not any(
        child.status == "unbuilt" for child in ledger.children(owner.path)
    )


# -- what to look at -----------------------------------------------------------------------------------------------
def _parts(ledger: Ledger, path: str, measure: Measure) -> tuple[Part, ...]:
    inside = [(owner, _of_layer(ledger, owner, measure) or 0) for owner in _inside(ledger, path)]
    whole = sum(figure for _, figure in inside)
    largest = sorted((one for one in inside if one[1]), key=lambda one: -one[1])
    return tuple(
        Part(
            path=owner.path,
            type=owner.type,
            figure=figure,
            share=figure / whole,
            formula=_formula(ledger, owner) if measure == "params" else "",
        )
        for owner, figure in largest
    )


def _formula(ledger: Ledger, owner: Owner) -> str:
    counted = [entry for entry in ledger.owned_by(owner.path) if _of_weight(entry, "params")]
    named = all(any(entry.axes) for entry in counted if entry.shape)
    return closed_form(counted).numbers if named else ""


def _advice(ledger: Ledger, path: str, limit: Limit, figure: int, parts: Sequence[Part]) -> Iterator[str]:
    """Say in numbers what would bring a figure to its limit."""
    excess = figure - limit.value
    if limit.bound == "expect":
        same = [part.path or "the model" for part in parts if part.figure == abs(excess)]
        if same:
            yield f"{listed(same)} {'has' if len(same) == 1 else 'have'} just as many."
        return
    for part in parts[:2]:
        narrower = _narrower(ledger, part, limit.measure, excess)
        if narrower:
            yield narrower
            break
    if limit.measure == "trainable":
        enough = next((part for part in parts if part.figure >= excess), None)
        if enough is not None:
            yield f"With {enough.path or 'the model'} frozen, {figure - enough.figure:,} would be trainable."
    if limit.measure == "bytes":
        yield from _smaller_types(ledger, path, figure)


def _narrower(ledger: Ledger, part: Part, measure: Measure, excess: int) -> str | None:
    """Say how many filters or units a layer could have, if it alone had to give way.

    Where an axis holds them several times over, such as the gates of a recurrent layer, that is not told.
    """
    entries = [e for e in ledger.owned_by(part.path) if _of_weight(e, "params")]
    named = {axis: size for e in entries for axis, size in zip(e.axes, e.shape, strict=True)}
    if any(axis.endswith("·units") for axis in named):
        return None
    for axis, size in ((axis, named[axis]) for axis in ("filters", "units") if named.get(axis)):
        if measure == "macs":
            each = part.figure // size
        else:
            each = sum(_of_weight(e, measure) for e in entries if axis in e.axes) // size
        fewer = size - -(-excess // each) if each else 0
        if fewer > 0:
            saved = (size - fewer) * each
            return f"{fewer:,} {axis} in place of {size:,} would take {saved:,} away from {part.path or 'the model'}."
    return None


def _smaller_types(ledger: Ledger, path: str, figure: int) -> Iterator[str]:
    """Say what the weights would take in 16 bits, where they take more."""
    counted = [entry for owner in _inside(ledger, path) for entry in ledger.owned_by(owner.path)]
    wide = [e for e in counted if e.state in COUNTED and "float" in e.dtype and bits(e.dtype) > 16]
    less = figure - sum(entry.nbytes - 2 * entry.count for entry in wide)
    if less < figure:
        yield f"With {listed(sorted({entry.dtype for entry in wide}))} as bfloat16, it would take {less:,}."


# -- rules for layers ----------------------------------------------------------------------------------------------
def _matching(ledger: Ledger, rule: LayerRule) -> list[Owner]:
    return [owner for owner in ledger.owners if owner.path and rule.matches(owner.path)]


def _asked(ledger: Ledger, rule: LayerRule) -> Iterator[Asked]:
    """Yield what is asked of layers beside limits: that there are any, and whether they are trainable."""
    owners = _matching(ledger, rule)
    if not owners:
        near = closest(rule.pattern, [owner.path for owner in ledger.owners if owner.path])
        yield Asked(layer=rule.pattern, holds=False, what=f"no layer matches.{near}")
    if rule.trainable is None:
        return
    for owner in owners:
        entries = [e for one in _inside(ledger, owner.path) for e in ledger.owned_by(one.path)]
        wrong = [e for e in entries if e.state == ("frozen" if rule.trainable else "trainable") and e.count]
        wanted = "trainable" if rule.trainable else "frozen"
        yield Asked(layer=owner.path, holds=not wrong, what=_state(wanted, wrong))


def _state(wanted: str, wrong: list[Entry]) -> str:
    if not wrong:
        return f"all of it is {wanted}."
    count = sum(entry.count for entry in wrong)
    where = dict.fromkeys(entry.frozen_at for entry in wrong if entry.frozen_at)
    at = f", switched off at {listed(list(where))}" if where else ""
    names = listed([entry.path for entry in wrong], most=4)
    return f"{plural(count, 'parameter')} not {wanted}: {names}{at}."
