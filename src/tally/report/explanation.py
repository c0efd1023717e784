"""The document that explains a model's parameters: a section for each layer, the sum at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tally.accounting.dialect import dialect
from tally.accounting.explain import Explanation, OwnerExplanation
from tally.accounting.formula import Formula as ClosedForm
from tally.accounting.words import listed, plural
from tally.report.document import Column, Document, Formula, Note, Part, Table, Text, Title

_WARNINGS = ("unbuilt", "untracked")
_SHAPES = ("input", "arithmetic", "output")


def draw(explanation: Explanation, *, width: int | None = None, fold: bool = True) -> Document:
    """Set an explanation: for each layer its formula, its weights one by one, and the reasons.

    Args:
        explanation: What `tally.accounting.explain` made of a ledger.
        width: The line length; None leaves it to where the document is drawn.
        fold: Whether layers that are the same but for their names are explained once, at the first.

    Example:
        >>> from tally.report import render
        >>> blocks = [tally.Sequential([tally.layers.Dense(4)], name=f"block_{i}") for i in range(3)]
        >>> model = tally.Sequential([tally.Input((4,)), *blocks])
        >>> print(render(draw(tally.accounting.explain(tally.account(model)))).split("──")[0])
        Parameters of "sequential"
        <BLANKLINE>
        block_0 (Sequential), and 2 more like it                               3 × 20 parameters
        <BLANKLINE>
    """
    if explanation.layer is not None:
        return Document(tuple(_of_one(explanation, fold)), width)
    parts: list[Part] = [Title(f'Parameters of "{explanation.name}"')]
    owners = [owner for owner in explanation.owners if owner.path or _speaks(owner)] or explanation.owners
    parts.extend(_sections(explanation, owners, fold))
    if len(owners) == 1:
        return Document(tuple(parts), width)
    least = "at least " if any(map(_unbuilt, owners)) else ""
    parts.append(Title("Total", 2, least + plural(explanation.total, "parameter")))
    if "=" in explanation.formula.numbers and owners[0].path:  # one layer's count is no sum
        parts.append(Formula(explanation.formula.symbols, explanation.formula.numbers))
    return Document(tuple(parts), width)


def _of_one(explanation: Explanation, fold: bool) -> Iterator[Part]:
    """One layer and those inside it; no sum stands below, because the layer's own formula is that."""
    yield Title(f'Parameters of "{explanation.layer}" in "{explanation.name}"')
    yield from _sections(explanation, explanation.owners, fold)


def _sections(explanation: Explanation, owners: Sequence[OwnerExplanation], fold: bool) -> Iterator[Part]:
    known = {owner.path for owner in owners} if fold else set[str]()
    folded = {owner.path for owner in owners if owner.like in known}
    repeats: dict[str, list[str]] = {}
    for owner in owners:
        if owner.path in folded and not any(above in folded for above in _above(owner.path)):
            repeats.setdefault(owner.like or "", []).append(owner.path)
    said = _Said(dialect(explanation.source).waiting)
    for owner in owners:
        if owner.path not in folded:
            yield from _section(owner, explanation.name, repeats.get(owner.path, []), said)


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


@dataclass(slots=True)
class _Said:
    """What stands in the document already, so that it isn't said again; and what a layer without weights yet is."""

    waiting: str
    output: str = ""
    unbuilt: str = ""


def _speaks(owner: OwnerExplanation) -> bool:
    """Whether the outermost layer has something to say of its own, and not only of the layers inside it."""
    return bool(owner.weights) or any(remark.kind == "inside" for remark in owner.remarks)


def _formula(formula: ClosedForm) -> Formula:
    """Set symbols over numbers, or in one line where the formula is a single name."""
    if "=" in formula.numbers or not formula.symbols:
        return Formula(formula.symbols, formula.numbers)
    return Formula("", f"{formula.symbols} = {formula.numbers}")


def _section(owner: OwnerExplanation, model: str, repeats: Sequence[str], said: _Said) -> list[Part]:
    label = f"{owner.path or owner.name or model} ({owner.type})"
    if repeats:
        label += f", and {len(repeats):,} more like it"
    parts: list[Part] = [Title(label, 2, _amount(owner, 1 + len(repeats), said))]
    if owner.formula is not None:
        parts.append(_formula(owner.formula))
    if owner.expected is not None:
        parts.append(Formula(f"will be {owner.expected}", ""))
    if owner.weights:
        columns = (Column(gap=2), Column(), Column())
        rows = tuple((f"  {w.name}", w.product, _STATES.get(w.state, w.state)) for w in owner.weights)
        parts.append(Table(columns=columns, rows=rows, ruled=False))
    parts.extend(_words(owner, said))
    if repeats:
        inside = ", with all inside" if not owner.weights and owner.count else ""
        parts.append(Text(f"The same holds for {listed([repr(path) for path in repeats], 6)}{inside}."))
    return parts


def _amount(owner: OwnerExplanation, times: int, said: _Said) -> str:
    if owner.expected is not None or (_unbuilt(owner) and not owner.count):
        return said.waiting
    several = f"{times:,} × " if times > 1 and owner.count else ""
    return several + plural(owner.count, "parameter")


def _words(owner: OwnerExplanation, said: _Said) -> Iterator[Part]:
    """Say where the input comes from, then the reasons, then what the output is.

    How the input's shape came about is left out where it stands right above, as what the layer before gives.
    """
    inputs: list[str] = []
    for remark in owner.remarks:
        if remark.kind == "input":
            inputs.append(f"Input {remark.text}")
        elif remark.kind == "arithmetic" and remark.text not in said.output:
            inputs[-1] += f"; {remark.text}"
    yield from (Text(f"{text}.") for text in inputs)
    for remark in owner.remarks:
        if remark.kind == "unbuilt" and remark.text == said.unbuilt:
            yield Note(f"{said.waiting[0].upper()}{said.waiting[1:]} either.", "warning")
        elif remark.kind in _WARNINGS:
            yield Note(remark.text, "warning")
        elif remark.kind not in _SHAPES:
            yield Text(remark.text)
        if remark.kind == "unbuilt":
            said.unbuilt = remark.text
    outputs = [remark.text for remark in owner.remarks if remark.kind == "output"]
    said.output = " ".join(outputs)
    yield from (Text(f"Output {text}.") for text in outputs)


_STATES = {"trainable": "", "state": "state"}


def _unbuilt(owner: OwnerExplanation) -> bool:
    return any(remark.kind == "unbuilt" for remark in owner.remarks)
