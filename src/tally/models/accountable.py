"""What a model says of its own numbers: the verbs, as methods."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tally.accounting.diagnose import Diagnosis
    from tally.accounting.explain import Explanation
    from tally.accounting.ledger import Ledger
    from tally.accounting.plan import Plan
    from tally.accounting.verdict import Verification
    from tally.accounting.what_if import WhatIf


class Accountable:
    """The side of a model that gives account. Each method is the function of the same name in `tally`."""

    def account(self) -> "Ledger":
        """The ledger: one entry per weight, one owner per layer."""
        from tally.models.ledger import account

        return account(self)  # type: ignore[arg-type] - a model, which inherits from this, is a layer

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[..., Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
        *,
        columns: Sequence[str] | str | None = None,
        depth: int | None = None,
        fold: bool | None = None,
    ) -> None:
        """Print the table of layers, output shapes and parameters, and totals that the rows add up to.

        The first six arguments are Keras's.

        Args:
            line_length: Width in characters; the terminal's unless given.
            positions: Where the columns end, in characters or as fractions of the width.
            print_fn: What is called with the text; printing unless given.
            expand_nested: Whether to show the layers of nested models.
            show_trainable: Whether to show a column that says which layers learn.
            layer_range: Names of the first and last layer to show.
            columns: What to show, by name: `shape params bytes dtype trainable frozen state macs activations inputs
                origin`; unless given, what there is to say.
            depth: How deep the layers inside layers are listed: 0 shows the outermost, 1 what is inside them, too.
            fold: Whether blocks that are alike become one row; three or more do unless given.
        """
        from tally.models.verbs.summary import summary

        summary(
            self,
            columns=columns,
            depth=depth,
            fold=fold,
            line_length=line_length,
            positions=positions,
            print_fn=print_fn,
            expand_nested=expand_nested,
            show_trainable=show_trainable,
            layer_range=layer_range,
        )

    def _repr_html_(self) -> str:
        """What a notebook shows of the model: its summary."""
        from tally.models.verbs.summary import summary_of

        return summary_of(self).to_html()

    def explain(
        self,
        print_fn: Callable[..., Any] | None = None,
        *,
        layer: str | None = None,
        fold: bool = True,
    ) -> "Explanation":
        """Print where every number comes from, and return it as data; see `tally.explain`."""
        from tally.models.verbs.explain import explain

        return explain(self, print_fn, layer=layer, fold=fold)

    def what_if(self, layer: str | None = None, **changes: Any) -> "WhatIf":
        """Print a layer made otherwise beside what it is, and return it as data; see `tally.what_if`."""
        from tally.models.verbs.what_if import what_if

        return what_if(self, layer, **changes)

    def diagnose(
        self, x: Any = None, y: Any = None, print_fn: Callable[..., Any] | None = None
    ) -> "Diagnosis":
        """Print the mistakes that were found, and return them; see `tally.diagnose`."""
        from tally.models.verbs.diagnose import diagnose

        return diagnose(self, x, y, print_fn)

    def verify(self, *statements: Any, print_fn: Callable[..., Any] | None = None) -> "Verification":
        """Print whether statements about the numbers are right, and return the verdicts; see `tally.verify`."""
        from tally.models.verbs.verify import verify

        return verify(self, *statements, print_fn=print_fn)

    def plan(self, batch_size: int = 32, **options: Any) -> "Plan":
        """Print what training or prediction will cost, and return it as data; see `tally.plan`."""
        from tally.models.verbs.plan import plan

        return plan(self, batch_size, **options)

    def _look_before_training(self, source: Any) -> None:
        from tally.models.verbs.diagnose import look_once

        look_once(self, source)
