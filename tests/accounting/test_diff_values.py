"""`tally.diff` of live models and files: the same structure as the ledgers', and how far values moved."""

import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally import layers
from tally.accounting.difference import Movement
from tally.core.errors import ArgumentError


def make(units: int = 3, dtype: str = "float32") -> tally.Model:
    stack = [tally.Input((4,)), layers.Dense(units, dtype=dtype, name="body"), layers.Dense(2, name="head")]
    return tally.Sequential(stack, name="small")


def drawn(**options) -> tally.Model:
    model = make(**options)
    for weight in model.weights:
        assert weight.numpy().shape == weight.shape
    return model


def compare(before, after, values=None):
    return tally.diff(before, after, values=values, print_fn=lambda text: None)


def movements(difference) -> dict[str, Movement]:
    return {movement.path: movement for movement in difference.values}


def test_a_model_moves_nowhere_from_itself():
    model = drawn()
    difference = compare(model, model)
    assert difference.is_empty
    assert [movement.state for movement in difference.values] == ["equal"] * 4


def test_a_step_is_measured_against_what_was_there():
    before = drawn()
    after = tally.models.clone_model(before)
    after.set_weights(before.get_weights())
    kernel = before.layers[0].kernel.numpy()
    moved = kernel.copy()
    moved[0, :2] += 0.5
    after.layers[0].kernel.assign(moved)
    difference = compare(before, after)
    assert not difference.is_empty
    assert not difference.changes
    (movement,) = difference.moved
    assert (movement.path, movement.changed, movement.count) == ("body/kernel", 2, 12)
    assert movement.largest == pytest.approx(0.5)
    assert movement.relative == pytest.approx(np.sqrt(0.5) / np.linalg.norm(kernel))


def test_a_step_from_zeros_has_no_share():
    before, after = drawn(), drawn()
    after.set_weights(before.get_weights())
    after.layers[1].bias.assign([1.0, -2.0])
    (movement,) = compare(before, after).moved
    assert (movement.path, movement.relative, movement.largest) == ("head/bias", None, 2.0)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_told_first(number):
    before, after = drawn(), drawn()
    after.set_weights(before.get_weights())
    after.layers[0].kernel.assign(before.layers[0].kernel.numpy() * 2)
    after.layers[1].bias.assign([number, 0.0])
    first, second = compare(before, after).moved
    assert (first.path, first.largest, first.relative, first.changed) == ("head/bias", None, None, 1)
    assert second.relative == pytest.approx(1)


def test_a_number_that_stays_no_number_is_no_step():
    before, after = drawn(), drawn()
    after.set_weights(before.get_weights())
    for model in (before, after):
        model.layers[1].bias.assign([np.nan, 0.0])
    assert compare(before, after).is_empty


def test_half_precision_is_compared_as_it_is():
    before, after = drawn(dtype="bfloat16"), drawn(dtype="bfloat16")
    after.set_weights(before.get_weights())
    assert compare(before, after).is_empty
    after.layers[0].bias.assign(jnp.ones(3, "bfloat16"))
    assert movements(compare(before, after))["body/bias"].largest == 1.0


def test_weights_that_nobody_needed_are_not_drawn():
    before, after = make(), make()
    difference = compare(before, after)
    assert [movement.state for movement in difference.values] == ["not drawn"] * 4
    assert difference.is_empty
    assert all(weight.is_planned for model in (before, after) for weight in model.weights)


def test_a_weight_that_is_drawn_on_one_side_draws_no_other():
    before, after = make(), drawn()
    assert {movement.state for movement in compare(before, after).values} == {"not drawn"}
    assert all(weight.is_planned for weight in before.weights)


def test_weights_of_one_seed_and_one_plan_are_equal_before_they_are_drawn():
    tally.utils.set_random_seed(7)
    before = make()
    tally.utils.set_random_seed(7)
    after = make()
    assert {movement.state for movement in compare(before, after).values} == {"equal"}
    assert all(weight.is_planned for weight in (*before.weights, *after.weights))


def test_only_weights_of_one_shape_are_compared():
    difference = compare(drawn(units=3), drawn(units=4))
    assert [movement.path for movement in difference.values] == ["head/bias"]
    assert [change.path for change in difference.changes] == ["body", "head"]


def test_structures_alone_can_be_compared():
    assert compare(drawn(), drawn(), values=False).values is None


def test_a_ledger_has_no_values():
    ledger = tally.account(make())
    assert compare(ledger, make()).values is None
    with pytest.raises(ArgumentError, match="There are no values to compare"):
        compare(ledger, make(), values=True)


def test_files_are_compared_with_their_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = drawn()
    model.save("before.keras")
    model.layers[1].bias.assign([1.0, 0.0])
    model.save("after.keras")
    assert compare("before.keras", "before.keras").is_empty
    (movement,) = compare("before.keras", "after.keras").moved
    assert (movement.path, movement.changed) == ("head/bias", 1)
    assert compare("after.keras", model).is_empty


def test_what_is_printed_is_the_difference():
    told = []
    difference = tally.diff(make(3), make(4), print_fn=told.append)
    assert len(told) == 1
    assert "resized  body (Dense)  units 3 → 4 (kernel, bias)" in told[0]
    assert "| resized | body (Dense) | units 3 → 4 (kernel, bias) | +5 |" in difference.to_markdown()
    assert repr(difference) == "<Difference: 2 changes, +7 parameters>"


def test_freezing_tells_its_line():
    before, after = make(), make()
    after.layers[0].trainable = False
    (change,) = compare(before, after).changes
    assert (change.kind, change.path, change.amount.trainable) == ("frozen", "body", -15)
    assert "test_diff_values.py:" in change.where


def test_what_is_no_model_is_refused():
    with pytest.raises(ArgumentError, match="There is no account of a int"):
        compare(3, make())
