"""Initializers: Keras's distributions and configurations, and one value however a weight is drawn."""

import json
import math

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tally.initializers as initializers
from tally.core.errors import ArgumentError, ShapeError
from tally.core.random import Key, SeedGenerator, set_random_seed
from tally.core.registry import snake_case
from tally.core.variable import Variable, materialize

NAMES = [
    *(
        "Zeros",
        "Ones",
        "Constant",
        "Identity",
        "RandomNormal",
        "RandomUniform",
        "TruncatedNormal",
        "VarianceScaling",
    ),
    *("GlorotUniform", "GlorotNormal", "LecunUniform", "LecunNormal", "HeUniform", "HeNormal", "Orthogonal"),
]
RANDOM = NAMES[4:]
ALIASES = [
    *map(snake_case, NAMES),
    "zero",
    "one",
    "normal",
    "uniform",
    "OrthogonalInitializer",
    "IdentityInitializer",
]
VARIANTS = [
    *[getattr(initializers, name)() for name in NAMES],
    initializers.RandomNormal(0.3, 0.7),
    initializers.TruncatedNormal(-0.1, 0.9),
    initializers.RandomUniform(0.1, 2.3),
    initializers.VarianceScaling(1.7, "fan_avg", "untruncated_normal"),
    initializers.VarianceScaling(0.3, "fan_out", "uniform"),
    initializers.Orthogonal(gain=1.3),
    initializers.GlorotUniform(seed=7),
]


def of(initializer: object, shape: tuple[int, ...], dtype: str = "float32") -> Variable:
    return Variable(initializer, shape, dtype)


def test_every_initializer_of_keras_exists() -> None:
    named = {name for name in dir(keras.initializers) if not name.startswith("_")}
    assert named - set(dir(initializers)) == set()


@pytest.mark.parametrize("name", [name for name in (*NAMES, *ALIASES) if name.lower() != "constant"])
def test_names_mean_the_same_class_as_in_keras(name: str) -> None:
    assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


@pytest.mark.parametrize("name", [*NAMES, "STFT"])
def test_configs_are_equal_to_keras_and_read_by_it(name: str) -> None:
    ours, theirs = getattr(initializers, name)(), getattr(keras.initializers, name)()
    written = initializers.serialize(ours)
    lost_by_keras = {"Identity": {"gain": 1.0}}.get(name, {})
    assert written["config"] == {**keras.initializers.serialize(theirs)["config"], **lost_by_keras}
    assert {**written, "config": {}} == {**keras.initializers.serialize(theirs), "config": {}}
    assert type(keras.initializers.deserialize(json.loads(json.dumps(written)))) is type(theirs)
    assert initializers.deserialize(keras.initializers.serialize(theirs)).get_config() == ours.get_config()


def test_arguments_survive_the_way_to_keras_and_back() -> None:
    ours = initializers.VarianceScaling(2.5, "fan_out", "uniform", seed=3, input_axes=[0], output_axes=[1, 2])
    back = keras.initializers.serialize(keras.initializers.deserialize(initializers.serialize(ours)))
    assert initializers.deserialize(back).get_config() == ours.get_config()


def test_a_seed_generator_survives_the_way_through_a_config() -> None:
    ours = initializers.RandomNormal(seed=SeedGenerator(5))
    again = initializers.deserialize(initializers.serialize(ours))
    np.testing.assert_array_equal(again((3,)), ours((3,)))


@pytest.mark.parametrize("name", RANDOM)
def test_distributions_have_the_moments_and_bounds_of_keras(name: str) -> None:
    shape = (5, 40, 200)
    ours = np.asarray(getattr(initializers, name)(seed=1)(shape))
    theirs = np.asarray(getattr(keras.initializers, name)(seed=1)(shape))
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.03 * theirs.std())
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    if name != "RandomNormal":  # the others are bounded (an orthogonal matrix nearly so)
        np.testing.assert_allclose(
            np.abs(ours).max(), np.abs(theirs).max(), rtol=0.02 if name != "Orthogonal" else 0.3
        )


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_is_scale_over_fan(mode: str, distribution: str) -> None:
    drawn = np.asarray(initializers.VarianceScaling(3.0, mode, distribution, seed=0)((3, 50, 100)))
    fan = {"fan_in": 150, "fan_out": 300, "fan_avg": 225}[mode]
    np.testing.assert_allclose(drawn.var(), 3.0 / fan, rtol=0.04)


@given(st.lists(st.integers(1, 9), max_size=5))
def test_fans_are_those_of_keras(shape: list[int]) -> None:
    from keras.src.initializers.random_initializers import compute_fans

    assert initializers.compute_fans(shape) == compute_fans(shape)


