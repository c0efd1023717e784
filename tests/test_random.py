"""Random functions: distributions, seeds, and Keras's signatures."""

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import tally.random as random
from tally.core.random import set_random_seed
from tally.core.symbol import KerasTensor

DRAWS = {
    "normal": lambda seed: random.normal((4, 3), 1.0, 2.0, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((4, 3), seed=seed),
    "uniform": lambda seed: random.uniform((4, 3), -1.0, 2.0, seed=seed),
    "randint": lambda seed: random.randint((4, 3), 0, 1000, seed=seed),
    "gamma": lambda seed: random.gamma((4, 3), 2.0, seed=seed),
    "beta": lambda seed: random.beta((4, 3), 2.0, 3.0, seed=seed),
    "binomial": lambda seed: random.binomial((4, 3), 50.0, 0.4, seed=seed),
    "categorical": lambda seed: random.categorical(np.zeros((4, 50)), 3, seed=seed),
    "dropout": lambda seed: random.dropout(np.ones((4, 10)), 0.5, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(40.0), seed=seed),
}


def test_every_function_of_keras_exists_with_its_arguments() -> None:
    functions = {name: f for name, f in vars(keras.random).items() if inspect.isfunction(f)}
    assert set(functions) == set(DRAWS)
    for name, theirs in functions.items():
        ours = inspect.signature(getattr(random, name)).parameters.values()
        assert [(p.name, p.default) for p in ours] == [
            (p.name, p.default) for p in inspect.signature(theirs).parameters.values()
        ]


@pytest.mark.parametrize("name", DRAWS)
def test_an_integer_seed_repeats_and_another_differs(name: str) -> None:
    draw = DRAWS[name]
    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


@pytest.mark.parametrize("name", DRAWS)
def test_without_a_seed_draws_follow_the_global_seed_and_move_on(name: str) -> None:
    def two() -> list[np.ndarray]:
        set_random_seed(1)
        return [np.asarray(DRAWS[name](None)) for _ in range(2)]

    first, second = two()
    np.testing.assert_array_equal([first, second], two())
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_generator_moves_on_with_each_draw(name: str) -> None:
    generator, again = random.SeedGenerator(5), random.SeedGenerator(5)
    first, second = DRAWS[name](generator), DRAWS[name](generator)
    np.testing.assert_array_equal(first, DRAWS[name](again))
    np.testing.assert_array_equal(second, DRAWS[name](again))
    assert not np.array_equal(first, second)


MOMENTS = {
    "normal": ((2000,), {"mean": 1.0, "stddev": 2.0}, 1.0, 2.0),
    "truncated_normal": ((2000,), {"mean": 1.0, "stddev": 2.0}, 1.0, 2 * 0.8796),
    "uniform": ((2000,), {"minval": -1.0, "maxval": 2.0}, 0.5, 3 / 12**0.5),
    "randint": ((2000,), {"minval": 0, "maxval": 10}, 4.5, (99 / 12) ** 0.5),
    "gamma": ((2000,), {"alpha": 4.0}, 4.0, 2.0),
    "beta": ((2000,), {"alpha": 1.0, "beta": 1.0}, 0.5, 1 / 12**0.5),
    "binomial": ((2000,), {"counts": 40, "probabilities": 0.5}, 20.0, 10**0.5),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_the_moments_are_those_of_the_distribution(name: str) -> None:
    shape, arguments, mean, deviation = MOMENTS[name]
    ours = np.asarray(getattr(random, name)(shape, **arguments, seed=0))
    np.testing.assert_allclose(ours.mean(), mean, atol=4 * deviation / len(ours) ** 0.5)
    np.testing.assert_allclose(ours.std(), deviation, rtol=0.1)
    assert ours.dtype == ("int32" if name == "randint" else "float32")


def test_bounds_hold() -> None:
    drawn = np.asarray(random.randint((200,), 3, 6, seed=0))
    assert set(drawn.tolist()) == {3, 4, 5}
    assert np.abs(random.truncated_normal((200,), seed=0)).max() <= 2


def test_categorical_draws_the_likely_class() -> None:
    drawn = random.categorical(np.array([[0.0, 50.0], [50.0, 0.0]]), 5, dtype="int16", seed=0)
    assert drawn.dtype == "int16"
    assert drawn.tolist() == [[1] * 5, [0] * 5]


def test_dropout_keeps_the_expected_sum_and_drops_the_rate() -> None:
    out = np.asarray(random.dropout(np.ones((100, 20)), 0.25, seed=0))
    np.testing.assert_allclose((out == 0).mean(), 0.25, atol=0.04)
    np.testing.assert_allclose(out.max(), 1 / 0.75, rtol=1e-6)


def test_dropout_shares_its_mask_along_an_axis_of_size_one() -> None:
    out = np.asarray(random.dropout(np.ones((3, 7, 5)), 0.5, noise_shape=(None, 1, 5), seed=0))
    assert (out == out[:, :1]).all()
    assert not (out == out[:1]).all()


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_at_its_ends(rate: float, expected: float) -> None:
    np.testing.assert_array_equal(random.dropout(np.ones(5), rate), np.full(5, expected))


def test_the_gradient_of_dropout_is_finite_at_rate_one() -> None:
    np.testing.assert_array_equal(jax.grad(lambda x: random.dropout(x, 1.0).sum())(jnp.ones(3)), np.zeros(3))


def test_dropout_keeps_short_floats() -> None:
    assert random.dropout(jnp.ones(3, "bfloat16"), 0.5, seed=0).dtype == jnp.bfloat16


@pytest.mark.parametrize("axis", [0, 1])
def test_shuffle_reorders_along_its_axis_only(axis: int) -> None:
    x = np.arange(40.0).reshape(8, 5)
    np.testing.assert_array_equal(np.sort(random.shuffle(x, axis, seed=0), axis), x)


def test_symbolic_tensors_keep_their_unknown_sizes() -> None:
    x = KerasTensor((None, 4))
    assert random.dropout(x, 0.5).shape == random.shuffle(x, axis=1).shape == (None, 4)
    assert random.categorical(x, 3).shape == (None, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: random.uniform((2,), dtype="int32"),
        lambda: random.randint((2,), 0, 3, dtype="float32"),
        lambda: random.categorical(np.zeros(3), 2),
    ],
)
def test_what_keras_refuses_is_refused(draw) -> None:
    with pytest.raises(ValueError):
        draw()
