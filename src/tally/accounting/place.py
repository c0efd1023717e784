"""Which layer of a ledger is meant by what a person wrote: its path, its name, or the end of its path."""

import difflib

from tally.accounting.ledger import Ledger
from tally.accounting.words import listed


def locate(ledger: Ledger, layer: str) -> str:
    """Find the path of the layer that is meant.

    Args:
        ledger: Where to look.
        layer: Its path; or its name or the end of its path, where no other layer has the same.

    Raises:
        ValueError: There is no such layer, or there are several.

    Example:
        >>> from tally.accounting.ledger import Owner
        >>> layers = (Owner(path="base/stem", type="Dense"), Owner(path="head", type="Dense"))
        >>> locate(Ledger(name="m", owners=layers), "stem")
        'base/stem'
        >>> locate(Ledger(name="m", owners=layers), "haed")
        Traceback (most recent call last):
        ValueError: 'm' has no layer 'haed'. Did you mean 'head'?
    """
    if any(owner.path == layer for owner in ledger.owners):
        return layer
    found = [owner.path for owner in ledger.owners if owner.name == layer]
    found = found or [owner.path for owner in ledger.owners if owner.path.endswith(f"/{layer}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"'{ledger.name}' has several layers '{layer}': write {listed([repr(path) for path in found])}."
        )
    known = [name for owner in ledger.owners for name in (owner.path, owner.name) if name]
    close = difflib.get_close_matches(layer, list(dict.fromkeys(known)), n=1)
    raise ValueError(
        f"'{ledger.name}' has no layer '{layer}'.{f' Did you mean {close[0]!r}?' if close else ''}"
    )
