"""Labels reach what depends on their source, and gradients end where they end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers, ops
from tally.tracing.flow import carry
from tally.tracing.following import follow


def flow_of(call, training=True):
    """The flow of a layer with the weights `a` and `b` of shape (3, 3), whose call is given."""

    class Probe(layers.Layer):
        def build(self, shape):
            self.a = self.add_weight((3, 3), name="a")
            self.b = self.add_weight((3, 3), name="b")

    Probe.call = lambda self, x: call(self.a.value, self.b.value, x)
    layer = Probe()
    layer(np.ones((4, 3), "float32"))
    return carry(follow(layer, training=training))


def named(flow, bits):
    return "".join(v.name for v in flow.run.variables if bits & flow.bit(v))


@pytest.mark.parametrize(
    ("call", "reached", "learning"),
    [
        (lambda a, b, x: x @ a, "a", "a"),
        (lambda a, b, x: x @ a + jax.lax.stop_gradient(x @ b), "ab", "a"),
        (lambda a, b, x: x @ a + jnp.round(x @ b), "ab", "a"),
        (lambda a, b, x: x @ a + jnp.sign(x @ b), "ab", "a"),
        (lambda a, b, x: x @ a * (x @ b > 0), "ab", "a"),
        (lambda a, b, x: x @ a + (x @ b).astype("int32"), "ab", "a"),
        (lambda a, b, x: x @ a + 0.0 * (x @ b), "ab", "a"),
        (lambda a, b, x: a[jnp.argmax(x @ b, -1)], "ab", "a"),
        (lambda a, b, x: jnp.where(x @ b > 0, x @ a, 0.0), "ab", "a"),
        (lambda a, b, x: (y := x @ b) + jax.lax.stop_gradient(jnp.round(y) - y), "b", "b"),
        (lambda a, b, x: jax.nn.softmax(jax.nn.relu(x @ a) @ b), "ab", "ab"),
        (lambda a, b, x: jax.lax.cond(x.sum() > 0, lambda: x @ a, lambda: x @ b), "ab", "ab"),
        (lambda a, b, x: jax.jit(lambda w: x @ w)(b), "b", "b"),
        (lambda a, b, x: jax.checkpoint(lambda w: jnp.sin(x @ w))(a), "a", "a"),
    ],
)
def test_what_reaches_the_output_and_what_learns(call, reached, learning):
    flow = flow_of(call)
    assert named(flow, flow.reached()) == reached
    assert named(flow, flow.learning()) == learning


def test_what_a_loop_carries_depends_on_what_it_was_before():
    def call(a, b, x):
        def body(carry, _):
            first, second = carry
            return (second @ a, first), None  # `b` arrives only in the second round

        (out, _), _ = jax.lax.scan(body, (x, x @ b), None, length=3)
        return out

    flow = flow_of(call)
    assert named(flow, flow.reached()) == "ab"
    assert named(flow, flow.learning()) == "ab"


def test_a_loop_without_a_known_end_is_followed():
    def call(a, b, x):
        return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] @ a, s[1] + 1), (x @ b, 0))[0]

    flow = flow_of(call)
    assert named(flow, flow.reached()) == "ab"


def test_a_rule_of_its_own_decides_on_the_gradient():
    @jax.custom_vjp
    def straight(x):
        return jnp.round(x)

    straight.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))
    flow = flow_of(lambda a, b, x: straight(x @ a))
    assert named(flow, flow.learning()) == "a"


def test_a_stop_knows_its_words_and_the_users_line():
    flow = flow_of(lambda a, b, x: jnp.round(x @ b))
    (stop,) = (stop for stop in flow.stops if stop.bits & flow.bit(flow.run.variables[1]))
    line = test_a_stop_knows_its_words_and_the_users_line.__code__.co_firstlineno + 1
    assert stop.words == "rounding"
    assert stop.line.startswith(f"tests/tracing/test_flow.py:{line}:")


def test_the_inputs_bits_tell_which_input_leads_somewhere():
    first, second = tally.Input((3,)), tally.Input((3,))
    model = tally.Model([first, second], layers.Dense(1)(first) + 0 * ops.zeros_like(second))
    flow = carry(follow(model))
    count = len(flow.run.variables)
    assert [flow.reached() >> (count + place) & 1 for place in range(2)] == [1, 0]


def test_a_drawn_array_and_a_constant_are_told_apart_where_they_multiply():
    table = np.arange(9.0, dtype="float32").reshape(3, 3)
    flow = flow_of(lambda a, b, x: x @ jax.random.normal(jax.random.key(0), (3, 3)) + x @ table)
    kinds = [one.made.kind for one in flow.weightlike if one.operation == "dot_general"]
    assert kinds == ["drawn", "constant"]
