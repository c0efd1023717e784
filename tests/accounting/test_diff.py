"""What differs between two ledgers: who is who, each change once, and amounts that add up to the difference."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.written import (
    again,
    conv2d,
    dense,
    entry,
    frozen,
    ledger,
    max_pooling,
    mnist,
    plain,
    transfer,
    unbuilt,
)
from tally.accounting.diff import diff
from tally.accounting.difference import Amount, Change, Difference, amount, total
from tally.accounting.ledger import STATES, Entry, Ledger, Owner
from tally.accounting.pairing import pair

SAME = (28, 28, 32)


def block(path: str, width: int, **options: Any) -> list[Any]:
    """A container with a norm and two dense layers inside."""
    outer = Owner(path=path, type="Block", builtin=False, options=(("width", width), *options.items()))
    norm = Owner(path=f"{path}/norm", type="LayerNormalization")
    scale = entry(f"{path}/norm", "gamma", (8,), "channels")
    return [
        (outer, ()),
        (norm, (scale,)),
        dense(f"{path}/up", 8, width),
        dense(f"{path}/down", width, 8),
    ]


def stack(*widths: int, name: str = "stack") -> Ledger:
    """Numbered blocks of different widths between a table and a head."""
    table = (
        Owner(path="table", type="Embedding"),
        (entry("table", "embeddings", (50, 8), "tokens", "features"),),
    )
    blocks = [part for place, width in enumerate(widths) for part in block(f"blocks/{place}", width)]
    return ledger(name, (Owner(path="", type="Encoder"), ()), table, *blocks, dense("head", 8, 3))


def without_partner(before: Ledger, after: Ledger) -> tuple[list[str], list[str]]:
    pairs = pair(before, after)
    removed = [owner.path for owner in before.owners if owner.path not in pairs]
    return removed, [owner.path for owner in after.owners if owner.path not in pairs.values()]


def told(difference: Difference) -> list[tuple[str, str, int]]:
    """The kind, path and amount of each change, after a look at whether they add up."""
    assert total(change.amount for change in difference.changes) == difference.after - difference.before
    return [(change.kind, change.path, change.amount.total) for change in difference.changes]


def the_one(before: Ledger, after: Ledger) -> Change:
    difference = diff(before, after)
    assert len(told(difference)) == 1
    return difference.changes[0]


def steps(change: Change) -> list[tuple[str, Any, Any]]:
    return [(step.name, step.before, step.after) for step in change.steps]


# -- who is who --------------------------------------------------------------------------------------------------------
def test_a_ledger_does_not_differ_from_itself() -> None:
    for one in (mnist(), transfer(), unbuilt(), stack(16, 16)):
        difference = diff(one, one)
        assert difference.is_empty
        assert (
            difference.before
            == difference.after
            == Amount(total=one.total, trainable=one.trainable, nbytes=one.nbytes)
        )


def test_names_lines_and_the_optimizer_are_no_difference() -> None:
    before = transfer()
    after = replace(
        before,
        name="transfer_1",
        owners=tuple(replace(o, name=f"{o.name}_1", origin="other.py:3") for o in before.owners),
        entries=tuple(replace(e, origin="other.py:4") for e in before.entries if e.state != "optimizer"),
    )
    difference = diff(before, after)
    assert difference.is_empty
    assert difference.optimizer == (330, 0)


def test_a_block_put_in_between_makes_no_new_ones_of_those_that_follow() -> None:
    before, after = stack(*[16] * 12), stack(16, 16, 16, 64, *[16] * 9)
    removed, added = without_partner(before, after)
    assert removed == []
    assert added == ["blocks/3", "blocks/3/norm", "blocks/3/up", "blocks/3/down"]
    difference = diff(before, after)
    size = 8 + 9 * 64 + 65 * 8
    assert told(difference) == [
        ("added", "blocks/3", size),
        *(("renamed", f"blocks/{place}", 0) for place in range(4, 13)),
    ]
    assert difference.changes[0].layers == 4
    assert [change.was for change in difference.changes[1:]] == [f"blocks/{place}" for place in range(3, 12)]


def test_a_block_taken_out_makes_no_new_ones_of_those_that_follow() -> None:
    removed, added = without_partner(stack(16, 64, 16, 32), stack(16, 16, 32))
    assert removed == ["blocks/1", "blocks/1/norm", "blocks/1/up", "blocks/1/down"]
    assert added == []


def test_one_more_of_the_same_is_the_last_one() -> None:
    assert told(diff(stack(16, 16), stack(16, 16, 16))) == [("added", "blocks/2", 8 + 9 * 16 + 17 * 8)]


def test_a_wider_block_is_resized_and_not_replaced() -> None:
    difference = diff(stack(16, 16, 16), stack(16, 32, 16))
    assert told(difference) == [
        ("reconfigured", "blocks/1", 0),
        ("resized", "blocks/1/up", 9 * 16),
        ("resized", "blocks/1/down", 16 * 8),
    ]
    assert steps(difference.changes[0]) == [("width", 16, 32)]
    assert steps(difference.changes[1]) == [("units", 16, 32)]
    assert difference.changes[1].steps[0].weights == ("kernel", "bias")


def test_a_layer_in_front_shifts_counted_names() -> None:
    image = (28, 28, 1)
    before = ledger(
        "before",
        conv2d("conv2d", image, 32, 3, SAME),
        max_pooling("max_pooling2d", SAME, SAME),
        dense("dense", 9, 10),
    )
    after = ledger(
        "after",
        conv2d("conv2d", image, 16, 3, (28, 28, 16)),
        max_pooling("max_pooling2d", SAME, SAME),
        conv2d("conv2d_1", (28, 28, 16), 32, 3, SAME),
        max_pooling("max_pooling2d_1", SAME, SAME),
        dense("dense", 9, 10),
    )
    assert pair(before, after) == {
        "conv2d": "conv2d_1",
        "max_pooling2d": "max_pooling2d_1",
        "dense": "dense",
    }
    assert told(diff(before, after)) == [
        ("added", "conv2d", 160),
        ("added", "max_pooling2d", 0),
        ("renamed", "conv2d_1", 0),
        ("resized", "conv2d_1", 15 * 9 * 32),
        ("renamed", "max_pooling2d_1", 0),
    ]


def test_a_chosen_name_outweighs_what_a_layer_is_made_of() -> None:
    before = ledger("before", dense("body", 4, 8), dense("head", 8, 3))
    after = ledger("after", dense("body", 4, 16), dense("head", 16, 8), dense("tail", 8, 3))
    assert pair(before, after) == {"body": "body", "head": "head"}


def test_another_name_is_a_renaming() -> None:
    change = the_one(ledger("m", dense("head", 8, 3)), ledger("m", dense("classifier", 8, 3)))
    assert (change.kind, change.path, change.was) == ("renamed", "classifier", "head")


def test_another_name_and_another_size_are_two_layers() -> None:
    before, after = ledger("m", dense("head", 8, 3)), ledger("m", dense("classifier", 16, 5))
    assert without_partner(before, after) == (["head"], ["classifier"])


def test_a_container_that_is_renamed_is_one_change() -> None:
    before = ledger("m", *block("encoder", 16))
    after = ledger("m", *block("backbone", 16))
    assert told(diff(before, after)) == [("renamed", "backbone", 0)]


def test_layers_put_into_another_have_moved() -> None:
    parts = [conv2d("stem", (8, 8, 3), 4, 3, (8, 8, 4)), plain("relu", "ReLU", (8, 8, 4), (8, 8, 4))]
    more = [conv2d("body", (8, 8, 4), 8, 3, (8, 8, 8)), dense("head", 8, 3)]

    def inside(part: Any) -> Any:
        owner, entries = part
        path = f"backbone/{owner.path}"
        moved = tuple(replace(e, path=f"{path}/{e.name}", owner=path) for e in entries)
        return replace(owner, path=path), moved

    before = ledger("m", *parts, *more)
    after = ledger(
        "m", (Owner(path="backbone", type="Sequential"), ()), *map(inside, [*parts, more[0]]), more[1]
    )
    assert told(diff(before, after)) == [
        ("added", "backbone", 0),
        ("moved", "backbone/stem", 0),
        ("moved", "backbone/relu", 0),
        ("moved", "backbone/body", 0),
    ]


def test_what_is_ambiguous_stays_added_and_removed() -> None:
    before = ledger("m", dense("a", 8, 8), dense("b", 8, 8), (Owner(path="box", type="Box"), ()))
    after = ledger("m", (Owner(path="box", type="Box"), ()), dense("box/c", 8, 8))
    assert without_partner(before, after) == (["a", "b"], ["box/c"])


def test_layers_in_another_order_have_moved() -> None:
    first, second = dense("first", 8, 8), plain("drop", "Dropout", (8,), (8,))
    change = the_one(ledger("m", first, second), ledger("m", second, first))
    assert (change.kind, change.path, steps(change)) == ("moved", "drop", [("after", "first", None)])


def test_where_wiring_says_what_follows_the_order_of_the_list_says_nothing() -> None:
    def fed(part: Any, *inputs: str) -> Any:
        return replace(part[0], inputs=inputs), part[1]

    start, left, right = (
        dense("start", 8, 8),
        fed(dense("left", 8, 8), "start"),
        fed(dense("right", 8, 8), "start"),
    )
    assert diff(ledger("m", start, left, right), ledger("m", start, right, left)).is_empty
    change = the_one(
        ledger("m", start, left, right), ledger("m", start, left, fed(dense("right", 8, 8), "left"))
    )
    assert (change.kind, change.path) == ("rewired", "right")
    assert steps(change) == [("fed by", ("start",), ("left",))]


def test_wiring_that_only_one_of_two_ledgers_tells_is_no_difference() -> None:
    data = plain("data", "InputLayer", (8,), (8,))
    head, tail = dense("head", 8, 8), dense("tail", 8, 8)
    wired = (replace(head[0], inputs=("data",)), head[1]), (replace(tail[0], inputs=("head",)), tail[1])
    assert diff(ledger("m", head, tail), ledger("m", data, *wired)).is_empty


def test_many_layers_without_a_common_name_are_still_found() -> None:
    def flat(prefix: str, width: int) -> Ledger:
        parts = [dense(f"{prefix}_{n}", 8, width if n == 400 else 1 + n % 7) for n in range(800)]
        return ledger(prefix, *parts)

    removed, added = without_partner(flat("old", 3), flat("new", 20))
    assert (removed, added) == (["old_400"], ["new_400"])


# -- each kind of change -----------------------------------------------------------------------------------------------
def test_an_added_layer_tells_its_weights_and_its_line() -> None:
    owner, entries = dense("head", 8, 3)
    change = the_one(ledger("m"), ledger("m", (replace(owner, origin="model.py:7"), entries)))
    assert (change.kind, change.type, change.where) == ("added", "Dense", "model.py:7")
    assert steps(change) == [("kernel", None, (8, 3)), ("bias", None, (3,))]
    assert change.amount == Amount(total=27, trainable=27, nbytes=108)


def test_a_removed_layer_takes_its_amount_with_it() -> None:
    change = the_one(ledger("m", dense("head", 8, 3)), ledger("m"))
    assert (change.kind, change.path, change.amount.total) == ("removed", "head", -27)


def test_another_class_at_the_same_place_is_a_replacement() -> None:
    owner, (kernel, bias) = conv2d("stem", (8, 8, 3), 4, 3, (8, 8, 4))
    depth = entry("stem", "depthwise_kernel", (3, 3, 3, 1))
    point = entry("stem", "pointwise_kernel", (1, 1, 3, 4))
    after = ledger("m", (replace(owner, type="SeparableConv2D"), (depth, point, bias)))
    change = the_one(ledger("m", (owner, (kernel, bias))), after)
    assert change.kind == "replaced"
    assert steps(change)[0] == ("class", "Conv2D", "SeparableConv2D")
    assert change.amount.total == (27 + 12) - 108


def test_a_user_class_that_was_renamed_keeps_what_is_inside() -> None:
    before, after = block("body", 16), block("body", 16)
    after[0] = replace(after[0][0], type="BlockV2"), ()
    assert told(diff(ledger("m", *before), ledger("m", *after))) == [("replaced", "body", 0)]


def test_a_bias_that_came_is_a_weight_that_was_added() -> None:
    owner, (kernel, bias) = dense("head", 8, 3)
    before = replace(owner, options=(("units", 3), ("use_bias", False)))
    after = replace(owner, options=(("units", 3), ("use_bias", True)))
    change = the_one(ledger("m", (before, (kernel,))), ledger("m", (after, (kernel, bias))))
    assert (change.kind, change.path, change.type, change.amount.total) == ("added", "head/bias", "", 3)


def test_a_weight_with_another_name_is_renamed() -> None:
    owner, (kernel, bias) = dense("head", 8, 3)
    other = replace(kernel, path="head/w", name="w")
    change = the_one(ledger("m", (owner, (other, bias))), ledger("m", (owner, (kernel, bias))))
    assert (change.kind, change.path, change.was) == ("renamed", "head/kernel", "head/w")


def test_a_weight_of_another_rank_tells_its_shape() -> None:
    owner = Owner(path="d", type="Custom")
    before, after = entry("d", "w", (6,)), entry("d", "w", (2, 3))
    change = the_one(ledger("m", (owner, (before,))), ledger("m", (owner, (after,))))
    assert (change.kind, steps(change)) == ("resized", [("shape", (6,), (2, 3))])


def test_axes_without_names_are_numbered() -> None:
    owner = Owner(path="d", type="Custom")
    change = the_one(
        ledger("m", (owner, (entry("d", "w", (2, 3)),))), ledger("m", (owner, (entry("d", "w", (2, 5)),)))
    )
    assert steps(change) == [("axis 1", 3, 5)]


def test_another_dtype_changes_the_bytes_alone() -> None:
    owner, weights = dense("head", 8, 3)
    half = tuple(replace(weight, dtype="bfloat16") for weight in weights)
    change = the_one(ledger("m", (owner, weights)), ledger("m", (owner, half)))
    assert change.kind == "retyped"
    assert change.amount == Amount(nbytes=-54)
    assert (change.steps[0].after, change.steps[0].weights) == ("bfloat16", ("kernel", "bias"))


def test_an_option_that_changes_no_shape_is_a_reconfiguration() -> None:
    owner, weights = dense("head", 8, 3)
    after = replace(owner, options=(("units", 3), ("activation", "relu")))
    change = the_one(ledger("m", (owner, weights)), ledger("m", (after, weights)))
    assert (change.kind, steps(change)) == ("reconfigured", [("activation", None, "relu")])


@pytest.mark.parametrize("values", [(1, True), (1, 1.0), (0.0, -0.0)])
def test_options_that_are_written_differently_differ(values: tuple[Any, Any]) -> None:
    before, after = (ledger("m", plain("d", "Custom", (8,), (8,), x=value)) for value in values)
    assert the_one(before, after).kind == "reconfigured"


def test_an_option_that_is_no_number_is_equal_to_itself() -> None:
    before, after = (ledger("m", plain("d", "Custom", (8,), (8,), x=float("nan"))) for _ in range(2))
    assert diff(before, after).is_empty


def test_a_kernel_of_another_size_is_told_once() -> None:
    before = ledger("m", conv2d("conv", (8, 8, 3), 4, 3, (6, 6, 4)))
    after = ledger("m", conv2d("conv", (8, 8, 3), 4, 5, (4, 4, 4)))
    change = the_one(before, after)
    assert steps(change) == [("kernel height", 3, 5), ("kernel width", 3, 5)]
    assert change.amount.total == 16 * 3 * 4


def test_a_layer_that_was_switched_off_tells_by_whom_and_where() -> None:
    parts = block("encoder", 16)
    before = ledger("m", *parts)
    off = [frozen(part, "encoder") for part in parts]
    off = [(o, tuple(replace(e, frozen_at="train.py:9") for e in entries)) for o, entries in off]
    change = the_one(before, ledger("m", *off))
    assert (change.kind, change.path, change.where, change.layers) == ("frozen", "encoder", "train.py:9", 3)
    assert change.amount == Amount(trainable=-before.total)
    back = the_one(ledger("m", *off), before)
    assert (back.kind, back.path, back.amount.trainable) == ("unfrozen", "encoder", before.total)


def test_a_weight_that_gets_tracked_joins_the_total() -> None:
    owner = Owner(path="d", type="Custom")
    lost, kept = entry("d", "w", (6,), state="untracked"), entry("d", "w", (6,))
    change = the_one(ledger("m", (owner, (lost,))), ledger("m", (owner, (kept,))))
    assert (change.kind, steps(change)) == ("reclassed", [("state", "untracked", "trainable")])
    assert change.amount == Amount(total=6, trainable=6, nbytes=24)


def test_a_weight_that_is_counted_elsewhere_leaves_the_total() -> None:
    first, second = dense("first", 8, 8), dense("second", 8, 8)
    before = ledger("m", first, second)
    after = ledger("m", first, again(first, "second"))
    difference = diff(before, after)
    assert told(difference) == [("shared", "second", -72)]
    assert steps(difference.changes[0]) == [
        ("shared with", None, "first/kernel"),
        ("shared with", None, "first/bias"),
    ]
    assert told(diff(after, before)) == [("unshared", "second", 72)]


def test_sharing_with_a_layer_that_was_renamed_is_no_change() -> None:
    one, other = dense("tower", 8, 8), dense("column", 8, 8)
    before = ledger("m", one, again(one, "twice"))
    after = ledger("m", other, again(other, "twice"))
    assert told(diff(before, after)) == [("renamed", "column", 0)]


def test_a_layer_that_gets_built_tells_its_weights() -> None:
    waiting = replace(dense("head", 8, 3)[0], status="unbuilt"), ()
    change = the_one(ledger("m", waiting), ledger("m", dense("head", 8, 3)))
    assert (change.kind, change.amount.total) == ("built", 27)
    assert steps(change) == [("kernel", None, (8, 3)), ("bias", None, (3,))]


def test_another_input_of_the_model_is_told_once() -> None:
    before, after = (
        ledger("m", (Owner(path="", type="Model", input_shapes=((None, size, 3),)), ()), dense("d", 3, 2))
        for size in (8, 9)
    )
    change = the_one(before, after)
    assert (change.kind, change.path) == ("reshaped", "")
    assert steps(change) == [("input", ((None, 8, 3),), ((None, 9, 3),))]


def test_constants_that_act_as_weights_are_part_of_a_layer() -> None:
    before, after = (
        ledger("m", (Owner(path="d", type="Custom", constants=(("the array 'x'", count, None, True),)), ()))
        for count in (9, 12)
    )
    change = the_one(before, after)
    assert (change.kind, steps(change)) == ("reconfigured", [("the array 'x'", 9, 12)])


def test_all_that_happens_to_one_layer_is_told_apart_and_adds_up() -> None:
    owner, (kernel, bias) = dense("head", 8, 4)
    other, (wide, _) = dense("classifier", 8, 5)
    late = replace(wide, dtype="bfloat16", state="frozen", frozen_by="classifier")
    before = ledger("m", dense("body", 8, 8), (owner, (kernel, bias)), dense("end", 4, 4))
    after = ledger(
        "m",
        dense("body", 8, 8),
        (replace(other, path="head"), (replace(late, path="head/kernel", owner="head"),)),
        dense("end", 4, 4),
    )
    assert told(diff(before, after)) == [
        ("resized", "head", 8),
        ("retyped", "head", 0),
        ("frozen", "head", 0),
        ("removed", "head/bias", -4),
    ]


def test_a_type_without_a_size_leaves_the_bytes_unknown() -> None:
    words = Entry(path="d/words", owner="d", shape=(3,), dtype="string")
    difference = diff(ledger("m"), ledger("m", (Owner(path="d", type="Lookup"), (words,))))
    assert told(difference) == [("added", "d", 3)]
    assert difference.after.nbytes is None


# -- always ------------------------------------------------------------------------------------------------------------
NAMES = st.sampled_from(["a", "b", "dense", "dense_1", "a/0", "a/1", "a/0/b", "b/dense", "b/c/d", ""])
TYPES = st.sampled_from(["Dense", "Conv2D", "Block"])


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    paths = draw(st.lists(NAMES, unique=True, max_size=6))
    owners = tuple(
        Owner(
            path=path,
            type=draw(TYPES),
            status=draw(st.sampled_from(["built", "unbuilt"])),
            options=tuple(
                draw(st.dictionaries(st.sampled_from("xy"), st.integers(1, 3), max_size=2)).items()
            ),
            inputs=tuple(draw(st.lists(st.sampled_from(paths), max_size=2))),
        )
        for path in paths
    )
    entries: dict[str, Entry] = {}
    for path in paths:
        for name in draw(st.lists(st.sampled_from("kwb"), unique=True, max_size=3)):
            place = f"{path}/{name}".lstrip("/")
            if place in entries or place in paths:
                continue
            entries[place] = Entry(
                path=place,
                owner=path,
                name=draw(st.sampled_from([name, "k"])),
                shape=tuple(draw(st.lists(st.integers(0, 4), max_size=2))),
                dtype=draw(st.sampled_from(["float32", "int4"])),
                state=draw(st.sampled_from(STATES)),
                frozen_by=draw(st.sampled_from([None, *paths])),
                shared_with=draw(st.sampled_from([None, None, *entries])),
            )
    return Ledger(name="m", owners=owners, entries=tuple(entries.values()))


@settings(max_examples=150, deadline=None)
@given(ledgers(), ledgers())
def test_amounts_add_up_to_the_difference_of_the_totals(before: Ledger, after: Ledger) -> None:
    there, back = diff(before, after), diff(after, before)
    for difference, old, new in ((there, before, after), (back, after, before)):
        told(difference)
        assert difference.after.total - difference.before.total == new.total - old.total
        assert difference.after.trainable - difference.before.trainable == new.trainable - old.trainable
        assert difference.after.nbytes == new.nbytes
    assert diff(before, before).is_empty


@settings(max_examples=60, deadline=None)
@given(ledgers(), ledgers())
def test_no_layer_has_two_partners_and_each_is_told(before: Ledger, after: Ledger) -> None:
    pairs = pair(before, after)
    assert len(set(pairs.values())) == len(pairs)
    assert set(pairs) <= {owner.path for owner in before.owners}
    assert set(pairs.values()) <= {owner.path for owner in after.owners}
    difference = diff(before, after)
    alone = sum(
        change.layers for change in difference.changes if change.type and change.kind in ("added", "removed")
    )
    bare = [
        one
        for one, paired in ((before, pairs), (after, set(pairs.values())))
        if any(owner.path == "" for owner in one.owners) and "" not in paired
    ]
    lonely = len(before.owners) + len(after.owners) - 2 * len(pairs)
    assert lonely - len(bare) <= alone <= lonely


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[int], int, int]:
    widths = draw(st.lists(st.integers(9, 20), min_size=1, max_size=8))
    return widths, draw(st.integers(0, len(widths))), draw(st.integers(30, 40))


@settings(max_examples=60, deadline=None)
@given(blocks())
def test_wherever_a_new_block_goes_it_alone_is_added(case: tuple[list[int], int, int]) -> None:
    widths, place, width = case
    difference = diff(stack(*widths), stack(*widths[:place], width, *widths[place:]))
    structural = [change for change in difference.changes if change.kind != "renamed"]
    assert [(change.kind, change.path) for change in structural] == [("added", f"blocks/{place}")]
    assert amount(None) == Amount()


def from_file(source: str, *places: str, frozen: str = "") -> Ledger:
    """Some layers alike, read from somewhere, with their arrays in one order for PyTorch and in another for others."""
    arrays = [("weight_ih_l0", (8, 3)), ("weight_hh_l0", (8, 2)), ("bias_ih_l0", (8,)), ("bias_hh_l0", (8,))]
    parts = [
        (
            Owner(path=path, type="LSTM"),
            tuple(
                entry(
                    path, name, shape, *("",) * len(shape), state="frozen" if path == frozen else "trainable"
                )
                for name, shape in (arrays if source.startswith("PyTorch") else sorted(arrays))
            ),
        )
        for path in places
    ]
    return replace(ledger("m", *parts), source=source)


def test_the_order_of_names_in_a_file_is_no_difference() -> None:
    state = from_file("PyTorch, zip", "lstm", "down", "up", "lstm_1")
    by_name = from_file("safetensors", "down", "lstm", "lstm_1", "up")
    assert diff(state, by_name).changes == ()
    assert diff(by_name, state).changes == ()
    assert told(diff(state, from_file("PyTorch, zip", "down", "lstm", "up", "lstm_1")))


def test_a_layer_is_still_added_and_renamed_in_a_file_sorted_by_name() -> None:
    before = from_file("safetensors", "a", "b")
    assert told(diff(before, from_file("PyTorch, zip", "b", "c", "a"))) == [("added", "c", 56)]
    assert told(diff(before, from_file("safetensors", "b", "z"))) == [("renamed", "z", 0)]


def test_a_file_that_does_not_tell_what_learns_unfreezes_nothing() -> None:
    model = from_file("PyTorch model", "a", "b", frozen="a")
    file = from_file("PyTorch, zip", "a", "b")
    for found in (diff(model, file), diff(file, model)):
        assert found.changes == ()
        assert found.before == found.after
    assert [c.kind for c in diff(model, replace(file, source="PyTorch model")).changes] == ["unfrozen"]
