"""Correct models about which `diagnose` has something to note: nothing is wrong, but a number wants a word."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import note


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


@note("T102", "T108", layer="standardise")
def constants_as_attributes():
    class Standardise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = np.array([0.485, 0.456, 0.406], "float32")  # <- here
            self.std = np.array([0.229, 0.224, 0.225], "float32")  # <- here

        def call(self, x):
            return (x - self.mean) / self.std

    return keras.Sequential([keras.Input((8, 8, 3)), Standardise(), layers.Flatten(), layers.Dense(1)])


@note("T102", "T108", layer="frequencies")
def table_of_frequencies():
    class Frequencies(layers.Layer):
        def __init__(self, bands):
            super().__init__()
            self.bands = 2.0 ** np.arange(bands, dtype="float32")  # <- here

        def call(self, x):
            return ops.sin(x[..., None] * self.bands)

    return keras.Sequential([keras.Input((3,)), Frequencies(4), layers.Flatten(), layers.Dense(1)])


@note("T108", layer="average_pooling2d")
def averages_over_windows():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same"),  # <- here
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@note("T108", layer="pool")
def average_over_all_words():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 4)(inputs)
    x = layers.GlobalAveragePooling1D(name="pool")(x)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@note("T205", layer="dense")
def size_of_the_input_given_to_the_first_layer():
    model = keras.Sequential()
    model.add(layers.Dense(4, input_dim=8, activation="relu"))  # <- here
    model.add(layers.Dense(1))
    return model


@note("T205", layer="conv2d")
def shape_of_the_input_given_to_the_first_layer():
    return keras.Sequential(
        [
            layers.Conv2D(10, (4, 4), input_shape=(32, 32, 3)),  # <- here
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


@note("T205", layer="fixed")
def weights_given_to_the_constructor():
    fixed_weights = np.random.default_rng(0).random((3, 3, 1, 4)).astype("float32")
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, weights=[fixed_weights, np.zeros(4, "float32")], name="fixed"),  # <- here
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


@note("T304", layer=("conv2d", "batch_normalization"))
def bias_of_a_convolution_in_front_of_a_normalisation():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),  # <- here
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1),
        ]
    )


@note("T304", layer=("hidden", "norm"))
def bias_of_a_dense_in_front_of_a_normalisation():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(8)  # <- here
            self.norm = layers.BatchNormalization()
            self.head = layers.Dense(1)

        def call(self, x, training=False):
            return self.head(ops.relu(self.norm(self.hidden(x), training=training)))

    model = Net()
    model(ones(2, 4))
    return model


@note("T305", layer="twin")
def one_layer_for_two_inputs():
    a, b = keras.Input((4,)), keras.Input((4,))
    twin = layers.Dense(3, name="twin")  # <- here
    return keras.Model([a, b], layers.Dense(1)(layers.Subtract()([twin(a), twin(b)])))


@note("T305", layer=("tower", "tower/dense"))
def one_model_for_two_inputs():
    tower = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="tower")  # <- here
    a, b = keras.Input((4,)), keras.Input((4,))
    return keras.Model([a, b], layers.Dot(axes=1)([tower(a), tower(b)]))


@note("T305", layer=("embed", ""))
def output_tied_to_the_embedding():
    class Lm(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(20, 6)  # <- here
            self.mix = layers.LSTM(6, return_sequences=True)

        def call(self, ids):
            x = self.mix(self.embed(ids))
            return ops.matmul(x, ops.transpose(self.embed.embeddings))  # <- here

    model = Lm()
    model(np.ones((2, 4), "int32"))
    return model


@note("T401", layer="low")
def layer_frozen_by_its_constructor():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, trainable=False, name="low"),  # <- here
            layers.Dense(1),
        ]
    )


@note("T401", layer=("base", "base/dense"))
def base_frozen_by_a_switch():
    base = keras.Sequential([keras.Input((4,)), layers.Dense(6)], name="base")
    base.trainable = False  # <- here
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@note("T401", layer="adapted")
def kernel_frozen_by_low_rank_adaptation():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="adapted"), layers.Dense(1)])
    model.get_layer("adapted").enable_lora(2)  # <- here
    return model


@note("T404", layer="batch_normalization")
def moving_statistics():
    inputs = keras.Input((8,))
    x = layers.Dense(4, use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@note("T404", layer="counted")
def counter_of_steps():
    class Counted(layers.Layer):
        def __init__(self):
            super().__init__()
            self.steps = self.add_weight(  # <- here
                shape=(), initializer="zeros", dtype="int32", trainable=False, name="steps"
            )

        def call(self, x, training=False):
            if training:
                self.steps.assign_add(1)
            return x

    return keras.Sequential([keras.Input((4,)), Counted(), layers.Dense(1)])


@note("T404", layer="dropout")
def state_of_a_seed():
    return keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), layers.Dense(1)])  # <- here


@note("T503", layer="")
def moments_of_adam_after_training():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(ones(4, 4), ones(4, 1), verbose=0)
    return model


@note("T503", layer="")
def momentum_after_one_batch():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.train_on_batch(ones(4, 4), ones(4, 1))
    return model


@note("T702", layer=("first", "second"))
def weights_copied_from_one_layer_to_another():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="first"), layers.Dense(4, name="second")]
    )
    model.get_layer("second").set_weights(model.get_layer("first").get_weights())
    return model


@note("T702", layer=("question", "answer"))
def tie_lost_by_copying():
    question, answer = keras.Input((5,), dtype="int32"), keras.Input((7,), dtype="int32")
    asked = layers.Embedding(12, 6, name="question")
    answered = layers.Embedding(12, 6, name="answer")
    pooled = [layers.GlobalMaxPooling1D()(asked(question)), layers.GlobalMaxPooling1D()(answered(answer))]
    model = keras.Model([question, answer], layers.Dot(axes=1)(pooled))
    answered.embeddings.assign(asked.embeddings.value)
    return model
