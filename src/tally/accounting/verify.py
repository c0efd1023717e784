"""Checks statements about a model's parameters as a teacher would: right or wrong, and what a wrong number is."""

import re
from collections.abc import Callable, Iterator

from tally.accounting.ledger import Entry, Ledger, Shape
from tally.accounting.marking.arithmetic import Unreadable, read_expression
from tally.accounting.marking.asking import locate
from tally.accounting.marking.factors import say_which_factor
from tally.accounting.marking.quantities import Fact, Quantities, written
from tally.accounting.marking.readings import say_what_it_is
from tally.accounting.marking.sentences import Claim, Question, is_sentence, read_sentence
from tally.accounting.marking.shapes import say_what_shape_it_is
from tally.accounting.marking.statements import (
    Given,
    Statement,
    StatementError,
    Written,
    gather,
    read_statement,
)
from tally.accounting.verdict import Verdict, Verification
from tally.accounting.words import singular


def verify(ledger: Ledger, *statements: Written) -> Verification:
    """Check statements about a model.

    Args:
        ledger: The model's ledger.
        statements: Texts such as `"conv2d=320"` or a sentence, mappings from names to values, or lists of either.

    Returns:
        A verdict for each statement. What can't be told because a layer is not built counts as not holding.

    Raises:
        StatementError: Some can't be read, or speak of what the model hasn't got; all of these are listed.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)])
        >>> verification = verify(tally.account(model), {"conv2d": 21632}, "conv2d.kernel=(3, 3, 1, 32)")
        >>> [verdict.right for verdict in verification.verdicts]
        [False, True]
        >>> verification.verdicts[0].explanations
        ('21,632 is the number of its output values, 26 × 26 × 32, not its parameters.',)
    """
    known = Quantities(ledger)
    questions: list[Question | Claim] = []
    problems: list[str] = []
    for text, statement in gather(statements):
        try:
            questions.append(_understood(ledger, text, statement))
        except ValueError as error:
            problems.append(str(error) if text in str(error) else f"'{text}': {error}")
    if problems:
        raise StatementError("\n".join(problems))
    verdicts = [_claim(known, one) if isinstance(one, Claim) else _question(known, one) for one in questions]
    return Verification(name=ledger.name, verdicts=tuple(verdicts))


def _understood(ledger: Ledger, text: str, statement: str | Statement) -> Question | Claim:
    if isinstance(statement, str):
        if is_sentence(statement):
            return read_sentence(ledger, statement)
        statement = read_statement(statement)
    return Question(statement.text, locate(ledger, statement.name), statement.given)


def _question(known: Quantities, question: Question) -> Verdict:
    """Mark a statement that gives a number or a shape."""
    fact = known.fact(question.quantity)
    marks = [_mark(fact, step) for step in question.given]
    if question.otherwise is not None and not all(marks):
        other = known.fact(question.otherwise)
        if all(_mark(other, step) for step in question.given):
            fact, marks = other, [True]
    right = None if None in marks else all(marks)
    answer = question.given[-1]
    return Verdict(
        statement=question.text,
        layer=fact.quantity.path,
        quantity=fact.quantity.kind,
        right=right,
        given=answer.sizes if answer.number is None else answer.number,
        expected=fact.sizes if answer.number is None and fact.sizes is not None else fact.number,
        says=_says(fact, question.text),
        formula=fact.numbers,
        symbols=fact.symbols,
        explanations=tuple(_explain(known, fact, question.given, right)),
    )


def _says(fact: Fact, statement: str) -> str:
    """What is true, with the layer's path where the statement calls it otherwise."""
    path = fact.quantity.path
    if not path or re.search(rf"(?<![\w/]){re.escape(path)}(?![\w/])", statement):
        return fact.sentence
    if match := re.match(r"Its (\S+) (.*)", fact.sentence):
        return f"The {match[1]} of '{path}' {match[2]}"
    return re.sub("^It ", f"'{path}' ", fact.sentence).replace("This can't", f"'{path}' can't")


def _mark(fact: Fact, given: Given) -> bool | None:
    """Whether a number or a shape is right; None where that can't be told."""
    quantity = fact.quantity
    if given.sizes is not None and fact.sizes is not None and quantity.part != "count":
        fits = _fits(fact, given.sizes)
        if fits is not False or given.number is None:
            return fits
    if fact.number is None and fact.sizes is None:
        return None
    if given.number is None and given.memory is None:
        return False
    if quantity.part == "shape" or (fact.number is None and quantity.kind == "option"):
        return False
    if fact.number is None:
        return None
    return given.is_about(fact.number, memory="bytes" in (quantity.kind, quantity.part))


