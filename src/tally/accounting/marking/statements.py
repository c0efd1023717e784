"""Statements about a model as they are written, `conv2d=320` or `dense.kernel=(1600, 10)`: what is said of what."""

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias, cast

from tally.accounting.ledger import Shape
from tally.accounting.marking.arithmetic import Expression, Unreadable, read_expression

Written: TypeAlias = "str | Mapping[str, Any] | Sequence[Any]"
"""One statement, a mapping from names to values, or a list of either."""


class StatementError(ValueError):
    """A statement can't be read, or speaks of something that the model hasn't got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a statement says a number or a shape is.

    Args:
        text: As it was written.
        number: As a number; None where it is a shape only.
        sizes: As a shape, None for an open size; None where it is a number only.
        within: How far the true number may be off: half of the last digit of `2.4M`, nothing for `2,400,000`.
        memory: The number and how far off it may be where bytes are asked for, which has units of its own.
        working: The sum or product it was written as.
    """

    text: str
    number: int | None = None
    sizes: Shape | None = None
    within: int = 0
    memory: tuple[int, int] | None = None
    working: Expression | None = None

    def is_about(self, number: int, *, memory: bool = False) -> bool:
        """Whether this is a number, as exactly as it was written.

        Args:
            number: The true number.
            memory: Whether it is a number of bytes.

        Example:
            >>> read_value("2.4M")[0].is_about(2_401_290), read_value("2,400,000")[0].is_about(2_401_290)
            (True, False)
        """
        given, within = self.memory if memory and self.memory else (self.number, self.within)
        return given is not None and abs(number - given) <= within


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement.

    Args:
        text: As it was written.
        name: Of what: `"conv2d"`, `"dense.kernel"`, `"total"`.
        given: What it is said to be; where a calculation is shown, `32·10 = 320`, every step of it.
    """

    text: str
    name: str
    given: tuple[Given, ...]


def gather(statements: Sequence[Written]) -> Iterator[tuple[str, str | Statement]]:
    """Take apart what was handed over: each statement as it was written, and what it says if that was data already.

    Raises:
        StatementError: Something is no statement, or a value of a mapping is no number and no shape.
    """
    for one in statements:
        if isinstance(one, str):
            yield one, one
        elif isinstance(one, Mapping):
            for name, value in one.items():
                statement = from_item(name, value)
                yield statement.text, statement
        elif isinstance(one, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from users
            yield from gather(one)
        else:
            raise StatementError(
                f"{one!r} is no statement: write 'layer=number', or a mapping from names to values."
            )


def from_item(name: str, value: Any) -> Statement:
    """Make a statement of a name and a value.

    Args:
        name: Of what.
        value: A whole number, a shape as a tuple or list, or either as a text.

    Raises:
        StatementError: The value is none of these.

    Example:
        >>> from_item("dense.kernel", (1600, 10)).text
        'dense.kernel=(1600, 10)'
    """
    if isinstance(value, str):
        return Statement(text=f"{name}={value}", name=name.strip(), given=read_value(value))
    try:
        if isinstance(value, list | tuple):
            sizes = tuple(None if size is None else operator.index(size) for size in cast("list[Any]", value))
            given = Given(text=str(sizes), sizes=sizes)
        elif isinstance(value, bool):
            raise TypeError("True and False are no numbers here")
        else:
            number = operator.index(value)
            given = Given(text=str(number), number=number)
    except TypeError:
        kind = type(cast("object", value)).__name__
        raise StatementError(
            f"{name}={value!r}: a value is a whole number, a shape, or a text, but this is of type {kind}."
        ) from None
    return Statement(text=f"{name}={given.text}", name=str(name).strip(), given=(given,))


def read_statement(text: str) -> Statement:
    """Read `name=value`; a colon may stand for the equals sign.

    Raises:
        StatementError: There is no such sign, nothing before it, or what follows is no number and no shape.

    Example:
        >>> statement = read_statement("conv2d = 32 × (3·3·1 + 1) = 320")
        >>> statement.name, [step.number for step in statement.given]
        ('conv2d', [320, 320])
    """
    match = re.match(r"([^=:]*[^\s=:][^=:]*)[=:]+(.*)", text, re.DOTALL)
    if match is None:
        raise StatementError(f"'{text}' says no value: write 'layer=number' or 'layer.kernel=(sizes)'.")
    return Statement(text=text.strip(), name=match[1].strip(" .'\"`"), given=read_value(match[2]))


def read_value(text: str) -> tuple[Given, ...]:
    """Read a number, a shape or a sum; several joined by equals signs are the steps of one calculation.

    Raises:
        StatementError: It is none of these.

    Example:
        >>> read_value("26x26x32 = 21,632")[0].sizes, read_value("(None, 26, 26, 32)")[0].sizes
        ((26, 26, 32), (None, 26, 26, 32))
    """
    return tuple(_read_step(step.strip()) for step in re.split(r"=+|≈", text))


_OPEN = r"none|\?|batch|n|-1"
_SIZE = rf"\d+|{_OPEN}"
_GROUPED = rf"\d{{1,3}}(?:[,_]\d{{3}})+|{_SIZE}"
_CHAIN = re.compile(rf"(?:{_GROUPED})(?:\s*[x×]\s*(?:{_GROUPED}))+", re.I)
_SCALED = re.compile(r"~?\s*(\d[\d,_]*(?:\.\d+)?)\s*([a-z]+)", re.I)
_SCALES = {
    **{"k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12},
    **{"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
}
_MEMORY = {"b": 1, "byte": 1, "bytes": 1} | {
    f"{letter}{unit}": 1024**power
    for power, letter in enumerate("kmgtp", 1)
    for unit in ("b", "ib")  # a KB is 1,024 bytes, as in a summary
}


def _read_step(text: str) -> Given:
    if not text:
        raise StatementError("There is nothing after an equals sign.")
    if sizes := _read_shape(text):
        return Given(text=text, sizes=sizes)
    if _CHAIN.fullmatch(text):
        return _read_chain(text)
    if (match := _SCALED.fullmatch(text)) and (given := _read_scaled(text, match[1], match[2].lower())):
        return given
    try:
        expression = read_expression(text)
    except Unreadable as error:
        raise StatementError(f"'{text}' can't be read as a number or a shape: {error}.") from None
    working = expression if len(expression.numbers) > 1 else None
    return Given(text=text, number=expression.value, working=working)


def _read_shape(text: str) -> Shape | None:
    """Read sizes between brackets, `(26, 26, 32)`; None where there are none."""
    inside = text[1:-1].strip()
    if (text[0], text[-1]) not in (("(", ")"), ("[", "]")) or ("," not in inside and text[0] == "("):
        return None
    items = [item.strip() for item in inside.removesuffix(",").split(",")]
    if not all(re.fullmatch(_SIZE, item, re.I) for item in items):
        return None
    return tuple(map(_read_size, items))


def _read_size(text: str) -> int | None:
    return None if re.fullmatch(_OPEN, text, re.I) else int(re.sub("[,_]", "", text))


def _read_chain(text: str) -> Given:
    """Read `26x26x32`, which is a shape and a product at once."""
    sizes = tuple(_read_size(item) for item in re.split(r"\s*[x×]\s*", text, flags=re.I))
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return Given(text=text, sizes=sizes)
    return Given(text=text, sizes=sizes, number=math.prod(known), working=read_expression(text))


def _read_scaled(text: str, digits: str, unit: str) -> Given | None:
    """Read `2.4M` or `136.04 KB`: right where the true number rounds to it."""
    number = Decimal(re.sub("[,_]", "", digits))
    step = Decimal(1).scaleb(-len(digits.partition(".")[2]))
    count, memory = (
        (int(number * scale), int(step * scale / 2) if scale > 1 else 0) if scale else None
        for scale in (_SCALES.get(unit), _MEMORY.get(unit))
    )
    if count is None and memory is None:
        return None
    memory = memory or count
    return Given(
        text=text, number=count[0] if count else None, within=count[1] if count else 0, memory=memory
    )
