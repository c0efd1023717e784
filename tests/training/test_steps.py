"""The compiled step and the values it borrows: what stays valid, what is compiled anew, what goes on."""

import gc
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

import tally
from tally.callbacks import Callback, LambdaCallback
from tally.core.variable import Loan, stored

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")


class Counting(tally.layers.Layer):
    """Counts how often it is traced."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.traces = [0]

    def call(self, inputs: Any) -> Any:
        self.traces[0] += 1
        return inputs


def counted(**compiling: Any) -> tuple[Any, list[int]]:
    layer = Counting()
    model = tally.Sequential([tally.Input((3,)), layer, tally.layers.Dense(2), tally.layers.Dense(1)])
    model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"]} | compiling)
    return model, layer.traces


def test_a_value_read_during_fit_stays_valid_and_is_that_of_its_step() -> None:
    model, _ = counted()
    kernel = model.layers[1].kernel
    before, seen = kernel.value, []

    def look(batch: int, logs: Any) -> None:
        seen.append((kernel.value, kernel.value, model.optimizer.iterations.value))

    logged = []

    class Keeping(Callback):
        takes_arrays = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            logged.append(logs)

    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=look), Keeping()])
    assert [int(step) for _, _, step in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[0][0] is seen[0][1]  # one copy per step
    values = [np.asarray(before), *(np.asarray(value) for value, _, _ in seen)]
    assert all((a != b).any() for a, b in pairwise(values))
    np.testing.assert_array_equal(values[-1], kernel.numpy())
    assert all(np.isfinite(float(value)) for logs in logged for value in logs.values())


def test_assigning_during_fit_takes_effect_and_leaves_the_given_array_alone() -> None:
    model, _ = counted(optimizer=tally.optimizers.SGD(0.0))
    kernel, given = model.layers[1].kernel, jax.numpy.ones((3, 2))
    setter = LambdaCallback(on_train_batch_begin=lambda batch, logs: kernel.assign(given))
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[setter])
    np.testing.assert_array_equal(kernel.numpy(), given)
    assert not given.is_deleted()


def test_arrays_read_before_training_survive_it() -> None:
    model, _ = counted()
    held = [variable.value for variable in model.variables]
    for _ in range(2):
        model.train_on_batch(X, Y)
    assert all(np.isfinite(np.asarray(array)).all() for array in held)


def test_nothing_is_copied_between_batches_that_nobody_looks_at() -> None:
    model, _ = counted()
    model.train_on_batch(X, Y)
    before = {id(array) for array in stored(model.variables)}
    assert all(variable._is_unseen for variable in model.variables)
    loan = Loan(model.variables)
    assert {id(array) for array in loan.values} == before
    loan.settle()
    assert not model.variables[0].is_planned


def test_a_loan_on_a_loan_goes_back_to_the_first_borrower() -> None:
    variable = tally.Variable([1.0, 2.0])
    outer = Loan([variable])
    inner = Loan([variable])
    inner.exchange([variable.value * 3])
    inner.settle()
    np.testing.assert_array_equal(outer.values[0], [3.0, 6.0])
    outer.settle()
    np.testing.assert_array_equal(variable.value, [3.0, 6.0])


def test_fit_inside_a_callback_of_fit_trains_the_same_weights() -> None:
    model, _ = counted()
    inner = LambdaCallback(on_epoch_end=lambda epoch, logs: model.train_on_batch(X, Y))
    model.fit(X, Y, batch_size=24, epochs=2, verbose=0, callbacks=[inner])
    assert int(model.optimizer.iterations) == 4


def test_the_step_is_traced_once_for_all_epochs_and_all_fits() -> None:
    model, traces = counted()
    data: dict[str, Any] = {"batch_size": 8, "verbose": 0, "validation_data": (X[:8], Y[:8])}
    model.fit(X, Y, epochs=2, **data)
    after_first = traces[0]
    model.fit(X, Y, epochs=2, **data)
    model.evaluate(X, Y, batch_size=8, verbose=0)
    model.train_on_batch(X[:8], Y[:8])
    assert traces[0] == after_first


def test_the_learning_rate_changes_without_compiling_anew() -> None:
    model, traces = counted(optimizer=tally.optimizers.SGD(0.1))

    def stop_learning(epoch: int, logs: Any) -> None:
        if epoch == 1:
            model.optimizer.learning_rate = 0.0

    weights = []
    model.fit(X, Y, verbose=0)
    after_first = traces[0]
    recorder = LambdaCallback(
        on_epoch_begin=stop_learning, on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()[0])
    )
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[recorder])
    assert traces[0] == after_first
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[1], weights[2])


def test_freezing_between_fits_and_between_epochs_takes_effect() -> None:
    model, _ = counted()
    first, second = (layer.kernel for layer in model.layers[1:])
    model.fit(X, Y, verbose=0)
    model.layers[1].trainable = False
    values = first.numpy(), second.numpy()
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(first.numpy(), values[0])
    assert (second.numpy() != values[1]).any()
    model.layers[1].trainable = True

    def freeze(epoch: int, logs: Any) -> None:
        model.layers[1].trainable = epoch == 0

    seen = []
    watcher = LambdaCallback(
        on_epoch_begin=freeze, on_epoch_end=lambda epoch, logs: seen.append(first.numpy())
    )
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[watcher])
    assert (seen[0] != values[0]).any()
    np.testing.assert_array_equal(seen[1], seen[0])
    np.testing.assert_array_equal(seen[2], seen[0])


def test_a_second_fit_goes_on_with_the_optimizers_state() -> None:
    once, twice = counted()[0], counted()[0]
    twice.set_weights(once.get_weights())
    once.fit(X, Y, epochs=4, shuffle=False, verbose=0)
    for start in (0, 2):
        twice.fit(X, Y, initial_epoch=start, epochs=start + 2, shuffle=False, verbose=0)
    assert int(twice.optimizer.iterations) == 4
    for mine, peers in zip(twice.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_allclose(mine, peers, rtol=1e-6)


def test_validation_does_not_disturb_training() -> None:
    with_validation, without = counted()[0], counted()[0]
    without.set_weights(with_validation.get_weights())
    history = with_validation.fit(X, Y, epochs=3, verbose=0, shuffle=False, validation_data=(X[:5], Y[:5]))
    expected = without.fit(X, Y, epochs=3, verbose=0, shuffle=False)
    assert history.history["loss"] == expected.history["loss"]
    assert history.history["mae"] == expected.history["mae"]


def test_evaluate_and_predict_in_a_callback_see_the_weights_of_the_moment() -> None:
    model, _ = counted()
    seen: list[Any] = []

    def look(epoch: int, logs: Any) -> None:
        seen.append((model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0), model.get_weights()))

    model.fit(X, Y, epochs=2, verbose=0, callbacks=[LambdaCallback(on_epoch_end=look)])
    for measured, predicted, weights in seen:
        model.set_weights(weights)
        np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), measured, rtol=1e-6)
        np.testing.assert_allclose(model.predict(X, verbose=0), predicted, rtol=1e-6)


def test_state_that_layers_change_is_kept_in_every_phase() -> None:
    class Calls(tally.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.calls = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

        def call(self, inputs: Any) -> Any:
            self.calls.assign_add(1)
            return inputs

    layer = Calls()
    model = tally.Sequential([tally.Input((3,)), layer, tally.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(layer.calls) == 3
    model.evaluate(X, Y, batch_size=8, verbose=0)
    assert int(layer.calls) == 6
    model.predict(X, batch_size=12, verbose=0)
    assert int(layer.calls) == 8
    model.predict_on_batch(X)
    model.train_on_batch(X, Y)
    assert int(layer.calls) == 10


@pytest.mark.parametrize("steps", [1, 3])
def test_dropout_draws_anew_in_each_step(steps: int) -> None:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dropout(0.5), tally.layers.Dense(1)])
    model.compile(tally.optimizers.SGD(0.0), "mse", steps_per_execution=steps)
    ones = np.ones((6, 3), "float32")
    losses = [model.fit(ones, ones[:, :1], batch_size=2, verbose=0).history["loss"][0] for _ in range(3)]
    assert len(set(losses)) > 1


def test_training_leaves_no_old_values_behind() -> None:
    model, _ = counted()
    model.fit(X, Y, batch_size=8, verbose=0)
    gc.collect()
    before = len(jax.live_arrays())
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    gc.collect()
    assert len(jax.live_arrays()) <= before + 2
