"""A little of `make fuzz`, the same files each time; and that it would notice what it looks for."""

import os
import signal
from pathlib import Path

import pytest
from tests.fuzz import work
from tests.fuzz.run import chosen, run, table
from tests.fuzz.targets import Seed, Target, targets
from tests.fuzz.work import Score, Workshop, broken, minimised

from tally.formats.errors import BadFileError

READERS = [name for name, target in targets().items() if not target.engine]
LOADERS = [name for name, target in targets().items() if target.engine]


@pytest.mark.parametrize("name", READERS)
def test_broken_files_give_an_account_or_the_one_error(name: str, tmp_path: Path) -> None:
    inputs = 60 if name in ("orbax", "tensorflow") else 200  # their files are folders, and larger
    score = run(targets()[name], seed=0, inputs=inputs, seconds=60, failures=tmp_path)
    assert score.failures == []
    assert score.tried == inputs
    assert score.accepted + score.refused == inputs
    assert score.accepted >= len(targets()[name].seeds)  # those that come first and aren't broken


@pytest.mark.parametrize("name", LOADERS)
def test_broken_models_are_loaded_or_refused(name: str, tmp_path: Path) -> None:
    score = run(targets()[name], seed=0, inputs=100, seconds=60, failures=tmp_path)
    assert score.failures == []
    assert score.tried == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", [*READERS, *LOADERS])
def test_many_broken_files_give_an_account_or_an_error(name: str, tmp_path: Path) -> None:
    score = run(targets()[name], seed=1, inputs=5_000, seconds=60, failures=tmp_path)
    assert score.failures == []


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in (Path(__file__).parent / "corpus").rglob("*") if path.is_file()]
    assert sum(sizes) < 2**20
    assert max(sizes) < 2**15


def test_the_same_numbers_break_the_same_files() -> None:
    target = targets()["any file"]
    first, second = ([broken(target, 3, number) for number in range(200)] for _ in range(2))
    assert first == second
    assert first != [broken(target, 4, number) for number in range(200)]


def test_a_reader_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="There is no reader 'gif'; choose from huggingface"):
        chosen(["gif"])
    assert [target.name for target in chosen(["gguf"])] == ["gguf"]


# -- that it notices -----------------------------------------------------------------------------------------


def planted(read: object) -> Target:
    return Target("planted", read, (BadFileError,), (Seed("a.bin", {"a.bin": bytes(range(256))}, "a.bin"),))  # pyright: ignore


def attempt(read: object, tmp_path: Path) -> str:
    target = planted(read)
    shop = Workshop(tmp_path, target)
    return shop.read(target.seeds[0], {"a.bin": b"broken"})


def test_an_error_of_another_kind_is_a_crash(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        {}[path.read_bytes()]

    assert attempt(read, tmp_path).startswith("crash: KeyError: \"b'broken'\" at test_fuzz.py:")


def test_the_one_error_is_an_answer_and_an_account_is_one(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise BadFileError(path, "is broken")

    assert attempt(refuse, tmp_path) == "refused"
    assert attempt(lambda path: None, tmp_path) == "accepted"


def test_the_file_is_whole_again_after_it_was_read(tmp_path: Path) -> None:
    attempt(lambda path: None, tmp_path)
    assert (tmp_path / "0" / "a.bin").read_bytes() == bytes(range(256))


def test_what_never_ends_is_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(work, "SECONDS", 0.05)
    before = [signal.signal(clock, work._overdue) for clock in (signal.SIGPROF, signal.SIGALRM)]
    try:
        assert attempt(read, tmp_path).startswith("hang: at test_fuzz.py:")
    finally:
        for clock, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(clock, handler)


def test_memory_that_grows_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter((100, 60 * 2**20))
    monkeypatch.setattr(work, "_peak", lambda: next(sizes))
    assert attempt(lambda path: None, tmp_path) == "memory: grew by 62,914,460 bytes; accepted"


def test_a_failure_is_shown_by_a_shorter_file(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        if 77 in path.read_bytes():
            raise IndexError

    target = planted(read)
    shop = Workshop(tmp_path, target)
    answer = shop.read(target.seeds[0], {"a.bin": bytes(range(200))})
    assert minimised(shop, target.seeds[0], {"a.bin": bytes(range(200))}, answer) == {"a.bin": bytes([77])}


def test_a_process_that_dies_is_a_failure_and_the_rest_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fuzz import run as running

    calls: list[int] = []

    def process(task: dict[str, int]) -> tuple[Score | None, int, str]:
        calls.append(task["start"])
        if task["start"] == 0:
            return None, 6, "exit code -11: "
        return Score("gguf", tried=task["stop"] - task["start"], refused=task["stop"] - task["start"]), 9, ""

    monkeypatch.setattr(running, "_process", process)
    score = run(targets()["gguf"], 0, 10, 1, tmp_path)
    assert calls == [0, 7]
    assert (score.tried, score.refused) == (10, 3)
    assert score.failures[0]["what"] == "died: exit code -11: "
    assert Path(score.failures[0]["file"]).is_file()


def test_a_process_that_can_not_start_is_no_failure_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fuzz import run as running

    monkeypatch.setattr(running, "_environment", lambda: {**os.environ, "PYTHONPATH": str(tmp_path)})
    monkeypatch.setattr(running, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="can't start"):
        run(targets()["gguf"], 0, 10, 1, tmp_path)


def test_the_table_has_a_line_for_each_reader_and_the_failures_below() -> None:
    failure = {"what": "hang: at zip.py:3", "number": 7, "file": "build/fuzz/x"}
    scores = [Score("gguf", 1_000, 300, 699, 0.25, 3 * 2**20, [failure]), Score("onnx", 10, 0, 10)]
    assert "\n".join(table(scores)) == (
        "reader             inputs   accepted    refused  failed   slowest    memory\n"
        "gguf                1,000        300        699       1    250 ms    3.0 MB\n"
        "onnx                   10          0         10       0      0 ms    0.0 MB\n"
        "all                 1,010\n"
        "\ngguf, input 7: hang: at zip.py:3\n  kept as build/fuzz/x"
    )
