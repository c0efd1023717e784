"""A model and the `.keras` file it was saved in give one account, but for what docs/files.md says a file can't tell."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import tally
from tally.readers import read

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def perceptron(k):
    layers = [k.layers.Dense(5, activation="relu", name="hidden"), k.layers.Dropout(0.5), k.layers.Dense(2)]
    return k.Sequential([k.Input((10,)), *layers], name="mine")


def convolutional(k):
    steps = [k.layers.Conv2D(8, 3, activation="relu"), k.layers.MaxPooling2D(), k.layers.BatchNormalization()]
    return k.Sequential([k.Input((28, 28, 1)), *steps, k.layers.Flatten(), k.layers.Dense(10)])


def frozen(k):
    model = convolutional(k)
    model.layers[0].trainable = False
    return model


def adding(k):
    x = k.Input((8,))
    y = k.layers.Add()([x, k.layers.Dense(8, name="a")(x)])
    return k.Model(x, k.layers.Dense(1)(y), name="residual")


def sharing(k):
    x, y, dense = k.Input((8,)), k.Input((8,)), k.layers.Dense(4)
    return k.Model([x, y], k.layers.Concatenate()([dense(x), dense(y)]))


def answering_twice(k):
    x = k.Input((8,))
    y = k.layers.Dense(4)(x)
    return k.Model(x, [k.layers.Dense(3, name="first")(y), k.layers.Dense(2, name="second")(y)])


def recurrent(k):
    steps = [k.layers.LSTM(16, return_sequences=True, dropout=0.1), k.layers.GRU(4), k.layers.Dense(1)]
    return k.Sequential([k.Input((12,)), k.layers.Embedding(50, 8), *steps])


def both_ways(k):
    steps = [k.layers.Embedding(50, 8), k.layers.Bidirectional(k.layers.LSTM(16)), k.layers.Dense(1)]
    return k.Sequential([k.Input((12,)), *steps])


def step_by_step(k):
    each = k.layers.TimeDistributed(k.layers.Conv2D(4, 3))
    return k.Sequential([k.Input((5, 8, 8, 3)), each, k.layers.Flatten(), k.layers.Dense(2)])


def attending(k):
    x = k.Input((6, 16))
    y = k.layers.MultiHeadAttention(2, 8, value_dim=5, dropout=0.1)(x, x)
    return k.Model(x, k.layers.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d")(k.layers.Add()([x, y])))


def nested(k):
    steps = [k.layers.Dense(4, activation="gelu"), k.layers.Dropout(0.1)]
    inner = k.Sequential([k.Input((8,)), *steps], name="inner")
    inner.trainable = False
    x = k.Input((8,))
    return k.Model(x, k.layers.Dense(1)(inner(x)))


def separated(k):
    steps = [
        k.layers.SeparableConv2D(8, 3, padding="same"),
        k.layers.DepthwiseConv2D(3, depth_multiplier=2),
        k.layers.Conv2DTranspose(4, 3, strides=2),
        k.layers.Conv2D(8, 3, groups=2, dilation_rate=2),
        k.layers.ZeroPadding2D(((1, 2), (0, 3))),
        k.layers.GroupNormalization(2),
        k.layers.PReLU(shared_axes=[1, 2]),
        k.layers.UpSampling2D(2),
        k.layers.AveragePooling2D(3, strides=2, padding="same"),
        k.layers.GlobalAveragePooling2D(),
        k.layers.Dense(2, use_bias=False),
    ]
    return k.Sequential([k.Input((16, 16, 3)), *steps])


def short(k):
    steps = [k.layers.Dense(5, dtype="mixed_bfloat16"), k.layers.Dense(2, dtype="float16")]
    return k.Sequential([k.Input((10,)), *steps])


def trained(k):
    model = perceptron(k)
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 10), "float32"), np.zeros((4, 2), "float32"), verbose=0)
    return model


MODELS = (
    perceptron,
    convolutional,
    frozen,
    adding,
    sharing,
    answering_twice,
    recurrent,
    both_ways,
    step_by_step,
    attending,
    nested,
    separated,
    short,
    trained,
)
INSIDE = ("cell", "_dense", "softmax", "dropout_layer", "forward_layer", "backward_layer")
"""Ends of the paths of layers that Keras's own make for themselves: their shapes stand in no file."""


def told(ledger, *aside):
    """The entries without lines of code, and without those of some states."""
    return [replace(e, origin=None, frozen_at=None) for e in ledger.entries if e.state not in aside]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("library", [tally, keras], ids=["tally", "keras"])
def test_a_file_and_its_model_have_one_account(library, make, tmp_path):
    model, path = make(library), tmp_path / "other_name.keras"
    model.save(path)
    live, found = tally.account(model), read(path)
    unsaved = () if library is tally else ("seed",)  # Keras doesn't save what its random generators hold
    assert told(found, "optimizer", *unsaved) == told(live, "optimizer", *unsaved)
    assert (found.name, found.total, found.optimizer) == (live.name, live.total, live.optimizer)
    for one, other in zip(found.owners, live.owners, strict=True):
        same = ("path", "type", "status", "inputs", "shared_with", "notes")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
        if not one.path.endswith(INSIDE):
            same = ("name", "options", "input_shapes", "output_shapes")
            assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]


def test_what_an_optimizer_keeps_has_the_sizes_of_the_model_s_and_numbers_for_names(tmp_path):
    model = trained(tally)
    model.save(tmp_path / "m.keras")
    live, found = (
        [e for e in ledger.entries if e.state == "optimizer"]
        for ledger in (tally.account(model), read(tmp_path / "m.keras"))
    )
    assert [e.shape for e in found] == [e.shape for e in live]
    assert [e.path for e in found[:3]] == ["optimizer/iteration", "optimizer/learning_rate", "optimizer/2"]
