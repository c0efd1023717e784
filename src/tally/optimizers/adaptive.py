"""Optimizers that give every number a rate by its gradients: Adagrad, Adadelta, RMSprop, Ftrl."""

from typing import Unpack

import jax
import jax.numpy as jnp

from tally.core.variable import Variable
from tally.optimizers.base import Optimizer, Rate, Shared, Slot, Slots, require, toward


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all squared gradients so far.

    Args:
        learning_rate: As in `Optimizer`.
        initial_accumulator_value: Where the sum starts.
        epsilon: Added to the sum, under the root.
        **shared: As in `Optimizer`.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html; `keras.optimizers.Adagrad`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The sum of squares."""
        return [[Slot("accumulator", self.initial_accumulator_value)]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Divide by the root of the sum."""
        total = slots["accumulator"] + jnp.square(gradient)
        return -rate * gradient / jnp.sqrt(total + self.epsilon), {"accumulator": total}


class Adadelta(Optimizer):
    """Moves as far as it has moved of late, for gradients as large as they were of late.

    Args:
        learning_rate: As in `Optimizer`; the paper has 1.
        rho: How much of the running averages is kept at each step.
        epsilon: Added to them, under the roots.
        **shared: As in `Optimizer`.

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701; `keras.optimizers.Adadelta`.
    """

    def __init__(
        self, learning_rate: Rate = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.rho, self.epsilon = rho, epsilon

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """Running averages of squared gradients and of squared movements."""
        return [[Slot("accumulated_grad"), Slot("accumulated_delta_var")]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Scale the gradient to the size of movements."""
        squares, moved = slots["accumulated_grad"], slots["accumulated_delta_var"]
        squares = toward(squares, jnp.square(gradient), self.rho)
        movement = -jnp.sqrt(moved + self.epsilon) * gradient / jnp.sqrt(squares + self.epsilon)
        moved = toward(moved, jnp.square(movement), self.rho)
        return rate * movement, {"accumulated_grad": squares, "accumulated_delta_var": moved}


class RMSprop(Optimizer):
    """Divides the gradient by the root of the running average of its square.

    Args:
        learning_rate: As in `Optimizer`.
        rho: How much of that average is kept at each step.
        momentum: How much of the last movement is kept.
        epsilon: Added to the average, under the root.
        centered: Whether to divide by the deviation from the mean gradient instead.
        **shared: As in `Optimizer`.

    Source: Hinton 2012, lecture 6e of "Neural Networks for Machine Learning"; `keras.optimizers.RMSprop`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The average of squares, the last movement, the average of gradients: those that are needed."""
        needed = {"velocity": True, "momentum": self.momentum > 0, "average_gradient": self.centered}
        return [[Slot(name)] for name, is_needed in needed.items() if is_needed]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Divide by the root of the average."""
        new = {"velocity": toward(slots["velocity"], jnp.square(gradient), self.rho)}
        square = new["velocity"]
        if self.centered:
            new["average_gradient"] = toward(slots["average_gradient"], gradient, self.rho)
            square = square - jnp.square(new["average_gradient"])
        movement = rate * gradient / jnp.sqrt(square + self.epsilon)
        if self.momentum > 0:
            movement = new["momentum"] = self.momentum * slots["momentum"] + movement
        return -movement, new


class Ftrl(Optimizer):
    """Follows the regularised leader: keeps weights at exactly zero until the gradients insist.

    Args:
        learning_rate: As in `Optimizer`.
        learning_rate_power: How the rate falls with the sum of squares; 0 keeps it, -0.5 is Adagrad's root.
        initial_accumulator_value: Where that sum starts, 0 or more.
        l1_regularization_strength: Strength of the penalty on magnitudes, 0 or more.
        l2_regularization_strength: Strength of the penalty on squares, 0 or more.
        l2_shrinkage_regularization_strength: Strength of a pull to zero that the sum of squares doesn't see.
        beta: Part of the penalty on squares that falls with the rate.
        **shared: As in `Optimizer`.

    Source: McMahan et al. 2013, https://research.google.com/pubs/archive/41159.pdf; `keras.optimizers.Ftrl`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        require(
            learning_rate_power <= 0, f"learning_rate_power must be 0 or less, not {learning_rate_power}."
        )
        self.learning_rate_power, self.beta = learning_rate_power, beta
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        for name in (
            "initial_accumulator_value",
            "l1_regularization_strength",
            "l2_regularization_strength",
            "l2_shrinkage_regularization_strength",
        ):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, not {getattr(self, name)}.")

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The sum of squared gradients, and the linear term of what is minimised."""
        return [[Slot("accumulator", self.initial_accumulator_value), Slot("linear")]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Solve for the weight that minimises all losses so far, linearised, with both penalties."""
        before, after = slots["accumulator"], slots["accumulator"] + jnp.square(gradient)
        curvature = after**-self.learning_rate_power / rate
        pulled = gradient + 2 * self.l2_shrinkage_regularization_strength * value
        growth = (after**-self.learning_rate_power - before**-self.learning_rate_power) / rate
        linear = slots["linear"] + pulled - growth * value
        penalty = 2 * self.l2_regularization_strength + self.beta / rate
        threshold = self.l1_regularization_strength
        solution = (jnp.clip(linear, -threshold, threshold) - linear) / (curvature + penalty)
        return solution - value, {"accumulator": after, "linear": linear}
