"""A budget is read from words and tables, held against a ledger, and a breach says which layer to look at."""

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tally
from accounting.written import dense, entry, ledger, mnist, naive_linear, transfer, unbuilt
from tally import layers
from tally.accounting.budget import LIMITS, Budget, LayerRule, read_budget, read_number, target_tables
from tally.accounting.check import Check, check
from tally.accounting.finding import Finding
from tally.accounting.ledger import Entry, Ledger, Owner
from tally.accounting.lock import lockable, read_lock, write_lock
from tally.core.errors import ArgumentError
from tally.report import markdown, plain
from tally.report.budget import draw

GOLDEN = Path(__file__).parent / "golden"


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TALLY_UPDATE_GOLDENS") == "1":
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


def hold(
    ledger: Ledger, *, lock: Ledger | None = None, findings: tuple[Finding, ...] = (), **asked: Any
) -> Check:
    if lock is not None:
        asked["lock"] = "model.lock.json"
    return check(ledger, read_budget(asked), lock=lock, findings=findings)


# -- numbers and tables ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "number"),
    [
        (34826, 34826),
        (5e6, 5_000_000),
        ("34826", 34826),
        ("34,826", 34826),
        ("34_826", 34826),
        ("5M", 5_000_000),
        ("5m", 5_000_000),
        ("500k", 500_000),
        ("1.5B", 1_500_000_000),
        ("1.5 G", 1_500_000_000),
        (".5k", 500),
        ("2T", 2_000_000_000_000),
        ("1e6", 1_000_000),
        ("0", 0),
    ],
)
def test_counts_may_have_a_unit(text: Any, number: int) -> None:
    assert read_number(text) == read_number(text, "macs") == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("20MB", 20_000_000),
        ("20 MiB", 20 * 2**20),
        ("1.5kB", 1500),
        ("1.5KiB", 1536),
        ("2GB", 2 * 10**9),
        ("2GiB", 2 * 2**30),
        ("1TiB", 2**40),
        ("100 B", 100),
        (100, 100),
    ],
)
def test_bytes_count_by_a_thousand_or_by_1024(text: Any, number: int) -> None:
    assert read_number(text, "bytes") == number


@given(st.integers(0, 10**18))
def test_a_plain_number_is_itself(number: int) -> None:
    assert read_number(number) == read_number(str(number)) == read_number(f"{number:,}", "bytes") == number


@pytest.mark.parametrize(
    "text",
    ["", "five", "5X", "-5", "5MB", "1.2345k", "5 M M", -1, 1.5, True, None, [5], float("nan"), float("inf")],
)
def test_what_is_no_count_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"is no (whole )?number of parameters"):
        read_number(text)


@pytest.mark.parametrize("text", ["20M", "5k", "20 megabytes", "0.5B"])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="of bytes"):
        read_number(text, "bytes")


