"""The statements of the questions behind this project are marked as a teacher would mark them, word for word."""

import os
from pathlib import Path

import pytest

import tally as keras
from accounting.written import conv2d, correct_linear, ledger, mnist, naive_linear, siamese, transfer, unbuilt
from tally import backend as K
from tally import layers
from tally.accounting import Ledger
from tally.accounting.verify import verify
from tally.report import render
from tally.report.verification import draw

GOLDEN = Path(__file__).parent / "golden"
TEN_FILTERS = ledger("ten_filters", conv2d("conv2d", (32, 32, 3), 10, 4, (29, 29, 10)))

PAGES = {
    "quiz": (
        mnist(),
        "1. The first convolutional layer has a total of 21,632 parameters.",
        "2. The first max pooling layer has a total of 5,408 parameters.",
        "3. The second convolutional layer has a total of 18,496 parameters.",
        "4. The fully-connected layer has a total of 16,010 parameters.",
    ),
    "quiz_shapes": (
        mnist(),
        "input: 28x28x1 = 784",
        "conv2d.output: 26x26x32 = 21,632",
        "max_pooling2d.output: 13x13x32 = 5,408",
        "conv2d_1.output: 11x11x64 = 7,744",
        "max_pooling2d_1.output: 5x5x64 = 1,600",
        "conv2d = 32 * (1 * 3 * 3 + 1) = 320",
        "conv2d_1 = 64 * (32 * 3 * 3 + 1) = 18,496",
        "dense = 10 * (1600 + 1) = 16010",
        "total=34826",
    ),
    "ten_filters": (
        TEN_FILTERS,
        "I train 3x10x4x4 weights.",
        "I train 10x4x4 weights.",
        "conv2d=490",
        "conv2d=480",
        "conv2d=160",
        "conv2d=170",
        "conv2d.output=(28, 28)",
        "conv2d.output=(29, 29, 10)",
        "The weights are shared between channels.",
        "The weights are shared between positions.",
    ),
    "statements": (
        mnist(),
        {"conv2d": 21632, "dense.kernel": (10, 1600), "conv2d.output": (28, 28, 32)},
        "total=56138",
        "total=34.8k",
        "bytes=136.04 KB",
        "conv2d=32*(3*3*3+1)",
        "dense=10*(1560+1)",
    ),
    "naive_linear": (naive_linear(), "naive_linear=55", "naive_linear.w=50"),
    "correct_linear": (correct_linear(), "linear=50+5", "linear=50"),
    "siamese": (siamese(), "tower_1=320", "total=640", "tower=320"),
    "transfer": (transfer(), "trainable=1354", "backbone.trainable=0", "total=1684", "backbone/norm=64"),
    "unbuilt": (unbuilt(), "conv2d=320", "conv2d_1=320", "dense=17", "total=3000", "dense.output=(10,)"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_statements_is_marked_as_it_was(name: str) -> None:
    book, *statements = PAGES[name]
    if name == "quiz_shapes":
        book = keras.account(mnist_convnet())
    text = render(draw(verify(book, *statements)), 88) + "\n"
    path = GOLDEN / f"verify_{name}.txt"
    if os.environ.get("TALLY_UPDATE_GOLDENS") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_narrow_page_keeps_products_and_shapes_whole() -> None:
    text = render(draw(verify(mnist(), "conv2d=21632", "dense.kernel=(10,)")), 44)
    assert max(map(len, text.splitlines())) <= 44
    assert "26 × 26 × 32" in text
    assert "(1600, 10)" in text


def mnist_convnet() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ],
        name="convnet",
    )


def shared_channels() -> keras.Sequential:
    model = keras.Sequential(name="shared_channels")
    model.add(layers.Lambda(lambda x: K.expand_dims(K.sum(x, axis=-1)), input_shape=(32, 32, 3)))
    model.add(layers.Conv2D(10, (4, 4)))
    return model


def average_pooling() -> keras.Sequential:
    pool = layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same", input_shape=(28, 28, 1))
    return keras.Sequential([pool, layers.MaxPooling2D((2, 2)), layers.Flatten(), layers.Dense(10)])


def called(layer: keras.Layer, *shape: int) -> keras.Layer:
    layer(keras.Input(shape))
    return layer


LIVE = [
    (shared_channels, "The Lambda layer has no parameters."),
    (shared_channels, "conv2d=170"),
    (shared_channels, "lambda.output=(32, 32, 1)"),
    (shared_channels, "total=10 × (4·4·1 + 1)"),
    (average_pooling, "The average pooling layer has no parameters."),
    (average_pooling, "dense=1970"),
    (lambda: called(layers.Conv2D(32, 3), 28, 28, 3), "kernel.shape=(3, 3, 3, 32)"),
    (lambda: called(layers.Conv2D(32, 3), 28, 28, 3), "bias=(32,)"),
    (
        lambda: called(layers.Conv2D(64, 5, strides=2, padding="same"), 32, 32, 1),
        "params=5 * 5 * 1 * 64 + 64 = 1,664",
    ),
    (lambda: called(layers.Conv2D(64, 5, strides=2, padding="same"), 32, 32, 1), "output=(2, 16, 16, 64)"),
]


@pytest.mark.parametrize(("make", "statement"), LIVE[:-1])
def test_what_the_questions_say_of_their_models_holds(make, statement: str) -> None:
    assert verify(keras.account(make()), statement)


def test_a_batch_is_no_part_of_a_shape() -> None:
    make, statement = LIVE[-1]
    verdict = verify(keras.account(make()), statement).verdicts[0]
    assert verdict.right is False
    assert verdict.explanations == (
        "All is right but the batch, which may be of any size and is no part of the shape of one example.",
    )


def test_frozen_weights_are_parameters_of_which_none_is_trainable() -> None:
    model = mnist_convnet()
    model.layers[0].trainable = False
    verification = verify(keras.account(model), "conv2d=320", "conv2d.trainable=0", "conv2d=0")
    assert [verdict.right for verdict in verification.verdicts] == [True, True, False]
    assert verification.verdicts[1].says == "It has no trainable parameters: all 320 are frozen."
    assert verification.verdicts[2].explanations == ("0 is the number of its trainable parameters.",)


def test_a_ledger_file_is_enough() -> None:
    stored = Ledger.from_json(keras.account(mnist_convnet()).to_json())
    assert verify(stored, "conv2d=320", "output=(10,)", "layers=7")


def test_verify_prints_and_returns_what_came_of_it() -> None:
    lines: list[str] = []
    verification = keras.verify(mnist_convnet(), {"conv2d": 320}, ["dense=16010"], print_fn=lines.append)
    assert repr(verification) == "<Verification of 'convnet': Both hold>"
    assert verification.holds
    assert lines[0].startswith('Statements about "convnet"\n\n✓ conv2d=320\n')
    assert lines[0].endswith("\n\nBoth hold.")


def test_what_is_not_understood_is_an_error_of_this_library() -> None:
    from tally.core.errors import ArgumentError

    with pytest.raises(ArgumentError, match=r"no layer 'con2d'\. Did you mean 'conv2d'"):
        keras.verify(mnist_convnet(), "con2d=320")
