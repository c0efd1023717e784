"""The document that sets a layer beside what it might be instead."""

from collections.abc import Iterator

from tally.accounting.shapes import sizes
from tally.accounting.what_if import Change, Variant, WhatIf
from tally.accounting.words import listed
from tally.report.document import Column, Document, Note, Part, Row, Table, Text, Title
from tally.report.figures import count

_NONE = "–"
_MOST = 6
"""So many layers that change are named for one variant."""


def draw(found: WhatIf, *, width: int | None = None) -> Document:
    """Set a comparison: the figures side by side, the formulas below, and what else changes in the model.

    Args:
        found: What `tally.what_if` found.
        width: The line length; None leaves it to where the document is drawn.
    """
    where = f' in "{found.name}"' if found.path else ""
    shapes = listed([sizes(shape) for shape in dict.fromkeys(found.input_shapes)])
    parts: list[Part] = [
        Title(f'What if "{found.path or found.name}"{where} were made otherwise'),
        Text(f"{found.type}, which reads {shapes}."),
        _table(found),
        _formulas(found),
    ]
    if len(found.variants) == 1:
        parts.append(
            Note(f"Of {found.type} no usual variants are known: say which of its arguments to change.")
        )
    for variant in found.variants:
        parts.extend(_notes(variant, found))
    return Document(tuple(parts), width)


def _table(found: WhatIf) -> Table:
    models = any(variant.total is not None for variant in found.variants)
    titles = ["Parameters", "Ratio", "Multiply-adds"]
    columns = (
        Column(title="Variant", flexible=True),
        *(Column(title=title, align="right") for title in titles),
        Column(title="Output"),
        *([Column(title="Model", align="right")] if models else []),
    )
    rows = tuple(_row(found, variant)[: len(columns)] for variant in found.variants)
    return Table(columns=columns, rows=rows)


def _row(found: WhatIf, variant: Variant) -> Row:
    if variant.problem is not None:
        return (variant.name, _NONE, "", "", "not possible", "")
    ratio = found.ratio(variant)
    return (
        variant.name,
        _number(variant.parameters),
        "" if ratio is None or variant is found.as_it_is else f"{ratio:.3g}×",
        _number(variant.multiply_adds),
        listed([sizes(shape) for shape in variant.output_shapes]),
        _number(variant.total),
    )


def _number(number: int | None) -> str:
    return _NONE if number is None else count(number)


def _formulas(found: WhatIf) -> Table:
    rows = tuple((variant.name, _formula(variant)) for variant in found.variants if variant.problem is None)
    return Table(columns=(Column(), Column()), rows=rows, ruled=False)


def _formula(variant: Variant) -> str:
    """The count, and below it what the variant is, where its name doesn't say that."""
    numbers = "0" if variant.formula is None else variant.formula.numbers
    return f"{numbers}\n{variant.what}" if variant.what else numbers


def _notes(variant: Variant, found: WhatIf) -> Iterator[Part]:
    if variant.problem is not None:
        yield Note(f"{variant.name}: not possible. {variant.problem}")
        return
    if variant.note is not None:
        yield Note(f"{variant.name}: {variant.note}", "warning")
    shapes = [shape[1:] for shape in variant.output_shapes]
    if shapes == [shape[1:] for shape in found.as_it_is.output_shapes]:
        return
    if variant.changes:
        told = [_change(change) for change in variant.changes[:_MOST]]
        rest = len(variant.changes) - len(told)
        more = f"; and {rest:,} more" if rest else ""
        yield Note(f"{variant.name}: other layers see other shapes, too: {'; '.join(told)}{more}.")
    elif variant.total is not None:
        yield Note(f"{variant.name}: the output has another shape, but no other layer's count depends on it.")
    elif variant.note is None:
        yield Note(f"{variant.name}: the output has another shape; layers that follow would have to fit it.")


def _change(change: Change) -> str:
    if change.after is None:
        return f"'{change.path}' is gone"
    numbers = f" = {change.formula.partition(' = ')[0]}" if " = " in change.formula else ""
    return f"'{change.path}' {count(change.before)} → {count(change.after)}{numbers}"
