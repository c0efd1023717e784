"""Models of many kinds of layers, whose configurations are broken by the fuzzer and by the property test."""

from collections.abc import Callable
from typing import Any

import tally


def stack() -> Any:
    layers = tally.layers
    start = tally.initializers.HeNormal(seed=3)
    dense = layers.Dense(
        3, "relu", kernel_initializer=start, kernel_regularizer="l2", bias_constraint="non_neg"
    )
    model = tally.Sequential([tally.Input((4,)), dense, layers.Dropout(0.1), layers.Dense(2, "softmax")])
    rate = tally.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(tally.optimizers.Adam(rate, clipnorm=1.0), "mse", metrics=["mae", tally.metrics.AUC()])
    return model


def image() -> Any:
    layers = tally.layers
    block = [
        layers.Conv2D(2, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
    ]
    more = [layers.SeparableConv2D(3, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    return tally.Sequential([tally.Input((8, 8, 1)), layers.Rescaling(0.5), *block, *more])


def branches() -> Any:
    layers = tally.layers
    left, right = tally.Input((4,), name="left"), tally.Input((4,), name="right")
    once = layers.Dense(3, name="once")
    joined = layers.Concatenate()([once(left), once(right), once(left)])
    model = tally.Model(
        {"left": left, "right": right}, [layers.Dense(1, name="a")(joined), layers.Dense(2, name="b")(joined)]
    )
    model.compile("sgd", loss={"a": tally.losses.Huber(0.5), "b": "mse"}, loss_weights={"a": 0.5, "b": 1.0})
    return model


def nested() -> Any:
    layers = tally.layers
    inner = tally.Sequential([tally.Input((4,)), layers.Dense(3), layers.LayerNormalization()], name="inner")
    x = tally.Input((4,))
    y = tally.Input((3,))
    graph = tally.Model(y, layers.Dense(3)(y) + y, name="graph")
    return tally.Model(x, tally.Sequential([graph, layers.Dense(1)])(inner(x)))


def operations() -> Any:
    x = tally.Input((4, 3))
    y = tally.ops.concatenate([tally.ops.mean(x, axis=1), tally.ops.reshape(x, (-1, 12))], axis=-1)
    return tally.Model(x, tally.ops.relu(2 * y + 1))


def words() -> Any:
    layers = tally.layers
    x = tally.Input((5,), dtype="int32")
    y = layers.Embedding(7, 4, mask_zero=True)(x)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(y)
    y = layers.TimeDistributed(layers.Dense(2))(layers.GRU(3, return_sequences=True)(y))
    return tally.Model(x, layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.GRUCell(2)]))(y))


def attention() -> Any:
    layers = tally.layers
    x = tally.Input((6, 4))
    y = layers.MultiHeadAttention(2, 3)(x, x)
    return tally.Model(x, layers.GroupNormalization(2)(layers.add([x, y])))


def repeated() -> Any:
    return tally.Sequential([tally.Input((4,)), tally.layers.Repeat(tally.layers.Dense(4), 3)])


def prepared() -> Any:
    layers = tally.layers
    steps = [layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 2.0]), layers.Discretization([0.0, 1.0])]
    return tally.Sequential([tally.Input((2,)), *steps, layers.CategoryEncoding(3)])


def shaped() -> Any:
    layers = tally.layers
    steps = [layers.Reshape((4, 3)), layers.Permute((2, 1)), layers.ZeroPadding1D(1), layers.UpSampling1D(2)]
    more = [layers.Cropping1D(1), layers.Conv1DTranspose(2, 3), layers.Flatten(), layers.RepeatVector(2)]
    return tally.Sequential([tally.Input((12,)), *steps, *more, layers.AdaptiveMaxPooling1D(2)])


MODELS: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (stack, image, branches, nested, operations, words, attention, repeated, prepared, shaped)
}
