"""Learning rates that follow the step number."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core import registry
from tally.core.dtype import floatx
from tally.core.errors import ArgumentError
from tally.core.registry import Configured


class LearningRateSchedule(Configured):
    """A function from the step number to the learning rate. Subclass it and write `__call__(self, step)`.

    Example:
        >>> class Halving(tally.optimizers.schedules.LearningRateSchedule):
        ...     def __call__(self, step):
        ...         return 0.1 * 0.5**step
        >>> optimizer = tally.optimizers.SGD(Halving())
    """

    keras_module = "keras.optimizers.schedules"

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, which may be a traced array."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, step).")


class _Decay(LearningRateSchedule):
    """What schedules with a length share: it is positive, and steps are computed with in `floatx()`."""

    def __init__(self, initial_learning_rate: float, steps: float, name: str) -> None:
        if steps <= 0:
            raise ArgumentError(
                f"{type(self).__name__} can't last {steps} steps.", do="pass a positive number of steps"
            )
        self.initial_learning_rate, self.decay_steps, self.name = initial_learning_rate, steps, name

    def __call__(self, step: Any) -> jax.Array:
        return jnp.asarray(self.rate(jnp.asarray(step, floatx())), floatx())

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        raise NotImplementedError


class _Staircase(_Decay):
    """What decays by a rate share: time in units of `decay_steps`, rounded down on request."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.decay_rate, self.staircase = decay_rate, staircase

    def periods(self, step: jax.Array) -> jax.Array:
        """How many times `decay_steps` have passed."""
        periods = step / self.decay_steps
        return jnp.floor(periods) if self.staircase else periods


class ExponentialDecay(_Staircase):
    """Multiplies the rate by a factor every so often: `initial * decay_rate ** (step / decay_steps)`.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: Steps in which the rate falls by `decay_rate`.
        decay_rate: The factor.
        staircase: Whether it falls at once after `decay_steps`, not a little at every step.
        name: Kept in the configuration.

    Source: `keras.optimizers.schedules.ExponentialDecay`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        return self.initial_learning_rate * self.decay_rate ** self.periods(step)


class InverseTimeDecay(_Staircase):
    """Divides the rate by a number that grows evenly: `initial / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: Steps in which the divisor grows by `decay_rate`.
        decay_rate: How much it grows.
        staircase: Whether it grows at once after `decay_steps`, not a little at every step.
        name: Kept in the configuration.

    Source: `keras.optimizers.schedules.InverseTimeDecay`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        return self.initial_learning_rate / (1 + self.decay_rate * self.periods(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """Keeps one rate up to and including each boundary.

    Args:
        boundaries: Last steps of all values but the last, ascending.
        values: The rates, one more than boundaries.
        name: Kept in the configuration.

    Raises:
        ArgumentError: There is not one value more than boundaries.

    Example:
        >>> schedule = tally.optimizers.schedules.PiecewiseConstantDecay([100], [0.1, 0.01])
        >>> float(schedule(100)), float(schedule(101))
        (0.10000000149011612, 0.009999999776482582)

    Source: `keras.optimizers.schedules.PiecewiseConstantDecay`.
    """

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay was given {len(boundaries)} boundaries and {len(values)} values.",
                do="pass one value more than boundaries",
            )
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step: Any) -> jax.Array:
        """The learning rate of a step."""
        step = jnp.asarray(step)
        passed = sum(step > jnp.asarray(boundary, step.dtype) for boundary in self.boundaries)
        return jnp.asarray(self.values, floatx())[passed]


class PolynomialDecay(_Decay):
    """Falls to `end_learning_rate` in `decay_steps`, along a power of the time left.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: Steps until the end rate.
        end_learning_rate: The rate from then on.
        power: 1 is a straight line.
        cycle: Whether the length, once passed, grows by `decay_steps`, so that the rate jumps up again.
        name: Kept in the configuration.

    Source: `keras.optimizers.schedules.PolynomialDecay`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.end_learning_rate, self.power, self.cycle = end_learning_rate, power, cycle

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        length = self.decay_steps
        if self.cycle:
            length = length * jnp.maximum(jnp.ceil(step / length), 1)
        left = jnp.maximum(1 - step / length, 0)  # a root of the hair below 0 that rounding leaves is NaN
        return (
            self.initial_learning_rate - self.end_learning_rate
        ) * left**self.power + self.end_learning_rate


class CosineDecay(_Decay):
    """Falls along half a cosine wave, after an optional straight warm-up.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: Steps of the fall, warm-up not counted.
        alpha: The last rate as a part of the highest.
        name: Kept in the configuration.
        warmup_target: The rate that the warm-up ends at and the fall starts from; None means no warm-up.
        warmup_steps: Steps of the warm-up.

    Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983;
        `keras.optimizers.schedules.CosineDecay`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.alpha, self.warmup_target, self.warmup_steps = alpha, warmup_target, warmup_steps

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        start, top, warmup = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        if top is None:
            return start * self._falling(step)
        rising = start + (top - start) * (step / max(warmup, 1))
        return jnp.where(step < warmup, rising, top * self._falling(step - warmup))

    def _falling(self, step: jax.Array) -> jax.Array:
        return _cosine(jnp.minimum(step, self.decay_steps) / self.decay_steps, self.alpha)


class CosineDecayRestarts(_Decay):
    """Falls along half a cosine wave again and again, each time for longer.

    Args:
        initial_learning_rate: The rate at step 0.
        first_decay_steps: Steps of the first fall.
        t_mul: How many times longer each fall is than the one before.
        m_mul: How many times higher each starts than the one before.
        alpha: The lowest rate as a part of the first.
        name: Kept in the configuration.

    Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983;
        `keras.optimizers.schedules.CosineDecayRestarts`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        super().__init__(initial_learning_rate, first_decay_steps, name)
        self.t_mul, self.m_mul, self.alpha = t_mul, m_mul, alpha

    def rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        time = step / self.decay_steps
        if self.t_mul == 1:
            restarts = jnp.floor(time)
            passed = time - restarts
        else:  # falls of lengths 1, t, t², ... end at (tⁿ - 1) / (t - 1)
            restarts = jnp.floor(
                jnp.log(1 - time * (1 - self.t_mul)) / jnp.log(jnp.asarray(self.t_mul, time.dtype))
            )
            length = self.t_mul**restarts
            passed = (time - (1 - length) / (1 - self.t_mul)) / length
        return self.initial_learning_rate * _cosine(passed, self.alpha, self.m_mul**restarts)


def _cosine(passed: jax.Array, alpha: float, height: Any = 1.0) -> jax.Array:
    """Half a cosine wave from `height` to 0 as `passed` goes from 0 to 1, squeezed to end at `alpha`."""
    return (1 - alpha) * (0.5 * height * (1 + jnp.cos(math.pi * passed))) + alpha


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """The configuration of a schedule, as a file holds it."""
    return registry.serialize(learning_rate_schedule)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> LearningRateSchedule:
    """Make a schedule from what `serialize` gave.

    Args:
        config: The configuration.
        custom_objects: Names -> classes or functions that are not this library's.

    Raises:
        SavingError: It describes nothing that can be made; `place` says where in it.
    """
    return registry.deserialize(config, custom_objects)
