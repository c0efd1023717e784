"""Functions that work on each number by itself, or on pairs of numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from tally import ops
from tally.compat.names import like, named
from tally.compat.tensorflow.making import tensor
from tally.ops.definition import float_op

for _paths, _op in (
    ("abs math.abs", ops.abs),
    ("acos math.acos", ops.arccos),
    ("acosh math.acosh", ops.arccosh),
    ("asin math.asin", ops.arcsin),
    ("asinh math.asinh", ops.arcsinh),
    ("atan math.atan", ops.arctan),
    ("atanh math.atanh", ops.arctanh),
    ("math.ceil", ops.ceil),
    ("cos math.cos", ops.cos),
    ("cosh math.cosh", ops.cosh),
    ("math.digamma", float_op(jax.scipy.special.digamma, "x")),
    ("math.erf", ops.erf),
    ("math.erfc", ops.erfc),
    ("math.erfinv", ops.erfinv),
    ("exp math.exp", ops.exp),
    ("math.expm1", ops.expm1),
    ("floor math.floor", ops.floor),
    ("math.is_finite", ops.isfinite),
    ("math.is_inf", ops.isinf),
    ("math.is_nan", ops.isnan),
    ("math.lgamma", float_op(jax.scipy.special.gammaln, "x", "lgamma")),
    ("math.log", ops.log),
    ("math.log1p", ops.log1p),
    ("math.log_sigmoid", ops.log_sigmoid),
    ("logical_not math.logical_not", ops.logical_not),
    ("negative math.negative", ops.negative),
    ("math.reciprocal", ops.reciprocal),
    ("math.rint", ops.round),
    ("round math.round", ops.round),
    ("math.rsqrt", ops.rsqrt),
    ("sigmoid math.sigmoid nn.sigmoid", ops.sigmoid),
    ("sign math.sign", ops.sign),
    ("sin math.sin", ops.sin),
    ("sinh math.sinh", ops.sinh),
    ("sqrt math.sqrt", ops.sqrt),
    ("square math.square", ops.square),
    ("tan math.tan", ops.tan),
    ("tanh math.tanh nn.tanh", ops.tanh),
):
    like(_paths, _op, "x")

for _paths, _op in (
    ("add math.add", ops.add),
    ("math.divide_no_nan", ops.divide_no_nan),
    ("equal math.equal", ops.equal),
    ("math.floordiv", ops.floor_divide),
    ("math.floormod math.mod", ops.mod),
    ("greater math.greater", ops.greater),
    ("greater_equal math.greater_equal", ops.greater_equal),
    ("less math.less", ops.less),
    ("less_equal math.less_equal", ops.less_equal),
    ("logical_and math.logical_and", ops.logical_and),
    ("logical_or math.logical_or", ops.logical_or),
    ("math.logical_xor", ops.logical_xor),
    ("maximum math.maximum", ops.maximum),
    ("minimum math.minimum", ops.minimum),
    ("multiply math.multiply", ops.multiply),
    ("not_equal math.not_equal", ops.not_equal),
    ("pow math.pow", ops.power),
    ("subtract math.subtract", ops.subtract),
    ("divide math.divide", ops.divide),
    ("truediv math.truediv", ops.divide),
):
    like(_paths, _op, "x, y")

like("atan2 math.atan2", ops.arctan2, "y, x")
like("math.real", ops.real, "input")
like("math.imag", ops.imag, "input")
like("math.conj", ops.conj, "x")
like("math.angle", ops.angle, "input")


@named("math.multiply_no_nan")
def multiply_no_nan(x: Any, y: Any) -> Any:
    """The product, 0 wherever `y` is 0."""
    return ops.where(ops.equal(y, 0), ops.zeros_like(tensor(x)), ops.multiply(x, y))


@named("math.squared_difference")
def squared_difference(x: Any, y: Any) -> Any:
    """The square of the difference."""
    return ops.square(ops.subtract(x, y))


@named("math.xlogy")
def xlogy(x: Any, y: Any) -> Any:
    """`x * log(y)`, 0 wherever `x` is 0."""
    return _xlogy(x, y)


_xlogy = float_op(jax.scipy.special.xlogy, "x, y")


@named("add_n math.add_n")
def add_n(inputs: Any) -> Any:
    """The sum of a list of tensors."""
    tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    total = tensor(tensors[0])
    for one in tensors[1:]:
        total = ops.add(total, one)
    return total


@named("clip_by_value")
def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    """Numbers limited to an interval."""
    return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)


@named("clip_by_norm")
def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None) -> Any:
    """The tensor, scaled down where its norm over the axes is greater than `clip_norm`."""
    norm = ops.sqrt(ops.sum(ops.square(t), axis=axes, keepdims=True))
    return ops.divide(ops.multiply(t, clip_norm), ops.maximum(norm, clip_norm))


@named("linalg.global_norm")
def global_norm(t_list: Any) -> Any:
    """The norm of all tensors as if they were one vector."""
    return ops.sqrt(add_n([ops.sum(ops.square(t)) for t in t_list if t is not None]))


@named("clip_by_global_norm")
def clip_by_global_norm(t_list: Any, clip_norm: Any, use_norm: Any = None) -> tuple[list[Any], Any]:
    """The tensors, scaled down together where their common norm is greater than `clip_norm`; and that norm."""
    norm = global_norm(t_list) if use_norm is None else tensor(use_norm)
    factor = ops.divide(clip_norm, ops.maximum(norm, clip_norm))
    return [None if t is None else ops.multiply(t, factor) for t in t_list], norm


@named("math.polyval")
def polyval(coeffs: Any, x: Any) -> Any:
    """A polynomial's value; the coefficient of the highest power comes first."""
    total = jnp.zeros(()) if not coeffs else tensor(coeffs[0])
    for coefficient in coeffs[1:]:
        total = ops.add(ops.multiply(total, x), coefficient)
    return total
