"""A wrong number or shape is called by its name; one that means nothing is not explained."""

from dataclasses import replace

import pytest

import tally as keras
from accounting.written import (
    batch_normalization,
    conv2d,
    dense,
    entry,
    ledger,
    mnist,
    plain,
    siamese,
    transfer,
)
from tally import layers
from tally.accounting import Ledger, Owner
from tally.accounting.verify import verify

IMAGE = ("kernel height", "kernel width", "input channels", "filters")
TEN_FILTERS = ledger("m", conv2d("conv2d", (32, 32, 3), 10, 4, (29, 29, 10)))


def why(book: Ledger, statement: str) -> tuple[str, ...]:
    verdict = verify(book, statement).verdicts[0]
    assert verdict.right is False
    return verdict.explanations


def only(book: Ledger, statement: str) -> str:
    (sentence,) = why(book, statement)
    return sentence


DIRECT = [
    ("conv2d=21632", "21,632 is the number of its output values, 26 × 26 × 32, not its parameters."),
    ("conv2d=784", "784 is the number of its input values, 28 × 28 × 1, not its parameters."),
    ("max_pooling2d=5408", "5,408 is the number of its output values, 13 × 13 × 32, not its parameters."),
    ("conv2d=288", "288 is the number of its weights without the biases, 3 × 3 × 1 × 32."),
    ("conv2d=32", "32 is the number of its biases alone."),
    ("conv2d=1280", "1,280 is the number of bytes that its parameters take, 320 × 4."),
    ("conv2d=676", "676 is the number of places in its output, 26 × 26."),
    ("conv2d=10", "10 is what each of its 32 filters has: 3 × 3 × 1 + 1."),
    ("conv2d=9", "9 is what each of its 32 filters has: 3 × 3 × 1, without the bias."),
    ("conv2d=2", "2 is the number of its arrays of weights."),
    ("conv2d=3", "3 is its kernel height."),
    ("conv2d_1=2048", "2,048 is the number of its 3×3 kernels, 32 input channels × 64 filters."),
    ("dense=1600", "1,600 is the number of its input values, not its parameters."),
    ("dropout=1600", "1,600 is the number of its input values and of its output values, not its parameters."),
    ("conv2d.output=320", "320 is the number of its parameters, 32 × (1·3·3 + 1)."),
    ("dense.kernel=16010", "16,010 is the number of its parameters, 10 × (1,600 + 1)."),
    ("bytes=34826", "34,826 is the number of its parameters, 320 + 18,496 + 16,010."),
    ("layers=3", "3 is the number of those that have parameters."),
]


@pytest.mark.parametrize(("statement", "sentence"), DIRECT)
def test_a_quantity_of_the_layer_is_called_by_its_name(statement: str, sentence: str) -> None:
    assert only(mnist(), statement) == sentence


def test_multiply_adds_are_told_from_parameters() -> None:
    assert only(mnist(), "conv2d=194688") == (
        "194,688 is the number of its multiply-adds for one example, 26 × 26 places × 288 weights of the kernel."
    )
    assert only(mnist(), "macs=4881920") == "4,881,920 counts a multiplication and an addition as two."


MISTAKES = [
    ("conv2d_1=640", "if its 32 input channels shared one kernel: 64 × (1·3·3 + 1)."),
    ("conv2d_1=576", "if its 32 input channels shared one kernel and there were no biases: 3 × 3 × 1 × 64."),
    ("conv2d=896", "if its input had 3 channels, as colour images have: 32 × (3·3·3 + 1)."),
    ("conv2d=832", "if its kernel were 5 × 5: 32 × (1·5·5 + 1)."),
    ("conv2d=544", "if its kernel were 4 × 4: 32 × (1·4·4 + 1)."),
    ("conv2d=25120", "if its kernel were as large as its input, 28 × 28: 32 × (1·28·28 + 1)."),
    ("conv2d=216320", "if every place of its output had weights of its own: 26 × 26 × 320."),
    ("conv2d=16981120", "if it were a Dense from 784 values to 21,632: 21,632 × (784 + 1)."),
    ("conv2d=289", "if all filters shared one bias: 288 + 1; each has its own."),
    ("conv2d=352", "if each bias counted twice: 288 + 2 × 32."),
    ("conv2d_1=20480", "if each of its 2,048 kernels had a bias: 18,432 + 2,048."),
    ("conv2d_1=2400", "if it were separable: 3·3·32 + 32·64 + 64."),
    ("dense=17600", "with a bias for each of the 1,600 features, not of the 10 units."),
    ("dense=77450", "if it read the 11 × 11 × 64 values that 'conv2d_1' gives: 10 × (7,744 + 1)."),
    ("dense=650", "if it read only the 64 channels that 'conv2d_1' gives: 10 × (64 + 1)."),
]


