"""`summary`: the table a person reads first."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tally.accounting.ledger import Ledger
from tally.core.collecting import collecting_later
from tally.core.layer import Layer
from tally.models.verbs.show import show
from tally.models.verbs.subject import ledger_of, opened
from tally.report.columns import named
from tally.report.notebook import running_cell
from tally.report.summary import Summary, tabulate


def summary(
    subject: Any,
    *,
    columns: Sequence[str] | str | None = None,
    depth: int | None = None,
    fold: bool | None = None,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[..., Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> Summary:
    """Print the table of layers, output shapes and parameters, and totals that the rows add up to; return it as data.

    Args:
        subject: A model or layer of this library, a `Ledger`, or the path of a file.
        columns: Names of columns to show, in a list or with commas between them, of `layer shape params bytes dtype
            trainable frozen state macs activations inputs origin`; unless given, those that have something to say.
            Where sizes don't tell the multiply-adds (`macs`) of a layer of your own, one abstract call is followed.
        depth: How deep the layers inside layers are listed: 0 shows the outermost, 1 what is inside them, too.
        fold: Whether blocks that are alike become one row; see `tally.report.summary.tabulate`.
        line_length: Width in characters; the terminal's unless given.
        positions: Where the columns end, in characters or as fractions of the width.
        print_fn: What is called with the text; it is printed, or shown in a notebook, unless given.
        expand_nested: Whether to list the layers inside layers, however deep.
        show_trainable: Whether to show a column that says which layers learn.
        layer_range: Names of the first and last layer to list.

    Raises:
        ValueError: A column is unknown, no layer matches `layer_range`, `depth` is below 0.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)], name="tiny")
        >>> made = tally.summary(model, columns="parameters, multiply-adds", print_fn=lambda text: None)
        >>> made
        <summary of 'tiny': 1 row, 320 parameters>
        >>> made.rows[0].multiply_adds
        194688
    """
    made = summary_of(
        subject,
        columns=columns,
        depth=depth,
        fold=fold,
        line_length=line_length,
        positions=positions,
        expand_nested=expand_nested,
        show_trainable=show_trainable,
        layer_range=layer_range,
    )
    if print_fn is not None:
        show(made.document, print_fn, line_length)
        return made
    cell = running_cell()
    show(made.document, line_length=line_length, page=made.page if cell is not None else None)
    return replace(made, shown_in=cell)


def summary_of(subject: Any, **options: Any) -> Summary:
    """Make the summary of a subject without showing it; the options are those of `tally.report.summary.tabulate`."""
    thing = opened(subject)
    ledger = ledger_of(thing)
    columns = options.get("columns")
    if isinstance(thing, Layer):
        options["activation_dtype"] = thing.compute_dtype
        if columns is not None and "macs" in named(columns):
            ledger = _with_costs(thing, ledger)
    with collecting_later():
        return tabulate(ledger, **options)


def _with_costs(root: Layer, ledger: Ledger) -> Ledger:
    """Let one abstract call tell the multiply-adds that sizes don't: those of a user's own layers."""
    from tally.accounting.work import total_multiply_adds

    if total_multiply_adds(ledger) is not None:
        return ledger
    from tally.tracing.cost import with_costs

    return with_costs(root, ledger)
