"""Models that both libraries can build: one function each, given the library, and data to feed the model."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

import tally
from tally.core.naming import reset_names

Build = Callable[[Any], Any]
CASES: dict[str, tuple[Build, Any]] = {}
"""Name -> how the model is built from a library (`keras` or `tally`), and inputs for it."""


@functools.cache
def both(name: str) -> tuple[Any, Any, Any, Any]:
    """The model of a case in Keras and here with equal weights, inputs, and Keras's outputs for them."""
    keras.utils.clear_session()
    reset_names()
    build, inputs = CASES[name]
    theirs, ours = build(keras), build(tally)
    ours.set_weights([np.asarray(v.value) for v in theirs.weights])
    return theirs, ours, inputs, plain(theirs(inputs))


def plain(outputs: Any) -> Any:
    return jax.tree.map(np.asarray, outputs)


def assert_same(ours: Any, theirs: Any) -> None:
    ours, theirs = plain(ours), plain(theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def tokens(*shape: int, below: int = 7) -> np.ndarray:
    """Whole numbers with zeros at the end, so that masks have something to hide."""
    drawn = np.random.default_rng(1).integers(1, below, size=shape).astype("int32")
    drawn[:, -2:] = 0
    return drawn


def case(inputs: Any) -> Callable[[Build], Build]:
    def enter(build: Build) -> Build:
        CASES[build.__name__] = (build, inputs)
        return build

    return enter


@case(numbers(2, 4))
def sequential_with_input(lib: Any) -> Any:
    layers = lib.layers
    return lib.Sequential([lib.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2)])


@case(numbers(2, 4))
def sequential_deferred(lib: Any) -> Any:
    model = lib.Sequential([lib.layers.Dense(3), lib.layers.Dropout(0.5)])
    model.add(lib.layers.Dense(2))
    model.build((None, 4))
    return model


@case(numbers(2, 4))
def sequential_popped(lib: Any) -> Any:
    model = lib.Sequential([lib.Input((4,)), lib.layers.Dense(3), lib.layers.Dense(9)])
    model.pop()
    model.add(lib.layers.Dense(2, name="head"))
    return model


