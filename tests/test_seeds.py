"""Every number and behaviour that the five questions behind this project state."""

import numpy as np
import pytest

import tally as keras
from tally import backend as K
from tally import layers, models


def counts(model):
    return [layer.count_params() for layer in model.layers]


def mnist_convnet():
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def test_a_convolution_of_32_filters_on_28x28x1_has_320_parameters():
    layer = layers.Conv2D(32, (3, 3))
    layer.build((None, 28, 28, 1))
    assert layer.count_params() == 320


def test_the_quiz_network_has_the_counts_and_shapes_of_the_answer():
    model = mnist_convnet()
    assert counts(model) == [320, 0, 18496, 0, 0, 0, 16010]
    assert model.count_params() == 34826
    shapes = [layer.output.shape for layer in model.layers]
    assert shapes[:4] == [(None, 26, 26, 32), (None, 13, 13, 32), (None, 11, 11, 64), (None, 5, 5, 64)]
    assert shapes[4] == (None, 1600)


def test_ten_filters_of_4x4_on_three_channels_have_490_weights_and_a_29x29_output():
    model = models.Sequential()
    model.add(layers.Conv2D(10, (4, 4), input_shape=(32, 32, 3)))
    assert model.count_params() == 490
    assert model.output_shape == (None, 29, 29, 10)
    assert model.layers[0].kernel.shape == (4, 4, 3, 10)


def test_summing_the_channels_first_leaves_170_weights():
    model = models.Sequential()
    model.add(layers.Lambda(lambda x: K.expand_dims(K.sum(x, axis=-1)), input_shape=(32, 32, 3)))
    model.add(layers.Conv2D(10, (4, 4)))
    assert counts(model) == [0, 170]
    assert model.layers[0].output.shape == (None, 32, 32, 1)
    assert model.output_shape == (None, 29, 29, 10)


def test_a_convolutions_trainable_variables_are_empty_until_its_first_call():
    layer = layers.Conv2D(filters=32, kernel_size=3)
    assert layer.trainable_variables == []
    layer(np.random.rand(1, 28, 28, 3).astype("float32"))
    kernel, bias = layer.trainable_variables
    assert (kernel.shape, bias.shape) == ((3, 3, 3, 32), (32,))
    assert kernel is layer.kernel
    assert bias is layer.bias


def test_a_strided_convolution_on_depth_one_has_1664_parameters():
    layer = layers.Conv2D(filters=64, kernel_size=(5, 5), strides=2, padding="same")
    output = layer(np.random.rand(2, 32, 32, 1).astype("float32"))
    assert (layer.kernel.shape, layer.bias.shape) == ((5, 5, 1, 64), (64,))
    assert sum(v.count for v in layer.trainable_variables) == 1664
    assert output.shape == (2, 16, 16, 64)


def test_fixed_weights_are_used_counted_and_not_trained():
    fixed = np.random.rand(3, 3, 1, 32).astype("float32")
    model = keras.Sequential(
        [
            layers.Conv2D(
                32, (3, 3), activation="relu", input_shape=(28, 28, 1), weights=[fixed, np.zeros((32,))]
            ),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    total = model.count_params()
    model.layers[0].trainable = False
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), fixed)
    assert sum(v.count for v in model.non_trainable_weights) == 320
    assert model.count_params() == total == 320 + 13 * 13 * 32 * 10 + 10
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.random.rand(8, 28, 28, 1), np.arange(8), epochs=1, verbose=0)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), fixed)


def test_average_pooling_has_no_parameters_and_a_ninth_as_its_fixed_weight():
    model = keras.Sequential(
        [
            layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same", input_shape=(28, 28, 1)),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    assert counts(model) == [0, 0, 0, 1970]
    image = np.zeros((1, 28, 28, 1), "float32")
    image[0, 10, 10, 0] = 1
    assert np.asarray(model.layers[0](image))[0, 10, 10, 0] == pytest.approx(1 / 9)


class CorrectLinear(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.w) + self.b


class EarlyLinear(keras.layers.Layer):
    def __init__(self, units, input_dim, **kwargs):
        super().__init__(**kwargs)
        self.w = self.add_weight(shape=(input_dim, units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.w) + self.b


class NaiveLinear(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, inputs):
        self.w = keras.random.normal(shape=(inputs.shape[-1], self.units))
        self.b = keras.ops.zeros(shape=(self.units,))
        return keras.ops.matmul(inputs, self.w) + self.b


@pytest.mark.parametrize("layer", [lambda: CorrectLinear(5), lambda: EarlyLinear(5, 10)])
def test_a_custom_linear_layer_counts_50_and_5(layer):
    inputs = keras.layers.Input(shape=(10,))
    model = keras.Model(inputs=inputs, outputs=layer()(inputs))
    assert [v.count for v in model.trainable_variables] == [50, 5]
    assert model.count_params() == 55


def test_weights_made_in_call_are_reported_with_their_lines_not_silently_zero():
    inputs = keras.layers.Input(shape=(10,))
    model = keras.Model(inputs=inputs, outputs=NaiveLinear(5)(inputs))
    ledger = keras.account(model)
    assert ledger.total == 0
    lost = [entry for entry in ledger.entries if entry.state == "untracked"]
    assert [(entry.name, entry.shape) for entry in lost] == [("w", (10, 5)), ("b", (5,))]
    lines = [int(entry.origin.rsplit(":", 1)[1]) for entry in lost]
    assert lines[1] == lines[0] + 1
    shown = []
    model.summary(print_fn=shown.append)
    assert "0 (2 untracked)" in shown[0]


def test_a_depthwise_separable_convolution_counts_its_two_steps():
    layer = layers.SeparableConv2D(10, (4, 4))
    layer.build((None, 32, 32, 3))
    assert layer.count_params() == 4 * 4 * 3 + 3 * 10 + 10
    assert [v.shape for v in layer.weights] == [(4, 4, 3, 1), (1, 1, 3, 10), (10,)]


def test_the_quiz_network_learns():
    model = mnist_convnet()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.zeros((40, 28, 28, 1), "float32")
    y = np.arange(40) % 10
    x[np.arange(40), 2 * y + 4, 2 * y + 4, 0] = 5.0
    before = model.evaluate(x, y, verbose=0)[0]
    model.fit(x, y, epochs=8, batch_size=10, verbose=0)
    assert model.evaluate(x, y, verbose=0)[0] < before
