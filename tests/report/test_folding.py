"""Neighbours that are alike become one row, and nothing else does."""

from dataclasses import replace

import pytest

from accounting.written import Part, again, conv2d, dense, entry, frozen, ledger, plain
from report.deep import block, blocks, holder
from tally.accounting import Ledger
from tally.report import tabulate
from tally.report.rows import counted_up, counts_on


def labels(book: Ledger, **options) -> list[str]:
    return [line.label for line in tabulate(book, **options).lines]


def several(*paths: str, **more) -> Ledger:
    return ledger("m", *(part for path in paths for part in block(path, 8)), **more)


def linked(part: Part, *inputs: str) -> Part:
    return replace(part[0], inputs=inputs), part[1]


def test_blocks_that_are_alike_become_one_row_with_the_product() -> None:
    row = tabulate(blocks(12)).rows[2]
    assert (row.path, row.last_path, row.times, row.params) == ("blocks/0", "blocks/11", 12, 12 * 848)


def test_two_blocks_stay_two_unless_asked() -> None:
    two = several("block_0", "block_1")
    assert labels(two) == ["block_0 (Block)", "block_1 (Block)"]
    assert labels(two, fold=True) == ["block_0 … 1 (Block) × 2"]


def test_nothing_folds_when_told_so() -> None:
    assert len(labels(blocks(12), fold=False)) == 15


def test_default_names_that_keras_counts_fold() -> None:
    assert labels(several("block", "block_1", "block_2")) == ["block … block_2 (Block) × 3"]


@pytest.mark.parametrize(
    "names", [("a", "b", "c"), ("block_0", "block_2", "block_4"), ("in_0", "mid_1", "out_2")]
)
def test_names_that_do_not_count_up_do_not_fold(names: tuple[str, ...]) -> None:
    assert len(labels(several(*names), fold=True)) == 3


def changed(**how) -> Ledger:
    """Four blocks, the third of which differs."""
    book = several("b_0", "b_1", "b_2", "b_3")
    if option := how.pop("option", None):
        owners = tuple(replace(o, options=option) if o.path == "b_2/dropout" else o for o in book.owners)
        return replace(book, owners=owners)
    return replace(
        book, entries=tuple(replace(e, **how) if e.path == "b_2/up/kernel" else e for e in book.entries)
    )


@pytest.mark.parametrize(
    "how",
    [
        {"shape": (8, 9)},
        {"dtype": "bfloat16"},
        {"state": "frozen"},
        {"option": (("rate", 0.2),)},
        {"shared_with": "b_0/up/kernel"},
    ],
    ids=lambda how: next(iter(how)),
)
def test_a_difference_deep_inside_keeps_a_block_apart(how: dict) -> None:
    assert labels(changed(**how)) == [f"b_{place} (Block)" for place in range(4)]


def test_blocks_switched_off_together_fold_apart_from_the_others() -> None:
    parts = [part for place in range(6) for part in block(f"b/{place}", 8)]
    half = [frozen(part, "b") if int(part[0].path.split("/")[1]) < 3 else part for part in parts]
    assert labels(ledger("m", *half)) == ["b/0 … 2 (Block) × 3", "b/3 … 5 (Block) × 3"]


def test_one_block_used_again_and_again_counts_once() -> None:
    first = block("b/0", 8)
    rest = [again(part, part[0].path.replace("b/0", f"b/{place}")) for place in range(1, 4) for part in first]
    summary = tabulate(ledger("m", *first, *rest), fold=True)
    assert [line.label for line in summary.lines] == ["b/0 (Block)", "b/1 … 3 (Block) × 3"]
    assert [row.params for row in summary.rows] == [summary.total, 0]


def test_a_tie_inside_each_block_does_not_keep_them_apart() -> None:
    parts: list[Part] = []
    for place in range(3):
        owner, weights = dense(f"b_{place}/two", 8, 8)
        tied = tuple(replace(w, shared_with=w.path.replace("two", "one")) for w in weights)
        parts += [holder(f"b_{place}", "Pair", 8), dense(f"b_{place}/one", 8, 8), (owner, tied)]
    summary = tabulate(ledger("m", *parts))
    assert [line.label for line in summary.lines] == ["b_0 … 2 (Pair) × 3"]
    assert summary.rows[0].params == summary.total == 3 * 72
    assert summary.rows[0].counted_elsewhere == 0


