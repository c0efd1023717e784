"""The account of models of Keras 2, and of plain TensorFlow's modules: their own counts, places and names."""

import io
from contextlib import redirect_stdout
from functools import cache

import pytest

import tally
from tally.accounting.explain import explain
from tally.readers import is_live_model, read, read_object

keras = pytest.importorskip("tf_keras", reason="needs Keras 2: tf_keras")
tf = pytest.importorskip("tensorflow")
layers = keras.layers


def convolutional():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(5, 3),
            layers.Conv2DTranspose(6, 2, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(7),
        ]
    )
    model.layers[0].trainable = False
    return model


def attending():
    given = keras.Input((6, 8))
    found = layers.MultiHeadAttention(2, 4)(given, given)
    return keras.Model(given, layers.Dense(3)(layers.LayerNormalization()(layers.Add()([given, found]))))


def reading():
    given = keras.Input((9,), dtype="int32")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Embedding(20, 8)(given))
    return keras.Model(given, layers.GRU(5)(x))


def sharing():
    given = keras.Input((4,))
    dense = layers.Dense(4)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.PReLU()], name="inner")
    inner.trainable = False
    return keras.Model(given, inner(dense(dense(given))))


class Stack(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4) for _ in range(2)]
        self.head = layers.Dense(2)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def stacked():
    model = Stack()
    model.build((None, 3))
    return model


MODELS = (convolutional, attending, reading, sharing, stacked)
once = cache(lambda make: make())
"""A model that no test changes, made once: a recurrent one takes a second."""


def learned(model):
    return sum(weight.shape.num_elements() for weight in model.trainable_weights)


@pytest.mark.parametrize("make", MODELS)
def test_the_counts_are_keras_s(make):
    model = once(make)
    ledger = read_object(model)
    assert (ledger.total, ledger.trainable) == (model.count_params(), learned(model))
    for owner in explain(ledger).owners:
        assert owner.formula is None or owner.formula.value == owner.count


@pytest.mark.parametrize("make", MODELS)
def test_every_axis_has_a_name_and_every_layer_is_built(make):
    ledger = read_object(once(make))
    assert [entry.path for entry in ledger.counted if not all(entry.axes)] == []
    assert {owner.status for owner in ledger.owners} <= {"built", "no weights"}


def test_a_depthwise_kernel_is_explained_by_the_name_it_has_in_keras_2():
    found = explain(read_object(once(convolutional)), "depthwise_conv2d").formula
    assert found.symbols == "input channels × depth multiplier × (kernel height · kernel width + 1)"
    assert found.numbers == "4 × 2 × (3·3 + 1) = 80"


def test_both_directions_are_listed_and_not_what_they_were_copied_from():
    paths = [
        owner.path for owner in read_object(once(reading)).owners if owner.path.startswith("bidirectional")
    ]
    assert paths == [
        "bidirectional",
        "bidirectional/forward_layer",
        "bidirectional/forward_layer/cell",
        "bidirectional/backward_layer",
        "bidirectional/backward_layer/cell",
    ]


def test_a_layer_used_twice_counts_once_and_what_is_frozen_says_by_what():
    ledger = read_object(sharing())
    assert "Used 2 times" in ledger.owner("dense").notes[0]
    assert {entry.frozen_by for entry in ledger.under("inner")} == {"inner"}


def test_what_is_not_built_is_said_to_be_so():
    half = keras.Sequential([layers.Dense(3), layers.LSTM(4)])
    half.layers[0].build((None, 2))
    for model, total in ((keras.Sequential([layers.Dense(3)]), 0), (half, 9), (Stack(), 0)):
        ledger = read_object(model)
        assert (ledger.total, ledger.trainable, ledger.owner("").status) == (total, total, "unbuilt")


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.legacy.Adam])
def test_what_the_optimizer_keeps_counts_apart(optimizer):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(optimizer(), "mse")
    assert read_object(model).optimizer == 0
    model.optimizer.apply_gradients([(tf.zeros_like(one), one) for one in model.trainable_variables])
    ledger = read_object(model)
    assert (ledger.total, ledger.optimizer) == (8, 1 + 2 * 8)
    assert not any(":" in entry.path for entry in ledger.entries)


