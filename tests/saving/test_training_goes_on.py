"""A compiled model saved by one library and loaded by the other trains on as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tally
from models.cases import assert_same, numbers
from saving.peers import classes

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's variables
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning"),
]
X = numbers(4, 4)
Y = X[:, :1] * 2


def stack(lib: Any) -> Any:
    layers = lib.layers
    # No bias before the normalisation: its gradient is 0 but for rounding, which Adam would blow up.
    first = layers.Dense(3, activation="relu", use_bias=False)
    return lib.Sequential([lib.Input((4,)), first, layers.BatchNormalization(), layers.Dense(1)])


def short_floats(lib: Any) -> Any:
    layers = lib.layers
    return lib.Sequential(
        [lib.Input((4,)), layers.Dense(3, dtype="bfloat16"), layers.Dense(1, dtype="mixed_bfloat16")]
    )


def subclass(lib: Any) -> Any:
    return classes(lib).Net()


def adam(lib: Any) -> Any:
    schedule = lib.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    return lib.optimizers.AdamW(schedule, clipnorm=1.0)


def scaled(lib: Any) -> Any:
    return lib.optimizers.LossScaleOptimizer(lib.optimizers.SGD(0.1, momentum=0.9))


def accumulating(lib: Any) -> Any:
    return lib.optimizers.Nadam(0.1, gradient_accumulation_steps=2)


def train(model: Any) -> None:
    model.fit(X, Y, epochs=1, batch_size=4, shuffle=False, verbose=0)


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(v) for v in (*model.weights, *model.optimizer.variables)]


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (stack, adam),
        (stack, scaled),
        pytest.param(stack, accumulating, marks=pytest.mark.slow),
        (short_floats, lambda lib: lib.optimizers.SGD(0.1)),
        (subclass, lambda lib: lib.optimizers.SGD(0.1, momentum=0.9)),
    ],
)
@pytest.mark.parametrize(("writer", "reader"), [(keras, tally), (tally, keras)], ids=["read", "written"])
def test_training_goes_on_in_the_other_library(
    make: Callable[[Any], Any], optimizer: Callable[[Any], Any], writer: Any, reader: Any, tmp_path: Path
) -> None:
    model = make(writer)
    model.compile(optimizer(writer), "mse", metrics=["mae"])
    train(model)
    model.save(tmp_path / "model.keras")
    custom = vars(classes(reader)) if make is subclass else None
    loaded = reader.saving.load_model(tmp_path / "model.keras", custom_objects=custom)
    assert_same(values(loaded), values(model))
    train(model)
    train(loaded)
    assert_same(values(loaded), values(model))


def test_outputs_losses_and_metrics_by_name_are_compiled_again(tmp_path: Path) -> None:
    inputs = tally.Input((4,))
    dense = tally.layers.Dense
    model = tally.Model(inputs, {"a": dense(1, name="a")(inputs), "b": dense(1, name="b")(inputs)})
    model.compile(
        "sgd",
        {"a": "mse", "b": tally.losses.Huber(0.5)},
        loss_weights={"a": 1.0, "b": 0.5},
        metrics={"a": ["mae"]},
    )
    targets = {"a": Y, "b": Y}
    expected = model.evaluate(X, targets, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(X, targets, verbose=0), expected, rtol=1e-5)


def test_a_model_can_be_loaded_without_its_compilation(tmp_path: Path) -> None:
    model = stack(tally)
    model.compile("adam", "mse")
    train(model)
    model.save(tmp_path / "model.keras")
    loaded = tally.saving.load_model(tmp_path / "model.keras", compile=False)
    assert not loaded.compiled
    assert_same(loaded(X), model(X))


def test_the_state_of_another_optimizer_is_left_out_with_a_warning(tmp_path: Path) -> None:
    model = stack(tally)
    model.compile("adam", "mse")
    train(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other = stack(tally)
    other.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="The state of optimizer 'sgd' was not loaded"):
        other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other.get_weights(), model.get_weights())
