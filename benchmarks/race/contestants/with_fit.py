"""tally and Keras 3 on its three backends: one source, `compile`, `fit` and `predict`; only the import differs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.race.gate import Gate
from benchmarks.race.weights import Weights
from benchmarks.race.workloads import (
    BLOCKS,
    CIFAR_FILTERS,
    EPSILON,
    HEADS,
    LEARNING_RATE,
    LENGTH,
    MOBILE_BLOCKS,
    WIDTH,
    WORDS,
    Data,
    Workload,
)


class Racer:
    """A model of tally or Keras, trained by `fit`."""

    def __init__(self, keras: Any, workload: Workload, data: Data, weights: Weights) -> None:
        self._keras, self._workload = keras, workload
        self._inputs, self._targets = data
        self._model = MODELS[workload.name](keras)
        for variable in self._model.weights:
            path = variable.path.removeprefix(
                f"{self._model.name}/"
            )  # Keras's Sequential puts its own name first
            variable.assign(weights[path])
        self._model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=workload.name != "mnist"),
        )

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """What the model predicts for one batch."""
        return self._model.predict(inputs, batch_size=self._workload.batch, verbose=0)

    def first_step(self) -> None:
        """One step on the first batch, compilation included."""
        batch = self._workload.batch
        self._model.fit(
            self._inputs[:batch], self._targets[:batch], batch_size=batch, shuffle=False, verbose=0
        )

    def train(self, gate: Gate) -> None:
        """Epochs of one `fit`, as long as the gate opens."""
        if gate.wait():
            self._model.fit(
                self._inputs,
                self._targets,
                batch_size=self._workload.batch,
                epochs=10**6,
                shuffle=False,
                verbose=0,
                callbacks=[_turns(self._keras, gate)],
            )

    def predict(self, gate: Gate) -> None:
        """The whole data through `predict`, as long as the gate opens."""
        while gate.wait():
            gate.begin()
            self.outputs(self._inputs)
            gate.end()


def _turns(keras: Any, gate: Gate) -> Any:
    """A callback that holds `fit` between epochs until the gate opens."""

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            gate.begin()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            gate.end(logs["loss"])
            if not gate.wait():
                self.model.stop_training = True

    return Turns()


# -- models ----------------------------------------------------------------------------------------------------------


def _mnist(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", name="head"),
        ]
    )


def _cifar(keras: Any) -> Any:
    layers = keras.layers
    inputs = x = keras.Input((32, 32, 3))
    for number, (_, filters) in enumerate(CIFAR_FILTERS, 1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"norm{number}")(x))
        if number in (2, 4):
            x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def _separable(keras: Any) -> Any:
    layers = keras.layers
    inputs = x = keras.Input((32, 32, 64))
    for number in (1, 2):
        x = layers.SeparableConv2D(64, 3, padding="same", use_bias=False, name=f"separable{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"norm{number}")(x))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Add()([x, layers.Conv2D(64, 1, strides=2, padding="same", name="shortcut")(inputs)])
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def _mobilenet(keras: Any) -> Any:
    layers = keras.layers
    inputs = x = keras.Input((32, 32, 24))
    for number, (channels, expanded, filters, stride) in enumerate(MOBILE_BLOCKS, 1):
        y = layers.Conv2D(expanded, 1, use_bias=False, name=f"expand{number}")(x)
        y = layers.ReLU(6.0)(layers.BatchNormalization(name=f"expand_norm{number}")(y))
        y = layers.DepthwiseConv2D(
            3, strides=stride, padding="same", use_bias=False, name=f"depthwise{number}"
        )(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization(name=f"depthwise_norm{number}")(y))
        y = layers.Conv2D(filters, 1, use_bias=False, name=f"project{number}")(y)
        y = layers.BatchNormalization(name=f"project_norm{number}")(y)
        x = layers.Add()([x, y]) if stride == 1 and channels == filters else y
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def _mlp(keras: Any) -> Any:
    layers = keras.layers
    hidden = [layers.Dense(512, activation="relu", name=f"hidden{number}") for number in (1, 2)]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, name="head")])


def _transformer(keras: Any) -> Any:
    layers = keras.layers

    class TokenAndPosition(layers.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.token = layers.Embedding(WORDS, WIDTH, name="token")
            self.position = layers.Embedding(LENGTH, WIDTH, name="position")

        def call(self, tokens: Any) -> Any:
            return self.token(tokens) + self.position(keras.ops.arange(LENGTH))

    tokens = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPosition(name="embed")(tokens)
    for number in range(1, BLOCKS + 1):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"before_attention{number}")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention{number}")
        x = layers.Add()([x, attention(y, y, use_causal_mask=True)])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"before_dense{number}")(x)
        y = layers.Dense(4 * WIDTH, activation="gelu", name=f"wide{number}")(y)
        x = layers.Add()([x, layers.Dense(WIDTH, name=f"narrow{number}")(y)])
    x = layers.LayerNormalization(epsilon=1e-5, name="before_head")(x)
    return keras.Model(tokens, layers.Dense(WORDS, use_bias=False, name="head")(x))


def _lstm(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((50, 32)), layers.LSTM(64, name="lstm"), layers.Dense(10, name="head")]
    )


def _tiny(keras: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="head")])


MODELS: dict[str, Callable[[Any], Any]] = {
    "mnist": _mnist,
    "cifar": _cifar,
    "separable": _separable,
    "mobilenet": _mobilenet,
    "mlp": _mlp,
    "transformer": _transformer,
    "lstm": _lstm,
    "tiny": _tiny,
}
