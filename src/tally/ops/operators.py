"""`+`, `[...]` and the other operators on symbolic tensors."""

from typing import Any

from tally.core.symbol import KerasTensor
from tally.ops import numpy

_BINARY = {
    "add": numpy.add,
    "sub": numpy.subtract,
    "mul": numpy.multiply,
    "truediv": numpy.true_divide,
    "floordiv": numpy.floor_divide,
    "mod": numpy.mod,
    "pow": numpy.power,
    "matmul": numpy.matmul,
    "and": numpy.logical_and,
    "or": numpy.logical_or,
    "xor": numpy.logical_xor,
}
_COMPARISONS = {
    "lt": numpy.less,
    "le": numpy.less_equal,
    "gt": numpy.greater,
    "ge": numpy.greater_equal,
    "ne": numpy.not_equal,
}


def _install(name: str, operation: Any) -> None:
    setattr(KerasTensor, f"__{name}__", operation)


for _name, _operation in _BINARY.items():
    _install(_name, lambda x1, x2, op=_operation: op(x1, x2))
    _install(f"r{_name}", lambda x2, x1, op=_operation: op(x1, x2))
for _name, _operation in _COMPARISONS.items():
    _install(_name, lambda x1, x2, op=_operation: op(x1, x2))
_install("neg", lambda x: numpy.negative(x))
_install("abs", lambda x: numpy.absolute(x))
_install("invert", lambda x: numpy.logical_not(x))
_install("round", lambda x, decimals=0: numpy.round(x, decimals))
_install("getitem", lambda x, key: numpy.get_item(x, key))
KerasTensor.reshape = lambda x, newshape: numpy.reshape(x, newshape)  # type: ignore[attr-defined]
KerasTensor.squeeze = lambda x, axis=None: numpy.squeeze(x, axis)  # type: ignore[attr-defined]
