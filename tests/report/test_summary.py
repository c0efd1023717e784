"""The summary's rows add up to its totals, and no zero is left unexplained."""

import re
from dataclasses import replace

import pytest

from accounting.written import (
    batch_normalization,
    correct_linear,
    dense,
    entry,
    ledger,
    mnist,
    naive_linear,
    siamese,
    transfer,
    unbuilt,
)
from report.deep import blocks
from tally.accounting import Ledger, Owner, explain
from tally.report import draw, render, summarise, tabulate

EXAMPLES = {
    "mnist": mnist(),
    "naive_linear": naive_linear(),
    "correct_linear": correct_linear(),
    "unbuilt": unbuilt(),
    "siamese": siamese(),
    "transfer": transfer(),
}


def text(book: Ledger, width: int = 88, **options) -> str:
    return render(summarise(book, line_length=width, **options))


def row(book: Ledger, start: str, **options) -> str:
    return next(line for line in text(book, **options).split("\n") if line.lstrip("├└│ ").startswith(start))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_summary_looks_as_it_did(name: str, golden) -> None:
    golden(f"summary_{name}", text(EXAMPLES[name]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_explanation_looks_as_it_did(name: str, golden) -> None:
    golden(f"explanation_{name}", render(draw(explain(EXAMPLES[name])), 88))


def test_a_narrow_summary_keeps_every_number(golden) -> None:
    golden("summary_narrow", text(mnist(), 46))


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_rows_add_up_to_the_total(name: str, expand: bool) -> None:
    assert (
        sum(one.params for one in tabulate(EXAMPLES[name], expand_nested=expand).rows) == EXAMPLES[name].total
    )


def test_the_total_is_written_as_keras_writes_it() -> None:
    import keras

    make = keras.layers
    features = [make.Conv2D(32, 3), make.MaxPooling2D(), make.Conv2D(64, 3), make.MaxPooling2D()]
    peer = keras.Sequential([keras.Input((28, 28, 1)), *features, make.Flatten(), make.Dense(10)])
    lines: list[str] = []
    peer.summary(print_fn=lambda line, **_: lines.append(line))
    total = re.search(r"Total params: .*", "\n".join(lines))
    assert total is not None
    assert total[0].strip() == "Total params: 34,826 (136.04 KB)"
    assert total[0].strip() in text(mnist())


def test_a_zero_says_that_the_layer_is_not_built() -> None:
    assert row(unbuilt(), "dense").endswith("0 (unbuilt)")
    assert "Total params: at least 320 (1.25 KB); 2 layers not built" in text(unbuilt())


def test_a_zero_says_that_weights_are_untracked() -> None:
    assert row(naive_linear(), "naive_linear").endswith("0 (2 untracked)")
    assert "w (model.py:10) and b (model.py:11)" in text(naive_linear(), 200)


def test_a_layer_used_again_says_where_its_weights_are_counted() -> None:
    assert "320, counted at tower" in row(siamese(), "tower_1")
    again = tabulate(siamese()).rows[3]
    assert (again.params, again.counted_elsewhere, again.counted_at) == (0, 320, ("tower",))


def test_a_tied_weight_says_where_it_is_counted() -> None:
    owner, weights = dense("head", 8, 100)
    tied = (replace(weights[0], shared_with="embedding/embeddings"), weights[1])
    table = entry("embedding", "embeddings", (100, 8))
    book = ledger("m", (Owner(path="embedding", type="Embedding"), (table,)), (owner, tied))
    assert row(book, "head").endswith("100 (+ 800 counted at embedding)")


def test_connections_are_shown_only_where_the_graph_branches() -> None:
    assert "Connected to" in text(siamese())
    chain = mnist()
    owners = (
        chain.owners[0],
        *(replace(b, inputs=(a.path,)) for a, b in zip(chain.owners, chain.owners[1:], strict=False)),
    )
    assert "Connected to" not in text(replace(chain, owners=owners))


def test_frozen_and_state_have_columns_only_where_there_is_some() -> None:
    assert "Frozen" not in text(mnist())
    assert re.search(r"1,024\s+960\s+64$", row(transfer(), "backbone"))
    assert re.search(r"State", text(ledger("m", batch_normalization("norm", 4))))


def test_totals_tell_frozen_from_state_and_leave_out_seeds_and_the_optimizer() -> None:
    shown = text(transfer())
    for line in (
        "Total params: 1,354 (4.64 KB)",
        "Non-trainable params: 1,024 (4.00 KB)",
        "frozen:   960 (3.75 KB) by 'backbone'",
        "Seed state:     2 (8.00 B) not part of the total",
        "Optimizer params:   330 (1.29 KB) not part of the total",
        "bfloat16:   330 (660.00 B)",
    ):
        assert line in shown


def test_nested_layers_are_listed_on_request(golden) -> None:
    golden("summary_expanded", text(transfer(), expand_nested=True, show_trainable=True))


def test_weights_of_the_model_itself_have_their_row() -> None:
    model = Owner(path="", name="gpt", type="GPT")
    position = entry("", "position", (16, 8), "positions", "features")
    book = ledger("gpt", (model, (position,)), dense("head", 8, 4))
    assert row(book, "gpt (GPT)").endswith("128")
    assert "Total params: 164" in text(book)


def test_the_model_has_no_row_where_it_owns_nothing() -> None:
    book = ledger("m", (Owner(path="", name="m", type="Sequential"), ()), dense("head", 8, 4))
    assert "Sequential" not in text(book)


def test_one_layer_alone_is_a_row() -> None:
    layer = Owner(path="", name="dense", type="Dense", output_shapes=((None, 4),))
    assert "dense (Dense)" in text(ledger("dense", (layer, (entry("", "kernel", (3, 4)),))))


def test_trainable_is_shown_on_request() -> None:
    assert row(mnist(), "flatten", show_trainable=True).endswith("-")
    assert row(mnist(), "dense", show_trainable=True).endswith("Y")
    assert row(transfer(), "backbone", columns=("layer", "trainable")).endswith("N")


@pytest.mark.parametrize(
    "ends", [("max_pooling2d", "flatten"), ("max_pool.*", "flat.*"), ("flatten", "max_pooling2d$")]
)
def test_a_range_of_layers_is_listed(ends: tuple[str, str]) -> None:
    shown = text(mnist(), layer_range=ends)
    names = re.findall(r"^(\w+) \(", shown, re.M)[1:]
    assert names == ["max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten"]
    assert "Total params: 34,826" in shown
    assert "4 of 7 rows listed" in shown


def test_a_range_that_matches_nothing_names_the_layers() -> None:
    with pytest.raises(ValueError, match=r"'embedding'.*conv2d, max_pooling2d, .* dense"):
        summarise(mnist(), layer_range=("conv2d", "embedding"))


@pytest.mark.parametrize("positions", [(0.4, 0.8, 1.0), (40, 80, 100)])
def test_positions_say_where_columns_end(positions: tuple) -> None:
    line = row(mnist(), "conv2d_1", width=100, positions=positions)
    assert line[:42] == f"{'conv2d_1 (Conv2D)':<42}"
    assert len(line) == 100


def test_too_few_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ends for 3 columns"):
        summarise(mnist(), positions=(0.5, 1.0))


def test_positions_written_for_keras_leave_room_for_the_columns_keras_has_not() -> None:
    shown = text(transfer(), positions=(40, 70, 90))
    assert re.search(r"Param #\s+Frozen", shown)


def test_columns_can_be_chosen() -> None:
    shown = text(transfer(), columns=("layer", "dtype", "bytes"))
    assert re.search(r"^dense \(Dense\)\s+bfloat16\s+660.00 B$", shown, re.M)


def test_columns_go_by_the_words_people_use_for_them() -> None:
    words = "Output Shape, parameters, multiply-adds, activation bytes, connections"
    assert text(mnist(), columns=words) == text(
        mnist(), columns=["layer", "shape", "params", "macs", "activations", "inputs"]
    )


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'origins'; .* inputs and origin\. Did you mean 'origin'"):
        summarise(mnist(), columns=("origins",))


def test_a_column_that_was_asked_for_is_never_left_out() -> None:
    shown = text(transfer(), 40, columns="shape,params,frozen,state")
    assert re.search(r"Output Shape +Param # +Frozen +State", shown)


def test_multiply_adds_add_up_and_say_what_they_are() -> None:
    shown = text(mnist(), columns="params,macs")
    assert re.search(r"conv2d_1 \(Conv2D\) +18,496 +2,230,272$", shown, re.M)
    assert "Multiply-adds:  2,440,960 for one example, without biases".replace("  ", " ") in shown
    assert "a count of FLOPs has two for each" in shown
    assert sum(one.multiply_adds for one in tabulate(mnist()).rows) == 2_440_960


def test_multiply_adds_that_cannot_be_told_are_no_zero() -> None:
    shown = text(naive_linear(), columns="macs")
    assert re.search(r"naive_linear \(NaiveLinear\) +\?$", shown, re.M)
    assert "Multiply-adds: at least 0" in shown
    assert tabulate(naive_linear()).rows[0].multiply_adds is None


def test_activations_are_bytes_of_outputs_at_the_size_of_their_type() -> None:
    assert re.search(r"^conv2d \(Conv2D\) +84.50 KB$", text(mnist(), columns="activations"), re.M)
    half = tabulate(mnist(), activation_dtype="bfloat16")
    assert half.rows[0].activation_bytes == 2 * 26 * 26 * 32
    assert "each number bfloat16" in text(mnist(), columns="activations", activation_dtype="bfloat16")


def test_depth_opens_layers_so_far_and_no_further() -> None:
    assert "norm1" not in text(blocks(2))
    assert "norm1" in text(blocks(2), depth=1)
    assert "query" not in text(blocks(2), depth=1)
    assert text(blocks(2), depth=2) == text(blocks(2), expand_nested=True)
    with pytest.raises(ValueError, match="begins at 0, but was -1"):
        summarise(blocks(2), depth=-1)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_folded_model_looks_as_it_did(depth: int, golden) -> None:
    golden(f"summary_blocks_{depth}", text(blocks(12), depth=depth, columns="shape,params,macs"))


def test_a_repeated_warning_is_said_once() -> None:
    lost = entry("a", "w", (10, 5), state="untracked", origin="model.py:10")
    parts = [
        (
            Owner(path=f"block_{place}", type="Naive", builtin=False, status="no weights"),
            (replace(lost, path=f"block_{place}/w", owner=f"block_{place}"),),
        )
        for place in range(5)
    ]
    shown = text(ledger("m", *parts), 300)
    assert shown.count("acts as a weight") == 1
    assert "block_0, block_1, block_2 and 2 more: w (model.py:10)" in shown


def test_a_layer_is_not_called_a_model() -> None:
    assert text(replace(mnist(), source="tally layer")).startswith('Layer: "mnist"')


def test_a_trillion_parameters_are_written_to_the_digit() -> None:
    table = entry("embedding", "embeddings", (10**6, 10**6 + 1))
    book = ledger(
        "big",
        (Owner(path="embedding" + "g" * 60, type="Embedding"), ()),
        (Owner(path="embedding", type="E"), (table,)),
    )
    assert "1,000,001,000,000" in text(book, 40)
