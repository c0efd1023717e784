"""What the contestants train: shapes, the same bits every time, parameters as one counts them by hand."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.race.workloads import WORKLOADS, Workload

_BLOCK = 4 * (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128) + 4 * 128
PARAMETERS = {
    "mnist": (9 * 1 + 1) * 32 + (9 * 32 + 1) * 64 + 1601 * 10,
    "cifar": 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 4 * 2 * 224 + 129 * 10,
    "separable": 2 * (9 * 64 + 64 * 64 + 4 * 64) + 65 * 64 + 65 * 10,
    "mobilenet": 2 * (24 * 144 + 9 * 144 + 8 * 144) + 144 * (24 + 32) + 4 * (24 + 32) + 33 * 10,
    "mlp": 785 * 512 + 513 * 512 + 513 * 10,
    "transformer": (1000 + 64) * 128 + 4 * _BLOCK + 2 * 128 + 128 * 1000,
    "lstm": 4 * 64 * (32 + 64 + 1) + 65 * 10,
    "tiny": 4 * 8 + 8,
}
INPUTS = {
    "mnist": (28, 28, 1),
    "cifar": (32, 32, 3),
    "separable": (32, 32, 64),
    "mobilenet": (32, 32, 24),
    "mlp": (784,),
    "transformer": (64,),
    "lstm": (50, 32),
    "tiny": (4,),
}

every = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))


@every
def test_parameters_are_those_counted_by_hand(workload: Workload) -> None:
    assert workload.parameters == PARAMETERS[workload.name]


@every
def test_an_epoch_has_whole_batches_of_the_right_shape(workload: Workload) -> None:
    small = replace(workload, batch=3, steps=2)
    inputs, targets = small.data()
    assert inputs.shape == (6, *INPUTS[workload.name])
    assert targets.shape == (6, *INPUTS[workload.name][: targets.ndim - 1])
    assert inputs.dtype == (np.int32 if workload.name == "transformer" else np.float32)
    assert targets.dtype == np.int32


@every
def test_data_and_weights_are_the_same_bits_every_time(workload: Workload) -> None:
    small = replace(workload, batch=2, steps=1)
    for one, other in zip(small.data(), small.data(), strict=True):
        np.testing.assert_array_equal(one, other)
    weights, again = small.weights(), small.weights()
    assert list(weights) == list(again)
    for path, array in weights.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again[path])


@every
def test_no_bias_is_zero_so_that_a_wrong_one_shows(workload: Workload) -> None:
    biases = [array for path, array in workload.weights().items() if path.endswith(("bias", "beta"))]
    assert all(np.abs(bias).min() > 0 for bias in biases)


def test_the_next_word_follows_a_rule_nine_times_in_ten() -> None:
    inputs, targets = WORKLOADS["transformer"].data()
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    followers = [np.bincount(targets[inputs == word]).max() for word in np.unique(inputs)]
    assert 0.88 < sum(followers) / inputs.size < 0.92
