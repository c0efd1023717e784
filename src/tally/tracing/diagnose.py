"""All that can be found in a live model: what its ledger tells, and what following its calls shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tally.accounting.diagnose import findings_of_ledger
from tally.accounting.finding import Finding, Untracked
from tally.tracing import axes, building, freezing, objective, reach, signals, storage
from tally.tracing.study import Study
from tally.tracing.untracked import find_constants, find_untracked

Search = Callable[[Study], Iterator[Finding]]

CHEAP: tuple[Search, ...] = (
    find_constants,
    building.find,
    reach.find,
    freezing.find,
    objective.find,
    axes.find,
)
"""What needs no values."""
THOROUGH: tuple[Search, ...] = (*CHEAP, signals.find, storage.find)
"""With what looks at values, too."""


def search(study: Study, searches: tuple[Search, ...] = THOROUGH) -> Iterator[Finding]:
    """Find what there is to find.

    Args:
        study: The model, and what is known of it.
        searches: Where to look.
    """
    found = [*findings_of_ledger(study.ledger), *map(_as_finding, find_untracked(study.root, study.layers))]
    for look in searches:
        found += look(study)
    said = {(one.code, one.layer) for one in found}
    falsely_built = [layer for code, layer in said if code == "T202"]
    for one in found:
        if one.code == "T201" and any(_is_inside(one.layer, layer) for layer in falsely_built):
            continue  # that is why it has no weights
        if one.code == "T301" and ("T107", one.layer) in said:
            continue  # new ones take their place in each call
        yield _never_called(one) if one.code == "T201" and _is_left_out(study, one.layer) else one


def _is_left_out(study: Study, path: str) -> bool:
    """Whether a call can be followed, and doesn't come by the layer at a path."""
    called = (study.path(use.layer) for flow in study.flows for use in flow.run.uses)
    return bool(study.flows and path) and path not in called


def _never_called(finding: Finding) -> Finding:
    return replace(
        finding,
        what=f"'{finding.layer}' is held by the model, but never called, so its weights don't exist yet.",
        fix="call it in call, or don't make it",
    )


def _is_inside(path: str, layer: str) -> bool:
    return not layer or path == layer or path.startswith(f"{layer}/")


def _as_finding(lost: Untracked) -> Finding:
    count = 1
    for size in lost.shape:
        count *= size
    return Finding(
        code=lost.code,
        layer=lost.owner,
        what=f"{lost.what[0].upper() if not lost.what.startswith('self.') else lost.what[0]}{lost.what[1:]}.",
        why=f"{count:,} {'number is' if count == 1 else 'numbers are'} missing from the total, from "
        "trainable_variables and from every file.",
        fix=lost.fix,
        where=lost.origin,
        names=(lost.name,),
        count=count,
    )
