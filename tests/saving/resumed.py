"""A program that trains undisturbed, and killed and gone on with, and compares the two bit for bit; run by a test.

It is called with the names of cases, or with none for all of them. The process itself never starts JAX's backend, so
that its children can; each child is one run of `fit`. It prints how many runs were killed.
"""

import json
import os
import pickle
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tally
from saving.killed import die_at
from tally import callbacks, layers

NUMBERS = np.random.default_rng(7)
X, Y = NUMBERS.normal(size=(44, 6)).astype("float32"), NUMBERS.normal(size=(44, 1)).astype("float32")
VALIDATION = NUMBERS.normal(size=(20, 6)).astype("float32"), NUMBERS.normal(size=(20, 1)).astype("float32")
EPOCHS = 4


class Numbered(tally.utils.PyDataset):
    """Batches by number, each with noise from NumPy's random numbers."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        rows = slice(8 * index, 8 * index + 8)
        return X[rows] + np.random.normal(size=(8, 6)).astype("float32"), Y[rows]


def noisy() -> Iterator[Any]:
    """Batches without end, from Python's random numbers."""
    while True:
        rows = random.sample(range(44), 8)
        yield X[rows], Y[rows]


@dataclass
class Case:
    """How a run is made, and where it is killed.

    Args:
        options: Those of `fit`.
        kills: One for each run that is killed: `(epoch, batch)`, or `(epoch, None)` at its end, or
            `(epoch, -calls)` while the backup at its end is written.
        save_freq: When backups are made.
        together: Steps in one compiled call.
        is_built: Whether the model knows its input before `fit`.
    """

    options: Callable[[], dict[str, Any]]
    kills: list[tuple[int, int | None]]
    save_freq: Any = "epoch"
    together: int = 1
    is_checkpoint: bool = False
    optimizer: Callable[[], Any] = lambda: tally.optimizers.Adam(0.05)


def arrays(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"x": X, "y": Y, "batch_size": 8, **more}


CASES = {
    "at the end of an epoch": Case(arrays(), [(1, None)]),
    "between the batches of an epoch": Case(arrays(), [(1, 2), (3, 4)]),
    "by batches": Case(arrays(), [(0, 3), (1, 1), (2, 5)], save_freq=2),
    "after the last batch": Case(arrays(), [(1, 5)], save_freq=3),
    "several steps at once": Case(arrays(), [(1, 3), (2, 5)], save_freq=2, together=2),
    "an epoch that is no pass": Case(arrays(steps_per_epoch=4), [(1, 1), (2, 3)], save_freq=3),
    "within batches": Case(arrays(shuffle="batch", validation_steps=2), [(1, None), (2, 3)], save_freq=5),
    "a dataset": Case(lambda: {"x": Numbered()}, [(0, 2), (2, 3)], save_freq=2),
    "a generator": Case(lambda: {"x": noisy(), "steps_per_epoch": 5}, [(1, 1), (2, 4)], save_freq=3),
    "a schedule": Case(
        arrays(),
        [(1, 2), (2, None)],
        save_freq=4,
        optimizer=lambda: tally.optimizers.Nadam(
            tally.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5), use_ema=True
        ),
    ),
    "accumulated and scaled": Case(
        arrays(),
        [(0, 4), (2, 1)],
        save_freq=3,
        optimizer=lambda: tally.optimizers.LossScaleOptimizer(
            tally.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=4)
        ),
    ),
    "while the backup is written": Case(arrays(), [(1, -calls) for calls in range(100, 4_000, 400)]),
    "while a backup in an epoch is written": Case(
        arrays(), [(0, -calls) for calls in range(300, 4_000, 700)], save_freq=2
    ),
    "from a checkpoint": Case(arrays(), [(1, 2), (2, None)], is_checkpoint=True),
    "from a checkpoint in an epoch": Case(arrays(), [(1, 4), (2, 3)], save_freq=4, is_checkpoint=True),
}


class Die(callbacks.Callback):
    """Kills the process at a place."""

    def __init__(self, epoch: int, batch: int | None) -> None:
        self.epoch, self.batch, self.now = epoch, batch, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.now == self.epoch and self.batch is not None and 0 <= self.batch <= batch:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch and self.batch is not None and self.batch < 0:
            die_at(-self.batch)


