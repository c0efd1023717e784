"""What can be written as a statement, what it is taken to mean, and what is refused."""

import pytest

from accounting.written import conv2d, dense, entry, ledger, mnist, naive_linear, siamese, transfer, unbuilt
from tally.accounting import Ledger, Owner
from tally.accounting.marking.arithmetic import Unreadable, read_expression
from tally.accounting.marking.asking import locate
from tally.accounting.marking.sentences import Claim, Question, read_sentence
from tally.accounting.marking.statements import StatementError, from_item, read_statement, read_value
from tally.accounting.verify import verify


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21632", 21632),
        ("21,632", 21632),
        ("21_632", 21632),
        ("21 632", 21632),
        ("32 * (3*3*1 + 1)", 320),
        ("32 × (3·3·1 + 1)", 320),
        ("32(3·3 + 1)", 320),
        ("(2)(3)", 6),
        ("26x26x32", 21632),
        ("(28 − 3)/1 + 1", 26),
        ("1,600 + 10", 1610),
        ("-3 + 5", 2),
    ],
)
def test_sums_and_products_are_worked_out(text: str, value: int) -> None:
    assert read_expression(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "k*w*w",
        "3**9**9",
        "7/2",
        "1/0",
        "1,60",
        "3 4",
        "",
        "(((",
        "()",
        "1.5",
        "__import__('os')",
        "1 if 1 else 2",
        "9" * 30,
        "(" * 120 + "1" + ")" * 120,
        "1+" * 300 + "1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_expression(text)


@pytest.mark.parametrize(
    ("text", "number", "sizes"),
    [
        ("(26, 26, 32)", None, (26, 26, 32)),
        ("[26,26,32]", None, (26, 26, 32)),
        ("(None, 26, 26, 32)", None, (None, 26, 26, 32)),
        ("(?, 10)", None, (None, 10)),
        ("(32,)", None, (32,)),
        ("(32)", 32, None),
        ("26x26x32", 21632, (26, 26, 32)),
        ("26 × 26 × 32", 21632, (26, 26, 32)),
        ("None x 10", None, (None, 10)),
        ("26*26*32", 21632, None),
        ("1,600x10", 16000, (1600, 10)),
    ],
)
def test_shapes_and_numbers_are_told_apart(text: str, number: int | None, sizes: tuple | None) -> None:
    (given,) = read_value(text)
    assert (given.number, given.sizes) == (number, sizes)


@pytest.mark.parametrize(
    ("text", "true", "holds"),
    [
        ("2.4M", 2_401_290, True),
        ("2.4M", 2_349_999, False),
        ("2.40M", 2_404_999, True),
        ("2.40M", 2_405_001, False),
        ("5k", 5_408, True),
        ("5k", 5_501, False),
        ("1 billion", 1_300_000_000, True),
        ("34.8 thousand", 34_826, True),
    ],
)
def test_a_rounded_number_is_right_to_its_last_digit(text: str, true: int, holds: bool) -> None:
    assert read_value(text)[0].is_about(true) is holds


def test_bytes_have_units_of_1024() -> None:
    (given,) = read_value("136.04 KB")
    assert given.is_about(139_304, memory=True)
    assert not given.is_about(139_304)
    assert not given.is_about(139_400, memory=True)
    assert read_value("60 B")[0].is_about(60, memory=True)


def test_values_may_be_data() -> None:
    class Index:
        def __index__(self) -> int:
            return 320

    assert from_item("conv2d", 320).text == "conv2d=320"
    assert from_item("conv2d", Index()).given[0].number == 320
    assert from_item("dense.kernel", [1600, 10]).given[0].sizes == (1600, 10)
    assert from_item("conv2d", "32*10").given[0].number == 320


@pytest.mark.parametrize("value", [True, 1.5, None, {"a": 1}, (1, "b"), object()])
def test_values_that_are_no_numbers_and_no_shapes_are_refused(value) -> None:
    with pytest.raises(StatementError, match="conv2d="):
        from_item("conv2d", value)


@pytest.mark.parametrize("text", ["conv2d", "=320", "conv2d=", "conv2d=many", "conv2d=1.664", " : 3"])
def test_what_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(StatementError):
        read_statement(text)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("conv2d", ("conv2d", "parameters", "")),
        ("conv2d.params", ("conv2d", "parameters", "")),
        ("conv2d.count_params()", ("conv2d", "parameters", "")),
        ("dense.kernel", ("dense", "weight", "dense/kernel")),
        ("dense.kernel.shape", ("dense", "weight", "dense/kernel")),
        ("dense/kernel", ("dense", "weight", "dense/kernel")),
        ("dense.biases", ("dense", "weight", "dense/bias")),
        ("Dense", ("dense", "parameters", "")),
        ("total", ("", "parameters", "")),
        ("model.trainable", ("", "trainable", "")),
        ("mnist.bytes", ("", "bytes", "")),
        ("non-trainable", ("", "non_trainable", "")),
        ("total params", ("", "parameters", "")),
        ("conv2d.output", ("conv2d", "output", "0")),
        ("conv2d.output_shape", ("conv2d", "output", "0")),
        ("conv2d.macs", ("conv2d", "multiply_adds", "")),
        ("conv2d.filters", ("conv2d", "option", "filters")),
        ("max_pooling2d.kernel", ("max_pooling2d", "weight", "kernel")),
    ],
)
def test_names_find_layers_and_quantities(name: str, found: tuple[str, str, str]) -> None:
    assert locate(mnist(), name)[:3] == found


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("backbone/conv2d", "backbone/conv2d"),
        ("conv2d", "backbone/conv2d"),
        ("backbone.norm", "backbone/norm"),
    ],
)
def test_nested_layers_are_found_by_the_end_of_their_path_and_with_dots(name: str, path: str) -> None:
    assert locate(transfer(), name).path == path