def test_a_budget_is_read_from_a_table() -> None:
    table = {
        "max-params": "5M",
        "min_trainable": 10,
        "expect-bytes": None,
        "no-findings": "error",
        "lock": "model.lock.json",
        "tolerance": "1%",
        "layers": {"encoder/*": {"max-params": "1M", "trainable": False}},
    }
    budget = read_budget(table)
    assert [(limit.name, limit.value) for limit in budget.limits] == [
        ("max-params", 5_000_000),
        ("min-trainable", 10),
    ]
    assert (budget.no_findings, budget.lock, budget.tolerance) == (
        "error",
        "model.lock.json",
        Fraction(1, 100),
    )
    (rule,) = budget.layers
    assert (rule.pattern, rule.limits[0].value, rule.trainable) == ("encoder/*", 1_000_000, False)
    assert not budget.is_empty
    assert Budget().is_empty
    assert LIMITS[:3] == ("max-params", "min-params", "expect-params")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"max-parms": 5}, "The budget: 'max-parms' is unknown. Did you mean 'max-params'?"),
        (
            {"max-params": "5X"},
            "The budget: max-params: '5X' is no number of parameters; write 5000000, 5M or 500k.",
        ),
        ({"max-bytes": "5M"}, "The budget: max-bytes: '5M' is no number of bytes; write 20MB or 20MiB."),
        ({"layers": 3}, "The budget: layers is a table with a pattern for each rule, not 3."),
        (
            {"layers": {"a": 3}},
            "The budget, layers 'a': a rule is a table such as {max-params = '1M'}, not 3.",
        ),
        (
            {"layers": {"a": {}}},
            "The budget, layers 'a': nothing is asked; give a limit such as max-params, or trainable.",
        ),
        (
            {"layers": {"a": {"trainabel": True}}},
            "The budget, layers 'a': 'trainabel' is unknown. Did you mean 'trainable'?",
        ),
        (
            {"layers": {"a": {"trainable": "no"}}},
            "The budget, layers 'a': trainable is true or false, not 'no'.",
        ),
        (
            {"no-findings": "eror"},
            "The budget: no-findings is one of 'error', 'warning', 'note', not 'eror'. Did you mean 'error'?",
        ),
        ({"lock": 3}, "The budget: lock is the name of a file, not 3."),
        (
            {"tolerance": "much"},
            "The budget: tolerance is a number of parameters or a share such as '1%', not 'much'.",
        ),
    ],
)
def test_a_budget_with_a_fault_is_refused_with_its_place(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_budget(table)
    assert str(caught.value) == told


def test_targets_are_read_from_pyproject() -> None:
    assert target_tables({}) == target_tables({"tool": {"ruff": {}}}) == {}
    document = {"tool": {"tally": {"check": {"models.py:make": {"max-params": 5}}}}}
    assert target_tables(document) == {"models.py:make": {"max-params": 5}}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            {"tool": {"tally": {"chekc": {}}}},
            "pyproject.toml: [tool.tally.chekc] is unknown. Did you mean 'check'?",
        ),
        ({"tool": {"tally": 3}}, "pyproject.toml: in [tool], 'tally' must be a table, and is 3."),
        (
            {"tool": {"tally": {"check": 3}}},
            "pyproject.toml: in [tool.tally], 'check' must be a table, and is 3.",
        ),
        (
            {"tool": {"tally": {"check": {"max-params": 3}}}},
            "pyproject.toml: in [tool.tally.check], 'max-params' must be a table, and is 3.",
        ),
    ],
)
def test_a_table_that_is_none_is_refused(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        target_tables(document)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("encoder", {"encoder"}),
        ("encoder/*", {"encoder/0", "encoder/1"}),
        ("encoder/**", {"encoder/0", "encoder/1", "encoder/0/dense"}),
        ("**/dense", {"encoder/0/dense"}),
        ("*", {"encoder", "head"}),
        ("encoder/?", {"encoder/0", "encoder/1"}),
        ("**", {"encoder", "encoder/0", "encoder/1", "encoder/0/dense", "head"}),
        ("h.ad", set()),
        ("[e]*", set()),
    ],
)
def test_a_pattern_stops_at_a_slash_unless_it_is_doubled(pattern: str, matching: set[str]) -> None:
    paths = ("encoder", "encoder/0", "encoder/0/dense", "encoder/1", "head")
    assert {path for path in paths if LayerRule(pattern=pattern).matches(path)} == matching


# -- limits ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limit", "least", "most"),
    [
        ("params", 34_826, 34_826),
        ("trainable", 34_826, 34_826),
        ("bytes", 139_304, 139_304),
        ("macs", 2_440_960, 2_440_960),
    ],
)
def test_a_limit_holds_up_to_the_number_itself(limit: str, least: int, most: int) -> None:
    for asked, holds in [
        ({f"max-{limit}": most}, True),
        ({f"max-{limit}": most - 1}, False),
        ({f"min-{limit}": least}, True),
        ({f"min-{limit}": least + 1}, False),
        ({f"expect-{limit}": least}, True),
        ({f"expect-{limit}": least + 1}, False),
    ]:
        found = hold(mnist(), **asked)
        assert found.holds is holds, asked
        assert found.measured[0].figure == least


