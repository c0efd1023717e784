"""Layers that bring activations to mean 0 and variance 1, or weights to norm 1."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally import ops
from tally.core.dtype import epsilon as smallest
from tally.core.errors import ArgumentError, ShapeError
from tally.core.layer import InputSpec, Layer
from tally.core.variable import Variable
from tally.initializers import TruncatedNormal
from tally.kernels.normalization import normalize_batch
from tally.layers.arguments import adopt, own
from tally.layers.options import plan_weight, settle
from tally.layers.wrapper import Wrapper

Shape = tuple[int | None, ...]
_PLACES = {2: ("features",), 3: ("length", "channels"), 4: ("height", "width", "channels")}


def _wide(dtype: Any) -> Any:
    """The dtype statistics are computed in: half precision overflows on squares."""
    return jnp.promote_types(dtype, jnp.float32)


def _positions(layer: Layer, axis: int | Sequence[int], rank: int) -> list[int]:
    """The normalised axes counted from the front, in order."""
    axes = [axis] if isinstance(axis, int) else list(axis)
    for one in axes:
        if not -rank <= one < rank:
            raise ShapeError(
                f"{type(layer).__name__} '{layer.name}' normalises axis {one}, but its input has {rank} dimensions.",
                where=f"made at {layer.made_at}",
                do=f"give an axis from {-rank} to {rank - 1}",
            )
    return sorted(one % rank for one in axes)


def _axis_names(axes: Sequence[int], rank: int) -> tuple[str, ...]:
    if len(axes) == 1:
        return ("channels",)
    words = ("batch", *_PLACES.get(rank, tuple(f"axis {i}" for i in range(1, rank))))
    return tuple(words[axis] for axis in axes)


def _value(weight: Variable | None) -> jax.Array | None:
    return None if weight is None else weight.value


class _ScaledNormalization(Layer):
    """What batch, layer and group normalization share: `gamma` scales and `beta` shifts what was normalised."""

    supports_masking = True
    epsilon: float
    center: bool
    scale: bool

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of a subclass under their names; `kwargs` among them are the base class's."""
        super().__init__(**arguments.pop("kwargs"))
        adopt(self, arguments)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def _add_scale_and_shift(
        self, shape: Sequence[int | None], axes: Sequence[str], scale: bool, center: bool
    ) -> None:
        for name, wanted in (("gamma", scale), ("beta", center)):
            if wanted:
                weight = plan_weight(self, name, shape, axes)
                weight.autocast = False
                setattr(self, name, weight)

    def _scale_and_shift(self, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any) -> Any:
        factor = jax.lax.rsqrt(variance + self.epsilon)
        factor = factor if gamma is None else factor * gamma
        shift = -mean * factor if beta is None else beta - mean * factor
        return x * factor + shift


