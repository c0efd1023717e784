"""What a step needs at its peak: by hand where it is simple, beside the compiler's own number where it is not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers
from tally.tracing.following import follow
from tally.tracing.measuring import compile_step
from tally.tracing.memory import footprint
from tally.tracing.program import read
from tally.tracing.rehearsal import (
    Rehearsal,
    ready_optimizer,
    rehearse_prediction,
    rehearse_training,
    under_policy,
)

BOUND = 0.25
"""How far the planned peak of a training step may be from XLA's on the CPU, as a share of that."""


def needs(function: Any, *shapes: tuple[int, ...], device: str = "gpu", donated: tuple[int, ...] = ()) -> Any:
    """The footprint of a function of float32 arrays."""
    specs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return footprint(read(jax.make_jaxpr(function)(*specs), {}), donated, device)


def rehearse(model: Any, batch: int, optimizer: str = "adam", **options: Any) -> Rehearsal:
    run = follow(model, training=True, batch=batch)
    assert run is not None
    return rehearse_training(run, ready_optimizer(model.trainable_variables, optimizer), **options)


# -- the rules ---------------------------------------------------------------------------------------------------------
def test_what_goes_value_by_value_takes_no_memory() -> None:
    found = needs(lambda x: jnp.sum(jnp.abs(x * 2 + 1)), (1000,))
    assert (found.arguments, found.peak) == (4000, 4004)


def test_products_are_written_down_and_die_with_their_last_reader() -> None:
    found = needs(lambda x, w: jnp.sum(((x @ w) @ w) @ w), (10, 20), (20, 20))
    assert found.peak - found.arguments == 2 * 800 + 0  # one is made while the one before it is read


def test_what_a_product_reads_is_written_down() -> None:
    found = needs(lambda x, w: jnp.maximum(x, 0) @ w, (10, 20), (20, 1))
    assert found.peak - found.arguments == 800 + 40


def test_what_is_dear_is_kept_for_its_second_use() -> None:
    once = needs(lambda x: jnp.sum(jnp.exp(x)), (1000,))
    twice = needs(lambda x: (lambda y: jnp.sum(y * 2) + jnp.sum(y * 3))(jnp.exp(x)), (1000,))
    assert (once.peak, twice.peak) == (4004, 4000 + 4000 + 8)


def test_outputs_take_the_memory_of_donated_inputs() -> None:
    assert needs(lambda x: x + 1, (1000,)).peak == 8000
    assert needs(lambda x: x + 1, (1000,), donated=(0,)).peak == 4000


def test_a_loop_takes_the_memory_of_one_round() -> None:
    def loop(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda state, _: (jnp.tanh(state @ w), None), x, None, length=50)[0]

    found = needs(loop, (10, 20), (20, 20))
    assert found.peak - found.arguments <= 4 * 800


def test_a_chain_of_dense_layers_keeps_each_activation_for_the_backward_pass() -> None:
    model = tally.Sequential([tally.Input((16,)), *(layers.Dense(16, activation="relu") for _ in range(5))])
    found = rehearse(model, batch=100, optimizer="sgd").footprint("gpu")
    each = 100 * 16 * 4
    # Every layer keeps its product, for the relu's sign, and its output, which the next one reads.
    assert sum(found.kept.values()) == pytest.approx(2 * 5 * each, rel=0.1)
    assert found.gradients == 5 * (16 * 16 + 16) * 4
    assert found.activations == pytest.approx(2 * 5 * each, rel=0.15)


def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    model = tally.Sequential([tally.Input((16,)), layers.Dense(64, activation="relu"), layers.Dense(4)])
    small, large = (rehearse(model, batch=batch).footprint("gpu") for batch in (1000, 2000))
    assert large.activations == pytest.approx(2 * small.activations, rel=0.01)
    assert large.gradients == small.gradients


def test_half_the_precision_is_half_the_activations() -> None:
    model = convnet()
    whole = rehearse(model, batch=64).footprint("gpu")
    with under_policy(model, "mixed_bfloat16"):
        half = rehearse(model, batch=64).footprint("gpu")
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.1)
    assert half.gradients < whole.gradients  # cast to the weights' float32 only where they are used
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


def test_rematerialisation_keeps_less_and_computes_more() -> None:
    model = tally.Sequential([tally.Input((32,)), *(layers.Dense(32, activation="tanh") for _ in range(16))])
    plain, again = (rehearse(model, batch=256, rematerialise=one) for one in (False, True))
    assert again.footprint("gpu").activations < 0.6 * plain.footprint("gpu").activations
    assert len(again.program.nodes) > len(plain.program.nodes)


