"""What the loss tests share: one row per loss, and data of each kind."""

from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def data(kind: str, seed: int = 0, batch: int = 4) -> Arrays:
    """Labels and predictions of one kind."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(batch, 5)).astype("float32")
    numbers = draw.integers(0, 5, size=batch)
    answers = draw.integers(0, 2, size=(batch, 5)).astype("float32")
    return {
        "quantities": lambda: (draw.normal(size=(batch, 5)).astype("float32"), scores),
        "positive": lambda: (np.abs(draw.normal(size=(batch, 5))).astype("float32"), np.abs(scores)),
        "distributions": lambda: (softmax(draw.normal(size=(batch, 5)).astype("float32")), softmax(scores)),
        "answers": lambda: (answers, softmax(scores)),
        "answer logits": lambda: (answers, scores),
        "one-hot": lambda: (np.eye(5, dtype="float32")[numbers], softmax(scores)),
        "one-hot logits": lambda: (np.eye(5, dtype="float32")[numbers], scores),
        "numbers": lambda: (numbers, softmax(scores)),
        "number logits": lambda: (numbers, scores),
        "embeddings": lambda: (np.arange(batch) % 2, scores / np.linalg.norm(scores, axis=-1, keepdims=True)),
        "sequences": lambda: (
            np.array([[1, 2, 0], [3, 3, 1], [4, 0, 0], [2, 1, 2]])[:batch],
            draw.normal(size=(batch, 7, 5)).astype("float32"),
        ),
    }[kind]()


LOSSES: list[tuple[str, dict[str, Any], str]] = [
    ("MeanSquaredError", {}, "quantities"),
    ("MeanAbsoluteError", {}, "quantities"),
    ("MeanAbsolutePercentageError", {}, "quantities"),
    ("MeanSquaredLogarithmicError", {}, "positive"),
    ("LogCosh", {}, "quantities"),
    ("Huber", {"delta": 0.7}, "quantities"),
    ("CosineSimilarity", {}, "quantities"),
    ("CosineSimilarity", {"axis": 0}, "quantities"),
    ("Poisson", {}, "positive"),
    ("KLDivergence", {}, "distributions"),
    ("Hinge", {}, "answer logits"),
    ("Hinge", {}, "quantities"),
    ("SquaredHinge", {}, "answer logits"),
    ("CategoricalHinge", {}, "one-hot logits"),
    ("BinaryCrossentropy", {}, "answers"),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, "answer logits"),
    ("BinaryCrossentropy", {"axis": 0}, "answers"),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, "answers"),
    ("BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "answer logits"),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "one-hot"),
    ("CategoricalCrossentropy", {"from_logits": True}, "one-hot logits"),
    ("CategoricalFocalCrossentropy", {"alpha": 0.4}, "one-hot"),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "gamma": 3.0}, "one-hot logits"),
    ("SparseCategoricalCrossentropy", {}, "numbers"),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, "number logits"),
    ("SparseCategoricalCrossentropy", {"ignore_class": 3}, "numbers"),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, "numbers"),
    ("Dice", {}, "answers"),
    ("Dice", {"axis": (1,)}, "answers"),
    ("Tversky", {"alpha": 0.3, "beta": 0.8}, "answers"),
    ("Tversky", {"axis": 1}, "answers"),
    ("Circle", {"gamma": 10.0, "margin": 0.2}, "embeddings"),
    ("Circle", {"remove_diagonal": False}, "embeddings"),
    ("CTC", {}, "sequences"),
]