class BatchNormalization(_ScaledNormalization):
    """Normalises each channel over the batch while training, by its moving statistics afterwards.

    A frozen layer (`trainable = False`) uses and keeps its moving statistics in training, too.

    Args:
        axis: The axis of the channels.
        momentum: How much of a moving statistic stays at each training step.
        epsilon: Added to the variance.
        center, scale: Whether there is a `beta` that shifts and a `gamma` that scales.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: How they start.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: As in every layer.
        renorm: Whether training corrects the batch's statistics by running ones (batch renormalisation).
        renorm_clipping: Bounds `rmin`, `rmax`, `dmax` of that correction.
        renorm_momentum: Momentum of the running statistics used for it.
        synchronized: Whether replicas share their statistics. They always do: JAX computes over the whole batch.

    Shapes:
        input: any, with the channels on `axis`
        output: the same
        mask: the input's shape without its last axis; what it hides is left out of the statistics.

    Raises:
        ShapeError: The input has other channels than those the layer was built for.

    Source: Ioffe and Szegedy (2015), arXiv 1502.03167; Ioffe (2017), arXiv 1702.03275 for `renorm`;
        `keras.layers.BatchNormalization`.
    """

    axis: int
    momentum: float
    moving_mean: Variable
    moving_variance: Variable
    moving_mean_initializer: Any
    moving_variance_initializer: Any
    renorm: bool
    renorm_clipping: dict[str, float] | None
    renorm_momentum: float

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))
        unknown = set(renorm_clipping or {}) - {"rmin", "rmax", "dmax"}
        if unknown:
            raise ArgumentError(
                f"renorm_clipping has no bound {sorted(unknown)}.", do="use rmin, rmax and dmax"
            )

    def build(self, input_shape: Shape) -> None:
        """Make `gamma`, `beta` and the moving statistics."""
        (axis,) = _positions(self, self.axis, len(input_shape))
        channels = input_shape[axis]
        self._add_scale_and_shift((channels,), ("channels",), self.scale, self.center)
        self.moving_mean = self._add_statistic("moving_mean", self.moving_mean_initializer, channels)
        self.moving_variance = self._add_statistic(
            "moving_variance", self.moving_variance_initializer, channels
        )
        if self.renorm:
            root = _SquareRoot(self.moving_variance_initializer)
            self.moving_stddev = self._add_statistic("moving_stddev", root, channels)
            self.renorm_mean = self._add_statistic("renorm_mean", self.moving_mean_initializer, channels)
            self.renorm_stddev = self._add_statistic("renorm_stddev", root, channels)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def _add_statistic(self, name: str, initializer: Any, channels: int | None) -> Variable:
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=initializer,
            trainable=False,
            autocast=False,
            axes=("channels",),
        )

    def call(self, inputs: jax.Array, training: bool | None = None, mask: Any = None) -> jax.Array:
        """The normalised input; in training, the moving statistics move."""
        x = inputs.astype(_wide(inputs.dtype))
        gamma, beta = _value(self.gamma), _value(self.beta)
        if training and self.trainable:
            if mask is None and not self.renorm:
                y, mean, variance = normalize_batch(x, gamma, beta, axis=self.axis, epsilon=self.epsilon)
                self._move(self.moving_mean, mean, self.momentum)
                self._move(self.moving_variance, variance, self.momentum)
                return y.astype(self.compute_dtype)
            mean, variance = self._moments(x, mask)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance)
            else:
                self._move(self.moving_mean, mean, self.momentum)
                self._move(self.moving_variance, variance, self.momentum)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        spread = [1] * x.ndim
        spread[self.axis] = self.moving_mean.shape[0]
        terms = (
            None if term is None else jnp.reshape(term, spread) for term in (mean, variance, gamma, beta)
        )
        return self._scale_and_shift(x, *terms).astype(self.compute_dtype)

    def _moments(self, x: jax.Array, mask: Any) -> tuple[jax.Array, jax.Array]:
        over = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        if mask is None:
            return jnp.mean(x, over), jnp.var(x, over)
        if mask.ndim != x.ndim - 1:
            raise ShapeError(
                f"BatchNormalization '{self.name}' has a mask of {mask.ndim} dimensions for an input of {x.ndim}.",
                do="leave out the input's last axis, and no other, in the mask",
            )
        seen = jnp.broadcast_to(mask.astype(bool)[..., None], x.shape)
        count = jnp.sum(seen, over, keepdims=True, dtype=x.dtype) + smallest()
        mean = jnp.sum(jnp.where(seen, x, 0), over, keepdims=True) / count
        variance = jnp.sum(jnp.where(seen, jnp.square(x - mean), 0), over, keepdims=True) / count
        return mean.reshape(-1), variance.reshape(-1)

    def _move(self, statistic: Variable, value: jax.Array, momentum: float) -> None:
        statistic.assign(statistic.value * momentum + value * (1 - momentum))

    def _renormalize(self, mean: jax.Array, variance: jax.Array) -> tuple[Any, Any]:
        """`gamma` and `beta` that turn the batch's statistics into the running ones; moves all statistics."""
        bounds = self.renorm_clipping or {}
        deviation = jnp.sqrt(variance + self.epsilon)
        running = jnp.maximum(self.renorm_stddev.value, math.sqrt(self.epsilon))
        ratio = jnp.clip(deviation / running, bounds.get("rmin"), bounds.get("rmax"))
        distance = (mean - self.renorm_mean.value) / running
        if "dmax" in bounds:
            distance = jnp.clip(distance, -bounds["dmax"], bounds["dmax"])
        ratio, distance = jax.lax.stop_gradient((ratio, distance))
        for statistic, value in ((self.renorm_mean, mean), (self.renorm_stddev, deviation)):
            self._move(statistic, value, self.renorm_momentum)
        for statistic, value in ((self.moving_mean, mean), (self.moving_stddev, deviation)):
            self._move(statistic, value, self.momentum)
        self.moving_variance.assign(jnp.maximum(jnp.square(self.moving_stddev.value) - self.epsilon, 0))
        gamma = 1.0 if self.gamma is None else self.gamma.value
        return ratio * gamma, distance * gamma + (0.0 if self.beta is None else self.beta.value)