def test_named_axes_decide_the_fans() -> None:
    assert initializers.compute_fans((4, 3, 5), input_axes=(0,), output_axes=(1, 2)) == (4, 15)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 3, 4), (5, 5)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = np.asarray(initializers.Orthogonal(gain=2.0, seed=0)(shape)).reshape(-1, shape[-1]) / 2
    smaller = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    np.testing.assert_allclose(smaller, np.eye(len(smaller)), atol=1e-5)


def test_orthogonal_draws_in_bfloat16() -> None:
    assert initializers.Orthogonal(seed=0)((3, 3), "bfloat16").dtype == jnp.bfloat16


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize(
    ("window", "scaling", "periodic"),
    [
        ("hann", "density", False),
        ("hamming", "spectrum", True),
        (None, "density", False),
        ("hann", None, True),
    ],
)
def test_stft_kernel_is_that_of_keras(
    side: str, window: str | None, scaling: str | None, periodic: bool
) -> None:
    ours = initializers.STFT(side, window, scaling, periodic)((16, 1, 9))
    theirs = keras.initializers.STFT(side, window, scaling, periodic)((16, 1, 9))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_stft_takes_a_window_of_values() -> None:
    from scipy.signal.windows import blackman

    named, given_values = initializers.STFT(window="blackman"), initializers.STFT(window=blackman(16))
    np.testing.assert_array_equal(named((16, 1, 9)), given_values((16, 1, 9)))


