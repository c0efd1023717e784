"""A layer made otherwise: the figures are those of the layer really built, and of the model built with it."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import tally
from accounting.sums import evaluate
from tally import layers
from tally.accounting import Entry, Ledger, Owner
from tally.accounting import what_if as figures
from tally.core import naming
from tally.core.errors import ArgumentError, UnbuiltError
from tally.models.variants import Source, recipes

QUIET = {"print_fn": lambda _: None}


def convnet() -> tally.Model:
    stack = [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10),
    ]
    return tally.Sequential([tally.Input((28, 28, 1)), *stack], name="convnet")


class Block(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.up, self.down = layers.Dense(4 * width), layers.Dense(width)

    def call(self, x):
        return x + self.down(self.up(x))


class Decoder(tally.Model):
    def __init__(self, width=8, depth=3, **kwargs):
        super().__init__(**kwargs)
        self.table = layers.Embedding(20, width)
        self.blocks = [Block(width) for _ in range(depth)]
        self.head = layers.Dense(20)

    def call(self, x):
        x = self.table(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def decoder() -> tally.Model:
    model = Decoder(name="decoder")
    model(tally.Input((6,), dtype="int32"))
    return model


def test_ten_filters_of_4_by_4_may_share_their_kernel_between_the_channels() -> None:
    found = tally.what_if(layers.Conv2D(10, 4), input_shape=(None, 32, 32, 3), **QUIET)
    assert found.as_it_is.parameters == 490
    shared = found["channel-shared"]
    assert (shared.parameters, shared.formula.numbers) == (170, "10 × (1·4·4 + 1) = 170")
    assert shared.output_shapes == found.as_it_is.output_shapes == ((None, 29, 29, 10),)
    assert shared.multiply_adds == 29 * 29 * 160
    assert found["separable"].parameters == 4 * 4 * 3 + 3 * 10 + 10


def test_each_variant_of_a_convolution_counts_what_keras_counts() -> None:
    source = (None, 12, 12, 8)
    found = tally.what_if(layers.Conv2D(16, 3, padding="same"), input_shape=source, **QUIET)
    peers = {
        "as it is": keras.layers.Conv2D(16, 3, padding="same"),
        "separable": keras.layers.SeparableConv2D(16, 3, padding="same"),
        "depthwise": keras.layers.DepthwiseConv2D(3, padding="same"),
        "groups=2": keras.layers.Conv2D(16, 3, groups=2, padding="same"),
        "groups=4": keras.layers.Conv2D(16, 3, groups=4, padding="same"),
        "groups=8": keras.layers.Conv2D(16, 3, groups=8, padding="same"),
        "kernel_size=5": keras.layers.Conv2D(16, 5, padding="same"),
        "filters=8": keras.layers.Conv2D(8, 3, padding="same"),
    }
    for name, peer in peers.items():
        peer.build(source)
        assert found[name].parameters == peer.count_params(), name
        assert found[name].output_shapes == (peer.compute_output_shape(source),), name
    assert found["bottleneck"].parameters == 8 * 4 + (9 * 4 + 1) * 4 + (4 + 1) * 16
    assert found["factorised"].parameters == 3 * 8 * 16 + (3 * 16 + 1) * 16
    assert {variant.name for variant in found.variants} == {
        *peers,
        *("bottleneck", "factorised", "channel-shared"),
    }


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_variant_runs_and_gives_the_shape_it_says(rank: int) -> None:
    kind = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
    layer = kind(4, 3, strides=2, padding="same", activation="relu", name="made")
    shape = (None, *(6,) * rank, 4)
    found = tally.what_if(layer, input_shape=shape, **QUIET)
    data = np.ones((2, *shape[1:]), "float32")
    for recipe in recipes(Source(layer, shape, "float32", {})):
        variant = found[recipe.name]
        if variant.problem is None:
            made = recipe.make()
            assert made(data).shape[1:] == variant.output_shapes[0][1:]
            assert made.count_params() == variant.parameters
            assert evaluate(variant.formula.numbers.partition(" = ")[0]) == variant.parameters
        else:
            assert (rank, recipe.name) == (1, "factorised")


def test_the_channel_shared_variant_computes_what_it_says() -> None:
    layer = layers.Conv2D(2, 2, name="made")
    made = next(
        r.make() for r in recipes(Source(layer, (None, 4, 4, 3), "float32", {})) if r.name == "channel-shared"
    )
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype("float32")
    kernel, bias = made.get_weights()
    layer.build((None, 4, 4, 3))
    layer.set_weights([np.repeat(kernel, 3, axis=2), bias])
    np.testing.assert_allclose(made(image), layer(image), atol=1e-5)


def test_what_is_not_possible_says_why() -> None:
    found = tally.what_if(layers.Conv2D(10, 4), input_shape=(None, 32, 32, 3), groups=2, **QUIET)
    assert "2 groups" in found["groups=2"].problem
    assert found["groups=2"].parameters is None
    found = tally.what_if(layers.Conv2D(10, 4), input_shape=(None, 32, 32, 3), **QUIET)
    assert found["grouped"].problem.startswith("3 input channels and 10 filters have no other number")
    found = tally.what_if(
        layers.Conv1D(4, 3, padding="causal"), input_shape=(None, 8, 2), variants=["separable"], **QUIET
    )
    assert "padding" in found["separable"].problem


def test_another_number_of_filters_changes_what_follows_by_what_is_really_built() -> None:
    model = convnet()
    found = tally.what_if(model, "conv2d_1", filters=128, **QUIET)
    changed = found["filters=128"]
    assert found.as_it_is.total == model.count_params() == 34_826
    (dense,) = changed.changes
    assert (dense.path, dense.before, dense.after) == ("dense", 16_010, 32_010)
    assert dense.formula == "10 × (3,200 + 1) = 32,010"
    assert changed.total == 320 + 128 * (32 * 9 + 1) + 32_010


def test_what_keeps_the_shape_changes_no_other_layer() -> None:
    found = tally.what_if(convnet(), "conv2d_1", variants=["separable", "grouped"], **QUIET)
    separable = found["separable"]
    assert separable.changes == ()
    assert separable.total == 34_826 - 18_496 + separable.parameters
    assert [variant.name for variant in found.variants[2:]] == ["groups=2", "groups=4", "groups=32"]


def test_the_total_is_that_of_the_model_written_anew() -> None:
    found = tally.what_if(convnet(), "conv2d", strides=2, padding="same", **QUIET)
    stack = convnet().layers
    again = tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, strides=2, padding="same"),
            *[type(layer).from_config(layer.get_config()) for layer in stack[1:]],
        ]
    )
    assert found.variants[1].total == again.count_params()


def test_a_layer_of_a_users_model_is_exchanged_in_its_list() -> None:
    found = tally.what_if(decoder(), "blocks/1/up", units=5, variants=["rank"], rank=2, **QUIET)
    wide = found["units=5"]
    assert (wide.changes[0].path, wide.changes[0].after) == ("blocks/1/down", 5 * 8 + 8)
    assert found["rank=2"].parameters == 8 * 2 + 2 * 5 + 5
    assert found["rank=2"].total == wide.total - wide.parameters + found["rank=2"].parameters


def test_a_model_that_cannot_take_the_change_says_so() -> None:
    found = tally.what_if(decoder(), "table", output_dim=16, **QUIET)
    variant = found["output_dim=16"]
    assert variant.parameters == 320
    assert variant.total is None
    assert variant.note.startswith("The model can't be built with it: ")


class Tied(tally.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = layers.Embedding(11, 4)

    def call(self, x):
        return self.table(x) @ self.table.embeddings.value.T


def test_a_weight_that_a_call_takes_for_itself_is_missed_where_it_is_gone() -> None:
    model = Tied(name="tied")
    model(np.zeros((1, 3), "int32"))
    found = tally.what_if(model, "table", rank=2, **QUIET)
    (variant,) = found.variants[1:]
    assert variant.parameters == 11 * 2 + 2 * 4
    assert variant.total is None
    assert "embeddings" in variant.note
    assert tally.what_if(model, "table", output_dim=6, **QUIET).variants[1].total == 66


def test_a_layer_inside_a_nested_model_and_a_wrapper_is_exchanged() -> None:
    base = tally.Sequential([layers.Conv1D(6, 3), layers.BatchNormalization()], name="base")
    steps = layers.TimeDistributed(layers.Dense(4), name="steps")
    model = tally.Sequential([tally.Input((8, 2)), base, steps, layers.Flatten(), layers.Dense(1)])
    filters = tally.what_if(model, "base/conv1d", filters=3, **QUIET).variants[1]
    assert [(change.path, change.after) for change in filters.changes] == [
        ("base/batch_normalization", 12),
        ("steps", 16),
    ]
    units = tally.what_if(model, "steps/layer", units=2, **QUIET).variants[1]
    assert [(change.path, change.after) for change in units.changes] == [("dense", 13)]


def test_a_tied_weight_is_counted_by_building_the_model() -> None:
    inputs = tally.Input((4,))
    shared = layers.Dense(4, name="twin")
    model = tally.Model(inputs, layers.Add()([shared(inputs), shared(shared(inputs))]))
    found = tally.what_if(model, "twin", use_bias=False, **QUIET)
    assert (found.as_it_is.total, found.variants[1].total) == (20, 16)


@pytest.mark.parametrize(
    ("layer", "shape", "counts"),
    [
        (layers.Dense(8), (None, 6), {"rank=3": 6 * 3 + 3 * 8 + 8, "rank=1": 6 + 8 + 8, "no bias": 48}),
        (layers.Embedding(50, 8), (None, 4), {"rank=4": 50 * 4 + 4 * 8, "output_dim=4": 200}),
        (layers.LSTM(4), (None, 5, 3), {"GRU": 3 * 4 * (3 + 4 + 2), "SimpleRNN": 4 * (3 + 4 + 1)}),
        (layers.GRU(4), (None, 5, 3), {"LSTM": 4 * 4 * (3 + 4 + 1), "bidirectional": 2 * 108}),
        (layers.Bidirectional(layers.LSTM(4)), (None, 5, 3), {"one direction": 128, "GRU": 216}),
        (layers.SeparableConv2D(5, 3), (None, 8, 8, 2), {"ordinary": 5 * (2 * 9 + 1)}),
        (layers.DepthwiseConv1D(3, depth_multiplier=2), (None, 8, 2), {"ordinary": 4 * (2 * 3 + 1)}),
        (
            layers.MultiHeadAttention(4, 2),
            ((None, 5, 8), (None, 5, 8)),
            {"key heads=2": 2 * (8 * 8 + 8) + 2 * (8 * 4 + 4), "key heads=1": 2 * 72 + 2 * (8 * 2 + 2)},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_each_family_has_variants_of_its_own(layer, shape, counts) -> None:
    found = tally.what_if(layer, input_shape=shape, **QUIET)
    assert {name: found[name].parameters for name in counts} == counts


def test_several_values_give_a_row_each() -> None:
    found = tally.what_if(
        layers.Conv2D(4, 3), input_shape=(None, 9, 9, 2), filters=[2, 8], kernel_size=[(1, 3), 5], **QUIET
    )
    assert [variant.name for variant in found.variants[1:]] == [
        "filters=2, kernel_size=1×3",
        "filters=2, kernel_size=5",
        "filters=8, kernel_size=1×3",
        "filters=8, kernel_size=5",
    ]
    assert found.variants[1].parameters == 2 * (3 * 2 + 1)


def test_nothing_of_the_model_changes() -> None:
    model = convnet()
    tally.utils.set_random_seed(1)
    names, before = dict(naming._counts), tally.account(model)
    tally.what_if(model, "conv2d", **QUIET)
    assert tally.account(model) == before
    assert dict(naming._counts) == names
    drawn = layers.Dense(3)
    drawn.build((None, 2))
    tally.utils.set_random_seed(1)
    again = layers.Dense(3)
    again.build((None, 2))
    np.testing.assert_array_equal(drawn.kernel.numpy(), again.kernel.numpy())


def test_a_ledger_alone_tells_of_the_layer_and_of_the_total_where_the_shape_stays() -> None:
    book = tally.account(convnet())
    found = tally.what_if(book, "conv2d_1", filters=128, variants=["depthwise"], **QUIET)
    assert found["filters=128"].parameters == 36_992
    assert found["filters=128"].note == "What follows isn't built again: the model itself is not at hand."
    with pytest.raises(ArgumentError, match="A Sequential can't be made again from a ledger alone"):
        tally.what_if(tally.account(tally.Sequential([tally.Input((3,))], name="empty")), **QUIET)


def weights_file(folder: Path, **arrays: tuple[int, ...]) -> Path:
    """A file of weights as PyTorch names them: nothing in it says what goes in."""
    path = folder / "weights.safetensors"
    save_file({name: np.zeros(shape, np.float32) for name, shape in arrays.items()}, path)
    return path


@pytest.mark.parametrize(
    ("arrays", "change", "reads", "before", "after"),
    [
        ({"a.weight": (4, 3), "a.bias": (4,)}, {"units": 8}, (None, 3), 16, 32),
        ({"a/kernel": (3, 4), "a/bias": (4,)}, {"use_bias": False}, (None, 3), 16, 12),
        ({"a.weight": (4, 2, 3, 3), "a.bias": (4,)}, {"filters": 8}, (None, None, None, 2), 76, 152),
        ({"embedding.weight": (10, 3)}, {"output_dim": 8}, (None, None), 30, 80),
    ],
)
def test_a_file_of_weights_tells_what_a_layer_reads(tmp_path, arrays, change, reads, before, after) -> None:
    path = weights_file(tmp_path, **arrays, **{"other.weight": (5, 5), "other.bias": (5,)})
    layer = re.split("[./]", next(iter(arrays)))[0]
    found = tally.what_if(path, layer, **change, **QUIET)
    assert found.input_shapes == (reads,)
    assert (found.as_it_is.parameters, found.variants[1].parameters) == (before, after)
    assert found.as_it_is.total == before + 30


def test_a_grouped_convolution_of_pytorch_keeps_its_groups_and_its_layout() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, groups=2))
    found = tally.what_if(model, "0", filters=8, **QUIET)
    assert found.input_shapes == ((None, 2, None, None),)
    assert [variant.parameters for variant in found.variants] == [40, 80]
    assert found.variants[1].output_shapes[0][1] == 8


def test_a_layer_that_a_file_does_not_tell_enough_of_is_refused_with_the_reason(tmp_path) -> None:
    path = weights_file(
        tmp_path, **{"bn.weight": (4,), "bn.bias": (4,), "bn.running_mean": (4,), "bn.running_var": (4,)}
    )
    with pytest.raises(
        ArgumentError, match="no input of 'bn' is known, and its weights don't tell its shape"
    ):
        tally.what_if(path, "bn", **QUIET)
    assert (
        tally.what_if(path, "bn", input_shape=(None, 4), center=False, **QUIET).variants[1].parameters == 12
    )
    odd = Entry(path="d/kernel", owner="d", name="kernel", shape=(3, 4), axes=("features", "units"))
    gain = Entry(path="d/gain", owner="d", name="gain", shape=(4,), axes=("units",))
    owner = Owner(path="d", type="Dense", options=(("units", 4), ("use_bias", False)))
    with pytest.raises(ArgumentError, match=r"'d' has 16 parameters, and a Dense made from .* would have 12"):
        tally.what_if(Ledger(name="odd", owners=(owner,), entries=(odd, gain)), "d", **QUIET)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: tally.what_if(convnet()), "'convnet' has several layers, and none was named"),
        (lambda: tally.what_if(convnet(), "conv2d_11"), "Did you mean 'conv2d_1'"),
        (
            lambda: tally.what_if(convnet(), "dense", unitz=3),
            "Dense has no argument 'unitz'. Did you mean 'units'",
        ),
        (lambda: tally.what_if(convnet(), "conv2d", variants=["seperable"]), "Did you mean 'separable'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(ask, told: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(told)):
        ask()


def test_a_layer_that_saw_no_input_asks_for_a_shape() -> None:
    with pytest.raises(UnbuiltError, match="say input_shape="):
        tally.what_if(layers.Conv2D(3, 3))


def test_an_operation_of_the_graph_is_no_layer_to_be_made_otherwise() -> None:
    inputs = tally.Input((4,))
    with pytest.raises(ArgumentError, match="'multiply' is an operation of the graph"):
        tally.what_if(tally.Model(inputs, inputs * 2.0), "multiply")


def test_a_layer_without_usual_variants_says_so() -> None:
    shown: list[str] = []
    tally.what_if(layers.GroupNormalization(2), input_shape=(None, 4, 4), print_fn=shown.append)
    assert "Of GroupNormalization no usual variants are known" in shown[0]


def test_the_comparison_is_data_and_says_so_in_one_line() -> None:
    found = tally.what_if(convnet(), "dense", units=5, **QUIET)
    assert repr(found) == "<WhatIf of 'dense' in 'convnet': 1 variant of Dense>"
    read = json.loads(found.to_json())
    assert list(read)[:3] == ["schema_version", "kind", "name"]
    assert (read["schema_version"], read["kind"]) == (figures.WHAT_IF_VERSION, "what-if")
    assert read["variants"][1]["ratio"] == 0.5
    assert read["variants"][1]["formula"]["numbers"] == "5 × (1,600 + 1) = 8,005"
