"""Functions between layers; each takes an array or a symbolic tensor `x` and gives one of the same shape."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.reading import Reading
from tally.core.registry import custom_object_scope, publish, resolve
from tally.core.registry import serialize as serialize
from tally.core.symbol import op
from tally.core.variable import as_array
from tally.kernels.activation import rectify


def _activation(name: str, function: Callable[..., Any], meaning: str, *aliases: str) -> Callable[..., Any]:
    """Make a function of arrays an activation: an op that also takes lists, known under its names in files.

    Args:
        name: The name in files.
        function: The function; its arguments after the first are those of the activation.
        meaning: Its docstring.
        aliases: Further names it is known by.
    """

    @functools.wraps(function)
    def apply(x: Any, *args: Any, **kwargs: Any) -> Any:
        return function(as_array(x), *args, **kwargs)

    activation = op(apply, name=name)
    activation.__module__, activation.__doc__ = __name__, meaning
    return publish(activation, name, *aliases)


def _relu(
    x: jax.Array, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> jax.Array:
    if negative_slope and max_value is None and not threshold:
        return jax.nn.leaky_relu(x, negative_slope)
    above = jnp.where(x > threshold, x, 0) if threshold else rectify(x)
    if max_value is not None:
        above = jnp.clip(above, 0, max_value) if threshold else jnp.minimum(above, max_value)
    return above - negative_slope * rectify(threshold - x) if negative_slope else above


def _sparsemax(x: jax.Array, axis: int = -1) -> jax.Array:
    x = jnp.moveaxis(x, axis, -1)
    descending = jnp.sort(x, axis=-1, descending=True)
    excess = jnp.cumsum(descending, axis=-1) - 1
    counts = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = jnp.sum(descending * counts > excess, axis=-1, keepdims=True)
    threshold = jnp.take_along_axis(excess, support - 1, axis=-1) / support
    return jnp.moveaxis(rectify(x - threshold), -1, axis)


linear = _activation("linear", lambda x: x, "Leave `x` as it is.")
relu = _activation(
    "relu",
    _relu,
    """Keep what is above a threshold, by default zero.

    Args:
        x: Any array.
        negative_slope: Slope below the threshold.
        max_value: Upper bound of the output; None for none.
        threshold: Values below it give `negative_slope * (x - threshold)`.
    """,
)
leaky_relu = _activation(
    "leaky_relu",
    lambda x, negative_slope=0.2: jax.nn.leaky_relu(x, negative_slope),
    "`x` where it is positive, else `negative_slope * x`.",
)
relu6 = _activation("relu6", jax.nn.relu6, "`x` between 0 and 6.")
elu = _activation("elu", jax.nn.elu, "`x` where it is positive, else `alpha * (exp(x) - 1)`.")
selu = _activation("selu", jax.nn.selu, "`elu` scaled so that activations keep mean 0 and variance 1.")
celu = _activation("celu", jax.nn.celu, "`x` where it is positive, else `alpha * (exp(x / alpha) - 1)`.")
silu = _activation("silu", jax.nn.silu, "`x * sigmoid(x)`, also called swish.", "swish")
gelu = _activation(
    "gelu",
    lambda x, approximate=False: jax.nn.gelu(x, approximate),
    "`x` times the chance that a standard normal number is below it; `approximate` by a tanh.",
)
mish = _activation("mish", jax.nn.mish, "`x * tanh(softplus(x))`.")
glu = _activation(
    "glu", jax.nn.glu, "The first half of `x` along `axis` times the sigmoid of the second half."
)

sigmoid = _activation("sigmoid", jax.nn.sigmoid, "`1 / (1 + exp(-x))`.")
hard_sigmoid = _activation("hard_sigmoid", jax.nn.hard_sigmoid, "`x / 6 + 1 / 2` between 0 and 1.")
log_sigmoid = _activation("log_sigmoid", jax.nn.log_sigmoid, "`log(sigmoid(x))`.")
sparse_sigmoid = _activation("sparse_sigmoid", jax.nn.sparse_sigmoid, "`(x + 1) / 2` between 0 and 1.")
hard_silu = _activation(
    "hard_silu", jax.nn.hard_silu, "`x * hard_sigmoid(x)`, also called hard swish.", "hard_swish"
)
tanh = _activation("tanh", jnp.tanh, "Hyperbolic tangent.")
hard_tanh = _activation("hard_tanh", jax.nn.hard_tanh, "`x` between -1 and 1.")
tanh_shrink = _activation("tanh_shrink", lambda x: x - jnp.tanh(x), "`x - tanh(x)`.")
softsign = _activation("softsign", jax.nn.soft_sign, "`x / (1 + |x|)`.")

softplus = _activation("softplus", jax.nn.softplus, "`log(1 + exp(x))`.")
squareplus = _activation("squareplus", jax.nn.squareplus, "`(x + sqrt(x² + b)) / 2`.")
sparse_plus = _activation("sparse_plus", jax.nn.sparse_plus, "0 below -1, `x` above 1, else `(x + 1)² / 4`.")
exponential = _activation("exponential", jnp.exp, "`exp(x)`.")
soft_shrink = _activation(
    "soft_shrink",
    lambda x, threshold=0.5: jnp.where(
        x > threshold, x - threshold, jnp.where(x < -threshold, x + threshold, 0)
    ),
    "Move `x` towards zero by `threshold`, and no further than zero.",
)
hard_shrink = _activation(
    "hard_shrink",
    lambda x, threshold=0.5: jnp.where(jnp.abs(x) > threshold, x, 0),
    "`x` where it is further than `threshold` from zero, else 0.",
)
threshold = _activation(
    "threshold",
    lambda x, threshold, default_value: jnp.where(x > threshold, x, default_value),
    "`x` where it is above `threshold`, else `default_value`.",
)

softmax = _activation("softmax", jax.nn.softmax, "`exp(x)` divided by its sum along `axis`: probabilities.")
log_softmax = _activation("log_softmax", jax.nn.log_softmax, "`log(softmax(x))` along `axis`.")
sparsemax = _activation(
    "sparsemax",
    _sparsemax,
    """The probabilities along `axis` that lie nearest to `x`, most of them zero.

    Source: Martins and Astudillo, 2016, From Softmax to Sparsemax. Keras 3.15 means the same function, but
    what it returns sums to 1 only where a single value is left.
    """,
)

swish, hard_swish = silu, hard_silu


def get(identifier: Any) -> Any:
    """The activation a name, config, class or function stands for; None is `linear`.

    Raises:
        ArgumentError: The name is unknown; the message suggests the closest one.

    Example:
        >>> tally.activations.get("relu")(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    return resolve("activations", identifier, none=linear)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Undo `serialize`.

    Args:
        config: A name or what `serialize` gave, or Keras.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes none; `place` says where in it.
    """
    with custom_object_scope(custom_objects or {}), Reading(config):
        return get(config)