def test_rematerialised_gradients_are_the_same() -> None:
    model = tally.Sequential(
        [
            tally.Input((6, 6, 2)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    chance = np.random.default_rng(1)
    results = []
    for rematerialise in (False, True):
        step = rehearse(model, batch=3, optimizer="sgd", rematerialise=rematerialise)
        values = [jnp.asarray(chance.normal(size=spec.shape), spec.dtype) for spec in step.arguments[0]]
        chance = np.random.default_rng(1)
        image = jnp.asarray(np.random.default_rng(2).normal(size=(3, 6, 6, 2)), "float32")
        results.append(step.function(values, jnp.array([0, -1]), [image], [None])[0])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# -- the model is left alone -------------------------------------------------------------------------------------------
def test_rehearsing_allocates_nothing_and_changes_nothing() -> None:
    model = tally.Sequential([tally.Input((10_000,)), layers.Dense(1_000_000), layers.Dense(10)])
    model.compile("adam", "mse")
    before = tally.random.uniform((2,), seed=tally.random.SeedGenerator(3)), len(jax.live_arrays())
    found = rehearse(model, batch=64).footprint("gpu")
    assert found.peak > 3 * 40e9
    assert len(jax.live_arrays()) <= before[1] + 2
    assert all(variable.is_planned for variable in model.variables)
    assert not model.optimizer.built


# -- the compiler ------------------------------------------------------------------------------------------------------
def mlp() -> tally.Model:
    hidden = [layers.Dense(256, activation="relu") for _ in range(2)]
    return tally.Sequential([tally.Input((128,)), *hidden, layers.Dense(10, activation="softmax")])


def convnet() -> tally.Model:
    return tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def residual() -> tally.Model:
    inputs = x = tally.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
        x = layers.ReLU()(
            layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(y))])
        )
    return tally.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def transformer() -> tally.Model:
    inputs = tally.Input((32,), dtype="int32")
    x = layers.Embedding(128, 64)(inputs)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(y, y, use_causal_mask=True)])
    y = layers.Dense(64)(layers.Dense(256, activation="gelu")(layers.LayerNormalization()(x)))
    return tally.Model(inputs, layers.Dense(128)(layers.Add()([x, y])))


def recurrent() -> tally.Model:
    return tally.Sequential([tally.Input((20, 16)), layers.LSTM(32), layers.Dense(1)])


@pytest.mark.parametrize("make", [mlp, convnet, residual, transformer, recurrent])
def test_the_planned_peak_of_a_training_step_is_near_the_compilers(make: Any) -> None:
    step = rehearse(make(), batch=64)
    planned, compiled = step.footprint("cpu").peak, compile_step(step, run=False)
    error = planned / compiled.peak - 1
    print(f"{make.__name__}: planned {planned:,}, the compiler {compiled.peak:,} bytes: {error:+.1%}")
    assert abs(error) < BOUND


def test_the_rehearsed_step_is_the_one_that_fit_compiles() -> None:
    model = recurrent()
    model.compile("adam", "mse")
    ours = compile_step(rehearse(model, batch=64, losses=model._trainer.losses_by_output(1)), run=False).peak
    batch = (np.zeros((64, 20, 16), "float32"), np.zeros((64, 1), "float32"), None)
    plan = model._trainer.plan("train", batch)
    carried, fixed = (
        [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
        for variables in (plan.state.carried, plan.state.fixed)
    )
    record = jax.ShapeDtypeStruct((2,), jnp.int32)
    lowered = plan.steps.given().lower(carried, fixed, record, np.uint32(0), batch)
    theirs: Any = lowered.compile().memory_analysis()
    total = (
        theirs.argument_size_in_bytes
        + theirs.output_size_in_bytes
        - theirs.alias_size_in_bytes
        + theirs.temp_size_in_bytes
    )
    assert ours == pytest.approx(total, rel=0.05)


def test_a_prediction_keeps_no_activation() -> None:
    model = tally.Sequential([tally.Input((64,)), *(layers.Dense(64, activation="relu") for _ in range(8))])
    run = follow(model, training=False, batch=100)
    assert run is not None
    found = rehearse_prediction(run).footprint("gpu")
    assert found.activations <= 3 * 100 * 64 * 4
    assert not found.kept
