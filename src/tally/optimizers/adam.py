"""Optimizers that divide the running average of gradients by their size of late: Adam and its kin."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from tally.core.variable import Variable
from tally.optimizers.base import Optimizer, Rate, Shared, Slot, Slots, require, toward


class _Moments(Optimizer):
    """What the family shares: two betas, an epsilon, running averages of gradients and of their squares."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The running averages of gradients and of their squares."""
        return [[Slot("momentum"), Slot("velocity")]]

    def moments(self, gradient: jax.Array, slots: Slots) -> Slots:
        """Both averages after this gradient."""
        return {
            "momentum": toward(slots["momentum"], gradient, self.beta_1),
            "velocity": toward(slots["velocity"], jnp.square(gradient), self.beta_2),
        }


class Adam(_Moments):
    """Moves by the running average of gradients over the root of the running average of their squares.

    Args:
        learning_rate: As in `Optimizer`.
        beta_1: How much of the average of gradients is kept at each step.
        beta_2: How much of the average of squares is kept.
        epsilon: Added to the root, after bias correction has gone into the rate (the paper's epsilon hat).
        amsgrad: Whether to divide by the largest average of squares so far.
        **shared: As in `Optimizer`.

    Example:
        >>> weight = tally.Variable([1.0])
        >>> optimizer = tally.optimizers.Adam(0.1)
        >>> optimizer.apply([jnp.array([2.0])], [weight])
        >>> round(float(weight[0]), 3)
        0.9

    Source: Kingma and Ba 2014, https://arxiv.org/abs/1412.6980; `keras.optimizers.Adam`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **shared)
        self.amsgrad = amsgrad

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """Both averages, and with `amsgrad` the largest of squares."""
        return [*super().slots(variable), *([[Slot("velocity_hat")]] if self.amsgrad else [])]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Divide the average by the root of the other, both corrected for having started at zero."""
        new = self.moments(gradient, slots)
        size = new["velocity"]
        if self.amsgrad:
            size = new["velocity_hat"] = jnp.maximum(slots["velocity_hat"], size)
        return adam_movement(new["momentum"], size, rate, step, self.beta_1, self.beta_2, self.epsilon), new


