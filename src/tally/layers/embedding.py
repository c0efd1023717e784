"""Embedding: a vector for each of a number of tokens."""

from typing import Any

import jax
import jax.numpy as jnp

from tally.core.variable import Variable
from tally.layers.lora import _Adaptable
from tally.layers.options import plan_weight, read_count, resolve_options, settle


class Embedding(_Adaptable):
    """Looks up a vector for each integer.

    Args:
        input_dim: Number of tokens; inputs are 0 to `input_dim` - 1.
        output_dim: Length of the vectors.
        embeddings_initializer: What the table starts from.
        embeddings_regularizer: Function of the table that is added to the loss.
        embeddings_constraint: Function applied to the table after each update.
        mask_zero: Whether token 0 is padding that later layers skip.
        weights: Initial values: the table, or a list that holds it.
        lora_rank: If given, the table is frozen and a product of two matrices of this rank learns instead.
        lora_alpha: Numerator of the product's factor `lora_alpha / lora_rank`; the rank itself unless given.
        quantization_config: None; there is no quantised form.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`, `activity_regularizer`.

    Shapes:
        input: (batch, ...), integers
        output: (batch, ..., output_dim)

    Raises:
        ArgumentError: An option has an impossible value.

    Example:
        >>> tally.layers.Embedding(1000, 64)(tally.Input((10,))).shape
        (None, 10, 64)

    Source: Equal to `keras.layers.Embedding` on JAX: a token that isn't in the table gives a vector of NaN.
    """

    adapted = "embeddings"
    input_dim: int
    output_dim: int

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("input_length", None)  # older code gives it; the length is the input's own
        if weights is not None:
            kwargs["weights"] = weights if isinstance(weights, (list, tuple)) else [weights]
        super().__init__(
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
            **kwargs,
        )
        self.autocast = False  # a token's number must not be rounded to a shorter float
        settle(
            self,
            input_dim=read_count(self, "input_dim", input_dim),
            output_dim=read_count(self, "output_dim", output_dim),
        )
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        resolve_options(
            self,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        """Plan the table; the input's shape doesn't matter."""
        del input_shape
        shape = (self.input_dim, self.output_dim)
        self.embeddings: Variable = plan_weight(self, "embeddings", shape, ("tokens", "features"))
        self._adapt()

    def call(self, inputs: jax.Array) -> jax.Array:
        """Take the rows of the table."""
        tokens = inputs if inputs.dtype.name in ("int32", "int64") else inputs.astype("int32")
        return jnp.take(self._adapted_value(), tokens, axis=0).astype(self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """True where the token isn't 0, with `mask_zero`."""
        del previous_mask
        return jnp.not_equal(inputs, 0) if self.mask_zero else None
