"""Dense and EinsumDense beyond the contract: messages, older arguments and low-rank adaptation."""

from typing import Any

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.core.errors import ArgumentError, ShapeError, UnbuiltError

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def test_axes_name_features_and_units() -> None:
    layer = tally.layers.Dense(2)
    layer(X)
    assert [(v.name, v.axes) for v in layer.weights] == [
        ("kernel", ("features", "units")),
        ("bias", ("units",)),
    ]


def test_an_unknown_last_axis_is_told_with_a_way_out() -> None:
    flat = tally.layers.Flatten()(tally.KerasTensor((None, None, None, 3)))
    with pytest.raises(ShapeError, match="the last axis is unknown") as error:
        tally.layers.Dense(2, name="head")(flat)
    lines = str(error.value).split("\n")
    assert lines[0] == "Dense 'head' can't be built for (None, None): the last axis is unknown."
    assert "test_dense.py" in lines[1]
    assert "GlobalAveragePooling2D" in lines[2]


def test_another_number_of_features_is_refused() -> None:
    layer = tally.layers.Dense(2, name="head")
    layer(X)
    with pytest.raises(ShapeError, match="Dense 'head' takes 3 features, but was given 2"):
        layer(X[:, :2])


@pytest.mark.parametrize("units", [0, -1, 2.5, "3", True])
def test_units_must_be_a_positive_whole_number(units: Any) -> None:
    with pytest.raises(ArgumentError, match="units="):
        tally.layers.Dense(units)


def test_a_misspelt_activation_names_the_layer_and_the_closest_name() -> None:
    with pytest.raises(
        ArgumentError, match=r"Dense 'head' can't have activation='rellu'.*Did you mean 'relu'"
    ):
        tally.layers.Dense(2, activation="rellu", name="head")


def test_initial_weights_are_taken_as_older_code_gives_them() -> None:
    kernel, bias = np.ones((3, 2), "float32"), np.full(2, 5.0, "float32")
    layer = tally.layers.Dense(2, weights=[kernel, bias])
    assert_close(layer(X), X @ kernel + bias)


def test_integers_are_multiplied_as_numbers() -> None:
    layer, peer = tally.layers.Dense(2), keras.layers.Dense(2)
    numbers = np.arange(6, dtype="int32").reshape(2, 3)
    expected = peer(numbers)
    layer(numbers)
    layer.set_weights([np.asarray(v.value) for v in peer.weights])
    assert_close(layer(numbers), expected)


def test_low_rank_adaptation_equals_keras_and_freezes_the_kernel() -> None:
    ours, peer = tally.layers.Dense(2, lora_rank=1, lora_alpha=3.0), keras.layers.Dense(2)
    ours(X), peer(X)
    peer.enable_lora(1, lora_alpha=3.0)  # its constructor forgets lora_alpha
    values = {"kernel": (3, 2), "bias": (2,), "lora_kernel_a": (3, 1), "lora_kernel_b": (1, 2)}
    for layer in (ours, peer):
        chance = np.random.default_rng(1)
        for name, shape in values.items():
            held = layer._kernel if name == "kernel" and layer is peer else getattr(layer, name)
            held.assign(chance.normal(size=shape).astype("float32"))
    assert_close(ours(X), peer(X))
    assert [v.name for v in ours.trainable_variables] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    assert ours.count_params() == peer.count_params() == 6 + 2 + 3 + 2


def test_enabling_adaptation_leaves_the_output_as_it_was() -> None:
    layer = tally.layers.Dense(2)
    with pytest.raises(UnbuiltError, match="no weight to adapt yet"):
        layer.enable_lora(1)
    before = layer(X)
    layer.enable_lora(1)
    assert_close(layer(X), before)
    assert layer.get_config()["lora_rank"] == 1
    with pytest.raises(ArgumentError, match="adapted already"):
        layer.enable_lora(1)


def test_a_constrained_kernel_is_not_adapted() -> None:
    with pytest.raises(ArgumentError, match="its weight has a constraint"):
        tally.layers.Dense(2, lora_rank=1, kernel_constraint="non_neg")(X)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ab,bc", "can't read equation"),
        ("...ab,bc->ac", "can't read equation"),
        ("ab,bc->ad", "'c' in the kernel of 'ab,bc->ad', but nowhere else"),
        ("ab,bc->acd", "'d' in the output of 'ab,bc->acd', but nowhere else"),
    ],
)
def test_an_equation_that_says_too_little_is_refused(equation: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tally.layers.EinsumDense(equation, 3)


@pytest.mark.parametrize(
    ("output_shape", "error", "message"),
    [((5, 4), ShapeError, "3 on axis 'b', but has 5"), ((4,), ArgumentError, "names the output axes 'bd'")],
)
def test_an_output_shape_must_fit_the_equation(output_shape: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        tally.layers.EinsumDense("abc,cd->abd", output_shape)(np.zeros((2, 3, 4), "float32"))


def test_a_bias_needs_an_axis_of_the_output() -> None:
    with pytest.raises(ArgumentError, match="the output has no axis 'b'"):
        tally.layers.EinsumDense("ab,bc->ac", 3, bias_axes="b")


def test_axes_of_an_equation_carry_its_letters() -> None:
    layer = tally.layers.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="de")
    layer(tally.KerasTensor((None, 4, 3)))
    assert layer.kernel.axes == ("features c", "units d", "units e")
    assert layer.bias.axes == ("units d", "units e")
