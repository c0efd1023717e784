"""Activations, normalisation and losses of `tf.nn`."""

from typing import Any

import jax.numpy as jnp

from tally import ops
from tally.compat.names import like, named
from tally.compat.tensorflow.making import tensor
from tally.compat.tensors import sizes
from tally.core.errors import ArgumentError

for _paths, _op, _arguments in (
    ("nn.relu", ops.relu, "features"),
    ("nn.relu6", ops.relu6, "features"),
    ("nn.elu", ops.elu, "features"),
    ("nn.selu", ops.selu, "features"),
    ("nn.softplus math.softplus", ops.softplus, "features"),
    ("nn.softsign math.softsign", ops.softsign, "features"),
    ("nn.softmax", ops.softmax, "logits, axis=-1"),
    ("nn.log_softmax", ops.log_softmax, "logits, axis=-1"),
):
    like(_paths, _op, _arguments)


@named("nn.gelu")
def gelu(features: Any, approximate: bool = False) -> Any:
    """The Gaussian error linear unit, exact unless told."""
    return ops.gelu(features, approximate)


@named("nn.leaky_relu")
def leaky_relu(features: Any, alpha: Any = 0.2) -> Any:
    """The number where it is positive, else a part of it; at 0 the slope is the smaller one, as in TensorFlow."""
    x = tensor(features)
    return ops.where(ops.greater(x, 0), x, ops.multiply(x, alpha))


@named("nn.silu nn.swish")
def silu(features: Any, beta: Any = 1.0) -> Any:
    """`x * sigmoid(beta * x)`."""
    return ops.multiply(features, ops.sigmoid(ops.multiply(features, beta)))


@named("nn.crelu")
def crelu(features: Any, axis: int = -1) -> Any:
    """The positive parts of the numbers and of their negatives, one behind the other."""
    return ops.relu(ops.concatenate([tensor(features), ops.negative(features)], axis))


# -- normalisation -----------------------------------------------------------------------------------------------------
@named("nn.moments")
def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False) -> tuple[Any, Any]:
    """Mean and variance over the axes."""
    del shift  # TensorFlow doesn't use it, either
    places = sizes(axes)
    return ops.mean(x, places, keepdims), ops.var(x, places, keepdims)


@named("nn.batch_normalization")
def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any
) -> Any:
    """Normalise with given statistics, then scale and shift; all of them broadcast."""
    factor = ops.rsqrt(ops.add(variance, variance_epsilon))
    factor = factor if scale is None else ops.multiply(factor, scale)
    shift = ops.negative(ops.multiply(mean, factor))
    return ops.add(ops.multiply(x, factor), shift if offset is None else ops.add(shift, offset))


@named("nn.local_response_normalization nn.lrn")
def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: float = 1, alpha: float = 1, beta: float = 0.5
) -> Any:
    """Divide by a power of the sum of squares of neighbouring channels."""
    x = tensor(input)
    padded = ops.pad(ops.square(x), ((0, 0),) * (x.ndim - 1) + ((depth_radius, depth_radius),))
    channels = x.shape[-1]
    total = ops.zeros_like(x)
    for place in range(2 * depth_radius + 1):
        total = ops.add(total, ops.get_item(padded, (..., slice(place, place + channels))))
    return ops.divide(x, ops.power(ops.add(bias, ops.multiply(alpha, total)), beta))


@named("nn.bias_add")
def bias_add(value: Any, bias: Any, data_format: str | None = None) -> Any:
    """Add a vector to the channels."""
    x = tensor(value)
    if data_format is not None and data_format.startswith("NC"):
        bias = ops.reshape(bias, (-1, *(1,) * (x.ndim - 2)))
    return ops.add(x, bias)


# -- losses ------------------------------------------------------------------------------------------------------------
@named("nn.l2_loss")
def l2_loss(t: Any) -> Any:
    """Half the sum of squares."""
    return ops.divide(ops.sum(ops.square(t)), 2)


@named("nn.sigmoid_cross_entropy_with_logits")
def sigmoid_cross_entropy_with_logits(labels: Any = None, logits: Any = None) -> Any:
    """The cross-entropy of each number's own yes or no."""
    x = tensor(logits)
    positive = ops.subtract(ops.relu(x), ops.multiply(x, labels))
    return ops.add(positive, ops.log1p(ops.exp(ops.negative(ops.abs(x)))))


@named("nn.weighted_cross_entropy_with_logits")
def weighted_cross_entropy_with_logits(labels: Any, logits: Any, pos_weight: Any) -> Any:
    """The same, with another weight for yes."""
    x = tensor(logits)
    weight = ops.add(1, ops.multiply(ops.subtract(pos_weight, 1), labels))
    softplus = ops.add(ops.log1p(ops.exp(ops.negative(ops.abs(x)))), ops.relu(ops.negative(x)))
    return ops.add(ops.multiply(ops.subtract(1, labels), x), ops.multiply(weight, softplus))


@named("nn.softmax_cross_entropy_with_logits")
def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: int = -1) -> Any:
    """The cross-entropy of predicted classes with target probabilities; the class axis goes."""
    return ops.negative(ops.sum(ops.multiply(labels, ops.log_softmax(logits, axis)), axis))


@named("nn.sparse_softmax_cross_entropy_with_logits")
def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any) -> Any:
    """The cross-entropy of predicted classes with target class numbers.

    Raises:
        ArgumentError: The labels are not one number for each row of logits.
    """
    numbers, scores = tensor(labels), tensor(logits)
    if numbers.ndim != scores.ndim - 1:
        raise ArgumentError(
            f"The labels have {numbers.ndim} axes and the logits {scores.ndim}.",
            do="give one class number for each row of logits",
        )
    hot = ops.one_hot(numbers, scores.shape[-1], dtype=scores.dtype)
    return softmax_cross_entropy_with_logits(hot, scores)


@named("nn.compute_average_loss")
def compute_average_loss(
    per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Any:
    """The sum of the losses, weighted if asked for, divided by the number of examples."""
    losses = tensor(per_example_loss)
    weighed = losses if sample_weight is None else ops.multiply(losses, sample_weight)
    count = losses.shape[0] if global_batch_size is None else global_batch_size
    return ops.divide(ops.sum(weighed), jnp.asarray(count, losses.dtype))
