"""How weights start: each initializer is a function of a shape, a dtype and a random key."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tally.core import drawing
from tally.core.drawing import Elements
from tally.core.dtype import standardize_dtype
from tally.core.errors import ArgumentError, SavingError, ShapeError
from tally.core.random import SeedGenerator, draw_key
from tally.core.reading import Reading
from tally.core.registry import Configured, custom_object_scope, publish, resolve
from tally.core.registry import serialize as serialize
from tally.core.variable import as_array


class Initializer(Configured):
    """What every initializer shares. Subclass it and write `__call__(self, shape, dtype=None)`.

    A subclass whose `__call__` also takes `key` must be a pure function of it: its weights are then drawn in
    one compiled call with all others of the model. One that doesn't is called alone and may do what it likes.

    Example:
        >>> class Halves(tally.initializers.Initializer):
        ...     def __call__(self, shape, dtype=None):
        ...         return jnp.full(shape, 0.5, dtype)
        >>> tally.layers.Dense(3, kernel_initializer=Halves())
        <Dense name=dense...>
    """

    takes_key: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.takes_key = "key" in inspect.signature(cls.__call__).parameters

    def signature(self) -> Any:
        """What tells initializers apart: weights of equal signature, shape and dtype are drawn together."""
        try:
            return type(self), repr(self.get_config())
        except SavingError:  # an argument that can't be written can't be compared either
            return self

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """The first value of a weight of this shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, shape, dtype=None).")

    def elements(self, shape: tuple[int, ...]) -> Elements | None:
        """How each number is drawn, where all are drawn alike and apart from each other; None where they aren't.

        Args:
            shape: The weight's.
        """
        return None

    def clone(self) -> "Initializer":
        """A new initializer with the same arguments."""
        return type(self).from_config(self.get_config())

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return f"{type(self).__name__}({arguments})"


class _Fixed(Initializer):
    """The value follows from the shape alone; a subclass says it in `fill`."""

    def __call__(
        self, shape: Sequence[int], dtype: Any = None, key: jax.Array | None = None, **_: Any
    ) -> jax.Array:
        return self.fill(tuple(shape), standardize_dtype(dtype))

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        raise NotImplementedError


class Zeros(_Fixed):
    """All zeros.

    Example:
        >>> tally.initializers.Zeros()((2,))
        Array([0., 0.], dtype=float32)
    """

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """Zeros of this shape."""
        return jnp.zeros(shape, dtype)

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Zeros."""
        return Elements("constant", 0)


class Ones(_Fixed):
    """All ones."""

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """Ones of this shape."""
        return jnp.ones(shape, dtype)

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Ones."""
        return Elements("constant", 1)


class Constant(_Fixed):
    """One value everywhere.

    Args:
        value: A number, or an array that broadcasts to the weight's shape.
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """The value, broadcast to this shape."""
        return jnp.full(shape, as_array(self.value, dtype))

    def elements(self, shape: tuple[int, ...]) -> Elements | None:
        """The value, if it is one number."""
        return Elements("constant", self.value) if isinstance(self.value, (bool, int, float)) else None


class Identity(_Fixed):
    """A multiple of the identity matrix; for weights of two dimensions.

    Args:
        gain: What stands on the diagonal.

    Raises:
        ShapeError: The weight hasn't two dimensions.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """The diagonal matrix of this shape."""
        if len(shape) != 2:
            raise ShapeError(
                f"Identity fills matrices, but the weight has shape {shape}.", do="use Orthogonal or Zeros"
            )
        return self.gain * jnp.eye(*shape, dtype=dtype)


