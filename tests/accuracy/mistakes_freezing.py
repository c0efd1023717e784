"""Planted mistakes: `trainable` switched too late (T402) or against itself (T403), and phases fixed by hand (T405)."""

import tempfile
from pathlib import Path

import numpy as np

import tally as keras
from tally import layers, ops

from .registry import mistake


def data(*shape: int, targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=shape).astype("float32"), rng.normal(size=(shape[0], targets)).astype("float32")


def make_base() -> keras.Model:
    """What stands for a pretrained network."""
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="relu", name="low")(inputs)
    x = layers.Dense(5, activation="relu", name="middle")(x)
    return keras.Model(inputs, layers.Dense(3, activation="relu", name="high")(x), name="base")


# -- T402: switched after compile, and not taken up ------------------------------------------------------------------
@mistake("T402", layer=("base", "base/low", "base/middle", "base/high"), counted=86)
def base_unfrozen_for_fine_tuning_without_compiling_again():
    x, y = data(8, 4)
    base = make_base()
    base.trainable = False
    model = keras.Sequential([base, layers.Dense(1, use_bias=False)])
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    base.trainable = True  # <- here
    return model


@mistake("T402", layer="middle", counted=49)
def one_layer_unfrozen_after_training():
    x, y = data(8, 4)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu", name="low", trainable=False),
            layers.Dense(6, activation="relu", name="middle", trainable=False),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile("rmsprop", "mse")
    model.fit(x, y, epochs=1, verbose=0)
    for layer in model.layers[-2:]:
        layer.trainable = True  # <- here
    return model


@mistake("T402", layer="low")
def loaded_model_unfrozen_without_compiling_again():
    x, y = data(8, 4)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, name="low", trainable=False), layers.Dense(1, name="head")]
    )
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.saving.load_model(Path(folder) / "model.keras")
    loaded.get_layer("low").trainable = True  # <- here
    return loaded


@mistake("T402", layer="encoder")
def attribute_of_a_subclass_unfrozen_after_training():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = layers.Dense(6, activation="relu", trainable=False)
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.encoder(x))

    x, y = data(8, 4)
    model = Net()
    model.compile("sgd", "mse")
    model.train_on_batch(x, y)
    model.encoder.trainable = True  # <- here
    return model


# -- T403: switches that contradict each other -----------------------------------------------------------------------
@mistake("T403", layer=("base", "base/high", "base/middle"), counted=4)
def last_layers_of_a_frozen_base_switched_on():
    base = make_base()
    base.trainable = False  # <- here
    for layer in base.layers[-2:]:
        layer.trainable = True  # <- here
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(base(inputs)))
    model.compile("adam", "mse")
    return model


@mistake("T403", layer=("", "head"), counted=0)
def head_switched_on_inside_a_frozen_model():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(1, name="head")]
    )
    model.trainable = False  # <- here
    model.get_layer("head").trainable = True  # <- here
    model.compile("adam", "mse")
    return model


@mistake("T403", layer=("", "embedding"), counted=89)
def frozen_embedding_undone_by_the_model():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(10, 8, trainable=False, name="embedding")(inputs)  # <- here
    outputs = layers.Dense(1)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, outputs)
    model.trainable = True  # <- here
    model.compile("adam", "mse")
    return model


@mistake("T403", layer=("base", "base/low"))
def low_layers_frozen_then_the_base_switched_on():
    base = make_base()
    base.get_layer("low").trainable = False  # <- here
    base.trainable = True  # <- here
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@mistake("T403", layer=("encoder", "encoder/adapter"), counted=5)
def adapter_inside_a_frozen_encoder():
    class Encoder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)
            self.adapter = layers.Dense(4)

        def call(self, x):
            x = self.dense(x)
            return x + self.adapter(x)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()
            self.head = layers.Dense(1)
            self.encoder.trainable = False  # <- here
            self.encoder.adapter.trainable = True  # <- here

        def call(self, x):
            return self.head(self.encoder(x))

    model = Net()
    model(np.ones((2, 3), "float32"))
    return model


# -- T405: the phase fixed by hand -----------------------------------------------------------------------------------
@mistake("T405", layer="dropout")
def dropout_that_never_drops():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    x = layers.Dropout(0.5)(x, training=False)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))


@mistake("T405", layer="dropout")
def dropout_that_drops_when_predicting():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    x = layers.Dropout(0.3)(x, training=True)  # <- here
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@mistake("T405", layer="norm")
def normalisation_that_never_learns_its_statistics():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, use_bias=False)
            self.norm = layers.BatchNormalization()
            self.pool = layers.GlobalAveragePooling2D()
            self.head = layers.Dense(1)

        def call(self, x):
            x = ops.relu(self.norm(self.conv(x), training=False))  # <- here
            return self.head(self.pool(x))

    model = Net()
    model(np.ones((2, 6, 6, 1), "float32"))
    return model


@mistake("T405", layer="batch_normalization")
def normalisation_by_the_batch_when_predicting():
    inputs = keras.Input((8,))
    x = layers.Dense(16, use_bias=False)(inputs)
    x = layers.BatchNormalization()(x, training=True)  # <- here
    return keras.Model(inputs, layers.Dense(1)(layers.ReLU()(x)))


@mistake("T405", layer=("block/drop", "block"))
def phase_fixed_inside_a_block():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8, activation="relu")
            self.drop = layers.Dropout(0.2)

        def call(self, x, training=None):
            return self.drop(self.dense(x), training=True)  # <- here

    return keras.Sequential([keras.Input((4,)), Block(), layers.Dense(1)])


@mistake("T405", layer=("base", "base/dropout"))
def frozen_base_called_in_the_training_phase():
    image = keras.Input((4,))
    x = layers.Dropout(0.5)(layers.Dense(3, activation="relu")(image))
    base = keras.Model(image, x, name="base")
    base.trainable = False
    inputs = keras.Input((4,))
    features = base(inputs, training=True)  # <- here
    return keras.Model(inputs, layers.Dense(1)(features))


@mistake("T405", layer="batch_normalization")
def statistics_that_move_though_the_weights_are_frozen():
    inputs = keras.Input((4,))
    norm = layers.BatchNormalization()
    x = norm(layers.Dense(6, use_bias=False)(inputs))
    model = keras.Model(inputs, layers.Dense(1)(x))
    norm.gamma.trainable = False  # <- here
    norm.beta.trainable = False  # <- here
    model.compile("adam", "mse")
    return model


@mistake("T405", layer="lstm")
def recurrent_dropout_switched_off_by_hand():
    inputs = keras.Input((6, 3))
    x = layers.LSTM(4, dropout=0.5)(inputs, training=False)  # <- here
    return keras.Model(inputs, layers.Dense(1)(x))
