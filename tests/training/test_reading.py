"""What predict gives back: outputs of all batches in one array, which is written once."""

from typing import Any

import numpy as np
import pytest

import tally
from tally.callbacks import LambdaCallback
from tally.training.reading import Outputs

ROWS = np.arange(12.0, dtype="float32").reshape(6, 2)


def joined(parts: list[Any], room: int | None) -> Any:
    outputs = Outputs(room)
    for part in parts:
        outputs.add(part)
    return outputs.joined()


@pytest.mark.parametrize("room", [None, 5, 6, 9])
@pytest.mark.parametrize("sizes", [(6,), (2, 4), (3, 3), (1, 2, 3)])
def test_parts_are_joined_whatever_the_room(room: int | None, sizes: tuple[int, ...]) -> None:
    ends = np.cumsum(sizes)
    parts = [ROWS[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    made = joined(parts, room)
    np.testing.assert_array_equal(made, ROWS)
    assert made.flags.writeable
    nested = joined([{"a": part, "b": [part[:, :1]]} for part in parts], room)
    np.testing.assert_array_equal(nested["a"], ROWS)
    np.testing.assert_array_equal(nested["b"][0], ROWS[:, :1])


@pytest.mark.parametrize("room", [None, 12])
def test_outputs_of_unequal_length_are_joined_each_by_itself(room: int | None) -> None:
    first, second = joined([(ROWS[:2], ROWS[:1]), (ROWS[2:], ROWS[1:2])], room)
    np.testing.assert_array_equal(first, ROWS)
    np.testing.assert_array_equal(second, ROWS[:2])


@pytest.mark.parametrize("room", [None, 12])
def test_nothing_is_stretched_or_rounded_to_fit(room: int | None) -> None:
    with pytest.raises(ValueError, match="concatenation axis"):
        joined([ROWS, ROWS[:, :1]], room)
    assert joined([ROWS, ROWS.astype("float64")], room).dtype == "float64"
    with pytest.raises(ValueError, match="zero-dimensional"):
        joined([np.array(1.0)], room)
    assert joined([], room) is None


def test_outputs_are_written_where_they_stay() -> None:
    outputs = Outputs(6)
    outputs.add(ROWS[:3])
    (place,) = outputs._whole
    outputs.add(ROWS[3:])
    assert outputs.joined() is place


@pytest.mark.parametrize("x", [np.ones((14, 3), "float32"), lambda: iter([np.ones((4, 3), "float32")] * 3)])
def test_models_may_give_other_numbers_of_rows_than_they_are_given(x: Any) -> None:
    class Doubling(tally.layers.Layer):
        def call(self, x: Any) -> Any:
            return tally.ops.concatenate([x, x], axis=0)

    model = tally.Sequential([Doubling()])
    given = x() if callable(x) else x
    examples = 12 if callable(x) else 14
    assert model.predict(given, batch_size=None if callable(x) else 4, verbose=0).shape == (2 * examples, 3)


def test_a_prediction_that_is_stopped_gives_what_was_made() -> None:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(2)])

    def stop(batch: int, logs: Any) -> None:
        model.stop_predicting = batch == 2

    x = np.ones((40, 3), "float32")
    made = model.predict(x, batch_size=4, verbose=0, callbacks=[LambdaCallback(on_predict_batch_end=stop)])
    assert made.shape == (12, 2)
    assert made.base is None


def test_what_is_predicted_in_steps_of_the_data_is_what_was_asked_for() -> None:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(2)])
    x = np.arange(60, dtype="float32").reshape(20, 3)
    whole = model.predict(x, batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.predict(x, batch_size=4, steps=3, verbose=0), whole[:12])
