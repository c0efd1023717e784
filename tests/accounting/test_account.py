"""A live model's ledger holds what the engine holds, by place, whether or not anything was built or drawn."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

import tally
from tally import layers
from tally.accounting import Ledger, explain
from tally.core.symbol import op
from tally.models.ledger import account

add = op(lambda x, y: x + y, name="add")


def convnet() -> tally.Sequential:
    return tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


class Tower(tally.Model):
    """Layers as attributes, in a list and in a model inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layers.Dense(4)
        self.blocks = [layers.Dense(4) for _ in range(2)]
        self.head = tally.Sequential([layers.Dense(3), layers.Dense(2)])
        self.scale = self.add_weight(name="scale", shape=(4,), axes=("features",))

    def call(self, inputs):
        x = self.stem(inputs)
        for block in self.blocks:
            x = block(x)
        return self.head(x * self.scale)


def test_the_mnist_convnet_is_accounted_for_and_explained() -> None:
    ledger = account(convnet())
    explanation = explain(ledger)
    assert ledger.total == 34826
    assert explanation["conv2d"].formula.numbers == "32 × (1·3·3 + 1) = 320"
    assert explanation["conv2d_1"].formula.numbers == "64 × (32·3·3 + 1) = 18,496"
    assert explanation["dense"].formula.numbers == "10 × (1,600 + 1) = 16,010"
    assert {remark.text for remark in explanation["conv2d"].remarks if remark.kind == "output"} == {
        "26, 26, 32; height and width: (28 − 3)/1 + 1 = 26; one channel for each filter"
    }


def test_the_same_code_gives_the_same_paths_however_often_it_ran() -> None:
    first, second = account(convnet()), account(convnet())
    assert [entry.path for entry in first.entries] == [entry.path for entry in second.entries]
    assert [owner.path for owner in first.children()] == [
        "conv2d",
        "max_pooling2d",
        "conv2d_1",
        "max_pooling2d_1",
        "flatten",
        "dropout",
        "dense",
    ]


def test_giving_account_draws_no_value() -> None:
    model = tally.Sequential([tally.Input((10**6,)), layers.Dense(10**6, use_bias=False)])
    assert account(model).total == 10**12
    assert all(variable.is_planned for variable in model.variables)


def test_the_ledger_holds_what_the_engine_holds() -> None:
    model = Tower()
    model(tally.random.normal((2, 3)))
    model.blocks[1].trainable = False
    ledger = account(model)
    assert ledger.total == model.count_params()
    assert ledger.trainable == sum(math.prod(v.shape) for v in model.trainable_variables)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_places_are_attributes_positions_and_counts() -> None:
    model = Tower()
    model(tally.random.normal((2, 3)))
    ledger = account(model)
    assert [owner.path for owner in ledger.owners] == [
        "",
        "stem",
        "blocks/0",
        "blocks/1",
        "head",
        "head/dense",
        "head/dense_1",
    ]
    assert [entry.path for entry in ledger.owned_by("")] == ["scale"]


def test_frozen_weights_name_the_outermost_switch() -> None:
    model = Tower()
    model(tally.random.normal((2, 3)))
    model.head.trainable = False
    frozen = {entry.path: entry.frozen_by for entry in account(model).entries if entry.state == "frozen"}
    assert frozen == dict.fromkeys(
        ("head/dense/kernel", "head/dense/bias", "head/dense_1/kernel", "head/dense_1/bias"), "head"
    )
    model.trainable = False
    assert {entry.frozen_by for entry in account(model).entries} == {""}


def test_statistics_and_seeds_have_states_of_their_own() -> None:
    model = tally.Sequential([tally.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5)])
    states = account(model).by_state
    assert (states["trainable"], states["state"], states["seed"]) == (8, 8, 2)


def test_what_the_optimizer_keeps_stands_beside_the_total() -> None:
    model = tally.Sequential([tally.Input((10,)), layers.Dense(5)])
    model.compile("adam", "mse")
    assert account(model).optimizer == 0
    model.optimizer.build(model.trainable_variables)
    ledger = account(model)
    assert (ledger.total, ledger.optimizer) == (
        55,
        2 * 55 + 2,
    )  # two averages, the step and the learning rate


