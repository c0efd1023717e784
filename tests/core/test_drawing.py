"""Weights drawn in rows on a CPU: the bits of `jax.random`, and one compilation for all shapes and models."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally import initializers
from tally.core import drawing, variable
from tally.core.random import set_random_seed
from tally.core.variable import Variable, materialize

KINDS = [
    initializers.GlorotUniform(),
    initializers.HeNormal(),
    initializers.VarianceScaling(1.7, "fan_avg", "untruncated_normal"),
    initializers.RandomNormal(0.3, 0.7),
    initializers.TruncatedNormal(-0.1, 0.9),
    initializers.RandomUniform(0.1, 2.3),
    initializers.RandomUniform(0, 1),
    initializers.GlorotUniform(seed=7),
    initializers.HeNormal(seed=2**32 - 5),
    initializers.Zeros(),
    initializers.Ones(),
    initializers.Constant(-0.0),
    initializers.Constant(0.1),
]


def bits(array: jax.Array) -> bytes:
    return np.asarray(array).tobytes()


def drawn(initializer, shape, dtype="float32", *, seed=3) -> list[jax.Array]:
    set_random_seed(seed)
    weights = [Variable(initializer, shape, dtype) for _ in range(2)]
    materialize(weights)
    return [weight.raw for weight in weights]


def drawn_in_a_program(monkeypatch, *args, **kwargs) -> list[jax.Array]:
    """The same as a program of the weights' own shapes gives, as on an accelerator."""
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "elements_of", lambda *_: None)
        return drawn(*args, **kwargs)


@pytest.mark.parametrize("initializer", KINDS, ids=repr)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (64, 65), (3, 3, 40, 50)], ids=str)
def test_rows_have_the_bits_of_a_program_of_the_same_shapes(initializer, shape, monkeypatch):
    rows, program = drawn(initializer, shape), drawn_in_a_program(monkeypatch, initializer, shape)
    assert [bits(a) for a in rows] == [bits(b) for b in program]
    assert [(a.shape, a.dtype) for a in rows] == [(shape, np.float32)] * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool"])
@pytest.mark.parametrize("initializer", [initializers.Zeros(), initializers.Ones(), initializers.Constant(3)])
def test_constants_have_the_same_bits_in_every_dtype(initializer, dtype, monkeypatch):
    rows, program = (
        drawn(initializer, (4, 2), dtype),
        drawn_in_a_program(monkeypatch, initializer, (4, 2), dtype),
    )
    assert [bits(a) for a in rows] == [bits(b) for b in program]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_bits_go_on_from_any_position(seed, start, size):
    key = np.array([0, seed, start >> 32, start & 0xFFFFFFFF], "uint32")
    made = np.asarray(drawing._bits(jax.numpy.asarray(key), 32, (size,)))
    at = (np.uint64(start) + np.arange(size, dtype="uint64")).view("uint32").reshape(-1, 2)
    first, second = drawing.threefry(np.uint32([0]), np.uint32([seed]), at[:, 1], at[:, 0])
    np.testing.assert_array_equal(made, first ^ second)


def test_bits_are_those_of_jax():
    key = jax.random.key(11)
    made = drawing._bits(jax.numpy.array([0, 11, 0, 100], "uint32"), 32, (30,))
    np.testing.assert_array_equal(made, jax.random.bits(key, (130,), "uint32")[100:])


def test_weights_of_any_shapes_need_one_compilation():
    compiled: list[str] = []

    def listen(name: str, seconds: float, **_: object) -> None:
        if name.endswith("backend_compile_duration"):
            compiled.append(name)

    drawing._program.cache_clear()
    jax.monitoring.register_event_duration_secs_listener(listen)
    for shapes in ([(3, 5), (7,)], [(11, 13), (17, 19), (3, 3, 5, 300)]):
        materialize([Variable(initializers.HeUniform(), shape) for shape in shapes])
        materialize([Variable(initializers.Zeros(), shape) for shape in shapes])
        assert len(compiled) == 1


def test_a_program_is_made_where_weights_are_placed(monkeypatch):
    made: list[object] = []
    program = variable._program
    monkeypatch.setattr(variable, "_program", lambda *given: made.append(given) or program(*given))
    weight = Variable(initializers.GlorotUniform(), (2, 3))
    materialize([weight], [jax.sharding.SingleDeviceSharding(jax.devices()[0])])
    assert len(made) == 1
    assert weight.raw.shape == (2, 3)


class Doubled(initializers.GlorotUniform):
    def sample(self, key, shape, dtype):
        return 2 * super().sample(key, shape, dtype)


class Threes(initializers.Zeros):
    def fill(self, shape, dtype):
        return jax.numpy.full(shape, 3, dtype)


def test_a_class_that_says_itself_what_it_draws_is_left_to_it():
    plain = drawn(initializers.GlorotUniform(), (4, 4))
    assert [bits(a) for a in drawn(Doubled(), (4, 4))] == [bits(2 * b) for b in plain]
    np.testing.assert_array_equal(drawn(Threes(), (2,))[0], [3, 3])


def test_another_generator_of_jax_is_left_to_it():
    with jax.default_prng_impl("rbg"):
        rbg = drawn(initializers.GlorotUniform(), (8, 8))[0]
        expected = drawing.elements_of(initializers.GlorotUniform(), (8, 8), "float32")
    assert expected is None
    assert bits(rbg) != bits(drawn(initializers.GlorotUniform(), (8, 8))[0])


def test_a_jax_that_knows_no_generators_from_outside_draws_as_before(monkeypatch):
    rows = drawn(initializers.HeNormal(), (30, 7))
    monkeypatch.setattr(drawing, "_described", lambda: None)
    assert drawing.elements_of(initializers.HeNormal(), (30, 7), "float32") is None
    assert [bits(a) for a in drawn(initializers.HeNormal(), (30, 7))] == [bits(b) for b in rows]
