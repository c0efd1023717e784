"""Arrays as an initializer draws them look like weights; filters, encodings and statistics don't."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.tracing.looks import looks_like_weights


@given(st.integers(0, 10_000), st.integers(3, 20), st.integers(3, 20), st.sampled_from(["normal", "uniform"]))
def test_what_an_initializer_draws_looks_like_weights(seed, rows, columns, kind):
    drawn = getattr(np.random.default_rng(seed), kind)(size=(rows, columns)).astype("float32")
    smooth = [
        abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])
        for a, b in ((drawn[:-1], drawn[1:]), (drawn[:, :-1], drawn[:, 1:]))
    ]
    if max(smooth) < 0.5:  # a few draws happen to look smooth
        assert looks_like_weights(drawn)


def positions(length=20, width=16):
    angle = np.arange(length)[:, None] / 100 ** (np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)


CONSTANTS = {
    "sobel": np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], float),
    "gauss": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "mean of a window": np.full((3, 3), 1 / 9),
    "positions": positions(),
    "cosine transform": np.cos(np.pi / 8 * (np.arange(8)[:, None] + 0.5) * np.arange(8)),
    "colour means": np.array([0.485, 0.456, 0.406]),
    "one-hot": np.eye(5),
    "ramp": np.linspace(0, 1, 32),
    "whole numbers": np.arange(12).reshape(3, 4),
    "mask": np.tril(np.ones((6, 6))),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_with_a_shape_of_its_own_does_not(name):
    assert not looks_like_weights(CONSTANTS[name])


@pytest.mark.parametrize(("value", "looks"), [(0, True), (1, True), (2, False)])
def test_a_bias_of_zeros_and_a_scale_of_ones_do(value, looks):
    assert looks_like_weights(np.full(10, value, "float32")) is looks