def test_a_breach_says_by_how_much_and_where_to_look() -> None:
    (measured,) = hold(mnist(), max_params="30k").measured
    assert measured.excess == 4_826
    assert [(part.path, part.figure) for part in measured.parts] == [
        ("conv2d_1", 18_496),
        ("dense", 16_010),
        ("conv2d", 320),
    ]
    assert measured.parts[0].formula == "64 × (32·3·3 + 1) = 18,496"
    assert sum(part.share for part in measured.parts) == pytest.approx(1)


def smaller(model: Ledger, layer: str, axis: str, size: int) -> Ledger:
    """A model in which an axis of one layer has another size."""

    def resized(one: Entry) -> Entry:
        if one.owner != layer:
            return one
        pairs = zip(one.axes, one.shape, strict=True)
        return replace(one, shape=tuple(size if name == axis else old for name, old in pairs))

    return replace(model, entries=tuple(map(resized, model.entries)))


@pytest.mark.parametrize("measure", ["params", "trainable", "bytes"])
@given(limit=st.integers(17_000, 34_825))
def test_what_is_advised_would_hold_and_one_more_would_not(measure: str, limit: int) -> None:
    limit *= 4 if measure == "bytes" else 1
    (measured,) = hold(mnist(), **{f"max_{measure}": limit}).measured
    first = measured.advice[0]
    size, axis = int(first.split()[0].replace(",", "")), first.split()[1]
    layer = first.rstrip(".").split()[-1]
    assert hold(smaller(mnist(), layer, axis, size), **{f"max_{measure}": limit}).holds
    assert not hold(smaller(mnist(), layer, axis, size + 1), **{f"max_{measure}": limit}).holds


def test_freezing_and_half_precision_are_told_in_numbers() -> None:
    assert (
        "With conv2d_1 frozen, 16,330 would be trainable."
        in hold(mnist(), max_trainable="20k").measured[0].advice
    )
    assert (
        "With float32 as bfloat16, it would take 69,652."
        in hold(mnist(), max_bytes="100kB").measured[0].advice
    )
    half = replace(mnist(), entries=tuple(replace(e, dtype="bfloat16") for e in mnist().entries))
    assert not any("bfloat16" in advice for advice in hold(half, max_bytes="10kB").measured[0].advice)


def test_a_number_that_is_expected_names_the_layer_that_makes_the_difference() -> None:
    (measured,) = hold(mnist(), expect_params=34_826 - 320).measured
    assert measured.advice == ("conv2d has just as many.",)


def test_a_model_that_is_not_built_cannot_be_told_to_hold() -> None:
    for asked in ({"max_params": 5_000_000}, {"expect_params": 320}, {"max_bytes": "1MB"}):
        (measured,) = hold(unbuilt(), **asked).measured
        assert not measured.holds
        assert measured.unknown == "conv2d_1 and dense are not built"
    assert hold(unbuilt(), min_params=320).holds
    (breach,) = hold(unbuilt(), max_params=300).measured
    assert (breach.holds, breach.excess) == (False, 20)


def test_work_that_cannot_be_told_does_not_hold() -> None:
    mine = ledger(
        "m", (Owner(path="mine", type="Mine", builtin=False), (entry("mine", "w", (3, 4)),)), dense("d", 4, 2)
    )
    (measured,) = hold(mine, max_macs="1G").measured
    assert (measured.figure, measured.holds) == (None, False)
    assert "mine" in measured.unknown


def test_a_type_without_a_size_does_not_hold() -> None:
    words = ledger(
        "m", (Owner(path="d", type="Lookup"), (Entry(path="d/w", owner="d", shape=(3,), dtype="string"),))
    )
    (measured,) = hold(words, max_bytes="1GB").measured
    assert (measured.figure, measured.holds) == (None, False)
    assert "'string'" in measured.unknown


def test_shared_weights_and_what_an_optimizer_keeps_cost_nothing() -> None:
    assert hold(transfer(), expect_params=1_354, expect_trainable=330, expect_bytes=4 * 1_024 + 660).holds