@pytest.mark.parametrize(("statement", "condition"), MISTAKES)
def test_a_usual_mistake_is_told_with_the_formula_that_makes_it(statement: str, condition: str) -> None:
    number = int(statement.partition("=")[2])
    assert only(mnist(), statement) == f"{number:,} would be its parameters {condition}"


SUMS = [
    ("total=34506", "34,506 is the total without 'conv2d', which has 320."),
    ("total=35146", "35,146 is the total with 'conv2d' counted twice."),
    ("total=34720", "34,720 is the number of its weights without the biases."),
    ("total=16010", "16,010 is what 'dense' has: 10 × (1,600 + 1)."),
    (
        "total=69652",
        "69,652 is twice the total, as for weights and their gradients, or with the momentum of SGD.",
    ),
    ("total=104478", "104,478 is three times the total, as for weights and the two moments that Adam keeps."),
    ("total=139304", "139,304 is the number of bytes that its parameters take, 34,826 × 4."),
    (
        "total=56138",
        "56,138 would be the total if 'conv2d' had 21,632, not 320: 21,632 is the number of its output values, "
        "26 × 26 × 32, not its parameters.",
    ),
    (
        "total=16970",
        "16,970 would be the total if 'conv2d_1' had 640, not 18,496: 640 would be its parameters if its 32 input "
        "channels shared one kernel: 64 × (1·3·3 + 1).",
    ),
    ("conv2d=18496", "18,496 is what 'conv2d_1' has: 64 × (32·3·3 + 1)."),
    ("conv2d=7744", "7,744 is the number of output values of 'conv2d_1', 11 × 11 × 64."),
    ("conv2d=34826", "34,826 is the number of parameters of the whole model."),
    ("conv2d_1=18946", "18,946 is 18,496 with two digits exchanged, the 4 and the 9."),
    ("dense=160100", "160,100 is ten times what it is."),
    ("conv2d=321", "321 is one too many."),
]


@pytest.mark.parametrize(("statement", "sentence"), SUMS)
def test_other_layers_sums_and_slips_are_found(statement: str, sentence: str) -> None:
    assert only(mnist(), statement) == sentence


def test_what_is_not_trained_and_what_is_not_counted_are_told_apart() -> None:
    assert only(transfer(), "trainable=1354") == "1,354 is the number of all its parameters, 1,024 + 330."
    assert only(transfer(), "total=330") == "330 is the number of its trainable parameters, 10 × (32 + 1)."
    assert only(transfer(), "total=1684") == "1,684 is the total with what the optimizer keeps, 330."
    assert only(transfer(), "total=1356") == "1,356 is the total with random state, 2."
    assert only(transfer(), "bytes=5416") == "5,416 would be its bytes in float32: 1,354 × 4."


def test_moving_statistics_are_told_from_what_is_trained() -> None:
    book = ledger("m", batch_normalization("norm", 64))
    assert why(book, "norm=128") == (
        "128 is the number of its trainable parameters, 2 × 64.",
        "128 is the number of its non-trainable parameters, 2 × 64.",
    )
    assert only(book, "norm=64") == (
        "64 is the number of values in each of gamma, beta, moving_mean and moving_variance."
    )


def test_shared_weights_are_counted_where_they_are_first() -> None:
    assert only(siamese(), "tower_1=320") == "320 is what it uses, but these are counted at 'tower'."
    assert only(siamese(), "total=640") == "640 counts what is shared each time; 320 are counted at 'tower'."


def test_the_pointwise_kernel_of_a_separable_convolution_stays_one() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.SeparableConv2D(10, 3, name="s")])
    assert only(keras.account(model), "s=115") == (
        "115 would be its parameters if its kernel were 5 × 5: 5·5·3·1 + 10 × (3 + 1)."
    )


