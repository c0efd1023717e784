"""A run of `fit` that was killed goes on to the bits that it would have come to."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tally
from saving.resumed import CASES, Numbered
from tally import callbacks
from tally.core.errors import NonFiniteError, SavingError
from tally.training.data import adapt

TESTS = Path(__file__).parent.parent
QUICK = "by batches"
X, Y = np.arange(40.0, dtype="float32").reshape(20, 2), np.ones((20, 1), "float32")


def kill(*names: str) -> dict[str, int]:
    program = [sys.executable, str(TESTS / "saving" / "resumed.py"), *names]
    done = subprocess.run(program, capture_output=True, text=True, cwd=TESTS, env=_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    import os

    paths = [str(TESTS), str(Path(tally.__file__).parent.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_a_killed_run_goes_on_to_the_same_bits() -> None:
    assert kill(QUICK) == {QUICK: len(CASES[QUICK].kills)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != QUICK])
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(name: str) -> None:
    assert kill(name) == {name: len(CASES[name].kills)}


def small(rate: float = 0.1) -> Any:
    model = tally.Sequential([tally.Input((2,)), tally.layers.Dropout(0.2), tally.layers.Dense(1)])
    model.compile(tally.optimizers.SGD(rate), "mae")
    return model


def stop_at(epoch: int, batch: int | None = None) -> Any:
    now = -1

    def begin(number: int, logs: Any) -> None:
        nonlocal now
        now = number
        if batch is None and number == epoch:
            raise KeyboardInterrupt

    def end(number: int, logs: Any) -> None:
        if (now, number) == (epoch, batch):
            raise KeyboardInterrupt

    return callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=end)


def break_off(folder: Path, epoch: int, batch: int | None = None, **options: Any) -> None:
    keeping = callbacks.BackupAndRestore(folder, **options)
    with pytest.raises(KeyboardInterrupt):
        small().fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[keeping, stop_at(epoch, batch)])


def go_on(folder: Path, *others: Any, **options: Any) -> Any:
    keeping = callbacks.BackupAndRestore(folder, **options)
    return small().fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[keeping, *others])


def played(source: Any, epochs: int, done: int = 0) -> Iterator[tuple[Any, Any]]:
    """Each batch of so many epochs, and what tells another process to go on after it."""
    for epoch in range(epochs):
        for batch in source.batches():
            done += 1
            at = source.whereabouts(done % source.steps)
            left = epochs - epoch - (done == source.steps)
            state = at, left, tally.core.random.global_state(), np.random.get_state()
            yield [np.asarray(leaf).tolist() for leaf in batch if leaf is not None], state
        done = 0


def endless() -> Iterator[Any]:
    number = 0
    while True:
        yield X[number % 5 : number % 5 + 2], Y[:2]
        number += 1


class Batches:
    """Gives its batches as often as it is asked."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(X[:4], Y[:4]), (X[4:8], Y[4:8]), (X[8:], Y[8:])])

    def __len__(self) -> int:
        return 3


SOURCES: dict[str, Callable[[], Any]] = {
    "arrays": lambda: adapt(X, Y, batch_size=4, shuffle=True),
    "arrays, short epochs": lambda: adapt(X, Y, batch_size=5, steps_per_epoch=2, shuffle=True),
    "arrays in their order": lambda: adapt(X, Y, batch_size=4, steps_per_epoch=5),
    "shuffled within batches": lambda: adapt(X, Y, batch_size=4, shuffle="batch"),
    "a dataset": lambda: adapt(Numbered(), shuffle=True),
    "a dataset, short epochs": lambda: adapt(Numbered(), shuffle=True, steps_per_epoch=5),
    "a generator": lambda: adapt(endless(), steps_per_epoch=4),
    "batches": lambda: adapt(Batches()),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("is_peeked", [False, True])
def test_data_go_on_from_every_place(name: str, is_peeked: bool) -> None:
    def begin(seed: int) -> Any:
        tally.utils.set_random_seed(seed)
        source = SOURCES[name]()
        if is_peeked:
            source.peek()
        return source

    whole = list(played(begin(5), 3))
    assert len(whole) > 5
    for number, (_, (at, left, random, noise)) in enumerate(whole, 1):
        source = begin(6)
        source.go_on(json.loads(json.dumps(at)))
        tally.core.random.set_global_state(*random)
        np.random.set_state(noise)
        rest = [batch for batch, _ in played(source, left, at["done"])]
        assert rest == [batch for batch, _ in whole[number:]], number


def test_a_backup_names_its_place_and_leaves_nothing_of_those_before(tmp_path: Path) -> None:
    break_off(tmp_path, 2, 3, save_freq=2)
    about = json.loads((tmp_path / "training_metadata.json").read_text())
    assert about == {"epoch": 2, "batch": 2, "number": 6}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "6.run.bin",
        "6.weights.h5",
        "training_metadata.json",
    ]


