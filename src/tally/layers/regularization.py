"""Layers that disturb activations while training, so that a model can't lean on any one; and a penalty on them."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tally.core.dtype import standardize_data_format
from tally.core.errors import ArgumentError
from tally.core.layer import InputSpec, Layer
from tally.core.random import SeedGenerator
from tally.regularizers import L1L2

Shape = tuple[int | None, ...]


def drop(x: jax.Array, rate: float, key: jax.Array, shape: Sequence[Any] | None = None) -> jax.Array:
    """Set a share of the entries to 0 and scale the rest, so that the expected value stays.

    Args:
        x: Any array.
        rate: Share of the entries to drop, from 0 to 1.
        key: A JAX key.
        shape: Sizes of the noise where they differ from the input's: an axis of size 1 drops as a whole.
    """
    if rate >= 1:
        return jnp.zeros_like(x)
    kept = jax.random.bernoulli(key, 1 - rate, x.shape if shape is None else tuple(shape))
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


class _Noise(Layer):
    """What every layer of noise shares: it works in training alone, and owns a seed if there is anything to draw."""

    supports_masking = True
    _amount: ClassVar[str] = "rate"

    def __init__(self, amount: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= amount <= 1:
            raise ArgumentError(
                f"{type(self).__name__} '{self.name}' has {self._amount}={amount}.",
                where=f"made at {self.made_at}",
                do="use a number from 0 to 1",
            )
        setattr(self, self._amount, amount)
        self.amount, self.seed = amount, seed
        if amount > 0:
            self.seed_generator = SeedGenerator(seed)

    def call(self, inputs: jax.Array, training: bool = False) -> jax.Array:
        """The disturbed input in training, else the input itself."""
        return self._disturb(inputs, self.seed_generator.key()) if training and self.amount > 0 else inputs

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        raise NotImplementedError


def _filled(noise_shape: Sequence[int | None] | None, x: jax.Array) -> tuple[Any, ...]:
    """The noise's sizes, with the input's where None is given."""
    sizes = noise_shape or (None,) * x.ndim
    return tuple(have if size is None else size for size, have in zip(sizes, x.shape, strict=True))


class Dropout(_Noise):
    """Sets a share of its inputs to 0 while training and scales the others up, so that the expected sum stays.

    Args:
        rate: Share to drop, from 0 to 1.
        noise_shape: Sizes of the noise: 1 where an axis is dropped as a whole, None where each entry is by itself.
        seed: An integer makes the draws repeatable.

    Raises:
        ArgumentError: The rate is not from 0 to 1.

    Source: Srivastava et al. (2014); `keras.layers.Dropout`.
    """

    rate: float

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return drop(x, self.rate, key, _filled(self.noise_shape, x))


class _SpatialDropout(_Noise):
    """Drops whole channels; a subclass says how many axes of places there are."""

    rank: ClassVar[int]
    data_format = "channels_last"

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        places = (1,) * self.rank
        last = self.data_format == "channels_last"
        return drop(
            x, self.amount, key, (x.shape[0], *places, x.shape[-1]) if last else (*x.shape[:2], *places)
        )


class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of a sequence while training.

    Args:
        rate: Share of the channels to drop, from 0 to 1.
        seed: An integer makes the draws repeatable.

    Shapes:
        input: (batch, length, channels)
        output: the same

    Source: Tompson et al. (2015), arXiv 1411.4280; `keras.layers.SpatialDropout1D`.
    """

    rank = 1

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(rate, seed, name=name, dtype=dtype)
        self.input_spec = InputSpec(ndim=3)


class _SpatialDropoutOfImages(_SpatialDropout):
    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, seed, name=name, dtype=dtype)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)


class SpatialDropout2D(_SpatialDropoutOfImages):
    """Drops whole channels of an image while training.

    Args:
        rate: Share of the channels to drop, from 0 to 1.
        data_format: `channels_last` or `channels_first`.
        seed: An integer makes the draws repeatable.

    Shapes:
        input: (batch, height, width, channels)
        output: the same

    Source: Tompson et al. (2015), arXiv 1411.4280; `keras.layers.SpatialDropout2D`.
    """

    rank = 2


class SpatialDropout3D(_SpatialDropoutOfImages):
    """Drops whole channels of a volume while training.

    Args:
        rate: Share of the channels to drop, from 0 to 1.
        data_format: `channels_last` or `channels_first`.
        seed: An integer makes the draws repeatable.

    Shapes:
        input: (batch, depth, height, width, channels)
        output: the same

    Source: Tompson et al. (2015), arXiv 1411.4280; `keras.layers.SpatialDropout3D`.
    """

    rank = 3


class GaussianNoise(_Noise):
    """Adds normal noise of mean 0 while training.

    Args:
        stddev: Standard deviation of the noise, from 0 to 1.
        seed: An integer makes the draws repeatable.

    Source: `keras.layers.GaussianNoise`.
    """

    _amount = "stddev"

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(stddev, seed, **kwargs)

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return x + self.amount * jax.random.normal(key, x.shape, x.dtype)


class GaussianDropout(_Noise):
    """Multiplies by normal noise of mean 1 while training, with the variance dropout of that rate has.

    Args:
        rate: Rate of the dropout it stands for, from 0 to 1.
        seed: An integer makes the draws repeatable.

    Source: Srivastava et al. (2014), section 10; `keras.layers.GaussianDropout`.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        deviation = math.sqrt(self.amount / (1 - self.amount))
        return x * (1 + deviation * jax.random.normal(key, x.shape, x.dtype))


class AlphaDropout(_Noise):
    """Dropout for activations of SELU: what is dropped takes its negative limit, and mean and variance stay.

    Args:
        rate: Share to drop, from 0 to 1.
        noise_shape: Sizes of the noise, as in `Dropout`.
        seed: An integer makes the draws repeatable.

    Source: Klambauer et al. (2017), arXiv 1706.02515; `keras.layers.AlphaDropout`.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = noise_shape

    def _disturb(self, x: jax.Array, key: jax.Array) -> jax.Array:
        rate = self.amount
        limit = -1.6732632423543772 * 1.0507009873554805  # SELU of minus infinity
        factor = ((1 - rate) * (1 + rate * limit**2)) ** -0.5
        kept = jax.random.bernoulli(key, 1 - rate, _filled(self.noise_shape, x))
        return factor * (jnp.where(kept, x, limit) - limit * rate)


class ActivityRegularization(Layer):
    """Hands on its input and adds a penalty on its size to the loss.

    Args:
        l1: Factor of the sum of absolute values.
        l2: Factor of the sum of squares.

    Source: `keras.layers.ActivityRegularization`.
    """

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=L1L2(l1=l1, l2=l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Any) -> Any:
        """The input itself."""
        return inputs
