"""What explanations write, worked out: formulas in numbers and in symbols, and the arithmetic of shapes."""

import ast
import math
import operator
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

SIGNS = {"×": "*", "·": "*", "−": "-", ",": "", "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")"}
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def evaluate(formula: str) -> Fraction:
    """Work out what is written with the signs of books; anything but arithmetic is refused."""
    for sign, python in SIGNS.items():
        formula = formula.replace(sign, python)
    return _value(ast.parse(formula.strip(), mode="eval").body)


def _value(tree: ast.expr) -> Fraction:
    match tree:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id="floor"), args=[inner]):
            return Fraction(math.floor(_value(inner)))
        case ast.Call(func=ast.Name(id="ceil"), args=[inner]):
            return Fraction(math.ceil(_value(inner)))
    raise ValueError(f"no arithmetic: {ast.dump(tree)}")


def substitute(symbols: str, sizes: dict[str, Any]) -> str:
    """Put numbers for names, the longest names first, since `channels` is part of `input channels`."""
    names = sorted(sizes, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), lambda match: str(sizes[match[0]]), symbols)


def equations(text: str) -> Iterator[tuple[Fraction, int]]:
    """Every `sum = number` in a text about shapes: the sum worked out, and the number beside it."""
    for left, right in re.findall(r"(?:^|[;:] )([\d(⌊⌈][^:;=a-z]*) = ([\d,]+)(?![\d·])", text):
        yield evaluate(left), int(right.rstrip(",").replace(",", ""))