def test_groups_are_told() -> None:
    owner, (kernel, bias) = conv2d("conv2d", (8, 8, 2), 6, 3, (6, 6, 6), groups=2)
    kernel = replace(kernel, axes=("kernel height", "kernel width", "input channels per group", "filters"))
    assert only(ledger("m", (owner, (kernel, bias))), "conv2d=222").startswith(
        "222 would be its parameters if it had no groups, of which it has 2: 6 × (4·3·3 + 1)"
    )


def test_a_layer_without_bias_is_told_from_one_with_it() -> None:
    book = ledger("m", conv2d("conv2d", (28, 28, 1), 32, 3, (26, 26, 32), bias=False, use_bias=False))
    assert only(book, "conv2d=320") == (
        "320 would be its parameters with a bias for each of the 32 filters; it has none."
    )
    verdict = verify(book, "conv2d.bias=32").verdicts[0]
    assert (verdict.right, verdict.says) == (False, "It has no bias: it was made with use_bias=False.")


@pytest.fixture(scope="module")
def sequence() -> Ledger:
    model = keras.Sequential(
        [
            keras.Input((7,)),
            layers.Embedding(20, 6, name="table"),
            layers.LSTM(5, return_sequences=True, name="lstm"),
            layers.GRU(3, name="gru"),
        ]
    )
    return keras.account(model)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "lstm=60",
            "60 would be its parameters if in 'lstm/cell' it had one gate, as a SimpleRNN has: 5 × (6 + 5 + 1).",
        ),
        (
            "lstm=180",
            "180 would be its parameters if in 'lstm/cell' it had 3 gates, as a GRU has: 3 × 5 × (6 + 5 + 1).",
        ),
        ("lstm=260", "260 would be its parameters if each bias counted twice: 220 + 2 × 20."),
        (
            "gru=81",
            "81 would be its parameters if in 'gru/cell' each gate had one bias, not two: 3 × 3 × (5 + 3 + 1).",
        ),
        ("table=126", "126 would be its parameters if it had one token more: 21 × 6."),
        ("table=42", "42 is the number of its output values, 7 × 6, not its parameters."),
    ],
)
def test_recurrent_layers_and_tables_have_mistakes_of_their_own(
    sequence, statement: str, sentence: str
) -> None:
    assert only(sequence, statement) == sentence


SHAPES = [
    ("conv2d.output=(28, 28, 32)", '(28, 28, 32) would be its output with padding="same".'),
    (
        "conv2d.output=(28, 28)",
        '(28, 28) would be its output with padding="same"; and its 32 channels are missing.',
    ),
    (
        "conv2d.output=(25, 25, 32)",
        "(25, 25, 32) counts the steps of the window, not its places: (28 − 3)/1 = 25 steps make 26 places.",
    ),
    ("max_pooling2d.output=(25, 25, 32)", "(25, 25, 32) would be its output with a stride of 1."),
    ("conv2d.output=(26, 26)", "(26, 26) leaves out the 32 channels."),
    ("conv2d.output=(32, 26, 26)", "(32, 26, 26) has the channels first; here they come last."),
    ("conv2d.output=(28, 28, 1)", "(28, 28, 1) is its input, not its output."),
    ("conv2d.input=(None, 26, 26, 32)", "(?, 26, 26, 32) is its output, not its input."),
    ("conv2d.output=(26, 26, 1)", "All is right but the channels (32, not 1)."),
    ("conv2d.output=(11, 11, 64)", "(11, 11, 64) is the output of 'conv2d_1'."),
    ("flatten.output=(5, 5, 64)", "(5, 5, 64) is its input, not its output."),
    ("max_pooling2d.output=(169, 32)", "(169, 32) has as many values, 169 × 32 = 5,408, but another shape."),
    (
        "conv2d.kernel=(32, 1, 3, 3)",
        "(32, 1, 3, 3) is in PyTorch's order, filters × input channels × kernel height × kernel width; here it is "
        "kernel height × kernel width × input channels × filters.",
    ),
    (
        "dense.kernel=(10, 1600)",
        "(10, 1600) is in PyTorch's order, units × features; here it is features × units.",
    ),
    (
        "conv2d_1.kernel=(3, 3, 64, 32)",
        "(3, 3, 64, 32) has the right sizes in another order; here it is (3, 3, 32, 64): kernel height × kernel width "
        "× input channels × filters.",
    ),
    ("conv2d.kernel=(3, 3, 32)", "An axis is missing, 1 input channel."),
    (
        "conv2d.kernel=(5, 5, 1, 32)",
        "All is right but the kernel height (3, not 5) and the kernel width (3, not 5).",
    ),
    ("dense.kernel=(1601, 10)", "(1601, 10) has a row for the biases, which are a weight of their own."),
    ("dense.kernel=(10,)", "(10,) is the shape of its bias."),
    ("dense.kernel=(1,600,10)", "In a shape a comma stands between two sizes: write (1600, 10)."),
    ("conv2d=(26, 26, 32)", "(26, 26, 32) is the shape of its output."),
    (
        "conv2d.output=25088",
        '25,088 would be the number of its output values with padding="same": 28 × 28 × 32.',
    ),
]