class _SquareRoot:
    """An initializer that gives the square root of another's values."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return jnp.sqrt(self.of(shape, dtype=dtype))


class LayerNormalization(_ScaledNormalization):
    """Normalises each example by itself, over its features.

    Args:
        axis: The axis, or axes, to normalise over; `gamma` and `beta` have their sizes.
        epsilon: Added to the variance.
        center, scale: Whether there is a `beta` that shifts and a `gamma` that scales.
        beta_initializer, gamma_initializer: How they start.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: As in every layer.
        rms_scaling: Keras's older variant: divides by the deviation without centring, and has no `beta`.

    Shapes:
        input: any
        output: the same

    Source: Ba, Kiros and Hinton (2016), arXiv 1607.06450; `keras.layers.LayerNormalization`.
    """

    axis: int | Sequence[int]
    rms_scaling: bool

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        rms_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        """Make `gamma` and `beta`."""
        settle(self, axis=[self.axis] if isinstance(self.axis, int) else sorted(self.axis))
        axes = _positions(self, self.axis, len(input_shape))
        shape = tuple(input_shape[axis] for axis in axes)
        names = _axis_names(axes, len(input_shape))
        self._add_scale_and_shift(
            shape, names, self.scale or self.rms_scaling, self.center and not self.rms_scaling
        )
        self.input_spec = InputSpec(axes={axis - len(input_shape): input_shape[axis] for axis in axes})

    def call(self, inputs: jax.Array) -> jax.Array:
        """The normalised input."""
        x = inputs.astype(_wide(inputs.dtype))
        axes = tuple(_positions(self, self.axis, x.ndim))
        spread = [x.shape[i] if i in axes else 1 for i in range(x.ndim)]
        gamma, beta = (None if w is None else w.value.reshape(spread) for w in (self.gamma, self.beta))
        variance = jnp.var(x, axes, keepdims=True)
        mean = 0.0 if self.rms_scaling else jnp.mean(x, axes, keepdims=True)
        return self._scale_and_shift(x, mean, variance, gamma, beta).astype(self.compute_dtype)


class GroupNormalization(_ScaledNormalization):
    """Normalises each example over its places and over groups of its channels.

    Args:
        groups: Number of groups; 1 is one group of all, -1 makes each channel a group (instance normalisation).
        axis: The axis of the channels.
        epsilon: Added to the variance.
        center, scale: Whether there is a `beta` that shifts and a `gamma` that scales.
        beta_initializer, gamma_initializer: How they start.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: As in every layer.

    Raises:
        ShapeError: The channels can't be divided into that many groups.

    Source: Wu and He (2018), arXiv 1803.08494; `keras.layers.GroupNormalization`.
    """

    groups: int
    axis: int

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(own(locals()))
        self.autocast = False
        if groups != -1 and groups <= 0:
            raise ArgumentError(
                f"groups can't be {groups}.", do="use a number above 0, or -1 for one group per channel"
            )

    def build(self, input_shape: Shape) -> None:
        """Make `gamma` and `beta`."""
        (axis,) = _positions(self, self.axis, len(input_shape))
        channels = input_shape[axis]
        if channels is not None:
            self.groups = channels if self.groups == -1 else self.groups
            if channels % self.groups:
                divisors = [n for n in range(1, channels + 1) if channels % n == 0]
                raise ShapeError(
                    f"GroupNormalization '{self.name}' can't divide {channels} channels into {self.groups} groups.",
                    where=f"made at {self.made_at}",
                    do=f"take one of {', '.join(map(str, divisors))} groups",
                )
        self._add_scale_and_shift((channels,), ("channels",), self.scale, self.center)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def call(self, inputs: jax.Array) -> jax.Array:
        """The normalised input."""
        axis = self.axis % inputs.ndim
        channels = inputs.shape[axis]
        grouped = (*inputs.shape[:axis], self.groups, channels // self.groups, *inputs.shape[axis + 1 :])
        x = inputs.astype(_wide(inputs.dtype)).reshape(grouped)
        over = tuple(i for i in range(1, x.ndim) if i != axis)
        spread = [size if i in (axis, axis + 1) else 1 for i, size in enumerate(grouped)]
        gamma, beta = (None if w is None else w.value.reshape(spread) for w in (self.gamma, self.beta))
        mean, variance = jnp.mean(x, over, keepdims=True), jnp.var(x, over, keepdims=True)
        return (
            self._scale_and_shift(x, mean, variance, gamma, beta)
            .reshape(inputs.shape)
            .astype(self.compute_dtype)
        )


class RMSNormalization(Layer):
    """Divides each example's features by their root mean square, and scales them.

    Args:
        axis: The axis, or axes, to normalise over; the weight `scale` has their sizes.
        epsilon: Added to the mean square.

    Source: Zhang and Sennrich (2019), arXiv 1910.07467; `keras.layers.RMSNormalization`.
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, epsilon

    def build(self, input_shape: Shape) -> None:
        """Make `scale`."""
        settle(self, axis=[self.axis] if isinstance(self.axis, int) else sorted(self.axis))
        axes = _positions(self, self.axis, len(input_shape))
        shape = tuple(input_shape[axis] for axis in axes)
        names = _axis_names(axes, len(input_shape))
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", axes=names)

    def call(self, inputs: jax.Array) -> jax.Array:
        """The scaled input."""
        x = inputs.astype(_wide(inputs.dtype))
        axes = tuple(_positions(self, self.axis, x.ndim))
        spread = [x.shape[i] if i in axes else 1 for i in range(x.ndim)]
        factor = jax.lax.rsqrt(jnp.mean(jnp.square(x), axes, keepdims=True) + self.epsilon)
        return (x * factor * self.scale.value.reshape(spread)).astype(inputs.dtype)


