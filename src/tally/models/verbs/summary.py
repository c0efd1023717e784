"""`summary`: the table a person reads first."""

from collections.abc import Callable
from typing import Any

from tally.models.verbs.show import show
from tally.models.verbs.subject import ledger_of


def show_summary(model: Any, *, print_fn: Callable[..., Any] | None = None, **options: Any) -> None:
    """Print a layer's or model's summary; the options are those of `tally.report.summary.summarise`."""
    from tally.report.summary import summarise

    show(summarise(ledger_of(model), **options), print_fn, options.get("line_length"))
