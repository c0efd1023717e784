"""Planted mistakes: the loss doesn't fit the last activation, the labels or the number of classes (T501)."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(count: int, below: int, start: int = 0) -> np.ndarray:
    """Class numbers, each at least once."""
    drawn = np.random.default_rng(1).integers(start, start + below, size=count).astype("int32")
    drawn[:below] = np.arange(start, start + below)
    return drawn


# -- the last activation and the loss --------------------------------------------------------------------------------
@mistake("T501", layer=("dense_1", ""))
def softmax_into_a_loss_from_logits():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(10, activation="softmax"),  # <- here
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # <- here
    return model


@mistake("T501", layer=("dense", ""))
def logits_into_a_loss_of_probabilities():
    inputs = keras.Input((28, 28))
    x = layers.Flatten()(inputs)
    outputs = layers.Dense(10)(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])  # <- here
    return model


@mistake("T501", layer=("dense", ""))
def one_unit_with_softmax():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(1, activation="softmax"),  # <- here
        ]
    )
    model.compile("adam", "binary_crossentropy")  # <- here
    return model


@mistake("T501", layer=("out", ""))
def linear_unit_with_binary_crossentropy():
    inputs = keras.Input((6,))
    x = layers.Dense(4, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="out")(x))  # <- here
    model.compile("adam", "binary_crossentropy")  # <- here
    return model


@mistake("T501", layer=("dense_1", ""))
def sigmoid_twice_over():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4, activation="relu"),
            layers.Dense(1, activation="sigmoid"),  # <- here
        ]
    )
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))  # <- here
    return model


@mistake("T501", layer=("softmax", "dense", ""))
def softmax_as_a_layer_of_its_own_into_a_loss_from_logits():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(5),
            layers.Softmax(),  # <- here
        ]
    )
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))  # <- here
    return model


@mistake("T501", layer=("logits", ""))
def softmax_by_an_op_in_a_subclass_into_a_loss_from_logits():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.logits = layers.Dense(4)

        def call(self, x):
            return ops.softmax(self.logits(x))  # <- here

    model = Classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # <- here
    model(numbers(2, 3))
    return model


@mistake("T501", layer=("dense", ""))
def sigmoid_over_exclusive_classes():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(10, activation="sigmoid"),  # <- here
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])  # <- here
    return model, numbers(16, 8), classes(16, 10)


@mistake("T501", layer=("dense", ""))
def relu_over_classes():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(3, activation="relu")(inputs))  # <- here
    model.compile("adam", "categorical_crossentropy")  # <- here
    return model


@mistake("T501", layer=("dense", ""))
def one_sigmoid_unit_with_a_loss_over_classes():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, activation="sigmoid")])  # <- here
    model.compile("adam", "categorical_crossentropy")  # <- here
    return model


@mistake("T501", layer=("label", ""))
def one_of_two_heads_with_the_wrong_loss():
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu")(inputs)
    age = layers.Dense(1, name="age")(x)
    label = layers.Dense(4, name="label")(x)  # <- here
    model = keras.Model(inputs, {"age": age, "label": label})
    model.compile(  # <- here
        "adam",
        {"age": "mse", "label": "sparse_categorical_crossentropy"},  # <- here
    )
    return model


@mistake("T501", layer=("dense", ""))
def tanh_with_binary_crossentropy():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, activation="tanh")])  # <- here
    model.compile("adam", "binary_crossentropy")  # <- here
    return model


# -- labels and the loss ---------------------------------------------------------------------------------------------
@mistake("T501", layer=("dense", ""))
def class_numbers_against_categorical_crossentropy():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="softmax")])  # <- here
    model.compile("adam", "categorical_crossentropy")  # <- here
    return model, numbers(16, 8), classes(16, 4)


@mistake("T501", layer=("dense", ""))
def one_hot_labels_against_sparse_crossentropy():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="softmax")])  # <- here
    model.compile("adam", "sparse_categorical_crossentropy")  # <- here
    return model, numbers(16, 8), np.eye(4, dtype="float32")[classes(16, 4)]


@mistake("T501", layer=("dense", ""))
def nine_units_for_ten_classes():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(9, activation="softmax")])  # <- here
    model.compile("adam", "sparse_categorical_crossentropy")  # <- here
    return model, numbers(16, 8), classes(16, 10)


@mistake("T501", layer=("dense", ""))
def classes_counted_from_one():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(5, activation="softmax")(inputs))  # <- here
    model.compile("adam", "sparse_categorical_crossentropy")  # <- here
    return model, numbers(16, 8), classes(16, 5, start=1)


@mistake("T501", layer=("dense", ""))
def one_hot_of_fewer_classes_than_units():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(10, activation="softmax")])  # <- here
    model.compile("adam", "categorical_crossentropy")  # <- here
    return model, numbers(16, 8), np.eye(7, dtype="float32")[classes(16, 7)]


@mistake("T501", layer=("dense", ""))
def class_numbers_against_one_sigmoid_unit():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1, activation="sigmoid")])  # <- here
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])  # <- here
    return model, numbers(16, 8), classes(16, 3).astype("float32")


@mistake("T501", layer=("dense", ""))
def two_targets_for_one_unit():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])  # <- here
    model.compile("adam", "mse")  # <- here
    return model, numbers(16, 8), numbers(16, 2)


@mistake("T501", layer=("mask", ""))
def mask_of_another_size_than_the_output():
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy")  # <- here
    return model, numbers(2, 16, 16, 1), np.ones((2, 16, 16, 1), "float32")
