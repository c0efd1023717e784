"""`check`: whether a model keeps to its budget, and if it doesn't, which layer to look at."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from tally.accounting.budget import Budget, read_budget
from tally.accounting.check import Check
from tally.accounting.check import check as check_ledger
from tally.accounting.ledger import Ledger
from tally.accounting.lock import read_lock
from tally.core.errors import ArgumentError
from tally.models.ledger import account
from tally.models.verbs.show import show
from tally.models.verbs.subject import opened


def check(
    model: Any,
    *,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    no_findings: str | None = None,
    lock: str | os.PathLike[str] | None = None,
    tolerance: int | str = 0,
    print_fn: Callable[..., Any] | None = None,
    **limits: Any,
) -> Check:
    """Print whether a model keeps to its budget, and where it doesn't, by how much and which layer to look at.

    Args:
        model: A model or layer, a `Ledger`, or the path of a file.
        layers: Limits for each layer whose path matches a pattern: `{"encoder/*": {"max_params": "1M"}}`. In a
            pattern `*` stands for anything but a slash and `**` for anything. `trainable` may be asked, too.
        no_findings: `"error"`, `"warning"` or `"note"`: the mildest finding of `tally.diagnose` that is refused.
        lock: A file with the ledger that the model must have; `tally check TARGET --lock FILE --update` writes it.
        tolerance: How far the total may be from the lock's: a number of parameters, or a share such as `"1%"`.
        print_fn: What is called with the text; printing unless given.
        **limits: `max_`, `min_` or `expect_` with `params`, `trainable`, `bytes` or `macs`, multiply-adds for one
            example; a number, or a text such as `"5M"`, `"500k"`, `"20MB"` (20,000,000) or `"20MiB"` (20,971,520).

    Raises:
        ValueError: A limit is unknown or can't be read, or nothing is asked.

    Example:
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)])
        >>> tally.check(model, max_params=60, print_fn=lambda text: None).holds
        True
        >>> found = tally.check(model, max_trainable="50", print_fn=lambda text: None)
        >>> found.measured[0].excess, found.measured[0].parts[0].path
        (5, 'dense')
    """
    from tally.report.budget import draw

    asked = {
        "layers": layers,
        "no-findings": no_findings,
        "lock": lock and os.fspath(lock),
        "tolerance": tolerance,
    }
    budget = read_budget({**limits, **asked}, "tally.check")
    found = hold(model, budget)
    show(draw(found), print_fn)
    return found


def hold(subject: Any, budget: Budget, name: str = "") -> Check:
    """Hold a model against a budget without printing anything; see `check`."""
    if budget.is_empty:
        raise ArgumentError(
            "There is nothing to check.", do="give a limit, such as max_params='5M', or a lock"
        )
    found = opened(subject)
    ledger = found if isinstance(found, Ledger) else account(found)
    if not isinstance(found, Ledger) and _asks_for_work(budget):
        from tally.tracing.cost import with_costs

        ledger = with_costs(found, ledger)
    lock = None if budget.lock is None else read_lock(budget.lock)
    if budget.no_findings is None:
        return check_ledger(ledger, budget, name=name, lock=lock)
    from tally.models.verbs.diagnose import find

    diagnosis = find(found)
    findings, followed = diagnosis.findings, diagnosis.followed
    return check_ledger(ledger, budget, name=name, lock=lock, findings=findings, followed=followed)


def _asks_for_work(budget: Budget) -> bool:
    rules = (budget, *budget.layers)
    return any(limit.measure == "macs" for rule in rules for limit in rule.limits)
