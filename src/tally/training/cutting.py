"""Prediction in parts of a batch: few enough examples that the processor's cache holds them from layer to layer.

A net of depthwise convolutions computes little for each number that it reads, and so waits for the memory between its
layers. Cut into parts, a batch of 64 takes a fifth to a quarter less of the processor's time on blocks of MobileNet
and Xception (`python -m benchmarks.cutting` prints it). Nets of dense convolutions compute enough for each number not
to wait. While training, what every layer makes is kept, and there is nothing to gain either.
"""

import math
import os
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from tally import layers
from tally.core.symbol import KerasTensor, Node, leaves

CACHE = 3 * 2**19
"""Bytes that the largest array between two layers may take, for each core."""

_SEPARABLE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
_BY_EXAMPLE = frozenset(
    (
        *_SEPARABLE,
        *(layers.InputLayer, layers.Identity, layers.Rescaling, layers.Normalization),
        *(layers.Conv1D, layers.Conv2D, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Dense),
        *(layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization),
        *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax),
        *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.GaussianNoise),
        *(layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D),
        *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
        *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
        *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
        *(layers.Flatten, layers.Reshape, layers.ZeroPadding1D, layers.ZeroPadding2D),
        *(layers.Cropping1D, layers.Cropping2D, layers.UpSampling1D, layers.UpSampling2D),
    )
)
"""Layers that compute each example by itself when they don't train; a class derived from one may do as it likes."""


def part_of(model: Any, x: Any) -> int | None:
    """How many examples a part of a batch has best; None where the batch is best computed as a whole.

    Args:
        model: Computes the batch.
        x: The batch, as tracers while the step is compiled.
    """
    arrays = leaves(x)
    is_compiled = all(isinstance(array, Tracer) and array.ndim for array in arrays)
    if not arrays or not is_compiled or jax.default_backend() != "cpu":
        return None
    batch, largest = arrays[0].shape[0], _largest(model)
    if largest is None or any(array.shape[0] != batch for array in arrays) or batch * largest <= _cache():
        return None
    part = max(1, _cache() // largest)
    return next(size for size in range(part, 0, -1) if batch % size == 0)


def compute_in_parts(model: Any, x: Any, part: int) -> Any:
    """The outputs for a batch, one part after another.

    Args:
        model: Computes each example by itself.
        x: The batch.
        part: Examples in a part; divides those of the batch.
    """
    cut = jax.tree.map(lambda array: array.reshape(-1, part, *array.shape[1:]), x)
    made = jax.lax.map(model, cut)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), made)


def largest_kernel(model: Any) -> int:
    """Bytes of the largest kernel of an image convolution; 0 where there is none."""
    kernels = [variable for variable in model.variables if len(variable.shape) == 4]
    return max((np.dtype(kernel.dtype).itemsize * math.prod(kernel.shape) for kernel in kernels), default=0)


def _largest(model: Any) -> int | None:
    """Bytes of the largest array that a model makes for one example, if it is worth cutting and may be cut."""
    graph = getattr(model, "_graph", None)
    if graph is None or not type(model).call.__module__.startswith("tally.models."):
        return None
    if not any(type(operation) in _SEPARABLE for operation in graph.operations):
        return None
    if not all(map(_is_by_example, graph.nodes)):
        return None
    made = [symbol.shape[1:] for node in graph.nodes for symbol in leaves(node.outputs)]
    return None if any(None in shape for shape in made) else 4 * max(map(math.prod, made))


def _is_by_example(node: Node) -> bool:
    """Whether a use of a layer surely makes each example's outputs of that example's inputs alone."""
    layer = node.operation
    if type(layer) not in _BY_EXAMPLE or layer.activity_regularizer is not None or node.kwargs:
        return False
    given, made = leaves(node.args), leaves(node.outputs)
    if any(not isinstance(leaf, KerasTensor) for leaf in given):
        return False
    axes = getattr(layer, "axis", None)
    axes = axes if isinstance(axes, (tuple, list)) else () if axes is None else (axes,)
    activation = getattr(layer, "activation", None)
    is_ours = activation is None or (getattr(activation, "__module__", None) or "").startswith("tally.")
    return is_ours and layer.compute_dtype == "float32" and all(axis % made[0].ndim for axis in axes)


def _cache() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return CACHE * (len(affinity(0)) if affinity else os.cpu_count() or 1)
