"""`explain`: where every number of a model comes from."""

from collections.abc import Callable
from typing import Any

from tally.accounting.explain import Explanation
from tally.accounting.explain import explain as explain_ledger
from tally.models.verbs.show import show
from tally.models.verbs.subject import ledger_of


def explain(
    model: Any,
    print_fn: Callable[..., Any] | None = None,
    *,
    layer: str | None = None,
    fold: bool = True,
) -> Explanation:
    """Print where every number of a model or layer comes from, and return it as data.

    Args:
        model: A model or layer of this library, a `Ledger`, or the path of a file.
        print_fn: What is called with the text; printing unless given.
        layer: The path or name of one layer, which alone is explained, with the layers inside it.
        fold: Whether layers that are the same but for their names are explained once.

    Raises:
        ValueError: The model has no such layer.

    Example:
        >>> layer = tally.layers.Conv2D(32, 3, name="conv")
        >>> layer.build((None, 28, 28, 1))
        >>> tally.explain(layer, print_fn=lambda text: print("32 × (1·3·3 + 1) = 320" in text)).total
        True
        320
        >>> model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5, name="head")], name="small")
        >>> tally.explain(model, print_fn=lambda text: None, layer="head")
        <Explanation of 'head' in 'small': 55 parameters, 1 layer>
    """
    from tally.report.explanation import draw

    explanation = explain_ledger(ledger_of(model), layer)
    show(draw(explanation, fold=fold), print_fn)
    return explanation
