"""The fixture `tally_budget`: a test fails with the layer to look at, and pytest never waits for JAX."""

import tomllib
from pathlib import Path

import pytest

import tally
from tally import layers
from tally.core.errors import ArgumentError

ROOT = Path(__file__).parent.parent
pytest_plugins = ["pytester"]


def small() -> tally.Model:
    return tally.Sequential([tally.Input((4,)), layers.Dense(3, name="body")], name="small")


def test_a_model_within_its_budget_passes(tally_budget):
    found = tally_budget(small(), max_params="1k", expect_macs=12)
    assert found.holds
    assert [measured.figure for measured in found.measured] == [15, 12]


def test_a_model_beyond_its_budget_fails_with_the_layer_to_look_at(tally_budget, capsys):
    with pytest.raises(pytest.fail.Exception) as caught:
        tally_budget(small(), max_params=12)
    told = str(caught.value)
    assert told.startswith("Budget of small: does not hold\n")
    assert "✗ 15 parameters: 3 too many, at most 12 asked." in told
    assert "Look first at body (Dense): 3 × (4 + 1) = 15." in told
    assert capsys.readouterr().out == ""


def test_a_limit_that_nothing_is_known_of_is_an_error(tally_budget):
    with pytest.raises(ValueError, match="Did you mean 'max-params'"):
        tally_budget(small(), max_parms=12)
    with pytest.raises(ArgumentError, match="There is nothing to check"):
        tally_budget(small())


def test_a_run_of_pytest_does_not_wait_for_jax(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_without(request):
            assert request.config.pluginmanager.has_plugin("tally")
            assert not {"jax", "numpy"} & set(sys.modules)

        def test_with(tally_budget):
            from tally.accounting import Entry, Ledger, Owner

            kernel = Entry(path="d/kernel", owner="d", shape=(4, 3))
            ledger = Ledger(name="m", owners=(Owner(path="d", type="Dense"),), entries=(kernel,))
            tally_budget(ledger, max_params=10)
        """
    )
    ran = pytester.runpytest_subprocess(
        "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:jaxtyping"
    )
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*12 parameters: 2 too many, at most 10 asked.*"])


def test_the_plugin_and_the_hook_are_where_others_look_for_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"tally": "tally.pytest_plugin"}
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert "- id: tally-check\n" in hook
    assert "  entry: tally check\n" in hook
    assert "  pass_filenames: false\n" in hook