class AdamW(Adam):
    """Adam with weight decay apart from the gradient.

    Args:
        learning_rate: As in `Optimizer`.
        weight_decay: As in `Optimizer`, but needed.
        beta_1: As in `Adam`.
        beta_2: As in `Adam`.
        epsilon: As in `Adam`.
        amsgrad: As in `Adam`.
        **shared: As in `Optimizer`.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101; `keras.optimizers.AdamW`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **shared: Any,
    ) -> None:
        require(weight_decay is not None, "AdamW needs a weight_decay.", do="pass a number, or use Adam")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **shared)


class Adamax(_Moments):
    """Adam with the largest gradient of late in place of the mean square.

    Args:
        learning_rate: As in `Optimizer`.
        beta_1: How much of the average of gradients is kept at each step.
        beta_2: How much of the largest size is kept.
        epsilon: Added to the size.
        **shared: As in `Optimizer`.

    Source: Kingma and Ba 2014, section 7.1, https://arxiv.org/abs/1412.6980; `keras.optimizers.Adamax`.
    """

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The average of gradients and the largest size."""
        return [[Slot("momentum"), Slot("norm")]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Divide the corrected average by the largest size."""
        momentum = toward(slots["momentum"], gradient, self.beta_1)
        norm = jnp.maximum(self.beta_2 * slots["norm"], jnp.abs(gradient))
        change = -rate * momentum / ((1 - self.beta_1**step) * (norm + self.epsilon))
        return change, {"momentum": momentum, "norm": norm}


class Nadam(_Moments):
    """Adam that looks ahead by one movement, with a momentum that grows over the steps.

    Args:
        learning_rate: As in `Optimizer`.
        beta_1: What the momentum grows to.
        beta_2: How much of the average of squares is kept.
        epsilon: Added to the root.
        **shared: As in `Optimizer`.

    Source: Dozat 2015, http://cs229.stanford.edu/proj2015/054_report.pdf; `keras.optimizers.Nadam`.
    """

    def build(self, variables: Sequence[Variable]) -> None:
        """Plan both averages and the product of all momenta so far, which all variables share."""
        if not self.built:
            super().build(variables)
            dtype = variables[0].dtype if variables else None
            self._u_product = self.add_variable((), 1.0, dtype, name="u_product")

    def _move(self, gradients: list[jax.Array], variables: list[Variable], rate: Any) -> None:
        step = (self.iterations + 1).astype(self._u_product.dtype)
        self._u_product.assign(self._u_product.raw * self._momentum_at(step))
        super()._move(gradients, variables, rate)

    def _momentum_at(self, step: jax.Array) -> jax.Array:
        return self.beta_1 * (1 - 0.5 * 0.96**step)

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Mix this step's gradient with the average as the next step will see it."""
        new = self.moments(gradient, slots)
        now, ahead = self._momentum_at(step), self._momentum_at(step + 1)
        product = self._u_product.raw.astype(value.dtype)
        mixed = ahead * new["momentum"] / (1 - product * ahead) + (1 - now) * gradient / (1 - product)
        size = jnp.sqrt(new["velocity"] / (1 - self.beta_2**step))
        return -rate * mixed / (size + self.epsilon), new


class Lamb(_Moments):
    """Adam whose movement is as long as the variable, so that large batches train every layer at its pace.

    Args:
        learning_rate: As in `Optimizer`.
        beta_1: How much of the average of gradients is kept at each step.
        beta_2: How much of the average of squares is kept.
        epsilon: Added to the root.
        **shared: As in `Optimizer`.

    Source: You et al. 2019, https://arxiv.org/abs/1904.00962; `keras.optimizers.Lamb`.
    """

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Scale Adam's direction to the variable's norm."""
        new = self.moments(gradient, slots)
        size = jnp.sqrt(new["velocity"] / (1 - self.beta_2**step)) + self.epsilon
        direction = new["momentum"] / (1 - self.beta_1**step) / size
        length, reach = jnp.linalg.norm(value), jnp.linalg.norm(direction)
        trust = jnp.where((length > 0) & (reach > 0), length / jnp.where(reach > 0, reach, 1), 1)
        return -rate * trust * direction, new


class ScheduleFreeAdamW(_Moments):
    """Adam that averages its iterates and so needs no schedule.

    Args:
        learning_rate: As in `Optimizer`.
        beta_1: Where between the running point and the mean gradients are taken; 1 is the mean.
        beta_2: How much of the average of squares is kept.
        epsilon: Added to the root.
        warmup_steps: Steps in which the rate rises from zero.
        **shared: As in `Optimizer`.

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682; `keras.optimizers.ScheduleFreeAdamW`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **shared)
        self.warmup_steps = warmup_steps

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The running point, a copy of the variable since a training step donates both, and squares."""
        return [[Slot("momentum", lambda shape, dtype: jnp.copy(variable.raw)), Slot("velocity")]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Move the running point, average it in, and stand between both."""
        point, keep = slots["momentum"], self.beta_1
        if self.warmup_steps:
            rate = rate * jnp.minimum(step / self.warmup_steps, 1)
        velocity = toward(slots["velocity"], jnp.square(gradient), self.beta_2)
        size = jnp.sqrt(velocity / (1 - self.beta_2**step)) + self.epsilon
        moved = point - rate * gradient / size
        mean = (value - (1 - keep) * point) / keep
        mean = toward(mean, moved, 1 - 1 / step)
        return (1 - keep) * moved + keep * mean - value, {"momentum": moved, "velocity": velocity}


def adam_movement(
    average: jax.Array,
    square: jax.Array,
    rate: jax.Array,
    step: jax.Array,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> jax.Array:
    """Adam's movement for the averages of gradients and of squares after some steps."""
    rate = rate * jnp.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return -rate * average / (jnp.sqrt(square) + epsilon)