@case(numbers(2, 8, 8, 3))
def convnet(lib: Any) -> Any:
    layers = lib.layers
    return lib.Sequential(
        [
            lib.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@case(numbers(2, 8, 8, 3))
def residual(lib: Any) -> Any:
    layers = lib.layers
    inputs = lib.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    for _ in range(2):
        shortcut = x
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    return lib.Model(inputs, layers.GlobalAveragePooling2D()(x), name="residual")


@case([numbers(2, 3), numbers(2, 5, seed=1)])
def two_inputs_two_outputs(lib: Any) -> Any:
    layers = lib.layers
    a, b = lib.Input((3,), name="a"), lib.Input((5,), name="b")
    joined = layers.Concatenate()([layers.Dense(4)(a), layers.Dense(2)(b)])
    return lib.Model([a, b], [layers.Dense(1, name="first")(joined), layers.Dense(2, name="second")(b)])


@case({"b": numbers(2, 3), "a": numbers(2, 5, seed=1)})
def dict_inputs_and_outputs(lib: Any) -> Any:
    layers = lib.layers
    inputs = {"b": lib.Input((3,), name="b"), "a": lib.Input((5,), name="a")}
    joined = layers.Concatenate()([inputs["b"], inputs["a"]])
    return lib.Model(inputs, {"z": layers.Dense(2)(joined), "y": layers.Dense(1)(inputs["a"])})


@case((numbers(2, 3), [numbers(2, 5), numbers(2, 2)]))
def nested_structure_of_inputs(lib: Any) -> Any:
    inputs = (lib.Input((3,)), [lib.Input((5,)), lib.Input((2,))])
    joined = lib.layers.Concatenate()([inputs[1][1], inputs[0], inputs[1][0]])
    return lib.Model(inputs, lib.layers.Dense(2)(joined))


@case([numbers(2, 4), numbers(2, 4, seed=1)])
def shared_layer(lib: Any) -> Any:
    layers = lib.layers
    a, b = lib.Input((4,)), lib.Input((4,))
    twin = layers.Dense(3, name="twin")
    return lib.Model([a, b], layers.Dense(1)(layers.Subtract()([twin(a), twin(b)])))


@case(numbers(2, 4))
def layer_used_twice_in_a_row(lib: Any) -> Any:
    inputs = lib.Input((4,))
    again = lib.layers.Dense(4, activation="tanh")
    return lib.Model(inputs, again(lib.layers.ReLU()(again(inputs))))


@case(numbers(2, 6, 6, 1))
def nested_models(lib: Any) -> Any:
    layers = lib.layers
    image = lib.Input((6, 6, 1))
    encoder = lib.Model(image, layers.Flatten()(layers.Conv2D(2, 3)(image)), name="encoder")
    head = lib.Sequential([layers.Dense(3), layers.Dense(2)], name="head")
    inputs = lib.Input((6, 6, 1))
    return lib.Model(inputs, head(encoder(inputs)), name="outer")


@case(numbers(2, 4))
def model_shared_inside_a_model(lib: Any) -> Any:
    inner_inputs = lib.Input((4,))
    inner = lib.Model(inner_inputs, lib.layers.Dense(4)(inner_inputs), name="inner")
    inputs = lib.Input((4,))
    return lib.Model(inputs, lib.layers.Add()([inner(inputs), inner(inner(inputs))]))


@case(numbers(2, 4))
def sequential_of_models(lib: Any) -> Any:
    inner = lib.Sequential([lib.Input((4,)), lib.layers.Dense(3)], name="inner")
    return lib.Sequential([inner, lib.layers.Dense(2)])


@case([numbers(2, 4), numbers(2, 4, seed=1)])
def operators(lib: Any) -> Any:
    a, b = lib.Input((4,)), lib.Input((4,))
    x = (a + b) * 2.0 - 1.0 / (2.0 + abs(a))
    x = lib.layers.Dense(3)(-(x**2))
    return lib.Model([a, b], [x[:, 1:], x > 0.0])


@case(numbers(2, 4, 3))
def ops_in_the_graph(lib: Any) -> Any:
    ops = lib.ops
    inputs = lib.Input((4, 3))
    first, rest = inputs[:, 0], inputs[:, 1:, :]
    x = ops.concatenate([first, ops.mean(rest, axis=1)], axis=-1)
    x = ops.relu(lib.layers.Dense(6)(x))
    x = ops.reshape(x, (-1, 2, 3))
    x = ops.stack([ops.max(x, axis=1), ops.sum(x, axis=1, keepdims=False)], axis=1)
    return lib.Model(inputs, ops.transpose(x, (0, 2, 1)))


@case(numbers(2, 4))
def slicing_and_where(lib: Any) -> Any:
    ops = lib.ops
    inputs = lib.Input((4,))
    x = ops.where(inputs > 0, inputs, 0.1 * inputs)
    return lib.Model(inputs, lib.layers.Dense(2)(ops.concatenate([x[:, ::2], x[..., -1:]], axis=1)))


@case(tokens(2, 6))
def masked_sequence(lib: Any) -> Any:
    layers = lib.layers
    inputs = lib.Input((6,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(inputs)
    x = layers.LSTM(3, return_sequences=True)(x)
    return lib.Model(inputs, layers.GRU(2)(layers.Dropout(0.5)(x)))


@case(tokens(2, 6))
def sequential_with_masks(lib: Any) -> Any:
    layers = lib.layers
    return lib.Sequential(
        [
            lib.Input((None,), dtype="int32"),
            layers.Embedding(7, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(2),
        ]
    )


@case(numbers(2, 5, 4))
def attention_block(lib: Any) -> Any:
    layers = lib.layers
    inputs = lib.Input((5, 4))
    x = layers.LayerNormalization()(inputs)
    x = inputs + layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    return lib.Model(inputs, layers.TimeDistributed(layers.Dense(2))(x))


@case([numbers(2, 5, 3), numbers(2, 5, 3, seed=1)])
def keyword_arguments(lib: Any) -> Any:
    layers = lib.layers
    query, value = lib.Input((5, 3)), lib.Input((5, 3))
    x, weights = layers.MultiHeadAttention(1, 2)(query=query, value=value, return_attention_scores=True)
    return lib.Model([query, value], [x, weights])


@case(numbers(2, 4))
def intermediate_output(lib: Any) -> Any:
    layers = lib.layers
    x = base_inputs = lib.Input((4,))
    for units, name in ((5, "low"), (2, "high")):
        x = layers.Dense(units, name=name)(x)
    base = lib.Model(base_inputs, x)
    return lib.Model(base.input, base.get_layer("low").output)


@case(numbers(2, 4))
def frozen_parts(lib: Any) -> Any:
    layers = lib.layers
    frozen = layers.Dense(3, trainable=False)
    return lib.Sequential([lib.Input((4,)), frozen, layers.BatchNormalization(), layers.Dense(1)])


@case(numbers(3, 4))
def fixed_batch(lib: Any) -> Any:
    inputs = lib.Input((4,), batch_size=3)
    return lib.Model(inputs, lib.layers.Dense(2)(inputs))


@case(numbers(2, 4))
def an_output_that_is_an_input(lib: Any) -> Any:
    inputs = lib.Input((4,))
    return lib.Model(inputs, [inputs, lib.layers.Dense(2)(inputs)])