def test_the_names_keras_would_count_out_find_layers_called_otherwise() -> None:
    book = ledger("m", conv2d("stem", (8, 8, 1), 2, 3, (6, 6, 2)), conv2d("tail", (6, 6, 2), 2, 3, (4, 4, 2)))
    assert [locate(book, name).path for name in ("conv2d", "conv2d_1", "stem")] == ["stem", "tail", "stem"]


def test_a_layer_comes_before_a_quantity_of_the_same_name() -> None:
    book = ledger("m", dense("output", 4, 2), dense("total", 2, 2))
    assert verify(book, "output=10", "total=6", "output.output=(2,)")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("con2d=3", "There is no layer 'con2d'. Did you mean 'conv2d'?"),
        ("totl=3", "There is no layer 'totl'. Did you mean 'total'?"),
        ("xyz=3", "There is no layer 'xyz'. There is 'conv2d', 'max_pooling2d', "),
        (
            "dense.kernl=3",
            "'dense' (Dense) has no 'kernl'; its weights are kernel and bias. Did you mean 'kernel'?",
        ),
        ("flatten.gamma=3", "'flatten' (Flatten) has no 'gamma'; it has no weights."),
        ("Conv2D=3", "'Conv2D' may be 'conv2d' and 'conv2d_1': write which."),
        ("conv2d.output_1=3", "'conv2d' (Conv2D) has no output_1: they are counted from 0."),
        ("The weather is fine.", "'The weather is fine.' is not understood: write 'layer=number', such as"),
        ("The conv layer has 320 parameters.", "'The conv layer' may be 'conv2d' and 'conv2d_1': say which."),
        (
            "The third conv layer has 320 parameters.",
            "There is no 'The third conv layer': there is 'conv2d' and ",
        ),
        ("The LSTM layer has 320 parameters.", "No layer is meant by 'The LSTM layer' that this model has."),
        ("The first conv layer has many parameters.", "is not understood"),
    ],
)
def test_what_the_model_has_not_is_told_with_what_it_has(statement: str, told: str) -> None:
    with pytest.raises(StatementError) as caught:
        verify(mnist(), statement)
    assert told in str(caught.value)
    assert statement in str(caught.value)


def test_all_that_is_not_understood_is_told_at_once() -> None:
    with pytest.raises(StatementError) as caught:
        verify(mnist(), "con2d=3", "conv2d=320", "dense=1,60")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "'con2d=3'",
        "'dense=1,60'",
    ]