def test_numbers_that_are_not_tracked_are_told() -> None:
    found = hold(naive_linear(), max_params=10)
    assert found.holds
    assert found.untracked == 55
    assert "! 55 numbers act as weights without being tracked" in plain.render(draw(found))


# -- rules for layers --------------------------------------------------------------------------------------------------
def test_a_rule_is_held_against_each_layer_that_matches() -> None:
    found = hold(transfer(), layers={"backbone/*": {"max_params": 500}, "backbone": {"trainable": False}})
    assert [(one.layer, one.figure, one.holds) for one in found.measured] == [
        ("backbone/conv2d", 896, False),
        ("backbone/norm", 128, True),
    ]
    assert [(one.layer, one.holds, one.what) for one in found.asked] == [
        ("backbone", True, "all of it is frozen."),
    ]


def test_a_layer_that_learns_or_does_not_against_a_rule_names_its_weights() -> None:
    (asked,) = hold(transfer(), layers={"dense": {"trainable": False}}).asked
    assert (asked.holds, asked.what) == (False, "330 parameters not frozen: dense/kernel and dense/bias.")
    off = replace(
        transfer(),
        entries=tuple(
            replace(e, frozen_at="train.py:9") if e.state == "frozen" else e for e in transfer().entries
        ),
    )
    (asked,) = hold(off, layers={"backbone/norm": {"trainable": True}}).asked
    assert asked.what == (
        "64 parameters not trainable: backbone/norm/gamma and backbone/norm/beta, switched off at train.py:9."
    )


def test_a_rule_that_guards_nothing_does_not_hold() -> None:
    (asked,) = hold(mnist(), layers={"conv2d_2": {"max_params": 5}}).asked
    assert (asked.layer, asked.holds) == ("conv2d_2", False)
    assert asked.what.startswith("no layer matches. Did you mean 'conv2d")


# -- findings and the lock ---------------------------------------------------------------------------------------------
def test_findings_are_refused_from_a_severity_on() -> None:
    findings = (
        Finding(code="T101", layer="a", what="It draws weights."),
        Finding(code="T301", layer="b", what="It is unused."),
        Finding(code="T401", layer="c", what="It is frozen."),
    )
    for severity, refused in (("error", 1), ("warning", 2), ("note", 3)):
        found = hold(mnist(), findings=findings, no_findings=severity)
        assert len(found.findings) == refused
        assert not found.holds
    assert hold(mnist(), findings=findings[1:], no_findings="error").holds
    assert hold(mnist(), findings=findings, max_params="1M").holds


def test_a_lock_is_kept_by_the_same_model_alone() -> None:
    assert hold(mnist(), lock=lockable(mnist(), "m")).holds
    wider = smaller(mnist(), "dense", "units", 12)
    found = hold(wider, lock=mnist())
    assert not found.holds
    assert found.difference is not None
    assert [change.kind for change in found.difference.changes] == ["resized"]


@pytest.mark.parametrize(
    ("tolerance", "holds"), [(0, False), (3_201, False), (3_202, True), ("9%", False), ("10%", True)]
)
def test_a_lock_may_leave_some_room(tolerance: Any, holds: bool) -> None:
    wider = smaller(mnist(), "dense", "units", 12)  # 3,202 more, 9.2 %
    assert hold(wider, lock=mnist(), tolerance=tolerance).holds is holds


def test_a_lock_changes_only_when_the_model_does(tmp_path: Path) -> None:
    path = str(tmp_path / "model.lock.json")
    texts: list[str] = []
    for line, name in (("a.py:1", "m"), ("a.py:2", "m_1")):
        moved = replace(
            transfer(),
            name=name,
            owners=tuple(replace(o, name=f"{o.name}_{name}", origin=line) for o in transfer().owners),
            entries=tuple(replace(e, origin=line) for e in transfer().entries),
        )
        write_lock(moved, path, "models.py:make")
        texts.append(Path(path).read_text())
    assert texts[0] == texts[1]
    assert [file.name for file in tmp_path.iterdir()] == ["model.lock.json"]
    assert hold(transfer(), lock=read_lock(path)).holds


