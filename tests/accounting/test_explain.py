"""Each number is explained by the right formula and the right reasons."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tally
from accounting.written import (
    IMAGE,
    again,
    batch_normalization,
    conv2d,
    correct_linear,
    dense,
    entry,
    frozen,
    ledger,
    mnist,
    naive_linear,
    plain,
    siamese,
    transfer,
    unbuilt,
)
from tally import layers
from tally.accounting import Ledger, Owner, explain
from tally.accounting.explain import EXPLANATION_VERSION
from tally.accounting.formula import closed_form, product_in_words, sum_of_parts
from tally.accounting.window import output_arithmetic
from tally.report import draw, render


def remarks(book: Ledger, path: str, kind: str) -> str:
    return " ".join(remark.text for remark in explain(book)[path].remarks if remark.kind == kind)


def formula(*entries) -> tuple[str, str]:
    found = closed_form(entries)
    return found.symbols, found.numbers


def test_the_mnist_convnet_is_explained_layer_by_layer() -> None:
    explanation = explain(mnist())
    symbols = "filters × (input channels · kernel height · kernel width + 1)"
    assert explanation["conv2d"].formula.symbols == symbols
    assert explanation["conv2d"].formula.numbers == "32 × (1·3·3 + 1) = 320"
    assert explanation["conv2d_1"].formula.numbers == "64 × (32·3·3 + 1) = 18,496"
    assert explanation["dense"].formula.symbols == "units × (features + 1)"
    assert explanation["dense"].formula.numbers == "10 × (1,600 + 1) = 16,010"
    assert explanation["max_pooling2d"].formula is None
    assert explanation.formula.numbers == "320 + 18,496 + 16,010 = 34,826"
    assert explanation.formula.symbols == "conv2d + conv2d_1 + dense"


@pytest.mark.parametrize(
    ("channels", "numbers"), [(3, "10 × (3·4·4 + 1) = 490"), (1, "10 × (1·4·4 + 1) = 170")]
)
def test_ten_filters_of_4_by_4_count_each_input_channel(channels: int, numbers: str) -> None:
    book = ledger("m", conv2d("conv2d", (32, 32, channels), 10, 4, (29, 29, 10)))
    assert explain(book)["conv2d"].formula.numbers == numbers


def test_a_convolution_has_separate_weights_for_each_channel_and_shares_them_between_positions() -> None:
    book = ledger("m", conv2d("conv2d", (32, 32, 3), 10, 4, (29, 29, 10)))
    assert remarks(book, "conv2d", "weights") == (
        "Each of the 10 filters has its own 4×4 weights for each of the 3 input channels, 30 separate "
        "4×4 kernels in all: they are not shared between channels, but every position of the image shares "
        "them."
    )
    assert remarks(book, "conv2d", "absent") == (
        "The height and width of the input and the batch size do not enter: the same weights serve them all."
    )


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (layers.Dense(1), (1,), "The one unit has its own weight for the one feature, and one bias."),
        (layers.Dense(1), (5,), "The one unit has its own weight for each of the 5 features, and one bias."),
        (
            layers.DepthwiseConv2D(3),
            (4, 4, 1),
            "The one input channel has one kernel of 3×3 weights; every position",
        ),
        (layers.SeparableConv2D(1, 1), (4, 4, 1), "The one input channel has 1 weight; every position"),
        (
            layers.SeparableConv2D(1, 1),
            (4, 4, 1),
            "Then the one filter weighs the one channel this gives, with one",
        ),
        (layers.LSTM(1), (3, 1), "weighs the one feature of a step and the one output of the step before"),
        (layers.Embedding(1, 1), (1,), "One row of 1 number for the one token; "),
        (layers.PReLU(), (1,), "one for the one feature."),
        (layers.PReLU(), (4, 1), "one for each of the 4 places along length."),
        (
            layers.EinsumDense("ab,bc->ac", output_shape=1, bias_axes="c"),
            (1,),
            "The one unit c it makes has its own weight for the one feature b it reads, and one bias.",
        ),
        (
            layers.EinsumDense("ab,bcd->acd", output_shape=(1, 1), bias_axes="cd"),
            (1,),
            "The one value (1 unit c × 1 unit d) it makes has its own weight for the one feature b it reads",
        ),
        (layers.Flatten(), (1, 1), "1·1 = 1 value in a row"),
    ],
)
def test_one_unit_filter_channel_or_token_is_said_in_the_singular(
    layer: layers.Layer, shape: tuple[int, ...], words: str
) -> None:
    text = " ".join(explain(tally.Sequential([tally.Input(shape), layer]).account()).to_json().split())
    assert words in text
    assert "the 1 " not in text


def test_the_size_of_the_image_enters_a_dense_layer_through_flattening() -> None:
    assert remarks(mnist(), "dense", "absent").endswith("through 'flatten': 5·5·64 = 1,600 features.")
    assert "only the last axis" in remarks(ledger("m", dense("dense", 4, 2)), "dense", "absent")


def test_without_bias_there_is_no_plus_one() -> None:
    _, (kernel,) = conv2d("c", (8, 8, 3), 10, 4, (5, 5, 10), bias=False)
    assert formula(kernel) == (
        "kernel height × kernel width × input channels × filters",
        "4 × 4 × 3 × 10 = 480",
    )


def test_a_separable_convolution_is_the_sum_of_two_products() -> None:
    depthwise = entry("s", "depthwise", (3, 3, 3, 1), *IMAGE[:3], "depth multiplier")
    pointwise = entry("s", "pointwise", (1, 1, 3, 10), *IMAGE)
    bias = entry("s", "bias", (10,), "filters")
    assert formula(depthwise, pointwise, bias)[1] == "3·3·3·1 + 10 × (3·1·1 + 1) = 67"
    assert formula(depthwise, pointwise)[1] == "3·3·3·1 + 1·1·3·10 = 57"
    book = ledger("m", (Owner(path="s", type="SeparableConv2D"), (depthwise, pointwise, bias)))
    assert "channels are not mixed here" in remarks(book, "s", "weights")


def test_batch_normalisation_is_half_trainable_and_half_statistics() -> None:
    book = ledger("m", batch_normalization("norm", 64))
    explained = explain(book)["norm"]
    assert (explained.formula.symbols, explained.formula.numbers) == ("4 × channels", "4 × 64 = 256")
    assert remarks(book, "norm", "state") == (
        "Of these, 2 × 64 = 128 trainable (gamma and beta) and 2 × 64 = 128 never trainable (moving_mean and "
        "moving_variance). moving_mean and moving_variance follow the data: training updates them from each "
        "batch, no gradient ever does, so they are never trainable."
    )


def test_an_lstm_has_four_gates_over_input_state_and_bias() -> None:
    weights = [
        entry("lstm", "kernel", (10, 128), "features", "4·units"),
        entry("lstm", "recurrent_kernel", (32, 128), "units", "4·units"),
        entry("lstm", "bias", (128,), "4·units"),
    ]
    assert formula(*weights) == (
        "4 × units × (features + units + 1)",
        "4 × 32 × (10 + 32 + 1) = 5,504",
    )


def test_biases_by_gates_by_units_are_three_factors_of_one_axis() -> None:
    rows = ("directions", "4 gates·units")
    weight = entry("lstm", "w", (1, 8, 6), *rows, "features")
    recurrent = entry("lstm", "r", (1, 8, 2), *rows, "units")
    bias = entry("lstm", "b", (1, 16), "directions", "2 biases·4 gates·units")
    owner = Owner(path="lstm", type="LSTM")
    assert product_in_words(bias, owner) == "1 direction × 2 biases × 4 gates × 2 units = 16"
    assert formula(weight, recurrent, bias) == (
        "directions × 4 × units × (features + units + 2)",
        "1 × 4 × 2 × (6 + 2 + 2) = 80",
    )


@pytest.mark.parametrize(
    "axis", ["3 gates·units", "0 gates·units", "gates·units", "9" * 5000 + " gates·units"]
)
def test_an_axis_whose_numbers_do_not_divide_it_keeps_its_name(axis: str) -> None:
    bias = entry("lstm", "b", (16,), axis)
    assert product_in_words(bias, Owner(path="lstm", type="LSTM")) == f"16 {axis} = 16"


def test_a_recurrent_layer_says_what_its_gates_weigh() -> None:
    weights = (
        entry("lstm/cell", "kernel", (10, 128), "features", "4 gates·units"),
        entry("lstm/cell", "recurrent_kernel", (32, 128), "units", "4 gates·units"),
        entry("lstm/cell", "bias", (128,), "4 gates·units"),
    )
    cell = Owner(path="lstm/cell", type="LSTMCell")
    book = ledger("m", (Owner(path="lstm", type="LSTM"), ()), (cell, weights))
    assert remarks(book, "lstm/cell", "weights") == (
        "Each of the 32 units has 4 gates (input, forget, candidate and output). Each gate weighs the 10 "
        "features of a step and the 32 outputs of the step before, and has a bias."
    )
    assert "length of the sequence" in remarks(book, "lstm/cell", "absent")
    assert explain(book)["lstm"].formula == explain(book)["lstm/cell"].formula


def test_attention_gathers_its_projections_by_what_they_make() -> None:
    inward = [
        weight
        for name in ("query", "key", "value")
        for weight in (
            entry("a", f"{name}_kernel", (16, 2, 8), "features", "heads", "key size"),
            entry("a", f"{name}_bias", (2, 8), "heads", "key size"),
        )
    ]
    outward = [
        entry("a", "output_kernel", (2, 8, 16), "heads", "key size", "features"),
        entry("a", "output_bias", (16,), "features"),
    ]
    assert formula(*inward, *outward) == (
        "3 × heads × key size × (features + 1) + features × (heads · key size + 1)",
        "3 × 2 × 8 × (16 + 1) + 16 × (2·8 + 1) = 1,088",
    )


def test_an_embedding_is_a_row_for_each_token() -> None:
    table = entry("e", "embeddings", (1000, 16), "tokens", "embedding")
    assert formula(table) == ("tokens × embedding", "1,000 × 16 = 16,000")
    book = ledger("m", (Owner(path="e", type="Embedding"), (table,)))
    assert remarks(book, "e", "weights") == (
        "One row of 16 numbers for each of the 1,000 tokens; a token's row is looked up, nothing is multiplied."
    )


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9)), max_size=4), min_size=1, max_size=5
    )
)
def test_a_closed_form_evaluates_to_the_count(weights: list[list[tuple[str, int]]]) -> None:
    entries = [
        entry("x", str(number), tuple(size for _, size in weight), *(name for name, _ in weight))
        for number, weight in enumerate(weights)
    ]
    found = closed_form(entries)
    left = found.numbers.partition(" = ")[0].replace("×", "*").replace("·", "*").replace(",", "")
    assert eval(left) == found.value == sum(math.prod(e.shape) for e in entries)


def test_unnamed_axes_are_recognised_but_not_factored() -> None:
    explained = explain(correct_linear())["linear"]
    assert explained.formula.symbols == "input features · units + units"
    assert explained.formula.numbers == "10·5 + 5 = 50 + 5 = 55"
    assert [weight.product for weight in explained.weights] == [
        "10 input features × 5 units = 50",
        "5 units = 5",
    ]


def test_a_weight_is_said_as_the_product_of_its_axes() -> None:
    weights = explain(mnist())["conv2d"].weights
    assert [weight.product for weight in weights] == [
        "3 kernel height × 3 kernel width × 1 input channel × 32 filters = 288",
        "32 filters = 32",
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [("max_pooling2d", "takes the largest value"), ("flatten", "in one row"), ("dropout", "zero at random")],
)
def test_a_layer_without_weights_says_what_it_does_instead(path: str, words: str) -> None:
    text = remarks(mnist(), path, "none")
    assert text.startswith("No weights, nothing to learn: it ")
    assert words in text


def test_a_lambda_says_that_a_function_owns_nothing() -> None:
    book = ledger("m", plain("lambda", "Lambda", (32, 32, 3), (32, 32, 1)))
    assert "a function owns nothing" in remarks(book, "lambda", "none")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            plain(
                "p",
                "AveragePooling2D",
                (28, 28, 1),
                (28, 28, 1),
                pool_size=(3, 3),
                strides=(1, 1),
                padding="same",
            ),
            "9 of 1/9",
        ),
        (plain("p", "AveragePooling1D", (28, 1), (14, 1), pool_size=2), "2 of 1/2"),
        (plain("p", "GlobalAveragePooling2D", (7, 7, 32), (32,)), "49 of 1/49"),
    ],
)
def test_an_average_says_its_implied_weights(part, words: str) -> None:
    text = remarks(ledger("m", part), "p", "constant")
    assert words in text
    assert "not stored and not learned" in text
    assert explain(ledger("m", part))["p"].count == 0


def test_stored_constants_are_told_from_implied_ones() -> None:
    owner = Owner(
        path="blur",
        type="Blur",
        builtin=False,
        status="no weights",
        constants=(("a fixed filter", 9, 0.25, True),),
    )
    assert remarks(ledger("m", (owner, ())), "blur", "constant") == (
        "Fixed numbers: a fixed filter, 9 of 1/4; stored but not learned, so not counted."
    )


def test_frozen_weights_name_the_switch() -> None:
    book = ledger("m", frozen(dense("dense", 3, 2), ""))
    assert remarks(book, "dense", "frozen").startswith("Frozen: 8 parameters switched off by the model")
    assert "by 'backbone'" in remarks(transfer(), "backbone/conv2d", "frozen")
    assert explain(transfer())["backbone"].formula.numbers == "896 + 128 = 1,024"


def test_a_seed_is_no_parameter() -> None:
    assert "Not a parameter" in remarks(transfer(), "dropout", "seed")
    assert explain(transfer())["dropout"].weights == ()


def test_an_unbuilt_layer_says_what_to_do_and_what_will_be() -> None:
    explanation = explain(unbuilt())
    assert explanation["conv2d_1"].expected == "32 × (input channels · 3·3 + 1)"
    assert explanation["dense"].expected == "10 × features"
    assert "call it on data" in remarks(unbuilt(), "dense", "unbuilt")


def test_untracked_weights_are_named_with_their_lines() -> None:
    text = remarks(naive_linear(), "naive_linear", "untracked")
    assert "w (model.py:10) and b (model.py:11) act as weights, 55 numbers" in text
    assert explain(naive_linear())["naive_linear"].count == 0
    assert remarks(naive_linear(), "naive_linear", "none") == ""


def test_a_layer_used_again_adds_nothing() -> None:
    assert "'tower'" in remarks(siamese(), "tower_1", "shared")
    assert explain(siamese())["tower_1"].formula is None
    assert explain(siamese()).formula.numbers == "320"


def test_equal_layers_are_gathered_in_the_sum() -> None:
    book = ledger("m", *(dense(f"blocks/{number}", 4, 4) for number in range(12)), dense("head", 4, 2))
    total = explain(book).formula
    assert (total.symbols, total.numbers) == ("12 × Dense + head", "12 × 20 + 10 = 250")


@pytest.mark.parametrize(
    ("kind", "before", "after", "options", "line"),
    [
        ("Conv2D", (28, 28, 1), (26, 26, 8), {"kernel_size": 3}, "height and width: (28 − 3)/1 + 1 = 26"),
        ("MaxPooling2D", (11, 11, 8), (5, 5, 8), {"pool_size": 2}, "height and width: ⌊(11 − 2)/2⌋ + 1 = 5"),
        (
            "Conv2D",
            (28, 28, 1),
            (24, 24, 8),
            {"kernel_size": (3, 3), "dilation_rate": (2, 2)},
            "height and width: (28 − (2·(3 − 1) + 1))/1 + 1 = 24",
        ),
        (
            "Conv2D",
            (28, 28, 1),
            (10, 10, 8),
            {"kernel_size": 3, "strides": 3, "padding": "same"},
            "height and width: ⌈28/3⌉ = 10, padded by 1 on each end: (28 + 1 + 1 − 3)/3 + 1 = 10",
        ),
        (
            "Conv2D",
            (1, 28, 30),
            (8, 26, 28),
            {"kernel_size": 3, "data_format": "channels_first"},
            "height: (28 − 3)/1 + 1 = 26",
        ),
        ("Conv1D", (10, 4), (8, 4), {"kernel_size": (3,)}, "length: (10 − 3)/1 + 1 = 8"),
        (
            "Conv2DTranspose",
            (7, 7, 8),
            (14, 14, 4),
            {"kernel_size": 3, "strides": 2, "padding": "same"},
            "height and width: 7·2 = 14",
        ),
        (
            "Conv2DTranspose",
            (7, 7, 8),
            (15, 15, 4),
            {"kernel_size": 3, "strides": 2},
            "height and width: 7·2 + (3 − 2) = 15",
        ),
        ("UpSampling2D", (7, 5, 8), (14, 15, 8), {"size": (2, 3)}, "height: 7·2 = 14"),
        ("ZeroPadding2D", (7, 7, 8), (10, 9, 8), {"padding": ((1, 2), (1, 1))}, "height: 7 + 1 + 2 = 10"),
        ("Cropping1D", (7, 8), (4, 8), {"cropping": (1, 2)}, "length: 7 − 1 − 2 = 4"),
        ("Flatten", (5, 5, 64), (1600,), {}, "5·5·64 = 1,600 values in a row"),
    ],
)
def test_the_size_of_an_output_is_worked_out(
    kind: str, before: tuple, after: tuple, options: dict, line: str
) -> None:
    assert output_arithmetic(plain("x", kind, before, after, **options)[0])[0] == line


def test_arithmetic_that_does_not_give_the_real_size_is_not_said() -> None:
    assert output_arithmetic(plain("x", "MaxPooling2D", (28, 28, 1), (20, 20, 1), pool_size=2)[0]) == ()
    assert (
        output_arithmetic(plain("x", "MaxPooling2D", (None, None, 1), (None, None, 1), pool_size=2)[0]) == ()
    )


def test_a_concatenation_adds_up_one_axis() -> None:
    assert remarks(siamese(), "concatenate", "output") == "26, 26, 64; axis 3: 32 + 32 = 64"


def test_a_tied_weight_is_explained_where_it_is_used_again() -> None:
    table = entry("embedding", "embeddings", (100, 8), "vocabulary", "features")
    first = (Owner(path="embedding", type="Embedding"), (table,))
    tied = again(first, "head")
    book = ledger("m", first, (Owner(path="head", type="Head", builtin=False), tied[1]))
    assert (
        remarks(book, "head", "shared")
        == "embeddings is 'embedding/embeddings' used again: 800 counted there."
    )


def account_of(*stack, shape=(8, 8, 4)) -> Ledger:
    return tally.account(tally.Sequential([tally.Input(shape), *stack], name="m"))


def test_a_grouped_convolution_divides_its_channels_by_the_groups() -> None:
    found = explain(account_of(layers.Conv2D(6, 3, groups=2, name="c")))["c"].formula
    assert found.symbols == "filters × (kernel height · kernel width · input channels / groups + 1)"
    assert found.numbers == "6 × (3·3·4/2 + 1) = 114"
    found = explain(account_of(layers.Conv2D(6, 3, groups=2, use_bias=False, name="c")))["c"].formula
    assert found.symbols == "kernel height × kernel width × input channels / groups × filters"
    assert found.numbers == "3 × 3 × 4/2 × 6 = 108"


def test_a_depthwise_convolution_factors_out_the_channels_it_makes() -> None:
    found = explain(account_of(layers.DepthwiseConv2D(3, depth_multiplier=2, name="d")))["d"].formula
    assert found.symbols == "input channels × depth multiplier × (kernel height · kernel width + 1)"
    assert found.numbers == "4 × 2 × (3·3 + 1) = 80"


def test_one_symbol_stands_for_one_number() -> None:
    key = entry("a", "key", (4, 2), "features", "units")
    value = entry("a", "value", (6, 2), "features", "units")
    assert formula(key, value) == ("units × (features of key + features of value)", "2 × (4 + 6) = 20")
    found = explain(account_of(layers.SeparableConv2D(6, 3, name="s")))["s"].formula
    assert found.symbols.endswith("filters × (depthwise channels + 1)")
    assert found.numbers == "3·3·4·1 + 6 × (4 + 1) = 66"


def test_equal_counts_of_two_kinds_are_not_summed_under_one_name() -> None:
    parts = [("a", "Dense", 5), ("b", "Dense", 5), ("c", "Dense", 7), ("d", "Dense", 7)]
    assert sum_of_parts(parts).symbols == "2 × a + 2 × c"


def test_projections_inside_attention_are_written_as_one_formula() -> None:
    inputs = tally.Input((5, 8))
    book = tally.account(tally.Model(inputs, layers.MultiHeadAttention(2, 4, name="a")(inputs, inputs)))
    found = explain(book)["a"].formula
    assert found.symbols == "3 × heads × key size × (features + 1) + features × (heads · key size + 1)"
    assert found.numbers == "3 × 2 × 4 × (8 + 1) + 8 × (2·4 + 1) = 288"
    query, value = tally.Input((5, 8)), tally.Input((5, 6))
    book = tally.account(tally.Model([query, value], layers.MultiHeadAttention(2, 4, name="a")(query, value)))
    assert explain(book)["a"].formula.symbols == "query_dense + key_dense + value_dense + output_dense"


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            layers.Conv2D(3, 3, name="x"),
            "6, 6, 3; height and width: (8 − 3)/1 + 1 = 6; one channel for each filter",
        ),
        (
            layers.Conv2D(3, 3, strides=2, padding="same", name="x"),
            "4, 4, 3; height and width: 8/2 = 4, padded by 1 at the end: (8 + 1 − 3)/2 + 1 = 4; one channel for "
            "each filter",
        ),
        (
            layers.MaxPooling2D(3, strides=1, padding="same", name="x"),
            "8, 8, 4; height and width: 8, as in the input, padded by 1 on each end: (8 + 1 + 1 − 3)/1 + 1 = 8",
        ),
        (
            layers.DepthwiseConv2D((2, 4), padding="same", depth_multiplier=2, name="x"),
            "8, 8, 8; height: 8, as in the input, padded by 1 at the end: (8 + 1 − 2)/1 + 1 = 8; width: 8, as in the "
            "input, padded by 1 at the start and 2 at the end: (8 + 1 + 2 − 4)/1 + 1 = 8; channels: 4·2 = 8",
        ),
        (layers.GlobalMaxPooling2D(name="x"), "4; one value for each channel"),
        (layers.Reshape((4, 64), name="x"), "4, 64; 4·64 = 256 values, as in the input"),
        (layers.Permute((3, 1, 2), name="x"), "4, 8, 8; axes 3, 1 and 2 of the input"),
        (layers.BatchNormalization(name="x"), "8, 8, 4, as the input"),
        (layers.Dense(3, name="x"), "8, 8, 3; one value for each unit"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_an_output_says_its_shape_and_where_each_size_comes_from(layer, text: str) -> None:
    assert remarks(account_of(layer), "x", "output") == text


def test_a_causal_convolution_is_padded_in_front_alone() -> None:
    book = account_of(layers.Conv1D(2, 3, padding="causal", dilation_rate=2, name="x"), shape=(9, 2))
    assert "padded by 4 at the start: (9 + 4 − (2·(3 − 1) + 1))/1 + 1 = 9" in remarks(book, "x", "output")


def test_an_input_says_which_layer_it_comes_from_and_how_that_made_its_shape() -> None:
    stack = [layers.MaxPooling2D(2, name="pool"), layers.ReLU(name="relu"), layers.Flatten(name="flat")]
    book = account_of(*stack, layers.Dropout(0.1, name="drop"), layers.Dense(2, name="head"))
    assert remarks(book, "pool", "input") == "8, 8, 4, as the model is given it"
    assert remarks(book, "relu", "input") == "4, 4, 4 from 'pool'"
    assert remarks(book, "relu", "arithmetic") == "height and width: (8 − 2)/2 + 1 = 4"
    assert remarks(book, "flat", "input") == "4, 4, 4 from 'relu', unchanged since 'pool'"
    assert remarks(book, "head", "input") == "64 from 'drop', unchanged since 'flat'"
    assert remarks(book, "head", "arithmetic") == "4·4·4 = 64 values in a row"


def test_each_input_of_a_graph_names_its_layer() -> None:
    left, right = tally.Input((4,), name="left"), tally.Input((3,), name="right")
    joined = layers.Concatenate(name="join")([layers.Dense(2, name="a")(left), right])
    book = tally.account(tally.Model([left, right], layers.Dense(1, name="head")(joined)))
    found = [remark.text for remark in explain(book)["join"].remarks if remark.kind == "input"]
    assert found == ["2 from 'a'", "3, the input 'right'"]
    assert remarks(book, "head", "arithmetic") == "axis 1: 2 + 3 = 5"


class Mystery(layers.Layer):
    """A layer whose weights have no names for their axes, and whose size stands in an attribute."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.units, self.hidden = units, 6
        self.blur = np.full((3, 3), 1 / 9)

    def build(self, input_shape) -> None:
        self.a = self.add_weight((input_shape[-1], self.hidden), name="a")
        self.b = self.add_weight((self.hidden, self.units), name="b")

    def call(self, x):
        return x @ self.a.value @ self.b.value


