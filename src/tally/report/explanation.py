"""The document that explains a model's parameters: a section for each layer, the sum at the end."""

from tally.accounting.explain import Explanation, OwnerExplanation
from tally.accounting.formula import Formula as ClosedForm
from tally.accounting.words import plural
from tally.report.document import Column, Document, Formula, Note, Part, Table, Text, Title

_WARNINGS = ("unbuilt", "untracked")


def draw(explanation: Explanation, *, width: int | None = None) -> Document:
    """Set an explanation: for each layer its formula, its weights one by one, and the reasons.

    Args:
        explanation: What `tally.accounting.explain` made of a ledger.
        width: The line length; None leaves it to where the document is drawn.
    """
    parts: list[Part] = [Title(f'Parameters of "{explanation.name}"')]
    owners = [owner for owner in explanation.owners if owner.path or _speaks(owner)] or explanation.owners
    for owner in owners:
        parts.extend(_section(owner, explanation.name))
    if len(owners) == 1:
        return Document(tuple(parts), width)
    least = "at least " if any(map(_unbuilt, owners)) else ""
    parts.append(Title("Total", 2, least + plural(explanation.total, "parameter")))
    if "=" in explanation.formula.numbers and owners[0].path:  # one layer's count is no sum
        parts.append(Formula(explanation.formula.symbols, explanation.formula.numbers))
    return Document(tuple(parts), width)


def _speaks(owner: OwnerExplanation) -> bool:
    """Whether the outermost layer has something to say of its own, and not only of the layers inside it."""
    return bool(owner.weights) or any(remark.kind == "inside" for remark in owner.remarks)


def _formula(formula: ClosedForm) -> Formula:
    """Set symbols over numbers, or in one line where the formula is a single name."""
    if "=" in formula.numbers or not formula.symbols:
        return Formula(formula.symbols, formula.numbers)
    return Formula("", f"{formula.symbols} = {formula.numbers}")


def _section(owner: OwnerExplanation, model: str) -> list[Part]:
    label = f"{owner.path or owner.name or model} ({owner.type})"
    number = (
        plural(owner.count, "parameter")
        if owner.expected is None and (owner.count or not _unbuilt(owner))
        else "not built"
    )
    parts: list[Part] = [Title(label, 2, number)]
    if owner.formula is not None:
        parts.append(_formula(owner.formula))
    if owner.expected is not None:
        parts.append(Formula(f"will be {owner.expected}", ""))
    if owner.weights:
        columns = (Column(gap=2), Column(), Column())
        rows = tuple((f"  {w.name}", w.product, _STATES.get(w.state, w.state)) for w in owner.weights)
        parts.append(Table(columns=columns, rows=rows, ruled=False))
    outputs = [remark.text for remark in owner.remarks if remark.kind == "output"]
    for remark in owner.remarks:
        if remark.kind in _WARNINGS:
            parts.append(Note(remark.text, "warning"))
        elif remark.kind != "output":
            parts.append(Text(remark.text))
    if outputs:
        parts.append(Text(f"Output {'; '.join(outputs)}."))
    return parts


_STATES = {"trainable": "", "state": "state"}


def _unbuilt(owner: OwnerExplanation) -> bool:
    return any(remark.kind == "unbuilt" for remark in owner.remarks)
