"""What a person sees of a model: the account drawn as a summary or an explanation."""

import sys
from collections.abc import Callable
from typing import Any

from tally.models.ledger import account
from tally.report.document import Document


def show(
    document: Document, print_fn: Callable[..., Any] | None = None, line_length: int | None = None
) -> None:
    """Print a document: with colour on a terminal, as plain text elsewhere or through `print_fn`."""
    from tally.report import plain, terminal

    if print_fn is not None:
        print_fn(plain.render(document, line_length))
    elif sys.stdout.isatty():
        terminal.write(document, line_length)
    else:
        print(plain.render(document, line_length))


def show_summary(model: Any, *, print_fn: Callable[..., Any] | None = None, **options: Any) -> None:
    """Print a layer's or model's summary."""
    from tally.report.summary import summarise

    show(summarise(account(model), **options), print_fn, options.get("line_length"))


def explain(model: Any, print_fn: Callable[..., Any] | None = None) -> Any:
    """Print where every number of a model or layer comes from, and return it as data.

    Args:
        model: A model or layer of this library, or a `Ledger`.
        print_fn: What is called with the text; printing unless given.

    Example:
        >>> layer = tally.layers.Conv2D(32, 3, name="conv")
        >>> layer.build((None, 28, 28, 1))
        >>> tally.explain(layer, print_fn=lambda text: print("32 × (1·3·3 + 1) = 320" in text)).total
        True
        320
    """
    from tally.accounting.explain import explain as explain_ledger
    from tally.accounting.ledger import Ledger
    from tally.report.explanation import draw

    explanation = explain_ledger(model if isinstance(model, Ledger) else account(model))
    show(draw(explanation), print_fn)
    return explanation
