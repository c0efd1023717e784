"""Optimizers that move along the gradient or its running average: SGD and Lion."""

from typing import Unpack

import jax
import jax.numpy as jnp

from tally.core.variable import Variable
from tally.optimizers.base import Optimizer, Rate, Shared, Slot, Slots, require, toward


class SGD(Optimizer):
    """Moves against the gradient, optionally with momentum.

    Args:
        learning_rate: As in `Optimizer`.
        momentum: How much of the last movement is kept, 0 to 1.
        nesterov: Whether to look ahead by one movement.
        **shared: As in `Optimizer`.

    Source: `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        require(0 <= momentum <= 1, f"momentum must lie between 0 and 1, not at {momentum}.")
        self.momentum, self.nesterov = momentum, nesterov

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The last movement."""
        return [[Slot("momentum")]] if self.momentum else []

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Add to the movement and follow it."""
        if not self.momentum:
            return -rate * gradient, {}
        movement = self.momentum * slots["momentum"] - rate * gradient
        ahead = self.momentum * movement - rate * gradient
        return ahead if self.nesterov else movement, {"momentum": movement}


class Lion(Optimizer):
    """Moves every number by the same amount, in the direction of a running average.

    Args:
        learning_rate: As in `Optimizer`; a third to a tenth of what Adam takes.
        beta_1: How much of the average is kept in the direction of this step, above 0 and at most 1.
        beta_2: How much of the average is kept for the next step.
        **shared: As in `Optimizer`.

    Source: Chen et al. 2023, https://arxiv.org/abs/2302.06675; `keras.optimizers.Lion`.
    """

    def __init__(
        self, learning_rate: Rate = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(learning_rate, **shared)
        require(0 < beta_1 <= 1, f"beta_1 must lie above 0 and not above 1, not at {beta_1}.")
        self.beta_1, self.beta_2 = beta_1, beta_2

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The running average of gradients."""
        return [[Slot("momentum")]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Follow the sign of the average."""
        average = slots["momentum"]
        direction = jnp.sign(self.beta_1 * average + (1 - self.beta_1) * gradient)
        return -rate * direction, {"momentum": toward(average, gradient, self.beta_2)}
