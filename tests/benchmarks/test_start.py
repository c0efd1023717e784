"""The measurement of starting: what is run, and how a record follows from its runs."""

from benchmarks.start import Case, Run

from benchmarks import start


def test_what_is_run_after_something_else_tells_what_it_took_itself():
    case = Case("group", "name", ("-c", "x = 1"), "import json")
    assert start._told(case)[1].splitlines() == [
        "import json",
        "import time",
        "began = time.process_time()",
        "x = 1",
        "print(time.process_time() - began)",
    ]
    assert start._told(Case("group", "name", ("-m", "this"))) == ("-m", "this")


def test_a_record_has_the_least_of_all_runs():
    alone, more = Case("a", "alone", ()), Case("a", "more", (), over="alone")
    after = Case("a", "after", (), "import jax")
    found = {
        alone: [Run(0.3, None, 0.9), Run(0.1, None, 0.5)],
        more: [Run(0.6, None, 2.0), Run(0.8, None, 1.0), Run(0.7, None, 3.0)],
        after: [Run(2.0, 0.4, 2.5), Run(2.5, 0.2, 2.4)],
    }
    record = start._record(more, found)
    assert {
        key: record[key] for key in ("cpu_s", "cpu_median_s", "wall_s", "own_cpu_s", "after", "rounds")
    } == {
        "cpu_s": 0.6,
        "cpu_median_s": 0.7,
        "wall_s": 1.0,
        "own_cpu_s": 0.5,
        "after": "alone",
        "rounds": 3,
    }
    assert (start._record(after, found)["own_cpu_s"], start._record(after, found)["after"]) == (
        0.2,
        "import jax",
    )
    assert start._record(alone, found)["own_cpu_s"] is None
    lines = start.table([start._record(case, found) for case in found])
    assert lines[1].split() == ["a,", "ms", "CPU", "median", "wall", "own", "after"]
    assert lines[3].split() == ["more", "600", "700", "1,000", "500", "alone"]


def test_every_case_that_is_compared_has_something_to_be_compared_with():
    names = {(case.group, case.name) for case in start.CASES}
    assert len(names) == len(start.CASES)
    assert all((case.group, case.over) in names for case in start.CASES if case.over)


def test_a_case_is_run_and_timed(tmp_path):
    case = Case("group", "name", ("-c", "sum(range(10))"), "pass")
    taken = start.run(case, tmp_path, tmp_path / "ledger.json", 1)
    assert taken.own is not None
    assert 0 <= taken.own < taken.cpu + 1e-3 + taken.wall
