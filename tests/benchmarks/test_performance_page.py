"""The page about performance: what it says of made-up results, and that the kept page is made of the kept results."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.markdown import figure, table
from benchmarks.race import telling
from benchmarks.sections import SECTIONS, Column, Section

from benchmarks import __main__ as everything
from benchmarks import report

GOLDEN = Path(__file__).parent / "golden" / "performance.md"
MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "memory": 8 * 2**30,
    "system": "A system",
    "python": "3.11.7",
    "load": 0.25,
    "versions": {"jax": "1.2", "keras": "3.4"},
}


def _record(
    contestant: str, wall: list[float], mode: str = "train", workload: str = "mnist"
) -> dict[str, Any]:
    return {
        **{"workload": workload, "mode": mode, "contestant": contestant, "batch": 128, "steps": 10},
        **{"wall": wall, "cpu": [2 * seconds for seconds in wall], "faults": [20] * len(wall)},
        **{"foreign": [0.01, 0.02, 0.3], "resting": [0.0, 0.001, 0.5], "first_cpu": 1.25, "imported": 0.5},
        **{"losses": [2.5, 1.25, 0.5, 0.25] if mode == "train" else [], "peak": 250_000_000},
    }


def _results() -> dict[str, Any]:
    records = [
        {
            "workload": "mnist",
            "mode": "train",
            "contestant": "torch-compile",
            "absent": "there is no compiler",
        },
        _record("tally", [0.2, 0.2, 0.4]),
        _record("keras-tensorflow", [0.18, 0.18, 0.36]),
        _record("keras-jax", [0.8, 0.7, 0.9]),
        _record("torch", [0.19, 0.2, 0.42]),
        _record("tally", [0.1, 0.1, 0.1], "predict"),
        _record("keras-jax", [0.3, 0.2, 0.2], "predict"),
        _record("torch", [0.15, 0.15, 0.15], "predict"),
        _record("tally", [0.1, 0.1, 0.1], workload="tiny"),
        _record("keras-jax", [0.4, 0.4, 0.4], workload="tiny"),
    ]
    race = {"machine": MACHINE, "rounds": 3, "problems": ["tiny: torch:\nTraceback"], "records": records}
    account = {"machine": MACHINE | {"load": 1.5}, "command": "python -m benchmarks.account"}
    return {"race": race, "account": account | {"records": [{"model": "small", "account_seconds": 0.0123}]}}


def test_the_page_of_made_up_results_looks_as_it_did() -> None:
    page = report.write(_results())
    if os.environ.get("TALLY_UPDATE_GOLDENS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(page, encoding="utf-8")
    assert page == GOLDEN.read_text(encoding="utf-8")


def test_the_kept_page_is_what_the_kept_results_make() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.write(report.read(report.RESULTS))


def test_a_peer_is_ahead_only_if_three_quarters_of_the_rounds_say_so() -> None:
    standings = telling.compare(_results()["race"]["records"])
    found = [(one.workload, one.mode, one.peer, one.verdict) for one in standings]
    assert found == [
        ("mnist", "train", "keras-tensorflow", "ahead"),
        ("mnist", "train", "keras-jax", "behind"),
        ("mnist", "train", "torch", "level"),
        ("mnist", "predict", "keras-jax", "behind"),
        ("mnist", "predict", "torch", "behind"),
        ("tiny", "train", "keras-jax", "behind"),
    ]


def test_without_tally_nothing_is_compared_and_figures_stand() -> None:
    results = {
        "race": {"machine": MACHINE, "rounds": 3, "problems": [], "records": [_record("torch", [0.1, 0.2])]}
    }
    assert telling.compare(results["race"]["records"]) == []
    page = report.write(results)
    assert "In short" not in page
    assert "| PyTorch | 15.0 | 10.0 | – | – | 30.0 | – | 2 |" in page


def test_a_page_without_results_has_no_figures_and_says_so() -> None:
    page = report.write({})
    assert "Not measured yet: `make bench` does it." in page
    assert "Not measured, for want of one" in page
    assert "|" not in page


def test_results_of_another_machine_say_whose_they_are() -> None:
    results = _results()
    results["account"]["machine"] = MACHINE | {"cores": 64}
    page = report.write(results)
    assert "## The machine of race" in page
    assert "## The machine of account" in page


def test_a_section_shows_its_columns_and_otherwise_all_keys() -> None:
    results = {"command": "python x", "records": [{"a": 1, "b_c": 2.5e6}, {"a": 2, "d": "word"}]}
    plain = Section(name="x", title="X", sentence="It is x.")
    assert plain.tell(results)[4:8] == [
        "| a | b c | d |",
        "|---:|---:|---|",
        "| 1 | 2,500,000 | – |",
        "| 2 | – | word |",
    ]
    chosen = Section(
        name="x", title="X", sentence="It is x.", columns=(Column("b_c", "MB", 1e6),), plots=("x.svg",)
    )
    assert chosen.tell(results)[4:] == [
        *("| MB |", "|---:|", "| 2.50 |", "| – |", ""),
        *("![x.svg](x.svg)", "", "`python x`"),
    ]


def test_a_section_without_results_is_left_out_unless_that_is_to_be_said() -> None:
    assert Section(name="x", title="X", sentence="It is x.").tell(None) == []
    assert Section(name="x", title="X", sentence="It is x.", missing="Not measured.").tell(None) == [
        *("## X", "", "Not measured.")
    ]


def test_sections_have_a_script_each_and_end_their_sentences() -> None:
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    assert all(section.sentence.endswith(".") for section in SECTIONS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-12.34, "-12.3"),
        (99.96, "100.0"),
        (1e9, "1,000,000,000"),
        (2.5e-4, "0.00025"),
        (7, "7"),
    ],
)
def test_figures_have_three_digits_or_thousands(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_column_of_words_stands_left_and_one_of_figures_right() -> None:
    assert table(["a", "b", "c"], [["x", "**0.9**", "≈1.0"], ["y", "–", "2"]])[1] == "|---|---:|---:|"


def test_kept_results_say_how_they_came_about() -> None:
    assert everything.keep([{"a": 1}], {"cores": 2}, "python -m x") == {
        **{"machine": {"cores": 2}, "command": "python -m x", "records": [{"a": 1}]}
    }
    own = {"machine": {"cores": 8}, "records": [], "rounds": 3}
    assert everything.keep(own, {"cores": 2}, "python -m x") == own | {"command": "python -m x"}


def test_a_benchmark_that_gives_nothing_leaves_what_was_kept(tmp_path, monkeypatch) -> None:
    kept = tmp_path / "machine.json"
    kept.write_text(json.dumps({"records": []}))
    assert not everything.run("no_such_benchmark", (), tmp_path)
    assert everything.run("machine", (), tmp_path)  # it runs, and writes nothing
    assert json.loads(kept.read_text()) == {"records": []}
