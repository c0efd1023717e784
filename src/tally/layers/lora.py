"""Low-rank adaptation: a frozen weight plus the product of two small matrices, which alone learn."""

from typing import Any, ClassVar

import jax

from tally.core.errors import UnbuiltError
from tally.core.layer import Layer
from tally.core.variable import Variable
from tally.layers.options import call_by_name, read_count, refuse


class _Adaptable(Layer):
    """A layer whose main weight can be adapted with few parameters.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
    """

    adapted: ClassVar[str] = "kernel"

    def __init__(
        self,
        *,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if quantization_config is not None:
            raise refuse(self, "has no quantised form.", "leave quantization_config out")
        self.lora_rank = None if lora_rank is None else read_count(self, "lora_rank", lora_rank)
        self.lora_alpha, self.lora_enabled = lora_alpha, False

    def _adapt(self) -> None:
        """At the end of `build`: adapt the weight where the constructor asked for it."""
        if self.lora_rank is not None:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freeze the main weight and let the product of two matrices of rank `rank` learn in its place.

        Args:
            rank: Columns of the first matrix and rows of the second.
            lora_alpha: The product is multiplied by `lora_alpha / rank`; the rank itself unless given.
            a_initializer: What the first matrix starts from.
            b_initializer: What the second starts from; zeros leave the layer as it was.

        Raises:
            UnbuiltError: The weight doesn't exist yet.
            ArgumentError: The weight is adapted already, or has a constraint, which the sum needn't meet.
        """
        if not hasattr(self, self.adapted):
            raise UnbuiltError(
                f"{call_by_name(self)} has no weight to adapt yet.", do="build it first, or give lora_rank"
            )
        weight: Variable = getattr(self, self.adapted)
        if weight.constraint is not None:
            advice = f"leave {self.adapted}_constraint out"
            raise refuse(self, "can't be adapted: its weight has a constraint.", advice)
        if self.lora_enabled:
            raise refuse(self, "is adapted already.", "call enable_lora once for each layer")
        self.lora_rank, self.lora_enabled = read_count(self, "rank", rank), True
        self.lora_alpha = self.lora_rank if lora_alpha is None else lora_alpha
        self._arguments.update(lora_rank=self.lora_rank, lora_alpha=self.lora_alpha)
        *inner, last = weight.shape
        *inner_axes, last_axis = weight.axes
        for part, shape, axes, initializer in (
            ("a", (*inner, self.lora_rank), (*inner_axes, "rank"), a_initializer),
            ("b", (self.lora_rank, last), ("rank", last_axis), b_initializer),
        ):
            name = f"lora_{self.adapted}_{part}"
            options = {"dtype": "float32", "regularizer": weight.regularizer}
            setattr(self, name, self.add_weight(shape, initializer, name=name, axes=axes, **options))
        weight.trainable = False

    def _adapted_value(self) -> jax.Array:
        """The weight the layer computes with."""
        value = getattr(self, self.adapted).value
        if self.lora_rank is None or self.lora_alpha is None or not self.lora_enabled:
            return value
        a, b = (getattr(self, f"lora_{self.adapted}_{part}").value for part in "ab")
        return value + (self.lora_alpha / self.lora_rank * (a @ b)).astype(value.dtype)
