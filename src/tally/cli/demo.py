"""The demonstration: a small convnet is explained, learns handwritten digits, and comes back from its file."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tally
from tally import layers
from tally.models.verbs.show import show
from tally.report.document import Column, Document, Note, Part, Table, Text, Title

GOAL = 0.97
"""The share of held-out digits that must be recognised."""


@dataclass(frozen=True)
class Task:
    """What is learned, and how often it is shown: enough to pass the goal, and no more than a minute on two cores."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    told: str
    epochs: int


def run(output: str | Path = "demo.keras", *, mnist: bool = False) -> bool:
    """Show what the library does with a model, from its first line to its file.

    Args:
        output: Where the model is saved.
        mnist: Whether it learns MNIST, and not the digits that come with scikit-learn.

    Returns:
        Whether the goal was reached and the model came back from its file unchanged.
    """
    began = time.perf_counter()
    tally.utils.set_random_seed(0)
    task = _task(mnist=mnist)
    (x_train, y_train), (x_test, y_test) = task.train, task.test
    x_train, x_test = _scale(x_train), _scale(x_test)
    model = make_convnet()
    model.summary()
    tally.explain(model)

    _show(Title("Training", level=2), Text(task.told))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained_from = time.perf_counter()
    model.fit(x_train, y_train, epochs=task.epochs)
    seconds = time.perf_counter() - trained_from
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)

    path = Path(output)
    model.save(path)
    before = model.predict(x_test, verbose=0)
    after = tally.models.load_model(path).predict(x_test, verbose=0)
    rows = (
        ("Parameters", f"{model.count_params():,}, each explained above"),
        (
            "Accuracy",
            f"{accuracy:.1%} of the held-out digits: {round(accuracy * len(x_test)):,} of {len(x_test):,}",
        ),
        ("Training", f"{seconds:.1f} s for {task.epochs} epochs, compiling included"),
        ("File", f"{path}, {path.stat().st_size / 1000:,.0f} kB, with the optimizer's state"),
        ("Loaded again", _compare(before, after)),
        ("All together", f"{time.perf_counter() - began:.1f} s"),
    )
    misses = _misses(accuracy, same=np.array_equal(before, after))
    table = Table(columns=(Column(), Column()), rows=rows, ruled=False)
    _show(Title("Result", level=2), table, *(Note(miss, "error") for miss in misses))
    return not misses


def make_convnet() -> tally.Model:
    """The simple convnet that MNIST tutorials begin with: two convolutions with pooling, and a classifier."""
    return tally.Sequential(
        [
            tally.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ],
        name="convnet",
    )


def _task(*, mnist: bool) -> Task:
    train, test = (tally.datasets.mnist if mnist else tally.datasets.digits).load_data()
    counts = f"{len(train[0]):,} digits to learn from and {len(test[0]):,} others to test with"
    if mnist:
        return Task(train, test, f"MNIST: {counts}.", epochs=1)
    moves = "Each to learn from is also shown moved by two pixels up, down, left and right."
    return Task(
        _shift(*train), test, f"Handwriting that comes with scikit-learn: {counts}. {moves}", epochs=5
    )


def _shift(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and the same moved within their empty border: there are too few to learn where a digit may stand."""
    moved = (np.roll(images, steps, axis=(1, 2)) for steps in ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2)))
    return np.concatenate(list(moved)), np.tile(labels, 5)


def _scale(images: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 1, with the axis of channels that a convolution takes."""
    return images[..., None].astype("float32") / 255


def _compare(before: np.ndarray, after: np.ndarray) -> str:
    if np.array_equal(before, after):
        return f"all {before.size:,} predicted numbers are the same, to the last bit"
    return f"predictions differ by up to {np.abs(before - after).max():.2g}"


def _misses(accuracy: float, *, same: bool) -> list[str]:
    """What did not come out as promised."""
    misses = []
    if accuracy < GOAL:
        misses.append(f"The accuracy is below the goal of {GOAL:.0%}.")
    if not same:
        misses.append("The model from the file predicts something else than the one that was saved.")
    return misses


def _show(*parts: Part) -> None:
    """A section of its own, after an empty line."""
    print()
    show(Document(parts))
