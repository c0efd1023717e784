"""What is told of weights that were loaded from elsewhere: each with its source, and what is left with the reason."""

from typing import Any

import numpy as np
import pytest

import tally
from tally.saving.outcome import Match, Report

L = tally.layers


def state(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name.replace("__", "."): np.zeros(shape, "float32") for name, shape in shapes.items()}


def make() -> Any:
    return tally.Sequential([tally.Input((4,)), L.Dense(3, name="body"), L.Dense(9, name="head")], name="net")


def test_a_full_match_says_so() -> None:
    given = state(body__weight=(3, 4), body__bias=(3,), head__weight=(9, 3), head__bias=(9,))
    text = str(make().load_weights(given))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][-5:] == ["4", "of", "4", "weights", "set"]
    assert ["body/kernel", "(4,", "3)", "body.weight", "transposed"] in lines
    assert text.endswith("Every weight is set, and nothing that a layer could take is left over.")


def test_what_got_nothing_and_what_went_nowhere_have_tables_of_their_own() -> None:
    given = state(body__weight=(3, 4), body__bias=(3,), head__weight=(2, 3), head__bias=(2,))
    with pytest.warns(UserWarning, match="Left as they were"):
        report = make().load_weights(given, skip_mismatch=True)
    assert repr(report) == "<LoadingReport: 2 of 4 weights set>"
    text = str(report)
    assert (
        text.index("body/bias") < text.index("Not set") < text.index("head/kernel") < text.index("Not used")
    )
    assert "Every weight is set" not in text
    assert max(map(len, text.splitlines())) <= 88


def test_the_report_is_shown_and_written_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    given = state(a__weight=(3, 4), a__bias=(3,), b__weight=(9, 3), b__bias=(9,))
    report = make().load_weights(given, name_map={"a": "body", "b": "head"})
    report.show()
    assert capsys.readouterr().out.rstrip() == str(report)
    assert "| body/kernel | (4, 3) | a.weight |" in report.to_markdown()
    assert "a.weight" in report._repr_html_()


def test_a_long_report_counts_what_it_leaves_out() -> None:
    from tally.models.verbs.loading import LoadingReport

    matched = tuple(Match(path=f"l{n}/kernel", shape=(2,), sources=(f"w{n}",)) for n in range(100))
    text = str(LoadingReport.of(Report(source="x.pt", model="net", matched=matched)))
    assert "and 60 more" in text
    assert len(text.splitlines()) < 50
