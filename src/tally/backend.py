"""What older scripts import as `keras.backend`, usually under the name K; everything forwards to `ops`."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from tally import ops
from tally.core.dtype import epsilon, floatx, image_data_format, is_floating, result_dtype, standardize_dtype
from tally.core.dtype import set_epsilon as set_epsilon
from tally.core.dtype import set_floatx as set_floatx
from tally.core.dtype import set_image_data_format as set_image_data_format
from tally.core.naming import reset_names
from tally.core.symbol import KerasTensor
from tally.core.variable import Variable
from tally.core.variable import name_scope as name_scope

_uids: dict[str, "itertools.count[int]"] = {}
_SAME_AS_OPS = (
    "abs all any arange argmax argmin binary_crossentropy cast categorical_crossentropy clip "
    "convert_to_numpy convert_to_tensor cos cumprod cumsum dot dtype elu equal exp eye flip "
    "greater greater_equal hard_sigmoid in_top_k is_tensor less less_equal log logsumexp max maximum mean "
    "min minimum not_equal one_hot ones_like prod relu repeat reshape round shape sigmoid sign sin "
    "softmax softplus softsign sparse_categorical_crossentropy sqrt square squeeze stack std "
    "stop_gradient sum tanh tile transpose var zeros_like"
)
globals().update({name: getattr(ops, name) for name in _SAME_AS_OPS.split()})
int_shape = ops.shape
pow = ops.power
is_float_dtype = is_floating
result_type = result_dtype


def backend() -> str:
    """The engine's name in Keras's terms."""
    return "jax"


def expand_dims(x: Any, axis: int = -1) -> Any:
    """A new axis of size 1, the last one unless told otherwise."""
    return ops.expand_dims(x, axis)


def clear_session(free_memory: bool = True) -> None:
    """Start counting default names anew."""
    reset_names()
    _uids.clear()


def get_uid(prefix: str = "") -> int:
    """1, 2, 3, ... for each prefix."""
    return next(_uids.setdefault(prefix, itertools.count(1)))


def is_int_dtype(dtype: Any) -> bool:
    """Whether a dtype is an integer one; bool is not."""
    return bool(jnp.issubdtype(standardize_dtype(dtype), jnp.integer))


def is_keras_tensor(x: Any) -> bool:
    """Whether it is a symbolic tensor."""
    return isinstance(x, KerasTensor)


def variable(value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None) -> Variable:
    """A variable that starts with this value."""
    return Variable(value, dtype=dtype or floatx(), name=name, constraint=constraint)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """A tensor of these values, or of one value in a shape."""
    made = ops.convert_to_tensor(value, dtype or floatx())
    return made if shape is None else jnp.broadcast_to(made, shape)


def ones(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of ones."""
    return variable(ops.ones(shape, dtype), dtype, name)


def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of zeros."""
    return variable(ops.zeros(shape, dtype), dtype, name)


def get_value(x: Any) -> np.ndarray:
    """The value of a variable or tensor as a NumPy array."""
    return ops.convert_to_numpy(x)


eval = get_value


def batch_get_value(tensors: Any) -> list[np.ndarray]:
    """The values of several variables."""
    return [get_value(x) for x in tensors]


def set_value(x: Variable, value: Any) -> None:
    """Set the value of a variable."""
    x.assign(value)


def batch_set_value(tuples: Any) -> None:
    """Set the values of several variables, given as pairs of variable and value."""
    for x, value in tuples:
        set_value(x, value)


def update(x: Variable, new_x: Any) -> Any:
    """Set the value of a variable; returns it."""
    return x.assign(new_x)


def update_add(x: Variable, increment: Any) -> Any:
    """Add to a variable; returns it."""
    return x.assign_add(increment)


def update_sub(x: Variable, decrement: Any) -> Any:
    """Subtract from a variable; returns it."""
    return x.assign_sub(decrement)


def moving_average_update(x: Variable, value: Any, momentum: float) -> Any:
    """Move a variable towards a value by 1 - momentum; returns it."""
    return x.assign(momentum * x.value + (1 - momentum) * ops.convert_to_tensor(value))


def count_params(x: Any) -> int:
    """The number of scalars of a variable or tensor whose shape is known."""
    return int(np.prod(x.shape))


def cast_to_floatx(x: Any) -> np.ndarray:
    """A NumPy array of `floatx()`."""
    return np.asarray(x, dtype=floatx())


def concatenate(tensors: Any, axis: int = -1) -> Any:
    """Tensors one behind the other, on the last axis unless told."""
    return ops.concatenate(tensors, axis)


def flatten(x: Any) -> Any:
    """A tensor as one vector."""
    return ops.reshape(x, (-1,))


def batch_flatten(x: Any) -> Any:
    """Each example as one vector."""
    return ops.reshape(x, (None, -1))


def ndim(x: Any) -> int:
    """Number of dimensions."""
    return len(ops.shape(x))


def gather(reference: Any, indices: Any) -> Any:
    """The slices on the first axis that the indices name."""
    return ops.take(reference, indices, axis=0)


def permute_dimensions(x: Any, pattern: Any) -> Any:
    """The axes in another order."""
    return ops.transpose(x, pattern)


def reverse(x: Any, axes: Any) -> Any:
    """The order along the axes turned round."""
    return ops.flip(x, axes)


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """Divide by the Euclidean norm over the axis, over all if None."""
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), epsilon()))


def bias_add(x: Any, bias: Any, data_format: str | None = None) -> Any:
    """Add a vector to the channels."""
    first = (data_format or image_data_format()) == "channels_first"
    return ops.add(x, ops.reshape(bias, (-1, *(1,) * (ndim(x) - 2))) if first else bias)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """For each example the sum of products over an axis of `x` and one of `y`."""
    left, right = list("abcdefgh"[: ndim(x)]), list("astuvwxy"[: ndim(y)])
    along = (axes, axes) if isinstance(axes, int) else axes or (-1, -2 if len(right) > 2 else -1)
    left[along[0]] = right[along[1]] = "z"
    made = [letter for letter in (*left, *right[1:]) if letter != "z"]
    product = ops.einsum(f"{''.join(left)},{''.join(right)}->{''.join(made)}", x, y)
    return product if len(made) > 1 else expand_dims(product, 1)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """One value or the other, element by element; functions of nothing are called for theirs."""
    first, second = (e() if callable(e) else e for e in (then_expression, else_expression))
    for _ in range(ndim(first) - ndim(condition)):
        condition = expand_dims(condition)
    return ops.where(ops.cast(condition, "bool"), first, second)


def random_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Normally distributed numbers."""
    from tally import random

    return random.normal(shape, mean, stddev, dtype, seed)


def random_uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Uniformly distributed numbers."""
    from tally import random

    return random.uniform(shape, minval, maxval, dtype, seed)


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """Set a part of the values to 0 and scale the rest up."""
    from tally import random

    return random.dropout(x, level, noise_shape, seed)
