"""FLOPs as the compiler counts them, multiply-adds as by hand, each with its layer, forward and backward."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import tally
from tally import layers
from tally.tracing.cost import Cost, cost_by_maker, total, with_costs
from tally.tracing.following import follow
from tally.tracing.program import read
from tally.tracing.rehearsal import ready_optimizer, rehearse_training


def cost_of(function: Callable[..., Any], *shapes: tuple[int, ...]) -> tuple[Cost, dict[str, float]]:
    """What is counted here, and what XLA counts of the same program."""
    specs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = total(cost_by_maker(read(jax.make_jaxpr(function)(*specs), {})).values())
    return found, jax.jit(function).lower(*specs).cost_analysis() or {}


def convolve(**options: Any) -> Callable[..., Any]:
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options}
    return lambda x, k: lax.conv_general_dilated(x, k, **layout)


PROGRAMS: dict[str, tuple[Any, ...]] = {
    "conv, valid": (convolve(window_strides=(1, 1), padding="VALID"), (2, 7, 6, 3), (3, 2, 3, 4)),
    "conv, same": (convolve(window_strides=(2, 1), padding="SAME"), (2, 7, 6, 3), (3, 2, 3, 4)),
    "conv, holes": (
        convolve(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 1)),
        (2, 7, 6, 3),
        (3, 2, 3, 4),
    ),
    "conv, groups": (
        convolve(window_strides=(1, 1), padding="SAME", feature_group_count=3),
        (2, 7, 6, 6),
        (3, 2, 2, 9),
    ),
    "conv, transposed": (
        convolve(window_strides=(1, 1), padding=((2, 2), (1, 1)), lhs_dilation=(2, 3)),
        (2, 4, 3, 3),
        (3, 2, 3, 4),
    ),
    "conv, gradients": (
        lambda x, k: jax.grad(
            lambda x, k: jnp.sum(convolve(window_strides=(2, 2), padding="SAME")(x, k)), (0, 1)
        )(x, k),
        (2, 7, 6, 3),
        (3, 2, 3, 4),
    ),
    "product": (jnp.matmul, (5, 7), (7, 3)),
    "product of batches": (lambda x, y: jnp.einsum("bqhd,bkhd->bhqk", x, y), (2, 5, 3, 4), (2, 6, 3, 4)),
    "arithmetic": (lambda x: jnp.where(x > 0, x * 2 + 1, -x), (50, 4)),
    "powers": (lambda x: x**2 + x**3 + x**5, (50,)),
    "sums": (lambda x: jnp.sum(x, axis=1) + jnp.max(x, axis=1), (50, 4)),
    "curves": (lambda x: jnp.tanh(x) + jnp.exp(x) + jax.nn.sigmoid(x) + lax.erfc(x), (50, 4)),
    "pooling": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (2, 3), "VALID"), (8, 9)),
    "moving": (lambda x: jnp.concatenate([x.T, x.T[::-1]])[2:5], (6, 4)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_flops_are_those_the_compiler_counts(name: str) -> None:
    found, theirs = cost_of(*PROGRAMS[name])
    assert (found.flops, found.transcendentals) == (theirs.get("flops", 0), theirs.get("transcendentals", 0))


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("conv, valid", 2 * 5 * 5 * 4 * 18),
        ("conv, same", 2 * 4 * 6 * 4 * 18),
        ("conv, groups", 2 * 7 * 6 * 9 * 12),
        ("conv, transposed", 2 * 4 * 3 * 4 * 18),  # the input's places
        ("product of batches", 2 * 3 * 5 * 6 * 4),
        ("arithmetic", 0),
    ],
)
def test_multiply_adds_are_those_of_a_hand_count(name: str, by_hand: int) -> None:
    assert cost_of(*PROGRAMS[name])[0].multiply_adds == by_hand


def test_a_padded_convolution_has_more_multiply_adds_than_products_that_exist() -> None:
    found, _ = cost_of(convolve(window_strides=(1, 1), padding="SAME"), (1, 5, 5, 1), (3, 3, 1, 1))
    assert (found.multiply_adds, found.flops) == (25 * 9, 2 * 13 * 13)  # 13 of 15 on each side


def test_a_loop_counts_as_often_as_it_runs() -> None:
    def loop(x: Any, w: Any) -> Any:
        return lax.scan(lambda state, step: (state @ w + step, None), jnp.zeros((1, 4)), x)[0]

    found, theirs = cost_of(loop, (7, 1, 4), (4, 4))
    assert found.multiply_adds == 7 * 16
    assert theirs["flops"] < found.flops  # the compiler counts one round


def step_costs(model: tally.Model, batch: int = 2) -> dict[str, Cost]:
    """What each layer takes for all gradients of a step, forward included."""
    run = follow(model, training=True, batch=batch)
    assert run is not None
    step = rehearse_training(run, ready_optimizer(model.trainable_variables, "sgd"))
    return {maker.name: cost for maker, cost in cost_by_maker(step.before_update).items()}


def test_the_backward_pass_belongs_to_the_layers_it_goes_through() -> None:
    model = tally.Sequential(
        [
            tally.Input((6, 6, 2)),
            layers.Conv2D(3, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(5, activation="relu", name="head"),
        ]
    )
    costs = step_costs(model)
    assert costs["conv"].multiply_adds == 2 * 2 * (16 * 18 * 3)  # forward and the kernel's gradient
    assert costs["head"].multiply_adds == 2 * 3 * (48 * 5)  # the input's gradient, too


def test_a_frozen_layer_has_no_gradient_of_its_weights() -> None:
    def model(trainable: bool) -> tally.Model:
        x = tally.Input((8,))
        start = layers.Dense(6, name="start")(x)
        middle = layers.Dense(6, name="middle", trainable=trainable)(start)
        return tally.Model(x, layers.Dense(2)(middle))

    assert step_costs(model(True))["middle"].multiply_adds == 3 * 2 * 36
    assert step_costs(model(False))["middle"].multiply_adds == 2 * 2 * 36


def test_nothing_goes_back_through_a_frozen_beginning() -> None:
    x = tally.Input((8,))
    base = layers.Dense(6, name="base", trainable=False)(x)
    costs = step_costs(tally.Model(x, layers.Dense(2, name="head")(base)))
    assert costs["base"].multiply_adds == 2 * 48
    assert costs["head"].multiply_adds == 2 * 2 * 12


def test_what_a_loop_computes_belongs_to_the_cell_that_runs_in_it() -> None:
    model = tally.Sequential([tally.Input((7, 4)), layers.LSTM(5, name="lstm")])
    ledger = with_costs(model, tally.account(model))
    assert ledger.owner("lstm").multiply_adds == 0
    assert ledger.owner("lstm/cell").multiply_adds == 7 * (4 + 5) * 20


def test_a_layer_that_was_only_called_on_arrays_is_followed_with_one_example() -> None:
    class Own(tally.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(3)

        def call(self, x):
            return self.head(x)

    model = Own()
    model(jnp.ones((16, 4)))
    assert with_costs(model, tally.account(model)).owner("head").multiply_adds == 12


def test_a_layer_that_was_never_called_keeps_its_ledger() -> None:
    layer = layers.Dense(3)
    layer.build((None, 4))
    ledger = tally.account(layer)
    assert with_costs(layer, ledger) is ledger
