"""Correct models: frozen, thawed and compiled in the right order, changed before the build, ready to be used."""

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import correct


def data(targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, targets)).astype("float32")


def make_base() -> keras.Model:
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="relu", name="low")(inputs)
    return keras.Model(inputs, layers.Dense(3, activation="relu", name="high")(x), name="base")


@correct
def unfrozen_and_compiled_again():
    x, y = data()
    base = make_base()
    base.trainable = False
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    base.trainable = True
    model.compile(keras.optimizers.Adam(1e-5), "mse")
    model.fit(x, y, verbose=0)
    return model


@correct
def frozen_by_layers_then_wholly_unfrozen():
    base = make_base()
    for layer in base.layers:
        layer.trainable = False
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile("adam", "mse")
    base.trainable = True
    model.compile("adam", "mse")
    return model


@correct
def frozen_as_a_whole_by_its_constructor():
    inputs = keras.Input((5, 4))
    x = layers.MultiHeadAttention(2, 3, trainable=False)(inputs, inputs)
    x = layers.Bidirectional(layers.LSTM(3), trainable=False)(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


@correct
def frozen_parent_and_a_frozen_child():
    base = make_base()
    base.get_layer("low").trainable = False
    base.trainable = False
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@correct
def frozen_after_compile_and_before_training():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="first"), layers.Dense(1)])
    model.compile("adam", "mse")
    model.get_layer("first").trainable = False
    x, y = data()
    model.fit(x, y, verbose=0)
    return model


@correct
def embeddings_given_and_frozen():
    table = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(
        20, 6, embeddings_initializer=keras.initializers.Constant(table), trainable=False, mask_zero=False
    )(inputs)
    x = layers.Conv1D(4, 3, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.GlobalMaxPooling1D()(x)))
    model.compile("adam", "binary_crossentropy")
    return model


@correct
def low_rank_adaptation():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, activation="relu", name="adapted"), layers.Dense(1, name="head")]
    )
    model.get_layer("adapted").enable_lora(2)
    model.compile("adam", "mse")
    return model


@correct
def head_exchanged_and_compiled_again():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = layers.Dense(3, activation="relu"), layers.Dense(1)

        def call(self, x):
            return self.head(self.trunk(x))

    x, y = data()
    model = Net()
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.head = layers.Dense(2)
    model.compile("adam", "mse")
    x, y = data(2)
    model.fit(x, y, verbose=0)
    return model


@correct
def sequential_grown_step_by_step():
    model = keras.Sequential()
    model.add(keras.Input((4,)))
    model.add(layers.Dense(3, activation="relu"))
    model.summary(print_fn=lambda *_, **__: None)
    model.add(layers.Dense(2))
    model.pop()
    model.add(layers.Dense(1))
    model.compile("adam", "mse")
    return model


@correct
def trained_model():
    x, y = data()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), layers.Dense(1)]
    )
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(x, y, epochs=2, verbose=0)
    return model, x, y


@correct
def predictor_that_gives_class_numbers():
    inputs = keras.Input((4,))
    probabilities = layers.Dense(3, activation="softmax")(layers.Dense(8, activation="relu")(inputs))
    classifier = keras.Model(inputs, probabilities)
    classifier.compile("adam", "sparse_categorical_crossentropy")
    x, _ = data()
    classifier.fit(x, np.arange(8) % 3, verbose=0)
    return keras.Model(classifier.input, ops.argmax(classifier.output, axis=-1))


@correct
def fixed_features_and_a_head_by_stop_gradient():
    base = make_base()
    base.trainable = False
    inputs = keras.Input((4,))
    features = ops.stop_gradient(base(inputs))
    model = keras.Model(inputs, layers.Dense(1)(features))
    model.compile("adam", "mse")
    return model


@correct
def phase_handed_on():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = layers.BatchNormalization(), layers.Dropout(0.2)
            self.dense = layers.Dense(4)

        def call(self, x, training=None):
            x = self.norm(self.dense(x), training=training)
            return self.drop(x, training=training)

    model = keras.Sequential([keras.Input((4,)), Block(), Block(), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@correct
def actor_and_critic():
    inputs = keras.Input((4,))
    common = layers.Dense(8, activation="relu")(inputs)
    action = layers.Dense(2, activation="softmax")(common)
    critic = layers.Dense(1)(common)
    return keras.Model(inputs, [action, critic])


@correct
def duelling_q_network():
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    value, advantage = layers.Dense(1)(x), layers.Dense(3)(x)
    q = value + advantage - ops.mean(advantage, axis=-1, keepdims=True)
    model = keras.Model(inputs, q)
    model.compile("adam", "huber")
    return model


@correct
def hard_activations_that_have_gradients():
    inputs = keras.Input((6,))
    x = layers.Dense(6, activation="hard_sigmoid")(inputs)
    x = layers.Dense(6, activation="relu6")(x)
    x = ops.where(x > 1.0, x, 0.1 * x)
    x = ops.clip(layers.Dense(6)(x), -1.0, 1.0)
    x = ops.sign(x) * ops.sqrt(ops.abs(x) + 1e-6)
    model = keras.Model(inputs, layers.Dense(1)(ops.maximum(x, 0.0)))
    model.compile("adam", "mse")
    return model


@correct(by="function")
def model_built_by_a_function():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@correct(by="function")
def adversarial_pair_built_by_a_function():
    noise = keras.Input((3,))
    generator = keras.Model(noise, layers.Dense(4)(layers.Dense(8, activation="relu")(noise)))
    sample = keras.Input((4,))
    verdict = layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="relu")(sample))
    discriminator = keras.Model(sample, verdict)
    discriminator.trainable = False
    seed = keras.Input((3,))
    gan = keras.Model(seed, discriminator(generator(seed)))
    gan.compile("adam", "binary_crossentropy")
    return gan


@correct(by="function")
def shapes_tried_out_while_building():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    side = layers.MaxPooling2D().compute_output_shape(x.shape)[1]
    x = layers.MaxPooling2D()(x)
    x = layers.Reshape((side * side * 4,))(x)
    return keras.Model(inputs, layers.Dense(2)(x))