def test_the_history_is_that_of_the_whole_run(tmp_path: Path) -> None:
    break_off(tmp_path, 2)
    history = go_on(tmp_path)
    assert history.epoch == [0, 1, 2, 3]
    assert len(history.history["loss"]) == 4
    assert not tmp_path.exists()


def rows_in(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("is_appended", [False, True])
def test_the_rows_of_a_run_that_goes_on_are_those_of_the_whole_run(tmp_path: Path, is_appended: bool) -> None:
    whole, log = tmp_path / "whole.csv", tmp_path / "log.csv"
    for path in (whole, log) if is_appended else ():  # another run's, of more epochs
        small().fit(X, Y, epochs=6, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    earlier = rows_in(log) if is_appended else []
    small().fit(
        X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[callbacks.CSVLogger(whole, append=is_appended)]
    )
    keeping = callbacks.BackupAndRestore(tmp_path / "kept", save_freq=12)  # not where an epoch ends
    with pytest.raises(KeyboardInterrupt):
        small().fit(
            X,
            Y,
            batch_size=4,
            epochs=4,
            verbose=0,
            callbacks=[callbacks.CSVLogger(log, append=is_appended), keeping, stop_at(3, 2)],
        )
    with log.open("a") as file:
        file.write("3,0.12")  # the row that a process was writing when it was killed
    go_on(tmp_path / "kept", callbacks.CSVLogger(log, append=is_appended), save_freq=12)
    found = rows_in(log)
    assert [row[0] for row in found[len(earlier) :]] == [*([] if is_appended else ["epoch"]), *"0123"]
    assert [row[0] for row in found] == [row[0] for row in rows_in(whole)]
    assert found[: len(earlier)] == earlier


def test_a_log_that_is_only_appended_to_loses_no_row(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    model = small()
    for first, last in ((0, 3), (1, 3), (3, 5)):
        model.fit(
            X,
            Y,
            initial_epoch=first,
            epochs=last,
            verbose=0,
            callbacks=[callbacks.CSVLogger(log, append=True)],
        )
    assert [row[0] for row in rows_in(log)] == ["epoch", *"0121234"]


def test_a_checkpoint_drops_only_the_rows_of_the_run_that_it_is_from(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    keeping = callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    for _ in range(2):
        logging = callbacks.CSVLogger(log, append=True)
        small().fit(X, Y, epochs=4, verbose=0, callbacks=[logging, keeping])
    before = rows_in(log)
    loaded = tally.saving.load_model(tmp_path / "2.keras")
    loaded.fit(X, Y, initial_epoch=2, epochs=4, verbose=0, callbacks=[callbacks.CSVLogger(log, append=True)])
    found = rows_in(log)
    assert [row[0] for row in found] == ["epoch", *"01230123"]
    assert found[:7] == before[:7]


def test_what_a_callback_of_ones_own_keeps_is_handed_back(tmp_path: Path) -> None:
    class Count(callbacks.Callback):
        kept = ("seen", "sums")

        def __init__(self) -> None:
            self.seen, self.sums = 0, {("a", 1): [np.zeros(2)]}

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seen += 1
            self.sums["a", 1][0] += 1

    keeping = callbacks.BackupAndRestore(tmp_path)
    first, second = Count(), Count()
    with pytest.raises(KeyboardInterrupt):
        small().fit(X, Y, epochs=4, verbose=0, callbacks=[keeping, first, stop_at(3)])
    small().fit(X, Y, epochs=4, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path), second])
    assert second.seen == 4
    assert second.sums["a", 1][0].tolist() == [4.0, 4.0]


def test_what_can_not_be_kept_is_said(tmp_path: Path) -> None:
    class Holds(callbacks.Callback):
        kept = ("thing",)
        thing = object()

    with pytest.warns(UserWarning, match=r"Holds\.thing can't be kept in a backup: it is a object"):
        small().fit(X, Y, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path), Holds()])


