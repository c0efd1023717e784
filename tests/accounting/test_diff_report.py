"""What a difference looks like as text and in a pull request, and how it is written as JSON."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from accounting.test_diff import stack
from accounting.written import conv2d, dense, frozen, ledger, max_pooling, mnist, plain, siamese, transfer
from tally.accounting.diff import diff
from tally.accounting.difference import Change, Movement, Step
from tally.accounting.ledger import Ledger, Owner
from tally.report import markdown
from tally.report import plain as plain_text
from tally.report.difference import describe, draw

GOLDEN = Path(__file__).parent / "golden"


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TALLY_UPDATE_GOLDENS") == "1":
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


def deeper() -> Ledger:
    """The convnet of mnist with a third convolution, a stronger dropout and twelve classes."""
    return ledger(
        "deeper",
        conv2d("conv2d", (28, 28, 1), 32, 3, (26, 26, 32)),
        max_pooling("max_pooling2d", (26, 26, 32), (13, 13, 32)),
        conv2d("conv2d_1", (13, 13, 32), 64, 3, (11, 11, 64)),
        max_pooling("max_pooling2d_1", (11, 11, 64), (5, 5, 64)),
        conv2d("conv2d_2", (5, 5, 64), 128, 3, (3, 3, 128)),
        plain("flatten", "Flatten", (3, 3, 128), (1152,)),
        plain("dropout", "Dropout", (1152,), (1152,), rate=0.6),
        dense("dense", 1152, 12),
    )


def thawed() -> Ledger:
    """The transfer model with its backbone switched on again, and its head in single precision."""
    before = transfer()
    entries = (
        replace(entry, state="trainable", frozen_by=None) if entry.state == "frozen" else entry
        for entry in before.entries
    )
    kept = (replace(e, dtype="float32") if e.dtype == "bfloat16" else e for e in entries)
    return replace(before, entries=tuple(e for e in kept if e.state != "optimizer"))


def off() -> Ledger:
    """The blocks of a stack with the second switched off on a line of a script."""
    before = stack(16, 16)
    entries = (
        replace(frozen((before.owners[0], (e,)), "blocks/1")[1][0], frozen_at="train.py:7")
        if e.path.startswith("blocks/1/")
        else e
        for e in before.entries
    )
    return replace(before, entries=tuple(entries))


def separate() -> Ledger:
    """The siamese model with a second tower of its own."""
    before = siamese()
    return replace(
        before,
        owners=tuple(replace(owner, shared_with=None) for owner in before.owners),
        entries=tuple(replace(entry, shared_with=None) for entry in before.entries),
    )


def waiting() -> Ledger:
    return ledger("m", (replace(dense("head", 8, 3)[0], status="unbuilt"), ()))


def replaced() -> Ledger:
    owner, (kernel, bias) = dense("head", 8, 3)
    return ledger(
        "m", (replace(owner, type="LoraDense"), (kernel, replace(bias, name="offset", path="head/offset")))
    )


def wrapped(path: str) -> Ledger:
    """A convolution, its activation and a head; the first two inside another layer where a path is given."""
    parts = [conv2d("stem", (8, 8, 3), 4, 3, (8, 8, 4)), plain("relu", "ReLU", (8, 8, 4), (8, 8, 4))]
    if path:
        moved = [
            (
                replace(owner, path=f"{path}/{owner.path}"),
                tuple(replace(e, path=f"{path}/{e.path}", owner=f"{path}/{e.owner}") for e in entries),
            )
            for owner, entries in parts
        ]
        parts = [(Owner(path=path, type="Sequential"), ()), *moved]
    return ledger("net", *parts, dense("head", 4, 3))


PAIRS = {
    "wrapped": (wrapped(""), wrapped("backbone")),
    "deeper": (mnist(), deeper()),
    "inserted": (stack(*[16] * 12, name="before"), stack(16, 16, 16, 64, *[16] * 9, name="after")),
    "wider": (stack(*[16] * 12, name="before"), stack(*[32] * 12, name="after")),
    "thawed": (transfer(), thawed()),
    "frozen": (stack(16, 16), off()),
    "separate": (siamese(), separate()),
    "built": (waiting(), ledger("m", dense("head", 8, 3))),
    "replaced": (ledger("m", dense("head", 8, 3)), replaced()),
    "same": (mnist(), mnist()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_difference_is_drawn(name: str) -> None:
    compare(f"diff_{name}.txt", plain_text.render(draw(diff(*PAIRS[name]))))


@pytest.mark.parametrize("name", ["deeper", "inserted", "same"])
def test_a_difference_is_written_for_a_pull_request(name: str) -> None:
    compare(f"diff_{name}.md", markdown.render(draw(diff(*PAIRS[name]))))


VALUES = (
    Movement(
        path="a/kernel", was="a/kernel", state="moved", relative=0.0123, largest=0.5, changed=90, count=100
    ),
    Movement(path="a/bias", was="a/bias", state="moved", relative=None, largest=0.25, changed=10, count=10),
    Movement(
        path="b/kernel", was="b/kernel", state="moved", relative=None, largest=None, changed=1, count=100
    ),
    Movement(
        path="c/kernel",
        was="c/kernel",
        state="moved",
        relative=1.5,
        largest=12345.678,
        changed=100,
        count=1000,
    ),
    Movement(path="d/kernel", was="d/kernel", state="equal", count=4),
    Movement(path="e/kernel", was="e/kernel", state="not drawn", count=4),
)


def test_values_that_moved_are_drawn_the_furthest_first() -> None:
    compare("diff_values.txt", plain_text.render(draw(replace(diff(mnist(), mnist()), values=VALUES))))


def test_of_many_weights_that_moved_only_the_first_are_listed() -> None:
    moved = tuple(replace(VALUES[0], path=f"{number}/kernel") for number in range(15))
    text = plain_text.render(draw(replace(diff(mnist(), mnist()), values=moved)))
    assert "And 3 weights that moved less." in text
    assert "11/kernel" in text
    assert "12/kernel" not in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            Change(
                kind="renamed",
                path="b",
                was="a",
                type="D",
                steps=(Step(name="place", before="a", after="b"),),
            ),
            "was a",
        ),
        (
            Change(kind="moved", path="b", type="D", steps=(Step(name="after", before=None, after="a"),)),
            "stands behind a, stood first",
        ),
        (
            Change(
                kind="rewired",
                path="b",
                type="D",
                steps=(Step(name="fed by", before=("a", "c"), after=("a",)),),
            ),
            "by a, was by a, c",
        ),
        (
            Change(
                kind="resized", path="b", type="D", steps=(Step(name="shape", before=(6,), after=(2, 3)),)
            ),
            "shape (6,) → (2, 3)",
        ),
        (
            Change(kind="added", path="b/t", steps=(Step(name="t", before=None, after=(), weights=("t",)),)),
            "a single number",
        ),
        (
            Change(
                kind="reconfigured", path="b", type="D", steps=(Step(name="bias", before=True, after=None),)
            ),
            "bias True → none",
        ),
    ],
)
def test_a_change_is_told_in_a_few_words(change: Change, told: str) -> None:
    assert describe(change) == told


def test_a_difference_as_data_has_all_of_it() -> None:
    difference = diff(mnist(), deeper())
    read = json.loads(difference.to_json())
    assert list(read) == [
        *("schema_version", "kind", "same", "names", "before", "after", "optimizer", "changes", "values"),
    ]
    assert (read["kind"], read["same"], read["values"]) == ("diff", False, None)
    assert [change["kind"] for change in read["changes"]] == [change.kind for change in difference.changes]
    assert sum(change["amount"]["total"] for change in read["changes"]) == (
        read["after"]["total"] - read["before"]["total"]
    )
    resized = next(change for change in read["changes"] if change["kind"] == "resized")
    assert resized["steps"] == [
        {"name": "features", "before": 1600, "after": 1152, "weights": ["kernel"]},
        {"name": "units", "before": 10, "after": 12, "weights": ["kernel", "bias"]},
    ]


def test_in_a_terminal_a_difference_takes_one_line() -> None:
    assert repr(diff(mnist(), mnist())) == "<Difference: none, 34,826 parameters>"
    assert repr(diff(mnist(), deeper())) == "<Difference: 3 changes, +71,682 parameters>"