def test_several_outputs_are_told_apart_by_number() -> None:
    owner = Owner(path="lstm", type="LSTM", status="no weights", output_shapes=((None, 7, 5), (None, 5)))
    book = ledger("m", (owner, ()))
    assert verify(book, "lstm.output_0=(7, 5)", "lstm.output_1=(5,)")
    with pytest.raises(StatementError, match="has 2 outputs: write output_0 and output_1"):
        verify(book, "lstm.output=(5,)")


def test_equal_inputs_are_one_to_a_reader() -> None:
    assert verify(siamese(), "concatenate.input=(26, 26, 32)")


def test_one_name_for_several_weights_is_refused() -> None:
    inside = [
        (Owner(path=f"two/{end}", type="Cell"), (entry(f"two/{end}", "kernel", (2, 2)),)) for end in "ab"
    ]
    book = ledger("m", (Owner(path="two", type="Two"), ()), *inside)
    with pytest.raises(
        StatementError, match="'two' has 2 weights 'kernel': write 'two/a/kernel' and 'two/b/kernel'"
    ):
        verify(book, "two.kernel=4")


SENTENCES = [
    ("The first convolutional layer has a total of 320 parameters.", "conv2d", "parameters", 320),
    ("2) The second Conv2D has 18,496 trainable parameters", "conv2d_1", "trainable", 18496),
    ("The last dense layer has 16,010 parameters (weights and biases).", "dense", "parameters", 16010),
    ("The fully-connected layer needs 10*(1600+1) parameters!", "dense", "parameters", 16010),
    ("The output layer has 16,010 parameters.", "dense", "parameters", 16010),
    ("The third layer has 18,496 parameters.", "conv2d_1", "parameters", 18496),
    ("`conv2d_1` has 64 biases.", "conv2d_1", "weight", 64),
    ("The layer 'dense' has 10 units.", "dense", "option", 10),
    ("The first max-pooling layer doesn't have any parameters.", "max_pooling2d", "parameters", 0),
    ("The Flatten layer has no weights", "flatten", "parameters", 0),
    ("The dropout layer has zero trainable parameters.", "dropout", "trainable", 0),
    ("The model has 34,826 parameters in total.", "", "parameters", 34826),
    ("There are 34.8k parameters in the network.", "", "parameters", 34800),
    ("The total number of trainable parameters is 34826.", "", "trainable", 34826),
    ("The number of parameters of the dense layer is 16,010", "dense", "parameters", 16010),
    ("The network has 7 layers.", "", "layers", 7),
    ("It has 0 non-trainable parameters.", "", "non_trainable", 0),
]


@pytest.mark.parametrize(("text", "path", "kind", "number"), SENTENCES)
def test_sentences_are_understood(text: str, path: str, kind: str, number: int) -> None:
    question = read_sentence(mnist(), text)
    assert isinstance(question, Question)
    assert (question.quantity.path, question.quantity.kind) == (path, kind)
    assert question.given[-1].number == number
    assert verify(mnist(), text)


@pytest.mark.parametrize(
    "text",
    [
        "The output shape of the first convolutional layer is 26x26x32.",
        "The second conv layer's output is (11, 11, 64).",
        "The flatten layer outputs (1600,).",
        "The kernel of the dense layer has shape (1600, 10).",
        "The first conv layer has 21,632 outputs.",
    ],
)
def test_sentences_about_shapes_are_understood(text: str) -> None:
    assert verify(mnist(), text)


def test_weights_in_a_sentence_may_leave_out_the_biases() -> None:
    assert verify(mnist(), "The dense layer has 16,000 weights.", "The dense layer has 16,010 weights.")
    assert not verify(mnist(), "The dense layer has 16,001 weights.")


