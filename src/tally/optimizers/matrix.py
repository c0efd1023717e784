"""Optimizers that treat a weight as a matrix of rows and columns: Adafactor and Muon."""

import re
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from tally.core.variable import Variable
from tally.optimizers.adam import adam_movement
from tally.optimizers.base import Optimizer, Rate, Shared, Slot, Slots, toward


class Adafactor(Optimizer):
    """Adam that remembers squared gradients by their means over rows and columns.

    Args:
        learning_rate: As in `Optimizer`.
        beta_2_decay: Power of the step number by which the averages' memory grows.
        epsilon_1: Added to squared gradients.
        epsilon_2: Smallest size of a variable that movements are scaled by.
        clip_threshold: Largest root mean square of a movement before the rate.
        relative_step: Kept in the configuration. As in Keras 3, the rate is at most one over the root of the
            step number either way.
        **shared: As in `Optimizer`.

    Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235; `keras.optimizers.Adafactor`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, **shared)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """Mean squares of rows, columns and numbers; vectors hold empty places, as in Keras's files."""
        shape, lead = variable.shape, variable.lead
        if len(shape) - len(lead) < 2:
            return [[Slot("row", 0, lead, "int32"), Slot("column", 0, lead, "int32"), Slot("velocity")]]
        return [
            [Slot("row", shape=shape[:-1]), Slot("column", shape=(*shape[:-2], shape[-1])), Slot("velocity")]
        ]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Divide by the root of the reconstructed mean square, and scale to the variable's size."""
        pace = jnp.minimum(rate, 1 / jnp.sqrt(step)) * jnp.maximum(self.epsilon_2, _root_mean_square(value))
        keep = 1 - step**self.beta_2_decay
        square = jnp.square(gradient) + self.epsilon_1
        if value.ndim < 2:
            new = {"velocity": toward(slots["velocity"], square, keep)}
        else:
            row = toward(slots["row"], square.mean(-1), keep)
            column = toward(slots["column"], square.mean(-2), keep)
            shares = row / row.mean(-1, keepdims=True)
            new = {"row": row, "column": column, "velocity": shares[..., None] * column[..., None, :]}
        direction = gradient / jnp.sqrt(new["velocity"])
        return -pace * direction / jnp.maximum(1, _root_mean_square(direction) / self.clip_threshold), new


class Muon(Optimizer):
    """Moves matrices by their momentum made orthogonal, and everything else by AdamW.

    Args:
        learning_rate: As in `Optimizer`.
        adam_beta_1: AdamW's `beta_1`.
        adam_beta_2: AdamW's `beta_2`.
        adam_weight_decay: Weight decay of what AdamW moves.
        epsilon: AdamW's epsilon.
        weight_decay: Weight decay of matrices.
        exclude_layers: Patterns of paths that AdamW moves.
        exclude_embeddings: Whether AdamW moves variables with "embedding" in their path.
        muon_a: Coefficient of x in the Newton-Schulz polynomial.
        muon_b: Coefficient of its third power.
        muon_c: Coefficient of its fifth power.
        adam_lr_ratio: AdamW's learning rate as a part of Muon's.
        momentum: How much of the running sum of gradients is kept.
        ns_steps: Number of Newton-Schulz steps.
        nesterov: Whether to look ahead by one gradient.
        rms_rate: Movements are scaled to this root mean square; None leaves them.
        **shared: As in `Optimizer`.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025,
        https://arxiv.org/abs/2502.16982 (the scale); `keras.optimizers.Muon`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **shared: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **shared)
        self.adam_beta_1, self.adam_beta_2, self.adam_weight_decay = (
            adam_beta_1,
            adam_beta_2,
            adam_weight_decay,
        )
        self.epsilon, self.adam_lr_ratio = epsilon, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or ()), exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c, self.ns_steps = muon_a, muon_b, muon_c, ns_steps
        self.momentum, self.nesterov, self.rms_rate = momentum, nesterov, rms_rate

    def _is_adams(self, variable: Variable) -> bool:
        return (
            variable.ndim - len(variable.lead) != 2
            or (self.exclude_embeddings and "embedding" in variable.path.lower())
            or any(re.search(pattern, variable.path) for pattern in self.exclude_layers)
        )

    def _decay_of(self, variable: Variable) -> float | None:
        return self.adam_weight_decay if self._is_adams(variable) else self.weight_decay

    def slots(self, variable: Variable) -> list[list[Slot]]:
        """The momentum, and for AdamW the average of squares."""
        return [[Slot("momentum"), *([Slot("velocity")] if self._is_adams(variable) else [])]]

    def rule(
        self, gradient: jax.Array, value: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        """Which of the two moves a variable shows in its slots."""
        if "velocity" in slots:
            return self._adam_rule(gradient, slots, rate * self.adam_lr_ratio, step)
        momentum = self.momentum * slots["momentum"] + gradient
        direction = self.orthogonal(gradient + self.momentum * momentum if self.nesterov else momentum)
        scale = 1 if self.rms_rate is None else self.rms_rate * max(value.shape) ** 0.5
        return -rate * scale * direction, {"momentum": momentum}

    def _adam_rule(
        self, gradient: jax.Array, slots: Slots, rate: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Slots]:
        average = toward(slots["momentum"], gradient, self.adam_beta_1)
        square = toward(slots["velocity"], jnp.square(gradient), self.adam_beta_2)
        change = adam_movement(average, square, rate, step, self.adam_beta_1, self.adam_beta_2, self.epsilon)
        return change, {"momentum": average, "velocity": square}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        return {**super().get_config(), "exclude_layers": self.exclude_layers}

    def orthogonal(self, x: jax.Array) -> jax.Array:
        """Bring a matrix's singular values near 1 by Newton-Schulz steps on its shorter side."""
        is_tall = x.shape[0] > x.shape[1]
        x = x.T if is_tall else x
        x = x / (jnp.linalg.norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x.T if is_tall else x


def _root_mean_square(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
