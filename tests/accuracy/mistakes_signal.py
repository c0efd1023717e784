"""Planted mistakes that one batch shows: dead, saturated, exploding or vanishing signals, NaN and overflow (T502)."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@mistake("T502", layer="hidden")
def units_dead_by_their_bias():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(  # <- here
                16, activation="relu", bias_initializer=keras.initializers.Constant(-100.0), name="hidden"
            ),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile("adam", "mse")
    return model, numbers(16, 8), numbers(16, 1)


@mistake("T502", layer=("first", "second"))
def kernels_of_zeros_in_front_of_relu():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu", kernel_initializer="zeros", name="first")(inputs)  # <- here
    x = layers.Dense(16, activation="relu", kernel_initializer="zeros", name="second")(x)  # <- here
    model = keras.Model(inputs, layers.Dense(1, name="head")(x))
    model.compile("adam", "mse")
    return model, numbers(16, 8), numbers(16, 1)


@mistake("T502")
def deep_stack_that_explodes():
    model = keras.Sequential([keras.Input((32,))])
    wide = keras.initializers.RandomNormal(stddev=5.0)
    for _ in range(8):
        model.add(layers.Dense(64, activation="relu", kernel_initializer=wide))  # <- here
    model.add(layers.Dense(1))  # <- here
    model.compile("sgd", "mse")
    return model, numbers(16, 32), numbers(16, 1)


@mistake("T502")
def deep_sigmoids_that_vanish():
    model = keras.Sequential([keras.Input((16,))])
    for _ in range(12):
        model.add(layers.Dense(16, activation="sigmoid"))  # <- here
    model.add(layers.Dense(1))  # <- here
    model.compile("sgd", "mse")
    return model, numbers(16, 16), numbers(16, 1)


@mistake("T502", layer=("hidden", ""))
def grey_values_of_255_into_sigmoids():
    pixels = np.random.default_rng(0).integers(0, 256, size=(16, 28, 28)).astype("float32")
    inputs = keras.Input((28, 28))
    x = layers.Flatten()(inputs)
    x = layers.Dense(32, activation="sigmoid", name="hidden")(x)  # <- here
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="digits")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, pixels, (np.arange(16) % 10).astype("int32")


@mistake("T502")
def missing_values_in_the_data():
    x = numbers(16, 8)
    x[3, 2] = np.nan
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    return model, x, numbers(16, 1)


@mistake("T502", layer=("logarithm", ""))
def logarithm_of_zero():
    counts = np.random.default_rng(0).poisson(1.0, size=(16, 8)).astype("float32")

    class Logarithm(layers.Layer):
        def call(self, x):
            return ops.log(x)  # <- here

    model = keras.Sequential([keras.Input((8,)), Logarithm(), layers.Dense(1)])  # <- here
    model.compile("adam", "mse")
    return model, counts, numbers(16, 1)


@mistake("T502")
def overflow_of_float16():
    keras.config.set_dtype_policy("float16")
    inputs = keras.Input((64,))
    x = layers.Dense(64, kernel_initializer="ones", name="sums")(inputs)  # <- here
    outputs = layers.Dense(1, kernel_initializer="ones", name="head")(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    return model, np.full((8, 64), 50.0, "float32"), numbers(8, 1)


@mistake("T502", layer=("features", ""))
def tanh_saturated_by_prices():
    prices = np.random.default_rng(0).uniform(1e4, 1e6, size=(16, 5)).astype("float32")

    class Regressor(keras.Model):
        def __init__(self):
            super().__init__()
            self.features = layers.Dense(16, activation="tanh")  # <- here
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.features(x))

    model = Regressor()
    model.compile("adam", "mse")
    model(prices)
    return model, prices, numbers(16, 1)