class UnitNormalization(Layer):
    """Scales the input to a Euclidean norm of 1.

    Args:
        axis: The axis, or axes, along which the norm is taken.

    Source: `keras.layers.UnitNormalization`.
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: jax.Array) -> jax.Array:
        """The input over its norm."""
        axes = tuple(_positions(self, self.axis, inputs.ndim))
        square = jnp.sum(jnp.square(inputs), axes, keepdims=True)
        return inputs * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


class SpectralNormalization(Wrapper):
    """Keeps the largest singular value of a kernel at 1: each training call divides by an estimate of it.

    Args:
        layer: A layer with a `kernel`, or with `embeddings`.
        power_iterations: Steps of the estimate per call.

    Raises:
        ArgumentError: The layer has no such weight.

    Source: Miyato et al. (2018), arXiv 1802.05957; `keras.layers.SpectralNormalization`.
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ArgumentError(f"power_iterations can't be {power_iterations}.", do="use a number above 0")
        self.power_iterations = power_iterations

    def build(self, input_shape: Shape) -> None:
        """Build the layer, and make the estimate's vector `vector_u`."""
        super().build(input_shape)
        self.kernel = kernel = self._find_kernel()
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        self.vector_u = self.add_weight(
            name="vector_u",
            shape=(1, kernel.shape[-1]),
            initializer=TruncatedNormal(stddev=0.02),
            trainable=False,
            dtype=kernel.dtype,
            axes=("broadcast", kernel.axes[-1]),
        )

    def _find_kernel(self) -> Variable:
        for name in ("kernel", "embeddings"):
            if isinstance(getattr(self.layer, name, None), Variable):
                return getattr(self.layer, name)
        raise ArgumentError(
            f"SpectralNormalization '{self.name}' wraps {type(self.layer).__name__} '{self.layer.name}', "
            "which has neither kernel nor embeddings.",
            where=f"made at {self.made_at}",
            do="wrap a Dense, convolution or Embedding layer",
        )

    def call(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        """The layer's output; in training, its kernel is normalised first."""
        if training:
            self._normalize()
        return self.layer(inputs).astype(inputs.dtype)

    def _normalize(self) -> None:
        kernel, u = self.kernel.raw, self.vector_u.raw
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v = u
        for _ in range(self.power_iterations):
            v = ops.normalize(u @ matrix.T)
            u = ops.normalize(v @ matrix)
        u, v = jax.lax.stop_gradient((u, v))
        largest = (v @ matrix @ u.T)[0, 0]
        zero = jnp.all(kernel == 0)
        self.vector_u.assign(jnp.where(zero, self.vector_u.raw, u))
        self.kernel.assign(jnp.where(zero, kernel, kernel / jnp.where(zero, 1, largest)))
