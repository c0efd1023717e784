"""`explain`: where every number of a model comes from."""

from collections.abc import Callable
from typing import Any

from tally.accounting.explain import Explanation
from tally.accounting.explain import explain as explain_ledger
from tally.models.verbs.show import show
from tally.models.verbs.subject import ledger_of


def explain(model: Any, print_fn: Callable[..., Any] | None = None) -> Explanation:
    """Print where every number of a model or layer comes from, and return it as data.

    Args:
        model: A model or layer of this library, a `Ledger`, or the path of a file.
        print_fn: What is called with the text; printing unless given.

    Example:
        >>> layer = tally.layers.Conv2D(32, 3, name="conv")
        >>> layer.build((None, 28, 28, 1))
        >>> tally.explain(layer, print_fn=lambda text: print("32 × (1·3·3 + 1) = 320" in text)).total
        True
        320
    """
    from tally.report.explanation import draw

    explanation = explain_ledger(ledger_of(model))
    show(draw(explanation), print_fn)
    return explanation
