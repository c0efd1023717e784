"""Learning rates follow the step number as Keras's do."""

from typing import Any

import jax
import keras
import numpy as np
import optax
import pytest

import tally
from tally.core.errors import ArgumentError
from tally.optimizers import SGD, schedules

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9}),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9, "staircase": True},
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ),
    ("PiecewiseConstantDecay", {"boundaries": [5, 20], "values": [0.1, 0.05, 0.01]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 30}),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 0.5, "end_learning_rate": 0.02},
    ),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 2.0, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.1}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.0, "decay_steps": 25, "warmup_target": 0.3, "warmup_steps": 6},
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5}),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 5, "t_mul": 1.5, "m_mul": 0.8},
    ),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 6, "t_mul": 1.0, "alpha": 0.2},
    ),
]


def words(case: Any) -> str:
    return case if isinstance(case, str) else "-".join(case)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_rates_equal_those_of_keras_at_every_step(name: str, arguments: dict[str, Any]) -> None:
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    ours = jax.jit(getattr(schedules, name)(**arguments))
    steps = range(40)
    expected = [float(theirs(step)) for step in steps]
    np.testing.assert_allclose([float(ours(step)) for step in steps], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=words)
def test_configurations_survive_both_ways(name: str, arguments: dict[str, Any]) -> None:
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    ours = getattr(schedules, name)(**arguments)
    assert (
        keras.optimizers.schedules.deserialize(schedules.serialize(ours)).get_config() == theirs.get_config()
    )
    assert (
        schedules.deserialize(keras.optimizers.schedules.serialize(theirs)).get_config() == ours.get_config()
    )


def test_an_optimizers_rate_follows_its_schedule() -> None:
    optimizer = SGD(schedules.PiecewiseConstantDecay([0], [1.0, 0.5]))
    weight = tally.Variable([10.0])
    rates = []
    for _ in range(3):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([np.ones(1, "float32")], [weight])
    assert rates == [1.0, 0.5, 0.5]
    assert weight.numpy() == [8.0]


def test_an_optax_schedule_is_a_learning_rate() -> None:
    optimizer = SGD(optax.linear_schedule(1.0, 0.0, 4))
    weight = tally.Variable([0.0])
    for _ in range(2):
        optimizer.apply([np.ones(1, "float32")], [weight])
    assert weight.numpy() == [-1.75]


def test_a_function_without_arguments_is_asked_at_each_step() -> None:
    rates = iter([1.0, 3.0])
    optimizer = SGD(lambda: next(rates))
    weight = tally.Variable([0.0])
    for _ in range(2):
        optimizer.apply([np.ones(1, "float32")], [weight])
    assert weight.numpy() == [-4.0]


def test_a_users_schedule_needs_only_a_call() -> None:
    class Halving(schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.5**step

    weight = tally.Variable([0.0])
    optimizer = SGD(Halving())
    for _ in range(3):
        optimizer.apply([np.ones(1, "float32")], [weight])
    assert weight.numpy() == [-1.75]


def test_a_schedule_refuses_to_last_no_steps() -> None:
    with pytest.raises(ArgumentError, match="CosineDecay can't last 0 steps"):
        schedules.CosineDecay(0.1, 0)


def test_a_schedule_needs_one_value_more_than_boundaries() -> None:
    with pytest.raises(ArgumentError, match="2 boundaries and 2 values"):
        schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2])


def test_a_rate_that_follows_a_schedule_cannot_be_set_to_a_number() -> None:
    optimizer = SGD(schedules.ExponentialDecay(0.1, 10, 0.9))
    with pytest.raises(ArgumentError, match="follows a schedule"):
        optimizer.learning_rate = 0.5
