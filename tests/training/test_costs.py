"""What a loop costs, in things that can be counted: calls, transfers, compilations, copies, looks at the device."""

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tally
from tally.callbacks import Callback, CallbackList
from tally.core.variable import stored
from tally.training import feed, gate, health
from tally.training.data import adapt
from tally.training.gate import are_usable, change_if, keep_unless
from tally.training.health import Interrupts
from tally.training.keeping import keep
from tally.training.loop import Training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(44, 3)).astype("float32")
Y = RNG.normal(size=(44, 1)).astype("float32")


def small(steps: int = 1, *, optimizer: Any = "adam", units: int = 4) -> Any:
    """A model with weights, moving statistics and randomness, always with the same first weights."""
    tally.utils.set_random_seed(3)
    layers = tally.layers
    model = tally.Sequential(
        [
            tally.Input((3,)),
            layers.Dense(units),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse", metrics=["mae"], steps_per_execution=steps)
    return model


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep data on the CPU as on an accelerator."""
    monkeypatch.setattr(feed, "is_worth_keeping", lambda device: True)


# -- calls -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("steps", "expected"), [(1, 11), (2, 6), (5, 3), (20, 11)])
def test_an_execution_is_one_call_and_what_is_left_over_one_each(
    steps: int, expected: int, calls: list[str]
) -> None:
    # 44 examples in batches of 4: 11 batches. What is too few for an execution, or for a batch, goes step by step.
    small(steps).fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert calls == ["train"] * 2 * expected


def test_evaluate_and_predict_take_as_many_batches_at_a_time(calls: list[str]) -> None:
    class Listening(Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None: ...

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...

    model = small(5)
    model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[Listening()])
    model.predict(X, batch_size=4, verbose=0, callbacks=[Listening()])
    assert calls == ["test"] * 3 + ["predict"] * 3


def test_hooks_that_nobody_listens_to_are_not_called() -> None:
    class Quiet(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...

    class Loud(Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None: ...

    assert CallbackList([Quiet()]).teller("on_train_batch_end") is None
    assert CallbackList([Quiet(), Loud()]).teller("on_train_batch_end") is not None
    assert CallbackList([Quiet(), Loud()]).teller("on_train_batch_begin") is None


def test_a_step_is_compiled_once_for_data_of_any_length() -> None:
    model, traced = small(), []

    class Counting(tally.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            traced.append(1)
            return tally.ops.mean((y_true - y_pred) ** 2, axis=-1)

    model.compile("adam", Counting())
    model.fit(X[:24], Y[:24], batch_size=4, verbose=0)
    before = len(traced)
    for examples in (28, 40, 44):
        model.fit(X[:examples], Y[:examples], batch_size=4, verbose=0)
    assert len(traced) == before


# -- transfers and waiting ---------------------------------------------------------------------------------------------
class Guarding(Callback):
    """Lets nothing be sent to the device from the second step of each epoch to the last but one."""

    takes_arrays = True

    def __init__(self, last: int) -> None:
        self.last, self.guarded = last, 0
        self.stack = contextlib.ExitStack()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 1:
            self.stack.enter_context(jax.transfer_guard_host_to_device("disallow_explicit"))
        self.guarded += batch in range(1, self.last)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == self.last - 1:
            self.stack.close()

    def on_interrupt(self) -> None:
        self.stack.close()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("shuffle", [True, False])
def test_kept_data_send_nothing_to_the_device_for_a_step(shuffle: bool) -> None:
    model, guard = small(), Guarding(10)
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, shuffle=shuffle)
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0, shuffle=shuffle, callbacks=[guard])
    assert guard.guarded == 18


def test_the_guard_sees_batches_that_are_sent() -> None:
    model = small()
    model.fit(X, Y, batch_size=4, verbose=0)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[Guarding(10)])


def test_the_device_is_looked_at_once_in_64_steps_and_for_a_line_of_logs(monkeypatch: Any) -> None:
    looks, fetches = [], []
    look, fetch = health.Watch.look, jax.device_get
    monkeypatch.setattr(health.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(health.Watch, "look", lambda self, record: (looks.append(1), look(self, record))[1])
    monkeypatch.setattr(jax, "device_get", lambda value: (fetches.append(1), fetch(value))[1])
    model = small()
    model.fit(np.tile(X, (5, 1)), np.tile(Y, (5, 1)), batch_size=1, epochs=2, verbose=0)
    # 440 steps: each 64 leave a record, looked at 64 steps later; each epoch ends with a look and a line of logs.
    assert len(looks) == 440 // 64 - 1 + 2
    assert len(fetches) == 2
    fetches.clear()
    model.evaluate(X, Y, batch_size=1, verbose=0)
    assert len(fetches) == 1


def test_a_generator_is_drawn_from_while_steps_run_and_no_thread_stays() -> None:
    drawn: list[int] = []

    def batches() -> Iterator[Any]:
        for number in range(6):
            drawn.append(number)
            yield X[:4], Y[:4]

    seen: list[int] = []

    class Seeing(Callback):
        takes_arrays = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert logs is not None
            assert all(isinstance(value, jax.Array) for value in logs.values())
            seen.append(len(drawn))

    before = threading.active_count()
    small().fit(batches(), verbose=0, callbacks=[Seeing()])
    assert seen == [1, 2, 3, 4, 5, 6]
    assert threading.active_count() == before


# -- copies ------------------------------------------------------------------------------------------------------------
OPTIMIZERS = [("adam", 1), ("adam", 2), ("adamw", 1), ("nadam", 1), ("rmsprop", 1)]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="says what the CPU backend makes of it")
@pytest.mark.parametrize(("optimizer", "steps"), OPTIMIZERS)
def test_no_weight_and_no_slot_is_copied_in_a_step(optimizer: Any, steps: int) -> None:
    model = tally.Sequential([tally.Input((37,)), tally.layers.Dense(53, use_bias=False)])
    model.compile(optimizer, "mse")
    x, y = np.ones((4, 37), "float32"), np.ones((4, 53), "float32")
    training = Training(model._trainer, Interrupts())
    plan = training.begin((x, y, None))
    batch = (x, y, None) if steps == 1 else (np.stack([x] * steps), np.stack([y] * steps), None)
    assert training.loan is not None
    assert training.hold is not None
    values = training.loan.values, training.hold.values, training.record, training.seed
    program = plan.steps.given(steps).lower(*values, batch).compile().as_text()
    training.close()
    assert "f32[37,53]" in program
    assert re.findall(r"= f32\[37,53\]\S* copy\(.*", program) == []


def test_frozen_weights_are_lent_without_a_copy() -> None:
    model = small()
    model.layers[0].trainable = False
    kernel = model.layers[0].kernel
    model.fit(X, Y, verbose=0)
    (held,) = stored([kernel])
    model.fit(X, Y, verbose=0)
    assert stored([kernel])[0] is held
    np.testing.assert_array_equal(kernel.value, held)


def test_a_frozen_weight_can_be_read_and_set_while_fit_runs() -> None:
    model = small(optimizer=tally.optimizers.SGD(0.0))
    model.layers[0].trainable = False
    kernel, seen = model.layers[0].kernel, []

    class Setting(Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            kernel.assign(np.full((3, 4), batch))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(kernel.value)

    model.fit(X, Y, batch_size=22, verbose=0, callbacks=[Setting()])
    assert [float(value[0, 0]) for value in seen] == [0.0, 1.0]
    np.testing.assert_array_equal(kernel.value, seen[-1])


# -- bits --------------------------------------------------------------------------------------------------------------
def trained(steps: int = 1, **fitting: Any) -> tuple[Any, list[np.ndarray]]:
    model = small(steps)
    history = model.fit(X, Y, batch_size=4, epochs=3, verbose=0, validation_data=(X[:9], Y[:9]), **fitting)
    return history.history, [*model.get_weights(), *(np.asarray(v) for v in model.optimizer.variables)]


def assert_same_bits(first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
@pytest.mark.parametrize("steps", [1, 3])
def test_kept_data_train_to_the_same_bits(shuffle: Any, steps: int, request: pytest.FixtureRequest) -> None:
    on_host = trained(steps, shuffle=shuffle)
    request.getfixturevalue("kept")
    assert_same_bits(on_host, trained(steps, shuffle=shuffle))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("steps", [1, 3])
def test_data_too_large_to_be_kept_are_sent_a_batch_ahead(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(steps)
    monkeypatch.setattr("tally.training.keeping.free_memory", lambda device: 0)
    assert_same_bits(whole, trained(steps))


@pytest.mark.parametrize("steps", [2, 4, 11])
def test_several_steps_in_one_call_train_to_the_same_bits(steps: int) -> None:
    assert_same_bits(trained(), trained(steps))


def test_kept_data_predict_and_measure_the_same(kept: None) -> None:
    one, several = small(), small(4)
    np.testing.assert_array_equal(
        one.predict(X, batch_size=4, verbose=0), several.predict(X, batch_size=4, verbose=0)
    )
    assert one.evaluate(X, Y, batch_size=4, verbose=0) == several.evaluate(X, Y, batch_size=4, verbose=0)


@pytest.mark.parametrize("order", [None, RNG.permutation(44)])
def test_a_shelf_gives_the_batches_of_its_source(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source: Any = adapt({"a": X}, Y, batch_size=8)
    monkeypatch.setattr(source, "order", lambda: order)
    shelf = source.keep(jax.devices()[0])
    pieces = list(source.pieces())
    assert [piece.size for piece in pieces] == [8, 8, 8, 8, 8, 4]
    for piece in (*pieces, pieces[2]):
        jax.tree.map(np.testing.assert_array_equal, shelf.batch_of(piece), source.batch_of(piece))
    together = shelf.together(pieces[1:4]), source.together(pieces[1:4])
    jax.tree.map(np.testing.assert_array_equal, *together)
    assert together[0][0]["a"].shape == (3, 8, 3)


def test_data_that_are_too_large_or_in_a_file_are_not_kept(monkeypatch: Any, tmp_path: Any) -> None:
    device = jax.devices()[0]
    assert keep([X, Y], device) is not None
    assert adapt(np.memmap(tmp_path / "x", "float32", "w+", shape=(4, 2))).keep(device) is None
    monkeypatch.setattr("tally.training.keeping.free_memory", lambda device: 4 * X.nbytes)
    assert keep([X], device) is not None
    assert keep([X, Y], device) is None


# -- what keeps weights sound ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(7,), (300, 300), (3, 3, 64, 128)])
def test_a_single_number_that_is_not_finite_is_found(bad: float, shape: tuple[int, ...]) -> None:
    check = jax.jit(lambda array: are_usable([jnp.ones(3), array], tally.optimizers.SGD()))
    array = RNG.uniform(-3e38, 3e38, shape).astype("float32")
    assert bool(check(array))
    array.flat[array.size // 2] = bad
    assert not bool(check(array))


def test_an_infinite_gradient_that_is_clipped_by_value_is_usable() -> None:
    optimizer = tally.optimizers.SGD(clipvalue=1.0)
    assert bool(are_usable([jnp.array([jnp.inf])], optimizer))
    assert not bool(are_usable([jnp.array([jnp.nan])], optimizer))


def test_choosing_number_by_number_trains_as_the_loop_does(monkeypatch: pytest.MonkeyPatch) -> None:
    history, values = trained()
    monkeypatch.setattr(gate, "_is_on_cpu", lambda: False)
    chosen, others = trained()
    np.testing.assert_allclose(chosen["loss"], history["loss"], rtol=1e-5)
    for one, other in zip(values, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_change_is_made_only_if_it_is_good(compiled: bool) -> None:
    def step(is_good: Any, values: Any) -> Any:
        changed = change_if(is_good, lambda held: [held[0] + 1, held[1] * 2], values)
        return changed, keep_unless(is_good, values, [values[0] + 1, values[1]])

    run = jax.jit(step) if compiled else step
    values = [jnp.array(1), jnp.array([2.0])]
    for is_good, expected in ((True, [2, 4.0]), (False, [1, 2.0])):
        changed, chosen = run(jnp.array(is_good), values)
        assert [float(value.sum()) for value in changed] == expected
        assert [float(value.sum()) for value in chosen] == [expected[0], 2.0]
