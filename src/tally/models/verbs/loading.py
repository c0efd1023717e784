"""What `load_weights` returns: what went where, as a person sees it."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from tally.models.verbs.show import show
from tally.saving.outcome import Report


class LoadingReport(Report):
    """What came of loading weights; it prints as tables, with colour by `show`, and as HTML in a notebook.

    Example:
        >>> model = tally.Sequential([tally.Input((2,)), tally.layers.Dense(1, name="head")])
        >>> report = model.load_weights({"head.weight": np.ones((1, 2)), "head.bias": np.ones(1)})
        >>> report
        <LoadingReport: 2 of 2 weights set>
        >>> "head.weight" in str(report)
        True
    """

    __slots__ = ()

    @classmethod
    def of(cls, report: Report) -> "LoadingReport":
        """Give a report the ways to show itself."""
        return cls(**{field.name: getattr(report, field.name) for field in fields(report)})

    def __str__(self) -> str:
        """The report as plain text."""
        from tally.report import plain
        from tally.report.loading import draw

        return plain.render(draw(self))

    def __repr__(self) -> str:
        """How many weights were set."""
        count = len(self.matched)
        return f"<LoadingReport: {count:,} of {count + len(self.missing):,} weights set>"

    def show(self, print_fn: Callable[..., Any] | None = None) -> None:
        """Show the report where the user looks: with colour on a terminal, as HTML in a notebook.

        Args:
            print_fn: What is called with the text instead.
        """
        from tally.report.loading import draw

        show(draw(self), print_fn)

    def to_markdown(self) -> str:
        """Write the report as Markdown."""
        from tally.report import markdown
        from tally.report.loading import draw

        return markdown.render(draw(self))

    def _repr_html_(self) -> str:
        from tally.report import html
        from tally.report.loading import draw

        return html.render(draw(self))
