"""`verify`: whether statements about a model's numbers are so, and what a wrong number is instead."""

from collections.abc import Callable
from typing import Any

from tally.accounting.marking.statements import StatementError, Written
from tally.accounting.verdict import Verification
from tally.accounting.verify import verify as verify_statements
from tally.core.errors import ArgumentError
from tally.models.verbs.show import show
from tally.models.verbs.subject import ledger_of


def verify(model: Any, *statements: Written, print_fn: Callable[..., Any] | None = None) -> Verification:
    """Print which statements about a model are right, and return that as data.

    A wrong number is compared with every quantity that may be mistaken for the right one: the output's values, the
    count without biases or with one kernel for all channels, another layer's count, and many more.

    Args:
        model: A model or layer of this library, a `Ledger`, or the path of a file.
        statements: Texts such as `"conv2d=320"`, `"dense.kernel=(1600, 10)"`, `"conv2d=32 × (3·3·1 + 1)"` or
            `"The first convolutional layer has 320 parameters."`; mappings from such names to values; lists of either.
            Names are `layer` or `layer.quantity`; for the model itself `total`, `trainable`, `non_trainable`,
            `bytes`, `layers`. Quantities are the name of a weight, `output`, `input`, `trainable`, `bytes`,
            `multiply_adds` and the like; none means the parameters.
        print_fn: What is called with the text; printing unless given.

    Returns:
        A verdict for each statement; true if all hold. A statement about a layer that is not built doesn't.

    Raises:
        ArgumentError: A statement can't be read, or names what the model hasn't got.

    Example:
        >>> model = tally.Sequential([tally.Input((28, 28, 1)), tally.layers.Conv2D(32, 3)], name="small")
        >>> verification = verify(model, {"conv2d": 21632, "conv2d.output": (26, 26, 32)}, print_fn=lambda text: None)
        >>> verification
        <Verification of 'small': 1 of 2 holds>
        >>> verification.verdicts[0].explanations
        ('21,632 is the number of its output values, 26 × 26 × 32, not its parameters.',)
    """
    from tally.report.verification import draw

    try:
        verification = verify_statements(ledger_of(model), *statements)
    except StatementError as error:
        raise ArgumentError(str(error)) from None
    show(draw(verification), print_fn)
    return verification