def test_an_array_kept_as_an_attribute_is_a_fixed_constant() -> None:
    class Blur(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.kernel = np.full((3, 3), 1 / 9)

        def call(self, inputs):
            return inputs

    explained = explain(account(Blur()))[""]
    assert explained.count == 0
    assert [remark.text for remark in explained.remarks if remark.kind == "constant"] == [
        "Fixed numbers: the array 'kernel', 9 of 1/9; stored but not learned, so not counted."
    ]


def test_a_layer_in_two_places_counts_at_the_first() -> None:
    class Twice(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.left = tally.Sequential([shared])
            self.right = tally.Sequential([shared])

        def call(self, inputs):
            return self.left(inputs) + self.right(inputs)

    shared = layers.Dense(3, name="shared")
    model = Twice()
    model(tally.random.normal((2, 3)))
    ledger = account(model)
    assert ledger.total == 12
    assert ledger.owner("right/shared").shared_with == "left/shared"
    assert [entry.shared_with for entry in ledger.owned_by("right/shared")] == [
        "left/shared/kernel",
        "left/shared/bias",
    ]


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: layers.Dense(3), "unbuilt"),
        (lambda: layers.Flatten(), "no weights"),
        (lambda: tally.Sequential([layers.Flatten()]), "no weights"),
        (lambda: tally.Sequential([layers.Flatten(), layers.Dense(3)]), "unbuilt"),
        (lambda: tally.Sequential(), "unbuilt"),
        (lambda: convnet(), "built"),
    ],
)
def test_waiting_for_an_input_is_told_from_having_no_weights(make, status: str) -> None:
    assert account(make()).owners[0].status == status


def test_a_graph_lists_its_ops_and_says_what_feeds_what() -> None:
    image = tally.Input((8, 8, 3), name="image")
    tower = layers.Conv2D(3, 1, name="tower")
    first = tower(image)
    model = tally.Model(image, add(tower(first), first))
    ledger = account(model)
    fed = {owner.path: owner.inputs for owner in ledger.owners if owner.path}
    assert fed == {"image": (), "tower": ("image", "tower"), "add": ("tower",)}
    assert ledger.total == 12
    notes = [remark.text for remark in explain(ledger)["tower"].remarks if remark.kind == "note"]
    assert notes[0].startswith("Used 2 times")


def test_a_layer_that_holds_its_holder_is_listed_once() -> None:
    class Child(layers.Layer):
        def call(self, inputs):
            return inputs

    model = Tower()
    model.child = Child()
    model.child.parent = model
    assert [owner.path for owner in account(model).children()][-1] == "child"


def test_weights_of_one_name_are_told_apart() -> None:
    class Pair(layers.Layer):
        def build(self, input_shape):
            self.a = self.add_weight(name="w", shape=(2,))
            self.b = self.add_weight(name="w", shape=(3,))

        def call(self, inputs):
            return inputs

    layer = Pair()
    layer(tally.random.normal((1, 2)))
    assert [(entry.path, entry.size) for entry in account(layer).entries] == [("w", 2), ("w_1", 3)]