@pytest.mark.parametrize(
    ("text", "path", "shared", "between"),
    [
        ("The weights of conv2d_1 are shared between channels.", "conv2d_1", True, "channels"),
        (
            "The filters of the second conv layer are not shared across the input channels",
            "conv2d_1",
            False,
            "channels",
        ),
        ("The kernels of conv2d_1 are separate for each channel.", "conv2d_1", False, "channels"),
        (
            "The weights of the first convolutional layer are shared over all positions.",
            "conv2d",
            True,
            "positions",
        ),
    ],
)
def test_sentences_about_sharing_are_understood(text: str, path: str, shared: bool, between: str) -> None:
    assert read_sentence(mnist(), text)[1:] == Claim(text, path, shared, between)[1:]


def test_what_is_shared_and_what_is_not() -> None:
    statements = (
        "The weights of conv2d_1 are shared between channels.",
        "The weights of conv2d_1 are not shared between channels.",
        "The weights of conv2d_1 are shared between positions.",
        "The weights of conv2d are shared between channels.",
    )
    verdicts = verify(mnist(), *statements).verdicts
    assert [verdict.right for verdict in verdicts] == [False, True, True, None]
    assert verdicts[-1].says == "In 'conv2d', there is one input channel, so there is nothing to share."


def test_a_layer_without_kernels_shares_none() -> None:
    with pytest.raises(ValueError, match="'dense' has no kernels with channels"):
        verify(mnist(), "The weights of the dense layer are shared between channels.")


def test_what_is_not_built_can_not_be_told_and_does_not_hold() -> None:
    verification = verify(
        unbuilt(), "conv2d_1=640", "conv2d_1.output=(1, 1)", "total=3", "bytes=3", "conv2d_1.bias=32"
    )
    assert [verdict.right for verdict in verification.verdicts] == [None] * 5
    assert not verification.holds
    assert verification.verdicts[0].explanations == (
        "It will have 32 × (input channels · 3·3 + 1) parameters.",
        "640 would not be right for any number of input channels.",
    )


def test_what_is_not_built_has_options_all_the_same() -> None:
    assert verify(unbuilt(), "conv2d_1.filters=32", "dense.bias=0")


def test_an_open_size_can_not_be_told() -> None:
    book = ledger("m", conv2d("conv2d", (None, None, 1), 32, 3, (None, None, 32)))
    verdicts = verify(
        book, "conv2d.output=(?, ?, 32)", "conv2d.output=(26, 26, 32)", "conv2d.output=21632"
    ).verdicts
    assert [verdict.right for verdict in verdicts] == [True, None, None]
    assert verify(book, "conv2d.output=(26, 26, 31)").verdicts[0].right is False


def test_lists_and_mappings_may_be_mixed() -> None:
    verification = verify(mnist(), ["conv2d=320", {"dense.kernel": (1600, 10)}], {"total": "34,826"})
    assert [verdict.statement for verdict in verification.verdicts] == [
        "conv2d=320",
        "dense.kernel=(1600, 10)",
        "total=34,826",
    ]
    with pytest.raises(StatementError, match="320 is no statement"):
        verify(mnist(), [320])  # type: ignore[list-item]


def test_a_shape_is_asked_for_or_a_count() -> None:
    verdicts = verify(
        mnist(), "dense.kernel.shape=16000", "dense.kernel.params=16000", "dense.kernel.bytes=64000"
    ).verdicts
    assert [verdict.right for verdict in verdicts] == [False, True, True]


def test_a_product_of_the_sizes_is_a_right_count_in_any_order() -> None:
    verdict = verify(mnist(), "conv2d_1.kernel=64x32x3x3").verdicts[0]
    assert (verdict.right, verdict.explanations) == (True, ("As a shape, it is (3, 3, 32, 64).",))


def test_untracked_weights_can_be_asked_for() -> None:
    assert verify(naive_linear(), "untracked=55", "naive_linear=0")


def test_one_layer_alone_is_asked_without_a_name() -> None:
    owner = Owner(path="", name="conv", type="Conv2D", status="built")
    book = Ledger(
        name="conv", source="tally layer", owners=(owner,), entries=(entry("", "kernel", (3, 3, 1, 32)),)
    )
    verification = verify(book, "kernel=(3, 3, 1, 32)", "params=288", "conv=288", "conv.kernel=288")
    assert verification
    assert verification.verdicts[1].says.startswith("It has 288 parameters")
