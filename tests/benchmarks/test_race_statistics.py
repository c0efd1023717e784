"""Medians, quartiles, ratios, and whether contestants computed the same."""

import pytest
from benchmarks.race.agreement import compare_losses, compare_outputs
from benchmarks.race.spread import Spread, ratios, spread


def test_quartiles_lie_between_neighbours() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(median=2.5, low=1.75, high=3.25, least=1.0, rounds=4)


def test_one_round_has_no_spread() -> None:
    assert spread([7.0]) == Spread(median=7.0, low=7.0, high=7.0, least=7.0, rounds=1)


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_a_slow_round_of_both_drops_out_of_the_ratio() -> None:
    ours, theirs = [1.0, 1.0, 50.0], [2.0, 2.0, 100.0]
    assert ratios(theirs, ours) == Spread(median=2.0, low=2.0, high=2.0, least=2.0, rounds=3)


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_outputs_that_are_not_numbers_differ() -> None:
    assert compare_outputs({"tally": [1.0], "peer": [float("nan")]}) == [
        "The first outputs of peer differ from tally's by nan% of the largest."
    ]


def test_equal_outputs_and_losses_are_no_news() -> None:
    assert compare_outputs({"tally": [1.0, -2.0], "peer": [1.001, -2.0]}) == []
    assert compare_losses({"tally": [2.0, 1.0], "peer": [2.0, 1.0, 0.5]}, 0.01) == []


def test_the_first_epoch_that_differs_is_named() -> None:
    assert compare_losses({"tally": [2.0, 1.0, 0.5], "peer": [2.0, 1.3, 1.4]}, 0.1) == [
        "The loss of peer in epoch 2 is 1.3, tally's is 1."
    ]


def test_a_loss_that_does_not_fall_is_told() -> None:
    assert compare_losses({"tally": [2.0, 2.1]}, 0.1) == ["The loss of tally did not fall: 2, then 2.1."]


def test_a_loss_that_is_not_a_number_agrees_with_none() -> None:
    (found,) = compare_losses({"tally": [2.0, 1.0], "peer": [2.0, float("nan")]}, 0.1)
    assert found == "The loss of peer in epoch 2 is nan, tally's is 1."