def test_towers_side_by_side_fold_and_so_does_what_they_feed() -> None:
    towers = [linked(holder(f"tower_{place}", "Tower", 8), "image") for place in range(3)]
    inside = [dense(f"tower_{place}/dense", 8, 8) for place in range(3)]
    merge = linked(plain("merge", "Concatenate", (8,), (24,)), *(f"tower_{place}" for place in range(3)))
    image = plain("image", "InputLayer", (8,), (8,))
    pairs = [part for pair in zip(towers, inside, strict=True) for part in pair]
    summary = tabulate(ledger("m", image, *pairs, merge))
    table = next(part for part in summary.document.parts if hasattr(part, "rows"))
    assert [row[0] for row in table.rows][1] == "tower_0 … 2 (Tower) × 3"
    assert [row[-1] for row in table.rows] == ["-", "image", "tower_0 … 2"]


def test_blocks_fed_in_different_ways_do_not_fold() -> None:
    fed = {0: ("image",), 1: ("b_0",), 2: ("b_0",), 3: ("b_2",)}
    parts = [
        linked(part, *fed[place]) if part[0].path == f"b_{place}" else part
        for place in fed
        for part in block(f"b_{place}", 8)
    ]
    assert len(labels(ledger("m", plain("image", "InputLayer", (8,), (8,)), *parts))) == 5


def flat(number: int) -> Ledger:
    """A model whose blocks are only layers in a row with a number in their names, as in ResNet50."""
    parts: list[Part] = [linked(plain("stem", "ReLU", (8, 8, 4), (8, 8, 4)))]
    before = "stem"
    for place in range(1, number + 1):
        name = f"conv2_block{place}"
        parts += [
            linked(conv2d(f"{name}_1_conv", (8, 8, 4), 4, 3, (8, 8, 4), padding="same"), before),
            linked(plain(f"{name}_1_relu", "ReLU", (8, 8, 4), (8, 8, 4)), f"{name}_1_conv"),
            linked(plain(f"{name}_add", "Add", (8, 8, 4), (8, 8, 4)), before, f"{name}_1_relu"),
        ]
        before = f"{name}_add"
    return ledger("flat", *parts)


def test_a_flat_model_keeps_a_row_for_each_layer_unless_asked() -> None:
    assert len(labels(flat(5))) == 16
    assert labels(flat(11), fold=True) == ["stem (ReLU)", "conv2_block1 … 11 (3 layers) × 11"]


def test_layers_in_a_row_that_come_again_open_to_one_of_them() -> None:
    summary = tabulate(flat(5), fold=True, depth=1)
    assert [line.label for line in summary.lines][2:] == [
        "├ 1_conv (Conv2D)",
        "├ 1_relu (ReLU)",
        "└ add (Add)",
    ]
    assert sum(row.params for row in summary.rows) == summary.total == 5 * 148


def test_a_range_of_layers_finds_each_by_its_own_name() -> None:
    assert labels(blocks(5), layer_range=("blocks/3", "blocks/4")) == ["blocks/3 (Block)", "blocks/4 (Block)"]


@pytest.mark.parametrize("fold", [None, True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    "book", [blocks(4), flat(4), several("x_0", "x_1", "x_2")], ids=["deep", "flat", "x"]
)
def test_rows_add_up_however_they_are_folded(book: Ledger, depth: int, fold: bool | None) -> None:
    rows = tabulate(book, depth=depth, fold=fold).rows
    assert sum(row.params for row in rows) == book.total
    assert sum(row.nbytes for row in rows) == book.nbytes
    assert sum(row.trainable for row in rows) == book.trainable


def test_a_weight_of_the_block_itself_counts_as_often_as_there_are_blocks() -> None:
    parts = [
        part
        for place in range(3)
        for part in [
            (holder(f"b_{place}", "Scaled", 8)[0], (entry(f"b_{place}", "scale", (7,)),)),
            dense(f"b_{place}/dense", 8, 8),
        ]
    ]
    rows = tabulate(ledger("m", *parts), depth=1).rows
    assert [(row.params, row.inside) for row in rows] == [(21, 216), (216, 0)]


def test_names_that_count_up_are_written_as_one() -> None:
    assert counted_up(["a_9", "a_10", "a_11", "b", "c_1", "c_2"]) == ["a_9 … 11", "b", "c_1", "c_2"]
    assert not counts_on("a_1_b_1", "a_2_b_2")
