"""What goes wrong in training: each time the user is told what and where, and the model is left whole."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tally
from tally.callbacks import LambdaCallback, TerminateOnNaN
from tally.core.errors import ArgumentError, DataError, NonFiniteError, ShapeError, UnbuiltError
from tally.training.health import Interrupts, Watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")


def small(**compiling: Any) -> Any:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(4, name="first"), tally.layers.Dense(1)])
    model.compile(**{"optimizer": tally.optimizers.Adam(0.01), "loss": "mse"} | compiling)
    return model


def assert_usable(model: Any) -> None:
    """Whatever happened, the model can be measured, saved and trained on."""
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.evaluate(X, Y, verbose=0))
    assert model.fit(X, Y, batch_size=8, verbose=0).history["loss"]


def untold(error: BaseException) -> str:
    """The message without line numbers."""
    return re.sub(r"\S+\.py:\d+", "FILE", str(error))


# -- numbers that are none ---------------------------------------------------------------------------------------------
def test_nan_in_the_data_is_told_with_its_step_and_rows_and_costs_nothing() -> None:
    model, bad = small(), X.copy()
    bad[[9, 11]] = np.nan
    weights = []
    watcher = LambdaCallback(on_train_batch_end=lambda batch, logs: weights.append(model.get_weights()))
    with pytest.raises(NonFiniteError) as raised:
        model.fit(bad, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[watcher])
    assert untold(raised.value) == (
        "The loss became NaN or infinite at step 2 (epoch 1), because the inputs of that batch hold NaN or infinite "
        "values (examples 1, 3 of the batch).\n"
        "  where: model 'sequential' made at FILE\n"
        "  do: clean the data, for instance with np.nan_to_num or by dropping those rows; the weights are those of the "
        "last good step; nothing was lost"
    )
    for kept, good in zip(model.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(kept, good)
    assert int(model.optimizer.iterations) == 1
    assert_usable(model)


def test_a_layer_that_gives_nan_is_named() -> None:
    inputs = tally.Input((3,))
    root = tally.layers.Lambda(lambda x: x**0.5, name="root")(inputs)
    model = tally.Model(inputs, tally.layers.Dense(1)(root))
    model.compile("sgd", "mse")
    with pytest.raises(NonFiniteError, match=r"step 1 \(epoch 1\): Lambda 'root' gave NaN"):
        model.fit(X, Y, verbose=0)


def test_float16_that_overflows_is_named() -> None:
    inputs = tally.Input((3,))
    model = tally.Model(inputs, tally.layers.Dense(1, dtype="mixed_float16", name="short")(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(NonFiniteError, match="Dense 'short' overflowed float16"):
        model.fit(X * 1e6, Y, verbose=0)


def test_a_loss_or_a_gradient_that_is_not_finite_is_told_apart() -> None:
    model = small(loss=lambda y_true, y_pred: tally.ops.log(0 * y_pred - 1))
    with pytest.raises(NonFiniteError, match="it is the loss itself"):
        model.train_on_batch(X, Y)
    model = small(loss=lambda y_true, y_pred: tally.ops.sqrt(0 * y_pred))
    weights = model.get_weights()
    with pytest.raises(
        NonFiniteError, match="gradients became NaN or infinite at step 1, though the loss is finite"
    ):
        model.train_on_batch(X, Y)
    for kept, good in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(kept, good)


@pytest.mark.parametrize("steps", [1, 2])
def test_terminate_on_nan_ends_training_quietly(steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    model, bad = small(steps_per_execution=steps), X.copy()
    bad[9] = np.nan
    history = model.fit(
        bad, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=[TerminateOnNaN()]
    )
    assert history.epoch == [0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert int(model.optimizer.iterations) == 2
    capsys.readouterr()


def test_a_watch_finds_a_bad_step_late_and_keeps_its_batch() -> None:
    watch = Watch(seconds=1e9, most=2)
    batches = [(np.full(1, i), None, None) for i in range(6)]
    found = [watch.note([batch], np.array([i + 1, 3 if i >= 3 else -1])) for i, batch in enumerate(batches)]
    assert found[:5] == [None] * 5
    assert found[5] is not None
    assert found[5][0] == 3
    assert found[5][1] is batches[3]


# -- interrupts and errors ---------------------------------------------------------------------------------------------
def test_ctrl_c_in_a_callback_reaches_the_user_and_keeps_the_finished_step() -> None:
    model = small()
    weights, told = [], []

    def interrupt(batch: int, logs: Any) -> None:
        weights.append(model.get_weights())
        if batch == 1:
            signal.raise_signal(signal.SIGINT)

    closing = LambdaCallback(on_train_batch_end=interrupt, on_interrupt=lambda: told.append(True))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[closing])
    assert signal.getsignal(signal.SIGINT) is handler
    assert told == [True]
    assert int(model.optimizer.iterations) == 2
    for kept, last in zip(model.get_weights(), weights[-1], strict=True):
        np.testing.assert_array_equal(kept, last)
    assert_usable(model)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the garbage collector may swallow it
def test_ctrl_c_during_steps_never_tears_one() -> None:
    model = small()
    model.fit(X, Y, batch_size=8, verbose=0)
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=8, epochs=50_000, verbose=0)
    timer.join()
    assert_usable(model)


def test_ctrl_c_is_held_back_only_where_asked() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with Interrupts() as interrupts:
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
                done.append("held")
            done.append("closed")
            interrupts.release()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["held", "closed"]


def test_ctrl_c_while_garbage_is_collected_comes_after_the_step() -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    interrupts = Interrupts()
    with interrupts:
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            interrupts.release()


def test_a_callback_may_catch_ctrl_c_itself() -> None:
    def catch(batch: int, logs: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    history = small().fit(X, Y, batch_size=8, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=catch)])
    assert history.epoch == [0]


def test_a_handler_of_the_users_own_is_called_once() -> None:
    called = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == [signal.SIGINT] * 2


def test_training_works_outside_the_main_thread() -> None:
    model, made = small(), []
    thread = threading.Thread(target=lambda: made.append(model.fit(X, Y, verbose=0)))
    thread.start()
    thread.join()
    assert made[0].history["loss"]


def test_errors_of_callbacks_and_generators_leave_the_model_whole() -> None:
    def fail(batch: int, logs: Any) -> None:
        raise RuntimeError("mine")

    def batches() -> Iterator[Any]:
        yield X[:8], Y[:8]
        raise OSError("disk")

    model = small()
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=fail)])
    assert int(model.optimizer.iterations) == 1
    with pytest.raises(OSError, match="disk"):
        model.fit(batches(), verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert_usable(model)


def test_a_generator_that_is_used_up_ends_training() -> None:
    model = small()
    with pytest.warns(UserWarning, match="The data ran out"):
        history = model.fit(((X, Y) for _ in range(2)), epochs=5, verbose=0)
    assert history.epoch == [0]


def test_a_model_with_nothing_to_train_only_measures() -> None:
    model = small()
    model.trainable = False
    with pytest.warns(UserWarning, match="'sequential' has nothing to train: all 21 parameters are frozen"):
        history = model.fit(X, Y, verbose=0)
    assert history.history["loss"][0] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)


# -- what doesn't fit --------------------------------------------------------------------------------------------------
def test_examples_of_x_and_y_must_be_equal_in_number() -> None:
    with pytest.raises(DataError, match="Mismatched batch sizes: x has 24, y has 23 examples"):
        small().fit(X, Y[:23], verbose=0)


def test_targets_that_do_not_fit_the_output_are_refused_in_words() -> None:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(4, name="last")])
    model.compile("sgd", "mse")
    told = r"takes labels of the predictions' shape \(24, 4\), but was given labels of shape \(24, 5\)"
    with pytest.raises(ShapeError, match=told) as raised:
        model.fit(X, np.zeros((24, 5), "float32"), verbose=0)
    assert "in the loss of output 'last'" in "\n".join(raised.value.__notes__)
    model.fit(X, np.zeros((24, 4), "float32"), verbose=0)


def test_inputs_of_another_shape_are_refused_with_the_input_named() -> None:
    model = small()
    with pytest.raises(ShapeError, match=r"takes \(None, 3\) at its input 'input_layer', but was given"):
        model.fit(np.zeros((24, 5), "float32"), Y, verbose=0)
    with pytest.raises(ShapeError, match="but was given"):
        model.fit(np.zeros((24, 5, 2), "float32"), Y, verbose=0)
    assert_usable(model)


@pytest.mark.parametrize(
    ("compiling", "told"),
    [
        ({"loss": "mean_squared_eror"}, "mean_squared_error"),
        ({"loss": {"a": "msee"}}, "mse"),
        ({"optimizer": "adm"}, "adam"),
        ({"metrics": ["acuracy"]}, "acuracy"),
        ({"weighted_metrics": [["AUCC"]]}, "AUC"),
        ({"loss": 3}, "3 is no loss"),
        ({"steps_per_execution": 0}, "steps_per_execution is 0"),
    ],
)
def test_what_is_unknown_is_told_by_compile(compiling: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        small(**compiling)


def test_using_a_model_before_compile_says_so() -> None:
    model = tally.Sequential([tally.Input((3,)), tally.layers.Dense(1)])
    for method in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(UnbuiltError, match="must be compiled before"):
            method(X, Y)
    assert model.predict(X, verbose=0).shape == (24, 1)


def test_a_model_without_a_loss_says_so() -> None:
    with pytest.raises(
        ArgumentError, match="There is nothing to minimise: 'sequential' was compiled without a loss"
    ):
        small(loss=None).fit(X, Y, verbose=0)


def test_targets_that_are_missing_are_told() -> None:
    with pytest.raises(DataError, match="The output 'dense' has a loss, but there are no targets y for it"):
        small().fit(X, verbose=0)


def test_errors_show_only_the_users_frames() -> None:
    with pytest.raises(DataError) as raised:
        small().fit(X, Y[:3], verbose=0)
    assert all("site-packages" not in str(entry.path) for entry in raised.traceback[1:])


def test_a_token_outside_an_embeddings_table_is_named() -> None:
    model = tally.Sequential([tally.layers.Embedding(10, 2), tally.layers.Flatten(), tally.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(NonFiniteError, match="was given a number outside its 10 tokens") as caught:
        model.fit(np.array([[1, 2], [3, 49]]), np.zeros((2, 1)), verbose=0)
    assert "feed numbers from 0 to 9" in str(caught.value)