@pytest.mark.parametrize(("statement", "sentence"), SHAPES)
def test_a_wrong_shape_is_called_by_its_name(statement: str, sentence: str) -> None:
    assert only(mnist(), statement) == sentence


def test_a_rounded_up_window_is_told() -> None:
    book = ledger("m", conv2d("conv2d", (6, 6, 2), 4, 3, (2, 2, 4), strides=(2, 2)))
    assert only(book, "conv2d.output=(3, 3, 4)") == '(3, 3, 4) would be its output with padding="same".'
    book = ledger("m", conv2d("conv2d", (9, 9, 2), 4, 4, (3, 3, 4), strides=(2, 2)))
    assert only(book, "conv2d.output=(4, 4, 4)") == (
        "(4, 4, 4) would be its output if the last window might hang over the border."
    )


CALCULATIONS = [
    ("conv2d_1=64*(30*3*3+1)", ("All is right but one number: 32 input channels instead of 30.",)),
    ("dense=10*(1600+3)", ("All is right but one number: 1 bias for each of them instead of 3.",)),
    ("dense=11*(1600+1)", ("All is right but one number: 10 units instead of 11.",)),
    ("dense=10*(1600+2)", ("16,020 would be its parameters if each bias counted twice: 16,000 + 2 × 10.",)),
    ("conv2d=32*(3*3+1)=319", ("The calculation is right, but comes to 320.",)),
    (
        "conv2d=32*(4*3+1)=320",
        (
            "The answer is right, but 32*(4*3+1) comes to 416.",
            "All is right but one number: a kernel height of 3 instead of 4.",
        ),
    ),
    ("conv2d=32×3×3×1", ("288 is the number of its weights without the biases, 3 × 3 × 1 × 32.",)),
]


@pytest.mark.parametrize(("statement", "sentences"), CALCULATIONS)
def test_a_calculation_is_followed_to_its_mistake(statement: str, sentences: tuple[str, ...]) -> None:
    assert why(mnist(), statement) == sentences


@pytest.mark.parametrize(
    "statement", ["conv2d=7", "conv2d=123457", "total=12345", "max_pooling2d=3", "dense=4"]
)
def test_a_number_that_means_nothing_is_not_explained(statement: str) -> None:
    assert why(mnist(), statement) == ()


def test_small_numbers_are_not_explained_by_other_layers() -> None:
    small = ledger(
        "m", dense("dense", 2, 3), plain("pool", "MaxPooling1D", (4, 2), (2, 2)), dense("dense_1", 1, 2)
    )
    assert verify(small, "dense=4").verdicts[0].explanations == ()  # dense_1 has 4, and pool gives 4


def test_a_rounded_number_is_compared_only_with_the_layer_itself() -> None:
    assert only(mnist(), "conv2d=21.6k") == (
        "21,632 is the number of its output values, 26 × 26 × 32, not its parameters."
    )
    assert why(mnist(), "conv2d=18k") == ()


def test_weights_without_named_axes_are_explained_without_formulas() -> None:
    owner = Owner(path="mine", type="Mine", builtin=False, output_shapes=((None, 5),))
    book = ledger("m", (owner, (entry("mine", "w", (10, 5)), entry("mine", "b", (5,)))))
    assert only(book, "mine=50") == "50 is the number of values in its w."
    assert only(TEN_FILTERS, "conv2d=510").endswith("if each of its 30 kernels had a bias: 480 + 30.")