class STFT(_Fixed):
    """The kernel with which a 1D convolution computes one side of a short-time Fourier transform.

    The weight's shape is (window length, 1, frequencies // 2 + 1).

    Args:
        side: `"real"` or `"imag"`: cosines or sines.
        window: Name of a window of `scipy.signal.windows`, its values, or None for none.
        scaling: `"density"` divides by the window's L2 norm, `"spectrum"` by its L1 norm, None by nothing.
        periodic: Whether the window is periodic rather than symmetric.

    Raises:
        ArgumentError: A side, window or scaling of another name.
    """

    def __init__(
        self,
        side: str = "real",
        window: Any = "hann",
        scaling: str | None = "density",
        periodic: bool = False,
    ) -> None:
        if side not in ("real", "imag"):
            raise ArgumentError(f"STFT has no side '{side}'.", do="use 'real' or 'imag'")
        if scaling not in (None, "density", "spectrum"):
            raise ArgumentError(f"STFT has no scaling '{scaling}'.", do="use 'density', 'spectrum' or None")
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def fill(self, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """Windowed cosines or sines, one frequency per filter."""
        length, _, bins = shape
        angles = -2 * np.pi * np.arange(length)[:, None] * np.arange(bins) / (2 * (bins - 1))
        kernel = np.cos(angles) if self.side == "real" else np.sin(angles)
        if self.window is not None:
            window = self._window_values(length)
            norm = {"density": np.linalg.norm(window), "spectrum": np.abs(window).sum(), None: 1.0}[
                self.scaling
            ]
            kernel *= window[:, None] / norm
        return jnp.asarray(kernel[:, None, :], dtype)

    def _window_values(self, length: int) -> np.ndarray:
        if isinstance(self.window, str):
            from scipy.signal import get_window

            return np.asarray(get_window(self.window, length, self.periodic))
        window = np.asarray(self.window, "float64")
        if window.shape != (length,):
            raise ShapeError(f"The window has shape {window.shape}, but the kernel is {length} samples long.")
        return window


class _Random(Initializer):
    """Values drawn from a key; a subclass says how, of each number in `elements` or of all together in `sample`."""

    def __init__(self, seed: "int | SeedGenerator | None" = None) -> None:
        if not (seed is None or isinstance(seed, (int, np.integer, SeedGenerator))):
            raise ArgumentError(
                f"A seed can't be {seed!r}.", do="pass an integer, a tally.random.SeedGenerator, or None"
            )
        self.seed = seed
        if isinstance(seed, SeedGenerator):
            self.takes_key = False  # each draw moves the generator on, so it is no function of a key

    def __call__(
        self, shape: Sequence[int], dtype: Any = None, key: jax.Array | None = None, **_: Any
    ) -> jax.Array:
        if key is None or self.seed is not None:
            key = draw_key(self.seed)
        return self.sample(key, tuple(shape), standardize_dtype(dtype))

    def sample(self, key: jax.Array, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """All values of a weight."""
        elements = self.elements(shape)
        if elements is None:
            raise NotImplementedError(
                f"{type(self).__name__} says neither in elements nor in sample how it draws."
            )
        return drawing.sample(elements, key, shape, dtype)

    @property
    def _own_seed(self) -> int | None:
        return int(self.seed) if isinstance(self.seed, (int, np.integer)) else None


class RandomNormal(_Random):
    """Draws from a normal distribution.

    Args:
        mean: Centre of the distribution.
        stddev: Its standard deviation.
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Normal values."""
        return Elements("normal", self.stddev, self.mean, self._own_seed)


class TruncatedNormal(RandomNormal):
    """Draws from a normal distribution that is cut off two `stddev` away from the mean.

    Args:
        mean: Centre of the distribution.
        stddev: Its standard deviation before it is cut off.
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
    """

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Normal values, none further than two standard deviations away."""
        return Elements("truncated_normal", self.stddev, self.mean, self._own_seed)


class RandomUniform(_Random):
    """Draws each value between two bounds with equal chance.

    Args:
        minval: Smallest value.
        maxval: Upper bound, itself never drawn.
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Uniform values."""
        return Elements("uniform", self.minval, self.maxval, self._own_seed)


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """How many inputs reach one output of a weight, and how many outputs one input reaches.

    Args:
        shape: The weight's shape; by default its last two axes are inputs and outputs, those before them
            positions of a kernel, which count for both.
        input_axes: The axes that are inputs, where the default doesn't fit; needs `output_axes`.
        output_axes: The axes that are outputs.
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    positions = math.prod(shape[:-2])
    return shape[-2] * positions, shape[-1] * positions


_TRUNCATED_STDDEV = 0.87962566103423978
"""Standard deviation of a standard normal distribution cut off at two: sqrt(1 - 4 φ(2) / (2 Φ(2) - 1))."""


class VarianceScaling(_Random):
    """Draws with a variance of `scale / fan`, so that signals keep their size from layer to layer.

    Args:
        scale: Variance times fan.
        mode: Which fan: `"fan_in"`, `"fan_out"` or their mean, `"fan_avg"`.
        distribution: `"truncated_normal"` (or `"normal"`), `"untruncated_normal"` or `"uniform"`.
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Raises:
        ArgumentError: The scale isn't positive, or the mode or distribution isn't one of these.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0:
            raise ArgumentError(f"scale must be positive, not {scale}.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ArgumentError(f"There is no mode '{mode}'.", do="use 'fan_in', 'fan_out' or 'fan_avg'")
        distribution = {"normal": "truncated_normal"}.get(distribution.lower(), distribution.lower())
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ArgumentError(
                f"There is no distribution '{distribution}'.",
                do="use 'truncated_normal', 'untruncated_normal' or 'uniform'",
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Values of the wanted variance."""
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * stddev
            return Elements("uniform", -limit, limit, self._own_seed)
        if self.distribution == "untruncated_normal":
            return Elements("normal", stddev, 0.0, self._own_seed)
        return Elements("truncated_normal", stddev / _TRUNCATED_STDDEV, 0.0, self._own_seed)


class _Scaled(VarianceScaling):
    """Variance scaling with fixed arguments, which a subclass names."""

    fixed: ClassVar[tuple[float, str, str]]

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(*self.fixed, seed, input_axes, output_axes)


class GlorotUniform(_Scaled):
    """Draws from ±sqrt(6 / (fan in + fan out)), uniformly; also called Xavier. What most layers start with.

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward networks.
    """

    fixed = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Draws from a truncated normal distribution of variance 2 / (fan in + fan out).

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward networks.
    """

    fixed = (1.0, "fan_avg", "truncated_normal")


class LecunNormal(_Scaled):
    """Draws from a truncated normal distribution of variance 1 / fan in; made for `selu`.

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: Klambauer et al., 2017, Self-Normalizing Neural Networks.
    """

    fixed = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Draws from ±sqrt(3 / fan in), uniformly.

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: Klambauer et al., 2017, Self-Normalizing Neural Networks.
    """

    fixed = (1.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Draws from a truncated normal distribution of variance 2 / fan in; made for `relu`.

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: He et al., 2015, Delving Deep into Rectifiers.
    """

    fixed = (2.0, "fan_in", "truncated_normal")


class HeUniform(_Scaled):
    """Draws from ±sqrt(6 / fan in), uniformly; made for `relu`.

    Args:
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.
        input_axes: Axes of the weight that are inputs, see `compute_fans`.
        output_axes: Axes of the weight that are outputs.

    Source: He et al., 2015, Delving Deep into Rectifiers.
    """

    fixed = (2.0, "fan_in", "uniform")


class Orthogonal(_Random):
    """Draws a matrix whose columns (or rows, where these are fewer) are orthonormal, then scales it.

    A weight of more dimensions is the matrix (all axes but the last, last axis), reshaped.

    Args:
        gain: Factor.
        seed: An integer gives the same values each time, a `SeedGenerator` its next ones, None new ones.

    Raises:
        ShapeError: The weight has fewer than two dimensions.

    Source: Saxe et al., 2014, Exact solutions to the nonlinear dynamics of learning in deep linear networks.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def sample(self, key: jax.Array, shape: tuple[int, ...], dtype: str) -> jax.Array:
        """The Q of a random matrix, with the signs that make every Q equally likely."""
        if len(shape) < 2:
            raise ShapeError(
                f"Orthogonal fills matrices, but the weight has shape {shape}.", do="use another initializer"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        precise = "float64" if dtype == "float64" else "float32"  # shorter floats have no QR decomposition
        tall = jax.random.normal(key, (max(rows, columns), min(rows, columns)), precise)
        q, r = jnp.linalg.qr(tall)
        q = q * jnp.where(jnp.diag(r) < 0, -1.0, 1.0).astype(precise)
        return (self.gain * (q.T if rows < columns else q)).reshape(shape).astype(dtype)


IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT
zeros, ones, constant, identity, stft = Zeros, Ones, Constant, Identity, STFT
random_normal, truncated_normal, random_uniform = RandomNormal, TruncatedNormal, RandomUniform
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
he_uniform, he_normal = HeUniform, HeNormal

publish(Zeros, "zero", "zeros")
publish(Ones, "one", "ones")
publish(RandomNormal, "normal", "random_normal")
publish(RandomUniform, "uniform", "random_uniform")
publish(Identity, "IdentityInitializer")
publish(Orthogonal, "OrthogonalInitializer")
publish(STFT, "STFTInitializer")


def get(identifier: Any) -> Any:
    """The initializer a name, config, class or function stands for; None stays None.

    Raises:
        ArgumentError: The name is unknown; the message suggests the closest one.

    Example:
        >>> tally.initializers.get("he_normal")
        HeNormal(seed=None, input_axes=None, output_axes=None)
    """
    return resolve("initializers", identifier)


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
