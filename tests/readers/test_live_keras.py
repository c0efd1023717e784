"""The account of Keras models: the same that tally gives of the same model made with it, entry by entry."""

from dataclasses import replace

import keras
import pytest

import tally
from tally.readers import read_object
from tally.report import plain
from tally.report.summary import tabulate


def convolutional(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3),
            layers.SeparableConv2D(6, 3),
            layers.Conv2DTranspose(4, 3),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, name="head"),
        ],
        name="m",
    )


def attending(k):
    layers = k.layers
    given = k.Input((8, 16), name="i")
    x = layers.MultiHeadAttention(2, 4, value_dim=5)(given, given)
    x = layers.LayerNormalization()(layers.Add()([x, given]) + given)
    x = layers.GroupQueryAttention(4, 4, 2)(x, x)
    return k.Model(
        given, layers.Bidirectional(layers.GRU(3))(layers.LSTM(5, return_sequences=True)(x)), name="m"
    )


def sharing(k):
    layers = k.layers
    dense, given = layers.Dense(4), k.Input((4,))
    inner = k.Sequential([k.Input((4,)), layers.Dense(3), layers.PReLU()], name="inner")
    inner.trainable = False
    return k.Model(given, inner(dense(dense(given))), name="m")


def reading(k):
    layers = k.layers
    given = k.Input((12,), dtype="int32")
    x = layers.Conv1D(8, 3, groups=2, padding="same")(layers.Embedding(20, 8)(given))
    x = layers.GroupNormalization(2)(layers.EinsumDense("abc,cd->abd", (12, 6), bias_axes="d")(x))
    return k.Model(given, layers.SimpleRNN(4)(layers.GaussianNoise(0.1)(x)), name="m")


def waiting(k):
    return k.Sequential([k.layers.Conv2D(3, 3), k.layers.Flatten(), k.layers.Dense(5)], name="m")


MODELS = (convolutional, attending, sharing, reading, waiting)


@pytest.mark.parametrize("make", MODELS)
def test_every_entry_is_that_of_tally_s_own_model(make):
    theirs, ours = read_object(make(keras)), tally.account(make(tally))
    assert list(theirs.entries) == [replace(entry, origin=None, frozen_at=None) for entry in ours.entries]


@pytest.mark.parametrize("make", MODELS)
def test_every_layer_has_the_place_class_status_and_feeders_that_it_has_in_tally(make):
    theirs, ours = (
        [(o.path, o.type, o.status, o.inputs, o.shared_with, o.notes) for o in ledger.owners]
        for ledger in (read_object(make(keras)), tally.account(make(tally)))
    )
    assert theirs == ours


@pytest.mark.parametrize("make", [convolutional, attending, reading, waiting])
def test_the_summary_is_the_same_text(make):
    theirs, ours = (
        plain.render(tabulate(ledger).document, 100)
        for ledger in (read_object(make(keras)), tally.account(make(tally)))
    )
    assert theirs == ours


@pytest.mark.parametrize("make", [convolutional, attending, sharing, reading])
def test_the_total_is_keras_s(make):
    model = make(keras)
    assert read_object(model).total == model.count_params()


def test_layers_among_the_attributes_of_a_model_of_the_user_s_own():
    class Stack(keras.Model):
        def __init__(self):
            super().__init__(name="m")
            self.blocks = [keras.layers.Dense(4) for _ in range(2)]
            self._head = keras.layers.Dense(2)

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self._head(x)

    model = Stack()
    assert read_object(model).owner("blocks/0").status == "unbuilt"
    model(keras.ops.ones((1, 3)))
    ledger = read_object(model)
    assert [owner.path for owner in ledger.owners] == ["", "blocks/0", "blocks/1", "_head"]
    assert ledger.total == model.count_params() == 46
    assert ledger.owners[0].origin.startswith("tests/readers/test_live_keras.py:")


def test_what_the_optimizer_keeps_comes_last_and_counts_apart():
    model = convolutional(keras)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    ledger = read_object(model)
    assert ledger.optimizer == sum(v.value.size for v in model.optimizer.variables)
    assert ledger.entries[-1].state == "optimizer"
    assert ledger.total == model.count_params()
