"""Planted mistakes: a missing Flatten (T601), axes exchanged (T602), and open sizes that would size a weight (T603)."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def classes(count: int, below: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, below, size=count).astype("int32")


# -- T601: a Dense meets a feature map -------------------------------------------------------------------------------
@mistake("T601", layer="dense", counted=5_130)
def convnet_without_flatten():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.Dense(10, activation="softmax"),  # <- here
        ]
    )


@mistake("T601", layer=("dense", "dense_1"), also=("T501",))
def two_dense_layers_after_the_last_pooling():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu")(x)  # <- here
    outputs = layers.Dense(10, activation="softmax")(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, numbers(4, 32, 32, 3), classes(4, 10)


@mistake("T601", layer="head", also=("T501",))
def subclass_that_forgot_to_pool():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, activation="relu")
            self.norm = layers.BatchNormalization()
            self.head = layers.Dense(5, activation="softmax")  # <- here

        def call(self, x):
            return self.head(self.norm(self.conv(x)))  # <- here

    model = Classifier()
    model.compile("adam", "categorical_crossentropy")
    x, y = numbers(4, 8, 8, 1), np.eye(5, dtype="float32")[classes(4, 5)]
    model(x)
    return model, x, y


@mistake("T601", "T501", layer=("dense", ""), also=("T501", "T601"))
def sequence_classifier_that_returns_all_steps():
    model = keras.Sequential(
        [
            keras.Input((20,), dtype="int32"),
            layers.Embedding(50, 8),
            layers.LSTM(6, return_sequences=True),  # <- here
            layers.Dense(3, activation="softmax"),  # <- here
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")  # <- here
    return model, classes(80, 50).reshape(4, 20), classes(4, 3)


@mistake("T601", "T501", layer=("dense", ""), also=("T501", "T601"))
def series_classifier_without_pooling():
    inputs = keras.Input((100, 2))
    x = layers.Conv1D(8, 5, activation="relu")(inputs)
    x = layers.MaxPooling1D(2)(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)  # <- here
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy")  # <- here
    return model, numbers(4, 100, 2), classes(4, 2).astype("float32")


@mistake("T601", layer="dense")
def volume_into_a_dense_head():
    return keras.Sequential(
        [
            keras.Input((8, 8, 8, 1)),
            layers.Conv3D(4, 3, activation="relu"),
            layers.MaxPooling3D(),
            layers.Dense(2, activation="softmax"),  # <- here
        ]
    )


# -- T602: axes exchanged --------------------------------------------------------------------------------------------
@mistake("T602", layer=("conv2d", ""))
def channels_first_images_into_a_channels_last_convolution():
    return keras.Sequential(
        [
            keras.Input((3, 32, 32)),  # <- here
            layers.Conv2D(16, 3, padding="same", activation="relu"),  # <- here
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@mistake("T602", layer=("stem", ""))
def torch_layout_in_a_functional_model():
    inputs = keras.Input((3, 224, 224))  # <- here
    x = layers.Conv2D(8, 7, strides=4, padding="same", use_bias=False, name="stem")(inputs)  # <- here
    x = layers.BatchNormalization()(x)
    x = layers.GlobalMaxPooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(2)(x))


@mistake("T602", layer=("conv", ""))
def grey_images_with_the_channel_first():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, padding="same")  # <- here
            self.pool = layers.GlobalAveragePooling2D()
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.pool(self.conv(x)))  # <- here

    model = Net()
    model(numbers(2, 1, 28, 28))
    return model


@mistake("T602", layer=("lstm", ""))
def series_of_one_step_with_all_times_as_features():
    inputs = keras.Input((1, 60))  # <- here
    x = layers.LSTM(16)(inputs)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T602", layer=("gru", ""))
def windows_reshaped_the_wrong_way_round():
    inputs = keras.Input((48,))
    x = layers.Reshape((1, 48))(inputs)  # <- here
    x = layers.GRU(8)(x)  # <- here
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


@mistake("T602", layer="batch_normalization")
def normalisation_over_the_height():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    x = layers.BatchNormalization(axis=1)(x)  # <- here
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


@mistake("T602", layer="norm")
def normalisation_copied_from_torch():
    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(8, 3, padding="same", use_bias=False)
            self.norm = layers.BatchNormalization(axis=1)  # <- here
            self.pool = layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(ops.relu(self.norm(self.conv(x))))

    model = Block()
    model(numbers(2, 16, 16, 3))
    return model


# -- T603: an open axis would size a weight --------------------------------------------------------------------------
@mistake("T603", by="function")
def flatten_of_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(10)(x))  # <- here


@mistake("T603", by="function")
def dense_on_an_open_last_axis():
    return keras.Sequential([keras.Input((None,)), layers.Dense(8), layers.Dense(1)])  # <- here


@mistake("T603", by="function")
def flatten_of_sequences_of_any_length():
    model = keras.Sequential(name="reviews")
    model.add(keras.Input((None,), dtype="int32"))
    model.add(layers.Embedding(100, 8))
    model.add(layers.Flatten())
    model.add(layers.Dense(1, activation="sigmoid"))  # <- here
    return model


@mistake("T603", by="function")
def weight_of_a_custom_layer_by_the_length():
    class Positions(layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight(shape=input_shape[1:], name="table")  # <- here

        def call(self, x):
            return x + self.table

    inputs = keras.Input((None, 16))
    x = Positions()(inputs)  # <- here
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalMaxPooling1D()(x)))


@mistake("T603", by="function")
def convolution_on_an_open_channel_axis():
    inputs = keras.Input((32, 32, None))
    x = layers.Conv2D(8, 3, padding="same")(inputs)  # <- here
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
