"""Reshaping beyond the contract: messages and unknown sizes."""

from typing import Any

import numpy as np
import pytest

import tally
from tally.core.errors import ArgumentError, ShapeError

LAYERS = tally.layers


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (LAYERS.Flatten(), (None, None, None, 3), (None, None)),
        (LAYERS.Reshape((-1, 3)), (None, None, None, 3), (None, None, 3)),
        (LAYERS.Permute((2, 1)), (None, None, 3), (None, 3, None)),
        (LAYERS.ZeroPadding2D(), (None, None, 4, 3), (None, None, 6, 3)),
        (LAYERS.Cropping2D(1), (None, 4, None, 3), (None, 2, None, 3)),
        (LAYERS.UpSampling2D(), (None, None, 4, 3), (None, None, 8, 3)),
        (LAYERS.UpSampling2D(interpolation="bilinear"), (None, None, 4, 3), (None, None, 8, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LAYERS.Layer) else "",
)
def test_unknown_sizes_stay_unknown_and_known_ones_are_computed(
    layer: Any, shape: Any, expected: Any
) -> None:
    assert layer(tally.KerasTensor(shape)).shape == expected


def test_too_many_values_for_a_shape_are_counted() -> None:
    with pytest.raises(ShapeError, match=r"Reshape 'r' can't put the 12 values of \(6, 2\) into \(5, 2\)\."):
        LAYERS.Reshape((5, 2), name="r")(np.zeros((1, 6, 2)))


def test_an_open_size_must_divide() -> None:
    with pytest.raises(ShapeError, match=r"12 values of \(6, 2\) into \(-1, 5\)"):
        LAYERS.Reshape((-1, 5))(np.zeros((1, 6, 2)))


def test_cropping_everything_is_refused() -> None:
    with pytest.raises(ShapeError, match="cuts 3 \\+ 3 off a length of 6, and nothing is left"):
        LAYERS.Cropping1D(3)(np.zeros((1, 6, 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LAYERS.Reshape((-1, -1)), r"target_shape=\(-1, -1\)"),
        (lambda: LAYERS.Reshape((-2,)), "target_shape=-2"),
        (lambda: LAYERS.Permute((0, 1)), r"dims=\(0, 1\)"),
        (lambda: LAYERS.RepeatVector(0), "n=0"),
        (lambda: LAYERS.ZeroPadding2D((1, 2, 3)), r"padding=\(1, 2, 3\)"),
        (lambda: LAYERS.Cropping2D(((1, -1), 0)), "cropping=-1"),
        (lambda: LAYERS.UpSampling1D(0), "size=0"),
        (lambda: LAYERS.UpSampling2D(interpolation="linear"), "Did you mean 'bilinear'"),
    ],
)
def test_impossible_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
