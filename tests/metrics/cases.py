"""What the metric tests share: one row per metric, and data of each kind."""

from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]


def data(kind: str, seed: int, batch: int = 6) -> Arrays:
    """Labels and predictions of one kind."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(batch, 3)).astype("float32")
    shares = draw.dirichlet(np.ones(3), size=batch).astype("float32")
    numbers = draw.integers(0, 3, size=batch)
    one_hot = np.eye(3, dtype="float32")[numbers]
    answers = draw.integers(0, 2, size=(batch, 3)).astype("float32")
    chances = draw.uniform(size=(batch, 3)).astype("float32").round(2)
    return {
        "quantities": lambda: (draw.normal(size=(batch, 3)).astype("float32"), scores),
        "positive": lambda: (np.abs(draw.normal(size=(batch, 3))).astype("float32"), np.abs(scores)),
        "distributions": lambda: (draw.dirichlet(np.ones(3), size=batch).astype("float32"), shares),
        "answers": lambda: (answers, chances),
        "answer": lambda: (answers[:, 0], chances[:, 0]),
        "answer logits": lambda: (answers, scores),
        "one-hot": lambda: (one_hot, shares),
        "numbers": lambda: (numbers, shares),
        "column of numbers": lambda: (numbers[:, None], shares),
        "steps of numbers": lambda: (draw.integers(0, 3, size=(batch, 2)), draw.normal(size=(batch, 2, 3))),
        "guesses": lambda: (numbers, draw.integers(0, 3, size=batch)),
        "sorted guesses": lambda: (numbers, np.argsort(-shares, axis=-1).astype("float32")),
    }[kind]()


METRICS: list[tuple[str, dict[str, Any], str]] = [
    ("MeanSquaredError", {}, "quantities"),
    ("RootMeanSquaredError", {}, "quantities"),
    ("MeanAbsoluteError", {}, "quantities"),
    ("MeanAbsolutePercentageError", {}, "quantities"),
    ("MeanSquaredLogarithmicError", {}, "positive"),
    ("LogCoshError", {}, "quantities"),
    ("CosineSimilarity", {}, "quantities"),
    ("R2Score", {}, "quantities"),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}, "quantities"),
    ("R2Score", {"class_aggregation": None}, "quantities"),
    ("PearsonCorrelation", {}, "quantities"),
    ("ConcordanceCorrelation", {}, "quantities"),
    ("KLDivergence", {}, "distributions"),
    ("Poisson", {}, "positive"),
    ("Hinge", {}, "answer logits"),
    ("SquaredHinge", {}, "answer logits"),
    ("CategoricalHinge", {}, "one-hot"),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, "answers"),
    ("BinaryCrossentropy", {"from_logits": True}, "answer logits"),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "one-hot"),
    ("SparseCategoricalCrossentropy", {}, "numbers"),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, "steps of numbers"),
    ("Accuracy", {}, "guesses"),
    ("BinaryAccuracy", {"threshold": 0.4}, "answers"),
    ("BinaryAccuracy", {}, "answer"),
    ("CategoricalAccuracy", {}, "one-hot"),
    ("SparseCategoricalAccuracy", {}, "numbers"),
    ("SparseCategoricalAccuracy", {}, "column of numbers"),
    ("SparseCategoricalAccuracy", {}, "steps of numbers"),
    ("TopKCategoricalAccuracy", {"k": 2}, "one-hot"),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, "numbers"),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, "steps of numbers"),
    ("SparseTopKCategoricalAccuracy", {"k": 2, "from_sorted_ids": True}, "sorted guesses"),
    ("TruePositives", {}, "answers"),
    ("TrueNegatives", {"thresholds": 0.3}, "answers"),
    ("FalsePositives", {"thresholds": [0.7, 0.2]}, "answers"),
    ("FalseNegatives", {"thresholds": [0.0, 0.5, 1.0]}, "answer"),
    ("Precision", {}, "answers"),
    ("Precision", {"thresholds": [0.2, 0.9]}, "answer"),
    ("Precision", {"top_k": 2}, "answers"),
    ("Precision", {"top_k": 2, "class_id": 1}, "answers"),
    ("Recall", {}, "answers"),
    ("Recall", {"class_id": 2, "thresholds": 0.1}, "answers"),
    ("Recall", {"top_k": 1, "thresholds": 0.5}, "answers"),
    ("SensitivityAtSpecificity", {"specificity": 0.5, "num_thresholds": 9}, "answers"),
    ("SpecificityAtSensitivity", {"sensitivity": 0.7, "num_thresholds": 11}, "answer"),
    ("PrecisionAtRecall", {"recall": 0.6}, "answers"),
    ("RecallAtPrecision", {"precision": 0.5, "class_id": 0}, "answers"),
    ("RecallAtPrecision", {"precision": 0.5, "num_thresholds": 1}, "answers"),
    *(
        ("AUC", {"curve": curve, "summation_method": method, "num_thresholds": 13}, "answer")
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "majoring", "minoring")
    ),
    ("AUC", {}, "answers"),
    ("AUC", {"thresholds": [0.8, 0.1, 0.5]}, "answer"),
    ("AUC", {"label_weights": [0.2, 1.0, 3.0]}, "answers"),
    ("AUC", {"multi_label": True, "num_thresholds": 20}, "answers"),
    (
        "AUC",
        {"multi_label": True, "num_labels": 3, "label_weights": [0.2, 1.0, 3.0], "curve": "PR"},
        "answers",
    ),
    ("AUC", {"from_logits": True}, "answer logits"),
    ("FBetaScore", {"beta": 2.0}, "one-hot"),
    ("FBetaScore", {"average": "micro", "threshold": 0.4}, "answers"),
    ("FBetaScore", {"average": "macro", "beta": 0.5}, "one-hot"),
    ("F1Score", {"average": "weighted"}, "one-hot"),
    ("IoU", {"num_classes": 3, "target_class_ids": [0, 2]}, "guesses"),
    ("IoU", {"num_classes": 2, "target_class_ids": [1]}, "guesses"),
    (
        "IoU",
        {"num_classes": 3, "target_class_ids": [0, 1], "sparse_y_pred": False, "dtype": "float32"},
        "numbers",
    ),
    ("MeanIoU", {"num_classes": 4, "ignore_class": 1}, "guesses"),
    ("BinaryIoU", {"threshold": 0.4}, "answer"),
    ("OneHotIoU", {"num_classes": 3, "target_class_ids": [0, 2]}, "one-hot"),
    ("OneHotMeanIoU", {"num_classes": 3}, "one-hot"),
]
IDS = [f"{name}-{'-'.join(f'{k}={v}' for k, v in options.items())}" for name, options, _ in METRICS]
