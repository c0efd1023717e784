"""Small helpers, against Keras's where there is one."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from tally import utils
from tally.core.errors import ArgumentError


@pytest.mark.parametrize("x", [[0, 2, 1], [[0], [2]], [[0, 1], [2, 0]], 1])
@pytest.mark.parametrize("num_classes", [None, 5])
def test_to_categorical_equals_keras(x: Any, num_classes: int | None) -> None:
    ours, theirs = utils.to_categorical(x, num_classes), keras.utils.to_categorical(x, num_classes)
    np.testing.assert_array_equal(ours, theirs)


def test_to_categorical_of_a_jax_array_is_one() -> None:
    made = utils.to_categorical(jnp.array([1, 0]))
    assert isinstance(made, jax.Array)
    assert made.dtype == "float32"


def test_to_categorical_refuses_a_class_beyond_the_last() -> None:
    with pytest.raises(ArgumentError, match="do: pass num_classes=4"):
        utils.to_categorical([0, 3], num_classes=3)


@pytest.mark.parametrize(("axis", "order"), [(-1, 2), (1, 1), (0, 2)])
def test_normalize_equals_keras(axis: int, order: int) -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, -2.0]])
    theirs = keras.utils.normalize(x, axis, order) if axis else keras.utils.normalize(x.T, -1, order).T
    np.testing.assert_allclose(utils.normalize(x, axis, order), theirs)


@pytest.mark.parametrize("batch", [(1,), (1, 2), (1, 2, 3)])
def test_a_packed_batch_unpacks_to_itself(batch: tuple[int, ...]) -> None:
    unpacked = utils.unpack_x_y_sample_weight(utils.pack_x_y_sample_weight(*batch))
    assert unpacked == (*batch, None, None)[:3]


def test_what_lives_elsewhere_is_found_here() -> None:
    from tally.callbacks import progress
    from tally.training import data

    assert utils.PyDataset is utils.Sequence is data.PyDataset
    assert utils.Progbar is progress.Progbar


def test_names_put_into_the_custom_objects_are_known() -> None:
    utils.get_custom_objects()["my_activation"] = abs
    assert utils.get_registered_object("my_activation") is abs
    del utils.get_custom_objects()["my_activation"]