def test_unnamed_axes_are_matched_with_attributes_arguments_and_the_input() -> None:
    found = explain(account_of(Mystery(5, name="x"), shape=(7,)))["x"]
    assert found.formula.symbols == "input features · hidden + hidden · units"
    assert found.formula.numbers == "7·6 + 6·5 = 42 + 30 = 72"


def test_equal_sizes_are_not_told_apart_by_guessing() -> None:
    found = explain(account_of(Mystery(7, name="x"), shape=(7,)))["x"]
    assert found.formula.symbols == "7 · hidden + hidden · 7"
    assert found.weights[0].product == "7 (input features or units) × 6 hidden = 42"


def test_an_array_that_a_layer_keeps_is_counted_as_fixed() -> None:
    text = remarks(account_of(Mystery(5, name="x"), shape=(7,)), "x", "constant")
    assert text == "Fixed numbers: the array 'blur', 9 of 1/9; stored but not learned, so not counted."


GLOBAL_SCALE = 0.5


def test_a_lambda_says_what_its_function_has_captured_and_what_is_written_in_it() -> None:
    kernel, factor, axis = np.full((2, 2), 0.25, "float32"), 2.5, -1
    given = {
        "array": lambda x: x * kernel.mean(),
        "number": lambda x: x * factor,
        "default": lambda x, weight=3: x * weight,
        "literal": lambda x: x / 255.0,
        "global": lambda x: x * GLOBAL_SCALE,
        "axis": lambda x: tally.ops.max(x, axis=axis),
    }
    book = account_of(*(layers.Lambda(function, name=name) for name, function in given.items()))
    kept, implied = "stored but not learned, so not counted.", "not stored and not learned, so not counted."
    assert {name: remarks(book, name, "constant") for name in given} == {
        "array": f"Fixed numbers: the array 'kernel', 4 of 1/4; {kept}",
        "number": f"Fixed number: the number 'factor', 2.5; {kept}",
        "default": f"Fixed number: the number 'weight', 3; {kept}",
        "literal": f"Fixed number: a number in its code, 255; {implied}",
        "global": f"Fixed number: the number 'GLOBAL_SCALE', 0.5; {kept}",
        "axis": "Fixed: the function. No number or array was found in it or captured by it.",
    }


