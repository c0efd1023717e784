"""A finding: one fact about a model that makes a number other than it looks, traced to the line that caused it."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From what must be mended to what only explains a number."""


class Kind(NamedTuple):
    """What a code stands for: its name, how severe it usually is, and what it is in a sentence."""

    name: str
    severity: Severity
    meaning: str


KINDS: dict[str, Kind] = {
    "T101": Kind("untracked-weights-in-call", "error", "Arrays drawn or made in a call act as weights."),
    "T102": Kind(
        "untracked-array-attribute", "error", "A plain array kept as an attribute acts as a weight."
    ),
    "T103": Kind("untracked-variable-in-closure", "error", "A variable that no layer owns is used."),
    "T104": Kind("untracked-layer-in-closure", "error", "A function has captured a layer that it uses."),
    "T105": Kind(
        "untracked-layer-in-container", "error", "A layer is in a container that tracking can't see into."
    ),
    "T106": Kind("untracked-layer-in-object", "error", "A layer is held by an ordinary object."),
    "T107": Kind("recreated-every-call", "error", "A layer or variable is made anew in each call."),
    "T108": Kind("fixed-constant", "note", "Fixed numbers act as weights."),
    "T201": Kind("unbuilt", "warning", "No input shape was seen yet, so there is nothing to count."),
    "T202": Kind("falsely-built", "error", "A layer is marked as built while layers inside have no weights."),
    "T203": Kind("state-after-build", "error", "Weights or layers were added or exchanged after the build."),
    "T204": Kind("overwritten", "warning", "An attribute was assigned again, and the earlier layer is lost."),
    "T205": Kind("legacy-argument", "note", "An argument of an older API was used."),
    "T301": Kind("unused", "warning", "Weights are counted, but no call reaches them."),
    "T302": Kind("detached", "warning", "A part of the graph leads to no output, or an input leads nowhere."),
    "T303": Kind("no-gradient", "error", "Trainable weights reach the output, but no gradient comes back."),
    "T304": Kind("cancelled", "note", "A following normalisation removes what these weights add."),
    "T305": Kind("shared", "note", "Weights are used several times and counted once."),
    "T401": Kind("frozen", "note", "Weights are switched off."),
    "T402": Kind("frozen-after-compile", "error", "trainable was changed after compile and is not taken up."),
    "T403": Kind(
        "freeze-conflict", "warning", "Switches of a layer and of what is inside contradict each other."
    ),
    "T404": Kind("non-trainable-state", "note", "State that no gradient ever changes."),
    "T405": Kind("mode-fixed-by-hand", "warning", "The phase of a layer is fixed by hand."),
    "T501": Kind("loss-mismatch", "error", "The loss and the last activation or the labels don't fit."),
    "T502": Kind(
        "scale-of-signal", "warning", "Values die, saturate, explode, vanish or overflow on a batch."
    ),
    "T503": Kind("optimizer-state-counted", "note", "What an optimizer keeps beside the parameters."),
    "T601": Kind("missing-flatten", "warning", "A Dense meets a feature map instead of a vector."),
    "T602": Kind("axis-misread", "warning", "Two axes look exchanged."),
    "T603": Kind("undefined-shape", "error", "An open axis would size a weight."),
    "T701": Kind("quantized-storage", "note", "Stored numbers differ from the parameters they stand for."),
    "T702": Kind("duplicate-values", "note", "Two weights have equal values, but are two."),
}
"""Every code; codes are stable once released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found.

    Args:
        code: Stable code, one of `KINDS`.
        layer: Path of the layer in the ledger; `""` is the model itself.
        what: What happens, in a sentence.
        why: What that means for counting, training and saving.
        fix: The corrected line, or what to do.
        where: `file.py:12` or `file.py:12:8` of the user's own code, if known.
        severity: How severe it is; the code's own if not given.
        names: The weights, layers or arguments it is about.
        count: How many numbers it is about; 0 where that doesn't apply.

    Raises:
        KeyError: There is no such code.
    """

    code: str
    layer: str
    what: str
    why: str = ""
    fix: str = ""
    where: str | None = None
    severity: Severity | None = None
    names: tuple[str, ...] = ()
    count: int = 0

    def __post_init__(self) -> None:
        """Take the code's own severity where none is given."""
        kind = KINDS[self.code]
        object.__setattr__(self, "severity", self.severity or kind.severity)

    @property
    def name(self) -> str:
        """The name of its code, such as `"untracked-weights-in-call"`."""
        return KINDS[self.code].name


@dataclass(frozen=True, slots=True, kw_only=True)
class Untracked:
    """An array that acts as a weight, or a layer, that no layer holds where it can be seen.

    Args:
        code: Stable code, such as `"T101"`.
        owner: Path of the layer in whose call it is used.
        name: What the user's code calls it.
        shape: Its sizes.
        dtype: Type of an element.
        origin: `file.py:12`, or with the column `file.py:12:8`, of the user's line that makes it, if known.
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

    @property
    def line(self) -> str | None:
        """Its origin without the column."""
        return None if self.origin is None else re.sub(r"(:\d+):\d+$", r"\1", self.origin)