class DieLast(Die):
    """Kills the process at the end of an epoch, when the backup is written."""

    comes_last = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch and self.batch is None:
            os.kill(os.getpid(), signal.SIGKILL)


def make(case: Case) -> Any:
    model = tally.Sequential(
        [
            *(tally.Input((6,)), layers.Dense(8, activation="relu"), layers.BatchNormalization()),
            *(layers.Dropout(0.3), layers.Dense(1)),
        ]
    )
    metrics = ["mae", tally.metrics.RootMeanSquaredError()]
    model.compile(case.optimizer(), "mse", metrics=metrics, steps_per_execution=case.together)
    return model


def train(case: Case, folder: Path, kill: tuple[int, int | None] | None) -> dict[str, Any]:
    """One run of `fit`, from the beginning or from what an earlier one left."""
    tally.utils.set_random_seed(3)
    model, first = make(case), 0
    if case.is_checkpoint:
        named = {tuple(map(int, one.stem.split("-"))): one for one in folder.glob("*.keras")}
        if named:
            model = tally.saving.load_model(named[max(named)])
            first = max(named)[0] - (case.save_freq != "epoch")
        name = "{epoch}.keras" if case.save_freq == "epoch" else "{epoch}-{batch}.keras"
        keeping: list[Any] = [
            callbacks.CSVLogger(folder / "log.csv", append=True),
            callbacks.ModelCheckpoint(folder / name, save_freq=case.save_freq),
        ]
    else:
        keeping = [
            callbacks.CSVLogger(folder / "log.csv"),
            callbacks.BackupAndRestore(folder / "backup", save_freq=case.save_freq),
            callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
            callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1),
        ][: 5 if isinstance(model.optimizer, tally.optimizers.Adam) and not case.is_checkpoint else 3]
    dying = [] if kill is None else [Die(*kill), DieLast(*kill)]
    history = model.fit(
        **case.options(),
        epochs=EPOCHS,
        verbose=0,
        initial_epoch=first,
        validation_data=VALIDATION,
        validation_batch_size=8,
        callbacks=[*keeping, *dying],
    )
    values = [
        np.asarray(v) for v in (*model.weights, *model.optimizer.variables, *model.non_trainable_variables)
    ]
    seeds = [np.asarray(v.value) for v in model.variables]
    logs = {name: numbers[first - EPOCHS :] for name, numbers in history.history.items()}
    return {
        "values": [(v.dtype.name, v.shape, v.tobytes()) for v in (*values, *seeds)],
        "logs": logs,
        "rows": (folder / "log.csv").read_text(),
        "epoch": history.epoch if not case.is_checkpoint else [],
        "drawn": tally.random.uniform((3,)).tolist(),
    }


def in_child(case: Case, folder: Path, kill: tuple[int, int | None] | None) -> dict[str, Any] | None:
    """What a run gives; None when it was killed."""
    child = os.fork()
    if child == 0:
        try:
            result = train(case, folder, kill)
            (folder / "result").write_bytes(pickle.dumps(result))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, "a run failed"
    return pickle.loads((folder / "result").read_bytes())


def check(name: str, case: Case) -> int:
    """Compare a case's two ways; gives how often it was killed."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole = in_child(case, Path(one), None)
        killed = sum(in_child(case, Path(other), kill) is None for kill in case.kills)
        again = in_child(case, Path(other), None)
        left = sorted(path.name for path in Path(other).iterdir() if path.suffix != ".keras")
    assert whole is not None
    assert again is not None
    assert killed == len(case.kills), f"{name}: {killed} runs were killed of {len(case.kills)}"
    for part in whole:
        shorter = {k: v[-len(again["logs"].get(k, ())) :] for k, v in whole["logs"].items()}
        wanted = shorter if part == "logs" and case.is_checkpoint else whole[part]
        assert wanted == again[part], (
            f"{name}: {part} differ: {wanted if part != 'values' else ''} {again[part] if part != 'values' else ''}"
        )
    assert left == ["log.csv", "result"], f"{name}: left are {left}"
    return killed


if __name__ == "__main__":
    print(json.dumps({name: check(name, CASES[name]) for name in sys.argv[1:] or CASES}))
