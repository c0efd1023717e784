"""`+`, `[...]` and the other operators on symbolic tensors; the ops they stand for are loaded when one is used."""

from typing import Any

from tally import ops
from tally.core.symbol import KerasTensor

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "mod",
    "pow": "power",
    "matmul": "matmul",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "ne": "not_equal"}


def _install(name: str, operation: Any) -> None:
    setattr(KerasTensor, f"__{name}__", operation)


for _name, _op in _BINARY.items():
    _install(_name, lambda x1, x2, op=_op: getattr(ops.numpy, op)(x1, x2))
    _install(f"r{_name}", lambda x2, x1, op=_op: getattr(ops.numpy, op)(x1, x2))
for _name, _op in _COMPARISONS.items():
    _install(_name, lambda x1, x2, op=_op: getattr(ops.numpy, op)(x1, x2))
_install("neg", lambda x: ops.numpy.negative(x))
_install("abs", lambda x: ops.numpy.absolute(x))
_install("invert", lambda x: ops.numpy.logical_not(x))
_install("round", lambda x, decimals=0: ops.numpy.round(x, decimals))
_install("getitem", lambda x, key: ops.numpy.get_item(x, key))
KerasTensor.reshape = lambda x, newshape: ops.numpy.reshape(x, newshape)  # type: ignore[attr-defined]
KerasTensor.squeeze = lambda x, axis=None: ops.numpy.squeeze(x, axis)  # type: ignore[attr-defined]