def test_every_verb_takes_a_model_of_keras_2_and_calls_nothing():
    quiet = {"print_fn": lambda text: None}
    model = stacked()
    model.call = None
    assert tally.summary(model, **quiet).total == 46
    assert tally.diagnose(model, **quiet).holds
    assert tally.check(model, max_params=46, **quiet).holds
    assert tally.plan(model, **quiet).parameters == 46 * 4  # bytes
    with redirect_stdout(io.StringIO()) as said:
        tally.explain(model)
    assert "units × (features + 1)" in said.getvalue()


class Linear(tf.Module):
    def __init__(self, units):
        super().__init__()
        self.kernel = tf.Variable(tf.zeros((4, units)))
        self.bias = tf.Variable(tf.zeros((units,)))


class Network(tf.Module):
    def __init__(self):
        super().__init__(name="network")
        self.steps = tf.Variable(0, trainable=False)
        self.blocks = [Linear(4), Linear(4)]
        self.again = {"first": self.blocks[0]}
        self.head = stacked()


def test_a_module_of_plain_tensorflow_is_what_its_attributes_hold():
    model = Network()
    ledger = read_object(model)
    assert ledger.total == sum(one.shape.num_elements() for one in model.variables) == 1 + 2 * 20 + 46
    assert ledger.source == "TensorFlow module"
    assert ledger.owner("again/first").shared_with == "blocks/0"
    axes = {entry.path: entry.axes for entry in ledger.entries}
    assert axes["blocks/1/kernel"] == ("features", "units")
    assert axes["head/blocks/0/kernel"] == ("features", "units")
    assert {entry.state for entry in ledger.owned_by("")} == {"state"}


# -- plain TensorFlow ----------------------------------------------------------------------------------------------
def rows(ledger):
    return {(entry.path, entry.shape, entry.state) for entry in ledger.entries}


@pytest.mark.parametrize(
    "wrap", [lambda one: {"head": one}, lambda one: [one], lambda one: (one, {"same": one})]
)
def test_variables_in_containers_are_counted_once_and_keep_whether_they_learn(wrap):
    held = {"kernel": tf.Variable(tf.zeros((3, 2))), "mean": tf.Variable(tf.zeros(2), trainable=False)}
    ledger = read_object(wrap(held))
    assert (ledger.total, ledger.trainable) == (8, 6)
    assert tally.summary(wrap(held), print_fn=lambda text: None).total == 8


def test_a_variable_whose_shape_is_open_is_no_array():
    assert not is_live_model([tf.Variable([1.0], shape=tf.TensorShape(None))])


class Net(tf.Module):
    def __init__(self):
        super().__init__(name="net")
        self.w = tf.Variable(tf.zeros((3, 2)), name="w")
        self.same = self.w
        self.blocks = [tf.Variable(tf.zeros(2)), {"scale": tf.Variable(1.0, trainable=False, name="scale")}]


@pytest.mark.parametrize("make", [Net, convolutional])
def test_a_saved_model_has_the_same_account_loaded_and_as_a_file(tmp_path, make):
    model = make()
    tf.saved_model.save(model, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found, file = read_object(loaded), read(tmp_path / "saved")
    assert rows(found) == rows(file)
    assert found.total == sum(one.shape.num_elements() for one in model.variables)


def test_an_export_that_lists_each_variable_twice_counts_it_once(tmp_path):
    net, archive = Net(), tf.Module()
    archive.variables_ = [net.w]
    archive._all_variables = [tf.Variable(net.w, name="w")]
    tf.saved_model.save(archive, str(tmp_path / "saved"))
    assert read_object(tf.saved_model.load(str(tmp_path / "saved"))).total == 6