@pytest.mark.parametrize(
    ("name", "shape"), [("Zeros", (2, 3)), ("Ones", (2, 3)), ("Constant", (2, 3)), ("Identity", (2, 3))]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_fixed_values_are_those_of_keras(name: str, shape: tuple[int, ...], dtype: str) -> None:
    arguments = {"Constant": (7.0,), "Identity": (2,)}.get(name, ())
    ours = getattr(initializers, name)(*arguments)(shape, dtype)
    theirs = getattr(keras.initializers, name)(*arguments)(shape, dtype)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(np.asarray(ours, "float32"), np.asarray(theirs, "float32"))


def test_constant_broadcasts_an_array() -> None:
    np.testing.assert_array_equal(initializers.Constant([1, 2])((3, 2)), [[1, 2]] * 3)


@pytest.mark.parametrize("name", RANDOM)
def test_an_integer_seed_gives_the_same_value_whatever_the_key(name: str) -> None:
    initializer = getattr(initializers, name)(seed=3)
    first = initializer((3, 4), key=jax.random.key(0))
    np.testing.assert_array_equal(first, initializer((3, 4), key=jax.random.key(1)))
    np.testing.assert_array_equal(first, initializer((3, 4)))


@pytest.mark.parametrize("name", RANDOM)
def test_without_a_seed_the_value_is_a_function_of_the_key(name: str) -> None:
    initializer = getattr(initializers, name)()
    first = initializer((3, 4), key=jax.random.key(0))
    np.testing.assert_array_equal(first, initializer((3, 4), key=jax.random.key(0)))
    assert not np.array_equal(first, initializer((3, 4), key=jax.random.key(1)))


def test_without_seed_and_key_draws_follow_the_global_seed() -> None:
    def draw() -> list[np.ndarray]:
        set_random_seed(4)
        return [np.asarray(initializers.RandomNormal()((3,))) for _ in range(2)]

    first, second = draw()
    np.testing.assert_array_equal([first, second], draw())
    assert not np.array_equal(first, second)


def test_a_seed_generator_moves_on_with_each_weight() -> None:
    def draw() -> list[np.ndarray]:
        initializer = initializers.RandomNormal(seed=SeedGenerator(1))
        variables = [of(initializer, (3,)) for _ in range(2)]
        materialize(variables)
        return [variable.numpy() for variable in variables]

    first, second = draw()
    np.testing.assert_array_equal([first, second], draw())
    assert not np.array_equal(first, second)


def assert_equal_alone_and_in_company(variants: list, shapes: list[tuple[int, ...]], dtype: str) -> None:
    def plan() -> list[Variable]:
        set_random_seed(11)
        return [
            of(initializer, shape, dtype) for initializer in variants for shape in shapes for _ in range(3)
        ]

    together, alone = plan(), plan()
    materialize(together)
    for ours, other in zip(together, alone, strict=True):
        assert ours.dtype == dtype == ours.raw.dtype.name
        np.testing.assert_array_equal(ours.numpy(), other.numpy(), err_msg=repr(ours.initializer))


def test_a_weight_drawn_alone_equals_one_drawn_in_company_bit_for_bit() -> None:
    chosen = [initializers.GlorotUniform(), initializers.RandomNormal(0.3, 0.7), initializers.Orthogonal(1.3)]
    assert_equal_alone_and_in_company(
        [*chosen, initializers.Ones(), initializers.HeNormal(seed=7)], [(7, 5)], "float32"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_initializer_draws_the_same_bits_alone_and_in_company(dtype: str) -> None:
    assert_equal_alone_and_in_company(VARIANTS, [(7, 5), (5, 19)], dtype)


@settings(max_examples=5, deadline=None)  # each new number of weights is a compilation
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_the_order_and_company_of_drawing_change_nothing(chosen: list[int]) -> None:
    def plan() -> list[Variable]:
        set_random_seed(2)
        return [of(initializers.HeNormal(), (3, 3)) for _ in range(6)]

    all_at_once, some = plan(), plan()
    materialize(all_at_once)
    materialize([some[index] for index in chosen])
    for index in chosen:
        np.testing.assert_array_equal(some[index].numpy(), all_at_once[index].numpy())


def test_the_first_read_inside_a_trace_gives_the_value_of_an_eager_read() -> None:
    def plan() -> Variable:
        set_random_seed(3)
        return of(initializers.GlorotNormal(), (4, 3))

    traced, eager = plan(), plan()
    jax.jit(lambda x: x @ traced.value)(jnp.ones((2, 4)))
    assert not traced.is_planned
    np.testing.assert_array_equal(traced.numpy(), eager.numpy())


def test_variables_of_equal_arguments_and_shape_still_differ() -> None:
    first, second = of(initializers.HeNormal(), (3, 3)), of(initializers.HeNormal(), (3, 3))
    materialize([first, second])
    assert not np.array_equal(first.numpy(), second.numpy())


def test_constants_of_long_arrays_that_differ_in_the_middle_are_kept_apart() -> None:
    values = np.zeros((2, 3000))
    values[1, 1500] = 1
    variables = [of(initializers.Constant(value), (3000,)) for value in values]
    materialize(variables)
    np.testing.assert_array_equal([variable.numpy() for variable in variables], values)


def test_a_users_initializer_in_the_keras_form_is_called_by_itself() -> None:
    class Halves(initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return np.full(shape, 0.5, dtype)

    weight = of(Halves(), (2, 2))
    materialize([weight])
    np.testing.assert_array_equal(weight.numpy(), np.full((2, 2), 0.5))


def test_a_users_initializer_that_takes_a_key_is_drawn_with_the_others() -> None:
    class Signs(initializers.Initializer):
        def __init__(self, size: float) -> None:
            self.size = size

        def __call__(self, shape, dtype=None, key=None):
            return self.size * jax.random.rademacher(key, shape, dtype)

    def plan() -> list[Variable]:
        set_random_seed(0)
        return [of(Signs(size), (8,)) for size in (1.0, 2.0)]

    together, alone = plan(), plan()
    materialize(together)
    for ours, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours.numpy(), other.numpy())
    np.testing.assert_array_equal(np.abs(together[1].numpy()), np.full(8, 2.0))


def test_an_initializer_that_gives_another_shape_is_named_with_the_weight() -> None:
    class Wrong(initializers.Initializer):
        def __call__(self, shape, dtype=None, key=None):
            return jnp.zeros((1, 1))

    with pytest.raises(ShapeError, match=r"initializer of 'variable' gave shape \(1, 1\), not \(2, 2\)"):
        of(Wrong(), (2, 2)).numpy()


def test_clone_has_equal_arguments() -> None:
    assert initializers.RandomNormal(1.0, 2.0, seed=3).clone().get_config() == {
        "mean": 1.0,
        "stddev": 2.0,
        "seed": 3,
    }


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize(
    "make",
    [
        lambda: initializers.VarianceScaling(scale=0),
        lambda: initializers.VarianceScaling(mode="fan"),
        lambda: initializers.VarianceScaling(distribution="cauchy"),
        lambda: initializers.RandomNormal(seed="x"),
        lambda: initializers.STFT(side="left"),
        lambda: initializers.STFT(scaling="power"),
        lambda: initializers.Identity()((2,)),
        lambda: initializers.Orthogonal()((2,)),
        lambda: initializers.STFT(window=np.ones(3))((16, 1, 9)),
    ],
)
def test_what_keras_refuses_is_refused(make) -> None:
    with pytest.raises(ValueError):
        make()


def test_a_key_is_the_same_in_every_order_of_making() -> None:
    weight = of(initializers.RandomUniform(0.0, 1.0), (3,))
    weight.key = Key(5, 6)
    expected = jax.random.uniform(jax.random.fold_in(jax.random.key(5), 6), (3,))
    np.testing.assert_array_equal(weight.numpy(), expected)


def test_the_truncation_correction_is_the_deviation_of_the_cut_normal() -> None:
    density, mass = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    assert math.isclose(initializers._TRUNCATED_STDDEV, math.sqrt(1 - 4 * density / mass), rel_tol=1e-12)