def test_an_operation_says_the_number_it_was_given() -> None:
    inputs = tally.Input((4,))
    book = tally.account(tally.Model(inputs, tally.ops.sum(inputs * 3, axis=-1)))
    assert "a number it was given, 3" in remarks(book, "multiply", "constant")
    assert "no number of its own" in remarks(book, "sum", "constant")


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (layers.Dropout(0.5, name="x"), "kept with probability 0.5 and multiplied by 1/(1 − 0.5) = 2."),
        (layers.Rescaling(1 / 255, name="x"), "Fixed: scale 1/255 and offset 0, chosen"),
        (layers.MaxPooling2D((2, 3), strides=2, name="x"), "a window of 2×3, moved by 2."),
        (layers.Activation("tanh", name="x"), "the function tanh"),
        (layers.LeakyReLU(0.2, name="x"), "negative_slope 0.2"),
        (layers.Flatten(name="x"), "fixed is only where each value goes"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_a_layer_that_learns_nothing_says_what_is_fixed(layer, text: str) -> None:
    assert text in remarks(account_of(layer), "x", "constant")


def repeated(depth: int) -> Ledger:
    blocks = [tally.Sequential([layers.Dense(4), layers.Dense(4)], name=f"block_{i}") for i in range(depth)]
    return account_of(*blocks, layers.Dense(4, name="odd"), shape=(4,))


def test_a_block_that_repeats_another_says_which() -> None:
    explained = explain(repeated(3))
    assert explained["block_0"].like is None
    assert explained["block_2"].like == "block_0"
    assert explained["block_2/dense_1"].like == "block_0/dense_1"
    assert explained["odd"].like is None
    assert explained["block_2"].formula.numbers == "2 × 20 = 40"


def test_blocks_that_differ_in_anything_are_not_folded() -> None:
    first, second = (tally.Sequential([layers.Dense(4)], name=name) for name in "ab")
    second.trainable = False
    book = account_of(first, second, shape=(4,))
    assert [owner.like for owner in explain(book).owners] == [None] * len(book.owners)


def test_repeated_blocks_are_drawn_once_unless_all_are_asked_for() -> None:
    explained = explain(repeated(12))
    shown = render(draw(explained))
    assert "block_0 (Sequential), and 11 more like it" in shown
    assert "12 × 40 parameters" in shown
    assert "block_1/dense" not in shown
    assert "block_11/dense_1 (Dense)" in render(draw(explained, fold=False))


def test_one_layer_is_explained_by_its_path_or_its_name() -> None:
    explained = explain(repeated(2), "block_1")
    assert [owner.path for owner in explained.owners] == ["block_1", "block_1/dense", "block_1/dense_1"]
    assert explained.total == 40
    assert repr(explained) == "<Explanation of 'block_1' in 'm': 40 parameters, 3 layers>"
    assert render(draw(explained)).startswith('Parameters of "block_1" in "m"')
    assert explain(repeated(2), "odd").formula.numbers == "4 × (4 + 1) = 20"
    with pytest.raises(ValueError, match=r"'m' has no layer 'ood'\. Did you mean 'odd'\?"):
        explain(repeated(2), "ood")
    with pytest.raises(ValueError, match="several layers 'dense_1'"):
        explain(repeated(2), "dense_1")


def test_an_explanation_is_data_and_says_so_in_one_line() -> None:
    explained = explain(repeated(2))
    assert repr(explained) == "<Explanation of 'm': 100 parameters, 8 layers>"
    read = json.loads(explained.to_json())
    assert list(read) == ["schema_version", "kind", "name", "layer", "total", "formula", "layers"]
    assert (read["schema_version"], read["kind"], read["total"]) == (EXPLANATION_VERSION, "explanation", 100)
    assert read["layers"][2]["formula"]["numbers"] == "4 × (4 + 1) = 20"


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(8, 3, groups=2), "8 × (3·3 · input channels / 2 + 1)"),
        (layers.SeparableConv2D(3, 3), "input channels · 3·3 + 3 × (input channels + 1)"),
        (layers.DepthwiseConv2D(3), "input channels × 1 × (3·3 + 1)"),
        (layers.Conv2DTranspose(4, 2, use_bias=False), "4 × (input channels · 2·2)"),
        (layers.Embedding(5, 3), "5 × 3 = 15"),
        (layers.LSTM(4), "4 × 4 × (features + 4 + 1)"),
        (layers.GRU(4), "3 × 4 × (features + 4 + 2)"),
        (layers.BatchNormalization(scale=False), "3 × channels"),
        (layers.LayerNormalization(), "2 × channels"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_an_unbuilt_layer_says_what_it_will_be_by_its_options(layer, expected: str) -> None:
    assert explain(tally.account(layer))[""].expected == expected


def test_what_a_ledger_is_asked_grows_with_the_layers_and_not_with_their_square(monkeypatch) -> None:
    asked: Counter[int] = Counter()
    depth = 0
    for name in ("under", "owned_by", "children", "owner"):
        method = getattr(Ledger, name)

        def counted(self, path="", method=method):
            asked[depth] += 1
            return method(self, path)

        monkeypatch.setattr(Ledger, name, counted)
    for depth in (10, 40):
        explain(repeated(depth))
    assert asked[10] > 30
    assert asked[40] < 5 * asked[10]
