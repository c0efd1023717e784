"""How losses and metrics are matched with outputs, targets and weights."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tally import losses, metrics
from tally.core.errors import ArgumentError, DataError
from tally.training.objective import (
    Losses,
    Metrics,
    check_names,
    find_metric,
    match_targets,
    name_outputs,
    spread,
)

ONE = jnp.zeros((4, 1))
MANY = jnp.zeros((4, 3))


@pytest.mark.parametrize(
    ("y_pred", "names", "expected"),
    [
        (ONE, ["dense"], ["dense"]),
        (ONE, None, ["output"]),
        ([ONE, MANY], None, ["output_0", "output_1"]),
        ({"b": ONE, "a": MANY}, ["dense", "dense_1"], ["a", "b"]),
        ({"a": [ONE, MANY], "b": ONE}, None, ["a/0", "a/1", "b"]),
    ],
)
def test_outputs_are_named_by_key_by_layer_or_by_position(
    y_pred: Any, names: Any, expected: list[str]
) -> None:
    assert name_outputs(y_pred, names) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, [None, None]), ("mse", ["mse", "mse"]), (["mse", None], ["mse", None]), ({"b": 1}, [None, 1])],
)
def test_what_is_given_once_by_position_or_by_name_reaches_each_output(
    given: Any, expected: list[Any]
) -> None:
    assert spread(given, ["a", "b"], "loss") == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"c": "mse"}, "loss names the output 'c', but the model's outputs are a, b"),
        (["mse"], "1 entries for 2 outputs"),
    ],
)
def test_what_fits_no_output_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        spread(given, ["a", "b"], "loss")


@pytest.mark.parametrize("word", ["accuracy", "acc", "Accuracy"])
@pytest.mark.parametrize(
    ("target", "output", "kind"),
    [
        (ONE, ONE, metrics.BinaryAccuracy),
        (ONE[:, 0], ONE, metrics.BinaryAccuracy),
        (ONE[:, 0], ONE[:, 0], metrics.BinaryAccuracy),
        (MANY, MANY, metrics.CategoricalAccuracy),
        (ONE, MANY, metrics.SparseCategoricalAccuracy),
        (ONE[:, 0], MANY, metrics.SparseCategoricalAccuracy),
    ],
)
def test_shapes_decide_what_accuracy_means(word: str, target: Any, output: Any, kind: type) -> None:
    metric = find_metric(word, target, output)
    assert type(metric) is kind
    assert metric.name == word


def test_crossentropy_as_a_loss_is_chosen_by_the_shapes() -> None:
    for target, output, kind in (
        (ONE, ONE, losses.BinaryCrossentropy),
        (MANY, MANY, losses.CategoricalCrossentropy),
        (ONE[:, 0], MANY, losses.SparseCategoricalCrossentropy),
    ):
        chosen = Losses("crossentropy", None)
        chosen.build(target, output, None)
        assert type(chosen.functions[0]) is kind


def test_metrics_of_one_name_get_labels_of_their_own() -> None:
    chosen = Losses("mse", None)
    chosen.build(ONE, ONE, None)
    rows = Metrics(["mae", "mae", metrics.MeanAbsoluteError(name="mae")], ["mae", "mse"])
    rows.build(ONE, ONE, chosen)
    assert list(rows.results()) == ["mae", "mae_1", "mae_2", "weighted_mae", "mse"]


def test_targets_are_matched_by_name_by_position_and_by_loss() -> None:
    assert match_targets({"b": 2, "a": 1}, ["a", "b"]) == [1, 2]
    assert match_targets([1, 2], ["a", "b"]) == [1, 2]
    assert match_targets([2], ["a", "b"], [None, "mse"]) == [None, 2]
    assert match_targets(None, ["a"], [None]) == [None]
    with pytest.raises(DataError, match=r"The model has 2 outputs \(a, b\), but y has 3 arrays"):
        match_targets([1, 2, 3], ["a", "b"], ["mse", "mse"])
    with pytest.raises(DataError, match="The output 'b' has a loss, but y has a, c"):
        match_targets({"a": 1, "c": 3}, ["a", "b"], ["mse", "mse"])


def test_the_weighted_sum_and_its_parts() -> None:
    both = Losses({"a": "mse", "b": "mae"}, {"b": 0.5})
    y, y_pred = {"a": ONE + 2, "b": ONE + 3}, {"a": ONE, "b": ONE}
    both.build(y, y_pred, None)
    assert both.part_names == ["a_loss", "b_loss"]
    total, parts = both(y, y_pred, None)
    assert float(total) == 4 + 0.5 * 3
    assert {name: float(value) for name, value in parts.items()} == {"a_loss": 4.0, "b_loss": 3.0}
    weighted, _ = both(y, y_pred, {"a": np.zeros(4), "b": np.ones(4)})
    assert float(weighted) == 1.5


def test_names_are_checked_in_lists_dicts_and_configurations() -> None:
    check_names(
        {"a": ["mse", "crossentropy"]}, ["acc", {"class_name": "AUC", "config": {}}], [[metrics.AUC()]]
    )
    with pytest.raises(ArgumentError, match="accuracyy"):
        check_names(None, {"a": [["accuracyy"]]}, None)