@pytest.mark.parametrize("spoilt", ["weights.h5", "run.bin"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_spoilt_backup_is_an_error_or_the_one_before_is_taken(
    spoilt: str, is_cut: bool, tmp_path: Path
) -> None:
    for double in (True, False):
        break_off(tmp_path / str(double), 3, double_checkpoint=double)
        part = tmp_path / str(double) / f"3.{spoilt}"
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2] if is_cut else b"")
    begun: list[int] = []
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    go_on(tmp_path / "True", watch, double_checkpoint=True)
    assert begun == [2, 3]
    with pytest.raises(SavingError, match=r"is cut off|can't be read|neither an HDF5"):
        go_on(tmp_path / "False")


def test_flipped_bits_in_what_is_kept_of_a_run_give_one_kind_of_error(tmp_path: Path) -> None:
    break_off(tmp_path, 1, 3, save_freq=1)
    part = tmp_path / "8.run.bin"
    data, generator = part.read_bytes(), np.random.default_rng(1)
    outcomes = set()
    for _ in range(30):
        spoilt = bytearray(data)
        spoilt[
            int(generator.integers(len(data)) if generator.random() < 0.5 else generator.integers(200))
        ] ^= 1 << int(generator.integers(8))
        part.write_bytes(spoilt)
        keeping = callbacks.BackupAndRestore(tmp_path, save_freq=1, delete_checkpoint=False)
        halt = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / 0)
        with pytest.raises((SavingError, ZeroDivisionError)) as caught:
            small().fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[halt, keeping])
        outcomes.add(caught.type)
    assert outcomes == {SavingError, ZeroDivisionError}


def test_data_cut_otherwise_begin_the_epoch_anew(tmp_path: Path) -> None:
    break_off(tmp_path, 2, 3, save_freq=2)
    keeping = callbacks.BackupAndRestore(tmp_path, save_freq=2)
    with pytest.warns(UserWarning, match="so epoch 3 begins anew instead of at its step 3"):
        history = small().fit(X, Y, batch_size=5, epochs=4, verbose=0, callbacks=[keeping])
    assert history.epoch == [0, 1, 2, 3]


def test_a_run_that_went_bad_leaves_the_last_good_backup(tmp_path: Path) -> None:
    break_off(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def spoil(epoch: int, logs: Any) -> None:
        model.layers[-1].kernel.assign(np.full((2, 1), np.nan))

    model = small()
    ruin = callbacks.LambdaCallback(on_epoch_begin=spoil)
    with pytest.raises(NonFiniteError):
        model.fit(
            X, Y, epochs=4, verbose=0, callbacks=[ruin, callbacks.BackupAndRestore(tmp_path, save_freq=1)]
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def stop(epoch: int, logs: Any) -> None:
        model.stop_training = epoch == 1

    def interrupt(logs: Any) -> None:
        raise KeyboardInterrupt

    model = small()
    keeping = callbacks.BackupAndRestore(tmp_path)
    ending = callbacks.LambdaCallback(on_epoch_end=stop, on_train_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[ending, keeping])
    begun: list[int] = []
    watch = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    assert go_on(tmp_path, watch).epoch == [0, 1]
    assert begun == []


def test_a_checkpoint_is_gone_on_with_only_where_it_was_left(tmp_path: Path) -> None:
    model = small()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")])
    loaded = tally.saving.load_model(tmp_path / "2.keras")
    tally.utils.set_random_seed(99)
    loaded.fit(X, Y, epochs=1, verbose=0)  # a new run, with random numbers of its own
    assert tally.core.random.global_state()[0] == 99
    again = tally.saving.load_model(tmp_path / "2.keras")
    again.fit(X, Y, epochs=3, initial_epoch=2, verbose=0)
    assert tally.core.random.global_state()[0] == 1337
    model.save(tmp_path / "outside.keras")
    assert tally.saving.load_model(tmp_path / "outside.keras")._trainer.left_off is None
