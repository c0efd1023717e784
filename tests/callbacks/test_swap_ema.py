"""Averaged weights in the model while it is tested."""

from types import SimpleNamespace

import pytest

from tally.callbacks import SwapEMAWeights
from tally.core.errors import ArgumentError
from tally.core.variable import Variable


def made(*, use_ema: bool = True) -> SimpleNamespace:
    weight, average = Variable([1.0], name="weight"), Variable([5.0], name="average")
    optimizer = SimpleNamespace(use_ema=use_ema, _trainable_variables=[weight], _averages=[average])
    return SimpleNamespace(optimizer=optimizer, weight=weight, average=average, stop_training=False)


def test_testing_sees_the_averages_and_training_the_weights() -> None:
    model, swap = made(), SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    assert (float(model.weight.value[0]), float(model.average.value[0])) == (5.0, 1.0)
    swap.on_test_end()
    assert (float(model.weight.value[0]), float(model.average.value[0])) == (1.0, 5.0)


def test_the_last_epoch_leaves_the_averages_in_both_places() -> None:
    model, swap = made(), SwapEMAWeights(swap_on_epoch=True)
    swap.set_model(model)
    swap.set_params({"epochs": 1})
    swap.on_epoch_begin(0)
    swap.on_epoch_end(0)
    assert (float(model.weight.value[0]), float(model.average.value[0])) == (5.0, 5.0)


def test_an_optimizer_without_averages_is_refused() -> None:
    swap = SwapEMAWeights()
    swap.set_model(made(use_ema=False))
    with pytest.raises(ArgumentError, match="do: make the optimizer with use_ema=True"):
        swap.on_test_begin()
