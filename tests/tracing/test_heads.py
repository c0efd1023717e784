"""The activation at an output is read off the equations, however it was written."""

import jax
import jax.numpy as jnp
import pytest

import tally
from tally import layers, ops
from tally.tracing.following import follow
from tally.tracing.heads import heads


def softmax_by_hand(x):
    e = ops.exp(x - ops.max(x, -1, keepdims=True))
    return e / ops.sum(e, -1, keepdims=True)


@pytest.mark.parametrize(
    ("end", "head"),
    [
        (layers.Activation("softmax"), "softmax"),
        (layers.Softmax(), "softmax"),
        (layers.Lambda(jax.nn.softmax), "softmax"),
        (layers.Lambda(softmax_by_hand), "softmax"),
        (layers.Activation("sigmoid"), "sigmoid"),
        (layers.Lambda(lambda x: 1 / (1 + jnp.exp(-x))), None),
        (layers.Activation("tanh"), "tanh"),
        (layers.Activation("relu"), "relu"),
        (layers.Dense(3, name="last"), "linear"),
        (layers.Dense(3, use_bias=False, name="last"), "linear"),
        (layers.Reshape((2, 2)), "linear"),
        (layers.Lambda(lambda x: x / jnp.sum(x, -1, keepdims=True)), None),
    ],
)
def test_the_head_of_a_model(end, head):
    model = tally.Sequential([tally.Input((5,)), layers.Dense(4, name="first"), end])
    assert heads(follow(model)) == [head]


def test_each_output_has_its_own():
    inputs = tally.Input((5,))
    outputs = [layers.Dense(2, activation="softmax")(inputs), layers.Dense(1)(inputs)]
    assert heads(follow(tally.Model(inputs, outputs))) == ["softmax", "linear"]
