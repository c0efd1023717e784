"""What the contract doesn't say of merging: masks, functions instead of layers, and what a misfit is told."""

from typing import Any

import keras
import numpy as np
import pytest

import tally
from layers.cases import assert_close
from tally.core.errors import ShapeError
from tally.core.masks import get_mask

CHANCE = np.random.default_rng(0)
IDS = CHANCE.integers(0, 3, (4, 5))
OTHER = CHANCE.integers(0, 3, (4, 5))
NAMES = ("add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate")


def _masked(library: Any, ids: np.ndarray) -> Any:
    layer = library.layers.Embedding(3, 2, mask_zero=True)
    layer(ids)
    layer.set_weights([np.arange(6, dtype="float32").reshape(3, 2) - 2])
    return layer(ids)


def _mask(library: Any, x: Any) -> Any:
    return get_mask(x) if library is tally else getattr(x, "_keras_mask", None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masks", [(True, True), (True, False)])
def test_masked_inputs_merge_as_in_keras(name: str, masks: tuple[bool, bool]) -> None:
    results = []
    for library in (tally, keras):
        inputs = [
            _masked(library, ids) if masked else np.ones((4, 5, 2), "float32")
            for ids, masked in zip((IDS, OTHER), masks, strict=True)
        ]
        y = getattr(library.layers, name)(inputs)
        results.append((y, _mask(library, y)))
    (ours, our_mask), (theirs, their_mask) = results
    assert_close(ours, theirs)
    assert (our_mask is None) == (their_mask is None)
    if our_mask is not None:
        np.testing.assert_array_equal(our_mask, their_mask)


def test_dot_is_a_function_too() -> None:
    x = CHANCE.normal(size=(2, 4)).astype("float32")
    np.testing.assert_allclose(tally.layers.dot([x, x], axes=1)[:, 0], (x * x).sum(1), rtol=1e-5)


def test_sizes_that_differ_are_named_with_all_shapes_and_the_axis() -> None:
    with pytest.raises(ShapeError) as caught:
        tally.layers.Add(name="join")([tally.Input((8, 3)), tally.Input((8, 4))])
    assert "Add 'join' can't merge inputs of shapes (None, 8, 3), (None, 8, 4)" in str(caught.value)
    assert "sizes 3 and 4 differ on axis 2" in str(caught.value)
    assert "where: made at" in str(caught.value)


def test_concatenate_says_which_other_axis_differs() -> None:
    with pytest.raises(ShapeError, match=r"sizes 4 and 5 differ on axis 1(.|\n)*is axis=1 meant"):
        tally.layers.Concatenate()([np.ones((2, 4, 3)), np.ones((2, 5, 3))])


@pytest.mark.parametrize(("name", "count"), [("Add", 0), ("Subtract", 3), ("Dot", 1)])
def test_a_wrong_number_of_inputs_is_refused(name: str, count: int) -> None:
    layer = getattr(tally.layers, name)(**({"axes": 1} if name == "Dot" else {}))
    with pytest.raises(ShapeError, match=f"but was given a list of {count}"):
        layer([np.ones((2, 3))] * count)


def test_dot_over_the_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match="batch can't be summed over"):
        tally.layers.Dot(axes=0)([np.ones((2, 3)), np.ones((2, 3))])
