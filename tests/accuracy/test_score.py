"""The score itself: a wrong code, line or layer, an alarm nobody planted, and a failure are each complained of."""

from types import SimpleNamespace
from typing import Any

import pytest

from .registry import MARK, Case, load, marked_lines
from .score import Result, measures, table


def planted(**changed: Any) -> Case:
    options = {
        "name": "family/case",
        "kind": "mistake",
        "build": dict,
        "codes": ("T101",),
        "layers": ("dense",),
    }
    return Case(**{**options, "file": "models.py", "lines": frozenset({12, 13}), **changed})


def found(
    code: str = "T101", layer: str = "dense", where: str = "models.py:12", severity: str = "error"
) -> Any:
    return SimpleNamespace(code=code, layer=layer, where=where, severity=severity)


@pytest.mark.parametrize("where", ["models.py:12", "models.py:13:8", "/some/place/models.py:12:1"])
def test_the_right_code_layer_and_line_are_right(where: str) -> None:
    assert Result(case=planted(), findings=(found(where=where),)).is_right


@pytest.mark.parametrize(
    ("findings", "complaint"),
    [
        ((), "T101 is not found among []"),
        ((found(code="T102"),), "T101 is not found"),
        ((found(severity="note"),), "T101 is not found"),
        ((found(where="models.py:14"),), "the line is models.py:12 or models.py:13"),
        ((found(where="others.py:12"),), "the line is"),
        ((found(where=""),), "the line is"),
        ((found(layer="dense_1"),), "the layer is 'dense', not"),
        ((found(), found(code="T303")), "nobody planted [T303 error"),
    ],
)
def test_anything_else_is_complained_of(findings: tuple[Any, ...], complaint: str) -> None:
    assert complaint in Result(case=planted(), findings=findings).complaint


def test_one_of_several_findings_may_be_the_right_one() -> None:
    findings = (found(where="models.py:99", layer="other"), found())
    assert Result(case=planted(), findings=findings).is_right


def test_what_may_come_out_beside_a_mistake_is_no_alarm() -> None:
    findings = (found(), found(code="T201", severity="warning"), found(code="T401", severity="note"))
    assert Result(case=planted(also=frozenset({"T201"})), findings=findings).is_right


def test_a_correct_model_may_have_notes_and_nothing_else() -> None:
    case = planted(kind="correct", codes=())
    assert Result(case=case, findings=(found(severity="note"),)).is_right
    assert "nobody planted" in Result(case=case, findings=(found(severity="warning"),)).complaint


def test_a_note_must_be_there_and_brings_no_alarm() -> None:
    case = planted(kind="note", codes=("T401",), layers=None, lines=frozenset())
    assert Result(case=case, findings=(found(code="T401", severity="note"),)).is_right
    assert not Result(case=case, findings=()).is_right


def test_a_failure_is_complained_of_whatever_was_expected() -> None:
    assert (
        "diagnose failed: KeyError"
        in Result(case=planted(kind="correct", codes=()), failure="KeyError").complaint
    )


def test_precision_and_recall_count_cases() -> None:
    correct = planted(kind="correct", codes=())
    results = [
        Result(case=planted(), findings=(found(),)),
        Result(case=planted(), findings=()),
        Result(case=correct, findings=(found(), found())),
        Result(case=correct),
    ]
    text = measures(results)
    assert "found: 1 of 2 (recall 0.500)" in text
    assert "correct models with an alarm: 1 of 2" in text
    assert "precision: 0.500" in text
    assert table(results).splitlines()[1].split() == ["T101", "2", "1", "1", "0", "0", "0", "0"]


ELSEWHERE = 2  # <- here


def test_marks_are_read_from_functions_and_from_names_of_the_module() -> None:
    def build() -> None:
        pass  # <- here

    first = build.__code__.co_firstlineno
    assert marked_lines(build, build) == [first + 1]
    (line,) = marked_lines("ELSEWHERE", build)
    assert line < first
    assert MARK == "# <- here"


def test_every_code_that_warns_has_three_cases() -> None:
    from tally.accounting.finding import KINDS

    wanted = {code for code, kind in KINDS.items() if kind.severity != "note"}
    counts = {
        code: sum(case.code == code and case.kind == "mistake" for case in load().values()) for code in wanted
    }
    assert min(counts.values()) >= 3, counts
