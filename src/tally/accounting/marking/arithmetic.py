"""The sums a learner writes, such as `32 × (3·3·1 + 1)`: read and worked out without running any code."""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LONGEST = 200
_MOST_DIGITS = 18
_MULTIPLIED = str.maketrans({"×": "*", "·": "*", "∗": "*", "⋅": "*", "x": "*", "X": "*"})
_SIGNS = _MULTIPLIED | str.maketrans({"−": "-", "–": "-", "÷": "/", "[": "(", "]": ")"})
_GROUPED = re.compile(r"(?<![\d.,_])\d{1,3}(?:[ ,_'\u00a0\u2009\u202f]\d{3})+(?![\d.,_])")
_MISSING_SIGN = re.compile(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)")


class Unreadable(ValueError):
    """What was written is no sum of whole numbers; the message says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A sum of whole numbers with +, −, ×, / and parentheses.

    Args:
        text: As it was written.
        tree: What Python's parser made of it, checked to hold nothing else.
        value: What it comes to.
    """

    text: str
    tree: ast.expr
    value: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers it is made of, from left to right."""
        return tuple(leaf.value for leaf in _leaves(self.tree) if isinstance(leaf.value, int))

    def replace(self, place: int, number: int) -> int | None:
        """Work it out with another number at a place; None where a division leaves a rest.

        Example:
            >>> read_expression("32 * (3*3*3 + 1)").replace(3, 1)
            320
        """
        leaf = list(_leaves(self.tree))[place]
        try:
            return _work_out(self.tree, {id(leaf): number})
        except Unreadable:
            return None


def read_expression(text: str) -> Expression:
    """Read and work out what a learner wrote.

    Args:
        text: Whole numbers, with or without thousands separated, and `+ - * × · x /` and parentheses; a sign left
            out before a parenthesis means a product.

    Raises:
        Unreadable: It holds anything else, it is too long, or a division leaves a rest.

    Example:
        >>> read_expression("10 × (1,600 + 1)").value
        16010
        >>> read_expression("32(3·3·1 + 1)").value
        320
    """
    if len(text) > _LONGEST:
        raise Unreadable(f"it is longer than {_LONGEST} characters")
    plain = _GROUPED.sub(lambda match: re.sub(r"\D", "", match[0]), text).translate(_SIGNS)
    if strange := re.search(r"[^\d\s()*/+-]+|\*\*|//|\d\s+\d", plain):
        raise Unreadable(f"'{strange[0]}' is not part of a sum of whole numbers")
    if any(len(digits) > _MOST_DIGITS for digits in re.findall(r"\d+", plain)):
        raise Unreadable(f"a number has more than {_MOST_DIGITS} digits")
    plain = re.sub(r"\b0+(?=\d)", "", _MISSING_SIGN.sub("*", plain))
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
        return Expression(text.strip(), tree, _work_out(tree, {}))
    except (SyntaxError, MemoryError, RecursionError):
        raise Unreadable("it is no whole number, and no sum or product of some") from None


_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def _work_out(tree: ast.expr, instead: dict[int, int]) -> int:
    """Work out a tree, with other numbers for some of its leaves."""
    match tree:
        case ast.Constant(value=int(number)):
            return instead.get(id(tree), number)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _divided(_work_out(left, instead), _work_out(right, instead))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_work_out(left, instead), _work_out(right, instead))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_work_out(operand, instead)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _work_out(operand, instead)
        case _:
            raise Unreadable("it is no sum or product of whole numbers")


def _divided(number: int, by: int) -> int:
    if by == 0 or number % by:
        raise Unreadable(f"{number:,} / {by:,} is no whole number")
    return number // by


def _leaves(tree: ast.expr) -> Iterator[ast.Constant]:
    """The numbers of a tree from left to right."""
    match tree:
        case ast.Constant():
            yield tree
        case ast.BinOp(left=left, right=right):
            yield from _leaves(left)
            yield from _leaves(right)
        case ast.UnaryOp(operand=operand):
            yield from _leaves(operand)
        case _:
            return