def test_sizes_a_users_layer_was_made_with_explain_its_weights() -> None:
    class Linear(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(name="w", shape=(input_shape[-1], self.units))
            self.b = self.add_weight(name="b", shape=(self.units,), initializer="zeros")

        def call(self, inputs):
            return inputs @ self.w.value + self.b.value

    model = tally.Sequential([tally.Input((10,)), Linear(5)])
    assert explain(account(model))["linear"].formula.numbers == "10·5 + 5 = 50 + 5 = 55"


def test_frozen_weights_name_the_line_that_switched_them_off() -> None:
    model = Tower()
    model(tally.random.normal((2, 3)))
    model.head.trainable = False
    line = test_frozen_weights_name_the_line_that_switched_them_off.__code__.co_firstlineno + 3
    ledger = account(model)
    frozen = [entry for entry in ledger.entries if entry.state == "frozen"]
    assert {entry.frozen_at.rsplit(":", 1)[1] for entry in frozen} == {str(line)}
    (said,) = [remark.text for remark in explain(ledger)["head/dense"].remarks if remark.kind == "frozen"]
    assert re.match(
        rf"Frozen: 15 parameters switched off by 'head' \(trainable = False at .*test_account.py:{line}\).",
        said,
    )


def test_a_weight_frozen_alone_names_its_line_and_no_layer() -> None:
    layer = layers.Dense(3)
    layer.build((None, 2))
    layer.kernel.trainable = False
    kernel, bias = account(layer).entries
    assert (kernel.state, kernel.frozen_by, bias.state) == ("frozen", None, "trainable")
    assert "test_account.py" in kernel.frozen_at


def test_training_changes_no_number_but_the_optimizers() -> None:
    model = convnet()
    model.compile("adam", "sparse_categorical_crossentropy")
    before = account(model)
    model.fit(np.zeros((2, 28, 28, 1), "float32"), np.zeros(2, "int32"), verbose=0)
    after = account(model)
    assert before.total == after.total == 34826
    assert (before.optimizer, after.optimizer) == (0, 69654)
    assert [entry for entry in after.entries if entry.state != "optimizer"] == list(before.entries)
    counters = [entry.name for entry in after.entries if entry.state == "optimizer" and not entry.shape]
    assert counters == ["iteration", "learning_rate"]


def test_a_tied_weight_counts_at_the_layer_that_made_it() -> None:
    class Tied(tally.Model):
        def __init__(self) -> None:
            super().__init__()
            self.head = layers.Dense(3, use_bias=False)
            self.stem = layers.Dense(3)

        def call(self, inputs):
            return self.head(self.stem(inputs))

    model = Tied()
    model(tally.random.normal((2, 3)))
    model.head.kernel = model.stem.kernel
    ledger = account(model)
    assert ledger.total == 12
    assert {entry.path: entry.shared_with for entry in ledger.entries} == {
        "head/kernel": "stem/kernel",
        "stem/kernel": None,
        "stem/bias": None,
    }
    said = [remark.text for remark in explain(ledger)["head"].remarks if remark.kind == "shared"]
    assert said == ["kernel is 'stem/kernel' used again: 9 counted there."]


def test_what_a_layer_inside_made_is_listed_there_alone() -> None:
    class Watch(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(2)

        def build(self, input_shape):
            self.inner.build(input_shape)
            self.watched = self.inner.kernel

        def call(self, inputs):
            return self.inner(inputs)

    layer = Watch()
    layer.build((None, 3))
    assert [entry.path for entry in account(layer).entries] == ["inner/kernel", "inner/bias"]


def test_a_ledger_is_the_same_data_in_every_process_but_for_names() -> None:
    program = (
        "import tally, json, sys\n"
        "from tally import layers as L\n"
        "make = lambda: tally.Sequential([tally.Input((4,)), L.Dense(3), L.Dropout(0.5), L.Dense(2)])\n"
        "for _ in range(int(sys.argv[1])): model = make()\n"
        "print(tally.account(model).to_json())"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", program, times], capture_output=True, text=True, check=True
        ).stdout
        for times in ("1", "3")
    ]
    first, second = (json.loads(text) for text in texts)
    assert [owner["name"] for owner in first["owners"]] != [owner["name"] for owner in second["owners"]]
    for document in (first, second):
        del document["name"]
        for owner in document["owners"]:
            del owner["name"]
    assert first == second


def test_arrays_a_call_leaves_on_a_layer_are_no_constants() -> None:
    class Naive(tally.Model):
        def call(self, inputs):
            self.w = tally.random.normal((3, 2))
            self.seen = inputs * 2
            return inputs @ self.w

    model = Naive()
    model(np.ones((2, 3), "float32"))
    ledger = account(model)
    assert [(entry.name, entry.shape, entry.state) for entry in ledger.entries] == [
        ("w", (3, 2), "untracked")
    ]
    assert "the array 'w'" not in [what for what, *_ in ledger.owner("").constants]