def test_a_lock_that_is_missing_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"There is no lock at .*; write one with tally check TARGET --lock .* --update"
    ):
        read_lock(str(tmp_path / "none.json"))


# -- what is drawn -----------------------------------------------------------------------------------------------------
CHECKS = {
    "breach": lambda: hold(mnist(), max_params="30k", max_trainable="20k", max_bytes="100kB", max_macs="2M"),
    "holds": lambda: hold(mnist(), max_params="40k", expect_params=34_826, min_trainable=1),
    "unbuilt": lambda: hold(unbuilt(), max_params="5M", max_macs="5M"),
    "layers": lambda: hold(
        transfer(),
        layers={
            "backbone/*": {"max_params": 500},
            "dense": {"trainable": False},
            "backbone": {"trainable": False},
            "tail": {"max_bytes": "1kB"},
        },
    ),
    "lock": lambda: hold(smaller(mnist(), "dense", "units", 12), lock=mnist()),
    "tolerance": lambda: hold(smaller(mnist(), "dense", "units", 12), lock=mnist(), tolerance="10%"),
    "findings": lambda: hold(
        mnist(),
        no_findings="error",
        findings=(
            Finding(
                code="T101",
                layer="dense",
                what="It draws weights.",
                fix="Make them in build.",
                where="a.py:3:8",
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_is_drawn(name: str) -> None:
    compare(f"check_{name}.txt", plain.render(draw(CHECKS[name]())))


def test_a_check_is_written_for_a_pull_request() -> None:
    compare("check_breach.md", markdown.render(draw(CHECKS["breach"]())))


def test_a_check_as_data_has_all_of_it() -> None:
    read = json.loads(CHECKS["breach"]().to_json())
    assert " ".join(read) == (
        "schema_version kind name holds limits layers findings followed lock tolerance untracked"
    )
    assert (read["kind"], read["holds"]) == ("check", False)
    assert [limit["name"] for limit in read["limits"]] == [
        "max-params",
        "max-trainable",
        "max-bytes",
        "max-macs",
    ]
    assert read["limits"][0]["parts"][0]["path"] == "conv2d_1"
    assert json.loads(CHECKS["lock"]().to_json())["lock"]["changes"][0]["kind"] == "resized"
    assert repr(CHECKS["breach"]()) == "<Check of 'mnist': does not hold>"


# -- live models -------------------------------------------------------------------------------------------------------
class Product(tally.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], 3), name="w")

    def call(self, x):
        return x @ self.w.value


def test_a_live_models_work_is_found_by_following_a_call() -> None:
    model = tally.Sequential([tally.Input((4,)), Product()])
    found = tally.check(model, expect_macs=12, print_fn=lambda text: None)
    assert found.holds


def test_a_live_model_is_diagnosed_where_that_is_asked() -> None:
    inputs = tally.Input((4,))
    model = tally.Model(inputs, layers.Dense(1, activation="softmax", name="head")(inputs))
    told: list[str] = []
    assert not tally.check(model, no_findings="error", print_fn=told.append).holds
    assert "T501" in told[0]
    assert tally.check(model, max_params=5, print_fn=told.append).holds


def test_a_ledger_can_be_diagnosed_only_in_part() -> None:
    told: list[str] = []
    assert tally.check(mnist(), no_findings="error", print_fn=told.append).holds
    assert "No call could be followed" in told[0]


def test_a_live_model_is_held_against_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "model.lock.json"
    write_lock(tally.account(tally.Sequential([tally.Input((4,)), layers.Dense(3)])), str(path), "m")
    again = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    assert tally.check(again, lock=path, print_fn=lambda text: None).holds


def test_to_ask_nothing_is_an_error() -> None:
    model = tally.Sequential([tally.Input((4,)), layers.Dense(3)])
    with pytest.raises(ArgumentError, match="There is nothing to check"):
        tally.check(model)
    with pytest.raises(
        ValueError, match=r"tally\.check: 'max-parms' is unknown\. Did you mean 'max-params'\?"
    ):
        tally.check(model, max_parms=3)
