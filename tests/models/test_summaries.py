"""What `model.summary` prints of a nested model, whole, in each of its forms."""

import re
from typing import Any

import pytest

import tally
from tally import layers


@pytest.fixture
def nested() -> Any:
    image = tally.Input((6, 6, 1), name="image")
    flat = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    encoder = tally.Model(image, flat, name="encoder")
    head = tally.Sequential([layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)], name="head")
    inputs = tally.Input((6, 6, 1), name="in")
    outputs = head(encoder(inputs))
    return tally.Model(inputs, [outputs, outputs * 2.0], name="outer")


TOTALS = """
        Total params: 139 (556.00 B)
    Trainable params: 133 (532.00 B)
Non-trainable params:   6 (24.00 B)
               state:   6 (24.00 B) never trained by gradients
"""
FORMS = {
    "plain": (
        {},
        """Model: "outer"

Layer (type)          Output Shape     Param #  State
─────────────────────────────────────────────────────
in (InputLayer)       (None, 6, 6, 1)        0
encoder (Functional)  (None, 32)            20
head (Sequential)     (None, 2)            119      6
multiply (Multiply)   (None, 2)              0
─────────────────────────────────────────────────────
"""
        + TOTALS,
    ),
    "expanded": (
        {"expand_nested": True, "show_trainable": True, "line_length": 92},
        """Model: "outer"

Layer (type)                                Output Shape     Param #               Trainable
────────────────────────────────────────────────────────────────────────────────────────────
in (InputLayer)                             (None, 6, 6, 1)        0               -
encoder (Functional)                        (None, 32)             0 (20 inside)   Y
├ image (InputLayer)                        (None, 6, 6, 1)        0               -
├ conv (Conv2D)                             (None, 4, 4, 2)       20               Y
└ flatten (Flatten)                         (None, 32)             0               -
head (Sequential)                           (None, 2)              0 (119 inside)  Y
├ dense (Dense)                             (None, 3)             99               Y
├ batch_normalization (BatchNormalization)  (None, 3)             12               Y
└ dense_1 (Dense)                           (None, 2)              8               Y
multiply (Multiply)                         (None, 2)              0               -
────────────────────────────────────────────────────────────────────────────────────────────
"""
        + TOTALS,
    ),
    "a range": (
        {"layer_range": ["encoder", "head"], "line_length": 66},
        """Model: "outer"

Layer (type)          Output Shape  Param #  State
──────────────────────────────────────────────────
encoder (Functional)  (None, 32)         20
head (Sequential)     (None, 2)         119      6
──────────────────────────────────────────────────
"""
        + TOTALS
        + "\n· 2 of 4 rows listed; the totals are the whole model's.\n",
    ),
}


@pytest.mark.parametrize(("options", "expected"), FORMS.values(), ids=FORMS)
def test_a_summary_of_a_nested_model_reads_so(nested: Any, options: dict, expected: str) -> None:
    printed: list[str] = []
    nested.summary(print_fn=printed.append, **options)
    assert "\n".join(printed).strip() == expected.strip()


def test_a_model_takes_columns_depth_and_folding(nested: Any) -> None:
    printed: list[str] = []
    nested.summary(columns="parameters, multiply-adds", depth=1, fold=False, print_fn=printed.append)
    assert re.search(r"├ conv \(Conv2D\) +20 +288$", printed[0], re.M)


def test_the_function_takes_what_the_method_takes_and_gives_the_rows_back(nested: Any) -> None:
    printed: list[str] = []
    made = tally.summary(nested, print_fn=printed.append)
    assert nested.summary(print_fn=printed.append) is None
    assert printed[0] == printed[1]
    assert [row.params for row in made.rows] == [0, 20, 119, 0]
    assert tally.summary(nested.account(), print_fn=printed.append).rows == made.rows


def test_keras_arguments_keep_their_order(nested: Any) -> None:
    printed: list[str] = []
    nested.summary(60, None, printed.append, True, True, ["encoder", "head"])
    assert "├ conv" in printed[0]
    assert "Trainable" in printed[0]


def test_a_summary_goes_to_standard_output(nested: Any, capsys: Any) -> None:
    nested.summary()
    assert 'Model: "outer"' in capsys.readouterr().out


def test_the_table_is_no_wider_than_asked(nested: Any) -> None:
    printed: list[str] = []
    nested.summary(line_length=50, expand_nested=True, print_fn=printed.append)
    table = "\n".join(printed).partition("Total params")[0]
    assert max(map(len, table.splitlines())) <= 50


def test_a_range_of_layers_that_are_not_there_is_refused(nested: Any) -> None:
    with pytest.raises(ValueError, match="No layer's name matches 'nope' of layer_range"):
        nested.summary(layer_range=["nope", "head"])


def test_a_nested_models_total_is_its_layers_sum(nested: Any) -> None:
    assert (
        nested.count_params()
        == nested.account().total
        == sum(layer.count_params() for layer in nested.layers)
    )
