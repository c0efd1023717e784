"""The account that a file brings along: believed where its arrays say the same."""

from dataclasses import replace
from typing import Any, cast

from tally.accounting.ledger import COUNTED, Entry, Ledger
from tally.formats.tensor import Contents, Tensor

KEY = "tally.ledger"
"""Under which a file's metadata hold the account, as JSON."""
_IN_BYTES = {"int4": "int8", "uint4": "uint8"}
"""Types for which safetensors has no form, and what their elements are stored as."""


def kept_account(contents: Contents) -> tuple[Ledger | None, Contents]:
    """Return the account that a file holds of itself, or None and the contents with a note that says why not.

    It is believed if it names each array with its shape and type, and no other weight: then what it adds, such as the
    names of axes and of layers, is the writer's to say.

    Args:
        contents: What the file says.

    Example:
        >>> kept_account(Contents(format="safetensors", tensors=()))[0] is None
        True
    """
    beside: Any = contents.metadata.get("custom_metadata")  # where Orbax keeps what a user adds
    inside: Any = cast("dict[str, Any]", beside).get(KEY) if isinstance(beside, dict) else None
    text = contents.metadata.get(KEY, inside)
    if not isinstance(text, str):
        return None, contents
    try:
        ledger = Ledger.from_json(text)
        wrong = _contradiction(ledger, contents.tensors)
    except (ValueError, RecursionError) as error:
        ledger, wrong = None, str(error)
    if wrong is None:
        return ledger, contents
    note = f"The account that the file brings along is not believed: {wrong.rstrip('.')}."
    return None, replace(contents, notes=(*contents.notes, note))


def _contradiction(ledger: Ledger, tensors: tuple[Tensor, ...]) -> str | None:
    """The first thing in which an account and the arrays differ."""
    entries = {entry.path: entry for entry in ledger.entries}
    held = {tensor.name: tensor for tensor in tensors}
    for name, tensor in held.items():
        entry = entries.get(name)
        if entry is None:
            return f"it doesn't name {name!r}"
        if entry.shape != tensor.shape or _IN_BYTES.get(entry.dtype, entry.dtype) != tensor.dtype:
            return f"it says {name!r} is {entry.dtype}{entry.shape}, and it is {tensor.dtype}{tensor.shape}"
        if entry.shared_with is not None or entry.stored is not None:
            return f"it says that {name!r} is stored elsewhere or otherwise"
    for entry in ledger.entries:
        if entry.shared_with is not None:
            if not _is_tied(entry, entries):
                return f"it says {entry.path!r} is {entry.shared_with!r}, which is another array"
        elif entry.path not in held and entry.state in COUNTED:
            return f"it names {entry.path!r}, which the file doesn't hold"
    return None


def _is_tied(entry: Entry, entries: dict[str, Entry]) -> bool:
    """Whether the array that an entry is said to be is one, and of its shape."""
    home = entries.get(entry.shared_with or "")
    return home is not None and home.shared_with is None and home.shape == entry.shape
