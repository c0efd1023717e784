"""Dense layers: every output a weighted sum of all inputs."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.layer import InputSpec
from tally.core.variable import Variable
from tally.layers.lora import _Adaptable
from tally.layers.options import (
    plan_weight,
    read_count,
    refuse,
    refuse_shape,
    resolve_options,
    settle,
)


class Dense(_Adaptable):
    """Multiplies the last axis by a matrix, adds a bias and applies an activation.

    Args:
        units: Size of the output's last axis.
        activation: Function applied to the result.
        use_bias: Whether to add one number per unit.
        kernel_initializer, bias_initializer: What the weights start from.
        kernel_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        activity_regularizer: Function of the output that is added to the loss.
        kernel_constraint, bias_constraint: Functions applied to the weights after each update.
        lora_rank: If given, the kernel is frozen and a product of two matrices of this rank learns instead.
        lora_alpha: Numerator of the product's factor `lora_alpha / lora_rank`; the rank itself unless given.
        quantization_config: None; there is no quantised form.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`.

    Shapes:
        input: (batch, ..., features)
        output: (batch, ..., units)

    Raises:
        ArgumentError: An option has an impossible value.
        ShapeError: The last axis is unknown, or not the one the layer was built for.

    Example:
        >>> tally.layers.Dense(10, activation="softmax")(tally.Input((784,))).shape
        (None, 10)

    Source: Equal to `keras.layers.Dense`.
    """

    supports_masking = True
    units: int
    activation: Callable[[jax.Array], jax.Array]

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            activity_regularizer=activity_regularizer,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
            **kwargs,
        )
        settle(self, units=read_count(self, "units", units))
        self.use_bias = use_bias
        self.input_spec = InputSpec(min_ndim=2)
        resolve_options(
            self,
            activation="linear" if activation is None else activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan the kernel and the bias for the size of the input's last axis."""
        features = input_shape[-1]
        if features is None:
            raise refuse_shape(
                self,
                f"can't be built for {tuple(input_shape)}: the last axis is unknown.",
                do="give Input a size there, for instance Input((28, 28, 1)); after images of any size, "
                "replace Flatten by GlobalAveragePooling2D",
                code="T603",
            )
        self.kernel: Variable = plan_weight(self, "kernel", (features, self.units), ("features", "units"))
        self.bias = plan_weight(self, "bias", (self.units,), ("units",)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})
        self._adapt()

    def call(self, inputs: jax.Array) -> jax.Array:
        """Multiply, add the bias, apply the activation."""
        outputs = jnp.matmul(inputs, self._adapted_value())
        return self.activation(outputs if self.bias is None else outputs + self.bias.value)


_EQUATION = re.compile(
    r"(?P<before>\.{3})?[A-Za-z]+(?P<after>\.{3})?,[A-Za-z]+->(?(before)\.{3})[A-Za-z]+(?(after)\.{3})"
)
"""`input,kernel->output`, with dots at the same end of input and output or nowhere."""


class EinsumDense(_Adaptable):
    """Multiplies by a kernel along the axes that an equation names.

    Args:
        equation: `"input,kernel->output"` in letters, one for each axis, as `"abc,cd->abd"`; `...` before
            the input and the output, or after both, stands for axes that stay as they are.
        output_shape: Sizes of the output's axes without the batch and `...`; None where the input says.
        activation: Function applied to the result.
        bias_axes: Letters of the output axes that have a bias; None for no bias.
        kernel_initializer, bias_initializer: What the weights start from.
        kernel_regularizer, bias_regularizer: Functions of the weights that are added to the loss.
        kernel_constraint, bias_constraint: Functions applied to the weights after each update.
        lora_rank: If given, the kernel is frozen and a product of two tensors of this rank learns instead.
        lora_alpha: Numerator of the product's factor `lora_alpha / lora_rank`; the rank itself unless given.
        quantization_config, gptq_unpacked_column_size: None; there is no quantised form.
        **kwargs: What every layer takes: `name`, `dtype`, `trainable`, `activity_regularizer`.

    Raises:
        ArgumentError: The equation can't be read, or has a letter that comes from nowhere.
        ShapeError: The input doesn't fit the equation.

    Example:
        >>> heads = tally.layers.EinsumDense("abc,cde->abde", (None, 8, 16), bias_axes="de")
        >>> heads(tally.Input((10, 32))).shape
        (None, 10, 8, 16)

    Source: Equal to `keras.layers.EinsumDense`.
    """

    activation: Callable[[jax.Array], jax.Array]

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: Any = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config or gptq_unpacked_column_size,
            **kwargs,
        )
        self.equation, self.bias_axes = equation, bias_axes
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self._letters = self._read_equation()
        resolve_options(
            self,
            activation="linear" if activation is None else activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def _read_equation(self) -> tuple[str, str, str]:
        """The letters of input, kernel and output, dots included."""
        if not _EQUATION.fullmatch(self.equation):
            forms = "write it like 'abc,cd->abd', '...a,ab->...b' or 'ab...,bc->ac...'"
            raise refuse(self, f"can't read equation='{self.equation}'.", forms)
        inputs, kernel, outputs = re.split(",|->", self.equation)
        for part, letters, others in (
            ("kernel", kernel, inputs + outputs),
            ("output", outputs, inputs + kernel),
        ):
            lost = next((letter for letter in letters if letter not in others), None)
            if lost is not None:
                raise refuse(self, f"has '{lost}' in the {part} of '{self.equation}', but nowhere else.")
        for letter in self.bias_axes or "":
            if letter not in outputs:
                raise refuse(
                    self, f"has bias_axes='{self.bias_axes}', but the output has no axis '{letter}'."
                )
        return inputs, kernel, outputs

    def _read_sizes(self, input_shape: tuple[int | None, ...]) -> dict[str, int | None]:
        """Letter -> size, from the input and the output shape that was given."""
        inputs, _, outputs = self._letters
        named, made = inputs.strip("."), outputs.strip(".")
        elided = len(input_shape) - len(named)
        if elided < 0 or (elided and inputs == named):
            raise refuse_shape(
                self, f"names {len(named)} input axes in '{self.equation}', but was given {input_shape}."
            )
        in_front = elided if inputs.startswith(".") else 0
        sizes = dict(zip(named, input_shape[in_front:], strict=False))
        sized = made if in_front else made[1:]  # the batch is the first named axis, or one of those before it
        if len(sized) != len(self.partial_output_shape):
            raise refuse(
                self,
                f"names the output axes '{sized}' besides the batch in '{self.equation}', but has "
                f"output_shape={self.partial_output_shape}.",
                f"give {len(sized)} sizes",
            )
        for letter, size in zip(sized, self.partial_output_shape, strict=True):
            if size is not None and sizes.get(letter, size) not in (size, None):
                raise refuse_shape(
                    self,
                    f"was given {sizes[letter]} on axis '{letter}', but has {size} there in output_shape.",
                )
            sizes[letter] = sizes.get(letter) if size is None else size
        return sizes

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Plan the kernel and the bias for the sizes of the axes that the equation names."""
        inputs, kernel, outputs = self._letters
        sizes = self._read_sizes(tuple(input_shape))
        axes = [f"features {letter}" if letter not in outputs else f"units {letter}" for letter in kernel]
        self.kernel: Variable = plan_weight(self, "kernel", [sizes[letter] for letter in kernel], axes)
        self.bias = None
        if self.bias_axes:
            made = outputs.strip(".")
            rest = made[min(made.index(letter) for letter in self.bias_axes) :]
            after = len(input_shape) - len(inputs.strip(".")) if inputs.endswith(".") else 0
            shape = [sizes[letter] if letter in self.bias_axes else 1 for letter in rest] + [1] * after
            names = [f"units {letter}" if letter in self.bias_axes else "broadcast" for letter in rest]
            self.bias = plan_weight(self, "bias", shape, names + ["broadcast"] * after)
        self._adapt()

    def call(self, inputs: jax.Array) -> jax.Array:
        """Multiply, add the bias, apply the activation."""
        outputs = jnp.einsum(self.equation, inputs, self._adapted_value())
        return self.activation(outputs if self.bias is None else outputs + self.bias.value)