def _fits(fact: Fact, sizes: Shape) -> bool | None:
    """Whether a shape is the true one, with its batch or without; None where an open size was given a number."""
    true = fact.sizes or ()
    if fact.quantity.kind in ("input", "output"):
        if len(sizes) == len(true) and sizes[:1] in ((None,), (1,), true[:1]):
            sizes = sizes[1:]
        true = true[1:]
    if sizes == true:
        return True
    if len(sizes) != len(true) or None not in true:
        return False
    pairs = zip(sizes, true, strict=True)
    return None if all(one == other or other is None for one, other in pairs) else False


def _explain(known: Quantities, fact: Fact, given: tuple[Given, ...], right: bool | None) -> Iterator[str]:
    """Say what a wrong statement is instead, and what is missing where it can't be told."""
    answer = given[-1]
    if right is None:
        yield from _would_be_right(fact, answer)
    elif right:
        if answer.sizes and answer.number and fact.sizes and not _fits(fact, answer.sizes):
            yield f"As a shape, it is {written(fact.sizes)}."
    elif _mark(fact, answer):
        yield from _slips(known, fact, given)
    else:
        yield from _explain_answer(known, fact, given)


def _explain_answer(known: Quantities, fact: Fact, given: tuple[Given, ...]) -> Iterator[str]:
    answer = given[-1]
    for step in given[:-1]:
        if step.working is not None and _mark(fact, step):
            yield f"The calculation is right, but comes to {step.number:,}."
            return
    found: tuple[str, ...] = ()
    if answer.sizes is not None and (fact.sizes is not None or answer.number is None):
        found = say_what_shape_it_is(known, fact, answer.sizes)
    if not found and (answer.number is not None or answer.memory is not None):
        found = say_what_it_is(known, fact, answer)
    yield from found
    steps = [step for step in given if step.working is not None]
    if any(_mark(fact, step) for step in steps):
        yield "The calculation is right, but comes to another number."
        return
    hints = (
        (say_which_factor(known, fact, step.working) for step in steps if step.working) if not found else ()
    )
    yield from [hint for hint in hints if hint][:1]


def _slips(known: Quantities, fact: Fact, given: tuple[Given, ...]) -> Iterator[str]:
    """A right answer behind a calculation that comes to something else."""
    for step in given[:-1]:
        if not _mark(fact, step):
            comes = f" comes to {step.number:,}" if step.number is not None else " is another shape"
            yield f"The answer is right, but {step.text}{comes}."
            if step.working and (hint := say_which_factor(known, fact, step.working)):
                yield hint


def _would_be_right(fact: Fact, answer: Given) -> Iterator[str]:
    """For which input a number would be right, where the layer is not built."""
    if not fact.expected:
        return
    yield f"It will have {fact.expected} parameters."
    noun = next((word for word in ("input channels", "features") if word in fact.expected), None)
    if noun is None or answer.number is None:
        return
    try:
        none, one = (read_expression(fact.expected.replace(noun, str(size))).value for size in (0, 1))
    except Unreadable:  # a formula with more in it than sums and products, such as the groups' division
        return
    size, rest = divmod(answer.number - none, one - none)
    if not rest and size > 0:
        yield f"{answer.text} would be right for {size:,} {singular(noun) if size == 1 else noun}."
    else:
        yield f"{answer.text} would not be right for any number of {noun}."


def _claim(known: Quantities, claim: Claim) -> Verdict:
    """Mark a statement about the sharing of a convolution's weights."""
    kernel = _kernel(known, claim)
    sizes = dict(zip(kernel.axes, kernel.shape, strict=True))
    channels = next(size for name, size in sizes.items() if name.startswith("input channels"))
    filters = sizes.get("filters", sizes.get("depth multiplier", 1))
    window = "×".join(str(size) for name, size in sizes.items() if name.startswith("kernel "))
    product = f"{channels:,} input channels × {filters:,} {'filters' if 'filters' in sizes else 'each'}"
    separate = f"{product} = {channels * filters:,} separate {window} kernels"
    says, right = _SHARING[claim.between](separate, channels, claim.shared)
    return Verdict(
        statement=claim.text,
        layer=claim.path,
        quantity="weight",
        right=right,
        given=None,
        expected=None,
        says=f"In '{claim.path}', {says}",
    )


def _kernel(known: Quantities, claim: Claim) -> Entry:
    for entry in known.entries(claim.path):
        sides = [name for name in entry.axes if name.startswith("kernel ")]
        if sides and any(name.startswith("input channels") for name in entry.axes):
            return entry
    raise StatementError(f"'{claim.text}': '{claim.path}' has no kernels with channels.")


def _between_channels(separate: str, channels: int, shared: bool) -> tuple[str, bool | None]:
    if channels == 1:
        return "there is one input channel, so there is nothing to share.", None
    return f"each input channel has kernels of its own: {separate}.", not shared


def _between_positions(separate: str, channels: int, shared: bool) -> tuple[str, bool | None]:
    return "all positions of the input meet the same weights: that is what a convolution is.", shared


_SHARING: dict[str, Callable[[str, int, bool], tuple[str, bool | None]]] = {
    "channels": _between_channels,
    "positions": _between_positions,
}
