"""A finding: one mistake in a model, traced to the line that caused it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Untracked:
    """An array that acts as a weight, or a layer, that no layer holds where it can be seen.

    Args:
        code: Stable code, such as `"T101"`.
        owner: Path of the layer in whose call it is used.
        name: What the user's code calls it.
        shape: Its sizes.
        dtype: Type of an element.
        origin: `file.py:12` of the user's line that makes it, if known.
        what: What happens, in a sentence.
        fix: What to write instead.
    """

    code: str
    owner: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: str | None
    what: str
    fix: str
    severity: Severity = "error"
