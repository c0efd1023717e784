"""The document that shows what came of statements: each with its mark, what is true, and what a wrong number is."""

from tally.accounting.verdict import Verdict, Verification
from tally.report.document import Column, Document, Part, Table, Title
from tally.report.fitting import BOUND

_MARKS = {True: "✓", False: "✗", None: "?"}
_LONGEST_FORMULA = 160
_LONGEST_PIECE = 36  # what is longer may be broken, so that a narrow page stays narrow
_COLUMNS = (Column(), Column(gap=1, wraps=True))


def draw(verification: Verification, *, width: int | None = None) -> Document:
    """Set what came of statements: a row for each, which is as high as there is to say.

    Args:
        verification: What `tally.accounting.verify` found.
        width: The line length; None leaves it to where the document is drawn.

    Example:
        >>> from tally.accounting.verdict import Verdict
        >>> from tally.report.plain import render
        >>> verdict = Verdict(
        ...     statement="dense=55", layer="dense", quantity="parameters", right=True, given=55, expected=55,
        ...     says="It has 55 parameters: 5 × (10 + 1) = 55.", formula="5 × (10 + 1) = 55",
        ... )
        >>> print(render(draw(Verification(name="m", verdicts=(verdict,)))))
        Statements about "m"
        <BLANKLINE>
        ✓ dense=55
          It has 55 parameters: 5 × (10 + 1) = 55.
        <BLANKLINE>
        It holds.
    """
    parts: list[Part] = [Title(f'Statements about "{verification.name}"')]
    parts.extend(Table(columns=_COLUMNS, rows=(_row(one),), ruled=False) for one in verification.verdicts)
    parts.append(Title(f"{verification.summary}."))
    return Document(tuple(parts), width)


def _row(verdict: Verdict) -> tuple[str, str]:
    """A mark, and behind it the statement, what is true, and what is to be said of it."""
    shown = verdict.right is False and 0 < len(verdict.symbols) <= _LONGEST_FORMULA
    symbols = f"In symbols: {verdict.symbols}." if shown else ""
    lines = (verdict.statement, verdict.says, symbols, *verdict.explanations)
    return _MARKS[verdict.right], "\n".join(_bound(line) for line in lines if line)


def _bound(text: str) -> str:
    """Let no line end inside a product, a shape or parentheses, nor behind a sign."""
    depth, bound = 0, ""
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        before, after = text[place - 1 : place], text[place + 1 : place + 4]
        tied = depth > 0 or before in ("×", "+", "−", "=") or after[:1] == "×" or after in ("+ 1", "+ 1.")
        bound += BOUND if char == " " and before and tied else char
    pieces = (
        piece if len(piece) <= _LONGEST_PIECE else piece.replace(BOUND, " ") for piece in bound.split(" ")
    )
    return " ".join(pieces)
